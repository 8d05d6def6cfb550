"""Training with Stable-Baselines3 and sb3-contrib on the native VecEnv: `train`."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from ebatch_agents import checkpoint
from ebatch_agents.algorithms import algorithm, hyperparameters, with_schedules
from ebatch_agents.discount import TimedVecEnv, discount_by_time
from ebatch_agents.imitation import DECISIONS, Imitated, check_teacher, imitate
from ebatch_agents.runs import EPISODES, EVALUATIONS, Folder, Run
from ebatch_agents.speed import Speed, free_vec_env, measure
from ebatch_agents.watch import Evaluation, Watch
from ebatch_env.environment.sb3 import EBatchVecEnv
from ebatch_env.errors import check_number, fail, needs_extra
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.policy import Policy, make_policy
from ebatch_env.scoring.seeds import VALIDATION_SEED

SPEED_SHARE = 0.03  # of a training's decisions that each repeat of the measurement of its speed takes


@dataclass(frozen=True)
class Trained:
    """What `train` returns.

    Attributes:
        model: the last model.
        run: the settings.
        folder: its files; None if none were kept.
        evaluations: in order.
        seconds: the time it took, evaluations left out.
        speed: None if it was not measured.
        imitated: how well the teacher was; None without one, and where the training was resumed.
    """

    model: BaseAlgorithm
    run: Run
    folder: Folder | None
    evaluations: tuple[Evaluation, ...]
    seconds: float
    speed: Speed | None
    imitated: Imitated | None = None

    @property
    def best(self) -> Evaluation | None:
        """The evaluation of least cost, the first of equals."""
        return min(self.evaluations, key=lambda found: found.cost, default=None)

    def summary(self) -> str:
        """What `ebatch train` prints."""
        rate = self.model.num_timesteps / self.seconds if self.seconds > 0 else math.inf
        lines = [f"{self.run.name}: {self.model.num_timesteps:,} decisions in {self.seconds:.1f} s ({rate:,.0f}/s)"]
        if self.imitated is not None:
            lines.append(f"  began by imitating {self.run.hyperparameters['teacher']!r}: {self.imitated}")
        if self.best is not None:
            first, last = VALIDATION_SEED, VALIDATION_SEED + self.run.episodes - 1
            lines.append(
                f"  cost on episodes {first}..{last}: at first {self.evaluations[0].cost:.4g}, best {self.best.cost:.4g} "
                f"after {self.best.decisions:,}, last {self.evaluations[-1].cost:.4g}"
            )
        if self.speed is not None:
            lines.append(f"  speed: {self.speed}")
        if self.folder is not None:
            lines.append(f"  files: {self.folder.path}")
        return "\n".join(lines)


def make_run(
    env_id: str,
    algo: str = "maskable_ppo",
    *,
    steps: int | None = None,
    seed: int = 0,
    keywords: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    evaluations: int = EVALUATIONS,
    episodes: int = EPISODES,
    threads: int = 1,
) -> Run:
    """The settings of a training, as in `train`."""
    scenario(env_id)
    found = hyperparameters(algo, env_id, config, changes)
    chosen = {**found.env_kwargs, **(keywords or {})}
    if algorithm(algo).flat:
        chosen["flat_actions"] = True
    values = {"n_envs": found.n_envs, "horizon": found.horizon, "teacher": found.teacher, **found.keywords}
    if found.teacher is not None:
        check_teacher(algo, found.teacher)
    if found.horizon is not None:
        if "gamma" in (changes or {}):
            raise fail("gamma", values["gamma"], f"left out with horizon {found.horizon}, or horizon None")
        values.pop("gamma", None)  # it is there for rl-zoo3
    total = found.n_timesteps if steps is None else steps
    return Run(
        env_id,
        algo,
        seed,
        total,
        chosen,
        values,
        evaluations,
        episodes,
        threads,
        None if config is None else str(config),
    )


def train(
    env_id: str,
    algo: str = "maskable_ppo",
    *,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    keywords: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    evaluations: int = EVALUATIONS,
    episodes: int = EPISODES,
    threads: int = 1,
    tensorboard: bool = False,
    checkpoint_s: float | None = None,
    measure_speed: bool = False,
) -> Trained:
    """Train an agent on a registered id.

    Args:
        env_id: the id.
        algo: one of `ebatch_agents.algorithms.ALGORITHMS`.
        steps: decisions to train for; None: the hyperparameters' ``n_timesteps``.
        seed: of the weights and of the episodes, which no evaluation plays.
        out: folder for a folder ``<algo>-<id>-seed<seed>`` with the files that `Folder` lists; None: no files.
        resume: go on from the last checkpoint in that folder, if there is one; the outcome is that of a training that was
            never interrupted.
        keywords: of the environment, in the place of the scenario's.
        config: hyperparameters in rl-zoo3's format; None: those of this package. See `hyperparameters`.
        changes: hyperparameters to change.
        evaluations: how often the model is evaluated, evenly spaced, besides at the start; the best is kept. 0: never.
        episodes: how many validation episodes an evaluation plays, from `VALIDATION_SEED` on.
        threads: of torch, while it trains; small networks are fastest with one.
        tensorboard: write TensorBoard's logs to the folder.
        checkpoint_s: least time between checkpoints (s), 0: one at every rollout; None: one at every rollout unless that
            took more than 3 % of the time, as it does with large replay buffers.
        measure_speed: measure the speed after the training; see `Speed`.

    Raises:
        ValueError: an argument out of range, or a folder where a training is under way or has other settings.
        OSError: files cannot be read or written.
        ModuleNotFoundError: the extra ``tensorboard`` is asked for and not installed.
    """
    if checkpoint_s is not None:
        check_number("checkpoint_s", checkpoint_s, low=0.0)
    run = make_run(
        env_id,
        algo,
        steps=steps,
        seed=seed,
        keywords=keywords,
        config=config,
        changes=changes,
        evaluations=evaluations,
        episodes=episodes,
        threads=threads,
    )
    folder = None if out is None else Folder(Path(out) / run.name, run)
    with torch_threads(run.threads):
        return _train(run, folder, resume, tensorboard, checkpoint_s, measure_speed)


def _train(
    run: Run, folder: Folder | None, resume: bool, tensorboard: bool, checkpoint_s: float | None, measure_speed: bool
) -> Trained:
    model, env = make_model(run)
    name = run.hyperparameters.get("teacher")
    # First, as a name that is wrong shall leave no folder behind.
    teacher = None if name is None else make_policy(name, env.system, run.env)
    with contextlib.nullcontext() if folder is None else folder.held():
        watch, imitated = _learn(run, model, env, teacher, folder, resume, tensorboard, checkpoint_s)
    env.close()
    speed = None
    if measure_speed:
        speed = _speed(run, model, checkpoint_s, keep=folder is not None)
    return Trained(model, run, folder, tuple(watch.evaluations), watch.seconds, speed, imitated)


def _learn(
    run: Run,
    model: BaseAlgorithm,
    env: EBatchVecEnv,
    teacher: Policy | None,
    folder: Folder | None,
    resume: bool,
    tensorboard: bool,
    checkpoint_s: float | None,
) -> tuple[Watch, Imitated | None]:
    """All of a training but its beginning and its end, in a folder that is its own."""
    go_on = folder is not None and folder.prepare(resume=resume)
    imitated = None
    if teacher is not None and not go_on:
        # A short training, for a look or a test, is not to wait for what a long one is worth.
        imitated = imitate(model, env, teacher, min(DECISIONS, max(run.steps, env.num_envs)))
        env.seed(run.first_episode)  # what is imitated costs the training none of its episodes
    if tensorboard and folder is not None:
        _log_to_tensorboard(model, folder)
    watch = Watch(run, env, folder, checkpoint_s)
    if go_on:
        assert folder is not None
        content = checkpoint.read(folder.checkpoint)
        checkpoint.restore(content, model, env)
        watch.resume(checkpoint.notes_of(content))
    if model.num_timesteps < run.steps:
        model.learn(run.steps - model.num_timesteps, watch, reset_num_timesteps=not go_on)
        watch.finish()
    return watch, imitated


def make_model(run: Run) -> tuple[BaseAlgorithm, EBatchVecEnv]:
    """A new model for a run, and its environments."""
    chosen = algorithm(run.algo)
    values = with_schedules(run.hyperparameters)
    n_envs, horizon = values.pop("n_envs"), values.pop("horizon")
    values.pop("teacher", None)
    keywords = {**scenario(run.env).keywords, **run.keywords}
    env = EBatchVecEnv(n_envs, **keywords) if horizon is None else TimedVecEnv(n_envs, horizon=horizon, **keywords)
    if horizon is not None:
        values["gamma"] = 1.0
    model: BaseAlgorithm = chosen.load()(chosen.policy, env, seed=run.seed, device="cpu", **values)
    # SB3 has seeded the environments with the model's seed, and so the next model's with all of these but one.
    env.seed(run.first_episode)
    if isinstance(env, TimedVecEnv):
        discount_by_time(model, env)
    return model, env


def _speed(run: Run, trained: BaseAlgorithm, checkpoint_s: float | None, *, keep: bool) -> Speed:
    """The speed of a training like ``run``, which keeps its files or not.

    The weights are the trained model's, because how long a decision takes depends on what is decided.
    """

    def make(free: bool) -> tuple[BaseAlgorithm, BaseCallback | None]:
        model: Any
        model, env = make_model(run)
        model.policy.load_state_dict(trained.policy.state_dict())
        if hasattr(model, "learning_starts"):  # learn at once, and do not explore, as near the end
            model.learning_starts, model.exploration_schedule = 0, _never
        if not free:
            kept = Folder(Path(place), run) if keep else None
            return model, Watch(replace(run, evaluations=0), env, kept, checkpoint_s)
        lengths = [info["l"] for info in trained.ep_info_buffer or ()]
        free_vec_env(env, max(1, round(float(np.mean(lengths)))) if lengths else None)
        return model, None

    with tempfile.TemporaryDirectory() as place:
        return measure(make, max(1, int(run.steps * SPEED_SHARE)))


def _never(remaining: float) -> float:
    return 0.0


def _log_to_tensorboard(model: BaseAlgorithm, folder: Folder) -> None:
    from stable_baselines3.common.logger import configure

    with needs_extra("TensorBoard's log", "tensorboard"):
        import tensorboard  # noqa: F401
    model.set_logger(configure(str(folder.path / "tensorboard"), ["tensorboard"]))


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch work with so many threads inside; small networks are fastest with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
