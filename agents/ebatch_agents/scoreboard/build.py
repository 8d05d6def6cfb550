"""Building a scoreboard from nothing: train, export, evaluate, sum up."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ebatch_agents.algorithms import algorithm_for
from ebatch_agents.card import Card, scores_of, short_id
from ebatch_agents.export import export
from ebatch_agents.runs import versions
from ebatch_agents.scoreboard.board import VALIDATION, Board, Records, checksum
from ebatch_agents.scoreboard.entrants import PAPER, Entrant, baselines, candidates, rivals
from ebatch_agents.scoreboard.learned import watch
from ebatch_agents.scoreboard.settings import Settings
from ebatch_agents.scoreboard.summary import figures, mean_cost
from ebatch_agents.scoreboard.transfer import Case, cases
from ebatch_agents.sweep import Job, Outcome, train_jobs
from ebatch_agents.training import make_run, torch_threads
from ebatch_env.compatibility import ScenarioVersion
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.files import make_folder, whole_file
from ebatch_env.scoring.jobs import PolicySpec, build_system, system_keywords
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.runner import evaluate
from ebatch_env.scoring.seeds import EVALUATION_SEED, VALIDATION_SEED

Tell = Callable[[float, str], None]
TRAINING_SHARE = 0.75  # of the progress bar


@dataclass(frozen=True)
class Agent:
    """One seed's agent, exported.

    Attributes:
        label: its name in records.
        outcome: of its training.
        path: its weights.
        card: what is known about it.
    """

    label: str
    outcome: Outcome
    path: Path
    card: Card

    @property
    def validation_cost(self) -> float:
        """The least cost of its evaluations on the validation episodes: that of the model that was kept."""
        return min(found.cost for found in self.outcome.evaluations)

    def spec(self, *, transfer: bool = False) -> PolicySpec:
        """To play with."""
        return PolicySpec(self.label, str(self.path), {"transfer": True} if transfer else {})


def build(
    settings: Settings,
    out: Path,
    *,
    command: str = "",
    quick: bool = False,
    processes: int = 1,
    progress: Tell | None = None,
) -> Board:
    """Build a scoreboard; what is in ``out`` already is taken up if nothing that matters has changed.

    Args:
        settings: what to do.
        out: folder for the files that `ebatch_agents.scoreboard.board` lists, pictures and page apart.
        command: the command line, to be told in the files.
        quick: it is only for a look, which the files tell.
        processes: trainings or blocks of episodes at a time. Changes no result.
        progress: called with the share done and what is being done.

    Raises:
        ValueError: a setting out of range, a training in ``out`` with other settings, or an agent that cannot be exported.
        OSError: files cannot be read or written.
    """
    make_folder(out)
    algos = {env_id: settings.algo or algorithm_for(env_id) for env_id in settings.envs}
    planned = {env_id: cases(env_id, settings.trace) if settings.transfer_episodes else [] for env_id in settings.envs}
    agents = _agents(settings, algos, out, processes, _part(progress, 0.0, TRAINING_SHARE))
    values: dict[str, Any] = {}
    records: Records = {}
    share = (1.0 - TRAINING_SHARE) / len(settings.envs)
    for n, env_id in enumerate(settings.envs):
        begin = TRAINING_SHARE + n * share
        play = _Player(env_id, out, processes, _part(progress, begin, begin + share))
        values[env_id] = _scenario(settings, algos[env_id], agents[env_id], planned[env_id], play)
        records |= play.records
        _ship(agents[env_id], values[env_id], play.records[env_id, ""], out / "shipped", algos[env_id])
    return Board(
        {
            "command": command,
            "quick": quick,
            "settings": asdict(replace(settings, trace=None)),
            "first_episode": EVALUATION_SEED,
            "versions": versions(),
            "scenarios": values,
        },
        records,
    ).write(out)


def _agents(
    settings: Settings, algos: dict[str, str], out: Path, processes: int, progress: Tell | None
) -> dict[str, list[Agent]]:
    """Train all and export each one's best model on the validation episodes."""
    keywords = {
        "steps": settings.steps,
        "changes": settings.changes,
        "evaluations": settings.evaluations,
        "episodes": settings.validation_episodes,
    }
    jobs = [
        Job(env_id, algo, seed, out / "runs", True, keywords)
        for env_id, algo in algos.items()
        for seed in range(settings.seeds)
    ]
    found: dict[str, list[Agent]] = {env_id: [] for env_id in algos}
    for job, outcome in zip(jobs, train_jobs(jobs, processes, progress), strict=True):
        name = f"{job.algo}@{short_id(job.env_id)}-seed{job.seed}"
        zipped = outcome.folder / f"{job.algo}-best.zip"
        with torch_threads(1):
            path = export(zipped, out / "agents", trust=True, name=name, episodes=0)  # trusted: it is ours
        card = Card.read(path.with_suffix(".json"))
        found[job.env_id].append(Agent(f"{job.algo}-seed{job.seed}", outcome, path, card))
    return found


