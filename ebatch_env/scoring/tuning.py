"""Tuning: every policy's knobs with the same budget, but for searches of its own, on episodes that no evaluation plays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebatch_env.environment.fleet import AnySystem
from ebatch_env.errors import check_integer, fail, needs_extra
from ebatch_env.scoring.files import write_json
from ebatch_env.scoring.jobs import PolicySpec, build_system, fingerprint, system_keywords
from ebatch_env.scoring.policy import Knob, policy_class, trainer
from ebatch_env.scoring.pool import in_any_order
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import SEEDS_PER_USE, TUNING_SEED
from ebatch_env.scoring.statistics import episode_costs

TRIALS = 64
EPISODES = 16
TRAINER_TRIALS = 8  # among which a trainer divides a budget of decisions


@dataclass(frozen=True)
class Tuned:
    """The outcome for one policy on one environment.

    Attributes:
        env, policy: which.
        knobs: the best values, all of the policy's knobs.
        cost: their mean cost over the tuning episodes; infinite if one was truncated, as work left undone costs nothing.
        default_cost: that of the default values.
        trials, episodes, seed: the budget; every trial plays the same episodes, from ``seed`` on.
        decisions: taken in all trials together, to train included; a trial like an earlier one counts again.
    """

    env: str
    policy: str
    knobs: Mapping[str, Any]
    cost: float
    default_cost: float
    trials: int
    episodes: int
    seed: int
    decisions: int = 0

    def entry(self) -> dict[str, Any]:
        """The policy's entry in an environment's file."""
        names = ("knobs", "cost", "default_cost", "trials", "episodes", "seed", "decisions")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class _Study:
    env: str
    keywords: Mapping[str, Any]
    policy: str
    trials: int
    episodes: int
    seed: int
    log: Path | None
    decisions: int | None


def tune(
    env_ids: str | Sequence[str],
    policies: Sequence[str],
    trials: int = TRIALS,
    episodes: int = EPISODES,
    seed: int = TUNING_SEED,
    *,
    decisions: int | None = None,
    processes: int = 1,
    ray: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    studies: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_skip: Callable[[str, str, ValueError], None] | None = None,
) -> list[Tuned]:
    """Find good knobs for policies: the least mean cost over the same tuning episodes.

    The search is Optuna's tree-structured Parzen estimator, unless a policy brings one of its own (`own_search`); the first
    trial is the default, which is also kept on ties.

    Args:
        env_ids: ids of environments.
        policies: registered names or ``module:Class``, or names of trainers.
        trials: settings tried per policy.
        episodes: played per setting.
        seed: of the first episode, and of the search.
        decisions: the budget in the environment's decisions per policy, in the place of ``trials``: a policy is tried until
            they are used up, a trainer divides them among `TRAINER_TRIALS` trials.
        processes: policies tuned at a time. Changes no result.
        ray: work on a Ray cluster instead, see `ebatch_env.scoring.cluster.connected`. Changes no result.
        overrides: keywords of the environment that replace the scenario's.
        studies: folder that keeps the trials, so that an interrupted call is taken up, with the same outcome, or one
            with more trials goes on; None: nothing is kept. A cluster's machines must share it with this one.
        progress: called with the policies done and their total.
        on_skip: called for a policy that has no knobs or cannot be made for an environment; None: that is an error.

    Raises:
        ValueError: an argument out of range, an unknown name, nothing to tune.
        OSError: ``studies`` cannot be written, or no cluster is there.
    """
    check_integer("trials", trials, low=1)
    check_integer("episodes", episodes, low=1, high=SEEDS_PER_USE)
    check_integer("seed", seed, low=0)
    check_integer("processes", processes, low=1)
    if decisions is not None:
        check_integer("decisions", decisions, low=1)
    jobs = []
    for env_id in [env_ids] if isinstance(env_ids, str) else env_ids:
        keywords = system_keywords(env_id, overrides)
        system = build_system(keywords)
        for name in policies:
            try:
                spec = PolicySpec(name, name, {knob.name: knob.default for knob in knobs_of(name)})
                policy: Any = trainer(name) or spec.make(system, env_id)
            except ValueError as error:
                if on_skip is None:
                    raise
                on_skip(env_id, name, error)
                continue
            log = None
            if studies is not None:
                key = fingerprint(system, policy, spec, env_id, seed)
                budget = "" if trainer(name) is None else f"-{decisions}"
                log = Path(studies) / f"{stem_of(env_id)}-{key}-{episodes}{budget}.log"
            jobs.append(_Study(env_id, keywords, name, trials, episodes, seed, log, decisions))
    if not jobs:
        raise fail("policy", list(policies), "such that one at least has knobs and can act on the environment")
    done: dict[tuple[str, str], Tuned] = {}
    if progress is not None:
        progress(0, len(jobs))
    shared = None if studies is None else Path(studies)
    for job, tuned in in_any_order(_run, jobs, processes, ray=ray, shared=shared):
        done[job.env, job.policy] = tuned
        if progress is not None:
            progress(len(done), len(jobs))
    return [done[job.env, job.policy] for job in jobs]


def own_search(policy: str) -> Callable[..., Tuned] | None:
    """How a policy wants to be tuned, if not as all others are: a class attribute ``search``.

    It is called as ``search(env_id, keywords, trials, episodes, seed, decisions=..., log=...)`` and keeps in the file ``log``,
    unless that is None, what it needs to go on after an interruption.
    """
    if trainer(policy) is not None:
        return None
    try:
        return getattr(policy_class(policy), "search", None)
    except ValueError:
        return None


def tuned_by_default(policy: str) -> bool:
    """Whether a policy is tuned where none is named: unless its class has an attribute ``tuned_by_default`` that is False."""
    try:
        return bool(getattr(policy_class(policy), "tuned_by_default", True))
    except ValueError:  # no class, so nothing to tune: `tune` says so
        return True


def stem_of(env_id: str) -> str:
    """The name of an environment's file, without suffix."""
    return env_id.removeprefix("ebatch/").replace("/", "-")


