"""The yardstick: throughput, energy and latency of the saturated machine."""

import numpy as np
import pytest

from ebatch_env import CostTable, RequestTrace, RoundPlan, Simulator, make_system
from ebatch_env.machines import resolve_machine
from ebatch_env.networks import resolve_network
from ebatch_env.saturation import powers_of_two, saturation
from ebatch_env.workloads import Fixed, Uniform, resolve_workload


def test_powers_of_two():
    assert powers_of_two(1) == [1]
    assert powers_of_two(24) == [1, 2, 4, 8, 16]
    assert powers_of_two(0) == []


def test_by_hand():
    # Four lanes, one layer, load 2 s, step 1 s, lengths 8, T at most 8: 4 sequences every 10 s.
    table = CostTable(
        step_s=[[0, 1, 1, 1, 1]], step_j=[[0, 1, 1, 1, 1]], load_s=[2], load_j=[6], static_w=2.0, max_time_steps=8
    )
    found = saturation(table, 4, Fixed(8))
    assert found.throughput_rps == pytest.approx(0.4)
    assert found.latency_s == pytest.approx(10.0)
    assert found.energy_per_request_j == pytest.approx((6 + 8 + 2 * 10) / 4)


@pytest.mark.parametrize("name", ["epur", "epur-baseline", "tpu"])
def test_no_constant_plan_is_faster(name):
    table = resolve_machine(name).cost_table(resolve_network("MNMT"), 16)
    work = resolve_workload("translation")
    best = saturation(table, 16, work.lengths)
    trace = RequestTrace(np.zeros(1600), work.lengths.sample(np.random.default_rng(0), 1600))
    rates = []
    for steps in [1, 2, 4, 8, 16, 32, None]:
        for joins in (False, True):
            log = Simulator(table, 16, trace).run(lambda view, t=steps, j=joins: RoundPlan(t, joins=j))
            rates.append(1600 / log.end_s)
    assert max(rates) == pytest.approx(best.throughput_rps, rel=0.05)
    assert max(rates) < best.throughput_rps * 1.05


def test_it_is_a_pure_function():
    table = resolve_machine("tpu").cost_table(resolve_network("BYSDNE"), 8)
    assert saturation(table, 8, Uniform(1, 40)) == saturation(table, 8, Uniform(1, 40))


def test_a_machine_without_time_is_refused():
    table = CostTable(step_s=[[0, 0]], step_j=[[0, 0]])
    with pytest.raises(ValueError, match="step_s must let time pass"):
        saturation(table, 1, Fixed(3))


def test_load_means_the_same_everywhere():
    """At load 0.5 every machine keeps up: a long trace lasts 1 / (0.5 * throughput) a request."""
    for env_id in ("ebatch/EPUR-Translation-v0", "ebatch/TPU-Translation-v0"):
        system = make_system(env_id, load=0.5, workload="translation", requests=4000)
        trace = system.sample_trace(np.random.default_rng(0))
        log = Simulator(system.table, system.lanes, trace).run(lambda view: RoundPlan())
        assert 4000 / log.end_s / system.saturation.throughput_rps == pytest.approx(0.5, rel=0.06)
