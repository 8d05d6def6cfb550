"""What is decided where: counted right, on the states that either policy comes to."""

from __future__ import annotations

import numpy as np
import pytest

import ebatch_env
from ebatch_agents.scoreboard.learned import busy_edges, queue_edges, watch
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import EVALUATION_SEED
from tests.agents.conftest import TOY

SEEDS = range(EVALUATION_SEED, EVALUATION_SEED + 3)


def test_both_are_asked_on_the_union_of_their_states() -> None:
    system = ebatch_env.make_system(TOY)
    knobs = {"a": {"time_steps": 4}, "b": {"time_steps": 1}}
    policies = {name: make_policy("ebatch-fixed", system, None, values) for name, values in knobs.items()}
    found = watch(system, policies, SEEDS)
    decisions = sum(metrics.decisions for policy in policies.values() for metrics in play(system, policy, SEEDS))
    assert np.sum(found["states"]) == decisions
    for name, log2 in (("a", 2.0), ("b", 0.0)):
        mine = found["policies"][name]
        steps = np.array(mine["log2_steps"], dtype=float)
        assert set(steps[np.isfinite(steps)]) == {log2}
        assert np.array_equal(np.isfinite(steps), np.array(found["states"]) > 0)  # it never holds
        limited = np.array(mine["limited"], dtype=float)
        assert set(limited[np.isfinite(limited)]) == {0.0}  # it lets all in
        assert not np.isfinite(limited[0]).any()  # nobody waits, so nobody could enter
        assert not np.isfinite(limited[:, -1]).any()  # all lanes are busy
        for control, counts in mine["levels"].items():
            assert sum(counts) == decisions, control
        assert mine["levels"]["time_steps"][found["levels"]["time_steps"].index(str(2 ** int(log2)))] == decisions


def test_holding_runs_nothing_and_limits_are_counted() -> None:
    """One is admitted where two could enter; what is held is no round."""
    system = ebatch_env.make_system(TOY, load=3.0)
    policies = {"one": make_policy("constant", system, None, {"admit": 0.5, "joins": False, "time_steps": 16})}
    found = watch(system, policies, SEEDS)["policies"]["one"]
    limited = np.array(found["limited"], dtype=float)
    assert limited[2, 0] == 1.0  # two or three wait, no lane is busy: one is let in
    assert limited[1, 0] == 0.0  # one waits, and is let in
    lazy = make_policy("triton-sequence", system, TOY)
    seen = watch(system, {"lazy": lazy}, SEEDS)
    held = sum(metrics.holds for metrics in play(system, lazy, SEEDS))
    assert seen["policies"]["lazy"]["levels"]["admit"][0] >= held


@pytest.mark.parametrize("lanes", [1, 2, 7, 64, 100])
def test_bins_cover_everything(lanes: int) -> None:
    for edges, most in ((queue_edges(lanes), 10_000), (busy_edges(lanes), lanes)):
        assert edges[0] == 0
        assert (np.diff(edges) > 0).all()
        assert edges[-1] <= most
    assert busy_edges(lanes)[-1] == lanes
