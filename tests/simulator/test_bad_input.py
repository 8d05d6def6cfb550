"""Every refusal names the field, the value and the range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ebatch_env import CostTable, EnergyPart, RequestTrace, RoundPlan, Simulator

NAN, INF = float("nan"), float("inf")
TABLE: dict[str, Any] = {"step_s": [[0, 1, 1]], "step_j": [[0, 1, 2]], "load_s": [1], "load_j": [1]}
TRACE = RequestTrace(arrival_s=[0, 1], length=[2, 1])


def refused(make: Callable[[], Any], *words: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error) as caught:
        make()
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"


@pytest.mark.parametrize(
    ("lanes", "got"), [(0, "got 0"), (-1, "got -1"), (3, "got 3"), (1.5, "got 1.5"), (True, "got True")]
)
def test_lanes(lanes: Any, got: str) -> None:
    refused(lambda: Simulator(CostTable(**TABLE), lanes, TRACE), "lanes", "1..2", got)


def test_types() -> None:
    refused(lambda: Simulator("epur", 2, TRACE), "cost_table", "CostTable", "got 'epur'", error=TypeError)  # type: ignore[arg-type]
    refused(lambda: Simulator(CostTable(**TABLE), 2, [0, 1]), "trace", "RequestTrace", "[0, 1]", error=TypeError)  # type: ignore[arg-type]


def test_times_that_float64_cannot_add() -> None:
    """At 1e9 s the clock's last place is 2^-23 s; sixteen of them are about 2 us."""
    quick = CostTable(**{**TABLE, "step_s": [[0, 1e-6, 2e-6]]})
    late = RequestTrace([0, 1e9], [1, 1])
    refused(lambda: Simulator(quick, 2, late), "arrival_s", "at most 2.8", "steps take 1e-06 s", "got 1000000000.0")
    refused(lambda: Simulator(CostTable(**TABLE), 2, late, hold_s=1e-6), "hold_s", "at least 1.91e-06", "got 1e-06")
    slower = CostTable(**{**TABLE, "step_s": [[0, 2e-6, 2e-6]]})
    log = Simulator(slower, 1, RequestTrace([1e9], [1000])).run(lambda view: RoundPlan())
    assert log.completion_s[0] - 1e9 == pytest.approx(1 + 2e-3, rel=0.01)


@pytest.mark.parametrize("hold_s", [0, 0.0, -1.0, NAN, INF, 1e300, "1", None, True])
def test_hold_s(hold_s: Any) -> None:
    refused(lambda: Simulator(CostTable(**TABLE), 2, TRACE, hold_s=hold_s), "hold_s", "(0", f"got {hold_s!r}")


