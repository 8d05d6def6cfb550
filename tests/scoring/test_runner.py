"""The runner: the same results whatever runs beside an episode, and after any interruption."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ebatch_env
from ebatch_env.scoring import runner, seeds
from ebatch_env.scoring.jobs import PolicySpec, system_keywords
from ebatch_env.scoring.records import FIELDS, EpisodeRecord
from ebatch_env.scoring.runner import evaluate, play
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import write_csv
from tests.scoring.policies import ALTERNATING, HERE, PICKY, STEADY, Alternating

TOY = "ebatch/Toy-v0"
BOTH = [STEADY, ALTERNATING]


def test_records_have_the_fields_in_order() -> None:
    record = evaluate(TOY, [STEADY], 1)[0]
    assert list(record.summary()) == list(FIELDS) == [
        "env", "policy", "episode", "seed", "requests", "served", "shed", "energy_j", "energy_per_request_j",
        "latency_mean_s", "latency_p50_s", "latency_p90_s", "latency_p99_s", "throughput_rps", "occupancy", "padding",
        "slo_miss", "cost",
    ]  # fmt: skip
    assert (record.env, record.policy, record.episode, record.seed) == (TOY, STEADY, 0, seeds.EVALUATION_SEED)
    assert sum(record.energy_parts.values()) == pytest.approx(record.energy_j)


def test_records_come_in_the_order_asked_for_and_the_episodes_are_paired() -> None:
    records = evaluate([TOY, "ebatch/Queue-v0"], BOTH, 2, 7, overrides={"requests": 16})
    keys = [(r.env, r.policy, r.episode, r.seed) for r in records]
    assert keys == [(env, policy, i, 7 + i) for env in (TOY, "ebatch/Queue-v0") for policy in BOTH for i in range(2)]


@pytest.mark.parametrize("policy", [STEADY, ALTERNATING])
def test_an_episode_is_that_of_the_single_environment(policy: str) -> None:
    env = gym.make(TOY)
    agent = PolicySpec.parse(policy).make(env.unwrapped.system, TOY)  # type: ignore[attr-defined]
    for record in evaluate(TOY, [policy], 3, 40):
        observation, info = env.reset(seed=record.seed)
        state, start, over = None, np.ones(1, bool), False
        while not over:
            action, state = agent.predict(observation, state, start, deterministic=True)
            observation, _, terminated, truncated, info = env.step(action)
            start, over = np.zeros(1, bool), terminated or truncated
        expected = EpisodeRecord.of(TOY, policy, record.episode, record.seed, info["episode_metrics"])
        assert record == expected


@pytest.mark.parametrize("num_envs", [1, 3, 64])
def test_same_for_any_number_side_by_side(num_envs: int) -> None:
    assert evaluate(TOY, BOTH, 7, num_envs=num_envs) == evaluate(TOY, BOTH, 7)


def test_same_for_any_number_of_processes() -> None:
    assert evaluate(TOY, BOTH, 5, processes=2, num_envs=2) == evaluate(TOY, BOTH, 5)


def test_later_seeds_continue_earlier_ones() -> None:
    ahead, later = evaluate(TOY, [STEADY], 4, 0)[2:], evaluate(TOY, [STEADY], 2, 2)
    assert [dataclasses.replace(r, episode=r.episode + 2) for r in later] == ahead


def test_a_rerun_plays_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[tuple[str, tuple[int, ...]]] = []
    real = runner.play_block

    def count(block: runner.Block) -> list[EpisodeRecord]:
        played.append((block.policy.label, block.episodes))
        if len(played) == 3:
            raise KeyboardInterrupt
        return real(block)

    monkeypatch.setattr(runner, "play_block", count)
    with pytest.raises(KeyboardInterrupt):
        evaluate(TOY, BOTH, 4, num_envs=2, out=tmp_path)
    progress: list[tuple[int, int]] = []
    records = evaluate(TOY, BOTH, 4, num_envs=3, out=tmp_path, progress=lambda *counts: progress.append(counts))
    assert played == [
        (STEADY, (0, 1)),
        (STEADY, (2, 3)),
        (ALTERNATING, (0, 1)),
        (ALTERNATING, (0, 1, 2)),
        (ALTERNATING, (3,)),
    ]
    assert progress == [(4, 8), (7, 8), (8, 8)]
    assert records == evaluate(TOY, BOTH, 4, out=tmp_path) == evaluate(TOY, BOTH, 4)
    played.clear()
    assert len(evaluate(TOY, BOTH, 6, out=tmp_path)) == 12
    assert played == [(STEADY, (4, 5)), (ALTERNATING, (4, 5))]


def test_kept_blocks_serve_only_the_same_question(tmp_path: Path) -> None:
    evaluate(TOY, [STEADY], 2, out=tmp_path)
    changes: list[dict[str, Any]] = [
        {"seed": 5},
        {"policies": [f"{STEADY},time_steps=2"]},
        {"overrides": {"load": 0.7}},
        {"overrides": {"requests": 8}},
    ]
    for change in changes:
        kept = len(list(tmp_path.glob("parts/*")))
        evaluate(**{"env_ids": TOY, "policies": [STEADY], "episodes": 2, "out": tmp_path, **change})
        assert len(list(tmp_path.glob("parts/*"))) == kept + 1, change


def test_a_damaged_block_is_played_again(tmp_path: Path) -> None:
    expected = evaluate(TOY, [STEADY], 2, out=tmp_path)
    (path,) = tmp_path.glob("parts/*/*.json")
    for damage in ("[", "[1]", json.dumps([{"env": "x"}])):
        path.write_text(damage)
        assert evaluate(TOY, [STEADY], 2, out=tmp_path) == expected


def test_an_episode_that_cannot_end_is_truncated() -> None:
    record = evaluate(TOY, [f"{HERE}:Idle"], 1, overrides={"max_decisions": 5})[0]
    assert record.truncated
    assert (record.served, record.shed) == (0, 0)
    assert math.isnan(record.latency_p99_s)
    assert record.summary()["latency_p99_s"] is None
    again = EpisodeRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    assert again.to_dict() == record.to_dict()


def test_knobs_in_the_policys_name() -> None:
    assert PolicySpec.parse("a," + ",".join(f"knob{n}=1" for n in range(2000))).knobs["knob1999"] == 1  # no file's name
    spec = PolicySpec.parse(f"{STEADY},time_steps=4,joins=True,mode=fast,scale=1e-3")
    assert spec.spec == STEADY
    assert spec.knobs == {"time_steps": 4, "joins": True, "mode": "fast", "scale": 0.001}
    slow, quick = evaluate(TOY, [STEADY, f"{STEADY},time_steps=16"], 1)
    assert quick.rounds < slow.rounds


def test_a_policy_that_does_not_fit_is_an_error_or_left_out() -> None:
    skipped: list[tuple[str, str]] = []
    envs = [TOY, "ebatch/Queue-v0"]
    with pytest.raises(ValueError, match="lanes must be 2, got 32"):
        evaluate(envs, [PICKY, STEADY], 1)
    records = evaluate(envs, [PICKY, STEADY], 1, overrides={"requests": 8}, on_skip=lambda *a: skipped.append(a[:2]))
    assert [(r.env, r.policy) for r in records] == [(TOY, PICKY), (TOY, STEADY), (envs[1], STEADY)]
    assert skipped == [(envs[1], PICKY)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env_ids": "ebatch/Nothing-v0"}, "env must be one of ebatch/EPUR"),
        ({"env_ids": []}, "env must be given at least once"),
        ({"env_ids": [TOY, TOY]}, "env must be given once only"),
        ({"policies": []}, "policy must be given at least once"),
        ({"policies": ["nobody"]}, "policy must be a name .*got 'nobody'"),
        ({"policies": [f"{STEADY},time_steps"]}, "form key=value, got 'time_steps'"),
        ({"policies": [f"{STEADY},time_steps=99"]}, r"time_steps must be an integer in \[1, 16\], got 99"),
        ({"policies": [f"{STEADY},speed=9"]}, "unexpected keyword argument 'speed'"),
        (
            {"policies": [f"{HERE}:Wrong"]},
            r"Wrong on ebatch/Toy-v0: actions must be an integer array of",
        ),
        ({"policies": [f"{HERE}:HERE"]}, "str"),
        ({"episodes": 0}, "episodes must be an integer in 1..1000000, got 0"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"processes": 0}, "processes must be an integer >= 1, got 0"),
        ({"num_envs": 65}, "num_envs must be an integer in 1..64, got 65"),
        ({"overrides": {"lode": 1}}, "keyword must be one of network, .*got 'lode'"),
        ({"overrides": {"load": -1}}, "load must be a finite number in"),
        ({"overrides": {"accelerator": 3}}, "accelerator must be"),
        ({"overrides": {"accelerator": "nowhere:Chip"}}, "nowhere"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(**{"env_ids": TOY, "policies": [STEADY], "episodes": 1, **change})


TRACE = RequestTrace(arrival_s=[0.5, 1.0, 4.0, 4.0, 9.0, 30.0], length=[1, 4, 2, 2, 3, 1])


def test_a_trace_is_replayed_at_its_own_pace_or_at_a_load(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    write_csv(path, TRACE)
    (record,) = evaluate(TOY, [STEADY], trace=path)
    expected = play_trace(TRACE)
    assert (record.requests, record.energy_j, record.latency_mean_s) == (6, expected.energy_j, expected.latency_mean_s)
    assert evaluate(TOY, [STEADY], trace=TRACE) == [record]
    (busy,) = evaluate(TOY, [STEADY], trace=path, overrides={"load": 5.0})
    assert busy.throughput_rps > record.throughput_rps
    windows = evaluate(TOY, [STEADY], 8, trace=path, overrides={"requests": 2})
    assert {r.requests for r in windows} == {2}
    assert len({r.latency_mean_s for r in windows}) > 1


def play_trace(trace: RequestTrace) -> Any:
    env = gym.make(TOY)
    agent = PolicySpec.parse(STEADY).make(env.unwrapped.system, TOY)  # type: ignore[attr-defined]
    observation, _ = env.reset(options={"trace": trace})
    while True:
        observation, _, over, _, info = env.step(agent.predict(observation)[0])
        if over:
            return info["episode_metrics"]


def test_a_traces_own_deadlines_hold_unless_others_are_set() -> None:
    hurried = RequestTrace(TRACE.arrival_s, TRACE.length, TRACE.arrival_s + 1e-3)
    assert system_keywords("ebatch/EPUR-Translation-v0", trace=TRACE)["deadline"] == 4.0
    assert system_keywords("ebatch/EPUR-Translation-v0", trace=hurried)["deadline"] is None
    assert system_keywords(TOY, {"deadline": 9.0}, trace=hurried)["deadline"] == 9.0
    (record,) = evaluate(TOY, [STEADY], trace=hurried)
    assert record.slo_miss == 1.0


@pytest.mark.parametrize(
    ("episodes", "overrides", "message"),
    [
        (2, {}, "episodes must be 1 where an episode is the whole trace of 6 requests"),
        (None, {"requests": 7}, "requests must be an integer in 1..6, got 7"),
        (None, {"workload": "speech"}, "keyword must be left out where a trace is given, got 'workload'"),
    ],
)
def test_bad_use_of_a_trace_is_named(episodes: int | None, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(TOY, [STEADY], episodes, trace=TRACE, overrides=overrides)


def test_the_three_uses_of_seeds_do_not_meet() -> None:
    starts = [seeds.TRAINING_SEED, seeds.EVALUATION_SEED, seeds.TUNING_SEED]
    assert min(np.diff(starts)) >= seeds.SEEDS_PER_USE


def test_play_splits_many_seeds() -> None:
    system = ebatch_env.make_system(TOY)
    many = play(system, Alternating(system), range(70))
    assert many[66:] == play(system, Alternating(system), range(66, 70))
