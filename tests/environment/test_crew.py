"""The threads that share a step, and episodes that begin in compiled code."""

import copy
import gc
import pickle
import threading
import time
import weakref

import gymnasium as gym
import numpy as np
import pytest

from ebatch_env import RequestTrace, make_sb3
from ebatch_env.environment import crew
from ebatch_env.environment.env import EBatchEnv
from ebatch_env.environment.vector import EBatchVectorEnv

KEYWORDS = {"workload": "translation-bursty", "deadline": 4.0, "requests": 24, "lanes": 8}


def legal(env, steps, seed=1):
    codec, rng = env.system.actions, np.random.default_rng(seed)
    columns = [rng.choice(np.flatnonzero(codec.legal[c]), size=(steps, env.num_envs)) for c in codec.controls]
    return np.stack(columns, axis=-1)


def play(env, steps=60):
    observation, info = env.reset(seed=7)
    seen = [observation, info["action_mask"]]
    for actions in legal(env, steps):
        observation, reward, terminated, truncated, info = env.step(actions)
        seen += [observation, reward, terminated, truncated, info["action_mask"], *info["rewards"].values()]
        if "final_obs" in info:
            seen += [row for row in info["final_obs"] if row is not None]
    env.close()
    return seen


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
@pytest.mark.parametrize(("lanes", "threads"), [(7, 2), (7, 7), (50, 3), (64, 2)])
def test_any_number_of_threads_plays_the_same(lanes, threads, mode):
    one, many = (
        play(EBatchVectorEnv(lanes, threads=n, autoreset_mode=mode, max_episode_steps=40, **KEYWORDS))
        for n in (1, threads)
    )
    assert_same(one, many)


@pytest.mark.parametrize("load", [0.8, (0.2, 1.2)])
@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_episodes_begun_in_compiled_code_are_those_begun_in_python(mode, load):
    """With metrics the records are read first, so Python begins the episodes, lane by lane where it draws them."""
    mine = EBatchVectorEnv(5, autoreset_mode=mode, load=load, **KEYWORDS)
    theirs = EBatchVectorEnv(5, autoreset_mode=mode, load=load, episode_metrics=True, **KEYWORDS)
    drawn_in_python = EBatchVectorEnv(5, autoreset_mode=mode, load=load, **KEYWORDS)
    assert mine.dynamics.draws_itself
    drawn_in_python.dynamics.draws_itself = False
    seen = play(mine)
    assert_same(seen, play(theirs))
    assert_same(seen, play(drawn_in_python))


def test_the_generators_move_on_as_if_numpy_had_drawn():
    vector = EBatchVectorEnv(3, autoreset_mode="SameStep", **KEYWORDS)
    play(vector)
    singles = [EBatchEnv(**KEYWORDS) for _ in range(3)]
    for lane, single in enumerate(singles):
        single.reset(seed=7 + lane)
        for actions in legal(vector, 60)[:, lane]:
            _, _, terminated, truncated, _ = single.step(actions)
            if terminated or truncated:
                single.reset()
        assert single.np_random.bit_generator.state == vector._streams[lane].bit_generator.state


def test_helpers_that_fell_asleep_are_woken_or_done_without(monkeypatch):
    monkeypatch.setattr(crew, "WORTH_WAKING", 1)
    env = EBatchVectorEnv(16, threads=2, autoreset_mode="SameStep", **KEYWORDS)
    env.reset(seed=7)
    seen = []
    for actions in legal(env, 12):
        seen.append(env.step(actions)[0])
        time.sleep(0.02)  # far beyond a helper's patience
    env.close()
    alone = EBatchVectorEnv(16, threads=1, autoreset_mode="SameStep", **KEYWORDS)
    alone.reset(seed=7)
    assert_same(seen, [alone.step(actions)[0] for actions in legal(alone, 12)])


def helpers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ebatch-")]


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_helpers_end_with_their_environment(how):
    before = set(helpers())  # of environments of other tests, which may end meanwhile
    env = EBatchVectorEnv(16, threads=3, **KEYWORDS)
    env.reset(seed=0)
    env.step(legal(env, 1)[0])
    mine = set(helpers()) - before
    assert len(mine) == 2
    dynamics = weakref.ref(env.dynamics)
    if how == "closed":
        env.close()
    del env
    gc.collect()
    assert dynamics() is None
    deadline = time.monotonic() + 10.0
    while mine & set(helpers()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not mine & set(helpers())


def test_the_first_reset_begins_every_lane():
    env = EBatchVectorEnv(2, autoreset_mode="Disabled", **KEYWORDS)
    with pytest.raises(ValueError, match=r"options\['reset_mask'\] must be left out of the first reset"):
        env.reset(seed=0, options={"reset_mask": np.array([True, False])})


def test_metrics_need_records():
    env = EBatchVectorEnv(1, **KEYWORDS)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="record must be True"):
        env.dynamics.metrics(0)


