"""`Fleet`: several machines, on one of which each episode is played, so that one policy learns to serve them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.actions import ActionCodec
from ebatch_env.environment.keywords import resolved
from ebatch_env.environment.observations import ObservationLayout
from ebatch_env.environment.observing import N_STATE
from ebatch_env.environment.rewards import Objective
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray, fail
from ebatch_env.machines import resolve_machine
from ebatch_env.networks import Network
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.state import Int64Array
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import WorkloadLike


class FleetLayout(ObservationLayout):
    """The fields that the machines of a fleet share.

    Names, forms and ranges are the same on all of them. Scales are relative to the machine, so a row is read with those
    of the machine that its constant part shows; a field's ``scale`` is NaN where they differ.

    Attributes:
        layouts: each machine's own.
    """

    def __init__(self, machines: Sequence[System]) -> None:
        self.layouts = tuple(machine.observations for machine in machines)
        columns = zip(*(layout.fields for layout in self.layouts), strict=True)
        super().__init__(
            [replace(c[0], scale=c[0].scale if len({field.scale for field in c}) == 1 else math.nan) for c in columns]
        )
        self._constants = np.stack([machine.constants[N_STATE:] for machine in machines])

    def machine_of(self, observation: npt.NDArray[np.floating]) -> Int64Array:
        """The number of the machine whose constants come closest to those in each observation (..., D), shape (...)."""
        shown = np.asarray(observation)[..., None, N_STATE:]
        return np.asarray(np.abs(shown - self._constants).max(axis=-1).argmin(axis=-1), dtype=np.int64)

    def read(self, observation: npt.NDArray[np.floating], name: str) -> FloatArray:
        """As `ObservationLayout.read`, each row with the scales of its machine."""
        values = np.stack([layout.read(observation, name) for layout in self.layouts])
        return np.asarray(np.take_along_axis(values, self.machine_of(observation)[None], axis=0)[0])

    def scale_text(self, n: int) -> str:
        """The scales of field ``n``, machine by machine."""
        return " / ".join(dict.fromkeys(layout.scale_text(n) for layout in self.layouts))


@dataclass(frozen=True, eq=False)
class Fleet:
    """Several machines that serve the same network, each a `System` of its own; an episode is played on one of them.

    Load, deadlines, hold, costs and observations are relative to the machine of the episode. Build it with
    `build_system` from a list of accelerators.

    Attributes:
        machines: the machines. They differ in nothing that a policy has to know besides what it observes.
        actions: what their codecs share. T has the levels of all; ``legal`` says what is legal on one at least.
        observations: what their layouts share; ``machine_of`` tells which machine an observation shows.
    """

    machines: tuple[System, ...]
    actions: ActionCodec
    observations: FleetLayout

    @classmethod
    def build(cls, *, accelerator: Sequence[Any], **keywords: Any) -> Fleet:
        """Work out the keywords of an environment whose ``accelerator`` is a list.

        Raises:
            ValueError: as `System.build`; also for an empty list, and for machines that show the same constants.
        """
        if not accelerator:
            raise fail("accelerator", accelerator, "a list of at least one machine")
        machines = [resolved("accelerator", spec, resolve_machine) for spec in accelerator]
        systems = [System.build(accelerator=machine, **keywords) for machine in machines]
        shown = {system.constants.tobytes() for system in systems}
        if len(shown) < len(systems):
            names = [machine.name for machine in machines]
            raise fail("accelerator", names, "a list without repeats, of machines that an observation can tell apart")
        levels = _united([system.actions.levels["time_steps"] for system in systems])
        systems = [replace(s, actions=s.actions.with_time_steps(levels, s.table)) for s in systems]
        codecs = [system.actions for system in systems]
        legal = {name: np.any([codec.legal[name] for codec in codecs], axis=0) for name in codecs[0].legal}
        return cls(tuple(systems), replace(codecs[0], legal=legal), FleetLayout(systems))

    def draw_machine(self, rng: np.random.Generator) -> int:
        """Draw the number of an episode's machine, all alike; before its trace is drawn."""
        return int(rng.random() * len(self.machines))

    def check_trace(self, trace: Any, requests: int) -> RequestTrace:
        """Return ``trace`` if it is a right one of so many ``requests`` that every machine can play.

        Raises:
            ValueError: it is not; the message names field, value and range.
        """
        checked = [machine.check_trace(trace, requests) for machine in self.machines]
        return checked[0]

    # What is the same on all machines --------------------------------------------------------------------------

    @property
    def network(self) -> Network:
        """What runs."""
        return self.machines[0].network

    @property
    def lanes(self) -> int:
        """Lanes B."""
        return self.machines[0].lanes

    @property
    def workload(self) -> WorkloadLike:
        """Where the traces come from."""
        return self.machines[0].workload

    @property
    def load(self) -> tuple[float, float]:
        """Arrivals relative to the saturated reference of the episode's machine."""
        return self.machines[0].load

    @property
    def requests(self) -> int:
        """Requests R of an episode."""
        return self.machines[0].requests

    @property
    def deadline(self) -> float | None:
        """A request's deadline after its arrival, in reference latencies."""
        return self.machines[0].deadline

    @property
    def objective(self) -> Objective:
        """Weights of the cost."""
        return self.machines[0].objective

    @property
    def lengths_known(self) -> bool:
        """Whether sequence lengths can be seen and used."""
        return self.machines[0].lengths_known

    @property
    def mix_edges(self) -> npt.NDArray[np.int32]:
        """The octiles of the lengths, shape (7,)."""
        return self.machines[0].mix_edges

    @property
    def mean_length(self) -> float:
        """Mean of the lengths."""
        return self.machines[0].mean_length


AnySystem = System | Fleet


def build_system(**keywords: Any) -> AnySystem:
    """Work out the keywords of an environment: a `System`, or a `Fleet` where ``accelerator`` lists several machines.

    Raises:
        ValueError: as `System.build` and `Fleet.build`.
    """
    machines = keywords.get("accelerator")
    if not isinstance(machines, (list, tuple)):
        return System.build(**keywords)
    if len(machines) == 1:
        return System.build(**{**keywords, "accelerator": machines[0]})
    return Fleet.build(**keywords)


def _united(levels: Sequence[Int64Array]) -> Int64Array:
    """The levels of T of all machines, the unlimited one last."""
    if all(np.array_equal(levels[0], other) for other in levels):
        return levels[0]
    found = np.unique(np.concatenate(levels))
    finite = found[found != k.LONGEST]
    return np.append(finite, k.LONGEST) if finite.size < found.size else finite
