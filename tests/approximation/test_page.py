"""The examples of docs/approximation.md run, and the page names what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ebatch_env.approximation as approximation
from ebatch_env.approximation import schedules

PAGE = (Path(__file__).parents[2] / "docs" / "approximation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_examples_run(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    exec(compile(BLOCKS[number], f"example {number}", "exec"), {"__name__": "__main__"})


def test_names() -> None:
    assert len(BLOCKS) == 2
    for name in approximation.DATA:
        assert f"| `{name}` |" in PAGE
    for name in ("sweep", "largest", "evaluate", "shared_by_lanes", "as_points", "trained", "RECIPES"):
        assert f"`{name}" in PAGE
        assert hasattr(approximation, name)
    assert schedules.__name__ in PAGE
