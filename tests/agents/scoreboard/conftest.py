"""A scoreboard of the toy, built once for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agents.conftest import TOY

SMALL: dict[str, Any] = {
    "seeds": 2,
    "steps": 768,
    "changes": {"n_envs": 8, "n_steps": 32, "batch_size": 64},
    "episodes": 4,
    "transfer_episodes": 2,
    "learned_episodes": 2,
    "evaluations": 3,
    "validation_episodes": 3,
}


@pytest.fixture(scope="session")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Requests of a user's own."""
    path = tmp_path_factory.mktemp("trace") / "day.csv"
    path.write_text("arrival_s,length\n" + "".join(f"{3.0 * n},{1 + n % 3}\n" for n in range(40)))
    return path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, trace: Path) -> Path:
    """The folder of a finished scoreboard: do not write to it."""
    for name in ("sb3_contrib", "safetensors", "pyarrow", "matplotlib"):
        pytest.importorskip(name)
    from ebatch_agents.scoreboard.build import build
    from ebatch_agents.scoreboard.page import write_page
    from ebatch_agents.scoreboard.settings import Settings

    out = tmp_path_factory.mktemp("scoreboard")
    board = build(Settings((TOY,), trace=trace, **SMALL), out, command="ebatch scoreboard ...")
    write_page(board, out)
    return out


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that copies what is published of the scoreboard, and the folders named, to a folder to tamper with."""

    def copy(*folders: str) -> Path:
        out = tmp_path / "published"
        out.mkdir()
        for name in ("scoreboard.json", "episodes.parquet"):
            shutil.copyfile(built / name, out / name)
        for name in folders:
            shutil.copytree(built / name, out / name)
        return out

    return copy
