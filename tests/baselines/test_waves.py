"""Full waves: where a machine's stairs end, and the plans that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebatch_baselines.base import NO_LIMIT
from ebatch_baselines.waves import FullWaves, whole_waves
from ebatch_env import make_system
from ebatch_env.costs import CostTable
from ebatch_env.environment.system import System
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import TUNING_SEED
from ebatch_env.simulator.plan import Order

BURSTS = "ebatch/EPUR-Translation-v0"


def stairs(width: int, load_s: float, lanes: int = 6) -> CostTable:
    """A step takes a second for every ``width`` lanes begun."""
    seconds = np.ceil(np.arange(lanes + 1) / width)[None]
    return CostTable(step_s=seconds, step_j=seconds, load_s=np.array([load_s]), max_time_steps=16)


# Seconds a lane, by hand: rounds take load_s + T * ceil(lanes / width).
@pytest.mark.parametrize(
    ("width", "load_s", "time_steps", "tolerance", "expected"),
    [
        (2, 0.0, 1, 0.0, [0, 1, 2, 2, 2, 2, 2]),  # 1, 1/2, 2/3, 1/2, 3/5, 1/2: of equals the smallest
        (2, 1.0, 1, 0.0, [0, 1, 2, 3, 4, 4, 6]),  # 2, 1, 1, 3/4, 4/5, 2/3: no edge at 2 yet
        (2, 1.0, 1, 0.2, [0, 1, 2, 3, 4, 4, 4]),  # 3/4 is within 1.2 * 2/3
        (2, 1.0, 10, 0.0, [0, 1, 2, 2, 4, 4, 6]),  # 11, 5.5, 7, 5.25, 6.2, 5.17
        (2, 1.0, 10, 0.1, [0, 1, 2, 2, 2, 2, 2]),
        (6, 0.0, 4, 0.5, [0, 1, 2, 3, 4, 5, 6]),  # one stair: always all
        (1, 1.0, 4, 0.0, [0, 1, 2, 3, 4, 5, 6]),  # a slope that starts above 0 as well
    ],
)
def test_waves_by_hand(width: int, load_s: float, time_steps: int, tolerance: float, expected: list[int]) -> None:
    assert whole_waves(stairs(width, load_s), time_steps, tolerance).tolist() == expected


def plan(policy: FullWaves, **values: float) -> dict[str, int]:
    system = policy.system
    waiting, busy = values.pop("waiting", 0), values.pop("busy", 0)
    seen = {"queue_length": waiting, "lanes_busy": busy / system.lanes, "oldest_slack": 1e12, **values}
    action, _ = policy.predict(system.observations.write(seen))
    return {name: int(value[0]) for name, value in vars(system.actions.decode(action[None])).items()}


@pytest.fixture(scope="module")
def epur() -> System:
    return make_system(BURSTS).machines[0]


class TestOnEPUR:
    """64 lanes; with 33 a step takes as long as with 64."""

    OPEN = (NO_LIMIT, 1)
    CLOSED = (0, 0)

    @staticmethod
    def entry(policy: FullWaves, **values: float) -> tuple[int, int]:
        found = plan(policy, **values)
        return found["admit"], found["joins"]

    def test_a_wave_at_most_starts_closed(self, epur: System) -> None:
        policy = FullWaves(epur)
        start = plan(policy, waiting=40)
        assert start == {"time_steps": 16, "admit": 32, "joins": 0, "order": Order.SHORTEST, "shed": 1}
        assert self.entry(policy, waiting=500) == (32, 0)
        assert self.entry(policy, waiting=32) == self.entry(policy, waiting=0) == self.OPEN

    def test_what_runs_is_open_until_the_oldest_is_pressed(self, epur: System) -> None:
        policy, reference = FullWaves(epur, drain=2.0), epur.saturation.latency_s
        assert self.entry(policy, waiting=100, busy=20, oldest_slack=2.1 * reference) == self.OPEN
        assert self.entry(policy, waiting=100, busy=20, oldest_slack=1.9 * reference) == self.CLOSED
        assert self.entry(policy, waiting=3, busy=20, oldest_slack=1.9 * reference) == self.CLOSED
        assert self.entry(policy, waiting=100, oldest_slack=1.9 * reference) == (32, 0)
        never = FullWaves(epur, drain=0.0)
        assert self.entry(never, waiting=100, busy=20, oldest_slack=-reference) == self.OPEN

    def test_without_joins_lanes_are_filled_up_to_the_edge(self, epur: System) -> None:
        policy = FullWaves(epur, joins=False)
        assert self.entry(policy, waiting=100, busy=24) == (8, 0)
        assert self.entry(policy, waiting=100, busy=40) == (0, 0)
        assert self.entry(policy, waiting=8, busy=24) == (NO_LIMIT, 0)

    def test_tolerance_trades_throughput_for_short_rounds(self, epur: System) -> None:
        exact = FullWaves(epur, tolerance=0.0)
        assert self.entry(exact, waiting=40) == (32, 0)
        assert self.entry(exact, waiting=64) == self.OPEN  # 64 lanes share a load that 32 pay alone
        assert self.entry(FullWaves(epur, tolerance=0.1), waiting=64) == (32, 0)

    def test_the_edge_is_that_of_the_steps(self, epur: System) -> None:
        # With T = 1 the loads weigh so much that all 64 lanes are far cheaper than 32.
        assert self.entry(FullWaves(epur, time_steps=1), waiting=64) == self.OPEN

    def test_the_queue_is_served_as_the_knobs_say(self, epur: System) -> None:
        found = plan(FullWaves(epur, order="similar", shed=False), waiting=40)
        assert (found["order"], found["shed"]) == (Order.SIMILAR, 0)


def test_a_machine_without_stairs_fills_up(scenario_system: Any) -> None:
    policy = FullWaves(scenario_system("ebatch/TPU-Translation-v0", 16))
    for waiting in (1, 33, 63, 64):
        assert plan(policy, waiting=waiting)["admit"] == NO_LIMIT
    more = plan(policy, waiting=200)
    assert (more["admit"], more["joins"]) == (NO_LIMIT, 0)  # all lanes, and closed


def test_it_is_the_rule_that_pays_in_bursts() -> None:
    system = make_system(BURSTS)
    seeds = range(TUNING_SEED, TUNING_SEED + 8)
    costs = {
        name: np.mean([metrics.cost for metrics in play(system, make_policy(name, system, knobs=knobs), seeds)])
        for name, knobs in {"full-waves": {}, "ebatch-fixed": {"order": "shortest", "shed": True}}.items()
    }
    assert costs["full-waves"] < 0.93 * costs["ebatch-fixed"]
