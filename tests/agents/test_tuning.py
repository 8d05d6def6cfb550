"""Algorithms are tuned with the budget of schedulers: in decisions, on tuning episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("sb3_contrib")

from ebatch_agents.algorithms import ALGORITHMS, hyperparameters
from ebatch_agents.tuning import A2C, Learner
from ebatch_env.cli import app
from ebatch_env.scoring import tuning
from ebatch_env.scoring.policy import trainer
from ebatch_env.scoring.seeds import TUNING_SEED
from tests.agents.conftest import TOY


@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_every_algorithm_is_a_trainer_that_begins_with_its_own_hyperparameters(algo: str) -> None:
    found = trainer(algo)
    assert isinstance(found, Learner)
    usual = hyperparameters(algo, TOY)
    for knob in found.knobs:
        assert knob.check(knob.default) == {"horizon": usual.horizon, **usual.keywords}[knob.name]


def test_a_budget_of_decisions_is_kept_by_agents_and_schedulers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TRAINER_TRIALS", 3)
    budget = 6000
    agent, scheduler = tuning.tune(TOY, ["a2c", "padded"], episodes=2, decisions=budget, studies=tmp_path)
    assert (agent.trials, agent.seed) == (3, TUNING_SEED)
    assert 0.4 * budget < agent.decisions < 1.1 * budget  # whole rollouts, of 1024
    assert agent.cost <= agent.default_cost
    assert set(agent.knobs) == {knob.name for knob in A2C.knobs}
    assert budget <= scheduler.decisions < 1.05 * budget
    assert scheduler.trials > 20
    played: list[Any] = []
    monkeypatch.setattr(tuning, "_cost", lambda *arguments: played.append(arguments))
    again = tuning.tune(TOY, ["a2c", "padded"], episodes=2, decisions=budget, studies=tmp_path)
    assert again == [agent, scheduler]
    assert played == []


def test_a_budget_below_a_rollout_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decisions per trial must be >= 1138: one rollout, got 125"):
        tuning.tune(TOY, ["a2c"], episodes=2, decisions=1000)
    with pytest.raises(ValueError, match="decisions must be an integer >= 1, got 0"):
        tuning.tune(TOY, ["a2c"], decisions=0)


def test_the_command(tmp_path: Path) -> None:
    arguments = ["tune", "--env", TOY, "--policy", "a2c", "--decisions", "9600", "--episodes", "1"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "9,600 decisions per policy, seeds 2000000..2000000" in result.stdout
    stored = json.loads((tmp_path / "Toy-v0.json").read_text())["a2c"]
    assert stored["trials"] == 8
    assert 0 < stored["decisions"] <= 9600 * 1.1
