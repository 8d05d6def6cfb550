"""Does the number of time-steps per round still matter where no weights reload, and where a launch costs much?

Schedulers play `ENV` on each machine at several loads. Every family of schedulers has the same number of settings, all
with the same queue order and shedding; the best on one half of the episodes is scored on the other. Constant plans are
scored at every T besides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ebatch_env.errors import FloatArray
from ebatch_env.machines import MACHINES
from ebatch_env.networks import network
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.jobs import PolicySpec
from ebatch_env.scoring.runner import evaluate
from ebatch_env.scoring.seeds import EVALUATION_SEED
from ebatch_env.scoring.statistics import interquartile_mean, iqm_interval

ENV = "ebatch/TPU-Translation-v0"  # MNMT, bursts, deadlines; the machine is replaced
LANES = 64  # the environment's default
_SERVICE = {"order": "shortest", "shed": True}


def _grid(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """Every combination."""
    settings: list[dict[str, Any]] = [{}]
    for name, options in values.items():
        settings = [{**setting, name: option} for setting in settings for option in options]
    return settings


_SIZES = (1.0, 1 / 16, 1 / 4, 1 / 2)
_CONSTANT = {"longest": False, "admit": 1.0, "joins": True}
# Eight settings each; a quick run has the first three. Constant plans have two more: the machine's largest T, if no
# power of two comes near it, and rounds to the end of the longest sequence.
FAMILIES: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType(
    {
        "constant": [{**_CONSTANT, "time_steps": t} for t in (8, 1, 64, 2, 4, 16, 32, 128)],
        "ebatch": [{**x, "hurry": 0.0} for x in _grid(latency_weight=(0.3, 3.0), lag=(0.5, 0.0, 2.0, 1.0))],
        "cellular": _grid(size=_SIZES, steps=(4, 2)),
        "continuous": _grid(size=_SIZES, iterations=(8, 1)),
        "padded": _grid(size=_SIZES, timeout=(0.1, 0.001)),
    }
)
LONGEST = "longest"
MACHINE_NAMES = ("epur", "plasticine", "v100", "v100-baseline")


@dataclass(frozen=True)
class Budget:
    """How much is played: requests of an episode, and episodes; the first half of them chooses, the second scores."""

    loads: Sequence[float] = (0.5, 0.8, 1.1)
    requests: int = 512
    episodes: int = 64
    settings: int = 8
    machines: Sequence[str] = MACHINE_NAMES


FULL = Budget()
QUICK = Budget(loads=(0.8,), requests=256, episodes=32, settings=3, machines=("plasticine", "v100"))


@dataclass(frozen=True)
class Score:
    """Interquartile mean of a cost or of a ratio of costs over the episodes, with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray) -> Score:
        """Of one value per episode, shape (n,)."""
        return cls(float(interquartile_mean(values)), *iqm_interval(values))

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high


@dataclass(frozen=True)
class Outcome:
    """One machine at one load.

    Attributes:
        machine, load: which.
        steps: T of the constant plans, ascending.
        by_steps: their scores.
        longest: score of rounds to the end of the longest sequence.
        best_constant: the T that was cheapest on the episodes that choose, as text, or "longest".
        by_family: score of each family's best setting.
        chosen: that setting, as text.
        dearest: the constant plan of the largest cost.
        worst_over_best: its cost over that of `best_constant`, episode by episode.
        over_constant: cost of each other family's best over that of the best constant plan, episode by episode, less 1.
    """

    machine: str
    load: float
    steps: Sequence[int]
    by_steps: Sequence[Score]
    longest: Score
    best_constant: str
    by_family: Mapping[str, Score]
    chosen: Mapping[str, str]
    dearest: str
    worst_over_best: Score
    over_constant: Mapping[str, Score]

    @property
    def plans(self) -> list[str]:
        """The constant plans as text, rounds to the longest last."""
        return [*map(str, self.steps), LONGEST]

    @property
    def by_plan(self) -> list[Score]:
        """Their scores."""
        return [*self.by_steps, self.longest]