class _Player:
    """Evaluates on one scenario and keeps the records."""

    def __init__(self, env_id: str, out: Path, processes: int, progress: Tell | None) -> None:
        self.env_id = env_id
        self.records: Records = {}
        self._out = out
        self._processes = processes
        self._progress = progress
        self._done = 0

    def __call__(
        self, case: Case, specs: Sequence[PolicySpec], episodes: int, seed: int = EVALUATION_SEED
    ) -> list[EpisodeRecord]:
        """Play, leaving out policies that cannot act there."""
        if self._progress is not None:
            self._done += 1
            self._progress(1.0 - 0.8**self._done, f"{self.env_id}: {case.title}")  # how many are to come is not known
        found = evaluate(
            self.env_id,
            specs,
            case.episodes(self.env_id, episodes),
            seed,
            processes=self._processes,
            overrides=case.overrides,
            trace=case.trace,
            out=self._out,
            on_skip=lambda env, label, error: None,
        )
        self.records[self.env_id, case.name] = found
        return found


def _scenario(
    settings: Settings, algo: str, agents: Sequence[Agent], planned: Sequence[Case], play: _Player
) -> dict[str, Any]:
    """All that is told of one scenario."""
    env_id = play.env_id
    system = build_system(system_keywords(env_id))
    entrants = baselines(env_id, system)
    shipped = min(agents, key=lambda agent: (agent.validation_cost, agent.outcome.seed))
    choice, validation = _validated(settings, entrants, play)
    against = rivals(entrants, choice["costs"])
    specs = [*(agent.spec() for agent in agents), *(entrant.spec for entrant in entrants)]
    conditions = {"": _case(Case("", "as trained"), play(Case("", "evaluation"), specs, settings.episodes))}
    chosen = [entrant for label in against for entrant in entrants if entrant.label == label]
    for case in planned:
        far = [*(agent.spec(transfer=True) for agent in agents), *(entrant.spec for entrant in chosen)]
        conditions[case.name] = _case(case, play(case, far, settings.transfer_episodes))
    watched = {algo: shipped.spec().make(system, env_id)}
    watched |= {entrant.label: entrant.spec.make(system, env_id) for entrant in chosen[:1]}
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + settings.learned_episodes)
    run = make_run(env_id, algo, steps=settings.steps, changes=settings.changes)
    values = {
        "scenario": ScenarioVersion.of(env_id).to_dict(),
        "summary": scenario(env_id).summary,
        "algorithm": algo,
        "training": {"command": agents[0].card.training["command"], **run.to_dict()},
        "agents": [_agent(agent) for agent in agents],
        "shipped": {"label": shipped.label, "weights": f"{algo}@{short_id(env_id)}.safetensors"},
        "baselines": [asdict(entrant) for entrant in entrants],
        "choice": choice,
        "rivals": against,
        "validation": {label: validation[label] for label in against},
        "cases": conditions,
        "learned": {"episodes": settings.learned_episodes, **watch(system, watched, seeds)},
    }
    played = {case: play.records[env_id, case] for case in conditions}
    for case_name, found in figures(values, played).items():
        conditions[case_name]["policies"] = found
    return values


def _validated(
    settings: Settings, entrants: Sequence[Entrant], play: _Player
) -> tuple[dict[str, Any], dict[str, float]]:
    """Mean costs on validation episodes: of the candidates for best tuned baseline on all of them, with how many those are;
    and of whoever may be a rival on those that the agents in training are evaluated on."""
    tuned = candidates(entrants)
    playing = tuned + [entrant for entrant in entrants if entrant.label == PAPER and entrant not in tuned]
    if not playing:
        return {"episodes": 0, "costs": {}}, {}
    case = Case(VALIDATION, "validation episodes")
    records = play(case, [entrant.spec for entrant in playing], settings.rival_episodes, VALIDATION_SEED)
    choice = {
        "episodes": len({record.episode for record in records}),
        "costs": {entrant.label: mean_cost(records, entrant.label) for entrant in tuned},
    }
    first = settings.validation_episodes
    return choice, {entrant.label: mean_cost(records, entrant.label, first) for entrant in playing}


def _case(case: Case, records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    trace = None if case.trace is None else {"name": case.trace.name, "sha256": checksum(case.trace)}
    return {
        "title": case.title,
        "overrides": dict(case.overrides),
        "trace": trace,
        "episodes": len({record.episode for record in records}),
    }


def _agent(agent: Agent) -> dict[str, Any]:
    return {
        "label": agent.label,
        "seed": agent.outcome.seed,
        "weights": agent.path.name,
        "sha256": agent.card.sha256,
        "decisions": agent.outcome.decisions,
        "kept_at": agent.card.training["decisions"],
        "validation_cost": agent.validation_cost,
        "evaluations": [[found.decisions, found.cost] for found in agent.outcome.evaluations],
        "same_actions": dict(agent.card.same_actions),
    }


def _ship(
    agents: Sequence[Agent], values: dict[str, Any], records: Sequence[EpisodeRecord], folder: Path, algo: str
) -> None:
    """Copy the chosen agent under its final name, with its scores on its card."""
    (chosen,) = [agent for agent in agents if agent.label == values["shipped"]["label"]]
    make_folder(folder)
    path = folder / values["shipped"]["weights"]
    with whole_file(path) as part:
        shutil.copyfile(chosen.path, part)
    mine = [record for record in records if record.policy == chosen.label]
    replace(chosen.card, weights=path.name, scores=scores_of(mine)).write(path.with_suffix(".json"))


def _part(progress: Tell | None, low: float, high: float) -> Tell | None:
    """Progress of a part of the work."""
    if progress is None:
        return None
    return lambda share, doing: progress(low + share * (high - low), doing)
