"""The data of a report, and how it is shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ebatch_env.reproduction.charts import draw_chart
from ebatch_env.reproduction.pages import KINDS, ReproductionReport, cell_text, overview_cells, row_cells
from ebatch_env.reproduction.report import Chart, Options, Row, Section, Series, Table
from ebatch_env.reproduction.runner import Outcome
from ebatch_env.reproduction.stored import plain, section_from
from tests.reproduction.samples import steady


@pytest.fixture
def section() -> Section:
    return steady(Options(), lambda share, doing: None)


@pytest.fixture
def report(section: Section) -> ReproductionReport:
    failed = Outcome("broken", None, 0.5, "ValueError: of no use", "Traceback")
    return ReproductionReport([Outcome("steady", section, 12.3), failed], "ebatch reproduce steady broken")


@pytest.mark.parametrize(
    ("measured", "published", "error"),
    [
        (33.0, 30.0, 0.1),
        (27.0, 30.0, -0.1),
        (30.0, (20.0, 40.0), 0.0),
        (44.0, (20.0, 40.0), 0.1),
        (18.0, (20.0, 40.0), -0.1),
        (-0.99, (-0.9, -0.2), 0.1),
        (0.0, 0.0, 0.0),
        (-1.0, 0.0, -math.inf),
    ],
)
def test_error_is_from_the_nearer_end(measured: float, published: Any, error: float) -> None:
    row = Row("x", measured, reference=published, source="s", checked="read", aim=0.1 + 1e-9)
    assert row.error == pytest.approx(error)
    assert row.met is (abs(error) < 0.11)


def test_a_figure_of_ones_own_is_not_published() -> None:
    with pytest.raises(ValueError, match="checked of 'x' must be something else for a published figure"):
        Row("x", 1.0, reference=1.0, source="s", checked="own")
    for kind in ("exact", "bound", "simulator"):
        cells = row_cells(Row("x", 1.0, reference=2.0, source="s", checked="own", kind=kind))  # type: ignore[arg-type]
        assert cells[1] == ""
        assert cells[2] == f"2.00, {KINDS[kind][0]}"  # type: ignore[index]


def test_a_published_figure_is_counted_once(section: Section) -> None:
    twice = [Row(f"over {n}", n, reference=3.0, source="s", checked="read", figure="gain") for n in (1.0, 2.0)]
    cells = overview_cells(Outcome("twice", Section("twice", "T", twice, ""), 1.0))
    assert cells[1:3] == ["1", "2"]


def test_few_seeds_are_told() -> None:
    assert row_cells(Row("x", 1.0, seeds=1))[3] == "1.00 (1 seed)"
    assert row_cells(Row("x", 1.0, seeds=3, interval=(0.5, 1.5)))[3] == "1.00 (0.500..1.50)"


def test_a_section_without_its_extra_is_no_failure() -> None:
    left = Outcome("nets", None, 0.1, "section 'nets' needs the extra 'approximation'", missing=True)
    report = ReproductionReport([left], "ebatch reproduce")
    assert report.failed == []
    assert report.missing == [left]
    assert "This section was left out: `section 'nets' needs the extra 'approximation'`" in report.markdown()


def test_nothing_published_no_error() -> None:
    row = Row("x", 1.0, aim=0.1)
    assert (row.error, row.met) == (None, None)
    assert Row("x", 1.0, reference=1.0, source="s", checked="read").met is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Row("x", 1.0, reference=1.0), "source and checked of 'x' must be given with `reference`"),
        (lambda: Row("x", 1.0, reference=1.0, source="s"), "source and checked of 'x'"),
        (lambda: Row("x", 1.0, reference=(2.0, 1.0), source="s", checked="read"), "lower end first"),
        (lambda: Table("t", "T", ("a", "b"), [[1]]), "row of table 't' must be 2 cells"),
        (lambda: Series("s", [1], [1, 2]), "series 's' must be of equal lengths"),
        (lambda: Series("s", [1], [1], low=[0]), "low and high of series 's'"),
        (lambda: Section("s", "S", [], "", [Table("t", "", (), [])] * 2), "name of a table in section 's'"),
        (lambda: Section("s", "S", [], "", charts=[Chart("a/b", "", "", "", [])]), "name of a chart in section 's'"),
    ],
)
def test_bad_data(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_section_survives_storing(section: Section) -> None:
    stored = plain(section)
    again = section_from(json.loads(json.dumps(stored)))
    assert json.dumps(plain(again)) == json.dumps(stored)  # as text, because NaN is not itself
    assert again.rows == section.rows
    assert again.rows[1].reference == (-0.905, -0.175)


def test_rows_are_rounded_when_shown() -> None:
    row = Row("speed", 29.12345, "x", 30.0, "a paper", "recalled", aim=0.05, interval=(28.0, 30.1234))
    cells = ["speed", "30.0 x", "", "29.1 x (28.0..30.1)", "-2.9 %", "5 %", "yes", "a paper", "unverified", ""]
    assert row_cells(row) == cells
    assert [cell_text(cell) for cell in (1024, 1024.44, 0.0123456, "text", None)] == [
        "1024",
        "1024",
        "0.012",
        "text",
        "",
    ]


def test_json_is_unrounded_and_valid(report: ReproductionReport) -> None:
    found = json.loads(report.json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["command"] == "ebatch reproduce steady broken"
    good, bad = found["sections"]
    assert (bad["name"], bad["error"]) == ("broken", "ValueError: of no use")
    assert good["error"] is None
    assert good["rows"][0]["measured"] == 29.12345
    assert good["rows"][0]["error"] == 29.12345 / 30.0 - 1.0
    assert [row["met"] for row in good["rows"]] == [True, False, None, None, True]
    assert good["tables"][0]["rows"] == [[1, 0.123456, "greedy"], [1024, None, None]]


def test_page(report: ReproductionReport, tmp_path: Path) -> None:
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "steady-gone.png").touch()
    report.write(tmp_path)
    assert not (tmp_path / "charts" / "steady-gone.png").exists()
    page = (tmp_path / "report.md").read_text()
    assert page == report.markdown()
    assert "## A steady machine\n\nIt *agrees*" in page
    assert "| speed | 30.0 x |  | 29.1 x | -2.9 % | 5 % | yes | arXiv 1711.07480 | read |  |" in page
    assert "| gain | -0.905..-0.175 |  | -0.950 | +5.0 % | 1 % | no | a paper | unverified |  |" in page
    assert (
        "| waiting |  | 2.00 s, exact solution | 2.00 s (2 seeds) | +0.0 % | 0 % | yes | solved here | own |  |" in page
    )
    assert "nothing \\| published" in page
    assert "This section failed: `ValueError: of no use`" in page
    counts = "| 2, 1 unverified | 3 | 1 of 2 | 1 exact solution | 1 of 1 | 12 s |"
    assert f"| [steady](#a-steady-machine) {counts}" in page
    assert "| lanes | energy, J | rule |\n|---:|---:|---|\n| 1 | 0.123 | greedy |\n| 1024 | - |  |" in page
    assert "`ebatch reproduce steady`, 12 s. Seeds 0..3." in page
    assert "`ebatch reproduce steady broken`\n\nVersions: python" in page
    for chart in ("load", "bars"):
        assert f"](charts/steady-{chart}.png)" in page
        assert (tmp_path / "charts" / f"steady-{chart}.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(report.json())
    assert not list(tmp_path.rglob("*.part*"))


def test_a_quick_page_says_so(section: Section) -> None:
    quick = ReproductionReport([Outcome("steady", section, 1.0)], "ebatch reproduce --quick", quick=True)
    assert "Made with `--quick`" in quick.markdown()
    assert "## A steady machine\n\n**With `--quick`:** half of it\n\nIt" in quick.markdown()
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    quick.print(console)
    assert "With --quick: half of it" in console.export_text()
    assert "half of it" not in ReproductionReport(quick.outcomes, "ebatch reproduce").markdown()
    assert "Made with `--quick`" not in ReproductionReport([], "ebatch reproduce").markdown()


def test_terminal(report: ReproductionReport) -> None:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    report.print(console)
    text = console.export_text()
    for expected in ("A steady machine", "29.1 x", "-2.9 %", "unverified", "greedy", "failed: ValueError", "1 of 2"):
        assert expected in text


@pytest.mark.parametrize("kind", ["line", "bar", "points"])
@pytest.mark.parametrize("names", [False, True])
def test_every_kind_of_chart_is_drawn(kind: Any, names: bool, tmp_path: Path) -> None:
    x: Any = ["one", "two", "three"] if names else [1.0, 10.0, 100.0]
    many = [Series(f"series {n}", x, [n + 1.0, 2.0, 30.0], [n, 1.5, 20.0], [n + 2.0, 3.0, 40.0]) for n in range(8)]
    for series in (many[:1], many):
        chart = Chart("c", "Title", "x", "y", series, kind, log_x=True, log_y=True, references=[("published", 2.0)])
        path = tmp_path / f"{len(series)}.png"
        draw_chart(chart, path)
        assert path.stat().st_size > 5000
