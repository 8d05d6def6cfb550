"""`EpisodeRecord`: one row of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ebatch_env.metrics import EpisodeMetrics


@dataclass(frozen=True)
class EpisodeRecord:
    """One policy on one episode; ``docs/metrics.md`` defines every metric.

    The fields up to ``cost`` are those of ``summary.json``; the CSV and the Parquet file have all of them.

    Attributes:
        env: the environment's id.
        policy: the policy's label, as it was asked for.
        episode: its number i, from 0.
        seed: what its requests were drawn with: the evaluation's seed + i.
        energy_parts: joules by component; machines differ in their components.
        machine: name of the accelerator; episodes of one environment may be played on several.

    The others are those of `EpisodeMetrics`; NaN where nothing was served.
    """

    env: str
    policy: str
    episode: int
    seed: int
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
    truncated: bool
    decisions: int
    rounds: int
    holds: int
    energy_parts: Mapping[str, float]
    machine: str = ""

    @classmethod
    def of(cls, env: str, policy: str, episode: int, seed: int, metrics: EpisodeMetrics) -> EpisodeRecord:
        """The record of an episode that ended with ``metrics``."""
        return cls(env=env, policy=policy, episode=episode, seed=seed, **asdict(metrics))

    def summary(self) -> dict[str, Any]:
        """The record of ``summary.json``; None for NaN, which JSON does not have."""
        return {name: _null(getattr(self, name)) for name in FIELDS}

    def to_dict(self) -> dict[str, Any]:
        """Every field, fit for JSON; `from_dict` undoes it."""
        return {name: _null(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpisodeRecord:
        """A record from `to_dict`.

        Raises:
            TypeError: fields are missing or unknown.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"a record must be a mapping, got {values!r}")
        known: dict[str, Any] = {name: math.nan if value is None else value for name, value in values.items()}
        return cls(**known)

    def row(self) -> dict[str, Any]:
        """A flat row: every field, the energy parts as ``energy_<component>_j``; None for NaN."""
        values = self.to_dict()
        parts = values.pop("energy_parts")
        return values | {f"energy_{part}_j": joules for part, joules in parts.items()}


FIELDS = tuple(field.name for field in fields(EpisodeRecord))[:18]


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
