"""Several machines behind one environment: each episode is that of its own machine, to the last digit."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import ebatch_env
from ebatch_env import Fleet, RequestTrace, System
from ebatch_env.environment.dynamics import Dynamics, Streams
from ebatch_env.environment.env import EBatchEnv
from ebatch_env.environment.fleet import build_system
from ebatch_env.environment.vector import EBatchVectorEnv
from ebatch_env.scenarios import scenario

ID = "ebatch/Machines-v0"
SMALL = {**scenario(ID).keywords, "requests": 40}
ALONE = {name: value for name, value in SMALL.items() if name != "accelerator"}
OWN = {name: System.build(accelerator=name, **ALONE) for name in ("epur", "tpu", "v100")}
EVERY = set(OWN)
TWO = {**SMALL, "accelerator": ["epur", "tpu"]}


def random_actions(space: Any, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, space.nvec, size=(n, space.nvec.size))


def name_of(dynamics: Dynamics, e: int = 0) -> str:
    return dynamics.playing(e).accelerator.name


def test_what_the_machines_share_and_what_each_has() -> None:
    fleet = ebatch_env.make_system(ID)
    assert isinstance(fleet, Fleet)
    epur, tpu, v100 = fleet.machines
    assert fleet.actions.levels["time_steps"].tolist() == [*(2**n for n in range(13)), 0]
    assert epur.actions.legal["time_steps"].tolist() == [True] * 5 + [False] * 8 + [True]  # to 24 steps
    assert tpu.actions.legal["time_steps"].tolist() == [True] * 6 + [False] * 7 + [True]  # to 38
    assert v100.actions.legal["time_steps"].all()
    assert fleet.actions.legal["time_steps"].all()
    assert epur.actions.space == tpu.actions.space == v100.actions.space == fleet.actions.space
    assert epur.observations.space == fleet.observations.space
    for machine, own in zip(fleet.machines, OWN.values(), strict=True):
        assert machine.saturation == own.saturation
        assert machine.deadline_s == own.deadline_s == 16.0 * machine.saturation.latency_s
        assert np.array_equal(machine.constants, own.constants)
    assert (fleet.network.name, fleet.lanes, fleet.requests, fleet.load) == ("MNMT", 64, 1024, (0.15, 0.15))
    assert (fleet.deadline, fleet.objective, fleet.lengths_known) == (tpu.deadline, tpu.objective, True)
    assert fleet.mean_length == tpu.mean_length
    assert np.array_equal(fleet.mix_edges, tpu.mix_edges)


def test_one_machine_in_a_list_is_that_machine() -> None:
    alone = build_system(accelerator=["tpu"], **ALONE)
    assert isinstance(alone, System)
    assert alone.machines == (alone,)
    assert alone.accelerator.name == "tpu"


def test_levels_of_ones_own_stay_in_their_order() -> None:
    fleet = build_system(**TWO, time_step_levels=[None, 30, 4])
    assert fleet.actions.levels["time_steps"].tolist() == [0, 30, 4]
    assert [machine.actions.legal["time_steps"].tolist() for machine in fleet.machines] == [
        [True, False, True],
        [True, True, True],
    ]
    fixed = build_system(**TWO, controls=["admit"], plan={"time_steps": 30})
    assert fixed.actions.levels["time_steps"].tolist() == [30]
    assert fixed.actions.controls == ("admit",)


@pytest.mark.parametrize(
    ("machines", "message"),
    [
        ([], r"accelerator must be a list of at least one machine, got \[\]"),
        (
            ["epur", "epur"],
            "accelerator must be a list without repeats, of machines that an observation can tell apart",
        ),
        (["epur", "abacus"], "accelerator must be one of epur"),
        (["epur", 3], r"accelerator=3: accelerator must be a name"),
        (["epur", ["tpu"]], r"accelerator=\['tpu'\]: accelerator must be a name"),
    ],
)
def test_bad_lists_are_named(machines: list[Any], message: str) -> None:
    for make in (EBatchEnv, build_system):
        with pytest.raises(ValueError, match=message):
            make(**{**SMALL, "accelerator": machines})
    with pytest.raises(ValueError, match="keyword must be one of network"):
        build_system(**SMALL, colour=1)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("metrics", [False, True])
def test_lane_i_is_the_single_environment_seeded_seed_plus_i(mode: AutoresetMode, metrics: bool) -> None:
    """In compiled code or, with metrics, in Python: machine, trace, masks and rewards are the same."""
    lanes, seed = 4, 7
    vector = EBatchVectorEnv(lanes, autoreset_mode=mode, threads=2, episode_metrics=metrics, **SMALL)
    singles = [EBatchEnv(**SMALL) for _ in range(lanes)]
    observation, info = vector.reset(seed=seed)
    over, seen = np.zeros(lanes, bool), set()
    for i, single in enumerate(singles):
        assert np.array_equal(single.reset(seed=seed + i)[0], observation[i])
    rng = np.random.default_rng(0)
    for _ in range(160):
        actions = random_actions(vector.single_action_space, lanes, rng)
        observation, reward, terminated, _, info = vector.step(actions)
        for i, single in enumerate(singles):
            if over[i] and mode == AutoresetMode.NEXT_STEP:
                alone, alone_reward, done = single.reset()[0], 0.0, False
            else:
                alone, alone_reward, done, _, alone_info = single.step(actions[i])
                if done and metrics:
                    whole = info["final_info"] if mode == AutoresetMode.SAME_STEP else info
                    assert whole["episode_metrics"][i] == alone_info["episode_metrics"]
                if done and mode == AutoresetMode.SAME_STEP:
                    alone, _ = single.reset()
            assert alone_reward == reward[i]
            assert done == terminated[i]
            assert np.array_equal(alone, observation[i])
            assert np.array_equal(single.action_masks(), vector.action_masks()[i])
            assert name_of(single.dynamics) == name_of(vector.dynamics, i)
            seen.add(name_of(single.dynamics))
        over = terminated
        if mode == AutoresetMode.DISABLED and over.any():
            observation, _ = vector.reset(options={"reset_mask": over})
            for i in np.flatnonzero(over):
                assert np.array_equal(singles[i].reset()[0], observation[i])
    assert seen == EVERY


def test_sb3_lanes_are_the_single_environment() -> None:
    pytest.importorskip("stable_baselines3")
    env = ebatch_env.make_sb3(ID, 3, seed=20, requests=40)
    singles = [EBatchEnv(**SMALL) for _ in range(3)]
    assert np.array_equal(env.reset(), np.stack([single.reset(seed=20 + i)[0] for i, single in enumerate(singles)]))
    rng = np.random.default_rng(1)
    episodes, seen = 0, set()
    for _ in range(150):
        actions = random_actions(env.action_space, 3, rng)
        observation, reward, dones, _ = env.step(actions)
        for i, single in enumerate(singles):
            alone, alone_reward, done, _, _ = single.step(actions[i])
            assert (np.float32(alone_reward), done) == (reward[i], dones[i])
            if done:
                alone, _ = single.reset()
                episodes += 1
            seen.add(name_of(single.dynamics))
            assert np.array_equal(alone, observation[i])
    assert episodes > 3
    assert seen == EVERY
    env.set_options([{"machine": "tpu"}, {"machine": 0}, {"machine": "v100"}])
    env.reset()
    assert env.dynamics.on.tolist() == [1, 0, 2]


def test_an_episode_is_the_same_trace_on_the_machine_alone() -> None:
    """Its generator first draws the machine; what follows is what the machine's own environment would have drawn."""
    env, seen = EBatchEnv(**SMALL), set()
    for seed in range(6):
        env.reset(seed=seed)
        own = OWN[name_of(env.dynamics)]
        rng = seeding.np_random(seed)[0]
        assert env.system.machines[env.system.draw_machine(rng)].accelerator is env.dynamics.playing(0).accelerator
        alone = EBatchEnv(accelerator=own.accelerator, **ALONE)
        alone.reset(options={"trace": own.sample_trace(rng)})
        choose, over, total = np.random.default_rng(seed), False, 0.0
        assert np.array_equal(alone.dynamics.observation, env.dynamics.observation)
        while not over:
            legal = [np.flatnonzero(mask) for mask in env._mask()]
            action = np.array([choose.choice(indices) for indices in legal])
            plan = env.system.actions.decode(action)
            observation, reward, over, _, info = env.step(action)
            other = alone.step(alone.system.actions.encode(plan)[0])
            assert np.array_equal(observation, other[0])
            assert (reward, over, info["rewards"]) == (other[1], other[2], other[4]["rewards"])
            total += reward
        assert info["episode_metrics"] == other[4]["episode_metrics"]
        seen.add(own.accelerator.name)
    assert seen == EVERY


