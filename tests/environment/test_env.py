"""The single environment keeps Gymnasium's contract and the simulator's numbers."""

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from ebatch_env import SCENARIOS, Objective, RequestTrace, RoundPlan, Simulator, make_sb3
from ebatch_env.environment.env import EBatchEnv
from ebatch_env.scenarios import scenario
from ebatch_env.simulator import kernel as k
from ebatch_env.workloads import Fixed

IDS = list(SCENARIOS)
SMALL = {"requests": 48}


def play(env, seed, rng, masked=True):
    """One episode of random actions: rewards, infos, actions."""
    observation, info = env.reset(seed=seed)
    rewards, infos, actions = [], [info], []
    over = False
    while not over:
        assert env.observation_space.contains(observation)
        mask = info["action_mask"]
        choice = [rng.choice(np.flatnonzero(m) if masked else m.size) for m in mask]
        observation, reward, terminated, truncated, info = env.step(np.array(choice))
        rewards.append(reward)
        infos.append(info)
        actions.append(choice)
        over = terminated or truncated
    return rewards, infos, actions


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_checker_has_nothing_to_say(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, **SMALL).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("env_id", IDS)
def test_stable_baselines3_checker_has_nothing_to_say(env_id):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(gym.make(env_id, **SMALL).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_spec_survives_json(env_id):
    spec = gym.spec(env_id)
    again = EnvSpec.from_json(spec.to_json())
    assert json.loads(spec.to_json())["id"] == env_id
    first, second = gym.make(spec, **SMALL), gym.make(again, **SMALL)
    assert np.array_equal(first.reset(seed=3)[0], second.reset(seed=3)[0])


def test_registering_twice_does_no_harm():
    from ebatch_env.scenarios import register_all

    register_all()
    assert set(IDS) <= set(gym.registry)


@pytest.mark.parametrize("env_id", IDS)
def test_return_is_the_credit_less_the_cost(env_id):
    env = EBatchEnv(**{**scenario(env_id).keywords, "requests": 200})
    rewards, infos, _ = play(env, 7, np.random.default_rng(1))
    metrics = infos[-1]["episode_metrics"]
    assert metrics.served + metrics.shed == 200
    assert sum(rewards) == pytest.approx(env.system.objective.credit - metrics.cost, abs=1e-9)
    for reward, info in zip(rewards, infos[1:], strict=True):
        assert sum(info["rewards"].values()) == pytest.approx(reward, abs=1e-12)
        assert all(info["rewards"][term] <= 0 for term in ("energy", "latency", "miss", "shed"))
    assert sum(info["rewards"]["credit"] for info in infos[1:]) == pytest.approx(env.system.objective.credit)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    weights=st.tuples(*[st.floats(0, 10)] * 5),
    seed=st.integers(0, 2**31),
    load=st.sampled_from([0.1, 0.9, 3.0]),
    deadline=st.sampled_from([None, 0.5, 3.0]),
)
def test_return_identity_holds_for_any_weights(weights, seed, load, deadline):
    objective = Objective(*weights)
    env = EBatchEnv(
        requests=60, lanes=8, load=load, deadline=deadline, objective=objective, workload="translation-bursty"
    )
    rewards, infos, _ = play(env, seed, np.random.default_rng(seed), masked=False)
    assert sum(rewards) == pytest.approx(objective.credit - infos[-1]["episode_metrics"].cost, abs=1e-9)


def test_cost_is_what_its_parts_say():
    env = EBatchEnv(**{**scenario("ebatch/EPUR-Translation-v0").keywords, "requests": 300, "load": 1.5})
    _, infos, _ = play(env, 2, np.random.default_rng(0))
    metrics, sat, weights = infos[-1]["episode_metrics"], env.system.saturation, env.system.objective
    state = env.dynamics.systems
    integral_s, missed = float(state.f[0, k.INTEGRAL]), int(state.i[0, k.MISSED])
    parts = (
        weights.energy * metrics.energy_j / sat.energy_per_request_j,
        weights.latency * integral_s / sat.latency_s,
        weights.miss * missed,
        weights.shed * metrics.shed,
    )
    assert min(parts) > 0
    assert metrics.cost == pytest.approx(sum(parts) / 300, rel=1e-12)
    # Served requests were in the system for their latency, shed ones for a while: until the end at the longest.
    served_s = metrics.latency_mean_s * metrics.served
    assert served_s < integral_s < served_s + metrics.shed * (state.f[0, k.CLOCK] - state.rf[0, k.ARRIVAL, 0])
    # A request dropped before its deadline is shed, one dropped after it is a miss as well.
    late = round(metrics.slo_miss * 300) - metrics.shed
    assert 0 < late <= missed <= late + metrics.shed
    assert sum(metrics.energy_parts.values()) == pytest.approx(metrics.energy_j, rel=1e-12)


