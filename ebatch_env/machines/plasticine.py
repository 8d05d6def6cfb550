"""Plasticine running recurrent layers (Zhao, Zhang, Olukotun; MLSys 2019, arXiv 1909.13654).

A spatial machine: an array of compute and memory units is configured once as the pipeline of one cell, and the loops
over hidden units and over the dot product are unrolled ``hu`` and ``ru`` times. Weights stay in the memory units.
``docs/spatial.md`` says more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ebatch_env.costs import CostTable, EnergyPart
from ebatch_env.errors import check_integer, check_number, fail
from ebatch_env.machines.base import check_lanes, steps_that_fit
from ebatch_env.networks import Layer, Network

KIB = 1024.0
# Element-wise operations of a cell along its pipeline, one entry per unit or group of units that the next one waits
# for. A gate: bias, then the index into a function table (subtract, scale, clamp twice): 5. LSTM: four gates; the cell
# state (two products, a sum) and its table index (4); the output product. Counted in a public LSTM program in Spatial,
# the machine's language. GRU by analogy: two gates; the candidate (a product, two sums) and its index; interpolation.
_CELL_OPS = {"lstm": (5, 5, 5, 5, 7, 1), "gru": (5, 5, 7, 3)}
_TABLES = {"lstm": 5, "gru": 3}  # function tables read per hidden unit: one per gate, and tanh of an LSTM's state
# Units that a step passes through one after another, the same number in both cells: weight memory, dot product, sum of
# partial products, 2 for a gate, table, 2 for state or candidate, table, output, state memory.
CHAIN_UNITS = 11


@dataclass(frozen=True)
class Loops:
    """How far the loops are unrolled: ``hu`` hidden units side by side, each with ``ru`` dot-product units per gate."""

    hu: int
    ru: int


@dataclass(frozen=True)
class Plasticine:
    """Plasticine with 8-bit weights.

    [R] read in the source named, [M] recalled from Zhao et al., not checked, [D] derived, [A] assumed.

    Attributes:
        frequency_hz: 1 GHz [R, Prabhakar et al., ISCA 2017, abstract].
        compute_units: 192 [M].
        memory_units: 384 [M].
        memory_unit_bytes: 84 KiB [M].
        vector_lanes: 16 per compute unit [M; 16 R as well in the public LSTM program].
        packed: 8-bit products a lane does per cycle: 4 [M].
        stages: of a compute unit's pipeline: 4 [M].
        fan_in: partial products that one compute unit sums: 16, one per lane [A].
        step_latency_cycles: from a step's last weights to the first of the next: 142 [D]. Fitted together with
            ``start_cycles`` to the recalled latencies; 13 cycles for each of the `CHAIN_UNITS` on the way, network
            included. No source gives the hops, so this is a check of plausibility and no explanation.
        start_cycles: once per pass: 50 [D], fitted.
        weight_bytes: 1 [M].
        activation_bytes: of an element that passes between layers: 1 [A]; an LSTM's cell state takes 4 [A].
        hu, ru: the `Loops`; both None: searched, see `search`.
        chips: chips that share the layers; None: as few as hold all weights, so that nothing is ever reloaded [A; the
            paper has one]. Layers stay whole unless one is larger than a chip; the way from chip to chip is not counted [A].
        compute_unit_w, memory_unit_w: drawn by a working unit: 224 and 300.3 mW [R, the compiler's power model
            (stanford-ppl/pir); units of the 2017 size]. All units together: 158 W; 160 W are recalled for the chip.
        idle_w: drawn always, per chip: 32 W [A], a fifth of that.
        notifies: the hardware support of E-BATCH: see `CostTable`.
        name: shown in tables.

    Raises:
        ValueError: a field outside its range; the message names field, value and range.
    """

    frequency_hz: float = 1e9
    compute_units: int = 192
    memory_units: int = 384
    memory_unit_bytes: float = 84 * KIB
    vector_lanes: int = 16
    packed: int = 4
    stages: int = 4
    fan_in: int = 16
    step_latency_cycles: int = 142
    start_cycles: int = 50
    weight_bytes: int = 1
    activation_bytes: int = 1
    hu: int | None = None
    ru: int | None = None
    chips: int | None = None
    compute_unit_w: float = 0.224
    memory_unit_w: float = 0.3003
    idle_w: float = 32.0
    notifies: bool = True
    name: str = "plasticine"

    def __post_init__(self) -> None:
        """Check every field."""
        for field in ("frequency_hz", "memory_unit_bytes"):
            object.__setattr__(self, field, check_number(field, getattr(self, field), low=0.0, low_open=True))
        for field in ("compute_unit_w", "memory_unit_w", "idle_w"):
            object.__setattr__(self, field, check_number(field, getattr(self, field), low=0.0))
        for field, low, high in (
            ("compute_units", 1, 1 << 16),
            ("memory_units", 1, 1 << 16),
            ("vector_lanes", 1, 1024),
            ("packed", 1, 16),
            ("stages", 1, 64),
            ("fan_in", 2, 1024),
            ("step_latency_cycles", 0, 1 << 20),
            ("start_cycles", 0, 1 << 20),
            ("weight_bytes", 1, 4),
            ("activation_bytes", 1, 4),
        ):
            object.__setattr__(self, field, check_integer(field, getattr(self, field), low=low, high=high))
        for field in ("hu", "ru", "chips"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, check_integer(field, getattr(self, field), low=1, high=1 << 16))
        if (self.hu is None) != (self.ru is None):
            raise fail("hu and ru", (self.hu, self.ru), "both given or both None")
        if not isinstance(self.notifies, (bool, np.bool_)):
            raise fail("notifies", self.notifies, "True or False")
        if not isinstance(self.name, str):
            raise fail("name", self.name, "a string")

    @property
    def products_per_cycle(self) -> int:
        """8-bit products of one compute unit per cycle: 64."""
        return self.vector_lanes * self.packed

    def _inner_cycles(self, layer: Layer, loops: Loops) -> int:
        """Cycles of one dot product of ``hu`` hidden units: input and recurrent part in one."""
        return -(-(layer.input_size + layer.hidden_size) // (self.products_per_cycle * loops.ru))

    def work_cycles(self, layer: Layer, loops: Loops) -> int:
        """Cycles in which the dot-product units work on one lane-step: they bound the rate of a full pipeline."""
        return layer.directions * -(-layer.hidden_size // loops.hu) * self._inner_cycles(layer, loops)

    def latency_cycles(self, layer: Layer, loops: Loops) -> int:
        """Cycles a step spends in the pipeline before the next can start.

        Partial sums of more than ``fan_in`` units need a second unit one behind the other; each adds its share of
        ``step_latency_cycles``.
        """
        extra = (len(self._sums(loops.ru)) - 1) * round(self.step_latency_cycles / CHAIN_UNITS)
        return layer.directions * (self.step_latency_cycles + max(0, extra))

    def _sums(self, partials: int) -> list[int]:
        """Units that sum ``partials`` partial products, level by level."""
        levels = []
        while partials > 1:
            partials = -(-partials // self.fan_in)
            levels.append(partials)
        return levels

    def _columns(self, layer: Layer, loops: Loops) -> int:
        """Dot-product units; each is fed by weight memories of its own."""
        return layer.gates * loops.hu * loops.ru

    def _weight_units(self, layer: Layer, loops: Loops) -> int:
        """Memory units that hold the layer's weights."""
        columns = self._columns(layer, loops)
        column_bytes = layer.weights * self.weight_bytes / columns
        return columns * int(np.ceil(column_bytes / self.memory_unit_bytes))

    def compute_units_needed(self, layer: Layer, loops: Loops) -> int:
        """Compute units of a cell: dot products, their sums, and what is element-wise.

        No source gives the rule: it is derived from the program's operations and a unit's stages [D].
        """
        sums = layer.gates * loops.hu * sum(self._sums(loops.ru))
        return self._columns(layer, loops) + sums + loops.hu * self._cell_units(layer)

    def _cell_units(self, layer: Layer) -> int:
        return sum(-(-ops // self.stages) for ops in _CELL_OPS[layer.cell])

    def memory_units_needed(self, layer: Layer, loops: Loops) -> int:
        """Memory units of a layer alone on a chip: weights, the vectors x and h in ``ru`` parts, function tables [D]."""
        return self._weight_units(layer, loops) + self._working_units([layer], loops)

    def _working_units(self, layers: Sequence[Layer], loops: Loops) -> int:
        return loops.ru + loops.hu * max(_TABLES[layer.cell] for layer in layers)

    def choices(self, layers: Sequence[Layer], weights_fit: bool = False) -> Iterator[Loops]:
        """Every unrolling whose cell fits the compute units.

        Args:
            layers: the same loops serve all of them, so that nothing is configured anew between layers.
            weights_fit: only those with which each layer, alone on a chip, fits the memory units as well.
        """
        kinds = list(dict.fromkeys(layers))
        widest = max(-(-(x.input_size + x.hidden_size) // self.products_per_cycle) for x in kinds)
        for hu in range(1, self.compute_units + 1):
            for ru in range(1, widest + 1):
                loops = Loops(hu, ru)
                if max(self.compute_units_needed(x, loops) for x in kinds) > self.compute_units:
                    break  # a larger ru needs more
                if not weights_fit or max(self.memory_units_needed(x, loops) for x in kinds) <= self.memory_units:
                    yield loops

    def search(self, layers: Sequence[Layer], weights_fit: bool = False) -> Loops:
        """The unrolling with the fewest cycles for one step of all layers; of equal ones that with fewer units.

        Raises:
            ValueError: none fits.
        """
        found = list(self.choices(layers, weights_fit))
        if not found:
            raise ValueError(
                f"layers must have an unrolling within {self.compute_units} compute and {self.memory_units} memory "
                f"units of {self.name!r}, got {list(dict.fromkeys(layers))}"
            )

        def cost(loops: Loops) -> tuple[int, int, int]:
            cycles = sum(self.work_cycles(x, loops) + self.latency_cycles(x, loops) for x in layers)
            return cycles, max(self.compute_units_needed(x, loops) for x in layers), loops.hu

        return min(found, key=cost)

    def loops(self, layers: Sequence[Layer]) -> Loops:
        """The unrolling in use for these layers: the fields', or the best one.

        Raises:
            ValueError: the fields ask for more compute units than there are.
        """
        if self.hu is None or self.ru is None:
            return self.search(layers)
        chosen = Loops(self.hu, self.ru)
        needed = max(self.compute_units_needed(layer, chosen) for layer in layers)
        if needed > self.compute_units:
            raise fail("hu and ru", (self.hu, self.ru), f"within {self.compute_units} compute units (needed: {needed})")
        return chosen

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        """Costs of ``network`` with up to ``lanes`` sequences, whose steps follow each other through the pipeline.

        Lanes do not depend on each other, so the dot-product units work without a gap and the pipeline's latency shows
        once per step, whatever the number of lanes. Copies of the cell in unused units would do no better than a
        larger ``hu``, which the search has already looked at.

        Raises:
            ValueError: ``lanes`` outside 1..4096, or the cell or its intermediate results do not fit.
        """
        lanes = check_lanes(lanes)
        layers = network.layers
        loops = self.loops(layers)
        active = np.arange(lanes + 1.0)  # (B+1,)
        work = np.array([self.work_cycles(x, loops) for x in layers], dtype=np.float64)
        latency = np.array([self.latency_cycles(x, loops) for x in layers], dtype=np.float64)
        cycles = np.multiply.outer(work, active) + np.multiply.outer(latency, active > 0)

        chips, steps = self._chips_and_steps(network, lanes, loops)
        # Dot-product units and their memories work in every cycle of the work, the rest once per dot product.
        inner = np.array([self._inner_cycles(x, loops) for x in layers], dtype=np.float64)
        columns = np.array([self._columns(x, loops) for x in layers], dtype=np.float64)
        rest = np.array([self.compute_units_needed(x, loops) for x in layers]) - columns
        tables = np.array([loops.hu * _TABLES[x.cell] for x in layers], dtype=np.float64)
        compute_j = work * (columns + rest / inner) * self.compute_unit_w / self.frequency_hz
        memory_j = work * (columns + loops.ru + tables / inner) * self.memory_unit_w / self.frequency_hz
        none = np.zeros(len(layers))
        parts = {
            "compute": EnergyPart(none, none, np.multiply.outer(compute_j, active)),
            "memory": EnergyPart(none, none, np.multiply.outer(memory_j, active)),
        }
        return CostTable(
            step_s=cycles / self.frequency_hz,
            step_j=parts["compute"].step_j + parts["memory"].step_j,
            load_s=np.full(len(layers), self.start_cycles / self.frequency_hz),
            static_w=chips * self.idle_w,
            notifies=self.notifies,
            max_time_steps=steps,
            whole_sequences=network.bidirectional,
            parts=parts,
            name=f"{self.name} / {network.name}",
        )

    def _chips_and_steps(self, network: Network, lanes: int, loops: Loops) -> tuple[int, int]:
        """Chips that hold all weights, and the largest T whose intermediate results fit in what is left of them."""
        room = self.memory_units - self._working_units(network.layers, loops)
        if room < 1:
            raise fail("memory_units", self.memory_units, "more than vectors and function tables take")
        weights = [self._weight_units(layer, loops) for layer in network.layers]
        needed, free = 0, 0
        for units in weights:  # whole layers, in order; one too large for a chip gets several
            if units > free:
                more = -(-units // room)
                needed, free = needed + more, more * room
            free -= units
        state = sum(x.neurons * (self.activation_bytes + 4 * (x.cell == "lstm")) for x in network.layers)
        alive = max((x.input_size + x.neurons) * self.activation_bytes for x in network.layers)
        one_step = int(np.ceil(lanes * (state + alive) / self.memory_unit_bytes))
        needed = max(needed, -(-(sum(weights) + one_step) // room))
        chips = needed if self.chips is None else self.chips
        if chips < needed:
            raise fail("chips", chips, f">= {needed} for {network.name!r} with {lanes} lanes")
        left = (chips * room - sum(weights)) * self.memory_unit_bytes - lanes * state
        return chips, steps_that_fit(self.name, network, lanes, left, alive)
