"""The best constant plan: all that an action offers, tried by successive halving.

There are few enough to try them all. What is far off shows on a few episodes, so only the better quarter plays the rest
(Jamieson and Talwalkar, AISTATS 2016, with one rung).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_baselines.base import LONGEST
from ebatch_baselines.candidates import Outcome, one_per_machine, side_by_side
from ebatch_baselines.simple import Constant
from ebatch_env.environment.fleet import AnySystem
from ebatch_env.errors import check_integer
from ebatch_env.scoring.jobs import build_system
from ebatch_env.scoring.tuning import Tuned
from ebatch_env.simulator.state import Int64Array

SHARE = 4  # one in so many episodes for all plans; one in so many plans for all episodes
FINALISTS = 16  # at least so many


def search(
    env_id: str,
    keywords: Mapping[str, Any],
    trials: int,
    episodes: int,
    seed: int,
    *,
    decisions: int | None = None,
    log: Path | None = None,
) -> Tuned:
    """Find the knobs of `Constant` with the least mean cost.

    All plans play the first quarter of the episodes, the best quarter of the plans, `FINALISTS` at least and the default always,
    plays all of them. The default is kept on ties, then the plan with the shorter rounds. A plan that leaves an episode truncated
    costs infinitely much.

    Args:
        env_id: the id.
        keywords: of its `System`.
        trials, decisions: no matter: all plans are tried. The outcome says how many there were, and what it took.
        episodes: on which the finalists are compared.
        seed: of the first episode.
        log: no matter either: it takes seconds, and nothing is kept.

    Raises:
        ValueError: an argument out of range.
    """
    check_integer("episodes", episodes, low=1)
    system = build_system(keywords)
    plans = distinct_plans(system)
    actions = [np.concatenate([_actions(machine, plan) for plan in plans]) for machine in system.machines]
    seeds = range(seed, seed + episodes)
    everybody = np.arange(len(plans))
    first = _outcomes(system, actions, everybody, seeds[: -(-episodes // SHARE)])
    ranked = sorted(everybody.tolist(), key=lambda plan: (first[plan][0], plan))
    finalists = sorted({0, *ranked[: max(FINALISTS, -(-len(plans) // SHARE))]})
    last = _outcomes(system, actions, np.array(finalists), seeds)
    cost, best = min((cost, plan) for plan, (cost, _) in zip(finalists, last, strict=True))
    return Tuned(
        env=env_id,
        policy=Constant.name,
        knobs=plans[best],
        cost=cost,
        default_cost=last[0][0],
        trials=len(plans),
        episodes=episodes,
        seed=seed,
        decisions=sum(taken for _, taken in first + last),
    )


def distinct_plans(system: AnySystem) -> list[dict[str, Any]]:
    """The knobs of all constant plans that differ in what they do on a machine, the default first, then by T.

    Left out is the plan to admit nobody, which the knobs cannot say.
    """
    codec, lanes = system.actions, system.lanes
    offered = {name: codec.levels[name][codec.legal[name]] for name in codec.levels}
    knobs = {knob.name: knob for knob in Constant.knobs}
    steps = [int(t) for t in np.unique(offered["time_steps"]) if t != LONGEST and t <= knobs["time_steps"].high]
    shares = [float(n) / lanes for n in np.unique(offered["admit"]) if 0 < n < lanes]
    rounds = [*((t, False) for t in steps), (knobs["time_steps"].default, True)]
    admits = [*(share for share in shares if share >= knobs["admit"].low), knobs["admit"].high]
    kinds = (knobs[name].choices for name in ("joins", "order", "shed"))
    default = {name: knob.default for name, knob in knobs.items()}
    found: dict[bytes, dict[str, Any]] = {}
    for plan in (
        default,
        *(dict(zip(knobs, (*t, *rest), strict=True)) for t, *rest in product(rounds, admits, *kinds)),
    ):
        found.setdefault(b"".join(_actions(machine, plan).tobytes() for machine in system.machines), plan)
    return list(found.values())


def _actions(machine: Any, plan: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """The action on a machine, with a first axis of 1."""
    return machine.actions.encode(Constant(machine, **plan).of(1))  # type: ignore[no-any-return]


class _Rows:
    """Takes the actions it was given, row by row."""

    def __init__(self) -> None:
        self.actions: npt.NDArray[np.int64]

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        """See `ebatch_env.scoring.policy.Policy`."""
        return self.actions, state


def _outcomes(
    system: AnySystem, actions: Sequence[npt.NDArray[np.int64]], plans: Int64Array, seeds: Sequence[int]
) -> list[Outcome]:
    """What ``plans``, numbers of rows in each machine's ``actions``, cost on the episodes."""
    policy, members = one_per_machine(system, lambda machine: _Rows())

    def take(rows: Int64Array) -> None:
        for member, mine in zip(members, actions, strict=True):
            member.actions = mine[plans[rows]]

    return side_by_side(system, policy, len(plans), seeds, take)
