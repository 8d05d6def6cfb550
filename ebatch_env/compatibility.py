"""Whether a trained policy fits a system: what it was trained to see, to do and on, as plain values to keep and compare.

`Interface` describes what passes between a policy and a `System`; `ScenarioVersion` what an id means. Both are written to a
trained policy's card and compared with what there is when it is loaded. This is the one place that decides what fits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from ebatch_env.environment.fleet import AnySystem, build_system
from ebatch_env.environment.observing import N_STATE
from ebatch_env.environment.system import System
from ebatch_env.errors import fail
from ebatch_env.scenarios import scenario

DIGITS = 9  # numbers are compared to nine digits: the last ones differ between processors and libraries
_TOLERANCE = 1e-6


def digest(value: Any) -> str:
    """16 hex digits that are equal for equal values, numbers to `DIGITS` digits."""
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [list(value.shape), [_plain(item) for item in value.ravel().tolist()]]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, {f.name: _plain(getattr(value, f.name)) for f in fields(value)}]
    raise TypeError(f"a value that has plain parts must be given, got {value!r}")


@dataclass(frozen=True)
class Interface:
    """What passes between a policy and a system.

    Attributes:
        fields: of the observation, in order: name, form and scale (see `Field`).
        constants: values of the observation's constant part (the machine and the objective), by name, as observed.
        actions: per control that an action chooses, the levels in the kernel's codes (see `ActionCodec`).
        others: the interfaces of a `Fleet`'s other machines: they differ in scales and constants only.
    """

    fields: tuple[tuple[str, str, float], ...]
    constants: Mapping[str, float]
    actions: Mapping[str, tuple[int, ...]]
    others: tuple[Interface, ...] = ()

    @classmethod
    def of(cls, system: AnySystem) -> Interface:
        """The interface of a system. Flat or not, actions choose the same."""
        first, *others = (cls._of_machine(machine) for machine in system.machines)
        return replace(first, others=tuple(others))

    @classmethod
    def _of_machine(cls, system: System) -> Interface:
        layout, codec = system.observations, system.actions
        fixed = [field.name for field in layout.fields[N_STATE:]]
        return cls(
            fields=tuple((field.name, field.form, float(field.scale)) for field in layout.fields),
            constants={name: float(system.constants[layout.index[name]]) for name in fixed},
            actions={name: tuple(codec.levels[name].tolist()) for name in codec.controls},
        )

    @classmethod
    def from_dict(cls, values: Any) -> Interface:
        """An interface from `to_dict`.

        Raises:
            ValueError: it is none.
        """
        try:
            return cls(
                fields=tuple((str(name), str(form), float(scale)) for name, form, scale in values["fields"]),
                constants={str(name): float(value) for name, value in values["constants"].items()},
                actions={str(name): tuple(int(x) for x in levels) for name, levels in values["actions"].items()},
                others=tuple(cls.from_dict({**values, "others": (), **other}) for other in values.get("others", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise fail("interface", type(values).__name__, f"fields, constants and actions ({error})") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with a fingerprint of the observation's layout and of the actions."""
        values: dict[str, Any] = {
            "observation_fingerprint": self.observation_fingerprint,
            "action_fingerprint": digest(self.actions),
            "fields": [list(field) for field in self.fields],
            "constants": dict(self.constants),
            "actions": {name: list(levels) for name, levels in self.actions.items()},
        }
        if self.others:
            values["others"] = [
                {"fields": [list(field) for field in other.fields], "constants": dict(other.constants)}
                for other in self.others
            ]
        return values

    @property
    def observation_fingerprint(self) -> str:
        """Digest of the names, forms and scales of the observation's fields, on all machines."""
        return digest([self.fields, *(other.fields for other in self.others)] if self.others else self.fields)

    def check(self, system: AnySystem, *, transfer: bool = False) -> None:
        """Refuse a system that a policy of this interface was not trained for.

        Trained on several machines it fits each of them, and any of them together.

        Args:
            system: what the policy is to act on.
            transfer: allow other scales, machines and objectives: only the meaning of every number must be the same.

        Raises:
            ValueError: naming the first field, constant or level that differs.
        """
        there = Interface.of(system)
        if len(self.fields) != len(there.fields):
            raise fail("observation", f"{len(there.fields)} fields", f"of {len(self.fields)} fields, as trained")
        for n, (mine, found) in enumerate(zip(self.fields, there.fields, strict=True)):
            if mine[:2] != found[:2]:
                raise fail(f"observation field {n}", f"{found[0]} ({found[1]})", f"{mine[0]} ({mine[1]}), as trained")
        if list(self.actions) != list(there.actions):
            raise fail("controls", list(there.actions), f"{list(self.actions)}, as trained")
        for name, levels in self.actions.items():
            if levels != there.actions[name]:
                raise fail(f"levels of {name}", list(there.actions[name]), f"{list(levels)}, as trained")
        if transfer:
            return
        for machine in (there, *there.others):
            differences = [trained._difference(machine) for trained in (self, *self.others)]
            if None not in differences:
                raise next(error for error in differences if error is not None)

    def _difference(self, there: Interface) -> ValueError | None:
        """The first scale or constant of another machine, of the same fields, that differs."""
        other = "as trained; transfer=true runs the policy all the same"
        for mine, found in zip(self.fields, there.fields, strict=True):
            if not math.isclose(mine[2], found[2], rel_tol=_TOLERANCE):
                return fail(f"the scale of observation field {mine[0]!r}", found[2], f"{mine[2]:.6g}, {other}")
        for name, value in self.constants.items():
            if not math.isclose(value, there.constants.get(name, math.nan), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
                return fail(f"observation constant {name!r}", there.constants.get(name), f"{value:.6g}, {other}")
        return None


@dataclass(frozen=True)
class ScenarioVersion:
    """What an id means, in parts.

    Attributes:
        env: the id.
        parts: a digest per part: the machine's table, or those of all machines, the work, and every keyword that is a
            plain number or word.
    """

    env: str
    parts: Mapping[str, str]

    @classmethod
    def of(cls, env_id: str) -> ScenarioVersion:
        """The version that is registered.

        Raises:
            ValueError: the id is not registered.
        """
        system = build_system(**scenario(env_id).keywords)
        machines = system.machines

        def each(values: list[Any]) -> Any:
            return values if len(machines) > 1 else values[0]

        values: dict[str, Any] = {
            "machine": each([machine.table for machine in machines]),
            "workload": system.workload,
            "lanes": system.lanes,
            "load": system.load,
            "requests": system.requests,
            "deadline": system.deadline,
            "hold_s": each([machine.hold_s for machine in machines]),
            "objective": system.objective,
            "lengths_known": system.lengths_known,
            "reference": each([machine.saturation for machine in machines]),
            "max_decisions": each([machine.max_decisions for machine in machines]),
        }
        return cls(env_id, {name: digest(value) for name, value in values.items()})

    @property
    def fingerprint(self) -> str:
        """Digest of all parts."""
        return digest(self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the fingerprint."""
        return {"env": self.env, "fingerprint": self.fingerprint, "parts": dict(self.parts)}

    @classmethod
    def from_dict(cls, values: Any) -> ScenarioVersion:
        """A version from `to_dict`.

        Raises:
            ValueError: it is none.
        """
        try:
            return cls(str(values["env"]), {str(name): str(part) for name, part in values["parts"].items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise fail("scenario", type(values).__name__, f"env and parts ({error})") from None

    def check(self) -> None:
        """Refuse if the id means something else by now.

        Raises:
            ValueError: naming the parts that differ.
        """
        now = ScenarioVersion.of(self.env)
        differ: Sequence[str] = [
            name for name in {**self.parts, **now.parts} if self.parts.get(name) != now.parts.get(name)
        ]
        if differ:
            raise ValueError(
                f"scenario {self.env!r} must be the version trained on ({self.fingerprint}), got {now.fingerprint}: "
                f"{', '.join(differ)} differ; transfer=true runs the policy all the same"
            )
