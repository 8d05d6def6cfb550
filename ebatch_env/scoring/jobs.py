"""What is evaluated: policies as the command line names them, and the systems they run on."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numba
import numpy as np

import ebatch_env
from ebatch_env.environment.fleet import AnySystem
from ebatch_env.environment.fleet import build_system as build
from ebatch_env.environment.system import System
from ebatch_env.errors import check_integer, fail
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.policy import AGENTS, PerMachine, Policy, agents_of, make_policy
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import Lengths, TraceWorkload

_SHOWS_ONLY = {"cli.py", "plots.py", "report.py", "statistics.py", "tables.py", "tuning.py", "rendering.py"}


@dataclass(frozen=True)
class PolicySpec:
    """A policy to make, and what to call it.

    Attributes:
        label: its name in records and tables.
        spec: what `make_policy` takes: a registered name, a ``module:Class``, or a file.
        knobs: knobs to set; the rest keep their tuned or default values.
    """

    label: str
    spec: str
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> PolicySpec:
        """Read ``NAME`` or ``NAME,knob=value,...``; the text is the label. A file's name is taken as it stands.

        Raises:
            ValueError: a part without ``=``.

        >>> PolicySpec.parse("ebatch-fixed,time_steps=8,order=shortest").knobs
        {'time_steps': 8, 'order': 'shortest'}
        """
        if _is_file(text):
            return cls(text, text)
        name, *settings = text.split(",")
        return cls(text, name, dict(parse_setting(setting, "policy") for setting in settings))

    def on(self, env_id: str) -> list[PolicySpec]:
        """The policies that this stands for on an environment: itself, but for `AGENTS`, perhaps none."""
        if self.spec != AGENTS:
            return [self]
        return [replace(self, label=label, spec=name) for label, name in agents_of(env_id).items()]

    def make(self, system: AnySystem, env_id: str) -> Policy:
        """The policy itself.

        Raises:
            ValueError: it cannot be made for this system.
        """
        try:
            policy = make_policy(self.spec, system, env_id, self.knobs)
        except TypeError as error:  # a class that takes no such keyword
            raise ValueError(f"policy {self.label!r}: {error}") from error
        if not isinstance(policy, Policy):
            raise fail(f"policy {self.label!r}", policy, "an object with a method predict")
        return policy


def parse_setting(text: str, what: str) -> tuple[str, Any]:
    """Read ``key=value``; the value is JSON, or else a string.

    Raises:
        ValueError: no key or no ``=``.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise fail(what, text, "of the form key=value")
    if value in ("True", "False"):  # as Python and the tables of knobs write them
        value = value.lower()
    try:
        return key.strip(), json.loads(value)
    except json.JSONDecodeError:
        return key.strip(), value


@dataclass(frozen=True)
class AsRecorded:
    """A `TraceWorkload` that ignores the rate it is asked for: the trace at its own pace."""

    workload: TraceWorkload

    @property
    def lengths(self) -> Lengths:
        """Lengths of the whole trace."""
        return self.workload.lengths

    @property
    def has_deadlines(self) -> bool:
        """Whether the trace brings its own deadlines."""
        return self.workload.has_deadlines

    def sample(
        self, rng: np.random.Generator, requests: int, rate_rps: float, deadline_s: float | None = None
    ) -> RequestTrace:
        """A window of ``requests`` consecutive requests."""
        return self.workload.sample(rng, requests, None, deadline_s)


def system_keywords(
    env_id: str, overrides: Mapping[str, Any] | None = None, trace: str | os.PathLike[str] | RequestTrace | None = None
) -> dict[str, Any]:
    """Keywords of an environment's system for an id.

    Args:
        env_id: a registered id.
        overrides: keywords that replace the scenario's.
        trace: requests to replay instead of the scenario's workload, at their own pace unless ``overrides`` has a
            ``load``, with their own deadlines, if they have any, unless it has a ``deadline``. An episode is a window
            of ``requests`` of them, or all if there are fewer.

    Raises:
        ValueError: an unknown id, a window longer than the trace, an unreadable trace.
        OSError: the trace cannot be opened.
    """
    chosen = dict(overrides or {})
    keywords = {**scenario(env_id).keywords, **chosen}
    if trace is None:
        return keywords
    if "workload" in chosen:
        raise fail("keyword", "workload", "left out where a trace is given")
    recorded = TraceWorkload(trace if isinstance(trace, RequestTrace) else os.fspath(trace))
    size = recorded.requests.requests
    if "requests" in chosen:
        check_integer("requests", chosen["requests"], low=1, high=size)
    else:
        usual = inspect.signature(System.build).parameters["requests"].default
        keywords["requests"] = min(keywords.get("requests", usual), size)
    keywords["workload"] = recorded if "load" in chosen else AsRecorded(recorded)
    if recorded.has_deadlines and "deadline" not in chosen:
        keywords["deadline"] = None
    return keywords


