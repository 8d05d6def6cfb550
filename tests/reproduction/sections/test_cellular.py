"""The section ``cellular``: its rules against the simulator and the baselines, and its errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gymnasium.utils import seeding

from ebatch_env.environment.system import System
from ebatch_env.reproduction.report import Options, Section
from ebatch_env.reproduction.sections.cellular import GAIN, REDUCTION, peak_rps, run
from ebatch_env.reproduction.sections.cellular_cases import (
    LANES,
    NETWORK,
    RULES,
    Case,
    capacity_rps,
    europarl_like,
    latency_s,
    p90_s,
    padded,
    serve_buckets,
)
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import play
from ebatch_env.simulator import Simulator
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import Poisson, Workload


@pytest.fixture(scope="module")
def section() -> Section:
    told = []
    found = run(Options(quick=True, processes=2), lambda share, doing: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0
    return found


def test_the_published_direction_holds_everywhere(section: Section) -> None:
    rows = [row for row in section.rows if row.reference == REDUCTION]
    assert len(rows) == 12
    assert all(row.interval is not None and row.interval[1] < 0.0 for row in rows)
    assert all(row.measured > 0.0 for row in section.rows if row.reference == GAIN)
    assert "holds everywhere" in section.summary
    assert all(row.checked == "recalled" for row in section.rows)


def test_latency_is_in_the_published_range_against_the_fullest_bucket(section: Section) -> None:
    rows = [row for row in section.rows if row.reference == REDUCTION and "fullest" in row.what]
    assert [bool(row.met) for row in rows] == [False, True, True, True, True, True]
    idle = rows[0]
    assert "idle" in idle.what
    assert -17.5 < idle.measured < -8.0


def test_latency_exceeds_the_range_against_the_oldest_bucket(section: Section) -> None:
    rows = [row for row in section.rows if row.reference == REDUCTION and "oldest" in row.what]
    errors = [row.error for row in rows[1:]]
    assert all(error is not None and 0.0 <= error < 0.12 for error in errors)
    assert errors == sorted(errors)  # type: ignore[type-var]


def test_published_throughput_lies_between_the_two_orders(section: Section) -> None:
    gains = {row.what: row.measured for row in section.rows if row.reference == GAIN}
    oldest = [gain for what, gain in gains.items() if "oldest" in what]
    fullest = [gain for what, gain in gains.items() if "fullest" in what]
    assert max(fullest) < GAIN[0] < GAIN[1] < max(oldest)
    assert oldest == sorted(oldest, reverse=True)  # the tighter the bound, the larger the gain
    assert gains["peak throughput whatever the latency, against buckets"] == pytest.approx(18.6, abs=0.1)


def test_charts_and_table(section: Section) -> None:
    assert [chart.name for chart in section.charts] == ["latency", "reduction", "peak", "step"]
    assert len(section.tables[0].rows) == 6
    assert section.charts[0].series[3].label == "whole batches, no buckets"


def test_lengths() -> None:
    lengths = europarl_like(0.6)
    assert lengths.mean == pytest.approx(24.0)
    assert lengths.max_length == 330
    assert lengths.quantile([0.5, 0.9]).tolist() == [20.0, 43.0]
    wider = europarl_like(0.8)
    assert wider.mean == pytest.approx(24.0)
    assert wider.quantile(0.99) > lengths.quantile(0.99)


def test_capacity_counts_padding() -> None:
    # 512 lanes in 784 us, 24 steps a request.
    assert capacity_rps() == pytest.approx(512 / 784e-6 / 24.0)
    mean = padded(RequestTrace([0.0] * 3, [1, 10, 24]), 10).length.mean()
    assert mean == pytest.approx(50 / 3)
    assert capacity_rps(width=330) == pytest.approx(512 / 784e-6 / 330)


@pytest.mark.parametrize("rate", [300.0, 5000.0])
def test_the_loop_over_buckets_is_the_simulators_where_both_can_run(rate: float) -> None:
    case = Case("oldest", rate, seed=3)
    work = case.trace
    completion = serve_buckets(work, case.table.step_s[0], fullest=False)
    np.testing.assert_allclose(completion - work.arrival_s, latency_s(case), rtol=0, atol=1e-9)


def test_the_fullest_bucket_by_hand() -> None:
    # At 0 one request of 10 steps starts alone: 10 s. Then 20 has two waiting, 10 has one: 20 first (2 lanes: 2 s a step).
    work = RequestTrace([0.0, 1.0, 2.0, 3.0], [10, 10, 20, 20])
    step_s = np.array([0.0, 1.0, 2.0])
    assert serve_buckets(work, step_s, fullest=True).tolist() == [10.0, 60.0, 50.0, 50.0]
    assert serve_buckets(work, step_s, fullest=False).tolist() == [10.0, 20.0, 60.0, 60.0]


def test_batches_are_no_larger_than_the_lanes() -> None:
    work = RequestTrace([0.0, 0.0, 0.0], [10, 10, 10])
    assert serve_buckets(work, np.array([0.0, 1.0, 1.0]), fullest=True).tolist() == [10.0, 10.0, 20.0]


@pytest.mark.parametrize(
    ("rule", "policy", "machine"), [("cellular", "cellular", "gpu-step"), ("whole", "greedy", "gpu-step-baseline")]
)
def test_rules_are_the_baselines(rule: str, policy: str, machine: str) -> None:
    """The registered schedulers, which see observations only, do the same on the same trace."""
    system = System.build(
        network=NETWORK,
        accelerator=machine,
        lanes=LANES,
        workload=Workload(europarl_like(), Poisson()),
        load=0.05,
        requests=600,
        time_step_levels=[1, 2, 3, 4, 5, None],
    )
    (metrics,) = play(system, make_policy(policy, system), [7])
    work = system.sample_trace(seeding.np_random(7)[0])
    log = Simulator(system.table, LANES, work).run(RULES[rule])
    assert metrics.latency_p90_s == pytest.approx(float(np.percentile(log.latency_s, 90)), rel=1e-12)
    assert metrics.latency_mean_s == pytest.approx(float(log.latency_s.mean()), rel=1e-12)


def test_an_idle_machine_takes_the_steps_and_no_more() -> None:
    case: Any = Case("cellular", 1.0, seed=0)
    steps = np.percentile(case.trace.length[len(case.trace.length) // 4 :], 90)
    assert p90_s(case) == pytest.approx(steps * 185e-6, rel=0.02)


def test_peak_throughput() -> None:
    rates, p90 = [1.0, 2.0, 4.0], [0.1, 1.0, 10.0]
    assert peak_rps(rates, p90, 0.05, 9.0) == 0.0
    assert peak_rps(rates, p90, 1.0, 9.0) == 2.0
    assert peak_rps(rates, p90, math.sqrt(10.0), 9.0) == pytest.approx(3.0)
    assert peak_rps(rates, p90, 20.0, 9.0) == 9.0
