"""Machines made of round numbers: a toy for checking by hand, and the server of a batch queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ebatch_env.costs import CostTable
from ebatch_env.errors import check_choice, fail
from ebatch_env.networks import Network


@dataclass(frozen=True)
class ToyMachine:
    """The machine of the hand-worked episodes in ``docs/model.md``, whatever the network's sizes.

    Every layer loads in 2 s for 5 J, and a step with a > 0 busy lanes takes 1 s and 1 J + 0.5 J * a. There is no static
    power and no input GEMM. ``prefetch`` overlaps loads; ``max_time_steps`` bounds T.
    """

    prefetch: bool = False
    max_time_steps: int = 16
    name: str = "toy"

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        """Costs for any network: only its number of layers counts."""
        n, busy = len(network.layers), np.arange(lanes + 1)
        step_j = np.where(busy > 0, 1.0 + 0.5 * busy, 0.0)
        return CostTable(
            step_s=np.tile(busy > 0, (n, 1)),
            step_j=np.tile(step_j, (n, 1)),
            load_s=np.full(n, 2.0),
            load_j=np.full(n, 5.0),
            prefetch=self.prefetch,
            max_time_steps=self.max_time_steps,
            name=self.name,
        )


# Service time tau(b) of a batch of b, in seconds, for the batch queues whose exact optimum is known.
CURVES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "affine": lambda b: 0.3051 * b + 1.0524,
        "knee": lambda b: np.maximum(1.0, b / 8),
        "stairs": lambda b: np.ceil(b / 8),
        "doubling": lambda b: 1.0 + 0.1 * 2.0 ** np.ceil(np.log2(b)),
    }
)


@dataclass(frozen=True)
class BatchServer:
    """A server that takes tau(b) seconds for a batch of b requests of one step: a batch queue's server.

    With lengths all 1, one layer, Poisson arrivals and no energy the environment is exactly the batch-service queue of
    the literature (Xu et al., arXiv 2301.12865, among others), whose optimal policy relative value iteration finds.

    Attributes:
        curve: one of `CURVES`: ``affine`` 0.3051 b + 1.0524, ``knee`` max(1, b/8), ``stairs`` ceil(b/8), ``doubling``
            1 + 0.1 * 2^ceil(log2 b).
    """

    curve: str = "affine"
    name: str = "batch-server"

    def __post_init__(self) -> None:
        """Check the curve."""
        check_choice("curve", self.curve, tuple(CURVES))

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        """Costs for a network of one layer."""
        if len(network.layers) != 1:
            raise fail("network", network.name, "a network of one layer on a batch server")
        tau = np.concatenate([[0.0], CURVES[self.curve](np.arange(1, lanes + 1))])
        return CostTable(
            step_s=tau[None], step_j=np.zeros((1, lanes + 1)), max_time_steps=1, name=f"{self.name} ({self.curve})"
        )