def test_machines_are_drawn_evenly_and_by_the_seed_alone() -> None:
    fleet = build_system(**{**SMALL, "requests": 1})
    first, again = Dynamics(fleet, 600, threads=1), Dynamics(fleet, 600, threads=2)
    for dynamics in (first, again):
        dynamics.restart(np.arange(600), Streams([seeding.np_random(seed)[0] for seed in range(600)]))
    assert np.array_equal(first.on, again.on)
    assert np.array_equal(first.observation, again.observation)
    assert (np.abs(np.bincount(first.on) - 200) < 60).all()  # of three machines; five standard deviations are 58
    drawn = [fleet.draw_machine(seeding.np_random(seed)[0]) for seed in range(600)]
    assert first.on.tolist() == drawn


def test_observations_show_the_machine_and_are_read_with_its_scales() -> None:
    env = EBatchVectorEnv(6, **SMALL)
    observation, _ = env.reset(seed=3)
    layout = env.system.observations
    on = layout.machine_of(observation)
    assert on.tolist() == env.dynamics.on.tolist()
    assert set(on.tolist()) == {0, 1, 2}
    assert layout.machine_of(observation[0]).shape == ()
    for _ in range(5):
        observation, *_ = env.step(np.array([[0, 7, 1, 0, 0]] * 6))
    duration = layout.read(observation, "last_duration")
    for e, machine in enumerate(on.tolist()):
        own = env.system.machines[machine]
        assert duration[e] == own.observations.read(observation[e], "last_duration")
        assert duration[e] == pytest.approx(np.ptp(env.dynamics.systems.f[e, [7, 8]]), rel=1e-3)
        assert layout.read(observation[e], "max_time_steps") == pytest.approx(own.table.max_time_steps, rel=1e-4)
    assert np.isnan(layout.fields[layout.index["last_duration"]].scale)
    assert layout.fields[layout.index["queue_length"]].scale == 64.0
    assert "| squash | 0.0967028 / 0.0388652 / 0.00478439 |" in layout.markdown()


