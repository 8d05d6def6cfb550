from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from ebatch_env.reproduction import runner
from tests.reproduction import samples


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the sections of `samples` are installed."""
    points = [
        EntryPoint(name, f"tests.reproduction.samples:{name}", runner.REPRODUCTIONS)
        for name in ("steady", "broken", "misnamed")
    ]
    others = runner.entry_points
    monkeypatch.setattr(
        runner, "entry_points", lambda group: points if group == runner.REPRODUCTIONS else others(group=group)
    )
    samples.RUNS.clear()
