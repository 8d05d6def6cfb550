"""Tuning: equal budgets, the default first, and the same outcome after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ebatch_env.scoring import seeds, tuning
from ebatch_env.scoring.runner import evaluate
from ebatch_env.scoring.tuning import Tuned, store, tune
from tests.scoring.policies import ALTERNATING, HERE, STEADY

TOY = "ebatch/Toy-v0"
EXCLUSIVE = f"{HERE}:Exclusive"


def test_it_finds_knobs_at_least_as_good_as_the_default() -> None:
    (found,) = tune(TOY, [STEADY], 12, 3)
    assert found.cost < found.default_cost
    assert set(found.knobs) == {"time_steps", "joins"}
    assert (found.trials, found.episodes, found.seed) == (12, 3, seeds.TUNING_SEED)
    knobs = ",".join(f"{name}={value}" for name, value in found.knobs.items())
    costs = [record.cost for record in evaluate(TOY, [f"{STEADY},{knobs}"], 3, seeds.TUNING_SEED)]
    assert sum(costs) / 3 == pytest.approx(found.cost, rel=1e-12)
    default = [record.cost for record in evaluate(TOY, [STEADY], 3, seeds.TUNING_SEED)]
    assert sum(default) / 3 == pytest.approx(found.default_cost, rel=1e-12)


def test_one_trial_is_the_default() -> None:
    (found,) = tune(TOY, [STEADY], 1, 2)
    assert found.knobs == {"time_steps": 1, "joins": False}
    assert found.cost == found.default_cost


def test_knobs_that_leave_work_undone_are_never_the_best() -> None:
    """The budget of decisions is too small for the default, T = 1, and not for longer rounds."""
    (found,) = tune(TOY, [STEADY], 12, 2, overrides={"max_decisions": 16})
    assert found.default_cost == float("inf")
    assert found.cost < float("inf")
    assert found.knobs["time_steps"] > 1


def test_a_budget_of_decisions_takes_the_place_of_trials() -> None:
    (few,) = tune(TOY, [STEADY], 3, 2)
    assert few.decisions > 0
    (more,) = tune(TOY, [STEADY], 3, 2, decisions=2 * few.decisions)
    assert more.trials > 3
    assert 2 * few.decisions <= more.decisions < 2 * few.decisions + 500
    (one,) = tune(TOY, [STEADY], 3, 2, decisions=1)
    assert one.trials == 1


def test_knobs_that_exclude_each_other_use_up_trials_only() -> None:
    (found,) = tune(TOY, [EXCLUSIVE], 15, 2)
    assert found.cost <= found.default_cost
    assert not (found.knobs["joins"] and found.knobs["time_steps"] > 8)


def test_an_interrupted_search_goes_on_with_the_same_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tune(TOY, [STEADY], 14, 2)
    real, calls = tuning.play, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(tuning, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(TOY, [STEADY], 14, 2, studies=tmp_path)
    assert tune(TOY, [STEADY], 14, 2, studies=tmp_path) == expected
    played = len(calls)
    assert tune(TOY, [STEADY], 14, 2, studies=tmp_path) == expected
    assert len(calls) == played
    assert tune(TOY, [STEADY], 5, 2, studies=tmp_path) == tune(TOY, [STEADY], 5, 2)


@pytest.mark.slow
def test_same_for_any_number_of_processes() -> None:
    assert tune(TOY, [STEADY, EXCLUSIVE], 4, 2, processes=2) == tune(TOY, [STEADY, EXCLUSIVE], 4, 2)


def test_policies_without_knobs_are_left_out_or_refused() -> None:
    skipped: list[str] = []
    found = tune(TOY, [ALTERNATING, STEADY], 1, 1, on_skip=lambda env, policy, error: skipped.append(policy))
    assert [result.policy for result in found] == [STEADY]
    assert skipped == [ALTERNATING]
    with pytest.raises(ValueError, match="policy must be one with knobs to tune"):
        tune(TOY, [ALTERNATING], 1, 1)
    with pytest.raises(ValueError, match="such that one at least has knobs"):
        tune(TOY, [ALTERNATING], 1, 1, on_skip=lambda *_: None)


@pytest.mark.parametrize(
    ("change", "message"), [({"trials": 0}, "trials"), ({"episodes": -1}, "episodes"), ({"seed": -1}, "seed")]
)
def test_bad_input_is_named(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message} must be an integer"):
        tune(TOY, [STEADY], **{"trials": 1, "episodes": 1, **change})


def test_results_are_stored_by_environment_and_kept_by_policy(tmp_path: Path) -> None:
    first = Tuned(TOY, "b", {"size": 0.5}, 1.0, 2.0, 4, 3, 7, 40)
    other = Tuned("ebatch/Queue-v0", "b", {"size": 0.25}, 1.0, 2.0, 4, 3, 7, 40)
    assert [path.name for path in store([first, other], tmp_path)] == ["Toy-v0.json", "Queue-v0.json"]
    store([Tuned(TOY, "a", {"mode": "x"}, 3.0, 3.0, 4, 3, 7)], tmp_path)
    content = json.loads((tmp_path / "Toy-v0.json").read_text())
    assert list(content) == ["a", "b"]
    expected = {
        "knobs": {"size": 0.5},
        "cost": 1.0,
        "default_cost": 2.0,
        "trials": 4,
        "episodes": 3,
        "seed": 7,
        "decisions": 40,
    }
    assert content["b"] == expected
    (tmp_path / "Toy-v0.json").write_text("[]")
    with pytest.raises(ValueError, match=r"Toy-v0.json must be a file with a JSON object"):
        store([first], tmp_path)
