"""Metrics of an episode, each defined once: ``docs/metrics.md`` gives symbols and units."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ebatch_env.costs import CostTable
from ebatch_env.errors import FloatArray
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.log import energy_parts
from ebatch_env.simulator.state import Int64Array

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class EpisodeMetrics:
    """One episode in numbers; NaN where nothing was served.

    Attributes:
        requests: requests of the trace.
        served: completed; ``shed``: dropped; they add up to ``requests`` unless the episode was truncated.
        energy_j: all energy, static power included.
        energy_per_request_j: energy_j / served.
        latency_mean_s: mean completion less arrival over the served requests.
        latency_p50_s, latency_p90_s, latency_p99_s: percentiles of it, linear between order statistics.
        throughput_rps: served / (end of the episode less the first arrival).
        occupancy: lane-steps that advanced a sequence / (time-steps run * lanes).
        padding: share of the lane-steps paid for that advanced no sequence.
        slo_miss: share of the requests not completed by their deadline: late, shed, or never served.
        cost: cost per request: weighted energy, latency, misses and sheds. The return is the credit less this, unless
            the episode was truncated: what was left undone then earned no credit and stopped costing.
        decisions, rounds, holds: counts.
        truncated: the episode was cut off with work left.
        energy_parts: energy_j by component.
        machine: name of the accelerator that it was played on.
    """

    requests: int
    served: int
    shed: int
    energy_j: float
    energy_per_request_j: float
    latency_mean_s: float
    latency_p50_s: float
    latency_p90_s: float
    latency_p99_s: float
    throughput_rps: float
    occupancy: float
    padding: float
    slo_miss: float
    cost: float
    decisions: int
    rounds: int
    holds: int
    truncated: bool
    energy_parts: dict[str, float]
    machine: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain values, in order."""
        return asdict(self)


def episode_metrics(
    table: CostTable,
    lanes: int,
    price: FloatArray,
    *,
    f: FloatArray,
    i: Int64Array,
    rf: FloatArray,
    hist: Int64Array,
    machine: str = "",
) -> EpisodeMetrics:
    """Metrics from one system's slices (see ``simulator.kernel``), cut to its requests.

    ``price``, shape (5,), is `Objective.per_unit`; ``machine`` the accelerator's name.
    """
    requests, served, shed = int(i[k.REQUESTS]), int(i[k.SERVED]), int(i[k.SHED])
    arrival, completion = rf[k.ARRIVAL], rf[k.COMPLETION]
    done = np.isfinite(completion)
    latency = np.sort((completion - arrival)[done])
    p50, p90, p99 = np.percentile(latency, PERCENTILES) if served else (np.nan,) * 3
    energy_j = float(f[k.ENERGY])
    elapsed_s = float(f[k.CLOCK] - arrival[0])
    steps, useful, paid = int(hist.sum()), int(i[k.USEFUL_STEPS]), int(i[k.LANE_STEPS])
    on_time = int((completion[done] <= rf[k.DEADLINE][done]).sum())
    units = (energy_j, float(f[k.INTEGRAL]), int(i[k.MISSED]), shed)
    return EpisodeMetrics(
        requests=requests,
        served=served,
        shed=shed,
        energy_j=energy_j,
        energy_per_request_j=energy_j / served if served else np.nan,
        latency_mean_s=float(latency.mean()) if served else np.nan,
        latency_p50_s=float(p50),
        latency_p90_s=float(p90),
        latency_p99_s=float(p99),
        throughput_rps=served / elapsed_s if elapsed_s > 0 else np.nan,
        occupancy=useful / (steps * lanes) if steps else 0.0,
        padding=1.0 - useful / paid if paid else 0.0,
        slo_miss=(requests - on_time) / requests,
        cost=float(np.dot(price[:4], units)) / requests,
        decisions=int(i[k.DECISIONS]),
        rounds=int(i[k.ROUNDS]),
        holds=int(i[k.HOLDS]),
        truncated=served + shed < requests,
        energy_parts=energy_parts(table, int(i[k.ROUNDS]), int(i[k.JOIN_BOUNDARIES]), hist, float(f[k.STATIC_J])),
        machine=machine,
    )
