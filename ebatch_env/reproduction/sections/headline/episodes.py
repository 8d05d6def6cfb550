"""Playing episodes: a constant plan through the kernel, or a policy by its name, on a full queue or over load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from gymnasium.utils import seeding

from ebatch_env.costs import CostTable
from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.system import System
from ebatch_env.metrics import episode_metrics
from ebatch_env.reproduction.sections.headline.cases import CASES, SCHEMES, Scheme, stacked_cells
from ebatch_env.saturation import powers_of_two
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.seeds import TUNING_SEED
from ebatch_env.simulator import entry
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.front import encode_plan
from ebatch_env.simulator.plan import RoundPlan
from ebatch_env.simulator.state import Scratch, Systems, pack_machine
from ebatch_env.workloads import AllAtOnce, Poisson, Workload


@dataclass(frozen=True)
class Outcome:
    """One episode.

    Attributes:
        throughput_rps: sequences per second: lane-steps of work over the mean length, over the time.
        energy_j: energy per sequence, static power included (J).
        latency_mean_s, latency_p50_s, latency_p99_s: of completed sequences; on a full queue they mean nothing.
        cost: per request, energy and latency weighted alike: see `Objective`.
        occupancy: lane-steps of work / (time-steps * lanes).
        padding: share of the lane-steps paid for that advanced no sequence.
        time_steps: mean time-steps of a round.
    """

    throughput_rps: float
    energy_j: float
    latency_mean_s: float
    latency_p50_s: float
    latency_p99_s: float
    cost: float
    occupancy: float
    padding: float
    time_steps: float


@lru_cache(maxsize=256)
def full_queue(machine: str, network: str, lanes: int, requests: int, *, notifies: bool = True) -> System:
    """The system with every request waiting at time 0."""
    return _build(machine, network, lanes, requests, notifies, None)


@lru_cache(maxsize=256)
def under_load(machine: str, network: str, lanes: int, requests: int, load: float, *, notifies: bool = True) -> System:
    """The system under Poisson arrivals at ``load``, relative to the saturated machine *with* E-BATCH's hardware."""
    system = _build(machine, network, lanes, requests, True, load)
    if notifies:
        return system
    bare = _build(machine, network, lanes, requests, False, load)
    share = load * system.saturation.throughput_rps / bare.saturation.throughput_rps
    return replace(bare, load=(share, share))  # the same arrivals per second


def _build(machine: str, network: str, lanes: int, requests: int, notifies: bool, load: float | None) -> System:
    return System.build(
        network=network,
        accelerator={"name": machine, "notifies": notifies},
        lanes=lanes,
        workload=Workload(CASES[network].lengths, AllAtOnce() if load is None else Poisson()),
        load=1.0 if load is None else load,
        requests=requests,
    )


def play_scheme(system: System, scheme: Scheme, seeds: Sequence[int], *, dry: bool) -> list[Outcome]:
    """Play ``scheme`` on the episodes drawn with ``seeds``.

    Args:
        system: as `full_queue` or `under_load` made it, with the notifications that the scheme asks for.
        scheme: who plays.
        seeds: one per episode.
        dry: stop when nothing waits any more, so that lanes that run empty at the end do not count.
    """
    if scheme.plan is None:
        return play_policy(system, scheme.policy, scheme.knobs, seeds, dry=dry)
    table = stacked_cells(system.table) if scheme.stacked else system.table
    return play_plan(system, table, scheme.plan, seeds, dry=dry)


def play_schemes(system_of: Callable[..., System], seeds: Sequence[int], *, dry: bool) -> dict[str, list[Outcome]]:
    """Play every scheme, E-BATCH and its rivals: key -> one outcome per seed.

    Args:
        system_of: makes the system, given ``notifies``.
        seeds, dry: see `play_scheme`.
    """
    systems = {notifies: system_of(notifies=notifies) for notifies in (True, False)}
    return {s.key: play_scheme(systems[s.notifies], s, seeds, dry=dry) for s in SCHEMES}


def play_plan(system: System, table: CostTable, plan: RoundPlan, seeds: Sequence[int], *, dry: bool) -> list[Outcome]:
    """The same decision every time, on the work of ``system`` and the machine of ``table``."""
    longest = int(system.workload.lengths.max_length)
    machine = pack_machine(table, hold_s=1.0, longest=longest, ordered=False)
    state = Systems.empty(1, system.lanes, system.requests, longest)
    scratch = Scratch.of(system.lanes, table, system.requests)
    shared = (machine.layers, machine.step_s, machine.step_j, machine.alone, machine.machine, state.bins)
    code = np.array(encode_plan(plan), np.int64)
    outcomes = []
    for seed in seeds:
        state.begin(0, system.sample_trace(seeding.np_random(seed)[0]), machine)
        entry.repeat(code, dry, *state.system(0), *shared, *scratch)
        outcomes.append(_outcome(system, table, state, 0))
    return outcomes


def play_policy(
    system: System, name: str, knobs: Mapping[str, float], seeds: Sequence[int], *, dry: bool
) -> list[Outcome]:
    """A registered policy with its own default knobs but for ``knobs``."""
    policy = make_policy(name, system, knobs=knobs)
    n = len(seeds)
    dynamics = Dynamics(system, n, threads=1)
    dynamics.restart(range(n), [seeding.np_random(seed)[0] for seed in seeds])
    over, start, memory = np.zeros(n, np.bool_), np.ones(n, np.bool_), None
    while not over.all():
        actions, memory = policy.predict(dynamics.observation, memory, start, deterministic=True)
        dynamics.step(np.ascontiguousarray(actions, dtype=np.int64), waits=over)
        over |= dynamics.over
        if dry:
            over |= dynamics.systems.i[:, k.WAITING] == 0
        start = np.zeros(n, np.bool_)
    return [_outcome(system, system.table, dynamics.systems, e) for e in range(n)]


def _outcome(system: System, table: CostTable, state: Systems, e: int) -> Outcome:
    f, i, hist = state.f[e], state.i[e], state.hist[e]
    n = int(i[k.REQUESTS])
    rf = state.rf[e, :, :n]
    metrics = episode_metrics(table, system.lanes, system.cost_per_unit(), f=f, i=i, rf=rf, hist=hist)
    sequences = float(i[k.USEFUL_STEPS]) / float(state.ri[e, k.LENGTH, :n].mean())
    return Outcome(
        throughput_rps=sequences / float(f[k.CLOCK] - rf[k.ARRIVAL, 0]),
        energy_j=metrics.energy_j / sequences,
        latency_mean_s=metrics.latency_mean_s,
        latency_p50_s=metrics.latency_p50_s,
        latency_p99_s=metrics.latency_p99_s,
        cost=metrics.cost,
        occupancy=metrics.occupancy,
        padding=metrics.padding,
        time_steps=float(hist.sum()) / max(int(i[k.ROUNDS]), 1),
    )


def curve(system: System, table: CostTable, *, joins: bool = True) -> dict[int, Outcome]:
    """Rounds of T steps on a full queue, T by T, on a trace that no measurement uses.

    T goes through the powers of two up to the machine's largest, and that one.
    """
    found = {}
    for time_steps in sorted({*powers_of_two(table.max_time_steps), table.max_time_steps}):
        plan = RoundPlan(time_steps=time_steps, joins=joins)
        (found[time_steps],) = play_plan(system, table, plan, (TUNING_SEED,), dry=True)
    return found


def best_time_steps(points: Mapping[int, Outcome]) -> int:
    """The T of least energy times delay: joules per sequence over sequences per second."""
    return min(points, key=lambda time_steps: points[time_steps].energy_j / points[time_steps].throughput_rps)
