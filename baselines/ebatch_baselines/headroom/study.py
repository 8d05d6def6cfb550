"""The study: a search per scenario, every policy and the bound on the same episodes, and what they say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ebatch_baselines.linear import Linear
from ebatch_env.bounds import episode_bounds
from ebatch_env.errors import FloatArray, check_integer, fail
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.files import make_folder, write_json
from ebatch_env.scoring.jobs import PolicySpec, build_system, fingerprint, system_keywords
from ebatch_env.scoring.policy import agents_of, policy_class, policy_names, stored_policies
from ebatch_env.scoring.pool import in_any_order
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.report import versions
from ebatch_env.scoring.runner import evaluate
from ebatch_env.scoring.seeds import EVALUATION_SEED, SEEDS_PER_USE, TUNING_SEED
from ebatch_env.scoring.statistics import episode_costs, interquartile_mean, iqm_interval, relative
from ebatch_env.scoring.tuning import Tuned, stem_of, store, tune

YARDSTICK = "ebatch"  # what all is relative to
CONSTANT = "constant"
LEFT_OUT = ("random",)  # the floor says nothing about room
BOUND = "bound"
ROOM = 0.10  # by how much the best must be below the yardstick for there to be room
FIGURES, TUNED, STUDIES, BOUNDS = "headroom.json", "tuned", "studies", "bounds"
EPISODES_AT_ONCE = 8  # whose bound a process works out at a time
# What a policy is, in the order of the page.
KINDS = ("heuristic", "search", "agent", "optimum")
OPTIMA = ("optimal-queue",)  # exact where they can act at all

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Settings:
    """What a study is made with.

    Attributes:
        envs: ids.
        candidates: members of the family that the search tries per scenario; 0: none, the shipped ones are scored.
        episodes: on which everything is scored, from `EVALUATION_SEED` on.
        tuning_episodes: on which candidates are compared, from `TUNING_SEED` on.
    """

    envs: tuple[str, ...]
    candidates: int = 2000
    episodes: int = 64
    tuning_episodes: int = 16

    def __post_init__(self) -> None:
        """Check the numbers and the ids."""
        check_integer("candidates", self.candidates, low=0)
        check_integer("episodes", self.episodes, low=1, high=SEEDS_PER_USE)
        check_integer("tuning_episodes", self.tuning_episodes, low=1, high=SEEDS_PER_USE)
        if not self.envs:
            raise fail("env", list(self.envs), "given at least once")
        for env_id in self.envs:
            scenario(env_id)
            if self.envs.count(env_id) > 1:
                raise fail("env", env_id, "given once only")


QUICK: Mapping[str, int] = {"candidates": 128, "episodes": 8, "tuning_episodes": 4}


@dataclass(frozen=True)
class _Bounds:
    """Some episodes whose bound is wanted."""

    env: str
    seeds: tuple[int, ...]


def study(
    settings: Settings,
    out: Path,
    *,
    tuned: Path | None = None,
    processes: int = 1,
    command: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search, play, bound; write ``headroom.json``.

    Searches are kept in ``out/studies``, episodes in ``out/parts``, bounds in ``out/bounds``: the same call after an interruption
    goes on.

    Args:
        settings: what is wanted.
        out: folder for the files.
        tuned: folder for the weights found, ``<id>.json`` as of `ebatch tune`; None: ``out/tuned``.
        processes: searches or blocks of episodes at a time. Changes no result.
        command: how it was asked for, for the files.
        progress: called with the share done and what is being done.

    Returns:
        What ``headroom.json`` holds.

    Raises:
        ValueError: an argument out of range, or the yardstick cannot be played.
        OSError: a folder cannot be written.
    """
    check_integer("processes", processes, low=1)
    make_folder(out)
    say = progress or (lambda share, doing: None)
    found: dict[str, Tuned] = {}
    # About how long the searches take against the rest, by episodes played.
    weight = settings.candidates * settings.tuning_episodes
    part = weight / (weight + 30 * settings.episodes)
    if settings.candidates:
        results = tune(
            list(settings.envs),
            [Linear.name],
            settings.candidates,
            settings.tuning_episodes,
            TUNING_SEED,
            processes=processes,
            studies=out / STUDIES,
            progress=lambda done, total: say(part * done / total, "searches"),
        )
        store(results, out / TUNED if tuned is None else tuned)
        found = {result.env: result for result in results}
    scenarios = {}
    for n, env_id in enumerate(settings.envs):
        say(part + (1 - part) * n / len(settings.envs), env_id)
        scenarios[env_id] = _scenario(env_id, settings, found.get(env_id), out, processes)
    say(1.0, "done")
    values = {
        "command": command,
        "settings": {**asdict(settings), "envs": list(settings.envs)},
        "seed": EVALUATION_SEED,
        "tuning_seed": TUNING_SEED,
        "room": ROOM,
        "yardstick": YARDSTICK,
        "versions": versions(),
        "scenarios": scenarios,
    }
    write_json(out / FIGURES, values)
    return values


