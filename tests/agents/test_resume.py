"""A training that was killed goes on to the very same outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

import torch

from ebatch_agents import checkpoint, train
from ebatch_agents.runs import Folder
from ebatch_agents.training import Trained

TOY = "ebatch/Toy-v0"
ROLLED: dict[str, Any] = {"n_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 2}
CHANGES: dict[str, dict[str, Any]] = {
    "ppo": ROLLED,
    "maskable_ppo": ROLLED,
    "recurrent_ppo": {**ROLLED, "policy_kwargs": {"lstm_hidden_size": 8}},
    "a2c": {"n_envs": 4, "n_steps": 8},
    # The buffer, of 300, is full before the end; exploration falls all the way through.
    "dqn": {"n_envs": 4, "buffer_size": 300, "learning_starts": 50, "batch_size": 16, "exploration_fraction": 1.0},
    "qrdqn": {"n_envs": 4, "buffer_size": 300, "learning_starts": 50, "batch_size": 16, "exploration_fraction": 1.0},
}
STEPS = 640


def teach(algo: str, out: Path, **keywords: Any) -> Trained:
    settings = {"steps": STEPS, "evaluations": 3, "episodes": 2, "checkpoint_s": 0.0, "changes": CHANGES[algo]}
    return train(TOY, algo, out=out, **{**settings, **keywords})


def assert_same(one: Trained, other: Trained) -> None:
    assert one.model.num_timesteps == other.model.num_timesteps
    assert one.evaluations == other.evaluations
    for part in ("policy", "policy.optimizer"):
        left, right = one.model.get_parameters()[part], other.model.get_parameters()[part]
        assert_same_values(left, right)
    mine, yours = one.model, other.model
    assert np.array_equal(mine._last_obs, yours._last_obs)
    assert [info["r"] for info in mine.ep_info_buffer] == [info["r"] for info in yours.ep_info_buffer]


def assert_same_values(left: Any, right: Any) -> None:
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for name in left:
            assert_same_values(left[name], right[name])
    elif isinstance(left, (list, tuple)):
        for a, b in zip(left, right, strict=True):
            assert_same_values(a, b)
    else:
        assert left == right


@pytest.mark.parametrize("algo", list(CHANGES))
def test_an_interrupted_training_ends_like_one_that_was_not(
    algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = teach(algo, tmp_path / "whole")
    real, saved = checkpoint.save, []

    def interrupted(path: Path, model: Any, *arguments: Any) -> None:
        if model.num_timesteps > 0.6 * STEPS and not saved:
            saved.append(model.num_timesteps)
            raise KeyboardInterrupt
        real(path, model, *arguments)

    monkeypatch.setattr(checkpoint, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        teach(algo, tmp_path / "part")
    content = checkpoint.read(Folder(tmp_path / "part" / whole.run.name, whole.run).checkpoint)
    assert 0.4 * STEPS < content["model"]["counters"]["num_timesteps"] < saved[0]
    resumed = teach(algo, tmp_path / "part", resume=True)
    assert_same(resumed, whole)
    assert teach(algo, tmp_path / "part", resume=True).evaluations == whole.evaluations  # nothing left to do


@pytest.mark.slow
def test_after_a_kill_nothing_is_lost_but_the_unfinished_rollout(tmp_path: Path) -> None:
    algo, steps = "ppo", 4_000
    arguments = ["--env", TOY, "--algo", algo, "--steps", str(steps), "--evaluations", "2", "--episodes", "2"]
    arguments += ["--checkpoint-seconds", "0"]
    for name, value in CHANGES[algo].items():
        arguments += ["--param", f"{name}={value}"]
    command = [sys.executable, "-m", "ebatch_env.cli", "train", *arguments, "--out", str(tmp_path / "killed")]
    file = tmp_path / "killed" / f"{algo}-Toy-v0-seed0" / "checkpoint.pt"
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not file.exists() or decisions_in(file) == 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert 0 < decisions_in(file) < steps
    settings: dict[str, Any] = {"steps": steps, "evaluations": 2, "episodes": 2, "changes": CHANGES[algo]}
    resumed = train(TOY, algo, out=tmp_path / "killed", resume=True, **settings)
    assert_same(resumed, train(TOY, algo, **settings))


def decisions_in(file: Path) -> int:
    return int(checkpoint.read(file)["model"]["counters"]["num_timesteps"])


def test_a_folder_in_use_is_refused_and_so_are_other_settings(tmp_path: Path) -> None:
    teach("a2c", tmp_path)
    with pytest.raises(ValueError, match=r"out must be another folder, or --resume: .*a2c-Toy-v0-seed0 has a training"):
        teach("a2c", tmp_path)
    with pytest.raises(ValueError, match="steps must be as in the training to resume, 640"):
        teach("a2c", tmp_path, resume=True, steps=700)
    changes = {**CHANGES["a2c"], "learning_rate": 0.01}
    with pytest.raises(ValueError, match="hyperparameters must be as in the training to resume"):
        teach("a2c", tmp_path, resume=True, changes=changes)


def test_a_folder_in_which_a_training_is_under_way_is_left_alone(tmp_path: Path) -> None:
    """Whoever holds it, and only as long as the process lives."""
    trained = teach("a2c", tmp_path)
    assert trained.folder is not None
    folder = trained.folder
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    busy = rf"out must be another folder, .*: a training is under way in .*{trained.run.name}, got"
    with folder.held():
        with pytest.raises(ValueError, match=busy):
            teach("a2c", tmp_path, resume=True)
        teach("a2c", tmp_path / "other", resume=True)
    code = f"""
