"""Section ``queue`` of `ebatch reproduce`: the batch queue's exact optimum against simulation and published theory.

The simulation is the environment's own: `OptimalQueue`, `Greedy` and `Cap` play `ebatch/Queue-v0` with each service
curve. Episodes are long because they begin with an empty queue, which makes short ones look better than the stationary
value.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ebatch_baselines.base import Baseline
from ebatch_baselines.batch_queue import Cap, Greedy, OptimalQueue
from ebatch_baselines.optimum import batch_queue_optimum, batch_queue_value, best_cap_rule, greedy_rule, tail_limit
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray
from ebatch_env.machines.handmade import CURVES
from ebatch_env.reproduction.report import Chart, Options, Progress, Row, Section, Series, Table, paragraphs, points
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.pool import in_any_order
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import EVALUATION_SEED
from ebatch_env.scoring.statistics import mean_interval
from ebatch_env.simulator.state import Int64Array

# Service curve and load relative to the best rate b / tau(b).
QUEUES = (("affine", 0.7), ("knee", 0.9), ("stairs", 0.9), ("doubling", 0.7))
LANES = 32
LOADS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
BOUND_LOADS = (0.3, 0.5, 0.7, 0.9)
UNBOUNDED = 256  # lanes that are never all in use in the queues of Inoue's formula
SHOWN = 40  # queue lengths in the chart of actions
AIM, QUICK_AIM = 0.005, 0.02  # a quick run's episodes are too few and too short for the first
FULL, QUICK = (32, 65536), (8, 16384)  # episodes, requests of each
SMDP, INOUE = "arXiv 2301.12865", "Inoue, Performance Evaluation 147, 2021; arXiv 1912.06322"


# What is measured --------------------------------------------------------------------------------------------------


def queue_system(curve: str, load: float, requests: int = 65536) -> System:
    """`ebatch/Queue-v0` with another service curve, load and episode length."""
    keywords = dict(scenario("ebatch/Queue-v0").keywords)
    keywords["accelerator"] = {"name": "batch-server", "curve": curve}
    return System.build(**{**keywords, "load": load, "requests": requests})


def service(curve: str, lanes: int = LANES) -> FloatArray:
    """Service times tau(0..lanes), entry 0 unused (s)."""
    return np.append(0.0, CURVES[curve](np.arange(1, lanes + 1)))


def rate_at(tau: FloatArray, load: float) -> float:
    """Arrivals per second at a load relative to the best rate b / tau(b)."""
    return load * float((np.arange(1, tau.size) / tau[1:]).max())


def simulate(policy: Baseline, episodes: int, seed: int = EVALUATION_SEED) -> FloatArray:
    """Mean time in system (s) of ``policy`` in each of ``episodes`` with seeds ``seed + i``, shape (episodes,)."""
    return np.array([m.latency_mean_s for m in play(policy.system, policy, range(seed, seed + episodes))])


def rules(system: System, *, wait: bool = True) -> list[tuple[str, float, Baseline]]:
    """The rules with their exact mean times: optimum, greedy, greedy with its best cap, best (cap, wait-for).

    The search for the last takes seconds; it is left out without ``wait``.
    """
    optimal = OptimalQueue(system)
    tau = system.table.round_s(1, np.arange(system.lanes + 1))
    rate = system.load[0] * system.saturation.throughput_rps
    everybody = greedy_rule(system.lanes, 1, tail_limit(tau, rate, system.lanes))
    cap_s, cap, _ = best_cap_rule(tau, rate, wait=False)
    found: list[tuple[str, float, Baseline]] = [
        ("optimum", optimal.solution.mean_s, optimal),
        ("greedy", batch_queue_value(tau, rate, everybody), Greedy(system)),
        (f"cap {cap}", cap_s, Cap(system, cap=cap)),
    ]
    if wait:
        wait_s, cap, wait_for = best_cap_rule(tau, rate)
        found.append((f"cap {cap}, wait for {wait_for}", wait_s, Cap(system, cap=cap, wait_for=wait_for)))
    return found


@dataclass(frozen=True)
class Structure:
    """The optimal rule of one queue at one load, and what simpler rules cost there.

    Attributes:
        curve, load: which queue.
        threshold: the shortest queue that is served.
        gaps: longer queues at which it waits all the same; none: the rule has a control limit.
        batches: batch served with 0.. waiting, 0: wait. Only queues that are reached count: the solver cuts the queue
            off at twice as many.
        optimum_s, greedy_s, cap_s: mean times in system; ``cap``: the best cap.
    """

    curve: str
    load: float
    threshold: int
    gaps: tuple[int, ...]
    batches: tuple[int, ...]
    optimum_s: float
    greedy_s: float
    cap_s: float
    cap: int

    @property
    def monotone(self) -> bool:
        """Whether a longer queue never gets a smaller batch."""
        return bool((np.diff(self.batches) >= 0).all())


def structure(curve: str, load: float) -> Structure:
    """Solve one queue."""
    tau = service(curve)
    rate = rate_at(tau, load)
    solution = batch_queue_optimum(tau, rate)
    threshold, gaps, batches = read_rule(solution.policy)
    greedy_s = batch_queue_value(tau, rate, greedy_rule(LANES, 1, tail_limit(tau, rate, LANES)))
    cap_s, cap, _ = best_cap_rule(tau, rate, wait=False)
    return Structure(curve, load, threshold, gaps, batches, solution.mean_s, greedy_s, cap_s, cap)


def read_rule(policy: Int64Array) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Threshold, gaps and batches of a rule, as in `Structure`.

    >>> read_rule(np.array([0, 0, 2, 0, 4, 4, 4, 4]))
    (2, (3,), (0, 0, 2, 0))
    """
    reached = policy[: policy.size // 2]
    threshold = int(np.flatnonzero(reached > 0)[0])
    gaps = np.flatnonzero(reached == 0)
    return threshold, tuple(gaps[gaps > threshold].tolist()), tuple(reached.tolist())


def inoue_bound_s(rate: float, slope_s: float, fixed_s: float) -> float:
    """Upper bound of the mean time in system under greedy batches of any size, service slope_s * b + fixed_s (s).

    Source: arXiv 1912.06322, where it is said to be close to the exact value; the formula is recalled, not checked.
    """
    x = rate * slope_s
    first = (slope_s + fixed_s) / (2 * (1 - x)) * (1 + 2 * rate * fixed_s + (1 - rate * fixed_s) / (1 + x))
    second = 1.5 * fixed_s / (1 - x) + slope_s / 2 * (x + 2) / (1 - x**2)
    return min(first, second)


def greedy_and_bound(load: float) -> tuple[float, float]:
    """Exact mean time under greedy batches of any size on `affine`, and `inoue_bound_s` (s)."""
    tau = service("affine", UNBOUNDED)
    rate = rate_at(service("affine"), load)
    slope = float(tau[2] - tau[1])
    exact = batch_queue_value(tau, rate, greedy_rule(UNBOUNDED, 1, tail_limit(tau, rate, UNBOUNDED)))
    return exact, inoue_bound_s(rate, slope, float(tau[1]) - slope)


# How it is reported ------------------------------------------------------------------------------------------------

Job = tuple[str, str, float, bool]  # what; curve; load; quick
# Curve and load -> rules, each with its exact mean time (s) and the simulated ones by episode (s).
Queues = dict[tuple[str, float], list[tuple[str, float, FloatArray]]]


def _work(job: Job) -> Any:
    what, curve, load, quick = job
    if what == "structure":
        return structure(curve, load)
    if what == "bound":
        return greedy_and_bound(load)
    episodes, requests = QUICK if quick else FULL
    found = rules(queue_system(curve, load, requests), wait=not quick)
    return [(rule, exact_s, simulate(policy, episodes)) for rule, exact_s, policy in found]


def run(options: Options, progress: Progress) -> Section:
    """Measure; about a minute on one core, most of it the simulation."""
    loads = sorted({load for _, load in QUEUES}) if options.quick else LOADS  # these hold those of `QUEUES`
    jobs: list[Job] = [("simulate", curve, load, options.quick) for curve, load in QUEUES]
    jobs += [("structure", curve, load, options.quick) for curve in CURVES for load in loads]
    jobs += [("bound", "affine", load, options.quick) for load in BOUND_LOADS]
    found: dict[Job, Any] = {}
    for job, result in in_any_order(_work, jobs, options.processes):
        found[job] = result
        progress(len(found) / len(jobs), f"{job[0]} {job[1]} at load {job[2]:g}")
    simulated: Queues = {(job[1], job[2]): found[job] for job in jobs if job[0] == "simulate"}
    solved = [found[job] for job in jobs if job[0] == "structure"]
    bounds = {job[2]: found[job] for job in jobs if job[0] == "bound"}
    rows = [
        *_simulation_rows(simulated, QUICK_AIM if options.quick else AIM),
        *_bound_rows(bounds),
        *_structure_rows(solved),
    ]
    episodes, requests = QUICK if options.quick else FULL
    return Section(
        name="queue",
        title="The batch queue: exact optimum and control limits",
        rows=rows,
        summary=_summary(simulated, bounds, solved),
        tables=[_thresholds(solved)],
        charts=[_actions(solved), *(_times(curve, solved, simulated) for curve in CURVES)],
        quick=(
            f"the aim is {QUICK_AIM:.1%} instead of {AIM:.1%}; {QUICK[0]} episodes of {QUICK[1]} requests instead of "
            f"{FULL[0]} of "
            f"{FULL[1]}, shorter ones starting emptier; {len({load for _, load in QUEUES})} loads instead of "
            f"{len(LOADS)}, so that "
            "shares of loads are of others; no rule that waits."
        ),
        seeds=f"Simulated: {episodes} episodes of {requests} requests, "
        f"seeds {EVALUATION_SEED}..{EVALUATION_SEED + episodes - 1}.",
    )


def _simulation_rows(simulated: Queues, aim: float) -> list[Row]:
    return [
        Row(
            f"{curve}, load {load:g}, {rule}: mean time in system, simulated",
            float(means.mean()),
            "s",
            reference=exact_s,
            source=f"model and method of {SMDP}, solved here",
            checked="own",
            aim=aim,
            interval=mean_interval(means),
            kind="exact",
        )
        for (curve, load), entries in simulated.items()
        for rule, exact_s, means in entries
    ]


def _bound_rows(bounds: dict[float, tuple[float, float]]) -> list[Row]:
    return [
        Row(
            f"affine, load {load:g}, greedy without a cap: mean time in system, exact",
            exact_s,
            "s",
            reference=bound_s,
            source=INOUE,
            checked="recalled",
            note="an upper bound said to be close; its formula is recalled"
            + ("" if exact_s <= bound_s else "; exceeded"),
            kind="bound",
        )
        for load, (exact_s, bound_s) in bounds.items()
    ]


def _structure_rows(solved: Sequence[Structure]) -> list[Row]:
    rows = []
    for curve in CURVES:
        entries = [entry for entry in solved if entry.curve == curve]
        what = f"{curve}: share of the {len(entries)} loads at which the optimum has a control limit"
        share = float(np.mean([not entry.gaps for entry in entries]))
        note = f"{SMDP} says in words, for such service times: potentially always" if curve == "affine" else ""
        rows.append(Row(what, share, note=note))
    return rows


def _thresholds(solved: Sequence[Structure]) -> Table:
    what = ("service", "load", "serves from", "waits above that at", "batch never falls", "largest batch")
    times = ("optimum, s", "greedy, s", "best cap, s", "best cap", "optimum below greedy, %", "below best cap, %")
    rows = [
        (
            s.curve,
            s.load,
            s.threshold,
            ", ".join(map(str, s.gaps)) or "-",
            "yes" if s.monotone else "no",
            max(s.batches),
            s.optimum_s,
            s.greedy_s,
            s.cap_s,
            s.cap,
            100.0 * (1.0 - s.optimum_s / s.greedy_s),
            100.0 * (1.0 - s.optimum_s / s.cap_s),
        )
        for s in solved
    ]
    return Table(
        "thresholds", "The optimal rule by service curve and load, and mean times in system", (*what, *times), rows
    )


def _actions(solved: Sequence[Structure]) -> Chart:
    found: dict[tuple[int, ...], list[str]] = {}  # queues with the same rule share their points
    for curve, load in QUEUES:
        (entry,) = (s for s in solved if (s.curve, s.load) == (curve, load))
        found.setdefault(entry.batches[: SHOWN + 1], []).append(f"{curve}, load {load:g}")
    series = [Series("; ".join(names), list(range(len(batches))), batches) for batches, names in found.items()]
    title = "What the optimal rule does: batch served over queue length (0: wait)"
    return Chart("actions", title, "requests waiting", "batch served", series, "points")


def _times(curve: str, solved: Sequence[Structure], simulated: Queues) -> Chart:
    entries = [entry for entry in solved if entry.curve == curve]
    loads = [entry.load for entry in entries]
    series = [
        Series("optimum, exact", loads, [entry.optimum_s for entry in entries]),
        Series("greedy, exact", loads, [entry.greedy_s for entry in entries]),
        Series("greedy with its best cap, exact", loads, [entry.cap_s for entry in entries]),
    ]
    for (name, load), results in simulated.items():
        if name == curve:
            for rule, _, means in results[:2]:
                low, high = mean_interval(means)
                series.append(Series(f"{rule}, simulated", [load], [float(means.mean())], [low], [high]))
    return Chart(
        f"time-{curve}", f"Mean time in system, service {curve}", "load", "mean time in system, s", series, log_y=True
    )


def _summary(
    simulated: Queues,
    bounds: dict[float, tuple[float, float]],
    solved: Sequence[Structure],
) -> str:
    offs = [float(means.mean()) / exact - 1.0 for entries in simulated.values() for _, exact, means in entries]
    inside = sum(
        low <= exact <= high
        for entries in simulated.values()
        for _, exact, means in entries
        for low, high in [mean_interval(means)]
    )
    limits = [entry for entry in solved if not entry.gaps]
    broken = sorted({entry.curve for entry in solved if entry.gaps})
    rising = all(
        before.threshold <= after.threshold
        for before, after in itertools.pairwise(solved)
        if before.curve == after.curve
    )
    bound = "stays below" if all(exact <= limit for exact, limit in bounds.values()) else "exceeds"
    margins = [f"{100 * (1 - exact / limit):.2g} % at load {load:g}" for load, (exact, limit) in bounds.items()]
    structure_text = f"It is what the optimum has in {len(limits)} of {len(solved)} queues"
    if broken:
        structure_text += (
            f"; not on {' and '.join(f'`{curve}`' for curve in broken)}, where a batch just above a stair is worth a "
            "wait "
            "for the next stair, so the rule waits again at queues longer than some that it serves"
        )
    structure_text += ". The threshold " + ("never falls" if rising else "does not always rise") + " as the load rises"
    if any(not entry.monotone for entry in solved):
        structure_text += ", and where a rule waits again the batch falls with the queue"
    worst = max(solved, key=lambda entry: entry.cap_s / entry.optimum_s)
    return paragraphs(
        "With lengths all 1, one layer and Poisson arrivals the environment is a batch-service queue, whose best rule "
        "can be "
        "computed exactly. So the references here are mostly no published figures: exact solutions by this project's "
        "own solver, "
        "and a bound from a formula in print.",
        points(
            (
                "Simulation against the exact solution.",
                f"It comes within {100 * max(map(abs, offs)):.2f} % everywhere, and the 95 % interval holds the "
                "solution in "
                f"{inside} of {len(offs)} cases.",
            ),
            (
                "Greedy without a cap",
                f"{bound} Inoue's closed-form bound, by {', '.join(margins)}.",
            ),
            (
                "A control limit (wait below a threshold, serve from there on)",
                f"is the structure that theory tells of for affine service times. {structure_text}.",
            ),
            (
                "Greedy with its best cap",
                f"loses at most {100 * (worst.cap_s / worst.optimum_s - 1):.1f} % to the optimum (`{worst.curve}`, "
                "load "
                f"{worst.load:g}).",
            ),
        ),
    )
