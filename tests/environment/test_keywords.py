"""Tables that machines return, the reference machine, and the default of ``max_decisions``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from ebatch_env import CostTable, Network, RequestTrace, make_system
from ebatch_env.environment.actions import Plans
from ebatch_env.environment.env import EBatchEnv
from ebatch_env.environment.keywords import MAX_HOLDS, max_decisions_for
from ebatch_env.environment.system import System

BOTH_WAYS = Network.stack("both-ways", "gru", 1, 16, directions=2)
SHORT = {"lengths": {"kind": "uniform", "low": 2, "high": 9}}


@dataclass(frozen=True)
class Given:
    """A machine that returns what it was given."""

    table: Any
    name: str = "given"

    def cost_table(self, network: Network, lanes: int) -> Any:
        return self.table


def flat(layers: int, lanes: int, **changes: Any) -> CostTable:
    busy = np.arange(lanes + 1.0)
    return CostTable(
        **{"step_s": np.tile(busy > 0, (layers, 1)), "step_j": np.tile(busy, (layers, 1)), "load_s": [2.0] * layers}
        | changes
    )


@pytest.mark.parametrize(
    "machine", ["epur", "tpu", {"name": "toy", "max_time_steps": 64}, Given(flat(1, 4))], ids=lambda m: str(m)[:12]
)
def test_a_bidirectional_network_runs_whole_sequences_on_every_machine(machine: Any) -> None:
    env = EBatchEnv(network=BOTH_WAYS, accelerator=machine, lanes=4, workload=SHORT, requests=12)
    system = env.system
    assert system.table.whole_sequences
    assert system.saturation.time_steps == 0  # "longest": the yardstick itself runs whole sequences
    assert not system.saturation.joins
    assert system.observations.read(system.constants, "whole_sequences") == 1.0
    _, info = env.reset(seed=1)
    assert info["action_mask"][0].sum() == 1
    over = False
    while not over:  # T = 1 and joins, both illegal, have the nearest legal effect
        *_, over, _, info = env.step([0, system.actions.levels["admit"].size - 1, 1, 0, 0])
        assert not env.dynamics.systems.lanes[0, 1].any()


def test_the_batch_server_cannot_run_whole_sequences_of_more_than_its_one_step() -> None:
    with pytest.raises(ValueError, match=r"length must be an integer in 1\.\.1 on 'batch-server"):
        System.build(network=BOTH_WAYS, accelerator="batch-server", lanes=4, workload=SHORT)
    ones = {"lengths": {"kind": "fixed", "length": 1}}
    assert System.build(network=BOTH_WAYS, accelerator="batch-server", lanes=4, workload=ones).table.whole_sequences


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("fast", "the cost_table of accelerator 'given' must be a CostTable, got 'fast'"),
        (None, "must be a CostTable, got None"),
        (flat(2, 4), "layers of the cost_table of accelerator 'given' must be 1, those of network 'Toy', got 2"),
        (flat(1, 3), "lanes of the cost_table of accelerator 'given' must be at least 4, .*, got 3"),
    ],
)
def test_tables_of_machines_are_checked(table: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        System.build(network="Toy", accelerator=Given(table), lanes=4, workload=SHORT)


def test_a_table_of_more_lanes_will_do() -> None:
    systems = [System.build(network="Toy", accelerator=Given(flat(1, n)), lanes=4, workload=SHORT) for n in (4, 9)]
    assert systems[0].saturation == systems[1].saturation


def test_the_reference_machine_sets_what_everything_is_relative_to() -> None:
    own, plain = make_system("ebatch/EPUR-Translation-v0"), {"accelerator": "epur-baseline"}
    alone = make_system("ebatch/EPUR-Translation-v0", **plain)
    beside = make_system("ebatch/EPUR-Translation-v0", **plain, reference_accelerator="epur")
    assert alone.saturation != own.saturation
    assert beside.saturation == own.saturation
    assert (beside.deadline_s, beside.hold_s) == (own.deadline_s, own.hold_s)
    assert beside.cost_per_unit().tolist() == own.cost_per_unit().tolist()
    assert not beside.table.notifies
    first, second = (s.sample_trace(np.random.default_rng(3)) for s in (own, beside))
    assert np.array_equal(first.arrival_s, second.arrival_s)
    assert np.array_equal(first.deadline_s, second.deadline_s)
    assert not np.array_equal(first.arrival_s, alone.sample_trace(np.random.default_rng(3)).arrival_s)


def test_a_reference_of_half_the_speed_halves_the_rate() -> None:
    table = flat(1, 4)
    slow = replace(table, step_s=2 * table.step_s, load_s=2 * table.load_s)
    system = System.build(
        network="Toy", accelerator=Given(table), reference_accelerator=Given(slow), lanes=4, workload=SHORT, load=0.5
    )
    own = System.build(network="Toy", accelerator=Given(table), lanes=4, workload=SHORT, load=0.25)
    assert system.saturation.throughput_rps == own.saturation.throughput_rps / 2
    first, second = (s.sample_trace(np.random.default_rng(3)) for s in (system, own))
    assert np.array_equal(first.arrival_s, second.arrival_s)


def test_times_that_float64_cannot_add_are_refused() -> None:
    fast = Given(flat(1, 4, step_s=[[0, 1e-6, 1e-6, 1e-6, 1e-6]], load_s=[0.0]))
    env = EBatchEnv(network="Toy", accelerator=fast, lanes=4, workload=SHORT)
    env.reset(options={"trace": RequestTrace([1e8], [3])})
    with pytest.raises(
        ValueError, match=r"arrival_s must be at most 2\.8\de\+08 s on 'machine', whose steps take 1e-06 s"
    ):
        env.reset(options={"trace": RequestTrace([1e9], [3])})

    class Late:
        lengths = env.system.workload.lengths

        def sample(self, rng: Any, requests: int, rate_rps: float, deadline_s: float | None = None) -> RequestTrace:
            return RequestTrace([1e9], [3])

    with pytest.raises(ValueError, match="arrival_s must be at most"):
        EBatchEnv(network="Toy", accelerator=fast, lanes=4, workload=Late(), requests=1).reset(seed=0)


def test_default_max_decisions_by_hand() -> None:
    assert max_decisions_for(10, 7, 0.0) == 10 * (7 + 1 + 128)
    assert max_decisions_for(10, 7, 100.25) == 10 * (7 + 1 + 128) + 201
    assert max_decisions_for(10, 7, 1e12) == 10 * (7 + 1 + 128) + MAX_HOLDS


@pytest.mark.parametrize("shed", [False, True])
def test_no_policy_that_keeps_admitting_is_truncated(shed: bool) -> None:
    """One long utterance after another at T = 1, with all of the other lanes idle: as many decisions as it can take."""
    lengths = {"kind": "table", "lengths": [1, 500], "weights": [0.999, 0.001]}  # the mean is 1.5
    env = EBatchEnv(
        network="Toy", accelerator="toy", lanes=2, workload={"lengths": lengths}, load=1e-4, requests=6, deadline=3.0
    )
    trace = RequestTrace(np.arange(6) * 1e5, [500] * 6, np.arange(6) * 1e5 + 1e9)
    env.reset(options={"trace": trace})
    action = env.system.actions.encode(Plans.of(1, time_steps=1, admit=1, shed=shed))[0]
    over, truncated, decisions = False, False, 0
    while not (over or truncated):
        *_, over, truncated, _ = env.step(action)
        decisions += 1
    assert over
    assert decisions == 6 * 500 > 4 * 6 * (1.5 + 16)  # more than a bound from the mean length would allow


def test_a_policy_that_waits_for_timeouts_is_not_truncated_however_slow_the_trace() -> None:
    """Recorded arrivals far slower than the load says, and 100 holds before each of them is served."""
    env = EBatchEnv(
        network="Toy", accelerator="toy", lanes=2, workload={"lengths": {"kind": "fixed", "length": 1}}, requests=30
    )
    env.reset(options={"trace": RequestTrace(np.arange(30) * 1e6, [1] * 30)})
    serve, hold = (env.system.actions.encode(Plans.of(1, time_steps=1, admit=n))[0] for n in (1, 0))
    over, truncated, decisions = False, False, 0
    while not (over or truncated):
        decisions += 1
        *_, over, truncated, _ = env.step(hold if decisions % 101 else serve)
    assert over
    assert decisions > 29 * 101


def test_a_policy_that_never_admits_ends() -> None:
    for hold in (0.1, 1e-9):
        env = EBatchEnv(network="Toy", accelerator="toy", lanes=2, workload=SHORT, load=0.5, requests=40, hold=hold)
        env.reset(seed=0)
        dynamics, over = env.dynamics, False
        actions = np.zeros((1, 5), np.int64)
        while not over:
            dynamics.step(actions)
            over = bool(dynamics.terminated[0] | dynamics.truncated[0])
        metrics = dynamics.metrics(0)
        assert metrics.truncated == (hold < 1e-3)
        assert metrics.decisions <= 40 * (9 + 1 + 128) + MAX_HOLDS
