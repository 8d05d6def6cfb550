"""The best constant plan: every plan once, and the winner is that of trying them all."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from ebatch_baselines import plans as module
from ebatch_baselines.plans import distinct_plans, search
from ebatch_baselines.simple import Constant
from ebatch_env.scoring.jobs import build_system, system_keywords
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import TUNING_SEED
from ebatch_env.scoring.tuning import Tuned, tune

TOY, MACHINES = "ebatch/Toy-v0", "ebatch/Machines-v0"
DEFAULT = {knob.name: knob.default for knob in Constant.knobs}
EPISODES = 8
SEEDS = range(TUNING_SEED, TUNING_SEED + EPISODES)


def run(env_id: str = TOY, episodes: int = EPISODES, **changes: Any) -> Tuned:
    return search(env_id, {**system_keywords(env_id), **changes}, 3, episodes, TUNING_SEED)


def cost_of(system: Any, **knobs: Any) -> float:
    policy = make_policy("constant", system, knobs=knobs)
    return float(np.mean([np.inf if m.truncated else m.cost for m in play(system, policy, SEEDS)]))


def test_it_is_the_best_of_all() -> None:
    system = build_system(system_keywords(TOY))
    every = [
        {"time_steps": t, "longest": longest, "admit": admit, "joins": joins, "order": order, "shed": shed}
        for t, longest in [*((t, False) for t in (1, 2, 4, 8, 16)), (1, True)]
        for admit, joins, order, shed in product(
            (0.5, 1.0), (False, True), ("first-come", "shortest", "similar"), (False, True)
        )
    ]
    costs = [cost_of(system, **knobs) for knobs in every]
    found = run()
    assert found.cost == min(costs) < found.default_cost == cost_of(system)
    assert cost_of(system, **found.knobs) == found.cost
    assert (found.policy, found.trials, found.episodes) == ("constant", len(every) // 2, EPISODES)  # nothing to shed
    few, rest = -(-EPISODES // 4), 18
    assert found.decisions > few * found.trials + (EPISODES - few) * rest  # an episode takes several


def test_plans_that_do_the_same_count_once(toy: Any) -> None:
    system = toy()  # 8 lanes; T and admission in powers of two
    found = distinct_plans(system)
    assert found[0] == DEFAULT
    steps = int(system.actions.legal["time_steps"].sum())
    assert len(found) == steps * 4 * 2 * 3 * 2  # 1, 2, 4 lanes or all
    codec = system.actions
    actions = {tuple(codec.encode(Constant(system, **knobs).of(1))[0].tolist()) for knobs in found}
    assert len(actions) == len(found)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"deadline": None}, 4 * 2 * 3),
        ({"lengths_known": False}, 4 * 2 * 2),
        ({"controls": ["time_steps", "joins"]}, 2),
        ({"controls": ["time_steps", "joins"], "flat_actions": True}, 2),
        ({"admit_levels": [0, 3, None], "controls": ["time_steps", "admit"]}, 2),
        ({"network": "LDLRNN", "accelerator": {"name": "epur", "notifies": False}}, 4 * 3 * 2),
    ],
)
def test_only_what_the_scenario_offers(toy: Any, change: dict[str, Any], kinds: int) -> None:
    system = toy(**change)
    assert len(distinct_plans(system)) == kinds * int(system.actions.legal["time_steps"].sum())


def test_several_machines_share_the_knobs() -> None:
    keywords = {**system_keywords(MACHINES), "requests": 24}
    system = build_system(keywords)
    found = run(MACHINES, requests=24)
    assert found.cost == cost_of(system, **found.knobs)
    assert found.default_cost == cost_of(system)
    plans = distinct_plans(system)
    assert found.trials == len(plans)
    assert {plan["time_steps"] for plan in plans} >= {1, 2, 4, 8, 16, 32}  # 32 on TPU only
    rng = np.random.default_rng(0)
    assert found.cost <= min(cost_of(system, **plans[n]) for n in rng.integers(len(plans), size=12))


def test_the_default_is_kept_on_ties() -> None:
    one = run(requests=1, workload={"lengths": {"kind": "fixed", "length": 1}})  # one request: all plans cost the same
    assert one.knobs == DEFAULT
    assert one.cost == one.default_cost


def test_truncated_episodes_cost_infinitely_much() -> None:
    keywords = {**system_keywords(TOY), "max_decisions": 12}
    system = build_system(keywords)
    found = search(TOY, keywords, 1, EPISODES, TUNING_SEED)
    assert found.cost == cost_of(system, **found.knobs)
    assert cost_of(system, time_steps=1, admit=0.5) == np.inf


def test_tune_uses_it_whatever_the_budget() -> None:
    (found,) = tune(TOY, ["constant"], 5, EPISODES)
    assert found == run()
    assert tune(TOY, ["constant"], 5, EPISODES, decisions=10) == [found]


def test_more_finalists_change_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(episodes=4)
    monkeypatch.setattr(module, "FINALISTS", 1000)
    everything = run(episodes=4)
    assert (everything.knobs, everything.cost) == (found.knobs, found.cost)
    assert everything.decisions > found.decisions


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="^episodes must be "):
        run(episodes=0)
