"""What needs an extra says which, in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ebatch_env
from ebatch_env.cli import app
from ebatch_env.scoring.report import Report
from ebatch_env.scoring.runner import evaluate
from ebatch_env.scoring.tuning import tune
from tests.scoring.policies import STEADY

TOY = "ebatch/Toy-v0"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Make a module look uninstalled, and forget the modules of ours that imported it."""

    def forget(module: str, ours: str) -> None:
        for name in [n for n in sys.modules if n.partition(".")[0] == module or n.startswith(ours)]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, module, None)

    return forget


def refused(act: Callable[[], Any], what: str, extra: str, module: str) -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        act()
    expected = f"{what} needs the extra '{extra}': pip install 'ebatch-env[{extra}]' (no module '{module}"
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_make_sb3(without: Callable[[str, str], None]) -> None:
    without("stable_baselines3", "ebatch_env.environment.sb3")
    refused(lambda: ebatch_env.make_sb3(TOY), "make_sb3", "sb3", "stable_baselines3")


def test_agents(without: Callable[[str, str], None], tmp_path: Path) -> None:
    without("stable_baselines3", "ebatch_agents")
    refused(lambda: __import__("ebatch_agents").train, "ebatch_agents", "sb3", "stable_baselines3")
    file = tmp_path / "ppo-x.zip"
    file.touch()
    result = CliRunner().invoke(app, ["evaluate", "--env", TOY, "--policy", f"{file},trust=true"])
    assert result.exit_code == 2
    assert "the extra 'sb3'" in result.output
    assert result.output.count("\n") == 1


def test_pictures_tables_and_tuning(without: Callable[[str, str], None], tmp_path: Path) -> None:
    report = Report(evaluate(TOY, [STEADY], 2))
    without("matplotlib", "matplotlib")
    refused(lambda: report.write(tmp_path, {}), "a picture", "cli", "matplotlib")
    without("pyarrow", "pyarrow")
    refused(lambda: report.write(tmp_path, {}), "writing tables", "cli", "pyarrow")
    without("optuna", "optuna")
    refused(lambda: tune(TOY, [STEADY], 1, 1), "tuning", "cli", "optuna")