def knobs_of(policy: str) -> tuple[Knob, ...]:
    """The knobs of a registered name or ``module:Class``.

    Raises:
        ValueError: unknown, or it has none.
    """
    knobs: tuple[Knob, ...] = tuple(getattr(trainer(policy) or policy_class(policy), "knobs", ()))
    if not knobs:
        raise fail("policy", policy, "one with knobs to tune")
    return knobs


def store(results: Sequence[Tuned], folder: Path) -> list[Path]:
    """Write ``<folder>/<id without "ebatch/">.json``, one per environment: ``{policy: Tuned.entry()}``.

    Entries of other policies that the file has already are kept.

    Raises:
        ValueError: such a file exists and is not of that form.
        OSError: ``folder`` cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for env in dict.fromkeys(result.env for result in results):
        path = folder / f"{stem_of(env)}.json"
        entries: Any = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(entries, dict):
            raise fail(str(path), type(entries).__name__, "a file with a JSON object")
        entries |= {result.policy: result.entry() for result in results if result.env == env}
        write_json(path, dict(sorted(entries.items())))
        paths.append(path)
    return paths


def _run(study: _Study) -> Tuned:
    """Tune one policy on one environment."""
    search_knobs = own_search(study.policy)
    if search_knobs is not None:
        log = None if study.log is None else study.log.with_suffix(".json")
        return search_knobs(
            study.env,
            study.keywords,
            study.trials,
            study.episodes,
            study.seed,
            decisions=study.decisions,
            log=log,
        )
    with needs_extra("tuning", "cli"):
        import optuna
        from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    system, knobs = build_system(study.keywords), knobs_of(study.policy)
    search = optuna.create_study(storage=_storage(study.log), study_name="knobs", load_if_exists=True)
    # An interrupted trial stays "running"; only finished ones count.
    ended = [trial for trial in search.trials if trial.state in (TrialState.COMPLETE, TrialState.FAIL)]
    ended = ended[: _affordable(study, [_decisions(trial) for trial in ended])]
    tried = {
        _key(trial.params): (trial.value, _decisions(trial)) for trial in ended if trial.state == TrialState.COMPLETE
    }
    spent = [_decisions(trial) for trial in ended]
    while _affordable(study, spent) > (number := len(spent)):
        # A sampler of its own for each trial: what it draws depends on the trials before, not on interruptions. Nor, without
        # the constant liar, on an interrupted trial, which runs for ever.
        search.sampler = optuna.samplers.TPESampler(seed=study.seed + number, constant_liar=False)
        if number == 0:
            search.enqueue_trial({knob.name: knob.default for knob in knobs})
        trial = search.ask()
        values = {knob.name: _suggest(trial, knob) for knob in knobs}
        key = _key(values)
        try:
            if key not in tried:
                tried[key] = _cost(study, system, values)
            cost, decisions = tried[key]
            trial.set_user_attr("decisions", decisions)
            search.tell(trial, cost)
        except ValueError:  # knobs that exclude each other
            if number == 0:
                raise
            decisions = spent[0]
            trial.set_user_attr("decisions", decisions)
            search.tell(trial, state=TrialState.FAIL)
        spent.append(decisions)
    ended = [trial for trial in search.trials if trial.state in (TrialState.COMPLETE, TrialState.FAIL)]
    counted = [trial for trial in ended[: len(spent)] if trial.state == TrialState.COMPLETE]
    best = min(counted, key=lambda trial: (trial.values[0], trial.number))
    return Tuned(
        env=study.env,
        policy=study.policy,
        knobs={knob.name: best.params[knob.name] for knob in knobs},
        cost=best.values[0],
        default_cost=counted[0].values[0],
        trials=len(spent),
        episodes=study.episodes,
        seed=study.seed,
        decisions=sum(spent),
    )


def _affordable(study: _Study, spent: Sequence[int]) -> int:
    """How many trials there may be, after some that took ``spent`` decisions each."""
    if study.decisions is None:
        return study.trials
    if trainer(study.policy) is not None:
        return TRAINER_TRIALS
    total = 0
    for count, decisions in enumerate(spent):
        if total >= study.decisions:
            return count
        total += decisions
    return len(spent) + (total < study.decisions)


def _decisions(trial: Any) -> int:
    return int(trial.user_attrs.get("decisions", 0))


def _cost(study: _Study, system: AnySystem, knobs: Mapping[str, Any]) -> tuple[float, int]:
    """The mean cost with ``knobs``, and the decisions it took to find it."""
    seeds = range(study.seed, study.seed + study.episodes)
    learner = trainer(study.policy)
    if learner is not None:
        share = None if study.decisions is None else max(1, study.decisions // TRAINER_TRIALS)
        return learner.trial(study.env, study.keywords, knobs, seeds, share)
    policy = PolicySpec(study.policy, study.policy, knobs).make(system, study.env)
    played = play(system, policy, seeds)
    return float(episode_costs(played).mean()), sum(metrics.decisions for metrics in played)


def _suggest(trial: Any, knob: Knob) -> Any:
    if knob.choices:
        return trial.suggest_categorical(knob.name, knob.choices)
    if knob.integer:
        return trial.suggest_int(knob.name, int(knob.low), int(knob.high), log=knob.log)
    return trial.suggest_float(knob.name, knob.low, knob.high, log=knob.log)


def _key(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


def _storage(log: Path | None) -> Any:
    if log is None:
        return None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    log.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(log)))
