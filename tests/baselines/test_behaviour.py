"""Each scheduler's rule, on observations written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebatch_baselines import Baseline
from ebatch_baselines.base import LONGEST, NO_LIMIT
from ebatch_baselines.batch_queue import Cap, Greedy
from ebatch_baselines.deadlines import ClipperAIMD, EarlyDrop, Lazy
from ebatch_baselines.ebatch import EBatch, EBatchFixed
from ebatch_baselines.iteration import Cellular, Continuous
from ebatch_baselines.padded import Buckets, Padded
from ebatch_baselines.simple import Constant, Random, Serial
from ebatch_baselines.triton import TritonSequence
from ebatch_env.costs import CostTable
from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.system import System
from ebatch_env.networks import Network
from ebatch_env.simulator.plan import Order


@pytest.fixture
def system(toy: Any) -> System:
    built: System = toy(admit_levels=[*range(8), None])
    return built


def see(system: System, **values: float) -> np.ndarray:
    """An observation with ``waiting`` and ``busy`` counts, the other fields as named; no deadline unless given."""
    waiting, busy = values.pop("waiting", 0), values.pop("busy", 0)
    given = {"oldest_slack": 1e12, "lanes_least_slack": 1e12, **values}
    return system.observations.write({"queue_length": waiting, "lanes_busy": busy / system.lanes, **given})


def plan(policy: Baseline, state: Any = None, **values: float) -> dict[str, int]:
    """What ``policy`` does when it sees `see`'s arguments."""
    action, _ = policy.predict(see(policy.system, **values), state)
    plans = policy.system.actions.decode(action[None])
    return {name: int(value[0]) for name, value in vars(plans).items()}


def test_serial_runs_one_at_a_time(system: System) -> None:
    policy = Serial(system)
    start = plan(policy, waiting=5)
    assert (start["admit"], start["time_steps"], start["joins"]) == (1, LONGEST, 0)
    assert plan(policy, waiting=5, busy=1)["admit"] == 0


def test_padded_waits_for_size_or_timeout(system: System) -> None:
    policy = Padded(system, size=0.5, timeout=1.0)
    reference = system.saturation.latency_s
    assert plan(policy, waiting=3, oldest_wait=0.9 * reference)["admit"] == 0
    assert plan(policy, waiting=3, oldest_wait=1.1 * reference)["admit"] == NO_LIMIT  # all three of them
    assert plan(policy, waiting=4)["admit"] == NO_LIMIT
    assert plan(policy, waiting=6)["admit"] == 4
    running = plan(policy, waiting=8, busy=2, oldest_wait=9 * reference)
    assert (running["admit"], running["joins"], running["time_steps"]) == (0, 0, LONGEST)


def test_buckets_admit_the_bucket_of_the_oldest(system: System) -> None:
    policy = Buckets(system, size=1.0, timeout=0.5, octiles=2)
    lengths = {"queue_mix_0": 3 / 6, "queue_mix_1": 1 / 6, "queue_mix_7": 2 / 6}
    wait = system.saturation.latency_s
    short = plan(policy, waiting=6, oldest_wait=wait, oldest_length=1, queue_steps=24, **lengths)
    assert (short["admit"], short["order"]) == (4, Order.SIMILAR)
    long = plan(policy, waiting=6, oldest_wait=wait, oldest_length=9, queue_steps=24, **lengths)
    assert long["admit"] == 2
    assert plan(policy, waiting=6, oldest_length=9, queue_steps=24, **lengths)["admit"] == 0


def test_triton_delays_a_start_below_the_utilization(system: System) -> None:
    policy = TritonSequence(system, slots=0.75, delay=0.5, utilization=0.5, chunk=2)
    assert plan(policy, waiting=2)["admit"] == 0
    assert plan(policy, waiting=2, oldest_wait=system.saturation.latency_s)["admit"] == NO_LIMIT
    assert plan(policy, waiting=3)["admit"] == NO_LIMIT
    full = plan(policy, waiting=5, busy=2)
    assert (full["admit"], full["time_steps"], full["joins"]) == (4, 2, 0)
    assert plan(policy, waiting=5, busy=6)["admit"] == 0


def test_continuous_tops_up_every_iteration(system: System) -> None:
    policy = Continuous(system, size=0.5)
    seen = plan(policy, waiting=5, busy=1)
    assert (seen["time_steps"], seen["admit"], seen["joins"]) == (1, 3, 0)
    assert plan(policy, waiting=5, busy=4)["admit"] == 0


