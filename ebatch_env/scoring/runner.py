"""Evaluation: every policy on the same episodes.

An episode depends on its environment, its policy and its own seed, and on nothing that runs beside it: the results are
the same for any number of processes, of episodes side by side, and of interruptions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.fleet import AnySystem
from ebatch_env.errors import check_integer, fail
from ebatch_env.metrics import EpisodeMetrics
from ebatch_env.scoring.files import write_json
from ebatch_env.scoring.jobs import PolicySpec, build_system, fingerprint, is_whole_trace, system_keywords
from ebatch_env.scoring.policy import Policy
from ebatch_env.scoring.pool import at_once, in_any_order
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.seeds import EVALUATION_SEED, SEEDS_PER_USE
from ebatch_env.trace import RequestTrace

EPISODES = 32
# A policy is always asked for this many rows, the last ones copies where fewer episodes run. Sums in linear algebra
# round differently for batches of different shapes, and the results must not depend on how many run side by side.
ROWS = 64
REQUESTS_AT_ONCE = 4_000_000  # requests of the episodes side by side, together: bounds the memory


def play(system: AnySystem, policy: Policy, seeds: Sequence[int], num_envs: int | None = None) -> list[EpisodeMetrics]:
    """Play the episodes drawn with ``seeds`` to their ends.

    An episode is the one that ``gym.make(...)`` plays after ``reset(seed=...)`` with ``predict(deterministic=True)``.

    Args:
        system: what to play on.
        policy: who plays.
        seeds: one per episode.
        num_envs: episodes side by side, 1..`ROWS`; None: as many as memory allows.

    Raises:
        ValueError: ``num_envs`` out of range, or the policy returned no valid actions.
    """
    if num_envs is None:
        num_envs = min(ROWS, max(1, REQUESTS_AT_ONCE // system.requests))
    width = check_integer("num_envs", num_envs, low=1, high=ROWS)
    blocks = (seeds[first : first + width] for first in range(0, len(seeds), width))
    return [metrics for block in blocks for metrics in _play_block(system, policy, block)]


def _play_block(system: AnySystem, policy: Policy, seeds: Sequence[int]) -> list[EpisodeMetrics]:
    n = len(seeds)
    dynamics = Dynamics(system, n, threads=1)
    dynamics.restart(range(n), [seeding.np_random(seed)[0] for seed in seeds])
    rows = np.arange(ROWS) % n
    over = np.zeros(n, np.bool_)
    state: Any = None
    start = np.ones(ROWS, np.bool_)
    while not over.all():
        actions, state = policy.predict(dynamics.observation[rows], state, start, deterministic=True)
        dynamics.step(system.actions.check_actions(actions, ROWS)[:n], waits=over)
        over |= dynamics.over
        start = np.zeros(ROWS, np.bool_)
    return [dynamics.metrics(e) for e in range(n)]


@dataclass(frozen=True)
class Block:
    """Some episodes of one policy on one environment: what a process plays at a time.

    Attributes:
        env: the environment's id; ``keywords``: those of its `System`.
        policy: who plays.
        seed: of episode 0.
        episodes: the numbers of the episodes.
        num_envs: see `play`.
        key: digest of all the rest; names the file in which the records are kept.
    """

    env: str
    keywords: Mapping[str, Any]
    policy: PolicySpec
    seed: int
    episodes: tuple[int, ...]
    num_envs: int | None
    key: str = ""


def play_block(block: Block) -> list[EpisodeRecord]:
    """Play a block.

    Raises:
        ValueError: the policy cannot be made or returned invalid actions.
    """
    system = build_system(block.keywords)
    seeds = [block.seed + episode for episode in block.episodes]
    try:
        found = play(system, block.policy.make(system, block.env), seeds, block.num_envs)
    except ValueError as error:
        raise ValueError(f"{block.policy.label} on {block.env}: {error}") from error
    return [
        EpisodeRecord.of(block.env, block.policy.label, episode, seed, metrics)
        for episode, seed, metrics in zip(block.episodes, seeds, found, strict=True)
    ]


def evaluate(
    env_ids: str | Sequence[str],
    policies: Sequence[str | PolicySpec],
    episodes: int | None = None,
    seed: int = EVALUATION_SEED,
    *,
    num_envs: int | None = None,
    processes: int = 1,
    ray: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    trace: str | os.PathLike[str] | RequestTrace | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_skip: Callable[[str, str, ValueError], None] | None = None,
) -> list[EpisodeRecord]:
    """Play every policy on every environment, all on the same episodes.

    Args:
        env_ids: ids of environments.
        policies: what to evaluate; a string is read by `PolicySpec.parse`. ``agents`` stands for the stored policies made
            for the environment at hand, of which there may be none.
        episodes: per environment and policy; None: 32, or 1 where a whole trace is replayed.
        seed: of episode 0; episode i has ``seed + i``.
        num_envs: episodes side by side in a process, 1..64; None: as many as memory allows. Changes no result.
        processes: how many play at a time. Changes no result.
        ray: work on a Ray cluster instead, see `ebatch_env.scoring.cluster.connected`. Changes no result.
        overrides: keywords of the environment that replace the scenario's.
        trace: requests to replay instead of the scenario's workload, see `system_keywords`.
        out: folder in which finished blocks of episodes are kept, under ``parts``; a later call takes up what is there
            if nothing that matters has changed.
        progress: called with the episodes done and their total, at first and after every block.
        on_skip: called with environment, label and error for a policy that cannot be made for an environment, which is
            then left out; None: the error is raised.

    Returns:
        Records in the order of environments, policies, episodes.

    Raises:
        ValueError: an argument out of range, an unknown name, or nothing to evaluate.
        OSError: the trace cannot be read, ``out`` not be written, or no cluster is there.
    """
    ids = [env_ids] if isinstance(env_ids, str) else list(env_ids)
    specs = [policy if isinstance(policy, PolicySpec) else PolicySpec.parse(policy) for policy in policies]
    for what, names in (("env", ids), ("policy", [spec.label for spec in specs])):
        if not names:
            raise fail(what, names, "given at least once")
        for name in names:
            if names.count(name) > 1:
                raise fail(what, name, "given once only")
    check_integer("seed", seed, low=0)
    check_integer("processes", processes, low=1)
    if episodes is not None:
        check_integer("episodes", episodes, low=1, high=SEEDS_PER_USE)
    if num_envs is not None:
        check_integer("num_envs", num_envs, low=1, high=ROWS)

    jobs: list[Block] = []
    for env_id in ids:
        keywords = system_keywords(env_id, overrides, trace)
        system = build_system(keywords)
        count = _episodes(system, episodes)
        here = [one for spec in specs for one in spec.on(env_id)]
        for spec in here:
            if [one.label for one in here].count(spec.label) > 1:
                raise fail("policy", spec.label, f"given once only, on {env_id}")
            try:
                policy = spec.make(system, env_id)
            except ValueError as error:
                if on_skip is None:
                    raise
                on_skip(env_id, spec.label, error)
                continue
            key = fingerprint(system, policy, spec, env_id, seed) if out is not None else ""
            jobs.append(Block(env_id, keywords, spec, seed, tuple(range(count)), num_envs, key))
    if not jobs:
        raise fail("policy", [spec.label for spec in specs], "such that one at least can act on the environment")

    parts = None if out is None else Path(out) / "parts"
    done: dict[tuple[str, str, int], EpisodeRecord] = {}
    for job in jobs:
        wanted = set(job.episodes)
        kept = {r.episode: r for r in _kept(parts, job.key) if r.episode in wanted}
        done |= {(r.env, r.policy, r.episode): r for r in kept.values()}
    total = sum(len(job.episodes) for job in jobs)
    if progress is not None:
        progress(len(done), total)
    with at_once(processes, ray if len(done) < total else None) as workers:
        blocks = [block for job in jobs for block in _left(job, done, workers)]
        for block, records in in_any_order(play_block, blocks, processes, ray=ray):
            if parts is not None:
                _keep(parts, block, records)
            done |= {(r.env, r.policy, r.episode): r for r in records}
            if progress is not None:
                progress(len(done), total)
    return [done[job.env, job.policy.label, episode] for job in jobs for episode in job.episodes]


def _left(job: Block, done: Mapping[tuple[str, str, int], EpisodeRecord], workers: int) -> list[Block]:
    """The episodes of ``job`` that are not done, in blocks for some workers to share."""
    width = min(job.num_envs or ROWS, -(-len(job.episodes) // workers))
    left = [episode for episode in job.episodes if (job.env, job.policy.label, episode) not in done]
    return [replace(job, episodes=tuple(left[i : i + width])) for i in range(0, len(left), width)]


def _episodes(system: AnySystem, episodes: int | None) -> int:
    if not is_whole_trace(system):
        return EPISODES if episodes is None else episodes
    if episodes not in (None, 1):
        raise fail(
            "episodes",
            episodes,
            f"1 where an episode is the whole trace of {system.requests} requests, or requests set to fewer",
        )
    return 1


def _keep(parts: Path, block: Block, records: Sequence[EpisodeRecord]) -> None:
    folder = parts / block.key
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{block.episodes[0]}-{block.episodes[-1]}.json", [record.to_dict() for record in records])


def _kept(parts: Path | None, key: str) -> Iterable[EpisodeRecord]:
    """Records of finished blocks; files that are not ours or damaged are played again."""
    for path in sorted(parts.joinpath(key).glob("[0-9]*.json")) if parts is not None else ():
        try:
            yield from [EpisodeRecord.from_dict(values) for values in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, TypeError):
            continue
