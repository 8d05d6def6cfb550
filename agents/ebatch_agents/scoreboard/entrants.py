"""The baselines that play on a scoreboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebatch_env.environment.fleet import AnySystem
from ebatch_env.scoring.jobs import PolicySpec
from ebatch_env.scoring.policy import PerMachine, policy_class, policy_names, stored_policies

HOPELESS = ("random", "serial")  # they dwarf every picture
PAPER = "ebatch"  # the scheduler that all are compared with


@dataclass(frozen=True)
class Entrant:
    """A baseline.

    Attributes:
        label: its registered name.
        knobs: the values it plays with: tuned where it was tuned.
        tuned: what tuning found for the environment (`ebatch_env.scoring.tuning.Tuned.entry`, less the knobs); None: it was
            not tuned there, or has nothing to tune.
    """

    label: str
    knobs: Mapping[str, Any]
    tuned: Mapping[str, Any] | None

    @property
    def spec(self) -> PolicySpec:
        """To play with: it finds the tuned knobs itself."""
        return PolicySpec(self.label, self.label)


def baselines(env_id: str, system: AnySystem) -> list[Entrant]:
    """Every installed scheduler that can act on an environment, but for the `HOPELESS`."""
    found = []
    for name in policy_names():
        if name in HOPELESS or name in stored_policies():
            continue
        try:
            policy = PolicySpec(name, name).make(system, env_id)
        except ValueError:
            continue
        entry_of = getattr(policy_class(name), "tuned_entry", None)
        entry = None if entry_of is None else entry_of(env_id)
        tuned = None if entry is None else {key: value for key, value in entry.items() if key != "knobs"}
        one = policy.policies[0] if isinstance(policy, PerMachine) else policy  # the same knobs on every machine
        found.append(Entrant(name, dict(getattr(one, "settings", {})), tuned))
    return found


def candidates(found: Sequence[Entrant]) -> list[Entrant]:
    """Those that may be the best tuned one."""
    return [entrant for entrant in found if entrant.tuned is not None]


def best_tuned(costs: Mapping[str, float]) -> str | None:
    """The label of least cost, the first in the alphabet of equals; None: there are none.

    Args:
        costs: of all `candidates`, means over *validation* episodes: these knobs were not tuned on them, so one that fits its
            tuning episodes and no others gains nothing by it, and they are not those of the evaluation.
    """
    return min(costs, key=lambda label: (costs[label], label)) if costs else None


def rivals(found: Sequence[Entrant], costs: Mapping[str, float]) -> list[str]:
    """Whom all are compared with: E-BATCH, and the best tuned baseline, which may be the same.

    Args:
        found: the baselines.
        costs: as in `best_tuned`.
    """
    best = best_tuned(costs)
    labels = [entrant.label for entrant in found]
    return list(dict.fromkeys([*([PAPER] if PAPER in labels else []), *([best] if best is not None else [])]))
