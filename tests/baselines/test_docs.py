"""The page says what the code does."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import ebatch_baselines.optimum

PAGE = Path(__file__).parents[2] / "docs" / "baselines.md"


def test_examples_run() -> None:
    page = doctest.testfile(str(PAGE), module_relative=False)
    assert page.attempted > 0
    assert page.failed == 0
    assert doctest.testmod(ebatch_baselines.optimum).failed == 0


def test_every_policy_and_knob_is_listed(policy_name: str, policy_class: Any) -> None:
    row = next(
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{policy_name}` |")
    )
    policy = policy_class(policy_name)
    assert policy.name == policy_name
    assert f"`{policy.__module__.rpartition('.')[2]}:{policy.__name__}`" in row
    knobs = row.rsplit("|", 2)[1]
    if policy_name == "linear":
        assert f"{len(policy.knobs)} weights" in knobs
    elif policy.knobs:
        assert knobs.strip() == ", ".join(f"`{knob.name}`" for knob in policy.knobs)
