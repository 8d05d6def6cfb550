"""Training, saving, loading, acting."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

import ebatch_env
from ebatch_agents import SB3Policy, hyperparameters, load_zip, train
from ebatch_env.scoring.policy import make_policy

TOY = "ebatch/Toy-v0"


@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo", "dqn"])
@pytest.mark.slow
def test_a_trained_agent_is_a_policy(algo, tmp_path):
    model = train(TOY, algo, steps=4096 if algo != "dqn" else 300, out=tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == f"{algo}-Toy-v0-seed0.zip"
    system = ebatch_env.make_system(TOY, flat_actions=algo == "dqn")
    policy = make_policy(path, system, TOY, {"trust": True})
    observation = np.random.default_rng(0).uniform(0, 1, (64, system.observations.size)).astype(np.float32)
    actions, _ = policy.predict(observation, deterministic=True)
    mine, _ = SB3Policy(model, system).predict(observation, deterministic=True)
    assert np.array_equal(actions, mine)
    assert actions.shape == ((64,) if algo == "dqn" else (64, 5))
    if algo == "maskable_ppo":
        assert not actions[:, 4].any()  # the toy has no deadlines, so shedding is masked
    with pytest.raises(ValueError, match="the model's action space must be the system's"):
        make_policy(path, ebatch_env.make_system("ebatch/Queue-v0"), None, {"trust": True})


def test_zips_need_trust_and_a_known_algorithm(tmp_path):
    system = ebatch_env.make_system(TOY)
    path = tmp_path / "ppo-x.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="trust must be True"):
        load_zip(path, system)
    with pytest.raises(ValueError, match="is not an SB3 model"):
        load_zip(path, system, trust=True)
    other = tmp_path / "sac-x.zip"
    other.write_bytes(b"")
    with pytest.raises(ValueError, match="one of ppo, maskable_ppo, dqn"):
        load_zip(other, system, trust=True)


def test_hyperparameters_and_arguments():
    assert hyperparameters("ppo", TOY)["gamma"] > 0.99
    with pytest.raises(ValueError, match="algo must be one of"):
        hyperparameters("sac", TOY)
    with pytest.raises(ValueError, match="env must be one of"):
        train("ebatch/Nothing-v0", "ppo", steps=1)
    with pytest.raises(ValueError, match="steps must be an integer >= 1"):
        train(TOY, "ppo", steps=0)


def test_training_is_deterministic():
    first, second = (train(TOY, "ppo", steps=1, seed=3) for _ in range(2))
    for a, b in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy())
