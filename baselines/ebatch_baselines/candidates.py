"""Candidates of a search: many played side by side, and a journal from which an interrupted search goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.fleet import AnySystem, Fleet
from ebatch_env.environment.system import System
from ebatch_env.scoring.files import write_json
from ebatch_env.scoring.policy import PerMachine, Policy
from ebatch_env.scoring.runner import REQUESTS_AT_ONCE, ROWS, play
from ebatch_env.scoring.statistics import episode_costs
from ebatch_env.simulator.state import Int64Array

P = TypeVar("P", bound=Policy)
Outcome = tuple[float, int]  # mean cost, infinite if an episode was truncated; decisions taken


def side_by_side(
    system: AnySystem, policy: Policy, count: int, seeds: Sequence[int], take: Callable[[Int64Array], None]
) -> list[Outcome]:
    """What each of ``count`` candidates costs on the episodes.

    Any number of candidates and episodes gives the same outcomes as one candidate at a time.

    Args:
        system: what to play on.
        policy: plays the candidates, each row of observations with its own.
        count: candidates.
        seeds: of the episodes.
        take: told before every block which candidate plays which row, shape (`ROWS`,); rows keep their places.
    """
    pairs = [(candidate, episode) for candidate in range(count) for episode in seeds]
    width = min(ROWS, max(1, REQUESTS_AT_ONCE // system.requests))
    played = []
    for first in range(0, len(pairs), width):
        block = pairs[first : first + width]
        rows = np.array([candidate for candidate, _ in block])
        take(rows[np.arange(ROWS) % len(block)])  # `play` asks for so many rows, copies behind
        played += play(system, policy, [episode for _, episode in block], width)
    outcomes = []
    for first in range(0, len(played), len(seeds)):
        mine = played[first : first + len(seeds)]
        outcomes.append((float(episode_costs(mine).mean()), sum(metrics.decisions for metrics in mine)))
    return outcomes


def one_per_machine(system: AnySystem, make: Callable[[System], P]) -> tuple[Policy, list[P]]:
    """A policy to give to `side_by_side`, and what ``make`` made for each of the machines, of which it is put together."""
    members = [make(machine) for machine in system.machines]
    made = iter(members)
    return (PerMachine(system, lambda machine: next(made)) if isinstance(system, Fleet) else members[0]), members


class Journal:
    """Outcomes by generation, each with a digest of the candidates that were asked for.

    Reading it runs nothing: the search is told the costs again. Generations that ask for other candidates than were kept, after
    a change of libraries or of settings, are played anew.

    Args:
        path: file (JSON) to read and to keep; None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.generations: list[dict[str, Any]] = []
        self.number = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                self.generations = self._read(path)

    @staticmethod
    def _read(path: Path) -> list[dict[str, Any]]:
        """What is in the file; one that is not ours or damaged counts as empty."""
        try:
            found = [
                {
                    "asked": str(entry["asked"]),
                    "costs": [float(cost) for cost in entry["costs"]],
                    "decisions": [int(count) for count in entry["decisions"]],
                }
                for entry in json.loads(path.read_text(encoding="utf-8"))
            ]
        except (ValueError, TypeError, KeyError, OverflowError):
            return []
        return found if all(len(entry["costs"]) == len(entry["decisions"]) for entry in found) else []

    def outcomes(self, asked: npt.NDArray[Any]) -> list[Outcome]:
        """What is known of this generation."""
        if self.number < len(self.generations):
            kept = self.generations[self.number]
            if kept["asked"] == _digest(asked):
                return list(zip(kept["costs"], kept["decisions"], strict=True))[: len(asked)]
            del self.generations[self.number :]
        return []

    def keep(self, asked: npt.NDArray[Any], outcomes: Sequence[Outcome]) -> None:
        """Put down this generation."""
        costs, decisions = zip(*outcomes, strict=True)
        entry = {"asked": _digest(asked), "costs": list(costs), "decisions": list(decisions)}
        self.generations[self.number : self.number + 1] = [entry]
        if self.path is not None:
            write_json(self.path, self.generations)

    def next(self) -> None:
        """Go on to the next generation."""
        self.number += 1


def _digest(asked: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(asked).tobytes()).hexdigest()[:16]
