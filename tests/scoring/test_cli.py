"""The command: what it prints where, what it writes, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import ebatch_env
from ebatch_env.cli import app
from ebatch_env.scoring.records import FIELDS
from tests.scoring.policies import ALTERNATING, HERE, STEADY

TOY = "ebatch/Toy-v0"
ROOT = Path(__file__).parents[2]


def ebatch(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_version() -> None:
    result = ebatch("--version")
    assert (result.exit_code, result.stdout) == (0, f"ebatch {ebatch_env.__version__}\n")


def test_list() -> None:
    result = ebatch("list", "--json")
    found = json.loads(result.stdout)
    assert list(found) == ["environments", "policies", "machines", "networks", "workloads", "reproductions"]
    assert TOY in found["environments"]
    assert {"epur", "tpu"} <= set(found["machines"])
    assert "MNMT" in found["networks"]
    assert "speech-bursty" in found["workloads"]
    text = ebatch("list").stdout
    assert all(name in text for kind in found.values() for name in kind)


def test_evaluate_writes_files_and_a_table(tmp_path: Path) -> None:
    arguments = ["evaluate", "--env", TOY, "--policy", STEADY, "--policy", f"{STEADY},time_steps=4", "--episodes", "3"]
    arguments += ["--seed", "11", "--out", str(tmp_path / "out"), "--set", "load=0.5", "--set", "requests=8"]
    result = ebatch(*arguments)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "Episodes per policy: 3, seeds 11..13." in result.stdout
    assert "Set: load=0.5, requests=8." in result.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(r["policy"], r["seed"], r["requests"]) for r in summary] == [
        (policy, seed, 8) for policy in (STEADY, f"{STEADY},time_steps=4") for seed in (11, 12, 13)
    ]
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["set"] == {"load": 0.5, "requests": 8}
    again = ebatch(*arguments, "--json")
    assert again.stdout == (tmp_path / "out" / "summary.json").read_text()


def test_json_in_a_pipe_is_the_file_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ebatch_env.cli", "evaluate", "--env", TOY, "--policy", STEADY, "--json"]
    command += ["--policy", ALTERNATING, "--episodes", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (tmp_path / "summary.json").read_bytes()
    records = json.loads(done.stdout)
    assert len(records) == 4
    assert all(list(record) == list(FIELDS) for record in records)


def test_the_command_starts_without_what_it_may_not_need() -> None:
    heavy = "{'pandas', 'matplotlib', 'optuna', 'torch', 'pyarrow', 'stable_baselines3'}"
    code = f"import sys, ebatch_env.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"


def test_without_its_extra_the_command_says_so(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(name='typer')")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "ebatch_env.cli", "list"]
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode != 0
    assert (
        done.stderr == "ebatch: no module 'typer'; the command needs the extra 'cli': pip install 'ebatch-env[cli]'\n"
    )


def test_a_missing_part_of_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = ebatch(
        "tune", "--env", TOY, "--policy", STEADY, "--trials", "1", "--episodes", "1", "--out", str(tmp_path)
    )
    assert result.exit_code == 2
    assert "pip install 'ebatch-env[cli]'" in result.stderr


def test_trace(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_text("arrival_s,length\n0.5,1\n1.0,4\n4.0,2\n")
    result = ebatch("evaluate", "--env", TOY, "--policy", STEADY, "--trace", str(path), "--json")
    (record,) = json.loads(result.stdout)
    assert record["requests"] == 3


def test_tune_stores_and_prints(tmp_path: Path) -> None:
    arguments = ["tune", "--env", TOY, "--policy", STEADY, "--trials", "3", "--episodes", "2", "--out", str(tmp_path)]
    result = ebatch(*arguments)
    assert result.exit_code == 0
    assert "seeds 2000000..2000001" in result.stdout
    stored = json.loads((tmp_path / "Toy-v0.json").read_text())
    assert list(stored[STEADY]) == ["knobs", "cost", "default_cost", "trials", "episodes", "seed", "decisions"]
    assert json.loads(ebatch(*arguments, "--json").stdout) == {TOY: stored}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "ebatch/Nothing-v0"], "env must be one of"),
        (["--policy", "nobody"], "policy must be a name"),
        (["--policy", "nobody.zip"], "a file that exists"),
        (["--policy", f"{STEADY},speed=9"], "speed"),
        (["--policy", f"{STEADY},time_steps=0"], "time_steps must be an integer in [1, 16], got 0"),
        (["--policy", f"{HERE}:Wrong"], "actions must be an integer array"),
        (["--episodes", "-1"], "episodes must be an integer in 1..1000000, got -1"),
        (["--episodes", "some"], "--episodes"),
        (["--seed", "-1"], "seed must be an integer >= 0"),
        (["--processes", "0"], "processes must be an integer >= 1"),
        (["--num-envs", "1000"], "num_envs must be an integer in 1..64"),
        (["--set", "load=-1"], "load must be a finite number in [1e-06, 1000]"),
        (["--set", "load"], "--set must be of the form key=value"),
        (["--set", "colour=red"], "keyword must be one of network"),
        (["--set", "lanes=0"], "lanes must be an integer in 1..4096"),
        (["--trace", "nowhere.csv"], "nowhere.csv: No such file"),
        (["--trace", __file__], "line 1: unknown column"),
        (["--out", f"{__file__}/below"], "below: must be a folder that can be made and written to: Not a directory"),
        (["--out", __file__], "must be a folder that can be made and written to: File exists"),
        (
            ["--policy", "nobody:Nobody"],
            "policy must be an importable module:Class, got 'nobody:Nobody': No module named 'nobody'",
        ),
        (["--policy", f"{HERE}:Nobody"], "has no attribute 'Nobody'"),
        (["--nothing"], "No such option"),
    ],
)
def test_bad_input_ends_with_status_2_and_a_line(arguments: list[str], message: str) -> None:
    needed = [] if "--env" in arguments else ["--env", TOY]
    needed += [] if "--policy" in arguments else ["--policy", STEADY]
    result = ebatch("evaluate", *needed, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    if "No such option" not in message and message != "--episodes":
        assert result.stderr.count("\n") == 1


def test_classes_beside_the_user_are_found(tmp_path: Path) -> None:
    """By the installed command, and by the processes that it starts."""
    (tmp_path / "mine.py").write_text(f"from {HERE} import Steady as Mine\n")
    (tmp_path / "numpy.py").write_text("raise ImportError('what is installed comes first')\n")
    command = [
        Path(sys.executable).with_name("ebatch"),
        "evaluate",
        "--env",
        TOY,
        "--policy",
        "mine:Mine",
        "--episodes",
        "4",
    ]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    for processes in ("1", "2"):
        done = subprocess.run(
            [*command, "--processes", processes, "--set", "requests=8"], cwd=tmp_path, env=variables,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "mine:Mine" in done.stdout


def test_debug_shows_the_traceback() -> None:
    result = ebatch("--debug", "evaluate", "--env", TOY, "--policy", "nobody")
    assert isinstance(result.exception, ValueError)


def test_bench_needs_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ebatch_env, "__file__", str(tmp_path / "ebatch_env" / "__init__.py"))
    result = ebatch("bench", "--json")
    assert result.exit_code == 2
    assert "checkout" in result.stderr


def test_bench_hands_its_arguments_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "speed.py").write_text("def main(arguments):\n    print(arguments)\n")
    monkeypatch.setattr(ebatch_env, "__file__", str(tmp_path / "ebatch_env" / "__init__.py"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    result = ebatch("bench", "--json", "--quick")
    assert (result.exit_code, result.stdout) == (0, "['--json', '--quick']\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        sys.modules.pop(name)
