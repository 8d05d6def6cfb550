"""What an agent decides where, beside E-BATCH.

Each of the two plays the evaluation episodes while the other looks on: both are asked for a decision at every state that either
of them comes to, each with its own memory, and the one that plays is obeyed. So the two are compared on the same states, the
union of those that they visit. States are sorted by how many requests wait and how many lanes are busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

from ebatch_env.environment.actions import CONTROLS, Plans
from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.fleet import AnySystem
from ebatch_env.errors import FloatArray
from ebatch_env.scoring.policy import Policy
from ebatch_env.scoring.runner import ROWS
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.plan import Order

OCCUPANCY_BINS = 8
Edges = npt.NDArray[np.int64]


class _Tally:
    """What one policy chose in each bin.

    Attributes:
        asked: decisions; rounds: those after which something runs; openings: those at which a waiting request could enter.
        steps: sum of log2 T over the rounds; limited: openings at which fewer were admitted than could enter.
        levels: per control, how often each level was chosen.
    """

    def __init__(self, system: AnySystem, shape: tuple[int, int]) -> None:
        self.system = system
        self.asked, self.rounds, self.openings, self.limited = (np.zeros(shape, np.int64) for _ in range(4))
        self.steps = np.zeros(shape)
        self.levels = {name: np.zeros(system.actions.levels[name].size, np.int64) for name in CONTROLS}

    def add(self, place: tuple[Edges, Edges], waiting: Edges, busy: Edges, top: Edges, plans: Plans) -> None:
        """Count decisions: each array has shape (E,); ``top`` is the largest T that the machine can run."""
        steps = np.where(plans.time_steps == k.LONGEST, top, np.minimum(plans.time_steps, top))
        runs = (busy > 0) | (plans.admit != 0)
        room = np.minimum(waiting, self.system.lanes - busy)
        few = (plans.admit != k.NO_LIMIT) & (plans.admit < room)
        np.add.at(self.asked, place, 1)
        np.add.at(self.rounds, place, runs)
        np.add.at(self.steps, place, np.where(runs, np.log2(steps), 0.0))
        np.add.at(self.openings, place, room > 0)
        np.add.at(self.limited, place, few)
        for name, counts in self.levels.items():
            codes = self.system.actions.levels[name]
            counts += (getattr(plans, name)[:, None] == codes).sum(axis=0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None where there was nothing to see."""
        return {
            "log2_steps": _shares(self.steps, self.rounds),
            "limited": _shares(self.limited, self.openings),
            "levels": {name: counts.tolist() for name, counts in self.levels.items()},
        }


def watch(system: AnySystem, policies: dict[str, Policy], seeds: Sequence[int]) -> dict[str, Any]:
    """Let each policy play the episodes drawn with ``seeds`` while the others look on.

    Returns:
        ``waiting`` and ``busy``: the least of each bin; ``states``: how many there were in each bin (waiting, busy); ``levels``:
        names of each control's levels; and per policy what it chose.
    """
    rows, columns = queue_edges(system.lanes), busy_edges(system.lanes)
    tallies = {name: _Tally(system, (rows.size, columns.size)) for name in policies}
    for leader in policies:
        for first in range(0, len(seeds), ROWS):
            _play(system, policies, leader, seeds[first : first + ROWS], tallies, (rows, columns))
    return {
        "waiting": rows.tolist(),
        "busy": columns.tolist(),
        "states": next(iter(tallies.values())).asked.tolist(),
        "levels": {
            name: [level_name(name, code) for code in system.actions.levels[name].tolist()] for name in CONTROLS
        },
        "policies": {name: tally.to_dict() for name, tally in tallies.items()},
    }


def _play(
    system: AnySystem,
    policies: dict[str, Policy],
    leader: str,
    seeds: Sequence[int],
    tallies: dict[str, _Tally],
    edges: tuple[Edges, Edges],
) -> None:
    """As `ebatch_env.scoring.runner.play` plays, counting."""
    n, layout = len(seeds), system.observations
    dynamics = Dynamics(system, n, threads=1)
    dynamics.restart(range(n), [seeding.np_random(seed)[0] for seed in seeds])
    most = np.array([machine.table.max_time_steps for machine in system.machines])
    rows = np.arange(ROWS) % n
    over = np.zeros(n, np.bool_)
    start = np.ones(ROWS, np.bool_)
    states: dict[str, Any] = dict.fromkeys(policies)
    while not over.all():
        observation = dynamics.observation[rows]
        here = observation[:n][~over]
        waiting = np.rint(layout.read(here, "queue_length")).astype(np.int64)
        busy = np.rint(layout.read(here, "lanes_busy") * system.lanes).astype(np.int64)
        place = tuple(
            np.searchsorted(edge, x, side="right") - 1 for edge, x in zip(edges, (waiting, busy), strict=True)
        )
        top = most[dynamics.on[~over]]
        taken = None
        for name, policy in policies.items():
            chosen, states[name] = policy.predict(observation, states[name], start, deterministic=True)
            actions = system.actions.check_actions(chosen, ROWS)[:n]
            tallies[name].add(place, waiting, busy, top, system.actions.decode(actions[~over]))  # type: ignore[arg-type]
            taken = actions if name == leader else taken
        assert taken is not None
        dynamics.step(np.ascontiguousarray(taken), waits=over)
        over |= dynamics.terminated | dynamics.truncated
        start = np.zeros(ROWS, np.bool_)


def queue_edges(lanes: int) -> Edges:
    """Least number waiting in each bin: 0, 1, then powers of two, up to eight times the lanes."""
    return np.array([0, *(1 << n for n in range(int(np.log2(8 * lanes)) + 1))], np.int64)


def busy_edges(lanes: int) -> Edges:
    """Least number of busy lanes in each bin: none, about eighths, and all."""
    parts = [1 + (lanes - 1) * n // OCCUPANCY_BINS for n in range(OCCUPANCY_BINS)]
    return np.unique(np.array([0, *parts, lanes], np.int64))


def level_name(control: str, code: int) -> str:
    """What a level of a control is called in tables."""
    if control == "time_steps":
        return "longest" if code == k.LONGEST else str(code)
    if control == "admit":
        return "all" if code == k.NO_LIMIT else str(code)
    if control == "order":
        return Order(code).name.lower().replace("_", " ")
    return ("no", "yes")[code]


def _shares(total: FloatArray | Edges, count: Edges) -> list[list[float | None]]:
    return [
        [float(t) / int(c) if c else None for t, c in zip(line, counts, strict=True)]
        for line, counts in zip(total, count, strict=True)
    ]