def families(machine: str, settings: int) -> dict[str, list[PolicySpec]]:
    """The schedulers to play on a machine: of each family that many settings, T no larger than the machine's limit."""
    limit = MACHINES[machine].cost_table(network(str(scenario(ENV).keywords["network"])), LANES).max_time_steps
    found: dict[str, list[PolicySpec]] = {}
    for family, grid in FAMILIES.items():
        offered = [knobs for knobs in grid if knobs.get("time_steps", 1) <= limit][:settings]
        if family == "constant":
            near = limit < 2 * max(knobs["time_steps"] for knobs in grid)
            if near and limit not in [knobs["time_steps"] for knobs in offered]:
                offered.append({**_CONSTANT, "time_steps": limit})
            offered.append({**_CONSTANT, "time_steps": 1, "longest": True})
        found[family] = [_spec(family, knobs) for knobs in offered]
    return found


def plan_of(spec: PolicySpec) -> str:
    """A constant plan as text: its T, or "longest"."""
    return LONGEST if spec.knobs["longest"] else str(spec.knobs["time_steps"])


def _spec(family: str, knobs: Mapping[str, Any]) -> PolicySpec:
    if family == "constant":
        shown = LONGEST if knobs["longest"] else f"time_steps {knobs['time_steps']}"
    else:
        shown = ", ".join(f"{name} {value:g}" for name, value in knobs.items() if name != "hurry")
    return PolicySpec(f"{family}: {shown}", family, {**knobs, **_SERVICE})


def outcomes(budget: Budget, processes: int, progress: Callable[[float, str], None]) -> list[Outcome]:
    """Play everything; the figures depend on the budget only."""
    found = []
    cases = [(machine, load) for machine in budget.machines for load in budget.loads]
    for place, (machine, load) in enumerate(cases):
        progress(place / len(cases), f"{machine} at load {load:g}")
        found.append(_outcome(machine, load, budget, processes))
    return found


def _outcome(machine: str, load: float, budget: Budget, processes: int) -> Outcome:
    overrides = {"accelerator": machine, "load": load, "requests": budget.requests, "lanes": LANES}

    offered = families(machine, budget.settings)
    everything = [spec for specs in offered.values() for spec in specs]
    records = evaluate(ENV, everything, budget.episodes, EVALUATION_SEED, processes=processes, overrides=overrides)
    cost = {spec.label: np.array([r.cost for r in records if r.policy == spec.label]) for spec in everything}
    half = budget.episodes // 2
    best = {
        family: min(specs, key=lambda spec: float(interquartile_mean(cost[spec.label][:half])))
        for family, specs in offered.items()
    }
    scored = {label: costs[half:] for label, costs in cost.items()}
    fixed = [spec for spec in offered["constant"] if not spec.knobs["longest"]]
    (longest,) = [spec for spec in offered["constant"] if spec.knobs["longest"]]
    constants = [*sorted(fixed, key=lambda spec: int(spec.knobs["time_steps"])), longest]
    scores = [Score.of(scored[spec.label]) for spec in constants]
    reference = scored[best["constant"].label]
    dearest = constants[int(np.argmax([score.value for score in scores]))]
    return Outcome(
        machine=machine,
        load=load,
        steps=[int(spec.knobs["time_steps"]) for spec in constants[:-1]],
        by_steps=scores[:-1],
        longest=scores[-1],
        best_constant=plan_of(best["constant"]),
        by_family={family: Score.of(scored[spec.label]) for family, spec in best.items()},
        chosen={family: spec.label.partition(": ")[2] for family, spec in best.items()},
        dearest=plan_of(dearest),
        worst_over_best=Score.of(scored[dearest.label] / reference),
        over_constant={
            family: Score.of(scored[spec.label] / reference - 1.0)
            for family, spec in best.items()
            if family != "constant"
        },
    )


def one_for_all_loads(found: Sequence[Outcome], machine: str) -> tuple[str, float]:
    """The single constant plan with the least mean relative cost over a machine's loads, and its worst excess over a load's best.

    This is chosen in hindsight, on the very episodes that score it, on both sides alike.
    """
    rows = [outcome for outcome in found if outcome.machine == machine]
    cost = np.array([[score.value for score in outcome.by_plan] for outcome in rows])  # (loads, plans)
    excess = cost / cost.min(axis=1, keepdims=True)
    chosen = int(np.argmin(excess.mean(axis=0)))
    return rows[0].plans[chosen], float(excess[:, chosen].max() - 1.0)
