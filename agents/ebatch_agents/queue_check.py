"""What PPO learns on the batch queue, beside the exact optimum: ``python -m ebatch_agents.queue_check``.

For each service curve and load an agent is trained on `ebatch/Queue-v0` with the package's hyperparameters, the best of its
models on the validation episodes is kept, and it plays fresh evaluation episodes beside `OptimalQueue`, the optimum by
relative value iteration. Both play the same episodes, so the excess is of paired means. The exit status is 1 if one is
above `AIM`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ebatch_agents.policy import SB3Policy, load_model
from ebatch_agents.training import train
from ebatch_baselines.batch_queue import Greedy, OptimalQueue
from ebatch_env.scoring.files import write_json
from ebatch_env.scoring.jobs import build_system, system_keywords
from ebatch_env.scoring.pool import in_any_order
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import EVALUATION_SEED
from ebatch_env.scoring.statistics import mean_interval

ENV_ID = "ebatch/Queue-v0"
CURVES = ("affine", "stairs")
LOADS = (0.5, 0.7, 0.9)
AIM = 0.01


@dataclass(frozen=True)
class Case:
    """One queue to learn.

    Attributes:
        curve: of the service time, see `BatchServer`.
        load: relative to the best rate.
        seed: of the training.
        steps: decisions to train for; None: the hyperparameters'.
        requests: of an evaluation episode, long because it begins with an empty queue.
        episodes: how many of them.
    """

    curve: str
    load: float
    seed: int
    steps: int | None
    requests: int
    episodes: int


@dataclass(frozen=True)
class Found:
    """What came out; costs are mean times in system in reference latencies.

    Attributes:
        exact: the optimum as solved; ``optimal``, ``greedy`` and ``learned`` are means over the episodes.
        excess: learned / optimal - 1; ``low`` and ``high``: its 95 % bootstrap interval over the paired episodes.
        seconds: the training took.
    """

    curve: str
    load: float
    seed: int
    exact: float
    optimal: float
    greedy: float
    learned: float
    excess: float
    low: float
    high: float
    seconds: float


def check(case: Case) -> Found:
    """Train on one queue and compare."""
    keywords = {"accelerator": {"name": "batch-server", "curve": case.curve}, "load": case.load}
    with tempfile.TemporaryDirectory() as place:
        trained = train(
            ENV_ID, "ppo", steps=case.steps, seed=case.seed, out=place, keywords=keywords, evaluations=10, episodes=8
        )
        assert trained.folder is not None
        model = load_model(trained.folder.best, trust=True)
    system = build_system(system_keywords(ENV_ID, {**keywords, "requests": case.requests})).machines[0]
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + case.episodes)
    best = OptimalQueue(system)
    optimal, greedy, learned = (
        np.array([metrics.cost for metrics in play(system, policy, seeds)])
        for policy in (best, Greedy(system), SB3Policy(model, system))
    )
    low, high = mean_interval((learned - optimal) / optimal.mean())
    return Found(
        case.curve,
        case.load,
        case.seed,
        best.solution.mean_s / system.saturation.latency_s,
        float(optimal.mean()),
        float(greedy.mean()),
        float(learned.mean()),
        float(learned.mean() / optimal.mean() - 1.0),
        low,
        high,
        trained.seconds,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and print; 1 if an excess is above `AIM`."""
    parser = argparse.ArgumentParser(prog="ebatch_agents.queue_check", description="PPO beside the exact optimum.")
    parser.add_argument("--curves", nargs="+", default=list(CURVES))
    parser.add_argument("--loads", nargs="+", type=float, default=list(LOADS))
    parser.add_argument("--seeds", type=int, default=1, help="trainings per queue")
    parser.add_argument("--steps", type=int, help="decisions to train for; default: the hyperparameters'")
    parser.add_argument("--requests", type=int, default=16384, help="of an evaluation episode")
    parser.add_argument("--episodes", type=int, default=16, help="evaluation episodes")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    given = parser.parse_args(arguments)
    cases = [
        Case(curve, load, seed, given.steps, given.requests, given.episodes)
        for curve in given.curves
        for load in given.loads
        for seed in range(given.seeds)
    ]
    done = dict(in_any_order(check, cases, given.processes))
    rows = [done[case] for case in cases]
    print("| service | load | seed | exact | optimal | greedy | learned | excess (95 %) | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        costs = f"{row.exact:.4f} | {row.optimal:.4f} | {row.greedy:.4f} | {row.learned:.4f}"
        excess = f"{row.excess:+.2%} ({row.low:+.2%}..{row.high:+.2%})"
        print(f"| {row.curve} | {row.load:g} | {row.seed} | {costs} | {excess} | {row.seconds:.0f} |")
    last = EVALUATION_SEED + given.episodes - 1
    print(f"\nEvaluation episodes {EVALUATION_SEED}..{last} of {given.requests} requests; aim: excess below {AIM:.0%}.")
    if given.out is not None:
        write_json(given.out, [row.__dict__ for row in rows])
    return int(any(row.excess > AIM for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
