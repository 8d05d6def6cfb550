"""`ebatch train` and `ebatch export`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("sb3_contrib")

from ebatch_agents.sweep import train_seeds
from ebatch_env.cli import app
from tests.agents.conftest import TOY

ROOT = Path(__file__).parents[2]
QUICK = ["--env", TOY, "--algo", "ppo", "--steps", "96", "--episodes", "2", "--evaluations", "2"]
QUICK += ["--param", "n_envs=2", "--param", "n_steps=16", "--param", "batch_size=32"]


def ebatch(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_train_tells_what_came_out_and_resume_repeats_it(tmp_path: Path) -> None:
    arguments = ["train", *QUICK, "--seeds", "2", "--seed", "5", "--out", str(tmp_path)]
    result = ebatch(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    for seed in (5, 6):
        assert f"ppo-Toy-v0-seed{seed}: 96 decisions in" in result.stdout
        assert f"files: {tmp_path}/ppo-Toy-v0-seed{seed}" in result.stdout
    assert result.stdout.count("cost on episodes 3000000..3000001: at first") == 2
    assert result.stdout.count("on a free environment, ratio") == 2
    again = ebatch(*arguments)
    assert again.exit_code == 2
    assert "another folder, or --resume" in again.stderr
    outcomes = json.loads(ebatch(*arguments, "--resume", "--json").stdout)
    assert [(outcome["seed"], outcome["decisions"]) for outcome in outcomes] == [(5, 96), (6, 96)]
    assert outcomes[0]["evaluations"][0]["decisions"] == 0
    assert set(outcomes[0]["speed"]) == {"ours", "free"}


@pytest.mark.slow
def test_processes_change_nothing_and_a_pipe_stays_quiet(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ebatch_env.cli", "train", *QUICK, "--seeds", "2", "--processes", "2", "--json"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "two")], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert (done.returncode, done.stderr) == (0, "")
    outcomes = json.loads(done.stdout)
    changes = {"n_envs": 2, "n_steps": 16, "batch_size": 32}
    here = train_seeds(TOY, "ppo", [0, 1], out=tmp_path / "one", steps=96, episodes=2, evaluations=2, changes=changes)
    for there, mine in zip(outcomes, here, strict=True):
        assert [e["costs"] for e in there["evaluations"]] == [list(e.costs) for e in mine.evaluations]


def test_progress_is_told_while_it_runs(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    changes = {"n_envs": 2, "n_steps": 16, "batch_size": 32}
    train_seeds(
        TOY,
        "ppo",
        [0],
        out=tmp_path,
        steps=9600,
        evaluations=0,
        changes=changes,
        progress=lambda share, doing: told.append((share, doing)),
    )
    assert told
    assert all(0.0 <= share <= 1.0 for share, _ in told)
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert any(doing.startswith("ppo-Toy-v0-seed0 ") for _, doing in told)


def test_bad_seeds(tmp_path: Path) -> None:
    for seeds, message in (([], "at least one"), ([1, 1], "without repeats"), ([-1], "seed must be an integer")):
        with pytest.raises(ValueError, match=message):
            train_seeds(TOY, "ppo", seeds, out=tmp_path)
    with pytest.raises(ValueError, match="processes must be an integer >= 1"):
        train_seeds(TOY, "ppo", [0], out=tmp_path, processes=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "ebatch/Nothing-v0"], "env must be one of"),
        (["--algo", "sac"], "algo must be one of"),
        (["--steps", "0"], "steps must be an integer >= 1"),
        (["--seeds", "0"], "seeds must be an integer >= 1"),
        (["--seed", "999999"], "seed must be an integer in 0.."),
        (["--set", "load"], "--set must be of the form key=value"),
        (["--set", "colour=red"], "colour"),
        (["--param", "gama=3"], "hyperparameter of ppo in ppo.yml must be one of"),
        (["--config", "nowhere.yml"], "nowhere.yml: No such file"),
        (["--out", f"{__file__}/below"], "Not a directory"),
    ],
)
def test_bad_input_ends_with_status_2_and_a_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    needed = ["--env", TOY, "--algo", "ppo", "--out", str(tmp_path), "--steps", "8"]
    result = ebatch("train", *needed, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_export(trained: Callable[[str], Any], tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = trained("a2c").folder.best
    nowhere = ebatch("export", str(tmp_path / "nowhere.zip"))
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (2, 1)
    assert "nowhere.zip: No such file" in nowhere.stderr
    refused = ebatch("export", str(path), "--out", str(tmp_path))
    assert refused.exit_code == 2
    assert "an SB3 zip can run any code when it is loaded" in refused.stderr
    result = ebatch("export", str(path), "--trust", "--out", str(tmp_path), "--episodes", "0", "--name", "agent")
    assert result.exit_code == 0
    assert result.stdout.split() == [str(tmp_path / "agent.safetensors"), str(tmp_path / "agent.json")]
    scored = ebatch("evaluate", "--env", TOY, "--policy", str(tmp_path / "agent.json"), "--episodes", "1", "--json")
    assert len(json.loads(scored.stdout)) == 1


@pytest.mark.parametrize("arguments", [("train", *QUICK), ("export", "ppo-x.zip", "--trust")], ids=lambda args: args[0])
def test_without_the_extra_it_says_so(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """In a process of its own: modules imported a second time would be strangers to the tests that hold the first."""
    code = "import sys; sys.modules['stable_baselines3'] = None; from ebatch_env.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments, "--out", str(tmp_path)]
    (tmp_path / "ppo-x.zip").touch()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "the extra 'sb3'" in done.stderr
    assert "Traceback" not in done.stderr
