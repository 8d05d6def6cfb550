"""Conditions off the training distribution: the scenario with something else in it, and nothing learnt or tuned again.

Loads, deadlines and costs stay relative to the machine with the network at hand, as they are in the scenario.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebatch_env.environment.fleet import AnySystem
from ebatch_env.scoring.jobs import build_system, is_whole_trace, system_keywords
from ebatch_env.simulator import kernel as k
from ebatch_env.workloads import MMPP, Workload

# Of the scenario's load, or of the ends of its range that lie on that side.
LOAD_FACTORS = (0.5, 0.75, 1.25, 1.5)
# Unidirectional networks of another shape, tried in this order, and how many of them are played.
NETWORKS = ("BYSDNE", "ShowTell", "MNMT", "DeepSpeech2")
NETWORKS_PLAYED = 2


@dataclass(frozen=True)
class Case:
    """One condition.

    Attributes:
        name: short, for files.
        title: for tables.
        overrides: keywords in the place of the scenario's, plain values.
        trace: a file of requests in the place of the workload; None: none.
    """

    name: str
    title: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    trace: Path | None = None

    def keywords(self, env_id: str) -> dict[str, Any]:
        """Keywords of the system to play on."""
        return system_keywords(env_id, self.overrides, self.trace)

    def episodes(self, env_id: str, wanted: int) -> int:
        """How many there are to play: one where a whole trace is replayed."""
        return 1 if is_whole_trace(build_system(self.keywords(env_id))) else wanted


def cases(env_id: str, trace: Path | None = None) -> list[Case]:
    """The conditions that make sense for an environment.

    Raises:
        ValueError: the trace cannot be read as one.
        OSError: it cannot be opened.
    """
    system = build_system(system_keywords(env_id))
    low, high = system.load
    loads = [float(f"{(low if factor < 1.0 else high) * factor:.3g}") for factor in LOAD_FACTORS]
    found = [Case(f"load-{load:g}", f"load {load:g}", {"load": load}) for load in loads]
    found += [*_bursts(system), _lengths(system), *_networks(env_id, system)]
    if trace is not None:
        load = list(system.load) if system.load[0] != system.load[1] else system.load[0]
        levels = _levels(system)
        found.append(Case("trace", f"requests of {trace.name}", {"load": load, **levels}, trace))
    return found


def _bursts(system: AnySystem) -> list[Case]:
    """Twice the burst ratio and bursts twice as long; `MMPP`'s usual bursts where arrivals have none. The mean rate stays."""
    work = system.workload
    if not isinstance(work, Workload):
        return []
    usual = work.arrivals
    if isinstance(usual, MMPP):
        changed = MMPP(usual.burst_ratio * 2, usual.burst_share, usual.sojourn * 2)
        title = (
            f"burst ratio x2 ({usual.burst_ratio:g} -> {changed.burst_ratio:g}), "
            f"sojourn x2 ({usual.sojourn:g} -> {changed.sojourn:g})"
        )
    else:
        changed = MMPP()
        kind = getattr(usual, "kind", type(usual).__name__)
        title = f"mmpp arrivals, not {kind}: burst ratio {changed.burst_ratio:g}, sojourn {changed.sojourn:g}"
    return [Case("bursts", title, {"workload": Workload(work.lengths, changed).to_dict()})]


def _lengths(system: AnySystem) -> Case:
    hidden = system.lengths_known
    return Case("lengths", "lengths hidden" if hidden else "lengths known", {"lengths_known": not hidden})


def _networks(env_id: str, system: AnySystem) -> list[Case]:
    """Other networks; the levels of T stay the scenario's, as others would be other actions."""
    found = []
    for name in NETWORKS:
        case = Case(f"network-{name}", f"network {name}", {"network": name, **_levels(system)})
        if name == system.network.name:
            continue
        try:
            build_system(case.keywords(env_id))
        except ValueError:  # sequences of this scenario are too much for it
            continue
        found.append(case)
    return found[:NETWORKS_PLAYED]


def _levels(system: AnySystem) -> dict[str, Any]:
    if "time_steps" not in system.actions.controls:
        return {}
    levels = system.actions.levels["time_steps"].tolist()
    return {"time_step_levels": [None if level == k.LONGEST else level for level in levels]}
