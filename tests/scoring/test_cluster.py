"""Sweeps on a Ray cluster of this machine: what comes out is what processes give."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("ray")

from ebatch_env.cli import app
from ebatch_env.errors import MissingExtraError, needs_extra
from ebatch_env.scoring import cluster
from ebatch_env.scoring.pool import at_once, in_any_order
from ebatch_env.scoring.runner import evaluate
from ebatch_env.scoring.tuning import tune
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import Lengths, Poisson, Uniform, Workload
from tests.scoring.policies import ALTERNATING, HERE, STEADY

pytestmark = pytest.mark.slow
TOY = "ebatch/Toy-v0"
ROOT = Path(__file__).parents[2]
MORTAL = f"{HERE}:Mortal"


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> Iterator[None]:
    """A cluster that all tests share: what is connected to already is taken as it is."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def test_as_many_work_at_a_time_as_there_are_processors() -> None:
    with at_once(7, "local") as workers:
        assert workers == 2
    with at_once(7) as workers:
        assert workers == 7


def test_evaluation_is_the_same_and_kept_by_the_driver(tmp_path: Path) -> None:
    given: Any = {"env_ids": [TOY, "ebatch/Queue-v0"], "policies": [STEADY, ALTERNATING], "episodes": 5, "seed": 7}
    told: list[tuple[int, int]] = []
    records = evaluate(**given, ray="local", out=tmp_path, progress=lambda *state: told.append(state))
    assert records == evaluate(**given)
    assert (told[0], told[-1]) == ((0, 20), (20, 20))
    assert len(told) == 1 + 2 * 4  # both workers have a share of each policy's episodes
    assert len(list(tmp_path.glob("parts/*/*.json"))) == 8


def test_what_is_kept_is_not_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = evaluate(TOY, [STEADY], 4, out=tmp_path, ray="local")

    def none(address: str) -> Any:
        raise AssertionError(f"connected to {address}")

    monkeypatch.setattr(cluster, "connected", none)
    assert evaluate(TOY, [STEADY], 4, out=tmp_path, ray="local") == records


def test_a_worker_that_dies_costs_its_own_block(tmp_path: Path) -> None:
    spec = f"{MORTAL},folder={tmp_path}"
    records = evaluate(TOY, [spec, STEADY], 6, num_envs=1, ray="local")
    assert [replace(record, policy=STEADY) for record in records[:6]] == records[6:] == evaluate(TOY, [STEADY], 6)
    assert (tmp_path / "died").exists()
    assert len(list(tmp_path.glob("*-*"))) == 7


def test_tuning_finds_the_same_knobs(tmp_path: Path) -> None:
    policies = [f"{HERE}:Exclusive", STEADY]
    studies = tmp_path / "studies"
    found = tune(TOY, policies, 5, 2, ray="local", studies=studies)
    assert found == tune(TOY, policies, 5, 2)
    assert len(list(studies.glob("*.log"))) == 2
    assert not list(studies.glob(".shared*"))


def test_an_error_is_the_same_error() -> None:
    message = "actions must be an integer array"
    with pytest.raises(ValueError, match=message) as here:
        evaluate(TOY, [f"{HERE}:Wrong", STEADY], 2)
    with pytest.raises(ValueError, match=message) as there:
        evaluate(TOY, [f"{HERE}:Wrong", STEADY], 2, ray="local")
    assert type(there.value) is type(here.value)
    assert str(there.value) == str(here.value)


@dataclass(frozen=True)
class Deadly:
    """Steady work; whoever draws it once there is a checkpoint below ``folder`` dies, once."""

    folder: Path

    @property
    def lengths(self) -> Lengths:
        return Uniform(1, 4)

    def sample(
        self, rng: np.random.Generator, requests: int, rate_rps: float, deadline_s: float | None = None
    ) -> RequestTrace:
        if any(self.folder.glob("ray/*/checkpoint.pt")):
            with contextlib.suppress(FileExistsError):
                (self.folder / "died").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return Workload(self.lengths, Poisson()).sample(rng, requests, rate_rps, deadline_s)


def _lack(number: int) -> None:
    with needs_extra(f"number {number}", "cli"):
        __import__("no_such_module")


def test_an_extra_that_only_the_workers_lack_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r"number \d needs the extra 'cli': .*no module 'no_such_module'"):
        list(in_any_order(_lack, [1, 2], 1, ray="local"))


def _other_installation(number: int) -> int:
    return number


def test_a_worker_with_other_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "installation", lambda: ("numpy 0.1",))
    with pytest.raises(ValueError, match=r"the installation on .* must be the driver's, \('numpy 0.1',\), got"):
        list(in_any_order(_other_installation, [1, 2], 1, ray="local"))


