"""E-PUR (Silfa, Dot, Arnau, Gonzalez; PACT 2018, arXiv 1711.07480), with its dot-product units replicated for batching.

Four computation units, one per gate, evaluate a layer neuron by neuron; each has its own weight memory. For batches
every unit has several dot-product units that share the weights read. ``docs/machines.md`` says more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ebatch_env.costs import CostTable, EnergyPart
from ebatch_env.errors import FloatArray, check_integer, check_number, fail
from ebatch_env.machines.approximation import MemoizationEffect, PrecisionEffect, resolve_effect
from ebatch_env.machines.base import check_lanes, steps_that_fit
from ebatch_env.machines.epur_energy import EPUREnergy, resolve_energy
from ebatch_env.machines.row_evaluation import RowEvaluation
from ebatch_env.machines.shapes import LayerShapes
from ebatch_env.networks import Network

MIB = float(1 << 20)
SPILL_STEPS = 4096  # T where intermediate results go to DRAM: memory no longer bounds it, tables must


@dataclass(frozen=True)
class EPUR:
    """E-PUR for batches.

    [R] read in the paper named, [D] derived, [A] assumed.

    Attributes:
        frequency_hz: 500 MHz [R, E-PUR].
        units: computation units, one per gate: 4 [R, E-PUR]; a GRU leaves one idle [A].
        dot_width: multiplications a dot-product unit does per cycle: 16 [R, E-PUR].
        replicas: dot-product units per computation unit, one lane each: 32 [A]. It makes 2048 MACs; E-PUR is said to
            stop scaling on EESEN past about 4K MACs (arXiv 1911.01258). 1 is the published E-PUR.
        word_bytes: 2 (FP16) or 4 (FP32) [R, E-PUR].
        mfu_tail_cycles: from the last dot product of a step to its last output, once per step and direction: 34 [D]
            from ADD 2, MUL 4, EXP 5 and 2 for communication [R, E-PUR]: a sigmoid (EXP, ADD, MUL as division) 11,
            communication 2, cell state (MUL, ADD) 6, tanh 11, output gate (MUL) 4.
        weight_memory_bytes: all units together: 16 MiB [R, E-PUR]; 8 MiB with MWL.
        intermediate_memory_bytes: 6 MiB, half of it for a layer's inputs and half for its outputs [R, E-PUR].
        input_memory_bytes: per unit and replica: 8 KiB [R, E-PUR; one per replica A]; 4 KiB with MWL.
        bandwidth_bytes_per_s: LPDDR4: 30 GB/s peak [R, E-PUR].
        mwl: maximizing weight locality: the forward half of a layer for all steps of a pass first, a weight row at a
            time from a row buffer, then the recurrent half.
        spill: intermediate results stream through DRAM, so that memory does not bound T (4096 then). Not in the paper.
        notifies: the hardware support of E-BATCH: see `CostTable`.
        energy: a name in `ENERGY_SETS`, an `EPUREnergy` or a mapping of its fields.
        memoization: fuzzy memoization of neurons: a `MemoizationEffect` or a mapping of its fields; None: off.
        precision: dynamic precision: a `PrecisionEffect` or a mapping of its fields; None: off. With it weights and
            activations have 8 bits, whatever ``word_bytes`` says. Neither goes with ``mwl``, which evaluates the halves
            of a row apart and the forward half for steps whose state is not yet known.
        name: shown in tables.

    Raises:
        ValueError: a field outside its range; the message names field, value and range.
    """

    frequency_hz: float = 500e6
    units: int = 4
    dot_width: int = 16
    replicas: int = 32
    word_bytes: int = 2
    mfu_tail_cycles: int = 34
    weight_memory_bytes: float = 16 * MIB
    intermediate_memory_bytes: float = 6 * MIB
    input_memory_bytes: float = 8 * 1024.0
    bandwidth_bytes_per_s: float = 30e9
    mwl: bool = False
    spill: bool = False
    notifies: bool = True
    energy: str | Mapping[str, Any] | EPUREnergy = "peak-fp32"
    memoization: MemoizationEffect | Mapping[str, Any] | None = None
    precision: PrecisionEffect | Mapping[str, Any] | None = None
    name: str = "epur"

    def __post_init__(self) -> None:
        """Check every field."""
        for field in ("frequency_hz", "weight_memory_bytes", "intermediate_memory_bytes", "bandwidth_bytes_per_s"):
            object.__setattr__(self, field, check_number(field, getattr(self, field), low=0.0, low_open=True))
        object.__setattr__(
            self, "input_memory_bytes", check_number("input_memory_bytes", self.input_memory_bytes, low=0.0)
        )
        for field, low in (("units", 4), ("dot_width", 1), ("replicas", 1), ("mfu_tail_cycles", 0)):
            object.__setattr__(self, field, check_integer(field, getattr(self, field), low=low, high=1 << 16))
        if self.word_bytes not in (2, 4) or isinstance(self.word_bytes, (bool, float)):
            raise fail("word_bytes", self.word_bytes, "2 or 4")
        for field in ("mwl", "spill", "notifies"):
            if not isinstance(getattr(self, field), (bool, np.bool_)):
                raise fail(field, getattr(self, field), "True or False")
        if not isinstance(self.name, str):
            raise fail("name", self.name, "a string")
        object.__setattr__(self, "energy", resolve_energy(self.energy))
        rows = self.rows
        for field, effect in (("memoization", rows.memoization), ("precision", rows.precision)):
            if effect is not None and self.mwl:
                raise fail(field, effect, "None on a machine with mwl")
            object.__setattr__(self, field, effect)

    @classmethod
    def with_mwl(cls, **fields: Any) -> EPUR:
        """E-PUR with MWL: half the weight memory and half the input memory of the plain machine [R, E-PUR]."""
        sizes = {"weight_memory_bytes": 8 * MIB, "input_memory_bytes": 4 * 1024.0}
        return cls(**{"mwl": True, **sizes, "name": "epur-mwl", **fields})

    @property
    def costs(self) -> EPUREnergy:
        """The energy constants in use."""
        return resolve_energy(self.energy)

    @property
    def rows(self) -> RowEvaluation:
        """What is left of the dot products with the approximations in use."""
        memoization = resolve_effect("memoization", MemoizationEffect, self.memoization)
        precision = resolve_effect("precision", PrecisionEffect, self.precision)
        return RowEvaluation(self.replicas, 8 * self.word_bytes, memoization, precision)

    @property
    def weight_bytes(self) -> float:
        """Bytes of memory that a weight takes."""
        return self.rows.stored_bits / 8

    @property
    def activation_bytes(self) -> float:
        """Bytes of memory that an activation takes."""
        return self.rows.bits / 8

    @property
    def mac_pj(self) -> float:
        """Energy of one multiply-accumulate at full width (pJ)."""
        widths = {8: self.costs.mac_int8_pj, 16: self.costs.mac_fp16_pj, 32: self.costs.mac_fp32_pj}
        return widths[self.rows.bits]

    @property
    def static_w(self) -> float:
        """Leakage of all on-chip memory (W); replicas bring their input memories, and memoization its buffers."""
        memoization = self.rows.memoization
        of_a_replica = self.input_memory_bytes + (0.0 if memoization is None else memoization.buffer_bytes)
        memory = self.weight_memory_bytes + self.intermediate_memory_bytes + self.units * self.replicas * of_a_replica
        return self.costs.leakage_w_per_mib * memory / MIB

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        """Costs of ``network`` with up to ``lanes`` sequences side by side.

        Raises:
            ValueError: ``lanes`` outside 1..4096, not one step's results fit in the intermediate memory, or a layer's
                neurons not in the memoization buffer.
        """
        lanes = check_lanes(lanes)
        pj = self.costs
        shape = LayerShapes(network)
        rows, word, bandwidth = self.rows, self.weight_bytes, self.bandwidth_bytes_per_s
        if rows.memoization is not None and shape.hidden.max() > rows.memoization.most_neurons:
            expected = f"at most {rows.memoization.most_neurons} in {network.name!r} for the memoization buffer"
            raise fail("hidden_size", int(shape.hidden.max()), expected)
        active = np.arange(lanes + 1.0)  # (B+1,)
        busy = (active > 0).astype(np.float64)

        kept, streamed, sweep = self._placement(shape)
        compute_s = self._step_s(shape, active)
        spilled = (
            2.0 * shape.outputs * self.activation_bytes * self.spill
        )  # (n, 1) bytes per lane-step: written, then read
        step_s = np.maximum(compute_s, (streamed * busy + spilled * active) / bandwidth)
        # Neurons are evaluated in order, so weights stream in ahead of the first step: only what it cannot cover is
        # exposed. With room for two layers the next one loads early instead, and the whole transfer counts.
        transfer_s = (kept + streamed + sweep)[:, 0] / bandwidth
        prefetch = bool(kept.any()) and self._two_layers_fit(shape)
        # What covers it is a step of a full group: with memoization fewer lanes skip more rows and would cover less.
        first_s = np.maximum(compute_s[:, min(lanes, self.replicas)], ((streamed + spilled) / bandwidth)[:, 0])
        load_s = transfer_s if prefetch else np.maximum(0.0, transfer_s - first_s)

        forward, recurrent = shape.input_weights * word, shape.recurrent_weights * word
        row_pj = pj.small_pj_per_byte if self.mwl else pj.weight_pj_per_byte
        # Read once per step: a unit holds each word while its lane groups take turns. What streams is written first.
        read = rows.bits_read(active) / rows.stored_bits  # (B+1,)
        weight_j = (forward * row_pj + recurrent * pj.weight_pj_per_byte) * read + streamed * pj.weight_pj_per_byte
        weight_j = busy * weight_j * 1e-12
        per_bit = pj.dram_pj_per_bit * 8e-12
        none, no_steps = np.zeros(shape.n), np.zeros((shape.n, lanes + 1))
        # MWL reads the forward weights once per pass: from the weight memory, or from DRAM where they do not stay.
        at_home = forward * self.mwl * (sweep == 0)
        parts = {
            "macs": EnergyPart(none, none, rows.lane_macs(active) * shape.weights * self.mac_pj * 1e-12),
            "weight_buffer": EnergyPart(
                kept[:, 0] * pj.weight_pj_per_byte * 1e-12, at_home[:, 0] * pj.weight_pj_per_byte * 1e-12, weight_j
            ),
            "activations": EnergyPart(none, none, self._activation_pj(shape, active) * 1e-12),
            "dram": EnergyPart(
                kept[:, 0] * per_bit, sweep[:, 0] * per_bit, (streamed * busy + spilled * active) * per_bit
            ),
        }
        if rows.memoization is not None:
            each = rows.predictor_pj(shape.inputs + shape.hidden, pj.mac_fp16_pj, pj.small_pj_per_byte)
            parts["predictor"] = EnergyPart(none, none, active * shape.gates * shape.outputs * each * 1e-12)
        return CostTable(
            step_s=step_s,
            step_j=sum((part.step_j for part in parts.values()), no_steps),
            load_s=load_s,
            load_j=sum((part.load_j for part in parts.values()), none),
            input_j=sum((part.input_j for part in parts.values()), none),
            static_w=self.static_w,
            prefetch=prefetch,
            notifies=self.notifies,
            max_time_steps=self._max_time_steps(network, lanes, shape),
            whole_sequences=network.bidirectional,
            parts=parts,
            name=f"{self.name} / {network.name}",
        )

    def _step_s(self, shape: LayerShapes, active: FloatArray) -> FloatArray:
        """Compute time of a step, (n, B+1): neuron by neuron, a group of ``replicas`` lanes after the other."""
        per_neuron = np.ceil(shape.inputs / self.dot_width) + np.ceil(shape.hidden / self.dot_width)
        rows = self.rows
        cycles = shape.hidden * rows.row_cycles(per_neuron, shape.inputs + shape.hidden, active)
        cycles = shape.directions * (cycles + (active > 0) * (rows.fill_cycles + self.mfu_tail_cycles))
        return np.asarray(cycles / self.frequency_hz, dtype=np.float64)

    def _placement(self, shape: LayerShapes) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Bytes from DRAM of each layer, (n, 1) each: loaded per pass, streamed per step, swept per pass (MWL)."""
        capacity = self.weight_memory_bytes / self.units  # gates are bound to units, and so are their weights
        word, gates = self.weight_bytes, shape.gates
        forward, recurrent = shape.input_weights * word, shape.recurrent_weights * word
        nothing = np.zeros_like(forward)
        if ((forward + recurrent) / gates).sum() <= capacity:
            return nothing, nothing, nothing  # the whole network stays
        staying = recurrent if self.mwl else forward + recurrent
        sweep = forward if self.mwl else nothing
        if (staying / gates).sum() <= capacity:
            return nothing, nothing, sweep  # MWL: all recurrent halves stay
        kept = np.minimum(staying, capacity * gates)
        return kept, staying - kept, sweep

    def _two_layers_fit(self, shape: LayerShapes) -> bool:
        """Whether every layer fits beside the next: its weights could then load while the other computes."""
        weights = shape.recurrent_weights if self.mwl else shape.weights
        per_unit = (weights * self.weight_bytes / shape.gates)[:, 0]
        return bool((per_unit + np.roll(per_unit, -1)).max() <= self.weight_memory_bytes / self.units)

    def _activation_pj(self, shape: LayerShapes, active: FloatArray) -> FloatArray:
        """Picojoules of a step, (n, B+1): input memories, intermediate memory and multifunctional units."""
        pj, word = self.costs, self.activation_bytes
        operands = shape.weights * word * pj.small_pj_per_byte  # each MAC reads its input word
        vectors = shape.directions * (shape.inputs + shape.hidden) * word  # x and h, copied to every unit
        moved = (shape.directions * shape.inputs + shape.outputs) * word
        moved = moved + 2.0 * shape.gates * shape.outputs * self.mwl  # MWL's 8-bit partial sums: written and read
        function_pj = pj.mac_fp32_pj if self.word_bytes == 4 else pj.mac_fp16_pj
        others = (
            vectors * self.units * pj.small_pj_per_byte
            + moved * pj.intermediate_pj_per_byte
            + shape.ops * shape.outputs * function_pj
        )
        return np.asarray(self.rows.lane_operands(active) * operands + active * others, dtype=np.float64)

    def _max_time_steps(self, network: Network, lanes: int, shape: LayerShapes) -> int:
        if self.spill:
            return SPILL_STEPS
        # One direction runs after the other, so MWL's partial sums of only one of them are alive at a time.
        alive = shape.outputs * self.activation_bytes + shape.gates * shape.hidden * self.mwl
        return steps_that_fit(self.name, network, lanes, self.intermediate_memory_bytes / 2, float(alive.max()))
