"""NVIDIA's Tesla V100 running recurrent layers through cuDNN: launch floors and a roofline.

A round is one call of the library. It multiplies the inputs of all steps by the input matrices at once, then goes step
by step: a product with the recurrent matrices and an element-wise kernel, each waiting for the one before.
``docs/spatial.md`` says more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ebatch_env.costs import CostTable, EnergyPart
from ebatch_env.errors import check_integer, check_number, fail
from ebatch_env.machines.base import check_lanes, steps_that_fit
from ebatch_env.networks import Network

MOST_TIME_STEPS = 4096  # memory hardly bounds T; tables must


@dataclass(frozen=True)
class V100:
    """Tesla V100, FP16.

    [R] read in the source named, [2] read second-hand, [D] derived, [A] assumed.

    Attributes:
        bandwidth_bytes_per_s: 790 GB/s, copying, of 900 in print [R, measured by the Paranumal group, 2018].
        flops: tensor cores: 125 TFLOP/s [R, NVIDIA].
        call_floor_s: once per call, host included: 0.38 ms [D] from the recalled latency of the one task with a single
            step, GRU 512/1. A host-side cost of 0.34 ms for one call of a recurrent network through TensorFlow's Python
            interface, on top of its C++ one, is in print [2]: the floor is the host's more than the GPU's.
        step_floor_s: launch, fill and drain of a step's two dependent kernels: 8.1 us [D] from the recalled latency of
            LSTM 256/150, the task with the least traffic per step.
        overlap: whether the floor hides the traffic: max(floor, roofline) instead of their sum. Dependent kernels cannot
            overlap, so False [A].
        word_bytes: FP16: 2.
        memory_bytes: 16 GB [R, OLCF user guide].
        hbm_pj_per_bit: 5 [2]: HBM2, 3.9 to 6.25 in print.
        board_w: 300 W [2], drawn at full rate; idle_w: 50 W [A]; active_w: drawn besides while kernels run: 100 W [A].
        notifies: the hardware support of E-BATCH: see `CostTable`. A runtime can get it here by launching every step
            itself; the library's call does not have it.
        name: shown in tables.

    Raises:
        ValueError: a field outside its range; the message names field, value and range.
    """

    bandwidth_bytes_per_s: float = 790e9
    flops: float = 125e12
    call_floor_s: float = 0.38e-3
    step_floor_s: float = 8.1e-6
    overlap: bool = False
    word_bytes: int = 2
    memory_bytes: float = 16e9
    hbm_pj_per_bit: float = 5.0
    board_w: float = 300.0
    idle_w: float = 50.0
    active_w: float = 100.0
    notifies: bool = True
    name: str = "v100"

    def __post_init__(self) -> None:
        """Check every field."""
        for field in ("bandwidth_bytes_per_s", "flops", "memory_bytes", "board_w"):
            object.__setattr__(self, field, check_number(field, getattr(self, field), low=0.0, low_open=True))
        for field in ("call_floor_s", "step_floor_s", "hbm_pj_per_bit", "idle_w", "active_w"):
            object.__setattr__(self, field, check_number(field, getattr(self, field), low=0.0))
        object.__setattr__(self, "word_bytes", check_integer("word_bytes", self.word_bytes, low=1, high=4))
        if self.mac_pj < 0.0:
            raise fail("board_w", self.board_w, ">= idle_w + active_w + the memory's power at full bandwidth")
        for field in ("overlap", "notifies"):
            if not isinstance(getattr(self, field), (bool, np.bool_)):
                raise fail(field, getattr(self, field), "True or False")
        if not isinstance(self.name, str):
            raise fail("name", self.name, "a string")

    @property
    def mac_pj(self) -> float:
        """Energy of one multiply-accumulate (pJ): what the board's power leaves at full rate, 1.9 [D]."""
        memory_w = self.bandwidth_bytes_per_s * 8e-12 * self.hbm_pj_per_bit
        return (self.board_w - self.idle_w - self.active_w - memory_w) / (self.flops / 2) * 1e12

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        """Costs of ``network`` with up to ``lanes`` sequences: flat in the lanes until the multipliers are full.

        Raises:
            ValueError: ``lanes`` outside 1..4096, or weights and one step do not fit in memory.
        """
        lanes = check_lanes(lanes)
        layers = network.layers
        active = np.arange(lanes + 1.0)  # (B+1,)
        busy = active > 0

        def column(values: list[int]) -> np.ndarray:
            return np.array(values, dtype=np.float64)[:, None]

        inputs, recurrent = column([x.input_weights for x in layers]), column([x.recurrent_weights for x in layers])
        directions = column([x.directions for x in layers])
        neurons, gates = column([x.neurons for x in layers]), column([x.gates for x in layers])
        # Per lane-step: the gates' input part in, the state in and out; the input product reads x and writes that part.
        step_traffic = (gates + 2.0) * neurons * self.word_bytes
        row_traffic = column([x.input_size for x in layers]) * self.word_bytes + gates * neurons * self.word_bytes

        traffic = recurrent * self.word_bytes * busy + step_traffic * active  # (n, B+1)
        roofline = np.maximum(traffic / self.bandwidth_bytes_per_s, 2.0 * recurrent * active / self.flops)
        floor = directions * self.step_floor_s * busy
        step_s = np.maximum(floor, roofline) if self.overlap else floor + roofline

        input_bytes = inputs * self.word_bytes
        load_s = np.zeros(len(layers))
        load_s[0] = self.call_floor_s
        none = np.zeros(len(layers))
        per_byte = self.hbm_pj_per_bit * 8e-12
        macs = (inputs + recurrent) * active * self.mac_pj * 1e-12
        parts = {
            "hbm": EnergyPart(none, input_bytes[:, 0] * per_byte, (traffic + row_traffic * active) * per_byte),
            "macs": EnergyPart(none, none, macs),
            "active": EnergyPart(none, none, step_s * self.active_w),
        }
        alive = max((x.input_size + (1 + x.gates) * x.neurons) * self.word_bytes for x in layers)
        room = self.memory_bytes - network.weights * self.word_bytes
        if room <= 0.0:
            raise fail("memory_bytes", self.memory_bytes, f"more than the weights of {network.name!r} take")
        row_s = np.maximum(row_traffic / self.bandwidth_bytes_per_s, 2.0 * inputs / self.flops)
        return CostTable(
            step_s=step_s,
            step_j=sum((part.step_j for part in parts.values()), np.zeros_like(step_s)),
            load_s=load_s,
            # One kernel, half a step's floor; the matrices stream in once per pass.
            input_floor_s=self.step_floor_s / 2 + input_bytes[:, 0] / self.bandwidth_bytes_per_s,
            input_row_s=row_s[:, 0],
            input_j=parts["hbm"].input_j,
            static_w=self.idle_w,
            notifies=self.notifies,
            max_time_steps=min(MOST_TIME_STEPS, steps_that_fit(self.name, network, lanes, room, alive)),
            whole_sequences=network.bidirectional,
            parts=parts,
            name=f"{self.name} / {network.name}",
        )