def test_a_folder_that_a_worker_does_not_see_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "touch", lambda self: None)  # as if the workers' disk were another
    monkeypatch.setattr(cluster, "make_folder", lambda folder: folder)
    with pytest.raises(ValueError, match=r"folder must be one that all machines of the cluster share; .* not see it"):
        list(in_any_order(_other_installation, [1, 2], 1, ray="local", shared=tmp_path))


def _sleep(given: tuple[Path, int]) -> int:
    folder, number = given
    if number:
        mark = folder / str(os.getpid())
        mark.touch()
        try:
            while True:
                time.sleep(0.01)
        finally:
            mark.unlink()
    return number


def _sleep_on(given: tuple[Path, int]) -> int:
    folder, number = given
    if number:
        (folder / str(os.getpid())).touch()
    while number:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(0.01)
    return number


def _until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds
        time.sleep(0.05)


def test_an_end_before_the_last_result_stops_the_rest(tmp_path: Path) -> None:
    work = in_any_order(_sleep, [(tmp_path, number) for number in range(9)], 1, ray="local")
    assert next(work)[1] == 0
    _until(lambda: len(list(tmp_path.iterdir())) == 2)
    work.close()  # type: ignore[attr-defined]  # what an interruption of the loop comes to
    _until(lambda: not list(tmp_path.iterdir()))


def test_what_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE_S", 0.5)
    work = in_any_order(_sleep_on, [(tmp_path, number) for number in range(3)], 1, ray="local")
    assert next(work)[1] == 0
    _until(lambda: len(list(tmp_path.iterdir())) == 2)
    work.close()  # type: ignore[attr-defined]
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_trainings_are_the_same_even_if_a_worker_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sb3_contrib")
    from ebatch_agents.sweep import train_seeds

    monkeypatch.chdir(tmp_path)  # where a relative path leads
    changes = {"n_envs": 2, "n_steps": 16, "batch_size": 32}
    keywords = {"workload": Deadly(tmp_path), "requests": 8}
    given: Any = {"steps": 96, "evaluations": 3, "episodes": 2, "changes": changes, "keywords": keywords}
    given["checkpoint_s"] = 0.0
    on_ray = train_seeds(TOY, "ppo", [3, 4], out="ray", ray="local", **given)
    assert (tmp_path / "died").exists()
    here = train_seeds(TOY, "ppo", [3, 4], out="here", **given)
    assert [outcome.evaluations for outcome in on_ray] == [outcome.evaluations for outcome in here]
    assert [outcome.folder.relative_to("ray") for outcome in on_ray] == [o.folder.relative_to("here") for o in here]
    assert all((outcome.folder / "ppo-best.zip").exists() for outcome in on_ray)
    with pytest.raises(ValueError, match="another folder, or --resume"):
        train_seeds(TOY, "ppo", [3], out="ray", ray="local", **given)


@pytest.mark.parametrize("address", ["foo", "http://head:6379", "head", "head:port"])
def test_what_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    expected = "ray must be 'local', 'auto', HOST:PORT or ray://HOST:PORT, got "
    with pytest.raises(ValueError, match=expected):
        evaluate(TOY, [STEADY], 1, ray=address)


def test_no_cluster_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    result = CliRunner().invoke(app, ["evaluate", "--env", TOY, "--policy", STEADY, "--ray", "127.0.0.1:1"])
    assert result.exit_code == 2
    assert result.stderr == "ebatch: no Ray cluster answers at 127.0.0.1:1: Connection refused\n"


def test_the_command_starts_a_cluster_and_prints_json_only() -> None:
    command = [sys.executable, "-m", "ebatch_env.cli", "evaluate", "--env", TOY, "--policy", STEADY, "--episodes", "2"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [*command, "--ray", "--json"], cwd=ROOT, capture_output=True, check=False, timeout=120, env=environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert [record["cost"] for record in json.loads(done.stdout)] == [r.cost for r in evaluate(TOY, [STEADY], 2)]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, ["evaluate", "--env", TOY, "--policy", STEADY, "--ray"])
    assert result.exit_code == 2
    assert (
        result.stderr
        == "ebatch: working on Ray needs the extra 'ray': pip install 'ebatch-env[ray]' (no module 'ray')\n"
    )


def test_the_error_of_a_missing_extra_pickles() -> None:
    with pytest.raises(MissingExtraError) as caught:
        _lack(1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.name) == (str(caught.value), "no_such_module")
