"""Cellular batching and padded buckets as rules for the simulator, and one measurement of each: for section ``cellular``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from ebatch_env.costs import CostTable
from ebatch_env.errors import FloatArray
from ebatch_env.machines.gpu_step import GPUStep
from ebatch_env.networks import Network
from ebatch_env.simulator import Order, Policy, RoundPlan, Simulator, SystemView
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import Poisson, Table, Workload

LANES = 512  # BatchMaker's largest batch [recalled]
STEPS = 5  # steps that its scheduler submits at once [recalled]
MEAN_LENGTH, LONGEST = 24.0, 330  # words of a Europarl sentence [recalled]
SPREAD = 0.6  # of the logarithm of a length: assumed
WIDTH = 10  # of a bucket, in steps [recalled]
NETWORK = Network.stack("LSTM 1x1024", "lstm", 1, 1024, source="Gao et al., EuroSys 2018; recalled")
DURATION_S = 12.0  # of an episode
FEWEST = 4000  # requests of an episode, however long that takes
WARM_UP = 0.25  # share of an episode's requests that is not counted: it begins with an empty machine


@lru_cache(maxsize=16)
def europarl_like(spread: float = SPREAD) -> Table:
    """Log-normal lengths in 1..`LONGEST` with mean `MEAN_LENGTH`; ``spread`` is the deviation of the logarithm.

    Europarl's own lengths do not ship with any package. Mean and maximum are those of BatchMaker's data; the shape is
    the usual one of sentence lengths and its spread is assumed, which is why the section varies it.

    >>> round(europarl_like().mean, 6), europarl_like().max_length
    (24.0, 330)
    """
    lengths = np.arange(1, LONGEST + 1)

    def weights(centre: float) -> FloatArray:
        return np.exp(-((np.log(lengths) - centre) ** 2) / (2 * spread**2)) / lengths

    low, high = 0.0, math.log(LONGEST)
    for _ in range(100):
        middle = 0.5 * (low + high)
        mean = np.average(lengths, weights=weights(middle))
        low, high = (middle, high) if mean < MEAN_LENGTH else (low, middle)
    return Table(tuple(lengths.tolist()), tuple(weights(low).tolist()))


def padded(trace: RequestTrace, width: int) -> RequestTrace:
    """``trace`` with every length rounded up to a multiple of ``width``: a bucket runs to its edge.

    >>> padded(RequestTrace([0.0, 0.1, 0.2], [1, 10, 11]), 10).length.tolist()
    [10, 10, 20]
    """
    return RequestTrace(trace.arrival_s, -(-trace.length // width) * width, trace.deadline_s)


def cellular(view: SystemView) -> RoundPlan:
    """BatchMaker: fill the lanes, submit five steps; the same rule as the baseline `cellular`."""
    return RoundPlan(time_steps=STEPS, joins=False)


def oldest_bucket(view: SystemView) -> RoundPlan:
    """Buckets, the oldest request's first: all of it that fits, to the bucket's edge.

    The lengths are those of a `padded` trace, so the requests closest in length are the bucket's.
    """
    lengths = view.trace.length[view.waiting]
    return RoundPlan(admit=int((lengths == lengths[0]).sum()), joins=False, order=Order.SIMILAR)


def whole_batches(view: SystemView) -> RoundPlan:
    """No buckets: everybody who waits, padded to the longest; the same rule as the baseline `greedy`."""
    return RoundPlan(joins=False)


def serve_buckets(work: RequestTrace, step_s: FloatArray, *, fullest: bool) -> FloatArray:
    """Completion times (R,) where a free machine serves the fullest bucket, or else the oldest request's.

    Plans know the oldest request's neighbours only, so serving the fullest bucket takes a loop of its own. With the
    oldest's bucket it gives the simulator's times exactly, which a test holds.

    Args:
        work: a `padded` trace: equal lengths are a bucket.
        step_s: seconds of a step with 0..B lanes, shape (B+1,).
        fullest: most requests waiting first; ties go to the shorter bucket.
    """
    edges, bucket = np.unique(work.length, return_inverse=True)
    members = [np.flatnonzero(bucket == b) for b in range(edges.size)]
    arrivals = [np.append(work.arrival_s[own], np.inf) for own in members]  # sorted, as the trace is
    served = np.zeros(edges.size, np.int64)
    first = np.array([own[0] for own in arrivals])  # arrival of each bucket's oldest waiting request
    completion = np.empty(work.requests)
    clock = 0.0
    for _ in range(work.requests):
        clock = max(clock, float(first.min()))
        if clock == np.inf:
            break
        waiting = [int(own.searchsorted(clock, side="right")) for own in arrivals] - served
        b = int(np.argmax(waiting) if fullest else np.argmin(first))
        batch = min(int(waiting[b]), step_s.size - 1)
        clock += float(edges[b]) * float(step_s[batch])
        completion[members[b][served[b] : served[b] + batch]] = clock
        served[b] += batch
        first[b] = arrivals[b][served[b]]
    return completion


SystemName = Literal["cellular", "oldest", "fullest", "whole"]


@dataclass(frozen=True)
class Case:
    """One system at one rate on one trace.

    Attributes:
        system: ``cellular``; ``oldest`` or ``fullest``: buckets, by which is served first; ``whole``: no buckets.
        rate: requests per second.
        seed: of the trace.
        width: of a bucket, steps.
        spread: of the lengths.
        floor_s: the machine's time for a step up to its knee.
    """

    system: SystemName
    rate: float
    seed: int
    width: int = WIDTH
    spread: float = SPREAD
    floor_s: float = GPUStep.floor_s

    @property
    def table(self) -> CostTable:
        """The machine's costs; only cellular batching hears of sequences that end."""
        return GPUStep(floor_s=self.floor_s, notifies=self.system == "cellular").cost_table(NETWORK, LANES)

    @property
    def trace(self) -> RequestTrace:
        """The work: the same requests for every system, their lengths rounded up where there are buckets."""
        requests = max(FEWEST, math.ceil(self.rate * DURATION_S))
        work = Workload(europarl_like(self.spread), Poisson())
        drawn = work.sample(np.random.default_rng(self.seed), requests, self.rate)
        return padded(drawn, self.width) if self.system in ("oldest", "fullest") else drawn


RULES: dict[SystemName, Policy] = {"cellular": cellular, "oldest": oldest_bucket, "whole": whole_batches}


def latency_s(case: Case) -> FloatArray:
    """Latencies of all requests, shape (R,)."""
    work, table = case.trace, case.table
    if case.system == "fullest":
        return serve_buckets(work, table.step_s[0], fullest=True) - work.arrival_s
    return Simulator(table, LANES, work).run(RULES[case.system]).latency_s


def p90_s(case: Case) -> float:
    """90th percentile of the latency (s) after the warm-up."""
    latency = latency_s(case)
    return float(np.percentile(latency[int(WARM_UP * latency.size) :], 90))


def capacity_rps(spread: float = SPREAD, width: int = 1, floor_s: float = GPUStep.floor_s) -> float:
    """Requests per second that the machine can serve with every batch full, lengths rounded up to ``width``."""
    lengths = europarl_like(spread)
    steps = np.asarray(lengths.lengths)
    mean = float(np.average(-(-steps // width) * width, weights=lengths.weights))
    step_s = GPUStep(floor_s=floor_s).cost_table(NETWORK, LANES).step_s[0]
    return float((np.arange(1, LANES + 1) / step_s[1:]).max()) / mean
