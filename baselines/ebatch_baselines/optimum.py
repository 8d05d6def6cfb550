"""The exact optimum of a batch queue, and the exact value of any stationary rule on it.

A server takes tau(b) seconds for a batch of b <= B requests; requests arrive in a Poisson stream; while the server is
free one decides how many of the s waiting requests to serve, or to wait for the next arrival. The mean time in system
is to be least (a batch's requests are in it until the batch ends). This is a semi-Markov decision process, state s:

* serving b takes tau(b); s becomes s - b + Poisson(rate * tau(b)); the integral of the number in system over it is
  s * tau(b) + rate * tau(b)^2 / 2;
* waiting takes 1 / rate on average; s becomes s + 1; the integral is s / rate.

`batch_queue_optimum` solves it by relative value iteration (the method of Xu et al., arXiv 2301.12865, with
Schweitzer's transformation to unit steps). `batch_queue_value` evaluates a rule by solving the linear equations of its
average cost.

The queue is cut off at S requests. Arrivals that would go beyond S stay at S: the chain loses them. Under a rule that
serves b in long queues the probability of more than n waiting falls as z^-n, with z > 1 the root of
log z = rate * tau(b) / b * (z - 1); S is chosen so that z^-(S - 2 B) < 1e-13, which is the relative error made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import FloatArray, check_array, check_integer, check_number, fail
from ebatch_env.simulator.state import Int64Array

TAIL = 1e-13
MAX_QUEUE = 20_000
MAX_SWEEPS = 200_000
HEAVIER = 4


class QueueSolution(NamedTuple):
    """An optimal rule.

    Attributes:
        mean_s: mean time in system under the rule (s).
        policy: shape (S+1,), the batch to serve with s = 0..S waiting, 0: wait for the next arrival.
        lower_s, upper_s: bounds on the optimal mean time from the last sweep.
    """

    mean_s: float
    policy: Int64Array
    lower_s: float
    upper_s: float


def batch_queue_optimum(
    tau: npt.ArrayLike,
    arrival_rate: float,
    *,
    sizes: Sequence[int] | None = None,
    tolerance: float = 1e-8,
    queue_limit: int | None = None,
) -> QueueSolution:
    """Find the rule with the least mean time in system.

    Args:
        tau: shape (B+1,), seconds to serve a batch of b = 0..B; entry 0 is not used.
        arrival_rate: requests per second, below the largest b / tau(b).
        sizes: allowed batch sizes; None: 1..B.
        tolerance: relative gap between the bounds at which to stop.
        queue_limit: S; None: see the module's docstring.

    Raises:
        ValueError: an argument out of range, or a queue that grows without limit.

    >>> solution = batch_queue_optimum([0.0, 1.0], arrival_rate=0.5)  # M/D/1: 1 + 0.5 / (2 * (1 - 0.5))
    >>> round(solution.mean_s, 6), solution.policy[:3].tolist()
    (1.5, [0, 1, 1])
    """
    service, rate = _checked(tau, arrival_rate)
    allowed = np.arange(1, service.size) if sizes is None else np.unique(np.asarray(sizes, dtype=np.int64))
    if allowed.size == 0 or allowed[0] < 1 or allowed[-1] >= service.size:
        raise fail("sizes", sizes, f"batch sizes in 1..{service.size - 1}")
    fastest = int(allowed[np.argmin(service[allowed] / allowed)])
    least = tail_limit(service, rate, fastest)  # refuses a queue that grows without limit
    limit = least if queue_limit is None else check_integer("queue_limit", queue_limit, low=service.size - 1)
    states = np.arange(limit + 1)
    times = service[allowed]
    arrivals = _arrivals(rate * times)  # (A, sizes)
    # Cost and duration of every (state, action), the last action being to wait.
    duration = np.append(times, 1.0 / rate)
    cost = states[:, None] * duration + np.append(0.5 * rate * times**2, 0.0)
    possible = np.column_stack([states[:, None] >= allowed, states < limit])
    cost_rate = np.where(possible, cost / duration, np.inf)
    left = np.maximum(states[:, None] - allowed, 0)
    columns = np.arange(allowed.size)
    share = 0.999 * duration.min() / duration  # a unit step is this share of the real one
    # Begin with the relative values of a rule that is stable: up to the batch with the best rate, at once.
    value = _solve(service, rate, _restricted(greedy_rule(fastest, 1, limit), allowed))[1] / (0.999 * duration.min())
    expected = np.empty(cost.shape)
    for _ in range(MAX_SWEEPS):
        after = np.lib.stride_tricks.sliding_window_view(
            np.append(value, np.full(arrivals.shape[0] - 1, value[-1])), arrivals.shape[0]
        )
        expected[:, :-1] = (after @ arrivals)[left, columns]
        expected[:, -1] = np.append(value[1:], value[-1])
        options = cost_rate + share * (expected - value[:, None])
        change = options.min(axis=1)
        value = value + change
        value -= value[0]
        low, high = float(change.min()), float(change.max())
        if high - low <= tolerance * high:
            break
    else:
        raise RuntimeError(f"relative value iteration did not reach tolerance {tolerance} in {MAX_SWEEPS} sweeps")
    best = np.argmin(options, axis=1)
    policy = np.append(allowed, 0)[best].astype(np.int64)
    return QueueSolution(_solve(service, rate, policy)[0] / rate, policy, low / rate, high / rate)


def batch_queue_value(tau: npt.ArrayLike, arrival_rate: float, policy: npt.ArrayLike) -> float:
    """Mean time in system (s) under a stationary rule, by linear algebra.

    Args:
        tau, arrival_rate: as in `batch_queue_optimum`.
        policy: shape (S+1,), the batch to serve with s = 0..S waiting; 0: wait. See `greedy_rule`.

    Raises:
        ValueError: a batch larger than the queue, or waiting with S requests.
    """
    service, rate = _checked(tau, arrival_rate)
    rule = np.asarray(policy, dtype=np.int64)
    states = np.arange(rule.size)
    if rule.ndim != 1 or rule.size < 2 or (rule > np.minimum(states, service.size - 1)).any() or (rule < 0).any():
        raise fail("policy", policy, f"batches 0..min(s, {service.size - 1}) for s = 0..S")
    if rule[-1] == 0:
        raise fail("policy[-1]", 0, "at least 1: with S requests the server must not wait")
    return _solve(service, rate, rule)[0] / rate


def greedy_rule(cap: int, wait_for: int, queue_limit: int) -> Int64Array:
    """The (cap, wait-for) rule: wait for ``wait_for`` requests, then serve up to ``cap``; shape (queue_limit+1,)."""
    states = np.arange(queue_limit + 1)
    return np.where(states >= max(1, wait_for), np.minimum(states, cap), 0).astype(np.int64)


def best_cap_rule(tau: npt.ArrayLike, arrival_rate: float, *, wait: bool = True) -> tuple[float, int, int]:
    """The best (cap, wait-for) rule: mean time in system (s), cap, wait-for; without ``wait`` wait-for is 1.

    Caps under which the queue's tail is `HEAVIER` times as long as under the fastest cap are not tried: near saturation
    a rule takes minutes to evaluate, and is no good.
    """
    service, rate = _checked(tau, arrival_rate)
    caps = [cap for cap in range(1, service.size) if rate * service[cap] < cap * (1 - 1e-9)]
    limits = [_tail(service, rate, cap) for cap in caps]
    best = (math.inf, 0, 0)
    for cap, limit in zip(caps, limits, strict=True):
        if limit <= HEAVIER * min(limits):
            for wait_for in range(1, cap + 1 if wait else 2):
                best = min(best, (batch_queue_value(service, rate, greedy_rule(cap, wait_for, limit)), cap, wait_for))
    return best


def tail_limit(tau: FloatArray, arrival_rate: float, batch: int) -> int:
    """The queue limit S for a rule that serves ``batch`` in long queues; see the module's docstring.

    Raises:
        ValueError: the queue grows without limit, or so long that S would exceed `MAX_QUEUE`.
    """
    if arrival_rate * float(tau[batch]) >= batch:
        raise fail("arrival_rate", arrival_rate, f"below {batch / float(tau[batch]):g}, what the server can do")
    limit = _tail(tau, arrival_rate, batch)
    if limit > MAX_QUEUE:
        raise fail("arrival_rate", arrival_rate, f"such that queues stay below {MAX_QUEUE}; this one needs {limit}")
    return limit


def _tail(tau: FloatArray, rate: float, batch: int) -> int:
    load = rate * float(tau[batch]) / batch
    low, high = 1.0 / load, 2.0 / load  # log z - load * (z - 1) has its maximum at 1 / load and then falls
    while math.log(high) > load * (high - 1.0):
        high *= 2.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if math.log(middle) > load * (middle - 1.0) else (low, middle)
    return 2 * (int(tau.size) - 1) + math.ceil(-math.log(TAIL) / math.log(low))


def _checked(tau: npt.ArrayLike, arrival_rate: float) -> tuple[FloatArray, float]:
    service = check_array("tau", tau, shape=(None,))
    if service.size < 2 or (service[1:] <= 0).any():
        raise fail("tau", tau, "service times > 0 of batches 1..B behind an entry for 0")
    return service, check_number("arrival_rate", arrival_rate, low=0.0, low_open=True)


def _arrivals(means: FloatArray) -> FloatArray:
    """Poisson probabilities of 0..A-1 arrivals for each mean, shape (A, means), each column adding up to 1."""
    most = float(means.max())
    count = np.arange(int(most + 12.0 * math.sqrt(most) + 30.0))
    log_factorial = np.append(0.0, np.cumsum(np.log(count[1:])))
    chance = np.exp(count[:, None] * np.log(means) - means - log_factorial[:, None])
    return np.asarray(chance / chance.sum(axis=0))


def _restricted(rule: Int64Array, allowed: Int64Array) -> Int64Array:
    """``rule`` with each batch rounded down to an allowed size; the queue waits where there is none."""
    place = np.searchsorted(allowed, rule, side="right") - 1
    return np.where((rule > 0) & (place >= 0), allowed[np.maximum(place, 0)], 0)


def _solve(tau: FloatArray, rate: float, rule: Int64Array) -> tuple[float, FloatArray]:
    """Average number in system g and relative values h (S+1,), h[0] = 0: h = cost - g * duration + P h."""
    states, limit = np.arange(rule.size), rule.size - 1
    serves = rule > 0
    service = np.where(serves, tau[rule], 0.0)
    duration = np.where(serves, service, 1.0 / rate)
    cost = states * duration + 0.5 * rate * service**2
    moves = np.zeros((rule.size, rule.size))
    waits = states[~serves]
    moves[waits, waits + 1] = 1.0
    for batch in np.unique(rule[serves]):
        chance = _arrivals(rate * tau[batch : batch + 1])[:, 0]
        here = states[rule == batch]
        target = np.minimum(here[:, None] - batch + np.arange(chance.size), limit)
        np.add.at(moves, (here[:, None], target), chance)
    # Unknowns: g in place of h[0], which is 0.
    system = np.eye(rule.size) - moves
    system[:, 0] = duration
    solution = np.linalg.solve(system, cost)
    return float(solution[0]), np.append(0.0, solution[1:])