def entrants(env_id: str, found: Tuned | None) -> dict[str, tuple[PolicySpec, str]]:
    """Who plays on an environment, by label: what to make, and which of `KINDS` it is.

    Agents made for other environments are left out.
    """
    stored = stored_policies()
    chosen: dict[str, tuple[PolicySpec, str]] = {}
    for name in policy_names():
        if name in stored or name in LEFT_OUT:
            continue
        spec = PolicySpec(name, name)
        if name == Linear.name and found is not None:
            spec = replace(spec, knobs=found.knobs)
        kind = "search" if name == Linear.name else "optimum" if name in OPTIMA else "heuristic"
        chosen[name] = (spec, kind)
    for label, name in agents_of(env_id).items():
        chosen[label] = (PolicySpec(label, name), "agent")
    return chosen


def _scenario(env_id: str, settings: Settings, found: Tuned | None, out: Path, processes: int) -> dict[str, Any]:
    chosen = entrants(env_id, found)
    skipped: dict[str, str] = {}
    records = evaluate(
        env_id,
        [spec for spec, _ in chosen.values()],
        settings.episodes,
        EVALUATION_SEED,
        processes=processes,
        out=out,
        on_skip=lambda env, label, error: skipped.update({label: str(error)}),
    )
    bounds = bounds_of(env_id, settings.episodes, processes, out)
    search = None
    if found is not None:
        search = {name: value for name, value in found.entry().items() if name != "knobs"}
    return {
        "summary": scenario(env_id).summary,
        "search": search,
        "skipped": skipped,
        "untuned": [label for label in chosen if label not in skipped and _is_untuned(label, env_id, found)],
        **figures(records, bounds, {label: kind for label, (_, kind) in chosen.items()}),
    }


def _is_untuned(label: str, env_id: str, found: Tuned | None) -> bool:
    """Whether a policy with knobs plays with their defaults, because nobody tuned it for the environment."""
    if (label == Linear.name and found is not None) or label in stored_policies():
        return False
    try:
        policy = policy_class(label)
    except ValueError:  # an agent, under its label
        return False
    tuned = getattr(policy, "tuned_knobs", None)
    return bool(getattr(policy, "knobs", ())) and (tuned is None or tuned(env_id) is None)


def bounds_of(env_id: str, episodes: int, processes: int = 1, out: Path | None = None) -> FloatArray:
    """The bound on the cost of each evaluation episode, shape (episodes,).

    Args:
        env_id: the id.
        episodes: how many.
        processes: how many work at a time. Changes no result.
        out: folder in which finished ones are kept, under ``bounds``; None: nothing is kept.
    """
    kept: dict[int, float] = {}
    path = None
    if out is not None:
        system = build_system(system_keywords(env_id))
        spec = PolicySpec(YARDSTICK, YARDSTICK)  # any would do: the digest is of the system and the code
        key = fingerprint(system, spec.make(system, env_id), spec, env_id, EVALUATION_SEED)
        path = make_folder(out / BOUNDS) / f"{stem_of(env_id)}-{key}.json"
        kept = _kept(path)
    left = [seed for seed in range(EVALUATION_SEED, EVALUATION_SEED + episodes) if seed not in kept]
    blocks = [
        _Bounds(env_id, tuple(left[first : first + EPISODES_AT_ONCE]))
        for first in range(0, len(left), EPISODES_AT_ONCE)
    ]
    for block, values in in_any_order(_block_bounds, blocks, processes):
        kept |= dict(zip(block.seeds, values, strict=True))
        if path is not None:
            write_json(path, {str(seed): value for seed, value in sorted(kept.items())})
    return np.array([kept[EVALUATION_SEED + episode] for episode in range(episodes)])


