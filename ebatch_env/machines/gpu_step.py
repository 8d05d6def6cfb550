"""A GPU that launches every step by itself, known by its measured step cost: the machine of BatchMaker's experiments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ebatch_env.costs import CostTable
from ebatch_env.errors import check_integer, check_number, fail
from ebatch_env.machines.base import check_lanes
from ebatch_env.networks import Network

REFERENCE_MACS = 4 * 1024 * (1024 + 1024)  # of one step of the measured LSTM layer, per lane
MOST_TIME_STEPS = 4096  # the GPU's memory hardly bounds T; tables must


@dataclass(frozen=True)
class GPUStep:
    """Tesla V100 as BatchMaker (Gao, Yu, Wu and Li, EuroSys 2018) drives it: a step of a layer is a task of its own.

    The step of an LSTM layer of 1024 neurons takes the same time up to ``knee`` lanes, where launches and weights decide,
    and grows linearly above, where multiplications do. For other layers the slope goes with their
    multiply-accumulates; the floor stays, being mostly launches (an assumption, not measured). All figures are recalled,
    not checked against the paper, and it gives no energies: they are 0 here, so the machine is for questions of time.

    Attributes:
        floor_s: a step of the LSTM layer with up to ``knee`` lanes: about 185 us.
        knee: lanes up to which it is flat: 64.
        full_s: a step with ``full`` lanes: about 784 us.
        full: largest batch: 512 lanes.
        notifies: sequences leave between tasks, as under cellular batching; False: whole padded batches, as in the
            systems it is compared with.
        name: shown in tables.

    Raises:
        ValueError: a field outside its range; the message names field, value and range.
    """

    floor_s: float = 185e-6
    knee: int = 64
    full_s: float = 784e-6
    full: int = 512
    notifies: bool = True
    name: str = "gpu-step"

    def __post_init__(self) -> None:
        """Check every field."""
        object.__setattr__(self, "floor_s", check_number("floor_s", self.floor_s, low=0.0, low_open=True))
        object.__setattr__(self, "full_s", check_number("full_s", self.full_s, low=self.floor_s))
        object.__setattr__(self, "knee", check_integer("knee", self.knee, low=1, high=1 << 20))
        object.__setattr__(self, "full", check_integer("full", self.full, low=self.knee + 1, high=1 << 20))
        if not isinstance(self.notifies, (bool, np.bool_)):
            raise fail("notifies", self.notifies, "True or False")
        if not isinstance(self.name, str):
            raise fail("name", self.name, "a string")

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        """Costs for 0..``lanes`` busy lanes; no loads, no input GEMM, no energy.

        Raises:
            ValueError: ``lanes`` outside 1..4096.
        """
        lanes = check_lanes(lanes)
        active = np.arange(lanes + 1.0)  # (B+1,)
        work = np.array([[layer.weights / REFERENCE_MACS] for layer in network.layers])  # (n, 1)
        slope_s = (self.full_s - self.floor_s) / (self.full - self.knee)
        step_s = np.where(active > 0, self.floor_s + slope_s * work * np.maximum(0.0, active - self.knee), 0.0)
        return CostTable(
            step_s=step_s,
            step_j=np.zeros_like(step_s),
            notifies=self.notifies,
            max_time_steps=MOST_TIME_STEPS,
            whole_sequences=network.bidirectional,
            name=f"{self.name} / {network.name}",
        )
