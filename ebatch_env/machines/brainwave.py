"""Microsoft's Brainwave NPU on a Stratix 10 (Fowers et al., ISCA 2018).

A matrix-vector machine in an FPGA whose weights are pinned on chip: built for one sequence at a time. A step is a chain
of dependent instructions that takes about as long whatever the layer's size. ``docs/spatial.md`` says more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ebatch_env.costs import CostTable, EnergyPart
from ebatch_env.errors import check_integer, check_number, fail
from ebatch_env.machines.base import check_lanes
from ebatch_env.networks import Layer, Network

MOST_TIME_STEPS = 4096  # results leave over the network, so memory does not bound T; tables must


@dataclass(frozen=True)
class Brainwave:
    """Brainwave on a Stratix 10.

    [R] read in the abstract of Fowers et al., [M] recalled, not checked, [D] derived, [A] assumed.

    Attributes:
        frequency_hz: 250 MHz [M].
        tiles: matrix-vector units: 6 [M].
        native_dim: rows and columns of a native matrix: 400 [M].
        native_lanes: multipliers per row: 40 [M]; with tiles and rows 96,000 in all [R].
        chain_cycles: a step's chain of dependent instructions: 630 [D], from the recalled latency of GRU 1024/1500.
        call_cycles: once per call, input and output over the network: 2620 [D], from that of GRU 512/1.
        weight_bits: 3.0125 [M]: sign and 2 bits of mantissa, a 5-bit exponent shared by 400.
        memory_bits: on-chip memory of the FPGA: 11,721 blocks of 20 kbit [M].
        busy_w: 125 W [M]; idle_w: 50 W [A]; both per FPGA.
        notifies: the hardware support of E-BATCH: see `CostTable`.
        name: shown in tables.

    Raises:
        ValueError: a field outside its range; the message names field, value and range.
    """

    frequency_hz: float = 250e6
    tiles: int = 6
    native_dim: int = 400
    native_lanes: int = 40
    chain_cycles: int = 630
    call_cycles: int = 2620
    weight_bits: float = 3.0125
    memory_bits: float = 11721 * 20480.0
    busy_w: float = 125.0
    idle_w: float = 50.0
    notifies: bool = True
    name: str = "brainwave"

    def __post_init__(self) -> None:
        """Check every field."""
        for field in ("frequency_hz", "weight_bits", "memory_bits"):
            object.__setattr__(self, field, check_number(field, getattr(self, field), low=0.0, low_open=True))
        object.__setattr__(self, "idle_w", check_number("idle_w", self.idle_w, low=0.0))
        object.__setattr__(self, "busy_w", check_number("busy_w", self.busy_w, low=self.idle_w))
        for field, low in (
            ("tiles", 1),
            ("native_dim", 1),
            ("native_lanes", 1),
            ("chain_cycles", 1),
            ("call_cycles", 0),
        ):
            object.__setattr__(self, field, check_integer(field, getattr(self, field), low=low, high=1 << 20))
        if not isinstance(self.notifies, (bool, np.bool_)):
            raise fail("notifies", self.notifies, "True or False")
        if not isinstance(self.name, str):
            raise fail("name", self.name, "a string")

    def native_matrices(self, layer: Layer) -> int:
        """Native matrices of a layer: every gate's input and recurrent matrix is padded to whole ones by itself."""
        rows = -(-layer.hidden_size // self.native_dim)
        columns = -(-layer.input_size // self.native_dim) + rows
        return layer.directions * layer.gates * rows * columns

    def matrix_cycles(self, layer: Layer) -> int:
        """Cycles in which the matrix-vector units work on one lane-step."""
        per_matrix = -(-self.native_dim // self.native_lanes)
        return -(-self.native_matrices(layer) // self.tiles) * per_matrix

    def step_cycles(self, layer: Layer) -> int:
        """Cycles of one lane-step: the chain of instructions hides the matrix work, or the other way round."""
        return max(layer.directions * self.chain_cycles, self.matrix_cycles(layer))

    def fpgas(self, network: Network) -> int:
        """FPGAs that pin the whole network between them; the way from one to the next is not counted [A]."""
        bits = sum(self.native_matrices(x) for x in network.layers) * self.native_dim**2 * self.weight_bits
        return int(np.ceil(bits / self.memory_bits))

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        """Costs of ``network`` with up to ``lanes`` sequences; their steps are run one after the other.

        The machine has a single instruction stream and no batches: lanes gain nothing from each other [A]. A round
        starts with one call.

        Raises:
            ValueError: ``lanes`` outside 1..4096.
        """
        lanes = check_lanes(lanes)
        step_cycles = np.array([self.step_cycles(x) for x in network.layers], dtype=np.float64)
        step_s = np.multiply.outer(step_cycles, np.arange(lanes + 1.0)) / self.frequency_hz
        load_s = np.zeros(len(network.layers))
        load_s[0] = self.call_cycles / self.frequency_hz
        none = np.zeros(len(network.layers))
        # One layer works at a time, on the FPGA that holds it; the others idle.
        step_j = step_s * (self.busy_w - self.idle_w)
        return CostTable(
            step_s=step_s,
            step_j=step_j,
            load_s=load_s,
            static_w=self.fpgas(network) * self.idle_w,
            notifies=self.notifies,
            max_time_steps=MOST_TIME_STEPS,
            whole_sequences=network.bidirectional,
            parts={"active": EnergyPart(none, none, step_j)},
            name=f"{self.name} / {network.name}",
        )