@pytest.mark.parametrize(("steps", "offered"), [(1, 1), (2, 2), (3, 2), (4, 4), (5, 4)])
def test_cellular_submits_up_to_five_steps(system: System, steps: int, offered: int) -> None:
    seen = plan(Cellular(system, steps=steps), waiting=5, busy=1)
    assert (seen["time_steps"], seen["admit"], seen["joins"]) == (offered, NO_LIMIT, 0)


def test_ebatch_fixed_lets_everybody_join(system: System) -> None:
    seen = plan(EBatchFixed(system, time_steps=8, order="shortest"), waiting=5, busy=1)
    assert (seen["time_steps"], seen["admit"], seen["joins"]) == (8, NO_LIMIT, 1)
    assert (seen["order"], seen["shed"]) == (Order.SHORTEST, 0)


class Resident:
    """All weights on chip, no completion notifications."""

    name = "resident"

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        busy = np.arange(lanes + 1.0)[None]
        return CostTable(step_s=np.sign(busy), step_j=busy, notifies=False, max_time_steps=16)


class TestEBatch:
    FULL = {"waiting": 64, "busy": 8, "queue_steps": 320.0, "lanes_mean_left": 4.5, "lanes_most_left": 9.0}  # noqa: RUF012

    def steps(self, system: System, seen: dict[str, float] | None = None, **knobs: float) -> int:
        """T, with `LONGEST` as the machine's most."""
        chosen = plan(EBatch(system, **knobs), **(seen or self.FULL))["time_steps"]
        return system.table.max_time_steps if chosen == LONGEST else chosen

    def test_energy_asks_for_long_rounds(self, toy: Any) -> None:
        system = toy(objective={"energy": 1.0, "latency": 0.0, "miss": 0.0})
        assert self.steps(system) == system.table.max_time_steps

    def test_latency_asks_for_short_rounds(self, toy: Any) -> None:
        system = toy(network="LDLRNN", objective={"energy": 1.0, "latency": 1.0, "miss": 0.0})
        few = {"waiting": 0, "busy": 8, "lanes_mean_left": 9.0, "lanes_most_left": 9.0}
        weights = (0.01, 1.0, 100.0)
        chosen = [self.steps(system, few, latency_weight=w, lag=4.0) for w in weights]
        assert chosen == sorted(chosen, reverse=True)
        assert chosen[0] > chosen[-1]

    def test_padding_makes_no_round_longer_than_the_lanes(self, toy: Any) -> None:
        # Seven lanes end after 2 steps, one after 9: without notifications the rest of a long round is padding, and
        # with all weights on chip it saves nothing.
        system = toy(accelerator=Resident(), objective={"energy": 1.0, "latency": 0.0, "miss": 0.0})
        ends = {f"lanes_end_{1 << n}": 7 / 8 if n < 4 else 1.0 for n in range(1, 10)}
        chosen = self.steps(system, {"busy": 8, "lanes_mean_left": 23 / 8, "lanes_most_left": 9.0, **ends})
        assert chosen <= 2

    def test_a_long_queue_asks_for_throughput(self, toy: Any) -> None:
        system = toy(network="LDLRNN", objective={"energy": 0.0, "latency": 1.0, "miss": 0.0})
        lanes = {"busy": 8, "lanes_mean_left": 9.0, "lanes_most_left": 9.0}
        busy = self.steps(system, {**lanes, "waiting": 200, "queue_steps": 1000.0}, lag=4.0)
        calm = self.steps(system, {**lanes, "waiting": 0}, lag=4.0)
        assert busy > calm

    def test_hurries_before_a_deadline(self, toy: Any) -> None:
        system = toy(objective={"energy": 1.0, "latency": 0.0, "miss": 0.0})
        near = {**self.FULL, "lanes_least_slack": float(system.table.round_s(4, 8)) * 1.1}
        assert self.steps(system, near, hurry=1.0) <= 4
        assert self.steps(system, near) == self.steps(system, near, hurry=0.0) == system.table.max_time_steps


def test_early_drop_sheds_and_sizes_the_batch(toy: Any) -> None:
    system = toy(network="DeepSpeech2", accelerator="tpu", lanes=64, admit_levels=[*range(64), None])
    policy = EarlyDrop(system, time_steps=16)
    finish = policy.finish_s(np.array([9.0]))[0]
    assert finish[64] > finish[8]  # many lanes take longer, or there would be nothing to decide
    roomy = plan(policy, waiting=64, oldest_length=9.0, oldest_slack=float(finish[64]) * 1.01)
    assert (roomy["admit"], roomy["shed"], roomy["joins"]) == (NO_LIMIT, 1, 1)
    tight = plan(policy, waiting=64, oldest_length=9.0, oldest_slack=float(finish[8] + finish[64]) / 2)
    assert 8 <= tight["admit"] < 64
    assert plan(policy, waiting=64, oldest_length=9.0, oldest_slack=1e-9)["admit"] == 1


