"""The files of a scoreboard.

| file | content |
|---|---|
| `scoreboard.json` | all figures, and all that is needed to check them: settings, versions, scenarios, agents, baselines |
| `episodes.parquet`, `episodes.csv` | a row per episode that was played, with its condition in `case` ("" for the scenario itself) |
| `agents/` | weights and card of every seed's agent |
| `shipped/` | those of the agent chosen for each scenario |
| `report.md`, `charts/` | the page |
| `runs/`, `parts/` | trainings and finished blocks of episodes, which a rerun takes up; safe to delete |

The first two are all that `ebatch verify` needs, if the package ships the chosen agents.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ebatch_env.errors import fail, needs_extra
from ebatch_env.scoring.files import json_text, write_json
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.report import write_rows

FORMAT = 2
SUMMARY, RECORDS, SHEET = "scoreboard.json", "episodes.parquet", "episodes.csv"
VALIDATION = "validation"  # the case of the episodes by which agents and the best tuned baseline are chosen
_FIELDS = tuple(field.name for field in fields(EpisodeRecord) if field.name != "energy_parts")
Records = dict[tuple[str, str], list[EpisodeRecord]]  # by id and case


@dataclass(frozen=True)
class Board:
    """A scoreboard as it is kept: ``values`` as in `SUMMARY`, and the records by id and case."""

    values: Mapping[str, Any]
    records: Records

    def write(self, folder: Path) -> Board:
        """Write the records and the figures; returns them as they are read back.

        Raises:
            OSError: a file cannot be written.
        """
        rows = [{"case": case, **record.row()} for (_, case), found in self.records.items() for record in found]
        write_rows(folder / Path(RECORDS).stem, rows)
        sums = {name: checksum(folder / name) for name in (RECORDS, SHEET)}
        write_json(folder / SUMMARY, {"format": FORMAT, "files": sums, **self.values})
        return read(folder)


def read(folder: Path) -> Board:
    """Read a scoreboard.

    Raises:
        ValueError: it is none, or one of another format.
        OSError: a file cannot be read.
    """
    path = folder / SUMMARY
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise fail("scoreboard", str(path), f"a JSON file ({error})") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise fail("scoreboard", str(path), f"one of format {FORMAT}, as `ebatch scoreboard` writes it")
    return Board(values, read_records(folder / RECORDS))


def read_records(path: Path) -> Records:
    """The records of the Parquet file.

    Raises:
        ValueError: it is not one of a scoreboard.
        OSError: it cannot be read.
    """
    with needs_extra("reading records", "cli"):
        pyarrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    content = path.read_bytes()
    try:
        rows = parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
        found: Records = {}
        for row in rows:
            found.setdefault((row["env"], row["case"]), []).append(_record(row))
    except (pyarrow.ArrowException, KeyError, TypeError) as error:
        raise fail("records", str(path), f"the Parquet file of a scoreboard ({error})") from None
    return found


def _record(row: Mapping[str, Any]) -> EpisodeRecord:
    """The inverse of `EpisodeRecord.row`."""
    known: dict[str, Any] = {name: math.nan if row[name] is None else row[name] for name in _FIELDS}
    parts = {
        name.removeprefix("energy_").removesuffix("_j"): value
        for name, value in row.items()
        if name not in _FIELDS and name != "case" and value is not None
    }
    return EpisodeRecord(**known, energy_parts=parts)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain(value: Any) -> Any:
    """Values as they are after a round trip through `SUMMARY`."""
    return json.loads(json_text(value))
