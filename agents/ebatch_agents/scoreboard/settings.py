"""`Settings`: what a scoreboard is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebatch_env.errors import check_integer, fail
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.seeds import SEEDS_PER_USE

SEEDS, EPISODES, TRANSFER_EPISODES, LEARNED_EPISODES = 5, 64, 16, 8
EVALUATIONS, VALIDATION_EPISODES, RIVAL_EPISODES = 10, 16, 64
# With --quick, where the command does not say otherwise.
QUICK = {
    "seeds": 2,
    "steps": 16_384,
    "episodes": 8,
    "transfer_episodes": 4,
    "learned_episodes": 2,
    "evaluations": 4,
    "rival_episodes": 16,
}


@dataclass(frozen=True)
class Settings:
    """What a scoreboard is made of.

    Attributes:
        envs: ids.
        algo: what to train with; None: as ``hyperparameters/algorithms.yml`` says for each id.
        seeds: trainings per id, with seeds 0, 1, ...
        steps: decisions of a training; None: as the hyperparameters say.
        changes: hyperparameters to change.
        episodes: evaluation episodes of every policy, from `EVALUATION_SEED` on.
        transfer_episodes: the same off the training distribution, of fewer policies; 0: leave that part out.
        learned_episodes: of those on which is watched what agent and E-BATCH decide.
        evaluations, validation_episodes: of each training, see `ebatch_agents.training.train`.
        rival_episodes: validation episodes on which the best tuned baseline is chosen, those of the trainings first; no fewer
            than those.
        trace: a CSV of requests to play as well.

    Raises:
        ValueError: a value out of range, or an id that is unknown or given twice.
        OSError: there is no such trace.
    """

    envs: tuple[str, ...]
    algo: str | None = None
    seeds: int = SEEDS
    steps: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = EPISODES
    transfer_episodes: int = TRANSFER_EPISODES
    learned_episodes: int = LEARNED_EPISODES
    evaluations: int = EVALUATIONS
    validation_episodes: int = VALIDATION_EPISODES
    rival_episodes: int = RIVAL_EPISODES
    trace: Path | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        if not self.envs or len(set(self.envs)) != len(self.envs):
            raise fail("env", list(self.envs), "given at least once, and each once only")
        for env_id in self.envs:
            scenario(env_id)
        check_integer("seeds", self.seeds, low=1)
        if self.steps is not None:
            check_integer("steps", self.steps, low=1)
        for name, low in (("episodes", 2), ("transfer_episodes", 0), ("learned_episodes", 1), ("evaluations", 1)):
            check_integer(name, getattr(self, name), low=low, high=SEEDS_PER_USE)
        check_integer("validation_episodes", self.validation_episodes, low=1, high=SEEDS_PER_USE)
        check_integer("rival_episodes", self.rival_episodes, low=self.validation_episodes, high=SEEDS_PER_USE)
        if self.trace is not None and not self.trace.is_file():
            raise FileNotFoundError(2, "No such file", str(self.trace))