@pytest.mark.parametrize("max_decisions", [0, -3, 1.5])
def test_max_decisions(max_decisions: Any) -> None:
    make = lambda: Simulator(CostTable(**TABLE), 2, TRACE, max_decisions=max_decisions)
    refused(make, "max_decisions", ">= 1", f"got {max_decisions!r}")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"step_s": [0, 1, 1]}, ("step_s", "(n, n)", "(3,)")),
        ({"step_s": [[0]], "step_j": [[0]]}, ("step_s", "B + 1 >= 2", "(1, 1)")),
        ({"step_s": np.zeros((0, 3)), "step_j": np.zeros((0, 3))}, ("step_s", "n >= 1", "(0, 3)")),
        ({"step_s": [[1, 1, 1]]}, ("step_s[:, 0]", "must be 0", "got [1.]")),
        ({"step_s": [[0, -1, 1]]}, ("step_s", ">= 0", "got -1.0", "(0, 1)")),
        ({"step_s": [[0, 1, NAN]]}, ("step_s", "finite", "got nan", "(0, 2)")),
        ({"step_s": "fast"}, ("step_s", "array of numbers", "got 'fast'")),
        ({"step_s": [[0, 1], [0]]}, ("step_s", "array of numbers")),
        ({"step_j": [[0, 1]]}, ("step_j", "(1, 3)", "(1, 2)")),
        ({"step_j": [[0.5, 1, 2]]}, ("step_j[:, 0]", "must be 0", "got [0.5]")),
        ({"step_j": [[0, INF, 2]]}, ("step_j", "finite", "got inf")),
        ({"load_s": [1, 2]}, ("load_s", "(1)", "(2,)")),
        ({"load_s": [-0.5]}, ("load_s", ">= 0", "got -0.5")),
        ({"load_j": [INF]}, ("load_j", "finite", "got inf")),
        ({"input_floor_s": [-2]}, ("input_floor_s", ">= 0", "got -2.0")),
        ({"input_row_s": [NAN]}, ("input_row_s", "finite", "got nan")),
        ({"input_j": 3.0}, ("input_j", "shape")),
        ({"step_s": [[0, 1, 1e300]]}, ("step_s", "<= 1e+12", "got 1e+300")),
        ({"step_j": [[0, 1, 1e20]]}, ("step_j", "<= 1e+12", "got 1e+20")),
        ({"load_s": [1e300]}, ("load_s", "<= 1e+12", "got 1e+300")),
        ({"static_w": 1e300}, ("static_w", "[0, 1e+12]", "got 1e+300")),
        ({"static_w": -1.0}, ("static_w", "[0", "got -1.0")),
        ({"static_w": NAN}, ("static_w", "finite", "got nan")),
        ({"prefetch": 1}, ("prefetch", "True or False", "got 1")),
        ({"notifies": "yes"}, ("notifies", "True or False", "got 'yes'")),
        ({"whole_sequences": None}, ("whole_sequences", "True or False", "got None")),
        ({"max_time_steps": 0}, ("max_time_steps", "1..1048576", "got 0")),
        ({"max_time_steps": 2.0}, ("max_time_steps", "1..1048576", "got 2.0")),
        ({"max_time_steps": 1 << 21}, ("max_time_steps", "1..1048576", "got 2097152")),
        ({"parts": {"dram": EnergyPart([1], [0], [[0, 1, 1]])}}, ("step_j", "add up")),  # type: ignore[arg-type]
        ({"parts": {"static": EnergyPart([1], [0], [[0, 1, 2]])}}, ("parts", "static")),  # type: ignore[arg-type]
    ],
)
def test_cost_table(fields: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(lambda: CostTable(**{**TABLE, **fields}), *words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arrival_s": [], "length": []}, ("arrival_s", "at least one", "empty")),
        ({"arrival_s": [1, 0]}, ("arrival_s", "sorted", "0.0 after 1.0", "index 1")),
        ({"arrival_s": [-1, 0]}, ("arrival_s", ">= 0", "got -1.0")),
        ({"arrival_s": [0, NAN]}, ("arrival_s", "finite", "got nan")),
        ({"arrival_s": [0, INF]}, ("arrival_s", "finite", "got inf")),
        ({"arrival_s": [0, 1e300]}, ("arrival_s", "<= 1e+12", "got 1e+300", "index (1,)")),
        ({"arrival_s": [[0, 1]]}, ("arrival_s", "shape", "(1, 2)")),
        ({"length": [1]}, ("length", "(2)", "(1,)")),
        ({"length": [0, 1]}, ("length", ">= 1", "got 0.0")),
        ({"length": [1, 1.5]}, ("length", "integer in 1..16777216", "got 1.5", "index 1")),
        ({"length": [1, 1 << 25]}, ("length", "1..16777216", "got 33554432.0")),
        ({"length": [1, NAN]}, ("length", "finite", "got nan")),
        ({"deadline_s": [1]}, ("deadline_s", "(2,)", "(1,)")),
        ({"deadline_s": [0, 5]}, ("deadline_s", "later than arrival_s 0.0", "got 0.0", "index 0")),
        ({"deadline_s": [1, NAN]}, ("deadline_s", "later than arrival_s 1.0", "got nan", "index 1")),
    ],
)
def test_request_trace(fields: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(lambda: RequestTrace(**{"arrival_s": [0, 1], "length": [2, 1], **fields}), *words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"time_steps": 0}, ("time_steps", ">= 1", "got 0")),
        ({"time_steps": 2.0}, ("time_steps", "integer", "got 2.0")),
        ({"time_steps": True}, ("time_steps", "integer", "got True")),
        ({"admit": -1}, ("admit", ">= 0", "got -1")),
        ({"admit": INF}, ("admit", "integer", "got inf")),
        ({"joins": 1}, ("joins", "True or False", "got 1")),
        ({"shed": None}, ("shed", "True or False", "got None")),
        ({"order": 3}, ("order", "2 (SIMILAR)", "got 3")),
        ({"order": "fifo"}, ("order", "0 (FIRST_COME)", "got 'fifo'")),
    ],
)
def test_round_plan(fields: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(lambda: RoundPlan(**fields), *words)


def test_a_sequence_too_long_for_whole_sequences() -> None:
    table = CostTable(**TABLE, max_time_steps=4, whole_sequences=True)
    Simulator(table, 2, RequestTrace([0], [4]))
    refused(lambda: Simulator(table, 2, RequestTrace([0, 0], [1, 5])), "length", "1..4", "got 5", "whole sequences")


@pytest.mark.parametrize("answer", [None, 4, (4, None), {"time_steps": 4}, RoundPlan], ids=str)
def test_a_policy_must_return_a_plan(answer: Any) -> None:
    simulator = Simulator(CostTable(**TABLE), 2, TRACE)
    refused(lambda: simulator.run(lambda view: answer), "RoundPlan", f"got {answer!r}", error=TypeError)


def test_a_simulator_is_fit_for_use_after_a_policy_failed() -> None:
    simulator = Simulator(CostTable(**TABLE), 2, TRACE)
    plan = lambda view: RoundPlan(time_steps=1)
    expected = simulator.run(plan).completion_s
    with pytest.raises(ZeroDivisionError):
        simulator.run(lambda view: RoundPlan(time_steps=1 // (1 - view.decision)))
    np.testing.assert_array_equal(simulator.run(plan).completion_s, expected)


def test_a_policy_that_never_admits_is_truncated_and_says_so() -> None:
    trace = RequestTrace([0, 1, 5], [2, 1, 3], [3, 20, 21])
    log = Simulator(CostTable(**TABLE), 2, trace, hold_s=0.5, max_decisions=12).run(lambda view: RoundPlan(admit=0))
    assert log.truncated
    assert log.rounds == ()
    assert log.holds == log.decisions == 12
    # 12 holds of 0.5 s; the arrivals at 1 and 5 fall on holds' ends.
    assert log.end_s == 6
    assert log.latency_integral_s == 6 + 5 + 1
    assert log.missed == 1
    assert np.isnan(log.completion_s).all()
    assert np.isnan(log.start_s).all()
    assert not log.shed.any()
    assert (log.lane == -1).all()


@pytest.fixture
def few_holds(monkeypatch: pytest.MonkeyPatch) -> int:
    """The bound on holds in a row, small enough to run into."""
    monkeypatch.setattr("ebatch_env.simulator.front.MAX_HOLDS", 100)
    return 100


def test_a_policy_that_never_admits_ends_without_being_told(few_holds: int) -> None:
    trace = RequestTrace([0, 1, 5e8], [2, 1, 3])  # with a hold of 0.25 s it would take 2e9 decisions to get there
    log = Simulator(CostTable(**TABLE), 2, trace, hold_s=0.25).run(lambda view: RoundPlan(admit=0))
    assert log.truncated
    assert log.decisions == log.holds == few_holds + 1  # the fourth ends with an arrival, which is news
    assert log.end_s == 0.25 * (few_holds + 1)
    told = Simulator(CostTable(**TABLE), 2, trace, hold_s=0.25, max_decisions=3 * few_holds)
    assert told.run(lambda view: RoundPlan(admit=0)).decisions == 3 * few_holds


@pytest.mark.parametrize("hold_s", [0.01, 0.25])
def test_a_policy_that_does_something_once_in_a_while_is_never_cut_off(few_holds: int, hold_s: float) -> None:
    """It holds up to the last moment, then runs one step of one sequence; in all far more holds than the bound."""
    trace = RequestTrace(np.arange(40) * 30.0, [3] * 40)
    wait = lambda view: RoundPlan(time_steps=1, admit=int(view.decision % few_holds == few_holds - 1), joins=False)
    log = Simulator(CostTable(**TABLE), 2, trace, hold_s=hold_s).run(wait)
    assert not log.truncated
    assert log.served == 40
    assert log.holds > 10 * few_holds


def test_shedding_counts_as_doing_something(few_holds: int) -> None:
    """Requests that hopelessly wait are dropped one after the other, none is ever admitted."""
    trace = RequestTrace(np.zeros(9), [1] * 9, 20.0 * np.arange(1, 10))
    log = Simulator(CostTable(**TABLE), 2, trace, hold_s=0.25).run(lambda view: RoundPlan(admit=0, shed=True))
    assert not log.truncated
    assert log.shed.all()
    assert log.holds > 5 * few_holds


def test_the_last_decision_allowed_may_finish_the_work() -> None:
    log = Simulator(CostTable(**TABLE), 2, RequestTrace([0], [2]), max_decisions=1).run(lambda view: RoundPlan())
    assert not log.truncated
    assert log.completion_s[0] == 3