@pytest.mark.parametrize("env_id", [i for i in IDS if "Queue" not in i])
def test_env_plays_what_the_simulator_plays(env_id):
    env = EBatchEnv(**{**scenario(env_id).keywords, "requests": 120})
    last = len(env.system.machines) - 1
    system = env.system.machines[last]
    trace = system.sample_trace(np.random.default_rng(11))
    rng = np.random.default_rng(5)
    _, info = env.reset(options={"trace": trace, "machine": last})
    plans, total, over = [], 0.0, False
    while not over:
        action = np.array([rng.choice(np.flatnonzero(mask)) for mask in info["action_mask"]])
        plan = system.actions.decode(action)
        codes = [int(getattr(plan, name)[0]) for name in ("time_steps", "admit", "joins", "order", "shed")]
        steps, admit = codes[0] or None, None if codes[1] < 0 else codes[1]
        plans.append(RoundPlan(steps, admit, bool(codes[2]), codes[3], bool(codes[4])))
        _, reward, over, _, info = env.step(action)
        total += reward
    log = Simulator(system.table, system.lanes, trace, hold_s=system.hold_s).run(lambda view: plans[view.decision])
    metrics = info["episode_metrics"]
    assert log.decisions == len(plans)
    assert log.energy_j == metrics.energy_j
    assert log.served == metrics.served
    latency = log.latency_s[np.isfinite(log.latency_s)]
    assert np.percentile(latency, [50, 90, 99]).tolist() == [
        metrics.latency_p50_s,
        metrics.latency_p90_s,
        metrics.latency_p99_s,
    ]
    price = system.cost_per_unit()
    cost = np.dot(price[:4], [log.energy_j, log.latency_integral_s, log.missed, log.shed.sum()]) / 120
    assert total == pytest.approx(system.objective.credit - cost, abs=1e-9)


def test_same_seed_same_episode_and_fresh_arrays():
    first, second = (EBatchEnv(**SMALL, workload="translation-bursty") for _ in range(2))
    a, b = (play(env, 4, np.random.default_rng(9)) for env in (first, second))
    assert a[0] == b[0]
    env = EBatchEnv(**SMALL)
    kept = [env.reset(seed=0)[0]]
    copies = [kept[0].copy()]
    for _ in range(3):
        kept.append(env.step(env.action_space.sample())[0])
        copies.append(kept[-1].copy())
    assert all(np.array_equal(x, y) for x, y in zip(kept, copies, strict=True))


def test_reward_is_a_python_float():
    env = EBatchEnv(**SMALL)
    env.reset(seed=0)
    _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert type(reward) is float
    assert type(terminated) is bool
    assert type(truncated) is bool


def test_flat_actions_are_the_same_plans():
    split, flat = EBatchEnv(**SMALL), EBatchEnv(**SMALL, flat_actions=True)
    assert isinstance(flat.action_space, gym.spaces.Discrete)
    assert flat.action_space.n == np.prod(split.action_space.nvec)
    _, infos, actions = play(split, 3, np.random.default_rng(2))
    flat.reset(seed=3)
    for action, info in zip(actions, infos[1:], strict=True):
        index = np.ravel_multi_index(action, tuple(split.action_space.nvec))
        *_, last = flat.step(index)
        assert last["rewards"] == info["rewards"]
        sizes = [m.size for m in info["action_mask"]]
        outer = np.ones(1, bool)
        for mask in info["action_mask"]:
            outer = (outer[:, None] & mask.astype(bool)).ravel()
        assert np.array_equal(last["action_mask"], outer.astype(np.int8))
        assert len(sizes) == 5


