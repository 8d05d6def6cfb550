"""Imitation before reinforcement."""

from __future__ import annotations

import pytest

pytest.importorskip("sb3_contrib")

import numpy as np
import torch

from ebatch_agents import SB3Policy, imitation, train
from ebatch_agents.imitation import Imitated, _returns, _watch, imitate
from ebatch_agents.training import make_model, make_run
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import play
from tests.agents.conftest import CHANGES, TOY

TEACHER = "ebatch-fixed"
SEEDS = range(3_000_000, 3_000_016)


@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo", "a2c"])
def test_a_new_policy_becomes_its_teacher(algo: str) -> None:
    run = make_run(TOY, algo, steps=1, changes=CHANGES[algo])
    model, env = make_model(run)
    before = SB3Policy(model, env.system).predict(env.reset())[0]
    found = imitate(model, env, TEACHER, TOY, 4096)
    assert isinstance(found, Imitated)
    assert (found.decisions, found.agreement) == (4096, 1.0)  # one constant plan is easy
    teacher = make_policy(TEACHER, env.system, TOY)
    assert not np.array_equal(before, teacher.predict(env.reset())[0])
    mine = play(env.system, SB3Policy(model, env.system), SEEDS)
    assert mine == play(env.system, teacher, SEEDS)


def test_the_critic_learns_what_follows() -> None:
    run = make_run(TOY, "ppo", steps=1, changes=CHANGES["ppo"])
    model, env = make_model(run)
    seen, _, returns = _watch(env, TEACHER, TOY, 256, None)

    def error() -> float:
        values = model.policy.predict_values(torch.as_tensor(seen)).detach().numpy().ravel()  # type: ignore[operator]
        return float(np.square(returns - values).mean())

    before = error()
    imitate(model, env, TEACHER, TOY, 8192)
    assert error() < min(before, float(returns.var()))


def test_returns_are_discounted_sums_up_to_the_episodes_end() -> None:
    rewards = np.array([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]])
    discounts = np.full((3, 2), 0.5)
    over = np.array([[False, True], [False, False], [True, True]])
    expected = [[1 + 0.5 * (4 + 0.5 * 16), 2.0], [4 + 0.5 * 16, 8 + 0.5 * 32], [16.0, 32.0]]
    assert np.allclose(_returns(rewards, discounts, over), expected)


def test_a_training_begins_as_its_teacher_and_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imitation, "DECISIONS", 2048)
    changes = {**CHANGES["maskable_ppo"], "teacher": TEACHER}
    first, second = (
        train(TOY, "maskable_ppo", steps=256, seed=3, changes=changes, evaluations=1, episodes=8) for _ in range(2)
    )
    assert first.evaluations == second.evaluations
    system = first.model.get_env().system  # type: ignore[union-attr]
    taught = play(system, make_policy(TEACHER, system, TOY), SEEDS[:8])
    assert first.evaluations[0].costs == tuple(metrics.cost for metrics in taught)
    assert "--param 'teacher=\"ebatch-fixed\"'" in first.run.command


def test_who_cannot_teach_or_be_taught_is_refused() -> None:
    with pytest.raises(ValueError, match="teacher must be None with dqn: only ppo, maskable_ppo and a2c"):
        make_run(TOY, "dqn", changes={"teacher": TEACHER})
    with pytest.raises(ValueError, match="teacher must be None with recurrent_ppo"):
        make_run(TOY, "recurrent_ppo", changes={"teacher": TEACHER})
    with pytest.raises(ValueError, match="policy must be a name"):
        train(TOY, "ppo", steps=1, changes={**CHANGES["ppo"], "teacher": "nobody"}, evaluations=0)
    with pytest.raises(ValueError, match="teacher must be the name of a policy"):
        make_run(TOY, "ppo", changes={"teacher": 3})
