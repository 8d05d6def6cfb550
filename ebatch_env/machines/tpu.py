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
from ebatch_env.machines.systolic import tile_count
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
        activation_bytes: 1, or 2 for 16-bit activations, which the array takes at half speed [R]. Google's counters
            say that its LSTMs ran with 16 bits (``docs/machines.md``); below 675 rows a tile takes the same time.
        partial_sum_bytes: bytes of a gate's input part kept from the input GEMM until its step: 2 [A].
        path_bytes: width of the paths between the blocks: 256 [R].
        instruction_cycles: an element-wise instruction, taken to move one row of ``path_bytes``: 15 [D], the middle of
            the 10-20 cycles an instruction takes on average [R].
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
    activation_bytes: int = 1
    partial_sum_bytes: int = 2
    path_bytes: int = 256
    instruction_cycles: float = 15.0
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
            "instruction_cycles",
        ):
            object.__setattr__(self, field, check_number(field, getattr(self, field), low=0.0))
        for field, low, high in (
            ("array", 1, 1 << 14),
            ("activation_bytes", 1, 2),
            ("partial_sum_bytes", 1, 4),
            ("path_bytes", 1, 1 << 14),
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

    @property
    def cycles_per_row(self) -> int:
        """Cycles the array needs for a row of activations: as many as an activation has bytes."""
        return self.activation_bytes

    def tiles(self, network: Network) -> tuple[FloatArray, FloatArray]:
        """Tiles of each layer's input and recurrent matrices, shape (n,) each.

        Every gate's matrix is tiled by itself, as Google's 600x600 matrices are (9 tiles), so edges are padded.
        """

        def count(gates: int, inputs: int, outputs: int) -> float:
            return float(gates * tile_count(inputs, outputs, self.array, self.array))

        inputs = [count(x.gates * x.directions, x.input_size, x.hidden_size) for x in network.layers]
        recurrent = [count(x.gates * x.directions, x.hidden_size, x.hidden_size) for x in network.layers]
        return np.array(inputs), np.array(recurrent)

    def tile_s(self, rows: npt.ArrayLike) -> FloatArray:
        """Seconds a tile takes with that many rows: its transfer, its shift or its work, whichever is longest."""
        cycles = np.maximum(self.array, np.asarray(rows, dtype=np.float64) * self.cycles_per_row)
        transfer_s = self.tile_bytes / self.bandwidth_bytes_per_s
        return np.asarray(np.maximum(transfer_s, cycles / self.frequency_hz), dtype=np.float64)

    def elementwise_cycles(self, values: int, value_bytes: int) -> float:
        """Cycles of one element-wise operation on a vector of one lane, an instruction per row of ``path_bytes``."""
        return -(-values * value_bytes // self.path_bytes) * self.instruction_cycles

    def vector_s(self, network: Network, active: npt.ArrayLike) -> FloatArray:
        """Seconds of a step in which the array waits for drain and vector work, shape (n, ...); 0 where none is active.

        The step is a chain (product, sums, functions, product), so this adds to the tiles' time. The gates' functions
        are left out: they are applied as the accumulators drain, beside the next gate's tiles.
        """
        lanes = np.asarray(active, dtype=np.float64)
        cycles = []
        for x in network.layers:
            sums = x.gates * self.elementwise_cycles(x.hidden_size, self.partial_sum_bytes)  # input + recurrent part
            others = ELEMENTWISE_OPS[x.cell] - 2 * x.gates  # neither those sums nor the gates' functions
            cycles.append(
                x.directions * (sums + others * self.elementwise_cycles(x.hidden_size, self.activation_bytes))
            )
        drain = np.array([x.directions * self.drain_cycles for x in network.layers], dtype=np.float64)
        total = np.multiply.outer(np.array(cycles), lanes) + np.multiply.outer(drain, lanes > 0)
        return np.asarray(total / self.frequency_hz, dtype=np.float64)

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
        # 16-bit activations cross in two halves: twice the multiplications, twice through the accumulators.
        halves = self.cycles_per_row
        activation_pj = activation_pj + halves * crossings * self.array * 8 * self.accumulator_pj_per_byte
        tile_j = self.tile_bytes * 8 * self.dram_pj_per_bit * 1e-12
        none, no_steps = np.zeros(n), np.zeros((n, lanes + 1))
        parts = {
            "macs": EnergyPart(none, none, np.multiply.outer(halves * macs * self.mac_pj * 1e-12, active)),
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
