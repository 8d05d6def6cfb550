"""Policies, evaluation and tuning on several machines: all as on each machine alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils import seeding

import ebatch_env
from ebatch_baselines import Baseline
from ebatch_baselines.batch_queue import Greedy
from ebatch_env import System
from ebatch_env.compatibility import Interface, ScenarioVersion
from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.jobs import PolicySpec, build_system, fingerprint, is_whole_trace, system_keywords
from ebatch_env.scoring.policy import PerMachine, make_policy
from ebatch_env.scoring.runner import evaluate, play
from ebatch_env.scoring.tuning import tune

ID = "ebatch/Machines-v0"
SMALL = {"requests": 48}
FLEET = ebatch_env.make_system(ID, **SMALL)
NAMES = ("epur", "tpu", "v100")
ALONE = [ebatch_env.make_system(ID, **SMALL, accelerator=name) for name in NAMES]
POLICIES = (
    "ebatch",
    "clipper-aimd",
    "random",
    "padded",
    "lazy",
    "continuous",
)  # with memory, with tables, with neither


def observations(policy: Any, steps: int = 100, lanes: int = 8) -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """What ``policy`` saw, where episodes began, and what it did."""
    dynamics = Dynamics(FLEET, lanes, threads=1)
    rngs = [seeding.np_random(seed)[0] for seed in range(lanes)]
    dynamics.restart(range(lanes), rngs)
    seen, state, start = [], None, np.ones(lanes, bool)
    for _ in range(steps):
        actions, state = policy.predict(dynamics.observation, state, start)
        seen.append((dynamics.observation, start, actions))
        dynamics.step(actions)
        start = dynamics.terminated | dynamics.truncated
        if start.any():
            dynamics.restart(np.flatnonzero(start), rngs)
    return seen


@pytest.mark.parametrize("name", POLICIES)
def test_each_row_gets_what_its_machines_own_policy_says(name: str) -> None:
    """A lane at a time, memory begun anew where an episode begins, by the policy of the machine that it is on."""
    policy = make_policy(name, FLEET)
    assert isinstance(policy, PerMachine)
    seen = observations(policy)
    own = [make_policy(name, machine) for machine in FLEET.machines]
    changes = 0
    for e in range(seen[0][0].shape[0]):
        state, before = None, None
        for rows, start, actions in seen:
            machine = int(FLEET.observations.machine_of(rows[e]))
            if start[e]:
                changes += before is not None and machine != before
                state, before = None, machine
            assert machine == before
            expected, state = own[machine].predict(rows[[e]], state, start[[e]])
            assert actions[e].tolist() == expected[0].tolist()
    assert changes > 0


def test_one_row_and_wrong_shapes() -> None:
    policy = make_policy("clipper-aimd", FLEET)
    rows = np.stack([machine.constants for machine in FLEET.machines])
    many, _ = policy.predict(rows)
    for row, expected in zip(rows, many, strict=True):
        action, state = policy.predict(row)
        assert action.tolist() == expected.tolist()
        assert policy.predict(row, state, np.array([True]))[0].tolist() == expected.tolist()
    for wrong in (rows[:, :5], rows[None], rows[:0]):
        with pytest.raises(ValueError, match="observation must be of shape"):
            policy.predict(wrong)
    flat = ebatch_env.make_system(ID, **SMALL, flat_actions=True)
    assert make_policy("ebatch", flat).predict(rows)[0].shape == (3,)


def test_a_baseline_takes_one_machine() -> None:
    with pytest.raises(ValueError, match=r"system must be a System, one machine; .*, got 'Fleet'"):
        Baseline(FLEET)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="policy must be an object with a method predict"):
        PolicySpec("none", "builtins:id").make(FLEET, ID)
    with pytest.raises(ValueError, match="knob of 'ebatch' must be"):
        make_policy("ebatch", FLEET, knobs={"colour": 1})


@pytest.mark.parametrize("name", POLICIES)
def test_an_episode_scores_as_the_same_trace_on_the_machine_alone(name: str) -> None:
    seeds = range(6)
    together = play(FLEET, make_policy(name, FLEET), seeds)
    assert together == play(FLEET, make_policy(name, FLEET), seeds, num_envs=2)
    used = set()
    for seed, metrics in zip(seeds, together, strict=True):
        rng = seeding.np_random(seed)[0]
        machine = FLEET.draw_machine(rng)
        own = ALONE[machine]
        assert isinstance(own, System)
        used.add(machine)
        dynamics = Dynamics(own, 1, threads=1)
        dynamics.load([own.sample_trace(rng)], [0])
        policy, state, start, over = make_policy(name, own), None, np.ones(1, bool), False
        if name == "random":  # draws among the same levels, at other places of the list
            policy = make_policy(name, FLEET.machines[machine])
        while not over:
            actions, state = policy.predict(dynamics.observation, state, start)
            if name == "random":
                actions = own.actions.encode(FLEET.actions.decode(actions))
            dynamics.step(np.ascontiguousarray(actions))
            start, over = np.zeros(1, bool), bool(dynamics.terminated[0])
        assert dynamics.metrics(0) == metrics
        assert set(metrics.energy_parts) == {*own.table.parts, "static"}
    assert used == {0, 1, 2}


def test_evaluation_keeps_its_records(tmp_path: Path) -> None:
    keywords: dict[str, Any] = {"episodes": 5, "overrides": SMALL, "seed": 30}
    records = evaluate(ID, ["ebatch", "greedy"], out=tmp_path, **keywords)
    assert records == evaluate(ID, ["ebatch", "greedy"], out=tmp_path, num_envs=1, **keywords)
    drawn = [FLEET.machines[FLEET.draw_machine(seeding.np_random(seed)[0])].accelerator.name for seed in range(30, 35)]
    assert [record.machine for record in records] == drawn * 2
    assert set(drawn) == set(NAMES)


def test_one_set_of_knobs_is_tuned_over_all_machines() -> None:
    (found,) = tune(ID, ["cellular"], trials=3, episodes=4, seed=50, overrides=SMALL)
    assert set(found.knobs) == {knob.name for knob in make_policy("cellular", FLEET.machines[0]).knobs}  # type: ignore[attr-defined]
    costs = [m.cost for m in play(FLEET, make_policy("cellular", FLEET, knobs=found.knobs), range(50, 54))]
    assert found.cost == pytest.approx(np.mean(costs))
    assert found.cost <= found.default_cost


def test_every_machine_is_in_the_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    def stored(*machines: str) -> str:
        system = build_system(system_keywords(ID, {**SMALL, "accelerator": list(machines)}))
        spec = PolicySpec.parse("greedy")
        return fingerprint(system, spec.make(system, ID), spec, ID, 0)

    assert len({stored("epur", "tpu"), stored("tpu", "epur"), stored("epur", "tpu-baseline"), stored("epur")}) == 4
    before = stored("epur", "tpu")
    with monkeypatch.context() as patch:  # knobs that were tuned since
        patch.setattr(Greedy, "tuned_knobs", classmethod(lambda cls, env_id: {"order": "shortest"}))
        assert stored("epur", "tpu") != before
    assert stored("epur", "tpu") == before
    version = ScenarioVersion.of(ID)
    alone = {name: ScenarioVersion.of(f"ebatch/{name}-Translation-v0") for name in ("EPUR", "TPU")}
    for part in ("machine", "reference", "hold_s"):
        assert version.parts[part] not in {other.parts[part] for other in alone.values()}
    entry = scenario(ID)
    changed = type(entry)(ID, "", {**entry.keywords, "accelerator": ["epur", "tpu-baseline", "v100"]})
    monkeypatch.setattr("ebatch_env.compatibility.scenario", lambda env_id: changed)
    with pytest.raises(ValueError, match=r"machine, reference, hold_s.* differ|machine, .*reference.* differ"):
        version.check()


def test_what_was_trained_on_all_fits_each() -> None:
    interface = Interface.of(FLEET)
    again = Interface.from_dict(json.loads(json.dumps(interface.to_dict())))
    assert again == interface
    assert len(interface.others) == 2
    again.check(FLEET)
    levels = {"time_step_levels": [*FLEET.actions.levels["time_steps"][:-1].tolist(), None]}
    for name in NAMES:
        alone = ebatch_env.make_system(ID, **levels, accelerator=name)
        again.check(alone)
        assert Interface.of(alone).observation_fingerprint != interface.observation_fingerprint
        with pytest.raises(ValueError, match="the scale of observation field 'oldest_wait' must be"):
            Interface.of(alone).check(FLEET)
        Interface.of(alone).check(FLEET, transfer=True)
    with pytest.raises(ValueError, match="levels of time_steps must be"):
        again.check(ALONE[0])
    other = ebatch_env.make_system(ID, **levels, accelerator=["epur", "tpu-baseline", "v100"])
    with pytest.raises(ValueError, match="as trained; transfer=true"):
        again.check(other)


def test_a_whole_trace_is_played_on_drawn_machines() -> None:
    trace = ebatch_env.RequestTrace(np.arange(30.0), np.full(30, 7))
    system = build_system(system_keywords(ID, None, trace))
    assert not is_whole_trace(system)  # episodes differ in their machines
    assert is_whole_trace(system.machines[0])
    assert len(evaluate(ID, ["greedy"], episodes=3, trace=trace)) == 3