def test_masks_say_what_the_machine_can_do():
    plain = EBatchEnv(**SMALL)
    time_steps, admit, joins, order, shed = plain.reset(seed=0)[1]["action_mask"]
    assert time_steps.all()
    assert admit.all()
    assert joins.tolist() == [1, 1]
    assert order.tolist() == [1, 1, 1]
    assert shed.tolist() == [1, 0]  # no deadlines
    assert np.array_equal(plain.action_masks(), np.concatenate([time_steps, admit, joins, order, shed]).astype(bool))
    hidden = EBatchEnv(**SMALL, lengths_known=False, deadline=3.0, accelerator="epur-baseline")
    _, _, joins, order, shed = hidden.reset(seed=0)[1]["action_mask"]
    assert joins.tolist() == [1, 0]  # no notifications, no joins
    assert order.tolist() == [1, 0, 0]
    assert shed.tolist() == [1, 1]


def test_a_bidirectional_network_runs_whole_sequences_only():
    env = EBatchEnv(
        network="EESEN", lanes=2, workload={"lengths": {"kind": "uniform", "low": 50, "high": 90}}, requests=20
    )
    _, info = env.reset(seed=0)
    time_steps, _, joins, _, _ = info["action_mask"]
    assert time_steps.tolist() == [0] * (time_steps.size - 1) + [1]
    assert joins.tolist() == [1, 0]
    while True:  # an illegal T of 1 runs the sequences whole all the same
        *_, terminated, _, info = env.step(np.array([0, admits_all(env), 1, 0, 0]))
        left = env.dynamics.systems.lanes[0, 1]
        assert not left.any()
        if terminated:
            break
    with pytest.raises(ValueError, match="fits that many time-steps"):
        EBatchEnv(network="EESEN", lanes=64, workload="speech")


def admits_all(env):
    return env.system.actions.levels["admit"].size - 1


def test_hold_waits_for_the_next_arrival_but_never_past_the_last():
    env = EBatchEnv(**{**scenario("ebatch/Toy-v0").keywords, "hold": float("inf")})
    trace = RequestTrace([0.0, 5.0, 7.0], [2, 1, 1])
    observation, info = env.reset(options={"trace": trace})
    clock = env.dynamics.systems.f[0]
    hold = np.array([0, 0, 1, 0, 0])
    for expected in (5.0, 7.0):
        assert info["action_mask"][1][0] == 1
        observation, _, terminated, _, info = env.step(hold)
        assert clock[0] == expected
        assert env.system.observations.read(observation, "last_held") == 1.0
        assert not terminated
    assert info["action_mask"][1].tolist() == [0, 1, 1]  # nothing more will arrive: holding is illegal ...
    env.step(np.array([5, 0, 1, 0, 0]))  # ... and chosen all the same admits all
    assert env.dynamics.systems.i[0, 4] + env.dynamics.systems.i[0, 5] >= 2


def test_an_index_out_of_range_is_refused():
    env = EBatchEnv(**SMALL)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action\[1\] \(admit\) must be an integer in 0\.\.7, got 8"):
        env.step(np.array([0, 8, 0, 0, 0]))
    flat = EBatchEnv(**SMALL, flat_actions=True)
    flat.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must be an integer in 0\.\."):
        flat.step(-1)


@pytest.mark.parametrize(
    ("action", "got"),
    [
        (None, "got None"),
        ([0, 0, 0, 0], r"got \[0, 0, 0, 0\]"),
        ([[0, 0, 0, 0, 0]] * 2, "got"),
        (np.zeros(5), "got array"),
        ([0, float("nan"), 0, 0, 0], "nan"),
        ([True] * 5, "True"),
        ("a", "got 'a'"),
        ([[0, 0], [0]], "got"),
    ],
)
def test_an_action_of_another_shape_or_kind_is_refused(action, got):
    env = EBatchEnv(**SMALL)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"action must be an integer array of shape \(1, 5\).*{got}"):
        env.step(action)
    env.step([0, 0, 0, 0, 0])  # nothing has happened meanwhile
    assert env.dynamics.systems.i[0, k.DECISIONS] == 1


