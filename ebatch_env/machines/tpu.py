"""Google's first TPU (Jouppi et al., ISCA 2017, arXiv 1704.04760) running recurrent layers.

A weight-stationary array takes tiles of weights from DRAM through a short queue; there is no weight store on chip. The
input matrices of a pass stream in once for all its steps, the recurrent ones again at every step: that is what longer
rounds save. ``docs/machines.md`` says more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ebatch_env.costs import CostTable, EnergyPart
from ebatch_env.errors import FloatArray, check_integer, check_number, fail
from ebatch_env.machines.base import ELEMENTWISE_OPS, check_lanes, steps_that_fit
from ebatch_env.networks import Network

MIB = float(1 << 20)


@dataclass(frozen=True)
class TPUv1:
    """TPU v1.

    [R] read in Jouppi et al., [D] derived, [A] assumed.

    Attributes:
        frequency_hz: 700 MHz [R].
        array: rows and columns of the array of 8-bit multipliers: 256 [R]; a tile has ``array ** 2`` bytes.
        bandwidth_bytes_per_s: weight DRAM (DDR3): 34 GB/s [R].
        unified_buffer_bytes: activations: 24 MiB [R].
        cycles_per_row: cycles a row of activations needs per tile: 1 with 8 bits [R]; 2 with 16-bit activations
            [recalled: half speed], a hypothesis about Google's LSTM counters (``docs/machines.md``).
        activation_bytes: bytes of an activation in the unified buffer: 1 [R].
        partial_sum_bytes: bytes of a gate's input part kept from the input GEMM until its step: 2 [A].
        vector_lanes: elements per cycle of the vector unit: 256, the width of the array's outputs [A].
        drain_cycles: through the array and back before a dependent step can start: 2 * 256 [D].
        mac_pj: 0.19 pJ: 8-bit multiply 0.2 + 32-bit add 0.1 at 45 nm (Horowitz, ISSCC 2014; the add recalled), times
            28/45 for the node [D]. At 46 TMAC/s that is 8.6 W of the 12 W between idle and busy.
        dram_pj_per_bit: DDR3, the least sure constant: 20 (I/O only) to 70 in print; 30 is the middle of 1.3-2.6 nJ per
            64 bits (Horowitz). Idle 28 W and busy 40 W [R] leave at most 12 W / 272 Gbit/s = 44 [D].
        unified_buffer_pj_per_byte: 4.08 [D]: CACTI 7, 28 nm, 1045 pJ per 256-byte read of 4 MB.
        accumulator_pj_per_byte: 0.48 [D]: one 16 KiB bank per column, between CACTI's 8 KB (0.29) and 32 KB (0.68).
        vector_op_pj: one element-wise operation: 0.5 [A].
        idle_w: drawn always: 28 W [R].
        notifies: the hardware support of E-BATCH: see `CostTable`.
        name: shown in tables.

    Raises:
        ValueError: a field outside its range; the message names field, value and range.
    """

    frequency_hz: float = 700e6
    array: int = 256
    bandwidth_bytes_per_s: float = 34e9
    unified_buffer_bytes: float = 24 * MIB
    cycles_per_row: int = 1
    activation_bytes: int = 1
    partial_sum_bytes: int = 2
    vector_lanes: int = 256
    drain_cycles: int = 512
    mac_pj: float = 0.19
    dram_pj_per_bit: float = 30.0
    unified_buffer_pj_per_byte: float = 1045.0 / 256.0
    accumulator_pj_per_byte: float = 0.48
    vector_op_pj: float = 0.5
    idle_w: float = 28.0
    notifies: bool = True
    name: str = "tpu"

    def __post_init__(self) -> None:
        """Check every field."""
        for field in ("frequency_hz", "bandwidth_bytes_per_s", "unified_buffer_bytes"):
            object.__setattr__(self, field, check_number(field, getattr(self, field), low=0.0, low_open=True))
        for field in (
            "mac_pj",
            "dram_pj_per_bit",
            "unified_buffer_pj_per_byte",
            "accumulator_pj_per_byte",
            "vector_op_pj",
            "idle_w",
        ):
            object.__setattr__(self, field, check_number(field, getattr(self, field), low=0.0))
        for field, low, high in (
            ("array", 1, 1 << 14),
            ("cycles_per_row", 1, 4),
            ("activation_bytes", 1, 4),
            ("partial_sum_bytes", 1, 4),
            ("vector_lanes", 1, 1 << 14),
            ("drain_cycles", 0, 1 << 20),
        ):
            object.__setattr__(self, field, check_integer(field, getattr(self, field), low=low, high=high))
        if not isinstance(self.notifies, (bool, np.bool_)):
            raise fail("notifies", self.notifies, "True or False")
        if not isinstance(self.name, str):
            raise fail("name", self.name, "a string")

    @property
    def tile_bytes(self) -> int:
        """Bytes of a tile of 8-bit weights."""
        return self.array * self.array

    def tiles(self, network: Network) -> tuple[FloatArray, FloatArray]:
        """Tiles of each layer's input and recurrent matrices, shape (n,) each.

        Every gate's matrix is tiled by itself, as Google's 600x600 matrices are (9 tiles), so edges are padded.
        """

        def across(size: int) -> int:
            return -(-size // self.array)

        inputs = [x.gates * x.directions * across(x.input_size) * across(x.hidden_size) for x in network.layers]
        recurrent = [x.gates * x.directions * across(x.hidden_size) ** 2 for x in network.layers]
        return np.array(inputs, dtype=np.float64), np.array(recurrent, dtype=np.float64)

    def tile_s(self, rows: npt.ArrayLike) -> FloatArray:
        """Seconds a tile takes with that many rows: its transfer, its shift or its work, whichever is longest."""
        cycles = np.maximum(self.array, np.asarray(rows, dtype=np.float64) * self.cycles_per_row)
        transfer_s = self.tile_bytes / self.bandwidth_bytes_per_s
        return np.asarray(np.maximum(transfer_s, cycles / self.frequency_hz), dtype=np.float64)

    def vector_s(self, network: Network, active: npt.ArrayLike) -> FloatArray:
        """Seconds of a step in which the array waits for drain and vector unit, shape (n, ...); 0 where none is active.

        The step is a chain (product, sums, functions, product), so this adds to the tiles' time.
        """
        lanes = np.asarray(active, dtype=np.float64)
        chunks = [
            x.directions * ELEMENTWISE_OPS[x.cell] * -(-x.hidden_size // self.vector_lanes) for x in network.layers
        ]
        drain = np.array([x.directions * self.drain_cycles for x in network.layers], dtype=np.float64)
        cycles = np.multiply.outer(np.array(chunks, dtype=np.float64), lanes) + np.multiply.outer(drain, lanes > 0)
        return np.asarray(cycles / self.frequency_hz, dtype=np.float64)

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        """Costs of ``network`` with up to ``lanes`` sequences side by side.

        Raises:
            ValueError: ``lanes`` outside 1..4096, or not one step fits in the unified buffer.
        """
        lanes = check_lanes(lanes)
        active = np.arange(lanes + 1.0)  # (B+1,)
        busy = (active > 0).astype(np.float64)
        n = len(network.layers)
        input_tiles, recurrent_tiles = self.tiles(network)  # (n,)
        step_s = np.multiply.outer(recurrent_tiles, self.tile_s(active) * busy) + self.vector_s(network, active)

        # A row crosses every tile of a step; its input part does so in the GEMM, once per lane-step as well.
        crossings = input_tiles + recurrent_tiles
        macs = np.array([x.weights for x in network.layers], dtype=np.float64)
        outputs = np.array([x.neurons for x in network.layers], dtype=np.float64)
        gates = np.array([x.gates for x in network.layers], dtype=np.float64)
        ops = np.array([ELEMENTWISE_OPS[x.cell] for x in network.layers], dtype=np.float64)
        # Unified buffer: operands out, gate parts in and out, the new state in. Accumulators: 32 bits in and out.
        buffer_bytes = crossings * self.array * self.activation_bytes + outputs * (
            2 * gates * self.partial_sum_bytes + self.activation_bytes
        )
        activation_pj = buffer_bytes * self.unified_buffer_pj_per_byte
        activation_pj = activation_pj + crossings * self.array * 8 * self.accumulator_pj_per_byte
        tile_j = self.tile_bytes * 8 * self.dram_pj_per_bit * 1e-12
        none, no_steps = np.zeros(n), np.zeros((n, lanes + 1))
        parts = {
            "macs": EnergyPart(none, none, np.multiply.outer(macs * self.mac_pj * 1e-12, active)),
            "dram": EnergyPart(none, input_tiles * tile_j, np.multiply.outer(recurrent_tiles * tile_j, busy)),
            "activations": EnergyPart(none, none, np.multiply.outer(activation_pj * 1e-12, active)),
            "vector": EnergyPart(none, none, np.multiply.outer(outputs * ops * self.vector_op_pj * 1e-12, active)),
        }
        return CostTable(
            step_s=step_s,
            step_j=sum((part.step_j for part in parts.values()), no_steps),
            input_floor_s=input_tiles * self.tile_s(0),
            input_row_s=input_tiles * self.cycles_per_row / self.frequency_hz,
            input_j=sum((part.input_j for part in parts.values()), none),
            static_w=self.idle_w,
            notifies=self.notifies,
            max_time_steps=self._max_time_steps(network, lanes),
            whole_sequences=network.bidirectional,
            parts=parts,
            name=f"{self.name} / {network.name}",
        )

    def _max_time_steps(self, network: Network, lanes: int) -> int:
        """A pass holds its inputs, the gates' input parts and its outputs for every lane and step."""
        alive = max(
            (x.input_size + x.neurons) * self.activation_bytes + x.gates * x.neurons * self.partial_sum_bytes
            for x in network.layers
        )
        return steps_that_fit(self.name, network, lanes, self.unified_buffer_bytes, alive)