def test_sb3_steps_need_a_reset():
    env = make_sb3("ebatch/Toy-v0", 2, seed=0)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros((2, 5), np.int64))


def test_sb3_plays_a_given_trace():
    env = make_sb3("ebatch/Toy-v0", 2, seed=0)
    trace = RequestTrace([0.0, 1.0], [2, 1])
    env.set_options([{"trace": trace}, {}])
    env.reset()
    assert env.dynamics.systems.i[:, 0].tolist() == [2, 16]  # requests
    env.reset()
    assert env.dynamics.systems.i[:, 0].tolist() == [16, 16]
    env.set_options({"tarce": trace})
    with pytest.raises(ValueError, match="options"):
        env.reset()


def test_a_helper_does_its_share(monkeypatch):
    """With the caller's own work held up, every system is stepped all the same: by the helper."""
    monkeypatch.setattr(crew, "WORTH_WAKING", 1)
    env = EBatchVectorEnv(16, threads=2, autoreset_mode="SameStep", **KEYWORDS)
    env.reset(seed=7)
    step, decisions = env.dynamics._crew, env.dynamics.systems.i[:, 9]
    finish = type(step)._finish

    def late(self):
        deadline = time.monotonic() + 30.0
        while decisions.sum() < 16 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert decisions.tolist() == [1] * 16
        finish(self)

    monkeypatch.setattr(type(step), "_finish", late)
    env.step(legal(env, 1)[0])
    monkeypatch.undo()
    env.close()


@pytest.mark.parametrize("then", ["step", "reset"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupted_step_comes_to_its_end(monkeypatch, threads, then):
    monkeypatch.setattr(crew, "WORTH_WAKING", 1)
    env, twin = (EBatchVectorEnv(64, threads=threads, autoreset_mode="SameStep", **KEYWORDS) for _ in range(2))
    env.reset(seed=7)
    twin.reset(seed=7)
    actions = legal(env, 3)

    # Python raises it between two calls of compiled code: after the only one, or before the helpers are woken.
    def interrupt(*arguments):
        if threads == 1:
            crew_work(*arguments)
        raise KeyboardInterrupt

    crew_work = crew.work
    if threads == 1:
        monkeypatch.setattr(crew, "work", interrupt)
    else:
        monkeypatch.setattr(crew.Crew, "_finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        env.step(actions[0])
    monkeypatch.undo()
    twin.step(actions[0])
    if then == "reset":
        assert_same(env.reset(seed=3)[:1], twin.reset(seed=3)[:1])
    for row in actions[1:]:
        np.testing.assert_array_equal(env.step(row)[0], twin.step(row)[0])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_is_an_environment_of_its_own(clone, threads):
    env = EBatchVectorEnv(6, threads=threads, autoreset_mode="SameStep", **KEYWORDS)
    env.reset(seed=7)
    actions = legal(env, 80)
    for row in actions[:30]:
        env.step(row)
    other = clone(env)
    one = [env.step(row)[0] for row in actions[30:]]
    assert_same(one, [other.step(row)[0] for row in actions[30:]])


def test_a_truncated_lane_stands_still_until_it_is_reset():
    env = EBatchVectorEnv(2, autoreset_mode="Disabled", max_episode_steps=3, **KEYWORDS)
    env.reset(seed=0)
    actions = legal(env, 8)
    for row in actions[:3]:
        observation, _, _, truncated, _ = env.step(row)
    assert truncated.all()
    for row in actions[3:]:
        after, reward, _, truncated, _ = env.step(row)
        np.testing.assert_array_equal(after[:, :40], observation[:, :40])
        assert truncated.all()
        assert not reward.any()


def test_a_refused_action_changes_nothing():
    env = EBatchVectorEnv(2, **KEYWORDS)
    env.reset(seed=0)
    before = env.dynamics.observation.copy(), env.action_masks().copy(), env.dynamics.systems.i.copy()
    wrong = legal(env, 1)[0]
    wrong[1, 0] = 99
    with pytest.raises(ValueError, match=r"action\[0\]"):
        env.step(wrong)
    assert_same(before, (env.dynamics.observation, env.action_masks(), env.dynamics.systems.i))