def test_masks_and_limits_are_those_of_the_machine() -> None:
    env = EBatchEnv(**SMALL)
    at_32 = env.system.actions.levels["time_steps"].tolist().index(32)
    ran = {}
    for name in OWN:
        _, info = env.reset(seed=1, options={"machine": name})
        assert bool(info["action_mask"][0][at_32]) == (name != "epur")
        *_, info = env.step(np.array([at_32, 7, 1, 0, 0]))
        ran[name] = env.dynamics.systems.i[0, 17]
    assert ran == {"epur": 24, "tpu": 32, "v100": 32}  # what is masked and chosen all the same is capped


def test_a_machine_can_be_asked_for() -> None:
    env, trace = EBatchEnv(**SMALL), RequestTrace([0.0, 0.1, 0.2], [5, 9, 3])
    for name, own in OWN.items():
        observation, _ = env.reset(seed=9, options={"machine": name})
        alone = EBatchEnv(accelerator=own.accelerator, **ALONE)  # no machine is drawn, so the work is its own
        assert np.array_equal(observation, alone.reset(seed=9)[0])
        observation, _ = env.reset(options={"machine": name, "trace": trace})
        assert np.array_equal(observation, alone.reset(options={"trace": trace})[0])
    seen = set()
    for seed in range(8):
        env.reset(seed=seed, options={"trace": trace})
        seen.add(name_of(env.dynamics))
        assert env.dynamics.systems.i[0, 0] == 3
    assert seen == EVERY
    vector = EBatchVectorEnv(5, **SMALL)
    vector.reset(seed=0, options={"machine": 1})
    assert vector.dynamics.on.tolist() == [1] * 5
    vector.reset(seed=0, options={"trace": trace, "reset_mask": np.array([True, True, True, False, False])})
    singles = [EBatchEnv(**SMALL) for _ in range(3)]
    for single, e in zip(singles, range(3), strict=True):
        single.reset(seed=e, options={"trace": trace})
    assert vector.dynamics.on.tolist() == [*(int(single.dynamics.on[0]) for single in singles), 1, 1]
    for wrong in ("abacus", 3, -1, True, 0.5, ["tpu"]):
        with pytest.raises(ValueError, match=r"options\['machine'\] must be one of \['epur', 'tpu', 'v100'\]"):
            env.reset(options={"machine": wrong})
    alone = EBatchEnv(accelerator="tpu", **ALONE)
    alone.reset(seed=0, options={"machine": "tpu"})
    with pytest.raises(ValueError, match=r"options\['machine'\] must be one of \['tpu'\]"):
        alone.reset(options={"machine": "epur"})