def test_early_drop_drops(toy: Any) -> None:
    dynamics = Dynamics(system := toy(load=3.0, deadline=1.0, requests=200), 1)
    dynamics.restart([0], [np.random.default_rng(0)])
    policy, over = EarlyDrop(system), False
    while not over:
        dynamics.step(policy.predict(dynamics.observation)[0])
        over = bool(dynamics.terminated[0])
    assert dynamics.metrics(0).shed > 20


def test_lazy_protects_the_slack_of_the_lanes(toy: Any) -> None:
    system = toy(network="DeepSpeech2", accelerator="tpu", lanes=64, admit_levels=[*range(64), None])
    policy = Lazy(system, time_steps=4)
    finish = policy.finish_s(np.array([9.0]))[0]
    lanes = {"busy": 8, "waiting": 56, "lanes_most_left": 9.0, "lanes_mean_left": 9.0, "oldest_length": 9.0}
    assert plan(policy, **lanes)["admit"] == NO_LIMIT
    assert plan(policy, **lanes, lanes_least_slack=float(finish[64]) * 1.01)["admit"] == NO_LIMIT
    assert plan(policy, **lanes, lanes_least_slack=float(finish[8]) * 1.0001)["admit"] < 56
    # What is late whatever happens protects nobody.
    assert plan(policy, **lanes, lanes_least_slack=float(finish[8]) * 0.5)["admit"] == NO_LIMIT


def test_clipper_learns_the_size(system: System) -> None:
    policy = ClipperAIMD(system, increase=2, decrease=0.5, target=0.5)
    limit_s = 0.5 * system.deadline_s  # type: ignore[operator]
    idle = {"waiting": 8}
    _, state = policy.predict(see(system, **idle))
    assert plan(policy, **idle)["admit"] == 1
    quick = {**idle, "last_duration": 0.5 * limit_s}
    assert plan(policy, state, **quick)["admit"] == 3
    _, state = policy.predict(see(system, **quick), state)
    # Two rounds of a batch add up to more than the target.
    _, state = policy.predict(see(system, waiting=8, busy=3, last_duration=0.7 * limit_s), state)
    assert plan(policy, state, waiting=8, last_duration=0.7 * limit_s)["admit"] == 1
    started = np.array([True])
    again, _ = policy.predict(see(system, **quick)[None], state, started)
    assert system.actions.decode(again).admit[0] == 1


def test_greedy_takes_everybody(system: System) -> None:
    seen = plan(Greedy(system), waiting=3)
    assert (seen["admit"], seen["joins"], seen["time_steps"]) == (NO_LIMIT, 0, LONGEST)


def test_cap_waits_and_caps(system: System) -> None:
    policy = Cap(system, cap=4, wait_for=3)
    assert plan(policy, waiting=2)["admit"] == 0
    assert plan(policy, waiting=3)["admit"] == NO_LIMIT
    assert plan(policy, waiting=7)["admit"] == 4
    assert plan(policy, waiting=7, busy=1)["admit"] == 0


def test_constant_is_its_knobs(system: System) -> None:
    policy = Constant(system, time_steps=8, admit=0.5, joins=False, order="similar", shed=True)
    assert plan(policy, waiting=1) == {"time_steps": 8, "admit": 4, "joins": 0, "order": 2, "shed": 1}
    assert plan(Constant(system, longest=True), waiting=1)["time_steps"] == LONGEST


def test_random_covers_the_legal_levels_evenly(system: System) -> None:
    policy = Random(system, seed=3)
    rows = np.stack([see(system, waiting=n) for n in range(3000)])
    actions, state = policy.predict(rows)
    for column, control in enumerate(system.actions.controls):
        legal = system.actions.legal[control]
        counts = np.bincount(actions[:, column], minlength=legal.size)
        assert (counts[~legal] == 0).all()
        expected = 3000 / legal.sum()
        assert np.abs(counts[legal] - expected).max() < 5 * np.sqrt(expected)
    assert (policy.predict(rows)[0] == actions).all()
    assert (policy.predict(rows, state)[0] != actions).any()
    assert (Random(system, seed=4).predict(rows)[0] != actions).any()