def is_whole_trace(system: AnySystem) -> bool:
    """Whether every episode replays the same complete trace, on the same machine."""
    work = system.workload
    recorded = work.workload if isinstance(work, AsRecorded) else work
    same_load = isinstance(work, AsRecorded) or system.load[0] == system.load[1]
    whole = isinstance(recorded, TraceWorkload) and system.requests == recorded.requests.requests
    return whole and same_load and len(system.machines) == 1


def build_system(keywords: Mapping[str, Any]) -> AnySystem:
    """`fleet.build_system`, remembering the last few: a process plays many blocks of episodes on one system.

    Raises:
        ValueError: as that; also for what cannot be imported or is of the wrong type.
    """
    try:
        return _system(pickle.dumps(dict(keywords)))
    except (TypeError, ImportError, AttributeError) as error:
        raise ValueError(str(error)) from error


@lru_cache(maxsize=8)
def _system(keywords: bytes) -> AnySystem:
    return build(**pickle.loads(keywords))


def fingerprint(system: AnySystem, policy: Policy, spec: PolicySpec, env_id: str, seed: int) -> str:
    """A digest of everything that an episode's outcome depends on, code and versions included: 16 hex digits."""
    if isinstance(policy, PerMachine):  # the machines stand in the system
        policy = policy.policies[0]
    tuned = getattr(type(policy), "tuned_knobs", None)
    parts = {
        "system": system,
        # A policy from a file has a digest of its weights, which a name does not tell.
        "policy": [spec.label, spec.spec, type(policy).__qualname__, getattr(policy, "digest", None)],
        "knobs": {**((tuned(env_id) if callable(tuned) else None) or {}), **spec.knobs},
        "env": env_id,
        "seed": seed,
        "installation": installation(),
        "code": _folder_digest(getattr(sys.modules.get(type(policy).__module__), "__file__", None)),
    }
    return hashlib.sha256(json.dumps(_canonical(parts), sort_keys=True).encode()).hexdigest()[:16]


def installation() -> tuple[str, ...]:
    """What an episode's outcome depends on that is the same for all: versions, and a digest of this package's code."""
    return (
        f"Python {sys.version_info[0]}.{sys.version_info[1]}",
        f"numpy {np.__version__}",
        f"numba {numba.__version__}",
        f"ebatch-env {ebatch_env.__version__}",
        f"code {_package_digest()[:16]}",
    )


def _canonical(value: Any) -> Any:
    """Plain values that are equal if and only if ``value`` is: a string that names a file stands for its content."""
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str):
        return [value, hashlib.sha256(Path(value).read_bytes()).hexdigest()] if _is_file(value) else value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return [[str(key), _canonical(item)] for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))]
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, *(_canonical(getattr(value, f.name)) for f in fields(value))]
    return hashlib.sha256(pickle.dumps(value)).hexdigest()


def _is_file(text: str) -> bool:
    try:
        return len(text) < 4096 and Path(text).is_file()
    except (OSError, ValueError):
        return False


@cache
def _package_digest() -> str:
    """Of this package's code and data, less what only shows results."""
    root = Path(ebatch_env.__file__).parent
    files = [p for p in root.rglob("*") if p.suffix in (".py", ".csv") and p.name not in _SHOWS_ONLY]
    return _digest(files)


@cache
def _folder_digest(module_file: str | None) -> str:
    """Of the Python files beside a policy's module: its helpers usually live there."""
    return _digest(list(Path(module_file).parent.glob("*.py"))) if module_file else ""


def _digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()