def _kept(path: Path) -> dict[int, float]:
    """Bounds by seed; a damaged file counts as empty."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {int(seed): float(value) for seed, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _block_bounds(block: _Bounds) -> list[float]:
    return episode_bounds(build_system(system_keywords(block.env)), list(block.seeds))


def figures(records: Sequence[EpisodeRecord], bounds: FloatArray, kinds: Mapping[str, str]) -> dict[str, Any]:
    """What follows from the episodes of one scenario.

    Args:
        records: of all policies, on the same episodes.
        bounds: of the same episodes.
        kinds: of `KINDS`, by label.

    Returns:
        ``policies``: per label its kind, truncated episodes, cost and ``relative`` difference to the yardstick, cheapest first;
        ``bound``: the same of the bound; ``best``: the cheapest policy, and ``best_constant``, ``best_heuristic``,
        ``best_search``, ``best_agent``, ``optimum`` (None where there is none); ``room``: whether the best is `ROOM` below the yardstick, and
        ``room_sure``: whether its whole interval is.

    Raises:
        ValueError: the yardstick is missing.
    """
    costs: dict[str, FloatArray] = {}
    cut_off: dict[str, int] = {}
    for label in dict.fromkeys(record.policy for record in records):
        mine = sorted((record for record in records if record.policy == label), key=lambda record: record.episode)
        costs[label] = episode_costs(mine)
        cut_off[label] = sum(record.truncated for record in mine)
    if YARDSTICK not in costs:
        raise fail("policies", list(costs), f"with {YARDSTICK!r}, which the others are compared with, among them")
    yardstick = costs[YARDSTICK]
    ranked = sorted(costs, key=lambda label: (float(costs[label].mean()), label))
    policies = {
        label: {"kind": kinds[label], "truncated": cut_off[label], **_of(costs[label], yardstick)} for label in ranked
    }

    def cheapest(fits: Callable[[str], bool]) -> str | None:
        return next((label for label in ranked if not cut_off[label] and fits(label)), None)

    best = cheapest(lambda label: True)
    difference = {"value": 0.0, "high": 0.0} if best is None else policies[best]["relative"]
    return {
        "policies": policies,
        "bound": _of(bounds, yardstick),
        "best": best,
        "best_constant": cheapest(lambda label: label == CONSTANT),
        "best_heuristic": cheapest(lambda label: kinds[label] == "heuristic" and label not in (YARDSTICK, CONSTANT)),
        "best_search": cheapest(lambda label: kinds[label] == "search"),
        "best_agent": cheapest(lambda label: kinds[label] == "agent"),
        "optimum": cheapest(lambda label: kinds[label] == "optimum"),
        "room": difference["value"] <= -ROOM,
        "room_sure": difference["high"] <= -ROOM,
    }


def _of(costs: FloatArray, yardstick: FloatArray) -> dict[str, Any]:
    finite = bool(np.isfinite(costs).all())
    low, high = iqm_interval(costs) if finite else (math.nan, math.nan)
    value, least, most = relative(costs, yardstick)
    return {
        "cost": {
            "mean": float(costs.mean()),
            "iqm": float(interquartile_mean(costs)) if finite else math.inf,
            "low": low,
            "high": high,
        },
        "relative": {"value": value, "low": least, "high": most},
    }
