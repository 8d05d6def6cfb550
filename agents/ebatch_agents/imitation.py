"""Imitation before reinforcement: a policy that begins as a copy of a tuned scheduler.

A random policy rarely holds for a whole timeout, or keeps a cap on the lanes for a hundred decisions on end, so what such
rules are worth is hardly ever seen. A policy that begins where a scheduler is has only to find what is better.

Choices are learnt as a classification. A copy of the teacher's own states alone (behavioural cloning) drifts: one wrong
choice in a hundred leads to states that the teacher never comes to, and one that holds there holds for ever. So the copy acts
too, the teacher says what it would have done where the copy comes to, and the copy learns from all of that (DAgger; Ross,
Gordon and Bagnell, AISTATS 2011). Targets leave a small share to every legal level, so that the policy ends sure enough to act
like its teacher and unsure enough to try something else. The critic learns what follows when the finished copy explores, which
is what the training begins with, so that the first advantages are not noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from ebatch_agents.acting import LegalActions
from ebatch_agents.algorithms import algorithm
from ebatch_env.environment.sb3 import EBatchVecEnv
from ebatch_env.errors import FloatArray, check_integer, fail
from ebatch_env.scoring.policy import Policy

DECISIONS = 65_536  # of the teacher, and of the finished copy for the critic
ROUNDS = 4  # in which the copy acts and learns
ROUND_SHARE = 4  # a round takes so many times fewer decisions
EPOCHS_TEACHER, EPOCHS_ROUND, EPOCHS_LAST, EPOCHS_CRITIC = 6, 2, 8, 6
BATCH = 1024
LEARNING_RATE = 2e-3  # falls linearly to 0 where what is learnt is kept
NOISE = 0.05  # share of each control's target that is spread evenly over its legal levels
_RULED_OUT = -1e8  # sb3-contrib's logit of what a mask rules out
Act = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Imitated:
    """What came of it.

    Attributes:
        decisions: that the copy learnt from.
        agreement: share of decisions, in a further round of the finished copy and so in its own states, that have every
            control's likeliest level as the teacher has it.
    """

    decisions: int
    agreement: float

    def __str__(self) -> str:
        return f"{self.agreement:.1%} of its decisions agree, after {self.decisions:,} to learn from"


def check_teacher(algo: str, teacher: str) -> None:
    """Refuse what cannot imitate.

    Raises:
        ValueError: the algorithm has no actor and critic of its own, or remembers.
    """
    chosen = algorithm(algo)
    if chosen.replays or "Lstm" in chosen.policy:
        raise fail("teacher", teacher, f"None with {algo}: only ppo, maskable_ppo and a2c begin by imitation")


def imitate(model: BaseAlgorithm, env: EBatchVecEnv, teacher: Policy, decisions: int | None = None) -> Imitated:
    """Make the model's policy a copy of ``teacher``, and its critic the judge of that.

    Args:
        model: a new model of an actor and a critic.
        env: its environments; they are left in the middle of episodes.
        teacher: who is imitated; made for the environments' system.
        decisions: the teacher's before the copy acts, all environments together; None: `DECISIONS`.

    Raises:
        ValueError: ``decisions`` are fewer than environments.
    """
    decisions = check_integer("decisions", DECISIONS if decisions is None else decisions, low=env.num_envs)
    steps = -(-decisions // env.num_envs)
    per_round = -(-steps // ROUND_SHARE)
    copy = _Copy(model, env)
    walk = _Walk(env, teacher)
    model.policy.set_training_mode(True)
    seen = [walk.asked(steps)]
    copy.imitate(seen, EPOCHS_TEACHER)
    for number in range(ROUNDS):
        seen.append(walk.asked(per_round, copy.likeliest))
        last = number == ROUNDS - 1
        copy.imitate(seen, EPOCHS_LAST if last else EPOCHS_ROUND, falling=last)
    final = walk.asked(per_round, copy.likeliest)
    same = copy.likeliest(final.observations) == final.labels
    # The critic's first task will be the copy that explores: neither the teacher nor the copy while it was learning.
    copy.judge(*walk.returns(steps, copy.drawn, _gamma(model, env)), EPOCHS_CRITIC)
    model.policy.set_training_mode(False)
    learnt_from = sum(len(part.labels) for part in seen)
    return Imitated(learnt_from, float(same.reshape(len(same), -1).all(axis=1).mean()))


@dataclass(frozen=True)
class _Seen:
    """Decisions, one row each: what was seen, (N, D), and what the teacher chooses there, (N, C), or (N,) if flat."""

    observations: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


class _Walk:
    """The environments, which go on from one stretch to the next, and the teacher beside them.

    A teacher's memory goes along with what happens, whoever acts: it answers as one that was there all the time.
    """

    def __init__(self, env: EBatchVecEnv, teacher: Policy) -> None:
        self._env = env
        self._teacher = teacher
        self._observation: Any = env.reset()
        self._state: Any = None
        self._start = np.ones(env.num_envs, np.bool_)

    def asked(self, steps: int, act: Act | None = None) -> _Seen:
        """Take so many steps as ``act`` chooses, or as the teacher does, which is asked at each."""
        seen, labels = [], []
        for _ in range(steps):
            wanted, self._state = self._teacher.predict(self._observation, self._state, self._start, deterministic=True)
            seen.append(self._observation)
            labels.append(wanted)
            chosen = wanted if act is None else act(self._observation)
            self._observation, _, self._start, _ = self._env.step(chosen)
        return _Seen(np.concatenate(seen), np.concatenate(labels))

    def returns(
        self, steps: int, act: Act, gamma: float | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Take so many steps as ``act`` chooses: what was seen, (N, D), and the discounted return of what followed, (N,).

        ``gamma`` None: the environments tell each decision's own.
        """
        env = self._env
        seen, rewards, discounts, over = [], [], [], []
        for _ in range(steps):
            seen.append(self._observation)
            self._observation, reward, self._start, _ = env.step(act(self._observation))
            rewards.append(reward)
            discounts.append(np.full(env.num_envs, gamma) if gamma is not None else env.discount)  # type: ignore[attr-defined]
            over.append(self._start)
        found = _returns(np.array(rewards), np.array(discounts), np.array(over))
        return np.concatenate(seen), found.reshape(-1).astype(np.float32)


