"""The vector environment and the SB3 VecEnv are the single environment, many times over."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ebatch_env
from ebatch_env import SCENARIOS, RequestTrace
from ebatch_env.environment.env import EBatchEnv
from ebatch_env.environment.vector import EBatchVectorEnv
from ebatch_env.scenarios import scenario

TOY = scenario("ebatch/Toy-v0").keywords


@pytest.mark.parametrize("env_id", list(SCENARIOS))
def test_make_vec_builds_the_native_class(env_id):
    env = gym.make_vec(env_id, num_envs=3, requests=32, autoreset_mode="SameStep")
    assert isinstance(env.unwrapped, EBatchVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, info = env.reset(seed=0)
    assert observation.shape == (3, *env.single_observation_space.shape)
    env.action_space.seed(0)
    for _ in range(20):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert reward.shape == terminated.shape == truncated.shape == (3,)
        assert info["action_mask"].shape[0] == 3


@pytest.mark.parametrize("env_id", list(SCENARIOS))
@pytest.mark.parametrize("threads", [1, 2])
def test_lane_i_is_the_single_environment_seeded_seed_plus_i(env_id, threads):
    """Bit for bit, over several episodes and any number of threads."""
    keywords = {**scenario(env_id).keywords, "requests": 40}
    lanes, seed = 5, 123
    vector = EBatchVectorEnv(lanes, autoreset_mode="SameStep", threads=threads, **keywords)
    singles = [EBatchEnv(**keywords) for _ in range(lanes)]
    observation, info = vector.reset(seed=seed)
    for i, single in enumerate(singles):
        alone, alone_info = single.reset(seed=seed + i)
        assert np.array_equal(alone, observation[i])
        assert np.array_equal(np.concatenate(alone_info["action_mask"]), info["action_mask"][i])
    rng, episodes = np.random.default_rng(0), 0
    for _ in range(250):
        actions = rng.integers(0, vector.single_action_space.nvec, size=(lanes, vector.single_action_space.nvec.size))
        observation, reward, terminated, truncated, info = vector.step(actions)
        for i, single in enumerate(singles):
            alone, alone_reward, alone_terminated, alone_truncated, alone_info = single.step(actions[i])
            assert alone_reward == reward[i]
            assert (alone_terminated, alone_truncated) == (terminated[i], truncated[i])
            assert alone_info["rewards"] == {name: values[i] for name, values in info["rewards"].items()}
            if alone_terminated:
                episodes += 1
                assert np.array_equal(alone, info["final_obs"][i])
                alone, alone_info = single.reset()
            assert np.array_equal(alone, observation[i])
            assert np.array_equal(np.concatenate(alone_info["action_mask"]), info["action_mask"][i])
    assert episodes > 0


# Two lanes on the toy machine (load 2 s and 5 J, a step 1 s and 1 J + 0.5 J * a), admitting all and running to the end:
# lane 0 plays one request of 1 step (a decision), lane 1 two requests 10 s apart (two decisions).
LONG = np.array([[5, 2, 1, 0, 0]] * 2)


def two_lanes(mode):
    env = EBatchVectorEnv(2, autoreset_mode=mode, episode_metrics=True, **TOY)
    env.reset(seed=0)
    one, two = RequestTrace([0.0], [1]), RequestTrace([0.0, 10.0], [1, 1])
    env.dynamics.load([one, two], [0, 1])
    return env


def test_next_step_by_hand():
    env = two_lanes("NextStep")
    _, reward, terminated, _, info = env.step(LONG)
    assert terminated.tolist() == [True, False]
    assert info["episode_metrics"][0].latency_mean_s == 3.0
    assert info["episode_metrics"][1] is None
    assert info["_episode_metrics"].tolist() == [True, False]
    observation, reward, terminated, _, _ = env.step(LONG)
    assert terminated.tolist() == [False, True]  # lane 0 ignored its action and began anew
    assert reward[0] == 0.0
    assert env.dynamics.systems.i[0, 9] == 0  # no decision taken yet
    assert env.system.observations.read(observation, "last_steps").tolist()[0] == 0.0
    *_, info = env.step(LONG)
    assert env.dynamics.systems.i[:, 9].tolist() == [1, 0]


def test_same_step_by_hand():
    env = two_lanes("SameStep")
    observation, reward, terminated, _, info = env.step(LONG)
    assert terminated.tolist() == [True, False]
    assert info["_final_obs"].tolist() == [True, False]
    assert env.system.observations.read(info["final_obs"][0], "last_steps") == pytest.approx(1.0)
    assert env.system.observations.read(observation[0], "last_steps") == 0.0
    assert info["final_info"]["episode_metrics"][0].energy_j == 5.0 + 1.5
    assert info["final_info"]["rewards"]["energy"][0] == pytest.approx(
        -6.5 / env.system.saturation.energy_per_request_j
    )
    assert reward[0] != 0.0
    assert env.dynamics.systems.i[:, 9].tolist() == [0, 1]


def test_disabled_by_hand():
    env = two_lanes("Disabled")
    _, _, terminated, _, _ = env.step(LONG)
    assert terminated.tolist() == [True, False]
    _, reward, terminated, _, _ = env.step(LONG)  # stepping a lane that ended changes nothing
    assert terminated.tolist() == [True, True]
    assert reward[0] == 0.0
    assert env.dynamics.systems.i[:, 9].tolist() == [1, 2]
    before = env.dynamics.observation[1].copy()
    observation, _ = env.reset(options={"reset_mask": np.array([True, False])})
    assert env.dynamics.systems.i[:, 9].tolist() == [0, 2]
    assert np.array_equal(observation[1], before)


def test_truncation_is_reported_per_lane():
    env = EBatchVectorEnv(3, autoreset_mode="SameStep", max_episode_steps=2, requests=64)
    env.reset(seed=1)
    hold = np.array([[0, 1, 0, 0, 0]] * 3)
    env.step(hold)
    *_, truncated, info = env.step(hold)
    assert truncated.all()
    assert info["final_info"]["truncation"].tolist() == ["max_decisions"] * 3


def test_bad_input_is_named():
    for keywords, message in [
        ({"num_envs": 0}, "num_envs must be"),
        ({"num_envs": 2, "threads": 0}, "threads must be"),
        ({"num_envs": 2, "autoreset_mode": "Later"}, "autoreset_mode must be one of"),
        ({"num_envs": 2, "render_mode": "human"}, "render_mode must be None"),
    ]:
        with pytest.raises(ValueError, match=message):
            EBatchVectorEnv(**keywords)
    env = EBatchVectorEnv(2, **TOY)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(LONG)
    with pytest.raises(ValueError, match="seed must be"):
        env.reset(seed=[1, 2, 3])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"options\['reset_mask'\]"):
        env.reset(options={"reset_mask": np.array([False, False])})
    with pytest.raises(ValueError, match=r"action\[0\] \(time_steps\) must be an integer in 0\.\.5, got 6"):
        env.step(np.array([[0, 0, 0, 0, 0], [6, 0, 0, 0, 0]]))


def test_vec_env_reports_what_sb3_expects():
    pytest.importorskip("stable_baselines3")
    env = ebatch_env.make_sb3("ebatch/Toy-v0", 3, seed=5, episode_metrics=True)
    observation = env.reset()
    singles = [EBatchEnv(**TOY) for _ in range(3)]
    for i, single in enumerate(singles):
        assert np.array_equal(single.reset(seed=5 + i)[0], observation[i])
    rng, returns, lengths, ended = np.random.default_rng(0), np.zeros(3), np.zeros(3, int), 0
    for _ in range(60):
        actions = rng.integers(0, env.action_space.nvec, size=(3, 5))
        observation, rewards, dones, infos = env.step(actions)
        assert rewards.dtype == np.float32
        for i, single in enumerate(singles):
            alone, reward, terminated, truncated, _ = single.step(actions[i])
            returns[i] += reward
            lengths[i] += 1
            assert dones[i] == (terminated or truncated)
            assert rewards[i] == np.float32(reward)
            if dones[i]:
                ended += 1
                assert np.array_equal(infos[i]["terminal_observation"], alone)
                assert infos[i]["TimeLimit.truncated"] is truncated
                assert infos[i]["episode"]["r"] == pytest.approx(returns[i])
                assert infos[i]["episode"]["l"] == lengths[i]
                assert infos[i]["episode_metrics"].requests == 16
                returns[i], lengths[i] = 0.0, 0
                alone, _ = single.reset()
            else:
                assert infos[i] == {}
            assert np.array_equal(observation[i], alone)
    assert ended > 3
    assert len(env.get_attr("action_masks")) == 3
    masks = np.stack(env.env_method("action_masks"))
    assert masks.shape == (3, 16)
    assert masks.dtype == np.bool_
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3
    env.seed(5)
    assert np.array_equal(env.reset()[0], singles_first(5))


def singles_first(seed):
    return EBatchEnv(**TOY).reset(seed=seed)[0]


@pytest.mark.slow
def test_sb3_agents_train():
    pytest.importorskip("stable_baselines3")
    from sb3_contrib import MaskablePPO
    from stable_baselines3 import DQN, PPO

    for make, keywords in [(PPO, {"n_steps": 32}), (MaskablePPO, {"n_steps": 32})]:
        env = ebatch_env.make_sb3("ebatch/EPUR-Translation-v0", 8, seed=0, requests=64)
        model = make("MlpPolicy", env, seed=0, device="cpu", **keywords).learn(512)
        assert model.num_timesteps == 512
        assert len(model.ep_info_buffer) > 0
    env = ebatch_env.make_sb3("ebatch/Toy-v0", 2, seed=0, flat_actions=True)
    assert DQN("MlpPolicy", env, seed=0, device="cpu", learning_starts=20).learn(200).num_timesteps == 200
