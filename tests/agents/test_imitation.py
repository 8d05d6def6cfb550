"""Imitation before reinforcement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("sb3_contrib")

import numpy as np
import numpy.typing as npt
import torch

import ebatch_agents.training
from ebatch_agents import SB3Policy, imitation, train
from ebatch_agents.imitation import Imitated, _Copy, _returns, _Walk, imitate
from ebatch_agents.training import make_model, make_run, torch_threads
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import play
from tests.agents.conftest import CHANGES, TOY

TEACHER = "ebatch-fixed"
DECODER = "ebatch/V100-Decoder-v0"
SEEDS = range(3_000_000, 3_000_016)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As `train` sets it."""
    with torch_threads(1):
        yield


@dataclass
class Counting:
    """A teacher with a memory, of what it was asked in this episode, that chooses by it."""

    asked: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def predict(
        self,
        observation: npt.NDArray[np.float32],
        state: Any = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        assert deterministic
        assert episode_start is not None
        count = np.where(episode_start, 0, 0 if state is None else state + 1)
        self.asked.append(count)
        actions = np.zeros((len(observation), 5), np.int64)
        actions[:, 0] = count % 2
        actions[:, 1] = 1
        return actions, count


@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo", "a2c"])
def test_a_new_policy_becomes_its_teacher(algo: str) -> None:
    run = make_run(TOY, algo, steps=1, changes=CHANGES[algo])
    model, env = make_model(run)
    teacher = make_policy(TEACHER, env.system, TOY)
    before = SB3Policy(model, env.system).predict(env.reset())[0]
    assert not np.array_equal(before, teacher.predict(env.reset())[0])
    found = imitate(model, env, teacher, 4096)
    assert found == Imitated(2 * 4096, 1.0)  # one constant plan is easy
    assert play(env.system, SB3Policy(model, env.system), SEEDS) == play(env.system, teacher, SEEDS)


def test_a_policy_with_flat_actions_does_too() -> None:
    model, env = make_model(make_run(TOY, "maskable_ppo", keywords={"flat_actions": True}, changes=CHANGES["ppo"]))
    teacher = make_policy(TEACHER, env.system, TOY)
    assert imitate(model, env, teacher, 4096).agreement == 1.0
    assert play(env.system, SB3Policy(model, env.system), SEEDS) == play(env.system, teacher, SEEDS)


def test_a_copy_of_many_thresholds_costs_what_its_teacher_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns from the teacher's states and from its own, with the teacher's choices at both."""
    model, env = make_model(make_run(DECODER, "maskable_ppo", seed=1))
    teacher = make_policy("linear", env.system, DECODER)
    learnt: list[list[Any]] = []
    real = _Copy.imitate

    def spy(copy: _Copy, seen: Any, *arguments: Any, **keywords: Any) -> None:
        learnt.append(list(seen))
        real(copy, seen, *arguments, **keywords)

    monkeypatch.setattr(_Copy, "imitate", spy)
    found = imitate(model, env, teacher, 16_384)
    assert [[len(part.labels) for part in seen] for seen in learnt] == [
        [16_384, *[4096] * n] for n in range(imitation.ROUNDS + 1)
    ]
    for part in learnt[-1]:
        assert np.array_equal(teacher.predict(part.observations)[0], part.labels)  # this teacher has no memory
    assert found.agreement > 0.75
    mine, theirs = (
        np.mean([metrics.cost for metrics in play(env.system, policy, SEEDS)])
        for policy in (SB3Policy(model, env.system), teacher)
    )
    assert mine == pytest.approx(theirs, rel=0.05)


def test_the_teacher_is_asked_along_the_way_of_who_acts() -> None:
    _, env = make_model(make_run(TOY, "ppo", changes=CHANGES["ppo"]))
    teacher = Counting()
    walk = _Walk(env, teacher)
    acted: list[npt.NDArray[np.float32]] = []

    def act(observation: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        acted.append(observation)
        return np.ones((len(observation), 5), np.int64)

    first, second = walk.asked(3), walk.asked(40, act)
    assert np.array_equal(second.observations, np.concatenate(acted))
    assert not np.array_equal(second.labels[:, 0], np.ones(len(second.labels)))  # the teacher's, not what was done
    counts = np.array(teacher.asked)
    assert np.array_equal(np.concatenate([first.labels, second.labels])[:, 0], counts.ravel() % 2)
    goes_on = counts[1:] == counts[:-1] + 1
    assert ((counts[1:] == 0) | goes_on).all()
    assert goes_on[2].any()  # from one stretch to the next
    assert (counts[1:] == 0).any()


def test_the_copy_stays_unsure_by_the_share_of_noise() -> None:
    model, env = make_model(make_run(TOY, "maskable_ppo", changes=CHANGES["maskable_ppo"]))
    teacher = make_policy(TEACHER, env.system, TOY)
    imitate(model, env, teacher, 8192)
    copy = _Copy(model, env)
    observation = env.reset()
    with torch.no_grad():
        parts = copy._logits(observation)
    legal = env.system.actions.mask().astype(np.bool_)
    first = 0
    for part, label in zip(parts, teacher.predict(observation)[0].T, strict=True):
        allowed = legal[first : first + part.shape[1]]
        shares = torch.softmax(part, dim=1).numpy()
        expected = np.where(allowed, imitation.NOISE / allowed.sum(), 0.0)
        expected = np.tile(expected, (len(shares), 1))
        expected[np.arange(len(shares)), label] += 1 - imitation.NOISE
        assert shares == pytest.approx(expected, abs=0.02)
        first += part.shape[1]


def test_the_critic_learns_what_follows_when_the_copy_explores() -> None:
    bursts = "ebatch/EPUR-Translation-v0"
    model, env = make_model(make_run(bursts, "ppo", changes={"n_envs": 16}))
    teacher = make_policy("early-drop", env.system, bursts)
    imitate(model, env, teacher, 8192)
    env.seed(0)  # others
    seen, returns = _Walk(env, teacher).returns(512, _Copy(model, env).drawn, None)
    values = model.policy.predict_values(torch.as_tensor(seen)).detach().numpy().ravel()  # type: ignore[operator]
    assert np.square(returns - values).mean() < 0.9 * returns.var()


def test_returns_are_discounted_sums_up_to_the_episodes_end() -> None:
    rewards = np.array([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]])
    discounts = np.full((3, 2), 0.5)
    over = np.array([[False, True], [False, False], [True, True]])
    expected = [[1 + 0.5 * (4 + 0.5 * 16), 2.0], [4 + 0.5 * 16, 8 + 0.5 * 32], [16.0, 32.0]]
    assert np.allclose(_returns(rewards, discounts, over), expected)


def test_a_training_begins_as_its_teacher_and_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imitation, "DECISIONS", 2048)
    made: list[str] = []

    def make(name: str, *arguments: Any) -> Any:
        made.append(name)
        return make_policy(name, *arguments)

    monkeypatch.setattr(ebatch_agents.training, "make_policy", make)
    changes = {**CHANGES["maskable_ppo"], "teacher": TEACHER}
    first, second = (
        train(TOY, "maskable_ppo", steps=256, seed=3, changes=changes, evaluations=1, episodes=8) for _ in range(2)
    )
    assert made == [TEACHER, TEACHER]  # once each
    assert first.evaluations == second.evaluations
    for a, b in zip(first.model.policy.parameters(), second.model.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    system = first.model.get_env().system  # type: ignore[union-attr]
    taught = play(system, make_policy(TEACHER, system, TOY), SEEDS[:8])
    assert first.evaluations[0].costs == tuple(metrics.cost for metrics in taught)
    assert "--param 'teacher=\"ebatch-fixed\"'" in first.run.command
    assert "began by imitating 'ebatch-fixed': 100.0% of its decisions agree" in first.summary()


def test_imitation_costs_the_training_none_of_its_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[npt.NDArray[np.float64]] = []
    for teacher in (None, TEACHER):
        monkeypatch.setattr(imitation, "DECISIONS", 512)
        changes = {**CHANGES["ppo"], "teacher": teacher, "n_steps": 1, "batch_size": 8}
        found = train(TOY, "ppo", steps=1, seed=3, changes=changes, evaluations=0)
        env: Any = found.model.get_env()
        begun.append(env.dynamics.systems.rf[:, 0, :16].copy())
    assert np.array_equal(*begun)


def test_who_cannot_teach_or_be_taught_is_refused() -> None:
    with pytest.raises(ValueError, match="teacher must be None with dqn: only ppo, maskable_ppo and a2c"):
        make_run(TOY, "dqn", changes={"teacher": TEACHER})
    with pytest.raises(ValueError, match="teacher must be None with recurrent_ppo"):
        make_run(TOY, "recurrent_ppo", changes={"teacher": TEACHER})
    with pytest.raises(ValueError, match="policy must be a name"):
        train(TOY, "ppo", steps=1, changes={**CHANGES["ppo"], "teacher": "nobody"}, evaluations=0)
    with pytest.raises(ValueError, match="teacher must be the name of a policy"):
        make_run(TOY, "ppo", changes={"teacher": 3})
