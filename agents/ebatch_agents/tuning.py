"""The algorithms as `ebatch tune` tunes them: hyperparameters are the knobs, and a trial is a training.

A trial trains on training seeds, with the same seed every time, and plays the last model on the tuning episodes. What is
found is given to `ebatch train` as ``--param``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebatch_env.errors import fail, needs_extra
from ebatch_env.scoring.jobs import build_system
from ebatch_env.scoring.policy import Knob
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.statistics import episode_costs

TRAINING_SHARE = 0.9  # of a trial's decisions; the rest is for the episodes, whose number is not known before

_HORIZON = Knob("horizon", 2.0, 200.0, 20.0, log=True, meaning="time constant of the discount, in reference latencies")
_RATE = Knob("learning_rate", 1e-4, 3e-3, 5e-4, log=True, meaning="of the optimiser")
_LAMBDA = Knob("gae_lambda", 0.0, 0.0, 0.98, choices=(0.9, 0.95, 0.98, 0.99), meaning="how far a credit reaches back")
_ENTROPY = Knob("ent_coef", 0.0, 0.0, 0.0, choices=(0.0, 0.001, 0.003, 0.01), meaning="weight of the policy's entropy")
_STEPS = Knob("n_steps", 0.0, 0.0, 64, choices=(16, 32, 64, 128), meaning="decisions of each environment in a rollout")
_EPOCHS = Knob("n_epochs", 0.0, 0.0, 4, choices=(2, 4, 8), meaning="passes over a rollout")
_ROLLED = (_RATE, _HORIZON, _LAMBDA, _ENTROPY)
_REPLAYED = (
    _RATE,
    _HORIZON,
    Knob("gradient_steps", 0.0, 0.0, 2, choices=(1, 2, 4), meaning="updates after every four steps"),
    Knob("target_update_interval", 500, 20_000, 2000, integer=True, log=True, meaning="decisions"),
    Knob("exploration_fraction", 0.05, 0.5, 0.2, meaning="of the training, until exploration is at its least"),
)


@dataclass(frozen=True)
class Learner:
    """An algorithm as a `Trainer`.

    Attributes:
        algo: its name.
        knobs: the hyperparameters to tune; their defaults are those of its file for most environments.
    """

    algo: str
    knobs: tuple[Knob, ...]

    def trial(
        self,
        env_id: str,
        keywords: Mapping[str, Any],
        knobs: Mapping[str, Any],
        seeds: Sequence[int],
        decisions: int | None,
    ) -> tuple[float, int]:
        """Train and play; see `ebatch_env.scoring.policy.Trainer`.

        Raises:
            ValueError: there are fewer decisions than one rollout and the episodes take.
        """
        with needs_extra("tuning an agent", "sb3"):
            from ebatch_agents.policy import SB3Policy
            from ebatch_agents.training import make_run, train

        system = build_system(keywords)
        # From nothing: what a teacher plays and has been tuned with would not fit into anybody's budget.
        changes = {**knobs, "teacher": None}
        settings: dict[str, Any] = {"keywords": keywords, "changes": changes, "evaluations": 0}
        run = make_run(env_id, self.algo, **settings)
        steps = run.steps
        if decisions is not None:
            rollout = run.hyperparameters["n_envs"] * run.hyperparameters.get("n_steps", 1)
            steps = int(decisions * TRAINING_SHARE) // rollout * rollout
            if steps < rollout:
                raise fail("decisions per trial", decisions, f">= {math.ceil(rollout / TRAINING_SHARE)}: one rollout")
        trained = train(env_id, self.algo, steps=steps, **settings)
        played = play(system, SB3Policy(trained.model, system), seeds)
        decisions_played = sum(metrics.decisions for metrics in played)
        return float(episode_costs(played).mean()), int(trained.model.num_timesteps) + decisions_played


PPO = Learner("ppo", (*_ROLLED, _STEPS, _EPOCHS))
MASKABLE_PPO = Learner("maskable_ppo", PPO.knobs)
RECURRENT_PPO = Learner("recurrent_ppo", PPO.knobs)
A2C = Learner("a2c", _ROLLED)
DQN = Learner("dqn", _REPLAYED)
QRDQN = Learner("qrdqn", _REPLAYED)