class _Copy:
    """The model's actor and critic while they are fitted.

    The loss is made of the logits themselves: the libraries' distributions are built for drawing, and slow.
    """

    def __init__(self, model: BaseAlgorithm, env: EBatchVecEnv) -> None:
        codec = env.system.actions
        self._policy: Any = model.policy
        self._flat = codec.flat
        self._sizes = codec.limits().tolist()
        self._legal = LegalActions(env.system, flat=codec.flat)
        self._masked = type(model).__name__ == "MaskablePPO"
        self._optimizer = torch.optim.Adam(self._policy.parameters(), lr=LEARNING_RATE)

    def likeliest(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """The likeliest levels, (N, C), or (N,) if flat, for observations (N, D)."""
        return self._levels(observation, lambda part: part.argmax(dim=1))

    def drawn(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Levels drawn as the policy draws them while it learns."""
        return self._levels(observation, lambda part: torch.softmax(part, dim=1).multinomial(1)[:, 0])

    def imitate(self, seen: Sequence[_Seen], epochs: int, *, falling: bool = False) -> None:
        """Learn to choose as the teacher does."""
        observations = np.concatenate([part.observations for part in seen])
        labels = torch.as_tensor(np.concatenate([part.labels for part in seen])).reshape(len(observations), -1)
        for chosen in self._batches(len(observations), epochs, falling):
            rows = observations[chosen.numpy()]
            legal = torch.split(self._legal_of(rows), self._sizes, dim=1)
            loss = torch.zeros(())
            for part, allowed, label in zip(self._logits(rows), legal, labels[chosen].T, strict=True):
                log = torch.log_softmax(part, dim=1)
                right = log.gather(1, label[:, None])[:, 0]
                spread = (log * allowed).sum(dim=1) / allowed.sum(dim=1)
                loss = loss - ((1.0 - NOISE) * right + NOISE * spread).mean()
            self._descend(loss)

    def judge(self, observations: npt.NDArray[np.float32], returns: npt.NDArray[np.float32], epochs: int) -> None:
        """Learn what follows: ``returns`` (N,) of ``observations`` (N, D)."""
        for chosen in self._batches(len(observations), epochs, falling=True):
            rows = chosen.numpy()
            values = self._policy.predict_values(torch.as_tensor(observations[rows])).flatten()
            self._descend((values - torch.as_tensor(returns[rows])).square().mean())

    def _batches(self, rows: int, epochs: int, falling: bool) -> Iterator[torch.Tensor]:
        """Indices of one batch after another, the learning rate set for each."""
        batches = [chosen for _ in range(epochs) for chosen in torch.split(torch.randperm(rows), BATCH)]
        for number, chosen in enumerate(batches):
            for group in self._optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1.0 - number / len(batches) if falling else 1.0)
            yield chosen

    def _descend(self, loss: torch.Tensor) -> None:
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _levels(
        self, observation: npt.NDArray[np.float32], choose: Callable[[torch.Tensor], torch.Tensor]
    ) -> npt.NDArray[np.int64]:
        with torch.no_grad():
            chosen = torch.stack([choose(part) for part in self._logits(observation)], dim=1).numpy()
        return chosen[:, 0] if self._flat else chosen

    def _legal_of(self, observation: npt.NDArray[np.float32]) -> torch.Tensor:
        return torch.as_tensor(self._legal(observation))

    def _logits(self, observation: npt.NDArray[np.float32]) -> tuple[torch.Tensor, ...]:
        """Per control (N, levels)."""
        policy = self._policy
        features = policy.extract_features(torch.as_tensor(observation), policy.pi_features_extractor)
        logits: Any = policy.action_net(policy.mlp_extractor.forward_actor(features))
        if self._masked:
            logits = torch.where(self._legal_of(observation), logits, _RULED_OUT)
        return tuple(torch.split(logits, self._sizes, dim=1))


def _gamma(model: BaseAlgorithm, env: VecEnv) -> float | None:
    """The discount per decision; None where the environment tells each decision's own."""
    return None if hasattr(env, "discount") else float(model.gamma)  # type: ignore[attr-defined]


def _returns(rewards: FloatArray, discounts: FloatArray, over: npt.NDArray[np.bool_]) -> FloatArray:
    """Discounted sums of the rewards that followed, up to the episode's end, all (steps, E).

    What follows the last step is not known; a mean reward for ever is assumed there.
    """
    factor = np.where(over, 0.0, discounts)
    after = rewards.mean() / max(1.0 - float(discounts[~over].mean() if (~over).any() else 0.0), 1e-3)
    total = np.full(rewards.shape[1], after)
    found = np.empty_like(rewards, dtype=np.float64)
    for step in range(len(rewards) - 1, -1, -1):
        total = rewards[step] + factor[step] * total
        found[step] = total
    return found
