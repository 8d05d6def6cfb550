"""Policies: what one is, and how a name or a file becomes one.

This package knows no policy. Distributions announce theirs through four entry-point groups:

* ``ebatch_env.policies``: name -> class. ``cls(system, **knobs)`` makes a policy for a `System`, which is one machine;
  on a `Fleet` of several each machine gets one (`PerMachine`). Optional attributes: ``knobs`` (a tuple of `Knob`), and
  ``tuned_knobs(env_id)`` (a class method: the knobs tuned for an id, or None).
* ``ebatch_env.policy_files``: file suffix without its dot -> function ``load(path, system, **knobs)``; ``system`` may
  be a `Fleet`.
* ``ebatch_env.policy_libraries``: name -> function that returns the files that have a name of their own, as a mapping of
  names to `StoredPolicy`.
* ``ebatch_env.trainers``: name -> object with ``knobs`` and ``trial`` (`Trainer`): what `ebatch tune` can tune besides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.fleet import AnySystem, Fleet
from ebatch_env.environment.system import System
from ebatch_env.errors import fail
from ebatch_env.references import imported

POLICIES = "ebatch_env.policies"
POLICY_FILES = "ebatch_env.policy_files"
POLICY_LIBRARIES = "ebatch_env.policy_libraries"
TRAINERS = "ebatch_env.trainers"
AGENTS = "agents"  # in the place of a name: every stored policy that is made for the environment at hand


@runtime_checkable
class Policy(Protocol):
    """Anything with the ``predict`` of Stable-Baselines3; heuristics and agents alike."""

    def predict(
        self,
        observation: npt.NDArray[np.float32],
        state: Any = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions for observations.

        Args:
            observation: (E, D), or (D,) for one environment.
            state: what the last call returned; None at first.
            episode_start: (E,) bool, where an episode has just begun, so that its state starts anew.
            deterministic: take the likeliest action rather than draw one.

        Returns:
            Actions, (E, C) or (E,) if flat; one row less deep for one environment; and the state.
        """
        ...


@dataclass(frozen=True)
class Knob:
    """A parameter of a heuristic that tuning may set.

    Attributes:
        name: the keyword.
        low, high: inclusive range; ignored with ``choices``.
        default: the value without tuning.
        integer: whole numbers only.
        log: search on a logarithmic scale.
        choices: the values themselves instead of a range.
        meaning: one line with the unit.
    """

    name: str
    low: float
    high: float
    default: float | int | str | bool
    integer: bool = False
    log: bool = False
    choices: tuple[Any, ...] = ()
    meaning: str = ""

    def check(self, value: Any) -> Any:
        """Return ``value`` if it is allowed.

        Raises:
            ValueError: naming knob, value and range.
        """
        if self.choices:
            if value not in self.choices:
                raise fail(self.name, value, f"one of {self.choices}")
            return value
        kind = "an integer" if self.integer else "a number"
        expected = f"{kind} in [{self.low:g}, {self.high:g}]"
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))
        if not number or not self.low <= value <= self.high or (self.integer and value != int(value)):
            raise fail(self.name, value, expected)
        return int(value) if self.integer else float(value)


@runtime_checkable
class Trainer(Protocol):
    """What learns a policy, with hyperparameters that tuning may set."""

    knobs: tuple[Knob, ...]

    def trial(
        self,
        env_id: str,
        keywords: Mapping[str, Any],
        knobs: Mapping[str, Any],
        seeds: Sequence[int],
        decisions: int | None,
    ) -> tuple[float, int]:
        """Train with some hyperparameters and play the result.

        Args:
            env_id: the id.
            keywords: of the environment's `System`.
            knobs: the hyperparameters.
            seeds: of the episodes to play.
            decisions: to train and play for at most, about; None: as many as the hyperparameters say.

        Returns:
            The mean cost over the episodes, infinite if one was truncated, and the decisions taken.
        """
        ...


def trainer(name: str) -> Trainer | None:
    """The trainer of that name, if there is one."""
    for point in entry_points(group=TRAINERS, name=name):
        return point.load()  # type: ignore[no-any-return]
    return None


PolicyFactory = Callable[..., Policy]