def test_steps_need_a_reset():
    env = EBatchEnv(**SMALL)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())
    play(env, 0, np.random.default_rng(0))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())


def test_truncation_says_so():
    env = EBatchEnv(**SMALL, max_decisions=3)
    rewards, infos, actions = play(env, 0, np.random.default_rng(0))
    assert len(actions) == 3
    assert infos[-1]["truncation"] == "max_decisions"
    metrics = infos[-1]["episode_metrics"]
    assert metrics.truncated
    resolved = (metrics.served + metrics.shed) / metrics.requests
    assert 0 < resolved < 1
    # What was left undone earned no credit.
    assert sum(rewards) == pytest.approx(env.system.objective.credit * resolved - metrics.cost, abs=1e-12)


def test_load_range_is_drawn_anew_each_episode():
    env = EBatchEnv(requests=512, load=(0.2, 1.2), workload="translation")
    spans = []
    for seed in range(40):
        env.reset(seed=seed)
        spans.append(512 / env.dynamics.systems.rf[0, 0, 511] / env.system.saturation.throughput_rps)
    assert 0.15 < min(spans) < 0.5
    assert 0.9 < max(spans) < 1.4


BAD = [
    ({"load": -0.5}, "load must be a finite number in"),
    ({"load": float("nan")}, "load must be"),
    ({"load": (0.9, 0.1)}, "load must be"),
    ({"lanes": 0}, "lanes must be an integer in 1"),
    ({"lanes": 2.5}, "lanes must be an integer"),
    ({"requests": 0}, "requests must be an integer in 1"),
    ({"deadline": 0}, "deadline must be"),
    ({"hold": 0.0}, "hold must be"),
    ({"hold": float("nan")}, "hold must be"),
    ({"network": "nonsense"}, "nonsense"),
    ({"accelerator": "nonsense"}, "nonsense"),
    ({"workload": "nonsense"}, "nonsense"),
    ({"objective": {"fun": 1.0}}, "objective must be"),
    ({"objective": {"energy": -1.0}}, "objective.energy must be"),
    ({"controls": ()}, "controls must be"),
    ({"controls": ("speed",)}, "controls must be"),
    ({"time_step_levels": []}, "time_step_levels must be"),
    ({"time_step_levels": [0]}, "time_step_levels must be"),
    ({"time_step_levels": [4096]}, "time_steps"),
    ({"admit_levels": [1, 1]}, "admit_levels must be"),
    ({"render_mode": "hologram"}, "render_mode must be one of"),
    ({"lengths_known": "yes"}, "lengths_known must be"),
    ({"max_decisions": 0}, "max_decisions must be"),
    ({"plan": {"time_steps": 0}}, "time_steps must be"),
    ({"load": None}, r"load must be a number or a pair \(low, high\), got None"),
    ({"load": "0.8"}, "load must be a number or a pair .*, got '0.8'"),
    ({"load": (0.1, 0.2, 0.3)}, "load must be a number or a pair"),
    ({"load": 1e-9}, r"load must be a finite number in \[1e-06, 1000\], got 1e-09"),
    ({"plan": 3}, "plan must be a RoundPlan or a mapping with keys among time_steps, admit, joins, order, shed, got 3"),
    ({"plan": {"speed": 3}}, "plan must be a RoundPlan or a mapping"),
    ({"foo": 1}, "keyword must be one of network, accelerator, .*reference_accelerator, got 'foo'"),
    ({"flat_actions": "no"}, "flat_actions must be True or False, got 'no'"),
    ({"hold": 1e300}, "hold must be"),
    ({"hold": None}, "hold must be a finite number in .*, got None"),
    ({"hold": 1e-30}, "hold_s must be at least .* to move a clock at the last arrival"),
    ({"reference_accelerator": "nonsense"}, "accelerator must be one of"),
    ({"reference_accelerator": 3}, "reference_accelerator=3: accelerator must be a name, a dict, or"),
    ({"accelerator": "nowhere:Chip"}, "accelerator='nowhere:Chip': No module named 'nowhere'"),
    ({"accelerator": 7}, "accelerator=7: accelerator must be a name"),
    ({"workload": "numpy:Nothing"}, "workload='numpy:Nothing': module 'numpy' has no attribute 'Nothing'"),
    (
        {"workload": {"trace": {"arrival_s": [0], "size": [1]}}},
        "workload trace has no parameter 'size'; it takes arrival_s",
    ),
    ({"workload": {"trace": {"arrival_s": [0]}}}, "workload=.*missing 1 required positional argument: 'length'"),
    ({"controls": 5}, "controls must be a list, got 5"),
    ({"controls": "joins"}, "controls must be a list, got 'joins'"),
    ({"time_step_levels": 5}, "time_step_levels must be a list, got 5"),
    ({"admit_levels": "64"}, "admit_levels must be a list, got '64'"),
    ({"episode_metrics": "yes"}, "episode_metrics must be True or False, got 'yes'"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD)
def test_bad_keywords_are_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        EBatchEnv(**keywords)


def test_an_unknown_keyword_is_named_in_every_form():
    for make in (gym.make, gym.make_vec, make_sb3):
        with pytest.raises(ValueError, match=r"keyword must be one of network, .*, got 'foo'"):
            make("ebatch/Toy-v0", foo=1)


def test_bad_reset_options_are_named():
    env = EBatchEnv(**SMALL)
    for options in (5, "trace", ["trace"]):
        with pytest.raises(
            ValueError, match="options must be a mapping with keys among 'trace', 'machine', 'reset_mask', got"
        ):
            env.reset(options=options)
    far = RequestTrace.trusted(np.array([0.0, np.nan]), np.ones(2, np.int32), np.full(2, np.inf))
    with pytest.raises(ValueError, match="arrival_s must be finite"):
        env.reset(options={"trace": far})
    with pytest.raises(ValueError, match="options must be"):
        env.reset(options={"colour": 1})
    with pytest.raises(ValueError, match=r"options\['trace'\] must be a RequestTrace"):
        env.reset(options={"trace": [1, 2]})
    with pytest.raises(ValueError, match="trace.requests must be at most"):
        env.reset(options={"trace": RequestTrace(np.arange(49.0), np.ones(49))})
    with pytest.raises(ValueError, match="trace.length must be"):
        env.reset(options={"trace": RequestTrace([0.0], [10_000])})
    with pytest.raises(ValueError, match="ebatch/Nothing-v0"):
        scenario("ebatch/Nothing-v0")


class Odd:
    """A workload that breaks its own promises."""

    lengths = Fixed(3)

    def __init__(self, trace):
        self.trace = trace

    def sample(self, rng, requests, rate_rps=None, deadline_s=None):
        return self.trace


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (
            RequestTrace(np.arange(48.0), np.full(48, 9)),
            "trace.length must be at most the workload's max_length = 3, got 9",
        ),
        (
            RequestTrace(np.arange(8.0), np.full(8, 3)),
            "requests that the workload samples must be 48, as many as were asked for, got 8",
        ),
        (RequestTrace(np.arange(99.0), np.full(99, 3)), "samples must be 48, as many as were asked for, got 99"),
        (RequestTrace.trusted(np.zeros(0), np.zeros(0, np.int32), np.zeros(0)), "arrival_s must hold at least one"),
        (
            RequestTrace.trusted(np.zeros(4), np.zeros(4, np.int32), np.full(4, np.inf)),
            "length must be finite and >= 1, got 0",
        ),
        (
            RequestTrace.trusted(np.array([0.0, np.nan]), np.ones(2, np.int32), np.full(2, np.inf)),
            "arrival_s must be finite and >= 0 and <= 1e\\+12, got nan at index",
        ),
        (
            RequestTrace.trusted(np.array([1.0, 0.5]), np.ones(2, np.int32), np.full(2, np.inf)),
            "arrival_s must be sorted, got 0.5 after 1.0 at index 1",
        ),
        (None, "what the workload samples must be a RequestTrace"),
    ],
)
def test_a_workload_that_breaks_its_promises_is_refused(trace, message):
    env = EBatchEnv(workload=Odd(trace), **SMALL)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=0)
