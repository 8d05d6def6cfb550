"""Workloads by name, dict, path or import, and the built-in catalogue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import entry_points
from typing import Any

from ebatch_env.errors import fail
from ebatch_env.references import imported
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads.arrivals import AllAtOnce, Arrivals, GammaRenewal, Poisson, Replay
from ebatch_env.workloads.empirical import NAMED_QUANTILES, Empirical
from ebatch_env.workloads.lengths import Fixed, Geometric, Lengths, Table, Uniform
from ebatch_env.workloads.modulated import MMPP, Diurnal
from ebatch_env.workloads.workload import TraceWorkload, Workload, WorkloadLike

ENTRY_POINTS = "ebatch_env.workloads"

LENGTHS: dict[str, type[Any]] = {
    "empirical": Empirical,
    "fixed": Fixed,
    "uniform": Uniform,
    "geometric": Geometric,
    "table": Table,
}
ARRIVALS: dict[str, type[Any]] = {
    "poisson": Poisson,
    "mmpp": MMPP,
    "gamma-renewal": GammaRenewal,
    "diurnal": Diurnal,
    "all-at-once": AllAtOnce,
    "replay": Replay,
}

_LENGTHS_BY_NAME = {
    "translation": Empirical("translation"),
    "speech": Empirical("speech"),
    "speech-strided": Empirical("speech", stride=2),
    "sentiment": Empirical("sentiment"),
    "transcript": Empirical("transcript"),
}
_ARRIVALS_BY_SUFFIX: dict[str, Arrivals] = {
    "": Poisson(),
    "-bursty": MMPP(),
    "-diurnal": Diurnal(),
    "-offline": AllAtOnce(),
}

CATALOGUE: dict[str, WorkloadLike] = {
    name + suffix: Workload(lengths, arrivals)
    for name, lengths in _LENGTHS_BY_NAME.items()
    for suffix, arrivals in _ARRIVALS_BY_SUFFIX.items()
}


def workload_names() -> tuple[str, ...]:
    """Names `resolve_workload` knows: the catalogue, then the installed packages' entry points."""
    plugins = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return (*CATALOGUE, *sorted(plugins - set(CATALOGUE)))


def resolve_workload(spec: str | os.PathLike[str] | Mapping[str, Any] | WorkloadLike) -> WorkloadLike:
    """Turn any way of naming a workload into one.

    Args:
        spec: one of

            - a name of `workload_names`;
            - the path of a trace, ending in ``.csv``;
            - ``"module:Class"`` (or any other attribute): a workload, or something that returns one when called;
            - a dict ``{"lengths": ..., "arrivals": ...}``, each a dict with ``"kind"`` and that kind's parameters, or
              just a kind's name; arrivals are Poisson if left out. A kind may be ``"module:Class"``, too;
            - a dict ``{"trace": path or arrays, "steps": ...}``, as `TraceWorkload` takes;
            - a dict ``{"kind": "module:Class", ...}``, called with the rest;
            - a workload, returned as it is.

    Raises:
        ValueError: an unknown name, kind or parameter, or a parameter out of range.
        TypeError: something that is no workload.
        ImportError, AttributeError: from importing ``"module:Class"``.

    >>> resolve_workload({"lengths": {"kind": "uniform", "low": 1, "high": 9}, "arrivals": "poisson"})
    Workload(lengths=Uniform(low=1, high=9), arrivals=Poisson())
    """
    if isinstance(spec, os.PathLike):
        spec = os.fspath(spec)
    found: Any
    if isinstance(spec, str):
        found = _by_name(spec)
    elif isinstance(spec, Mapping):
        found = _from_mapping(spec)
    else:
        found = spec
    if isinstance(found, type) or not isinstance(found, WorkloadLike):
        raise TypeError(f"workload must be a name, a dict, a path or have lengths and sample, got {found!r}")
    return found


def _by_name(name: str) -> Any:
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name.lower().endswith(".csv"):
        return TraceWorkload(name)
    if ":" in name:
        return _called(imported(name))
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return _called(point.load())
    raise fail("workload", name, "one of " + ", ".join(workload_names()) + ", a path ending in .csv, or module:Class")


def _from_mapping(spec: Mapping[str, Any]) -> Any:
    rest = dict(spec)
    kind = rest.pop("kind", None)
    if kind is not None:
        if not isinstance(kind, str) or ":" not in kind:
            raise fail("workload kind", kind, "'module:Class' (the built-in workloads are told by their keys)")
        return imported(kind)(**rest)
    if "trace" in rest:
        _check_keys("workload", rest, ("trace", "steps"))
        if isinstance(rest["trace"], Mapping):
            _check_keys("workload trace", rest["trace"], ("arrival_s", "length", "deadline_s"))
            rest["trace"] = RequestTrace(**rest["trace"])
        return TraceWorkload(**rest)
    _check_keys("workload", rest, ("lengths", "arrivals"))
    if "lengths" not in rest:
        raise fail("workload", dict(spec), "a dict with 'lengths' or 'trace'")
    lengths = rest["lengths"]
    if isinstance(lengths, str) and lengths in NAMED_QUANTILES:
        lengths = Empirical(lengths)
    return Workload(
        lengths if isinstance(lengths, Lengths) else _build("lengths", lengths, LENGTHS),
        _arrivals(rest.get("arrivals", "poisson")),
    )


def _arrivals(spec: Any) -> Arrivals:
    found: Arrivals = spec if isinstance(spec, Arrivals) else _build("arrivals", spec, ARRIVALS)
    return found


def _build(what: str, spec: Any, kinds: Mapping[str, type[Any]]) -> Any:
    """Make one part from its kind and parameters."""
    parameters = {"kind": spec} if isinstance(spec, str) else spec
    if not isinstance(parameters, Mapping) or "kind" not in parameters:
        raise fail(what, spec, "a dict with 'kind', one of " + ", ".join(kinds))
    parameters = dict(parameters)
    kind = parameters.pop("kind")
    if isinstance(kind, str) and ":" in kind:
        return imported(kind)(**parameters)
    if kind not in kinds:
        raise fail(f"{what} kind", kind, "one of " + ", ".join(kinds))
    known = tuple(f.name for f in fields(kinds[kind]) if f.init)
    _check_keys(f"{what} of kind {kind!r}", parameters, known)
    try:
        return kinds[kind](**parameters)
    except TypeError as error:  # a missing parameter, or one of a wrong type
        raise ValueError(f"{what} of kind {kind!r} takes {', '.join(known) or 'no parameters'}: {error}") from error


def _check_keys(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = [key for key in given if key not in known]
    if unknown:
        raise ValueError(f"{what} has no parameter {unknown[0]!r}; it takes {', '.join(known) or 'none'}")


def _called(found: Any) -> Any:
    """A workload as it is; a class or function: what it returns."""
    if isinstance(found, type) or (callable(found) and not isinstance(found, WorkloadLike)):
        return found()
    return found