import pathlib, sys, time
from ebatch_agents.runs import Folder
from ebatch_agents.training import make_run
with Folder(pathlib.Path({str(folder.path)!r}), make_run({TOY!r}, "a2c")).held():
    print("held", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=busy):
            teach("a2c", tmp_path, resume=True)
        with pytest.raises(ValueError, match=busy):
            teach("a2c", tmp_path)
        assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before | {"lock": b""}
    finally:
        process.kill()
        process.communicate()
    assert teach("a2c", tmp_path, resume=True).evaluations == trained.evaluations


def test_a_training_goes_on_with_the_same_file_elsewhere(tmp_path: Path) -> None:
    content = "default: {n_timesteps: 640, n_envs: 4, n_steps: 8}\n"
    for name in ("one.yml", "two.yml", "other.yml"):
        (tmp_path / name).write_text(content.replace("8", "4") if name == "other.yml" else content)
    first = teach("a2c", tmp_path, changes=None, config=tmp_path / "one.yml")
    again = teach("a2c", tmp_path, changes=None, config=tmp_path / "two.yml", resume=True)
    assert again.evaluations == first.evaluations
    with pytest.raises(ValueError, match="hyperparameters must be as in the training to resume"):
        teach("a2c", tmp_path, changes=None, config=tmp_path / "other.yml", resume=True)


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    trained = teach("a2c", tmp_path)
    assert trained.folder is not None
    path = trained.folder.checkpoint
    whole = path.read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="checkpoint must be one that can be read"):
            teach("a2c", tmp_path, resume=True)
    torch.save({"format": 0}, path)
    with pytest.raises(ValueError, match="checkpoint must be a checkpoint of format 1"):
        teach("a2c", tmp_path, resume=True)
    path.write_bytes(whole)
    content = checkpoint.read(path)
    content["env"]["arrays"]["f"] = content["env"]["arrays"]["f"][:2]
    torch.save(content, path)
    with pytest.raises(ValueError, match="the checkpoint must be one of the same settings: f of shape"):
        teach("a2c", tmp_path, resume=True)
    path.unlink()  # killed before the first checkpoint: it begins anew
    assert teach("a2c", tmp_path, resume=True).evaluations == trained.evaluations


def test_loading_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    import pickle

    class Malicious:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/ran",)

    for write in (lambda p: p.write_bytes(pickle.dumps(Malicious())), lambda p: torch.save(Malicious(), p)):
        write(tmp_path / "checkpoint.pt")
        with pytest.raises(ValueError, match="checkpoint must be one that can be read"):
            checkpoint.read(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "ran").exists()