class PerMachine:
    """A policy for each machine of a fleet: every observation goes to that of the machine it shows.

    Args:
        fleet: the machines.
        make: makes the policy for one of them.

    Attributes:
        policies: the policies, in the order of the machines.

    Raises:
        ValueError: what was made has no ``predict``.
    """

    def __init__(self, fleet: Fleet, make: Callable[[System], Policy]) -> None:
        self.policies = tuple(make(machine) for machine in fleet.machines)
        for policy in self.policies:
            if not isinstance(policy, Policy):
                raise fail("policy", policy, "an object with a method predict")
        self._layout = fleet.observations

    def predict(
        self,
        observation: npt.NDArray[np.float32],
        state: Any = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions for observations (E, D) or (D,); see `Policy`. The state holds that of each machine's policy."""
        rows = np.asarray(observation, dtype=np.float32)
        single = rows.ndim == 1
        rows = np.atleast_2d(rows)
        if rows.ndim != 2 or rows.shape[1] != self._layout.size or not rows.size:
            expected = f"of shape (E, {self._layout.size}), E at least 1, or ({self._layout.size},)"
            raise fail("observation", f"shape {np.shape(observation)}", expected)
        starts = None if episode_start is None else np.atleast_1d(episode_start)
        states = [None] * len(self.policies) if state is None else list(state)
        on = self._layout.machine_of(rows)
        chosen: npt.NDArray[np.int64] | None = None
        for number, policy in enumerate(self.policies):
            mine = on == number
            if not mine.any():
                continue
            # Each is asked for as many rows as there are, copies of one of its own in the place of the others': its
            # state keeps its shape, whatever it is, and sums round the same whoever plays beside.
            take = np.where(mine, np.arange(len(rows)), int(np.argmax(mine)))
            actions, states[number] = policy.predict(
                rows[take], states[number], None if starts is None else starts[take], deterministic
            )
            if chosen is None:
                chosen = np.array(actions)
            else:
                chosen[mine] = np.asarray(actions)[mine]
        assert chosen is not None
        return chosen[0] if single else chosen, tuple(states)


@dataclass(frozen=True)
class StoredPolicy:
    """A policy kept in a file, under a name.

    Attributes:
        path: the file, with a registered suffix.
        summary: one line for lists.
        env: the id it is made for; "" if it is made for none in particular.
        label: what to call it among the policies of that id; "" for its name.
    """

    path: Path
    summary: str
    env: str = ""
    label: str = ""


def stored_policies() -> dict[str, StoredPolicy]:
    """All that installed distributions have."""
    found: dict[str, StoredPolicy] = {}
    for point in sorted(entry_points(group=POLICY_LIBRARIES), key=lambda p: p.name):
        found |= point.load()()
    return found


def agents_of(env_id: str) -> dict[str, str]:
    """What `AGENTS` stands for on an environment: labels, without the id so that they line up in tables, with names."""
    made = {name: stored for name, stored in stored_policies().items() if stored.env == env_id}
    labels = [stored.label for stored in made.values()]
    return {
        name if not stored.label or labels.count(stored.label) > 1 else stored.label: name
        for name, stored in made.items()
    }


def policy_names() -> dict[str, str]:
    """Names that `make_policy` takes, each with the place it comes from, or with what is known of it."""
    found = {point.name: point.value for point in sorted(entry_points(group=POLICIES), key=lambda p: p.name)}
    return found | {name: stored.summary for name, stored in stored_policies().items()}


def policy_class(name: str) -> PolicyFactory:
    """The class behind a registered name or a ``module:Class``.

    Raises:
        ValueError: unknown; the message lists the names.
    """
    for point in entry_points(group=POLICIES, name=name):
        return point.load()  # type: ignore[no-any-return]
    if ":" in name:
        try:
            return imported(name)  # type: ignore[no-any-return]
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{fail('policy', name, 'an importable module:Class')}: {error}") from error
    known = ", ".join(policy_names())
    raise fail("policy", name, f"a name ({known}), a module:Class, or a file that exists")


def make_policy(
    spec: str | Path, system: AnySystem, env_id: str | None = None, knobs: Mapping[str, Any] | None = None
) -> Policy:
    """Make a policy for ``system``; a class makes one per machine, all with the same knobs.

    Args:
        spec: a registered name, a ``module:Class``, or a file with a registered suffix.
        system: what it will act on.
        env_id: take the knobs tuned for this id, if the policy has any.
        knobs: set these knobs; the rest keep their tuned or default values.

    Raises:
        ValueError: an unknown name, suffix or knob, or a value out of range.
    """
    stored = stored_policies().get(str(spec))
    path = Path(spec) if stored is None else stored.path
    if path.is_file():
        for point in entry_points(group=POLICY_FILES, name=path.suffix.lstrip(".")):
            return point.load()(path, system, **(knobs or {}))  # type: ignore[no-any-return]
        known = ", ".join("." + point.name for point in entry_points(group=POLICY_FILES))
        raise fail("policy", str(spec), f"a file with a suffix among {known}")
    factory = policy_class(str(spec))
    values: dict[str, Any] = {}
    tuned = getattr(factory, "tuned_knobs", None)
    if tuned is not None and env_id is not None:
        values.update(tuned(env_id) or {})
    values.update(knobs or {})
    if isinstance(system, Fleet):
        return PerMachine(system, lambda machine: factory(machine, **values))
    return factory(system, **values)
