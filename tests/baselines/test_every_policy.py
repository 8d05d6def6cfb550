"""What holds for all schedulers, on every registered environment and on machines of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebatch_baselines import Baseline
from ebatch_baselines.batch_queue import OptimalQueue, not_a_batch_queue
from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.system import System
from ebatch_env.scenarios import SCENARIOS
from ebatch_env.scoring.policy import Policy

KINDS: dict[str, dict[str, Any]] = {
    "hidden lengths": {"lengths_known": False},
    "no deadlines, long holds": {"deadline": None, "hold": float("inf")},
    "few controls": {"controls": ["time_steps", "admit"], "plan": {"joins": False}},
    "flat action": {"flat_actions": True, "controls": ["admit", "joins", "shed"]},
    "odd levels": {"time_step_levels": [3, 7], "admit_levels": [0, 3, None]},
    "no notifications": {"network": "LDLRNN", "accelerator": {"name": "epur", "notifies": False}},
    "whole sequences": {"network": "EESEN", "accelerator": "tpu", "lanes": 4},
    "one lane": {"lanes": 1},
}


def play(policy: Baseline, seeds: list[int]) -> tuple[list[list[list[int]]], list[tuple[int, int, bool]]]:
    """Actions of every lane until its end, and its served, shed, truncated."""
    n, codec = len(seeds), policy.system.actions
    dynamics = Dynamics(policy.system, n, threads=1)
    dynamics.restart(np.arange(n), [np.random.default_rng(seed) for seed in seeds])
    over, state = np.zeros(n, np.bool_), None
    actions: list[list[list[int]]] = [[] for _ in seeds]
    hold = codec.mask() - codec.mask(hold=False)  # what is masked only once nothing more will arrive
    while not over.all():
        chosen, state = policy.predict(dynamics.observation, state)
        rows = chosen.reshape(n, -1)
        for e in np.flatnonzero(~over):
            actions[e].append(rows[e].tolist())
            allowed = codec.split_mask(dynamics.mask[e] | hold)
            masks = [allowed] if codec.flat else allowed
            assert all(mask[index] for mask, index in zip(masks, rows[e], strict=True))
        dynamics.step(np.ascontiguousarray(rows), waits=over)
        over = over | dynamics.terminated | dynamics.truncated
    metrics = [dynamics.metrics(e) for e in range(n)]
    return actions, [(m.served, m.shed, m.truncated) for m in metrics]


def check(policy: Baseline) -> None:
    assert isinstance(policy, Policy)
    together, outcome = play(policy, [5, 6, 7])
    for (served, shed, truncated), seed, actions in zip(outcome, (5, 6, 7), together, strict=True):
        assert served + shed == policy.system.requests
        assert not truncated
        assert play(policy, [seed])[0][0] == actions


@pytest.mark.parametrize("env_id", SCENARIOS)
def test_plays_every_environment(env_id: str, policy_name: str, scenario_system: Any, policy_class: Any) -> None:
    system = scenario_system(env_id, 16)
    if policy_name == OptimalQueue.name and not_a_batch_queue(system):
        with pytest.raises(ValueError, match="must act on a batch queue"):
            OptimalQueue(system)
        return
    check(policy_class(policy_name)(system))


@pytest.mark.parametrize("kind", KINDS)
def test_plays_every_kind_of_machine(kind: str, policy_name: str, toy: Any, policy_class: Any) -> None:
    if policy_name != OptimalQueue.name:
        check(policy_class(policy_name)(toy(**KINDS[kind])))


def test_one_environment_gets_one_row(policy_name: str, scenario_system: Any, policy_class: Any) -> None:
    system: System = scenario_system("ebatch/Queue-v0", 16)
    policy = policy_class(policy_name)(system)
    observation = system.observations.write({"queue_length": 5.0, "oldest_wait": 1.0})
    one, _ = policy.predict(observation)
    many, _ = policy.predict(np.stack([observation, observation]))
    assert one.shape == (1,)
    assert many.shape == (2, 1)
    assert (many == one).all()


def test_knobs_are_checked(policy_name: str, scenario_system: Any, policy_class: Any) -> None:
    system, policy = scenario_system("ebatch/Queue-v0", 16), policy_class(policy_name)
    names = [knob.name for knob in policy.knobs]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match=rf"knob of '{policy_name}' must be .*, got 'speed'"):
        policy(system, speed=3)
    for knob in policy.knobs:
        assert knob.meaning
        if policy.name != "linear":  # its knobs are too many for a table
            assert f"| `{knob.name}` |" in policy.__doc__
        assert policy(system, **{knob.name: knob.default}).settings[knob.name] == knob.default
        wrong = "no such choice" if knob.choices else knob.high * 2 + 1
        with pytest.raises(ValueError, match=f"^{knob.name} must be .*, got "):
            policy(system, **{knob.name: wrong})


def test_tuned_knobs_fit(policy_name: str, policy_class: Any) -> None:
    policy = policy_class(policy_name)
    known = {knob.name: knob for knob in policy.knobs}
    for env_id in SCENARIOS:
        for name, value in (policy.tuned_knobs(env_id) or {}).items():
            known[name].check(value)
    assert policy.tuned_knobs("ebatch/None-v0") is None
    assert policy.tuned_knobs("ebatch/../base") is None


def test_tuned_knobs_come_from_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, policy_class: Any) -> None:
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "Toy-v0.json").write_text('{"cap": {"knobs": {"cap": 3, "wait_for": 2}, "cost": 1.0}}')
    monkeypatch.setattr("ebatch_baselines.base.resources.files", lambda package: tmp_path)
    assert policy_class("cap").tuned_knobs("ebatch/Toy-v0") == {"cap": 3, "wait_for": 2}
    assert policy_class("greedy").tuned_knobs("ebatch/Toy-v0") is None


def test_wrong_shapes_are_refused(toy: Any, policy_class: Any) -> None:
    system = toy()
    with pytest.raises(ValueError, match="observation must be of shape"):
        policy_class("greedy")(system).predict(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="state must be what the last call returned"):
        policy_class("random")(system).predict(np.zeros((2, system.observations.size), np.float32), np.zeros((3, 1)))
