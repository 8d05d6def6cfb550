"""The objective: what a decision costs, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ebatch_env.errors import FloatArray, check_number, fail

TERMS = ("energy", "latency", "miss", "shed", "credit")


@dataclass(frozen=True)
class Objective:
    """Weights of the named terms of the cost; all >= 0.

    With R requests in the episode the cost of one decision is::

        (energy * joules / E + latency * integral of N dt / L + miss * misses + shed * sheds) / R

    where E is the energy per request and L the latency of the saturated machine (`Saturation`), so that 1 means "as
    much as the machine at its best throughput". The episode's cost is therefore a mean per request. The reward is
    ``credit * resolved / R`` less that cost, with resolved = requests served or shed by the decision: over an episode
    the credit adds up to ``credit`` whatever the policy does, so the undiscounted return is ``credit`` less the cost
    (of a truncated episode: ``credit`` times the share that was resolved, less the cost so far). The credit is there because rounds last different times: without it every decision only costs, and a discount per
    decision rewards small bites of time. A miss is charged when the deadline passes, wherever the request is.
    """

    energy: float = 1.0
    latency: float = 1.0
    miss: float = 4.0
    shed: float = 4.0
    credit: float = 3.0

    def __post_init__(self) -> None:
        """Check the weights."""
        for name in TERMS:
            object.__setattr__(self, name, check_number(f"objective.{name}", getattr(self, name), low=0.0, high=1e9))

    @classmethod
    def resolve(cls, spec: Objective | Mapping[str, Any] | None) -> Objective:
        """An objective, or a mapping of some of its weights, or None for the defaults."""
        if spec is None:
            return cls()
        if isinstance(spec, Objective):
            return spec
        if not isinstance(spec, Mapping) or set(spec) - set(TERMS):
            raise fail("objective", spec, f"an Objective or a mapping with keys among {TERMS}")
        return cls(**spec)

    def to_dict(self) -> dict[str, float]:
        """The weights as plain numbers."""
        return asdict(self)

    def per_unit(self, *, energy_j: float, latency_s: float) -> FloatArray:
        """Cost per joule, per second of the integral, per miss, per shed, and credit per resolved request, shape (5,).

        A machine that draws no energy cannot be charged for it: its energy term is 0.
        """
        energy = self.energy / energy_j if energy_j > 0.0 else 0.0
        return np.array([energy, self.latency / latency_s, self.miss, self.shed, self.credit])
