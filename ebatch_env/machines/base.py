"""What every machine description offers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ebatch_env.costs import CostTable
from ebatch_env.errors import check_integer
from ebatch_env.networks import Network

MOST_LANES = 4096
MOST_STEPS = 1 << 20  # what `CostTable` takes at most
# Element-wise operations per neuron and step. LSTM: 4 additions of input and recurrent part, 4 gate functions, 3 for
# the cell state, its tanh, the output product. GRU: 3 additions, 3 functions, 1 reset product, 4 to interpolate.
ELEMENTWISE_OPS = {"lstm": 13, "gru": 11}


@runtime_checkable
class Accelerator(Protocol):
    """A machine: anything with a name that works out the costs of a network. No base class is needed."""

    @property
    def name(self) -> str:
        """Shown in tables and pictures."""
        ...

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        """Times (s) and energies (J) of ``network`` for 0..``lanes`` busy lanes.

        Raises:
            ValueError: the machine cannot run the network with so many lanes.
        """
        ...


def check_lanes(lanes: int) -> int:
    """``lanes`` as an int in 1..4096."""
    return check_integer("lanes", lanes, low=1, high=MOST_LANES)


def steps_that_fit(machine: str, network: Network, lanes: int, room_bytes: float, bytes_per_lane_step: float) -> int:
    """The largest T with ``lanes * T * bytes_per_lane_step <= room_bytes``.

    Raises:
        ValueError: not even one step fits.
    """
    steps = int(room_bytes // (lanes * bytes_per_lane_step))
    if steps < 1:
        most = int(room_bytes // bytes_per_lane_step)
        raise ValueError(
            f"lanes must be an integer in 1..{most} for {network.name!r} on {machine!r}, whose "
            f"{room_bytes:g} bytes hold the intermediate results of one step, got {lanes}"
            if most
            else f"network must leave room for one step of one lane in the {room_bytes:g} bytes of {machine!r}, "
            f"got {network.name!r} with {bytes_per_lane_step:g} bytes"
        )
    return min(steps, MOST_STEPS)
