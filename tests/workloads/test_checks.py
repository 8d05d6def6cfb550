"""Length distributions and workloads of other people's making are checked, the shipped ones pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebatch_env import RequestTrace
from ebatch_env.environment.system import System
from ebatch_env.scoring.jobs import AsRecorded
from ebatch_env.workloads import (
    CATALOGUE,
    Empirical,
    Fixed,
    Geometric,
    Poisson,
    Table,
    TraceWorkload,
    Uniform,
    Workload,
)
from ebatch_env.workloads.checks import check_lengths, checked_trace, is_built_in


@dataclass
class Odd:
    """Lengths 1, 2 and 3, each equally likely, but for what is changed."""

    mean: Any = 2.0
    max_length: Any = 3
    steps: Any = (1.0, 2.0, 3.0)

    def sample(self, rng: np.random.Generator, n: int) -> Any:
        return rng.integers(1, 4, n)

    def quantile(self, p: Any) -> Any:
        chance = np.asarray(p)
        if isinstance(self.steps, str):
            return self.steps
        return np.asarray(self.steps)[np.minimum(np.ceil(chance * 3).astype(int) - 1, 2).clip(0)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": float("nan")}, r"lengths.mean must be a finite number in \[1, 3\], got nan"),
        ({"mean": 2.5}, r"lengths.mean must be in \[1.99.*, 2.00.*\], as the quantiles say, got 2.5"),
        ({"mean": 0.5}, "lengths.mean must be a finite number"),
        ({"mean": "2"}, "lengths.mean must be a finite number in .*, got '2'"),
        ({"max_length": 0}, r"lengths.max_length must be an integer in 1\.\.16777216, got 0"),
        ({"max_length": 3.0}, "lengths.max_length must be an integer in"),
        ({"max_length": 1 << 30}, "lengths.max_length must be an integer in"),
        ({"max_length": 2}, r"lengths.quantile\(p\) must be finite and >= 1 and <= 2, got 3"),
        ({"steps": (0.0, 2.0, 3.0)}, r"lengths.quantile\(p\) must be finite and >= 1 .* got 0"),
        ({"steps": (1.0, np.nan, 3.0)}, r"lengths.quantile\(p\) must be finite"),
        ({"steps": (1.0, 1.5, 3.0)}, r"lengths.quantile\(p\) must be a whole number at p = 0.33.*, got 1.5"),
        ({"steps": (1.0, 3.0, 2.0)}, r"lengths.quantile\(p\) must be no less than at a smaller p at p = 0.66.*, got 2"),
        ({"steps": "many"}, r"lengths.quantile\(p\) must be an array of numbers"),
        ({"steps": ((1.0, 2.0), (2.0, 2.0), (3.0, 3.0))}, r"lengths.quantile\(p\) must have shape \(1025\)"),
    ],
)
def test_lengths_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    check_lengths(Odd())
    with pytest.raises(ValueError, match=message):
        check_lengths(Odd(**changes))
    with pytest.raises(ValueError, match=message):
        System.build(network="Toy", accelerator="toy", lanes=2, workload=Workload(Odd(**changes)))


@pytest.mark.parametrize("lengths", [None, 3, Odd])
def test_what_is_no_distribution_is_refused(lengths: Any) -> None:
    with pytest.raises(ValueError, match="workload.lengths must be a length distribution"):
        check_lengths(lengths)


def test_shipped_lengths_pass() -> None:
    for workload in CATALOGUE.values():
        check_lengths(workload.lengths)
        assert is_built_in(workload)
    check_lengths(Geometric(1.001, 1 << 20))
    check_lengths(Geometric(4.0, 8))
    check_lengths(Fixed(1 << 24))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    table=st.dictionaries(st.integers(1, 5000), st.floats(0, 1e6), min_size=1, max_size=9).filter(
        lambda t: sum(t.values()) > 0
    ),
    low=st.integers(1, 99),
    span=st.integers(0, 99),
)
def test_any_tables_mean_is_where_its_quantiles_say(table: dict[int, float], low: int, span: int) -> None:
    check_lengths(Table(tuple(table), tuple(table.values())))
    check_lengths(Uniform(low, low + span))
    check_lengths(Empirical((float(low), low + span / 3, float(low + span))))


@dataclass(frozen=True)
class Backwards:
    kind: str = field(default="tests.workloads.test_checks:Backwards", init=False)

    def sample(self, rng: np.random.Generator, n: int) -> Any:
        return np.arange(n, 0.0, -1.0)


def test_who_is_trusted() -> None:
    trace = RequestTrace([0.0, 1.0], [1, 2])
    assert is_built_in(TraceWorkload(trace))
    assert is_built_in(AsRecorded(TraceWorkload(trace)))
    assert is_built_in(Workload(Fixed(3), Poisson()))
    assert not is_built_in(Workload(Odd()))  # type: ignore[arg-type]
    assert not is_built_in(Workload(Fixed(3), Backwards()))

    class Mine(Workload):
        pass

    assert not is_built_in(Mine(Fixed(3)))


def test_parts_of_other_makers_are_checked_at_every_draw() -> None:
    system = System.build(
        network="Toy", accelerator="toy", lanes=2, workload=Workload(Fixed(3), Backwards()), requests=4
    )
    with pytest.raises(ValueError, match="arrival_s must be sorted"):
        system.sample_trace(np.random.default_rng(0))
    short = Odd()
    short.sample = lambda rng, n: rng.integers(1, 4, n) + 1  # type: ignore[method-assign]
    system = System.build(network="Toy", accelerator="toy", lanes=2, workload=Workload(short), requests=40)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="trace.length must be at most the workload's max_length = 3, got 4"):
        system.sample_trace(np.random.default_rng(0))


def test_a_trace_is_right_or_refused() -> None:
    trace = RequestTrace([0.0, 1.0], [1, 2])
    assert checked_trace(trace, 2, 2).requests == 2
    with pytest.raises(ValueError, match="what the workload samples must be a RequestTrace, got 3"):
        checked_trace(3, 2, 2)
    with pytest.raises(
        ValueError, match="requests that the workload samples must be 3, as many as were asked for, got 2"
    ):
        checked_trace(trace, 3, 2)
    with pytest.raises(ValueError, match="trace.length must be at most the workload's max_length = 1, got 2"):
        checked_trace(trace, 2, 1)


def test_a_rate_at_which_the_last_request_never_comes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rate_rps must be high enough for 10000 requests to arrive within 1e\+12 s"):
        Workload(Fixed(3)).sample(np.random.default_rng(0), 10_000, 1e-9)
