"""Accelerators: each turns a network and a number of lanes into a `CostTable`. To add one, add a line to `MACHINES`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, cast

from ebatch_env.errors import fail
from ebatch_env.machines.approximation import MemoizationEffect, PrecisionEffect
from ebatch_env.machines.base import Accelerator
from ebatch_env.machines.brainwave import Brainwave
from ebatch_env.machines.epur import EPUR
from ebatch_env.machines.epur_energy import ENERGY_SETS, EPUREnergy
from ebatch_env.machines.gpu_step import GPUStep
from ebatch_env.machines.handmade import BatchServer, ToyMachine
from ebatch_env.machines.plasticine import Plasticine
from ebatch_env.machines.tpu import TPUv1
from ebatch_env.machines.v100 import V100
from ebatch_env.references import imported

__all__ = [
    "ENERGY_SETS",
    "ENTRY_POINTS",
    "EPUR",
    "MACHINES",
    "V100",
    "Accelerator",
    "BatchServer",
    "Brainwave",
    "EPUREnergy",
    "GPUStep",
    "MemoizationEffect",
    "Plasticine",
    "PrecisionEffect",
    "TPUv1",
    "ToyMachine",
    "machine_names",
    "resolve_machine",
]

ENTRY_POINTS = "ebatch_env.machines"

_MACHINES: tuple[Accelerator, ...] = (
    EPUR(),
    EPUR.with_mwl(),
    EPUR(notifies=False, name="epur-baseline"),  # without E-BATCH's notification hardware
    EPUR(spill=True, name="epur-spill"),  # intermediate results through DRAM: long sequences read from both ends
    TPUv1(),
    TPUv1(notifies=False, name="tpu-baseline"),
    Plasticine(),
    Brainwave(),
    V100(),
    V100(notifies=False, name="v100-baseline"),  # one library call per round: nothing joins, lanes are padded
    GPUStep(),
    GPUStep(notifies=False, name="gpu-step-baseline"),
    ToyMachine(),
    BatchServer(),
)
MACHINES: Mapping[str, Accelerator] = MappingProxyType({machine.name: machine for machine in _MACHINES})


def machine_names() -> tuple[str, ...]:
    """Names `resolve_machine` knows: the catalogue, then the installed packages' entry points."""
    plugins = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return (*MACHINES, *sorted(plugins - set(MACHINES)))


def resolve_machine(spec: str | Mapping[str, Any] | Accelerator) -> Accelerator:
    """Turn any way of naming a machine into one.

    Args:
        spec: one of

            - a name of `machine_names`;
            - ``"module:Class"`` (or any other attribute): a machine, or something that returns one when called. The
              module is imported, so take such strings only from those you trust;
            - a dict ``{"name": ..., **fields}``: the machine of that name with some fields changed;
            - a dict with all the fields of a built-in class, as ``dataclasses.asdict`` gives it, under any name;
            - a dict ``{"kind": "module:Class", **fields}``, called with the fields;
            - a machine (anything with a ``name`` and ``cost_table(network, lanes)``), returned as it is.

    Raises:
        ValueError: an unknown name or field, a field out of range.
        TypeError: something that is no machine.
        ImportError, AttributeError: from importing ``"module:Class"``.

    >>> resolve_machine({"name": "epur", "replicas": 8}).replicas
    8
    """
    found: Any
    if isinstance(spec, str):
        found = _by_name(spec)
    elif isinstance(spec, Mapping):
        found = _from_mapping(spec)
    else:
        found = spec
    if isinstance(found, type) or not isinstance(found, Accelerator):
        raise TypeError(f"accelerator must be a name, a dict, or have a name and cost_table, got {found!r}")
    return found


def _by_name(name: str) -> Any:
    if name in MACHINES:
        return MACHINES[name]
    if ":" in name:
        return _made(imported(name))
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return _made(point.load())
    raise fail("accelerator", name, "one of " + ", ".join(machine_names()) + ", or module:Class")


def _from_mapping(spec: Mapping[str, Any]) -> Any:
    rest = dict(spec)
    if "kind" in rest:
        kind = rest.pop("kind")
        if not isinstance(kind, str) or ":" not in kind:
            raise fail("accelerator kind", kind, "'module:Class'")
        return imported(kind)(**rest)
    for built_in in MACHINES.values():
        if set(rest) == _field_names(built_in):
            return type(built_in)(**rest)
    name = rest.pop("name", None)
    if not isinstance(name, str):
        raise fail("accelerator", dict(spec), "a dict with 'name' or 'kind'")
    machine = _made(_by_name(name))
    if not rest:
        return machine
    known = _field_names(machine)
    unknown = sorted(set(rest) - known, key=str)
    if unknown:
        raise fail(f"accelerator field of {name!r}", unknown[0], "one of " + ", ".join(sorted(known - {"name"})))
    return replace(cast(Any, machine), **rest)


def _field_names(machine: Any) -> set[str]:
    return {field.name for field in fields(machine) if field.init} if is_dataclass(machine) else set()


def _made(found: Any) -> Any:
    """A machine from itself, from its class or from a function that makes one."""
    is_machine = not isinstance(found, type) and isinstance(found, Accelerator)
    return found if is_machine or not callable(found) else found()
