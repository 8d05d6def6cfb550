"""Several trainings at a time, one per seed."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ebatch_agents.runs import MAX_SEED, Folder
from ebatch_agents.training import make_run, train
from ebatch_agents.watch import Evaluation
from ebatch_env.errors import check_integer, fail
from ebatch_env.scoring.pool import in_any_order

POLL_S = 0.5
Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Job:
    """A training for a process to do: the arguments of `train`."""

    env_id: str
    algo: str
    seed: int
    out: Path
    resume: bool
    keywords: Mapping[str, Any] = field(default_factory=dict)  # further ones

    @property
    def folder(self) -> Folder:
        """Where it keeps its files."""
        settings = {name: value for name, value in self.keywords.items() if name in _OF_RUN}
        run = make_run(self.env_id, self.algo, seed=self.seed, **settings)
        return Folder(self.out / run.name, run)


@dataclass(frozen=True)
class Outcome:
    """A finished training: what a process can hand back of `Trained`."""

    seed: int
    summary: str
    folder: Path
    decisions: int
    seconds: float
    evaluations: tuple[Evaluation, ...]
    speed: Mapping[str, float]


_OF_RUN = ("steps", "keywords", "config", "changes", "evaluations", "episodes", "threads")


def train_seeds(
    env_id: str,
    algo: str = "maskable_ppo",
    seeds: Sequence[int] = (0,),
    *,
    out: str | Path,
    processes: int = 1,
    ray: str | None = None,
    resume: bool = False,
    progress: Tell | None = None,
    **keywords: Any,
) -> list[Outcome]:
    """Train one agent per seed.

    Args:
        env_id: the id.
        algo: the algorithm.
        seeds: what to train with.
        out: folder for the trainings' folders; a cluster's machines must share it with this one.
        processes: trainings at a time. Changes no outcome.
        ray: train on a Ray cluster instead, see `ebatch_env.scoring.cluster.connected`. Changes no outcome; a training
            whose worker dies goes on from its last checkpoint.
        resume: go on where there is something to go on from; the others begin.
        progress: called about twice a second with the share done and what is going on.
        keywords: the others of `train`.

    Returns:
        Outcomes in the order of the seeds.

    Raises:
        ValueError: an argument out of range, or a folder that is in use or has a training with other settings.
        OSError: files cannot be read or written, or no cluster is there.
    """
    check_integer("processes", processes, low=1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise fail("seeds", list(seeds), "at least one, without repeats")
    for seed in seeds:
        check_integer("seed", seed, low=0, high=MAX_SEED)
    jobs = [Job(env_id, algo, seed, Path(out), resume, keywords) for seed in seeds]
    return train_jobs(jobs, processes, progress, ray=ray, shared=Path(out))


def train_jobs(
    jobs: Sequence[Job],
    processes: int = 1,
    progress: Tell | None = None,
    *,
    ray: str | None = None,
    shared: Path | None = None,
) -> list[Outcome]:
    """Do trainings, which may be on different environments; see `train_seeds`.

    Args:
        jobs: the trainings.
        processes, progress, ray: as in `train_seeds`.
        shared: a folder above all of the trainings' that every machine of the cluster has to see.

    Returns:
        Outcomes in the order of the jobs.
    """
    places = [job.folder.path for job in jobs]
    if ray is not None:
        # A worker that takes over from one that died finds the training begun.
        for job in jobs:
            if not job.resume:
                job.folder.check_free()
        jobs = [replace(job, resume=True) for job in jobs]
    with _told(places, progress):
        done = {job.folder.path: found for job, found in in_any_order(_run, jobs, processes, ray=ray, shared=shared)}
    return [done[place] for place in places]


def _run(job: Job) -> Outcome:
    trained = train(job.env_id, job.algo, seed=job.seed, out=job.out, resume=job.resume, **job.keywords)
    assert trained.folder is not None
    speed = {} if trained.speed is None else {"ours": trained.speed.ours, "free": trained.speed.free}
    return Outcome(
        job.seed,
        trained.summary(),
        trained.folder.path,
        trained.model.num_timesteps,
        trained.seconds,
        trained.evaluations,
        speed,
    )


@contextlib.contextmanager
def _told(folders: Sequence[Path], progress: Tell | None) -> Iterator[None]:
    """Read the trainings' own progress files while they run, wherever they run."""
    if progress is None:
        yield
        return
    over = threading.Event()

    def poll() -> None:
        while not over.wait(POLL_S):
            progress(*_state(folders))

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _state(folders: Sequence[Path]) -> tuple[float, str]:
    """The share done of all, and how each that has begun stands."""
    done, doing = 0.0, []
    for folder in folders:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
            share = min(1.0, told["decisions"] / told["of"])
            done += share
            best = "" if told["best"] is None else f", cost {float(told['best']):.4g}"
            if share < 1.0:
                doing.append(f"{folder.name} {told['decisions']:,}{best}")
    return done / len(folders), "; ".join(doing)
