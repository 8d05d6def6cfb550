"""From records to the figures of a scoreboard, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ebatch_agents.scoreboard.statistics import Estimate, iqm, probability, relative
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.statistics import METRICS, episode_costs, interquartile_mean

TRANSFER_METRICS = ("cost", "energy_per_request_j", "latency_p99_s", "slo_miss")


def groups_of(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names with labels, of a scenario of a scoreboard: the algorithm with its agents', then the baselines."""
    agents = [agent["label"] for agent in values["agents"]]
    return {values["algorithm"]: agents, **{entrant["label"]: [entrant["label"]] for entrant in values["baselines"]}}


def figures(values: Mapping[str, Any], records: Mapping[str, Sequence[EpisodeRecord]]) -> dict[str, Any]:
    """All figures that follow from the records of a scenario.

    Args:
        values: the scenario's, of a scoreboard: its agents, baselines and rivals.
        records: by case.

    Returns:
        Per case what `summarize` returns.
    """
    groups = groups_of(values)
    return {
        case: summarize(found, groups, values["rivals"], TRANSFER_METRICS if case else METRICS)
        for case, found in records.items()
    }


def summarize(
    records: Sequence[EpisodeRecord],
    groups: Mapping[str, Sequence[str]],
    rivals: Sequence[str],
    metrics: Sequence[str] = METRICS,
) -> dict[str, Any]:
    """The figures of policies on one environment.

    Args:
        records: of all of them, on the same episodes.
        groups: a name with its policies' labels: an algorithm with its agents', one per seed; a baseline with itself.
        rivals: baselines to compare all others with.
        metrics: which are wanted.

    Returns:
        Per name: ``metrics`` (mean, and interquartile mean with its interval), ``seeds`` (the interquartile mean of the cost of
        each label), ``truncated`` episodes, ``decisions`` of an episode, and ``against`` each rival the ``relative`` difference
        of the mean cost and the ``probability`` of improvement, with intervals.
    """
    rows: dict[str, list[EpisodeRecord]] = {}
    for record in sorted(records, key=lambda record: record.episode):
        rows.setdefault(record.policy, []).append(record)
    costs = {label: episode_costs(found) for label, found in rows.items()}
    out: dict[str, Any] = {}
    for name, labels in groups.items():
        present = [label for label in labels if label in rows]
        if not present:
            continue
        mine = np.stack([costs[label] for label in present])
        figures = {}
        for metric in metrics:
            values = np.array([[getattr(row, metric) for row in rows[label]] for label in present], np.float64)
            valid = values[~np.isnan(values)]
            figures[metric] = {"mean": float(valid.mean()) if valid.size else math.nan, **_named("iqm", iqm(values))}
        out[name] = {
            "metrics": figures,
            "seeds": {label: float(interquartile_mean([row.cost for row in rows[label]])) for label in present},
            "truncated": sum(row.truncated for label in present for row in rows[label]),
            "decisions": float(np.mean([row.decisions for label in present for row in rows[label]])),
            "against": {
                rival: {
                    "relative": _named("value", relative(mine, costs[rival])),
                    "probability": _named("value", probability(mine, costs[rival])),
                }
                for rival in dict.fromkeys(rivals)
                if rival != name and rival in costs
            },
        }
    return out


def mean_cost(records: Sequence[EpisodeRecord], policy: str, episodes: int | None = None) -> float:
    """Mean cost of a policy's episodes: infinite if one was truncated, NaN if there are none.

    Args:
        records: its own and others'.
        policy: its label.
        episodes: only the first so many; None: all.
    """
    mine = [record for record in records if record.policy == policy]
    costs = episode_costs([record for record in mine if episodes is None or record.episode < episodes])
    return float(costs.mean()) if costs.size else math.nan


def _named(name: str, found: Estimate) -> dict[str, float]:
    return {name: found[0], "low": found[1], "high": found[2]}
