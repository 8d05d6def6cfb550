"""Records to aggregate, made up so that every statistic can be worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ebatch_env.scoring.records import EpisodeRecord


def make_record(env: str, policy: str, episode: int, cost: float, **changes: Any) -> EpisodeRecord:
    values: dict[str, Any] = {
        "requests": 16, "served": 16, "shed": 0, "energy_j": 16e-3 * cost, "energy_per_request_j": 1e-3 * cost,
        "latency_mean_s": 0.1, "latency_p50_s": 0.1, "latency_p90_s": 0.2, "latency_p99_s": 0.3 + cost / 100,
        "throughput_rps": 50.0, "occupancy": 0.5, "padding": 0.0, "slo_miss": 0.25, "truncated": False, "decisions": 9,
        "rounds": 8, "holds": 1, "energy_parts": {"machine": 0.01 * cost, "static": 0.006 * cost},
    }  # fmt: skip
    return EpisodeRecord(
        **{"env": env, "policy": policy, "episode": episode, "seed": 100 + episode, "cost": cost, **values, **changes}
    )


@pytest.fixture
def records() -> list[EpisodeRecord]:
    """Two environments; "a" is always cheaper than "b" on X and half of the time on Y; "c" served nothing once."""
    nothing: dict[str, Any] = {"served": 0, "energy_parts": {"dram": 1.0, "static": 0.5}, "truncated": True}
    for name in ("energy_per_request_j", "latency_mean_s", "latency_p50_s", "latency_p90_s", "latency_p99_s"):
        nothing[name] = math.nan
    costs = {
        ("X", "a"): [1.0, 2.0, 4.0, 100.0],
        ("X", "b"): [2.0, 3.0, 5.0, 101.0],
        ("Y", "a"): [1.0, 1.0, 1.0, 3.0],
        ("Y", "b"): [2.0, 2.0, 1.0, 1.0],
    }
    found = [make_record(*key, i, cost) for key, row in costs.items() for i, cost in enumerate(row)]
    return [*found, make_record("Y", "c", 0, 7.0, **nothing)]
