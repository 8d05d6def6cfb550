"""Files of an evaluation; ``docs/metrics.md`` lists them."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ebatch_env
from ebatch_env.errors import needs_extra
from ebatch_env.scoring.files import json_text, make_folder, whole_file, write_json, write_text
from ebatch_env.scoring.plots import plot_energy_latency
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.statistics import Aggregate, Improvement, aggregate, improvements
from ebatch_env.scoring.tables import MARK, ResultTable, markdown, result_tables


class Report:
    """An evaluation's statistics, worked out once.

    Args:
        records: what `evaluate` returned.
        note: a line for the caption, such as the overrides.
    """

    def __init__(self, records: Sequence[EpisodeRecord], note: str = "") -> None:
        self.records = list(records)
        self.aggregates: list[Aggregate] = aggregate(self.records)
        self.improvements: list[Improvement] = improvements(self.records)
        self.tables: list[ResultTable] = result_tables(self.aggregates, self.improvements)
        self.caption = caption(self.records) + (f" {note}" if note else "")

    def summary_text(self) -> str:
        """The content of ``summary.json``."""
        return json_text([record.summary() for record in self.records])

    def write(self, folder: Path, meta: Mapping[str, Any]) -> None:
        """Write every file; each appears whole or not at all.

        Raises:
            OSError: ``folder`` cannot be made or written to.
        """
        make_folder(folder)
        write_text(folder / "summary.json", self.summary_text())
        write_table_files(folder, self.records)
        statistics = {
            "aggregates": [asdict(entry) for entry in self.aggregates],
            "improvements": [asdict(entry) for entry in self.improvements],
        }
        write_json(folder / "statistics.json", statistics)
        write_json(folder / "meta.json", {**meta, "versions": versions()})
        write_text(folder / "table.md", markdown(self.tables, self.caption))
        plot_energy_latency(self.aggregates, folder / "energy_latency.png", self.caption)


def caption(records: Sequence[EpisodeRecord]) -> str:
    """Episodes, seeds, and what the numbers are."""
    counts: dict[tuple[str, str], int] = {}
    for record in records:
        counts[record.env, record.policy] = counts.get((record.env, record.policy), 0) + 1
    low, high = min(counts.values()), max(counts.values())
    episodes = f"{low}" if low == high else f"{low}-{high}"
    seeds = [record.seed for record in records]
    text = (
        f"Episodes per policy: {episodes}, seeds {min(seeds)}..{max(seeds)}. "
        "Interquartile means with 95 % bootstrap intervals."
    )
    cut_off = sum(record.truncated for record in records)
    if cut_off:
        text += (
            f" {cut_off} episodes were truncated: the policies marked {MARK} left work undone, which cost them nothing."
        )
    return text


def write_table_files(folder: Path, records: Sequence[EpisodeRecord]) -> None:
    """Write ``episodes.csv`` and ``episodes.parquet``: a row per record, cells empty where there is no value."""
    write_rows(folder / "episodes", [record.row() for record in records])


def write_rows(stem: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``<stem>.csv`` and ``<stem>.parquet``: cells are empty where a row has no value or no such column."""
    pa, csv, parquet = (_untyped(name) for name in ("pyarrow", "pyarrow.csv", "pyarrow.parquet"))
    columns = list(dict.fromkeys(name for row in rows for name in row))  # machines differ in their energy components
    kinds = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    table = pa.table({name: pa.array([row.get(name) for row in rows], kinds[_kind(rows, name)]) for name in columns})
    with whole_file(stem.with_name(stem.name + ".csv")) as part:
        csv.write_csv(table, part, csv.WriteOptions(quoting_style="needed"))
    with whole_file(stem.with_name(stem.name + ".parquet")) as part:
        parquet.write_table(table, part)


def _kind(rows: Sequence[Mapping[str, Any]], name: str) -> type:
    """A column's type, from the first value there is; a column without any holds metrics."""
    return type(next((row[name] for row in rows if row.get(name) is not None), 0.0))


def _untyped(module: str) -> Any:
    with needs_extra("writing tables", "cli"):
        return importlib.import_module(module)  # pyarrow's names are not exported in the type checker's sense


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    found = {"python": platform.python_version(), "ebatch-env": ebatch_env.__version__}
    for name in ("gymnasium", "numpy", "numba", "stable-baselines3", "sb3-contrib", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
