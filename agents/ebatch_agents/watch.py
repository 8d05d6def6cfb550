"""What a training does between rollouts: evaluations, the best model, checkpoints and progress: `Watch`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from ebatch_agents import checkpoint
from ebatch_agents.policy import SB3Policy
from ebatch_agents.runs import Folder, Run
from ebatch_env.environment.sb3 import EBatchVecEnv
from ebatch_env.scoring.files import whole_file, write_json
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import VALIDATION_SEED
from ebatch_env.scoring.statistics import episode_costs

CHECKPOINT_SHARE = 0.03  # the most of a training's time that checkpoints take
PROGRESS_S = 1.0


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on the validation episodes.

    Attributes:
        decisions: that the model had learnt from.
        cost: mean over the episodes; infinite if one was truncated, as work left undone costs nothing.
        costs: of each episode.
    """

    decisions: int
    cost: float
    costs: tuple[float, ...]


class Watch(BaseCallback):
    """Evaluates, keeps the best model, writes checkpoints and progress: all of it between rollouts."""

    def __init__(self, run: Run, env: EBatchVecEnv, folder: Folder | None, checkpoint_s: float | None) -> None:
        super().__init__()
        self.run = run
        self.env = env
        self.folder = folder
        self.evaluations: list[Evaluation] = []
        self._checkpoint_s = checkpoint_s
        self._saved_at = self._told_at = -math.inf
        self._saving = 0.0  # seconds the last checkpoint took
        self._earlier = self._evaluating = 0.0  # seconds
        self._begun = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time trained so far, earlier parts included and evaluations left out."""
        return self._earlier + time.perf_counter() - self._begun - self._evaluating

    def resume(self, notes: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint noted."""
        self.evaluations = [Evaluation(e["decisions"], e["cost"], tuple(e["costs"])) for e in notes["evaluations"]]
        self._earlier = float(notes["seconds"])
        self._begun = time.perf_counter()

    def _on_step(self) -> bool:
        now = time.perf_counter()
        if now - self._told_at >= PROGRESS_S:
            self._told_at = now
            self._tell()
        return True

    def _on_rollout_start(self) -> None:
        if self._due():
            self._evaluate()
        least = self._saving / CHECKPOINT_SHARE if self._checkpoint_s is None else self._checkpoint_s
        if time.perf_counter() - self._saved_at >= least:
            self._save()

    def finish(self) -> None:
        """After the last rollout."""
        if self.run.evaluations and self.evaluations[-1].decisions < self.model.num_timesteps:
            self._evaluate()
        if self.folder is not None:
            with whole_file(self.folder.last) as part:
                self.model.save(part)
        self._save()
        self._tell()

    def _due(self) -> bool:
        """Whether the next of the evenly spaced evaluations has come."""
        if not self.run.evaluations:
            return False
        return self.model.num_timesteps * self.run.evaluations >= self.run.steps * self._slots()

    def _slots(self) -> int:
        """How many of the evenly spaced evaluations there have been, those left out because a rollout is long counted."""
        if not self.evaluations:
            return 0
        return 1 + self.evaluations[-1].decisions * self.run.evaluations // self.run.steps

    def _evaluate(self) -> None:
        begun = time.perf_counter()
        system = self.env.system
        seeds = range(VALIDATION_SEED, VALIDATION_SEED + self.run.episodes)
        played = play(system, SB3Policy(self.model, system), seeds)
        cost = float(episode_costs(played).mean())
        better = all(cost < found.cost for found in self.evaluations)
        found = Evaluation(self.model.num_timesteps, cost, tuple(metrics.cost for metrics in played))
        self.evaluations.append(found)
        self.logger.record("evaluation/cost", cost)
        if self.folder is not None:
            if better:
                with whole_file(self.folder.best) as part:
                    self.model.save(part)
            write_json(self.folder.evaluations, [asdict(found) for found in self.evaluations])
        self._evaluating += time.perf_counter() - begun

    def _save(self) -> None:
        if self.folder is None:
            return
        notes = {"evaluations": [asdict(found) for found in self.evaluations], "seconds": self.seconds}
        begun = time.perf_counter()
        checkpoint.save(self.folder.checkpoint, self.model, self.env, notes)
        self._saved_at = time.perf_counter()
        self._saving = self._saved_at - begun

    def _tell(self) -> None:
        if self.folder is None:
            return
        best = min((found.cost for found in self.evaluations), default=None)
        write_json(self.folder.progress, {"decisions": self.model.num_timesteps, "of": self.run.steps, "best": best})
