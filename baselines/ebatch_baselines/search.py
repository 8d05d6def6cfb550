"""The best member of a parametric family, found by CMA-ES with the simulator in the loop.

Many parameters, a cost that is piecewise constant in them, and cheap episodes: what the covariance matrix adaptation evolution
strategy is for (Hansen, arXiv:1604.00772). Several candidates play side by side, each row of a block with weights of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ebatch_baselines.candidates import Journal, Outcome, one_per_machine, side_by_side
from ebatch_baselines.linear import REACH, STARTS, Linear
from ebatch_env.environment.fleet import AnySystem
from ebatch_env.errors import FloatArray, check_integer, check_number, needs_extra
from ebatch_env.scoring.jobs import build_system
from ebatch_env.scoring.tuning import Tuned
from ebatch_env.simulator.state import Int64Array

POPULATION = 16  # near the strategy's own 4 + 3 ln(105), and with 16 episodes each a generation fills four blocks
SIGMA = 0.5


def search(
    env_id: str,
    keywords: Mapping[str, Any],
    candidates: int,
    episodes: int,
    seed: int,
    *,
    decisions: int | None = None,
    log: Path | None = None,
    sigma: float = SIGMA,
    population: int = POPULATION,
) -> Tuned:
    """Find the weights of `Linear` with the least mean cost.

    The first candidates are `ebatch_baselines.linear.STARTS`, the default before all others; the strategy starts from the best of
    them. A candidate that leaves an episode truncated costs infinitely much. Where the strategy has converged it starts again, with
    the first step size and another seed: in turn from the best so far, and from the next of the starts.

    Args:
        env_id: the id.
        keywords: of its `System`.
        candidates: weights tried.
        episodes: played with each, the same ones.
        seed: of the first episode, and of the search.
        decisions: stop once so many have been taken, in the place of ``candidates``; None: no such limit.
        log: file (JSON) that keeps the costs after every generation, so that an interrupted search goes on, with the same
            outcome, or one with more candidates goes further; None: nothing is kept.
        sigma: first standard deviation of the steps; weights lie in -4..4.
        population: candidates of a generation.

    Raises:
        ValueError: an argument out of range.
        OSError: ``log`` cannot be written.
    """
    check_integer("candidates", candidates, low=1)
    check_integer("population", population, low=2)
    check_number("sigma", sigma, low=0.0, low_open=True, high=REACH)
    with needs_extra("the search", "cli"):
        from threadpoolctl import threadpool_limits

    # Sums of several threads may round differently, and one bit leads the strategy elsewhere.
    with threadpool_limits(1, "blas"):  # type: ignore[no-untyped-call]
        found, spent = _searched(
            build_system(keywords),
            range(seed, seed + episodes),
            candidates=candidates,
            decisions=decisions,
            journal=Journal(log),
            sigma=sigma,
            population=population,
        )
    weights, cost = _best(found)
    return Tuned(
        env=env_id,
        policy=Linear.name,
        knobs=dict(zip((knob.name for knob in Linear.knobs), weights.tolist(), strict=True)),
        cost=cost,
        default_cost=found[0][1],
        trials=len(found),
        episodes=episodes,
        seed=seed,
        decisions=spent,
    )


def _searched(
    system: AnySystem,
    seeds: Sequence[int],
    *,
    candidates: int,
    decisions: int | None,
    journal: Journal,
    sigma: float,
    population: int,
) -> tuple[list[tuple[FloatArray, float]], int]:
    """Every candidate in order with its cost, and the decisions taken."""
    with needs_extra("the search", "cli"):
        from cmaes import CMA  # type: ignore[attr-defined]  # its package re-exports it without saying so

    def strategy(mean: FloatArray, number: int) -> CMA:
        bounds = np.tile([-REACH, REACH], (mean.size, 1))
        return CMA(mean=mean, sigma=sigma, bounds=bounds, seed=seeds[0] + number, population_size=population)

    starts = np.array([Linear.weights_of(knobs) for knobs in STARTS.values()])
    optimiser: CMA | None = None
    number = 0
    found: list[tuple[FloatArray, float]] = []
    spent = 0
    while (len(found) < candidates) if decisions is None else (spent < decisions or not found):
        asked = starts if optimiser is None else np.array([optimiser.ask() for _ in range(population)])
        wanted = asked if decisions is not None else asked[: candidates - len(found)]
        outcomes = journal.outcomes(asked)
        new = wanted[len(outcomes) :]
        if len(new):
            outcomes = outcomes + costs_of(system, new, seeds)
            journal.keep(asked, outcomes)
        outcomes = outcomes[: len(wanted)]
        spent += sum(taken for _, taken in outcomes)
        told = [(weights, cost) for weights, (cost, _) in zip(wanted, outcomes, strict=True)]
        found += told
        journal.next()
        if optimiser is None:
            optimiser = strategy(_start(found, 0), 0)
        elif len(told) == population:
            optimiser.tell(list(told))
            if optimiser.should_stop():
                number += 1
                optimiser = strategy(_start(found, number), number)
    return found, spent


def _start(found: Sequence[tuple[FloatArray, float]], number: int) -> FloatArray:
    """Where the strategy begins for the ``number``-th time: by turns the best so far, and the next best of the starts."""
    if number % 2 == 0:
        return _best(found)[0]
    ranked = sorted(found[: len(STARTS)], key=lambda entry: entry[1])
    return ranked[(number + 1) // 2 % len(ranked)][0]


def costs_of(system: AnySystem, candidates: FloatArray, seeds: Sequence[int]) -> list[Outcome]:
    """The mean cost of each of ``candidates`` (C, weights) over the episodes, and the decisions it took."""
    policy, members = one_per_machine(system, Linear)  # whose weights count: a row's place is the same in all
    weights = candidates.reshape(len(candidates), *members[0].weights.shape[1:])

    def take(rows: Int64Array) -> None:
        for member in members:
            member.weights = weights[rows]

    return side_by_side(system, policy, len(candidates), seeds, take)


def _best(found: Sequence[tuple[FloatArray, float]]) -> tuple[FloatArray, float]:
    """The cheapest, the earliest of equals."""
    return min(found, key=lambda entry: entry[1])
