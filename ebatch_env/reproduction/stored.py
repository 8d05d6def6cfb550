"""Sections as plain values and back: what a report's JSON holds, and what an interrupted run takes up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ebatch_env.reproduction.report import Chart, Row, Section, Series, Table


def plain(value: Any) -> Any:
    """Dataclasses as dicts, arrays and tuples as lists, numpy's numbers as Python's."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return value


def section_from(stored: Mapping[str, Any]) -> Section:
    """The section that `plain` made ``stored`` of.

    Raises:
        TypeError, KeyError: it is none.
    """
    parts = {
        "rows": [_row(row) for row in stored["rows"]],
        "tables": [Table(**table) for table in stored["tables"]],
        "charts": [_chart(chart) for chart in stored["charts"]],
    }
    return Section(**{**stored, **parts})


def _row(stored: Mapping[str, Any]) -> Row:
    pairs = {name: tuple(value) for name in ("reference", "interval") if isinstance(value := stored[name], list)}
    return Row(**{**stored, **pairs})


def _chart(stored: Mapping[str, Any]) -> Chart:
    series = [Series(**entry) for entry in stored["series"]]
    return Chart(**{**stored, "series": series, "references": [tuple(line) for line in stored["references"]]})
