"""What Google published of the cycles of its TPU's production networks, and the same counters from the model.

The counters say more about the machine than about the networks: shares of cycles can be turned into cycles per tile,
because every tile of weights takes 256 cycles to shift in. `CountedNetwork` holds both, apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ebatch_env.machines.tpu import TPUv1

SOURCE = "Jouppi et al., ISCA 2017 (arXiv 1704.04760)"
GATES = 4  # gate matrices that one cell waits for before its vector work


@dataclass(frozen=True)
class CountedNetwork:
    """One of Google's production networks, as tables 1, 3 and 7 of Jouppi et al. describe it.

    The LSTMs' counters were read there. The MLPs' and the ``raw`` of all were read in a transcription of table 3 only, and
    the MLPs' ``model_error`` is recalled.

    Attributes:
        weights: bytes, 8 bits each.
        matrices: fully connected layers.
        vector_layers: element-wise layers.
        batch: rows of activations.
        active, useful, stall, shift, other: percent of cycles: array active; multipliers of peak with useful weights;
            waiting for weights; shifting them in; no matrix work (rows 1, 2, 4, 5 and 6 of table 3).
        raw: percent of cycles with a read-after-write stall; may overlap the others.
        tops: measured in production, apart from the counters.
        model_error: of Google's own performance model against the counters' cycles: the aim here.
        width: values of a vector; 0: not used.
        activation_bytes: 8- or 16-bit activations; not printed, see `row_cycles`.
        checked: how sure the counters are.
    """

    name: str
    weights: float
    matrices: int
    vector_layers: int
    batch: int
    active: float
    useful: float
    stall: float
    shift: float
    other: float
    raw: float
    tops: float
    model_error: float
    width: int = 0
    activation_bytes: int = 1
    checked: Literal["read", "secondary"] = "read"

    @property
    def tiles(self) -> float:
        """64 KiB tiles; ``useful / active`` of each holds weights. LSTM1: 0.60, as 600 in 768 squared (0.61) is."""
        return self.weights / (self.useful / self.active) / (256 * 256)

    @property
    def cycles_per_tile(self) -> float:
        """All cycles over tiles, by the counters: every tile takes 256 cycles to shift in."""
        return 256 / (self.shift / 100)

    @property
    def matrix_cycles(self) -> float:
        """The same without the cycles that have no matrix work."""
        return (self.active + self.stall + self.shift) / 100 * self.cycles_per_tile

    @property
    def rows(self) -> float:
        """Rows of activations per tile, by the counters."""
        return self.active / 100 * self.cycles_per_tile / self.activation_bytes

    @property
    def row_cycles(self) -> float:
        """Array cycles per useful row: multiplications that the counters saw over those that production reports."""
        return self.useful / 100 * peak_tops(TPUv1()) / self.tops

    @property
    def element_row_cycles(self) -> float:
        """Cycles without matrix work, by the counters, per 256 bytes of a vector layer."""
        rows = self.vector_layers * self.batch * -(-self.width * self.activation_bytes // 256)
        return self.other / 100 * self.cycles_per_tile * self.tiles / rows


# Widths: LSTM1's matrices are 600x600 [read]; LSTM0's 24 matrices of 52 M weights have 2.17 M each, 6 cells of four
# 2048x1024 ones would have 2.10 M [derived].
NETWORKS_COUNTED: Mapping[str, CountedNetwork] = MappingProxyType(
    {
        net.name: net
        for net in (
            CountedNetwork(
                "MLP0", 20e6, 5, 0, 200, 12.7, 12.5, 53.9, 15.9, 17.5, 3.3, 12.3, 0.068, checked="secondary"
            ),
            CountedNetwork("MLP1", 5e6, 4, 0, 168, 10.6, 9.4, 44.2, 13.4, 31.9, 8.4, 9.7, 0.109, checked="secondary"),
            CountedNetwork("LSTM0", 52e6, 24, 34, 64, 8.2, 8.2, 58.1, 15.8, 17.9, 14.6, 3.7, 0.077, 1024, 2),
            CountedNetwork("LSTM1", 34e6, 37, 19, 96, 10.5, 6.3, 62.1, 17.1, 10.3, 10.6, 2.8, 0.054, 600, 2),
        )
    }
)
LSTMS = (NETWORKS_COUNTED["LSTM0"], NETWORKS_COUNTED["LSTM1"])


def peak_tops(machine: TPUv1) -> float:
    """10^12 operations per second at full rate with 8 bits, a multiply-accumulate counted as two."""
    return 2 * machine.array**2 * machine.frequency_hz / 1e12


def counters(machine: TPUv1, net: CountedNetwork, rows: float | None = None) -> dict[str, float]:
    """Google's counters as ``machine`` gives them for one step in which every weight streams once.

    Args:
        machine: its ``activation_bytes`` count, not the network's.
        net: weights, matrices, vector layers and batch; its counters play no part but for the padding of a tile.
        rows: activations per tile; None: the batch.

    Returns:
        Percent of all cycles: ``active``, ``useful``, ``stall``, ``shift``, ``other`` (see `CountedNetwork`); then
        ``cycles`` per tile and ``tops``.
    """
    rows = net.batch if rows is None else rows
    tile = float(machine.tile_s(rows)) * machine.frequency_hz
    active = rows * machine.cycles_per_row
    shift = min(float(machine.array), tile - active)  # the next tile shifts in while the array works, if it is there
    vectors = net.vector_layers * net.batch * machine.elementwise_cycles(net.width, machine.activation_bytes)
    other = (vectors + net.matrices / GATES * machine.drain_cycles) / net.tiles
    total = tile + other
    filled = net.useful / net.active
    shares = {
        "active": active,
        "useful": active * filled,
        "stall": tile - active - shift,
        "shift": shift,
        "other": other,
    }
    tops = 2 * rows * filled * machine.array**2 / total * machine.frequency_hz / 1e12
    return {**{name: 100 * cycles / total for name, cycles in shares.items()}, "cycles": total, "tops": tops}
