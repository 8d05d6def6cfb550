"""Every index of the observation against an independent reading of the system."""

from pathlib import Path

import numpy as np
import pytest

from ebatch_env import SCENARIOS, make_system
from ebatch_env.environment.env import EBatchEnv
from ebatch_env.environment.observations import state_fields
from ebatch_env.environment.observing import N_STATE
from ebatch_env.scenarios import scenario
from ebatch_env.simulator import kernel as k

DOC = Path(__file__).parents[2] / "docs" / "observations.md"


def expected(env, last):
    """The state fields from first principles: the trace, who is in which lane, and the last decision."""
    system, s = env.system, env.dynamics.systems
    f, i = s.f[0], s.i[0]
    n, t = int(i[k.NEXT]), f[k.CLOCK]
    arrival, deadline, length = s.rf[0, k.ARRIVAL], s.rf[0, k.DEADLINE], s.ri[0, k.LENGTH]
    assert arrival[n - 1] <= t
    waiting = np.flatnonzero(s.ri[0, k.LANE, :n] == k.NOT_STARTED)
    in_lanes = s.in_lanes(0)
    busy = in_lanes[k.REQUEST] >= 0
    request, left = in_lanes[k.REQUEST][busy], in_lanes[k.LEFT][busy]
    done = length[request] - left
    known, lanes = system.lengths_known, system.lanes
    bins = np.searchsorted(system.mix_edges, length[waiting], side="left")
    out = {
        "queue_length": waiting.size,
        "queue_steps": length[waiting].sum() * known,
        "oldest_wait": t - arrival[waiting[0]] if waiting.size else 0.0,
        "mean_wait": t - arrival[waiting].mean() if waiting.size else 0.0,
        "oldest_length": length[waiting[0]] * known if waiting.size else 0.0,
        "queue_late": (deadline[waiting] <= t).mean() if waiting.size else 0.0,
        "lanes_busy": busy.mean(),
        "lanes_least_left": left.min() * known if busy.any() else 0.0,
        "lanes_mean_left": left.mean() * known if busy.any() else 0.0,
        "lanes_most_left": left.max() * known if busy.any() else 0.0,
        "lanes_mean_done": done.mean() if busy.any() else 0.0,
        "lanes_most_done": done.max() if busy.any() else 0.0,
        "last_planned": i[k.LAST_T],
        "last_steps": i[k.LAST_S],
        "last_started": i[k.LAST_STARTED],
        "last_joined": i[k.LAST_JOINED],
        "last_completed": i[k.LAST_DONE],
        "last_duration": f[k.LAST_END] - f[k.LAST_START],
        **last,
    }
    for b in range(8):
        out[f"queue_mix_{b}"] = (bins == b).mean() * known if waiting.size else 0.0
    for e in range(10):
        out[f"lanes_end_{2**e}"] = (left <= 2**e).sum() / lanes * known
    if waiting.size and np.isfinite(deadline[waiting[0]]):
        out["oldest_slack"] = deadline[waiting[0]] - t
    if busy.any() and np.isfinite(deadline[request]).any():
        out["lanes_least_slack"] = deadline[request].min() - t
    return out


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("env_id", [i for i in SCENARIOS if "Queue" not in i])
def test_fields_are_what_they_say(env_id, known):
    compare(EBatchEnv(**{**scenario(env_id).keywords, "requests": 150, "load": 1.5, "lengths_known": known}))


@pytest.mark.parametrize("lengths", ["fixed", "uniform"])
def test_hundreds_that_come_and_enter_at_once(lengths):
    """More than the 255 that the kernel counts in one go."""
    law = {"kind": "fixed", "length": 5} if lengths == "fixed" else {"kind": "uniform", "low": 1, "high": 9}
    work = {"lengths": law, "arrivals": "all-at-once"}
    env = EBatchEnv(network="IMDB", workload=work, lanes=320, requests=1400, deadline=3.0)
    most = compare(env)
    assert most["waiting"] == 1400
    assert most["started"] > 255
    assert most["shed"] > 0


def compare(env):
    """Play an episode by chance, comparing every field at every decision; how many waited, started and were shed at most."""
    most = {"waiting": 0, "started": 0, "shed": 0}
    layout = env.system.observations
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=1)
    over, before = False, env.dynamics.systems.i[0].copy()
    last = {"last_held": 0.0, "last_shed": 0.0}
    while not over:
        for name, value in expected(env, last).items():
            read = float(layout.read(observation, name))
            assert read == pytest.approx(
                value, rel=2e-4, abs=2e-6 * max(1.0, layout.fields[layout.index[name]].scale)
            ), name
        before = env.dynamics.systems.i[0].copy()
        action = np.array([rng.choice(np.flatnonzero(m)) for m in info["action_mask"]])
        observation, _, over, _, info = env.step(action)
        after = env.dynamics.systems.i[0]
        last = {
            "last_held": float(after[k.HOLDS] - before[k.HOLDS]),
            "last_shed": float(after[k.SHED] - before[k.SHED]),
        }
        seen = {"waiting": before[k.WAITING], "started": after[k.LAST_STARTED], "shed": last["last_shed"]}
        most = {name: max(most[name], int(value)) for name, value in seen.items()}
    return most


def test_arrival_rates_follow_the_load():
    env = EBatchEnv(requests=4000, load=0.5, workload="translation", controls=["time_steps"])
    layout = env.system.observations
    observation, _ = env.reset(seed=0)
    rates, over = [], False
    while not over:
        observation, _, over, _, _ = env.step(np.array([3]))
        rates.append(float(layout.read(observation, "rate_long")))
    mean = np.mean(rates[20:-20]) / env.system.saturation.throughput_rps
    assert mean == pytest.approx(0.5, rel=0.08)


def test_constants_describe_the_machine():
    for system in (machine for env_id in SCENARIOS for machine in make_system(env_id).machines):
        layout, row = system.observations, system.constants
        assert layout.read(row, "lanes") == pytest.approx(system.lanes, rel=1e-5)
        assert layout.read(row, "max_time_steps") == pytest.approx(system.table.max_time_steps, rel=1e-4)
        assert layout.read(row, "load_s") == pytest.approx(system.table.load_s.sum(), rel=1e-4)
        assert layout.read(row, "step_s_1") == pytest.approx(system.table.step_s[:, system.lanes].sum(), rel=1e-4)
        assert bool(layout.read(row, "notifies")) == system.table.notifies
        assert not row[:N_STATE].any()


def test_kernel_and_layout_agree_on_where_the_constants_begin():
    fields = state_fields(lanes=1, mean_length=1.0, latency_s=1.0, throughput_rps=1.0, mix_edges=[1] * 7)
    assert len(fields) == N_STATE


def test_the_documented_table_is_this_version():
    system = make_system("ebatch/EPUR-Translation-v0")
    assert system.observations.markdown() in DOC.read_text(), "run: python docs/generate.py"
