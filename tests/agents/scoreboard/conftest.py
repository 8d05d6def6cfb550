"""A scoreboard of the toy, built once for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebatch_env.scoring.files import write_text
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
    "rival_episodes": 5,
}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of a test run have in common."""
    base = tmp_path_factory.getbasetemp()
    place = (base if worker_id == "master" else base.parent) / "shared-scoreboard"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="session")
def trace(shared: Path) -> Path:
    """Requests of a user's own."""
    path = shared / "day.csv"
    write_text(path, "arrival_s,length\n" + "".join(f"{3.0 * n},{1 + n % 3}\n" for n in range(40)))
    return path


@pytest.fixture(scope="session")
def built(shared: Path, trace: Path) -> Path:
    """The folder of a finished scoreboard: do not write to it. Whichever process is first builds it."""
    for name in ("sb3_contrib", "safetensors", "pyarrow", "matplotlib"):
        pytest.importorskip(name)
    from filelock import FileLock

    from ebatch_agents.scoreboard.build import build
    from ebatch_agents.scoreboard.page import write_page
    from ebatch_agents.scoreboard.settings import Settings

    out = shared / "built"
    with FileLock(shared / "lock"):
        if not (out / "report.md").exists():
            write_page(build(Settings((TOY,), trace=trace, **SMALL), out, command="ebatch scoreboard ..."), out)
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
