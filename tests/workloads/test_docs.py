from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import ebatch_env.workloads
from ebatch_env.workloads import CATALOGUE

PAGE = Path(__file__).parents[2] / "docs" / "workloads.md"


def test_the_page_runs() -> None:
    outcome = doctest.testfile(str(PAGE), module_relative=False)
    assert outcome.attempted > 20
    assert outcome.failed == 0


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(ebatch_env.workloads.__path__)])
def test_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"ebatch_env.workloads.{name}")).failed == 0


def test_the_table_of_lengths_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in ("translation", "speech", "speech-strided", "sentiment", "transcript"):
        lengths = CATALOGUE[name].lengths
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        mean, points, longest = (cell.strip() for cell in row.strip("| ").split("|")[2:])
        assert abs(float(mean) - lengths.mean) < 0.05
        assert [float(x) for x in points.split("/")] == lengths.quantile([0.05, 0.5, 0.95, 0.99]).tolist()
        assert int(longest) == lengths.max_length
