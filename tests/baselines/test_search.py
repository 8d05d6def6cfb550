"""The search: the default first, the same outcome however it is cut up, and knobs that score what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ebatch_baselines import candidates
from ebatch_baselines import search as module
from ebatch_baselines.base import LONGEST, NO_LIMIT
from ebatch_baselines.linear import REACH, STARTS, Linear
from ebatch_baselines.search import costs_of, search
from ebatch_env.cli import app
from ebatch_env.scoring.jobs import PolicySpec, build_system, system_keywords
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import TUNING_SEED
from ebatch_env.scoring.tuning import Tuned, own_search, tune
from ebatch_env.simulator.plan import Order

TOY = "ebatch/Toy-v0"
SEEDS = range(TUNING_SEED, TUNING_SEED + 3)


def run(count: int, **options: Any) -> Tuned:
    return search(TOY, system_keywords(TOY), count, 3, TUNING_SEED, **{"population": 6, **options})


def test_it_finds_weights_better_than_the_default() -> None:
    found = run(31)
    assert found.cost < found.default_cost
    assert (found.policy, found.trials, found.episodes, found.seed) == ("linear", 31, 3, TUNING_SEED)
    system = build_system(system_keywords(TOY))
    played = play(system, PolicySpec("linear", "linear", found.knobs).make(system, TOY), SEEDS)
    assert np.mean([metrics.cost for metrics in played]) == found.cost
    default = play(system, Linear(system), SEEDS)
    assert np.mean([metrics.cost for metrics in default]) == found.default_cost
    assert run(31) == found
    assert run(1).cost == found.default_cost
    assert run(15, sigma=0.1) != run(15)


def test_it_begins_with_the_starts_and_goes_on_from_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = np.array([Linear.weights_of(knobs) for knobs in STARTS.values()])
    assert np.unique(starts, axis=0).shape == starts.shape == (len(STARTS), len(Linear.knobs))
    assert starts[0].tolist() == [knob.default for knob in Linear.knobs]
    assert (np.abs(starts) < REACH + 1e-9).all()
    worst = starts[3]  # made the best here

    def costs(system: Any, asked: Any, seeds: Any) -> list[tuple[float, int]]:
        told.append(asked)
        return [(float(np.abs(row - worst).sum()), 1) for row in asked]

    told: list[Any] = []
    monkeypatch.setattr(module, "costs_of", costs)
    found = run(len(STARTS) + 6)
    assert (told[0] == starts).all()
    away = [np.linalg.norm(told[1].mean(axis=0) - start) for start in starts]
    assert int(np.argmin(away)) == 3
    assert found.cost == 0.0
    assert list(found.knobs.values()) == worst.tolist()
    assert found.default_cost == np.abs(starts[0] - worst).sum()


def test_new_strategies_begin_at_the_best_and_at_other_starts_by_turns() -> None:
    starts = [
        (np.array([float(n)]), cost) for n, cost in enumerate([5.0, 3.0, 4.0, 9.0, 8.0, 7.0, 6.0, 9.5, 9.9, 9.6, 9.7])
    ]
    assert len(starts) == len(STARTS)
    found = [*starts, (np.array([77.0]), 1.0)]
    assert [float(module._start(found, n)[0]) for n in range(6)] == [77.0, 2.0, 77.0, 0.0, 77.0, 6.0]
    assert float(module._start(starts, 0)[0]) == 1.0


def test_what_the_starts_say(toy: Any) -> None:
    system = toy()
    family = {name: Linear(system, **knobs) for name, knobs in STARTS.items()}

    def plan(name: str, **seen: float) -> dict[str, int]:
        action, _ = family[name].predict(system.observations.write(seen))
        return {key: int(value[0]) for key, value in vars(system.actions.decode(action[None])).items()}

    many = {"queue_length": 50.0, "oldest_wait": 0.0}
    quarter = plan("least T, a quarter of the lanes, shortest first", **many)
    assert (quarter["admit"], quarter["order"]) == (2, Order.SHORTEST)
    half = plan("least T, half of the lanes", **many)
    assert (half["time_steps"], half["admit"], half["joins"]) == (1, 4, 0)
    complete = plan("to completion", **many)
    assert (complete["time_steps"], complete["admit"], complete["joins"]) == (LONGEST, NO_LIMIT, 0)
    patient = "to completion, once many wait or one has waited"
    assert plan(patient, queue_length=1.0)["admit"] == 0
    assert (
        plan(patient, **many)
        == plan(patient, queue_length=1.0, oldest_wait=9 * system.saturation.latency_s)
        == complete
    )
    first = plan("least T, shortest first", **many)
    assert (first["time_steps"], first["order"], first["shed"]) == (1, Order.SHORTEST, 1)
    assert plan("E-BATCH, T in the middle", **many)["joins"] == 1
    for waits, steps in (("long T", 16), ("least T", 1)):
        name = f"{waits}, once many wait or slack runs out"
        early = {"oldest_slack": 9 * system.saturation.latency_s}
        assert plan(name, queue_length=1.0, **early)["admit"] == 0
        started = plan(name, **many, **early)
        assert (started["time_steps"], started["admit"], started["joins"]) == (steps, NO_LIMIT, 1)
        assert started == plan(name, queue_length=1.0, oldest_slack=0.0)


def test_side_by_side_is_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    system = build_system(system_keywords(TOY))
    weights = np.random.default_rng(0).uniform(-4, 4, (25, len(Linear.knobs)))
    together = costs_of(system, weights, SEEDS)
    assert len({cost for cost, _ in together}) > 10
    assert together[7:9] == [costs_of(system, weights[n : n + 1], SEEDS)[0] for n in (7, 8)]
    monkeypatch.setattr(candidates, "REQUESTS_AT_ONCE", 7 * system.requests)  # blocks that end within a candidate
    assert costs_of(system, weights, SEEDS) == together


def test_several_machines_are_searched_together() -> None:
    system = build_system({**system_keywords("ebatch/Machines-v0"), "requests": 24})
    weights = np.random.default_rng(1).uniform(-4, 4, (3, len(Linear.knobs)))
    names = [knob.name for knob in Linear.knobs]
    for row, (cost, _) in zip(weights, costs_of(system, weights, SEEDS), strict=True):
        alone = PolicySpec("linear", "linear", dict(zip(names, row.tolist(), strict=True))).make(system, "none")
        assert np.mean([metrics.cost for metrics in play(system, alone, SEEDS)]) == cost


def test_an_interrupted_search_goes_on_with_the_same_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(37)
    real, calls = module.costs_of, []

    def interrupted(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(module, "costs_of", interrupted)
    log = tmp_path / "studies" / "log.json"
    with pytest.raises(KeyboardInterrupt):
        run(37, log=log)
    assert [len(entry["costs"]) for entry in json.loads(log.read_text())] == [len(STARTS), 6, 6]
    assert run(37, log=log) == expected
    played = len(calls)
    assert played == 4 + 3  # the interrupted one and the two behind it, the last of two candidates
    assert run(37, log=log) == expected
    shorter = run(23, log=log)
    assert len(calls) == played
    assert shorter == run(23)
    played = len(calls)
    further = run(44, log=log)
    assert [len(args[1]) for args in calls[played:]] == [4, 3]  # what is left of a generation, no more
    assert further == run(44)
    log.write_text(log.read_text()[:-20])
    assert run(37, log=log) == expected
    assert run(22, log=log, sigma=1.0) == run(22, sigma=1.0)  # other candidates: nothing of it counts


def test_truncated_episodes_cost_infinitely_much() -> None:
    keywords = {**system_keywords(TOY), "max_decisions": 12}
    found = search(TOY, keywords, 31, 3, TUNING_SEED, population=6)
    assert found.default_cost == float("inf") or found.cost < float("inf")
    system = build_system(keywords)
    ends = [metrics.truncated for metrics in play(system, Linear(system), SEEDS)]
    assert (found.default_cost == float("inf")) == any(ends)


def test_a_converged_search_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import cmaes

    starts = np.array([Linear.weights_of(knobs) for knobs in STARTS.values()])
    asked: list[Any] = []

    def costs(system: Any, candidates: Any, seeds: Any) -> list[tuple[float, int]]:
        asked.append(candidates)
        distances = np.abs(candidates[:, None] - starts[None, [3, 4]]).sum(axis=-1)
        return [(float(row.min() + 0.1 * row[1]), 1) for row in distances]  # number 4 is the best, number 3 the next

    stops = iter([False, True, False, True, False])
    monkeypatch.setattr(module, "costs_of", costs)
    monkeypatch.setattr(cmaes.CMA, "should_stop", lambda self: next(stops))
    assert run(len(STARTS) + 5 * 6).trials == len(STARTS) + 5 * 6
    nearest = [int(np.argmin(np.linalg.norm(rows.mean(axis=0) - starts, axis=1))) for rows in asked[1:]]
    assert nearest == [4, 4, 3, 3, 4]


def test_tune_takes_the_search_of_the_policy(tmp_path: Path) -> None:
    assert own_search("linear") is not None
    assert own_search("ebatch") is None
    assert own_search("no such") is None
    (found,) = tune(TOY, ["linear"], 20, 3, studies=tmp_path)
    assert found == search(TOY, system_keywords(TOY), 20, 3, TUNING_SEED)
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    (short,) = tune(TOY, ["linear"], 1, 3, decisions=found.decisions // 2)
    assert found.decisions // 2 <= short.decisions < found.decisions * 2


@pytest.mark.slow
def test_same_for_any_number_of_processes() -> None:
    assert tune(TOY, ["linear", "cap"], 34, 2, processes=2) == tune(TOY, ["linear", "cap"], 34, 2)


def test_tune_leaves_it_out_unless_it_is_named(tmp_path: Path) -> None:
    command = ["tune", "--env", TOY, "--trials", "1", "--episodes", "1", "--out", str(tmp_path)]
    everything = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)[TOY]
    assert "linear" not in everything
    assert "constant" in everything
    told = CliRunner().invoke(app, [*command, "--policy", "linear"]).stdout
    assert "105 knobs" in told
    assert len(json.loads((tmp_path / "Toy-v0.json").read_text())["linear"]["knobs"]) == 105


@pytest.mark.parametrize(
    ("change", "message"), [({"population": 1}, "population"), ({"sigma": 0.0}, "sigma"), ({"sigma": 9.0}, "sigma")]
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message} must be "):
        run(5, **change)
    with pytest.raises(ValueError, match="^candidates must be "):
        run(0)
