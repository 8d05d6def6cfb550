"""rl-zoo3's own trainer reads our hyperparameters and trains on the registered ids."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rl_zoo3")

from ebatch_agents.algorithms import ALGORITHMS

FILES = resources.files("ebatch_agents").joinpath("hyperparameters")
NAMES = {"ppo": "ppo", "a2c": "a2c", "recurrent_ppo": "ppo_lstm", "dqn": "dqn", "qrdqn": "qrdqn"}  # ours: theirs


def test_all_algorithms_that_it_knows_are_tried() -> None:
    from rl_zoo3.utils import ALGOS

    assert set(NAMES) == {algo for algo in ALGORITHMS if algo != "maskable_ppo"}
    assert set(NAMES.values()) <= set(ALGOS)
    assert "maskable_ppo" not in ALGOS


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_it_trains_with_our_files(algo: str, tmp_path: Path) -> None:
    env_id = "ebatch/Queue-v0" if algo == "ppo" else "ebatch/Toy-v0"
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", NAMES[algo], "--env", env_id, "--seed", "1"]
    command += ["--gym-packages", "ebatch_env", "--conf-file", str(FILES / f"{algo}.yml"), "-f", str(tmp_path)]
    command += ["--n-timesteps", "300", "--eval-freq", "-1", "--num-threads", "1", "--device", "cpu"]
    command += ["-params", "n_envs:2"] + (["n_steps:32"] if algo == "ppo" else ["learning_starts:100"])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    stem = env_id.replace("/", "-")
    (folder,) = (tmp_path / NAMES[algo]).iterdir()
    assert folder.name == f"{stem}_1"
    assert (folder / f"{stem}.zip").is_file()
    kept = yaml.unsafe_load((folder / stem / "config.yml").read_text())
    ours = yaml.safe_load((FILES / f"{algo}.yml").read_text())
    entry = dict(ours.get(env_id, ours["default"]))
    for name in set(entry) - {"n_envs", "n_steps", "learning_starts"}:
        assert dict(kept)[name] == entry[name], name


@pytest.mark.parametrize("algo", list(NAMES))
def test_it_takes_every_hyperparameter(algo: str) -> None:
    """What the trainer would hand to the algorithm's class, checked without a training."""
    import argparse

    from rl_zoo3.exp_manager import ExperimentManager

    import ebatch_env  # noqa: F401

    manager = ExperimentManager(
        argparse.Namespace(), NAMES[algo], "ebatch/Toy-v0", "unused", config=str(FILES / f"{algo}.yml"), verbose=0
    )
    values, _ = manager.read_hyperparameters()
    values, wrapper, callbacks, vec_wrapper = manager._preprocess_hyperparams(dict(values))
    assert wrapper is None
    assert vec_wrapper is None
    assert callbacks == []
    assert manager.n_timesteps == yaml.safe_load((FILES / f"{algo}.yml").read_text())["default"]["n_timesteps"]
    assert manager.env_kwargs == ({"flat_actions": True} if ALGORITHMS[algo].flat else {})
    import inspect

    known = inspect.signature(ALGORITHMS[algo].load().__init__).parameters
    assert set(values) <= set(known)
