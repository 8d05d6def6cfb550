"""Files and tables: they say the same, and say nothing where there is nothing to say."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from pathlib import Path

import pytest
from matplotlib.image import imread
from pyarrow import parquet
from rich.console import Console

from ebatch_env.scoring.files import json_text, make_folder, whole_file
from ebatch_env.scoring.records import FIELDS, EpisodeRecord
from ebatch_env.scoring.report import Report
from ebatch_env.scoring.tables import difference, markdown, rich_table, scale_of, significant, split
from tests.scoring.conftest import make_record


def test_all_files_say_the_same(records: list[EpisodeRecord], tmp_path: Path) -> None:
    report = Report(records)
    report.write(tmp_path / "new" / "folder", {"seed": 100})
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [
        "energy_latency.png",
        "episodes.csv",
        "episodes.parquet",
        "meta.json",
        "statistics.json",
        "summary.json",
        "table.md",
    ]
    summary = json.loads((folder / "summary.json").read_text())
    assert [list(record) for record in summary] == [list(FIELDS)] * len(records)
    table = parquet.read_table(folder / "episodes.parquet").to_pylist()
    with open(folder / "episodes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(summary) == len(table) == len(rows) == len(records)
    for record, a, b, c in zip(records, summary, table, rows, strict=True):
        for name in FIELDS:
            value = getattr(record, name)
            if isinstance(value, float) and math.isnan(value):
                assert (a[name], b[name], c[name]) == (None, None, "")
            else:
                assert a[name] == b[name] == value == type(value)(c[name])
        assert b["energy_static_j"] == float(c["energy_static_j"]) == record.energy_parts["static"]
        assert b["truncated"] == record.truncated == (c["truncated"] == "true")
    assert table[0]["energy_dram_j"] is None
    assert rows[0]["energy_dram_j"] == ""
    assert rows[-1]["energy_dram_j"] == "1"


def test_statistics_and_meta(records: list[EpisodeRecord], tmp_path: Path) -> None:
    Report(records).write(tmp_path, {"command": "ebatch", "x": math.inf})
    statistics = json.loads((tmp_path / "statistics.json").read_text())
    cost = next(a for a in statistics["aggregates"] if (a["env"], a["policy"], a["metric"]) == ("X", "a", "cost"))
    assert cost["iqm"] == 3.0
    assert cost["low"] <= 3.0 <= cost["high"]
    assert {"env": "X", "policy": "a", "rival": "b", "probability": 1.0, "low": 1.0, "high": 1.0} in statistics[
        "improvements"
    ]
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert meta["x"] == "inf"
    assert {"python", "ebatch-env", "gymnasium", "numpy", "numba"} <= set(meta["versions"])


def test_the_picture_is_a_picture(records: list[EpisodeRecord], tmp_path: Path) -> None:
    report = Report(records)
    report.write(tmp_path, {})
    pixels = imread(tmp_path / "energy_latency.png")
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].std() > 0.05


def test_tables_rank_by_cost_and_scale_units(records: list[EpisodeRecord]) -> None:
    x, y, overall = Report(records).tables
    assert [policy for policy, _ in x.rows] == ["a", "b"]
    assert x.headings[:4] == ("policy", "cost", "energy/request, mJ", "latency p50, ms")
    assert x.rows[0][1][0].value == "3.00"
    assert x.rows[0][1][1].value == "3.00"
    assert [cell.value for cell in x.rows[1][1]][-2:] == ["25.0", "0"]  # misses in percent; never beats a
    assert [policy for policy, _ in y.rows] == ["a", "b", "c"]
    worst = y.rows[-1][1]
    assert (worst[0].value, worst[0].interval) == ("7.00", "-")
    assert (worst[1].value, worst[1].interval) == ("-", "-")
    assert overall.headings == ("policy", "cost")


def test_the_caption_says_how_many_episodes_from_which_seeds(records: list[EpisodeRecord]) -> None:
    assert Report(records[:4]).caption.startswith("Episodes per policy: 4, seeds 100..103.")
    caption = Report(records, "Set: load=2.").caption
    assert caption.startswith("Episodes per policy: 1-4, ")
    assert caption.endswith(
        " 1 episodes were truncated: the policies marked * left work undone, which cost them nothing. Set: load=2."
    )


def test_policies_with_truncated_episodes_come_last_and_are_marked() -> None:
    """However cheap they look: "idle" leaves most of its work undone in one episode of four."""
    found = [make_record("X", "busy", i, 2.0 + i) for i in range(4)]
    found += [make_record("X", "idle", i, 0.5, truncated=i == 2, served=1) for i in range(4)]
    found += [make_record("X", "worse", i, 9.0) for i in range(4)]
    report = Report(found)
    (table,) = report.tables
    assert [policy for policy, _ in table.rows] == ["busy", "worse", "idle"]
    assert [table.label(policy) for policy, _ in table.rows] == ["busy", "worse", "idle *"]
    assert [cells[-1].value for _, cells in table.rows] == ["-", "0", "75.0"]  # idle is dearer where it was cut off
    assert report.caption.endswith(
        " 1 episodes were truncated: the policies marked * left work undone, which cost them nothing."
    )
    assert "| `idle` \\* | 0.5" in markdown(report.tables, "")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(rich_table(table))
    assert "idle *" in console.export_text()


def test_markdown(records: list[EpisodeRecord]) -> None:
    text = markdown(Report(records[:8]).tables, "The caption.")
    lines = text.splitlines()
    assert lines[0] == "### X"
    assert lines[2].startswith("| policy | cost | energy/request, mJ | ")
    assert lines[4].startswith("| `a` | 3.00 (")
    assert lines[-1] == "The caption."


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_terminal_table_shows_everything_at_any_width(records: list[EpisodeRecord], width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    table = Report(records).tables[0]
    for part in split(table, width):
        console.print(rich_table(part))
    text = console.export_text()
    assert "…" not in text
    for heading in table.headings:
        assert heading.split(", ")[0] in text
    for _, cells in table.rows:
        assert all(cell.value in text and cell.interval in text for cell in cells)


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([0.002], "J", (1e3, "mJ")),
        ([0.9, 1.2, 3.0], "s", (1.0, "s")),
        ([2e-6, math.nan], "s", (1e6, "µs")),
        ([1234.0], "1/s", (1.0, "1/s")),
        ([0.5], "%", (100.0, "%")),
        ([math.nan, 0.0], "J", (1.0, "J")),
        ([1e-30], "J", (1e15, "fJ")),
    ],
)
def test_scales(values: list[float], unit: str, expected: tuple[float, str]) -> None:
    factor, name = scale_of(values, unit)
    assert (factor, name) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (math.nan, "-"),
        (0.0123, "0.012"),
        (1.234, "1.23"),
        (-12.34, "-12.3"),
        (999.6, "1000"),
        (1e-5, "1e-05"),
        (2.5e6, "2.5e+06"),
    ],
)
def test_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_json_is_valid_whatever_is_in_it() -> None:
    assert json.loads(json_text({"a": [math.nan, math.inf, 1.5, (2,)]})) == {"a": [None, "inf", 1.5, [2]]}


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with contextlib.suppress(KeyboardInterrupt), whole_file(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(OSError, match=r"a\.txt"):
        make_folder(path / "below")


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (-0.1234, -0.2, 0.01, "-12.3 (-20.0..+1.0)"),
        (-0.1, None, None, "-10.0"),
        (None, None, None, "-"),
        (-0.0001, -0.0004, 0.0004, "+0.0 (+0.0..+0.0)"),
    ],
)
def test_differences_as_text(value: float | None, low: float | None, high: float | None, expected: str) -> None:
    assert difference({"value": value, "low": low, "high": high}) == expected