def test_work_that_python_draws_begins_on_drawn_machines_too() -> None:
    trace = RequestTrace(np.arange(100.0), np.arange(1, 101) % 20 + 1)
    keywords = {**SMALL, "requests": 10, "workload": {"trace": {"arrival_s": trace.arrival_s, "length": trace.length}}}
    vector = EBatchVectorEnv(3, autoreset_mode="SameStep", **keywords)
    assert not vector.dynamics.draws_itself
    singles = [EBatchEnv(**keywords) for _ in range(3)]
    vector.reset(seed=2)
    for i, single in enumerate(singles):
        single.reset(seed=2 + i)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(80):
        actions = random_actions(vector.single_action_space, 3, rng)
        observation, *_ = vector.step(actions)
        for i, single in enumerate(singles):
            alone, _, over, _, _ = single.step(actions[i])
            if over:
                alone, _ = single.reset()
            assert np.array_equal(alone, observation[i])
        seen |= set(vector.dynamics.on.tolist())
    assert seen == {0, 1, 2}


def test_gymnasium_accepts_it() -> None:
    env = gym.make(ID, requests=30)
    check_env(env.unwrapped, skip_render_check=True)
    assert gym.make_vec(ID, num_envs=2).unwrapped.system.machines


def test_pictures_are_of_the_machine_under_way() -> None:
    pytest.importorskip("pygame")
    for mode in ("ansi", "rgb_array"):
        env = EBatchEnv(render_mode=mode, **SMALL)
        for name, own in OWN.items():
            env.reset(seed=0, options={"machine": name})
            for _ in range(6):
                env.step(np.array([2, 7, 1, 0, 0]))
            picture = env.render()
            alone = EBatchEnv(render_mode=mode, accelerator=own.accelerator, **ALONE)
            alone.reset(seed=0)
            for _ in range(6):
                alone.step(alone.system.actions.encode(env.system.actions.decode([[2, 7, 1, 0, 0]]))[0])
            assert np.array_equal(picture, alone.render())
            if mode == "ansi":
                assert picture.startswith(f"MNMT on {name}")
