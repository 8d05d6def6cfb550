"""E-PUR with memoization or dynamic precision on: step by step against lanes, and under schedulers in the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ebatch_env.machines.epur import EPUR
from ebatch_env.machines.savings import Saving, saving
from ebatch_env.reproduction.report import Table
from ebatch_env.scoring.jobs import PolicySpec, build_system, system_keywords
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import EVALUATION_SEED

ENV = "ebatch/EPUR-Translation-v0"
SERVED = "MNMT"  # that environment's network
POLICIES = ("ebatch", "cellular")
LANES = (1, 2, 4, 8, 16, 32, 64)
SERVING_LANES = (4, 8, 32, 64)
VARIED_LANES = (1, 8, 32)  # of the sensitivity charts
ROUND = 8  # steps of a round on the machine alone
EPISODES = 4
ALL_AT_ONCE = 1000.0  # a load: the queue is full from the start

NOTHING_ON = "none"

Effects = Mapping[str, Any]  # keywords `memoization` and `precision` of `EPUR`
Served = list[tuple[int, str, dict[str, tuple[float, float]]]]  # lanes, what is on, by policy (requests/s, J/request)


def on_lanes(effects: Effects, lanes: int) -> Saving:
    """What ``effects`` save on batched E-PUR with that many busy lanes."""
    return saving(SERVED, machine=EPUR(), lanes=lanes, steps=ROUND, **effects)


def one_share(kind: str, points: Sequence[Sequence[float]]) -> list[Effects]:
    """Effects where lanes act as one, so that each number of lanes has a share of its own, for rows and lanes alike."""
    share, curve = {"memoization": ("reuse", "lanes_reuse"), "precision": ("low_share", "lanes_low_share")}[kind]
    return [{kind: {share: value, curve: [[count, value]]}} for count, value in points]


def serve(effects: Effects, lanes: int) -> dict[str, tuple[float, float]]:
    """Requests per second and joules per request of `POLICIES` on a full queue, means of `EPISODES` episodes.

    Each policy's knobs are those tuned for `ENV` without ``effects``.
    """
    machine = {"name": "epur", **effects}
    changed = {"accelerator": machine, "lanes": lanes, "load": ALL_AT_ONCE, "deadline": None, "requests": 24 * lanes}
    system = build_system(system_keywords(ENV, changed))
    found = {}
    for name in POLICIES:
        episodes = play(system, PolicySpec.parse(name).make(system, ENV), _seeds())
        found[name] = (
            float(np.mean([episode.throughput_rps for episode in episodes])),
            float(np.mean([episode.energy_per_request_j for episode in episodes])),
        )
    return found


def serving_table(served: Served) -> Table:
    """Schedulers; for every number of lanes ``served`` starts with what the rest is compared against."""
    rows: list[tuple[str | float, ...]] = []
    without: dict[str, tuple[float, float]] = {}
    for lanes, what, found in served:
        without = found if what == NOTHING_ON else without
        for policy, (rate, energy_j) in found.items():
            before = without[policy]
            saved = 100 * (1 - energy_j / before[1])
            rows.append((lanes, what, policy, rate, 1e3 * energy_j, rate / before[0], saved))
    return Table(
        "serving",
        f"Schedulers in {ENV} on a full queue, no deadlines",
        ("lanes", "on", "policy", "requests/s", "energy/request, mJ", "throughput, x", "energy saved, %"),
        rows,
    )


def change(served: Served, lanes: int, what: str, policy: str) -> tuple[float, float]:
    """Per cent by which throughput and energy per request change when ``what`` is switched on."""
    found = {on: results[policy] for count, on, results in served if count == lanes}
    rate, energy_j = (100 * (after / before - 1) for after, before in zip(found[what], found[NOTHING_ON], strict=True))
    return rate, energy_j


def _seeds() -> range:
    return range(EVALUATION_SEED, EVALUATION_SEED + EPISODES)


def seeds_text() -> str:
    """What episodes were played."""
    return f"episodes {_seeds()[0]}..{_seeds()[-1]}"
