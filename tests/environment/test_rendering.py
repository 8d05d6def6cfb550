import gc
import os
import sys
import tracemalloc
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

from ebatch_env import RequestTrace
from ebatch_env.environment import history as h
from ebatch_env.environment import painter as p
from ebatch_env.environment.actions import Plans
from ebatch_env.environment.env import EBatchEnv
from ebatch_env.simulator import kernel as k

TOY = {
    "network": "Toy",
    "accelerator": "toy",
    "lanes": 2,
    "workload": {"lengths": {"kind": "uniform", "low": 1, "high": 4}},
    "requests": 16,
}
# The hand-worked episode of docs/model.md: A (0 s, 3 steps), B (0 s, 1), C (2.5 s, 2), D (9 s, 1).
HAND = RequestTrace(arrival_s=[0.0, 0.0, 2.5, 9.0], length=[3, 1, 2, 1])
A, B, C, D = p.SEQUENCE_COLOURS[:4]


def make(mode="rgb_array", **keywords):
    return EBatchEnv(render_mode=mode, **{**TOY, **keywords})


def action(env, **plan):
    return env.system.actions.encode(Plans.of(1, **plan))[0]


def random_episode(env, seed=0, steps=10_000):
    rng = np.random.default_rng(seed)
    env.action_space.seed(seed)
    _, info = env.reset(seed=int(rng.integers(1000)))
    for _ in range(steps):
        _, _, terminated, truncated, info = env.step(env.action_space.sample(mask=info["action_mask"]))
        yield env
        if terminated or truncated:
            return


def hand_episode(mode="rgb_array", decisions=2, **keywords):
    env = make(mode, **keywords)
    env.reset(options={"trace": HAND})
    for _ in range(decisions):
        env.step(action(env, time_steps=4))
    return env


# --- rgb_array ----------------------------------------------------------------------------------------------------
def test_a_frame_is_a_fresh_uint8_picture_and_deterministic():
    env = hand_episode(decisions=1)
    one, two = env.render(), env.render()
    assert one.shape == (600, 960, 3)
    assert one.dtype == np.uint8
    assert one is not two
    assert one.flags.c_contiguous
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, hand_episode(decisions=1).render())
    one[:] = 0
    np.testing.assert_array_equal(env.render(), two)


def test_frames_change_between_steps():
    frames = [env.render() for env in random_episode(make(), steps=8)]
    for before, after in pairwise(frames):
        assert (before != after).any()


FIRST_ROUND = [(0, 0, 2, p.soften(A)), (0, 2, 5, A), (1, 0, 2, p.soften(B)), (1, 2, 3, B), (1, 3, 5, C)]
SECOND_ROUND = [
    (0, 5, 9, p.WHITE),
    (1, 5, 9, p.WHITE),
    (0, 9, 11, p.soften(D)),
    (0, 11, 12, D),
    (1, 9, 12, p.ROUND_SHADES[0]),
]


@pytest.mark.parametrize(
    ("decisions", "bars", "completions"),
    [
        (1, FIRST_ROUND, [(0, 5), (1, 3), (1, 5)]),
        (2, [*FIRST_ROUND, *SECOND_ROUND], [(0, 5), (1, 3), (1, 5), (0, 12)]),
    ],
)
def test_the_hand_worked_episode_has_its_bars_where_it_should(decisions, bars, completions):
    """One layer: A loads from 0 s and runs 2-5 s, B 2-3 s; C joins, runs 3-5 s; D loads from 9 s and runs 11-12 s."""
    env = hand_episode(decisions=decisions)
    frame = env.render()
    low, high = env._renderer.history.window()
    top, height = p.LANES_PANEL
    rows = [frame[top + height // 4], frame[top + 3 * height // 4]]

    def column(time_s):
        return p.LEFT + round((time_s - low) / (high - low) * p.PANEL_WIDTH)

    for lane, start, end, colour in bars:
        left, right = column(max(start, low)) + 1, column(end) - 1  # without the lines and marks at the ends
        if end > low:
            np.testing.assert_array_equal(rows[lane][left:right], np.tile(colour, (right - left, 1)))
    for lane, completion in completions:
        if completion > low:
            assert tuple(rows[lane][column(completion) - 1]) == p.INK


def test_drawing_needs_no_display_and_leaves_the_process_alone():
    pygame = pytest.importorskip("pygame")
    pygame.display.quit()
    before = dict(os.environ)
    hand_episode().render()
    assert dict(os.environ) == before
    assert not pygame.display.get_init()


@pytest.mark.parametrize("lanes", [1, 2, 3, 64, 128, 200])
@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_any_number_of_lanes(lanes, mode):
    for env in random_episode(make(mode, lanes=lanes, requests=300), steps=12):
        frame = env.render()
    if mode == "rgb_array":
        assert frame.shape == (600, 960, 3)
        assert np.unique(frame.reshape(-1, 3), axis=0).shape[0] > 20
    else:
        assert {len(line) for line in frame.splitlines()} == {h.COLUMNS}
        assert f"{lanes} lanes" in frame


@pytest.mark.parametrize("plan", [{"time_steps": k.LONGEST}, {"time_steps": 1}, {"time_steps": 4, "joins": 0}])
def test_whole_episodes_draw_at_every_decision(plan):
    env = make(lanes=8, requests=60, deadline=2.0)
    env.reset(seed=1)
    while True:
        _, _, terminated, truncated, _ = env.step(action(env, shed=1, **plan))
        env.render()
        if terminated or truncated:
            break
    assert env._renderer.history.i[k.SHED] + env._renderer.history.i[k.SERVED] == 60


# --- what is drawn: the passes of a round -------------------------------------------------------------------------
def check_round(env):
    """Every replayed time that the simulator also keeps must be the simulator's."""
    history = env._renderer.history
    done = history.events[-1].round
    if done is None:
        return 0
    table, rf = env.system.table, history.rf
    tolerance = {"rtol": 1e-12, "atol": 1e-9 * (done.pass_s[1, -1] - done.pass_s[0, 0])}
    assert done.begin_s.shape == done.until_s.shape == (done.request.size, table.n_layers)
    assert (done.begin_s >= done.pass_s[0] - tolerance["atol"]).all()
    assert (done.until_s > done.begin_s).all()
    assert (done.until_s <= done.pass_s[1] + tolerance["atol"]).all()
    if table.notifies:
        np.testing.assert_allclose(done.until_s.max(0), done.pass_s[1], **tolerance)
    joined = ~done.ready
    assert joined.sum() == history.i[k.LAST_JOINED]
    gemm = table.input_floor_s[0] if table.has_input_gemm else 0.0
    np.testing.assert_allclose(done.begin_s[joined, 0] - gemm, rf[k.START, done.request[joined]], **tolerance)
    completion = rf[k.COMPLETION, done.request]
    ended = completion <= history.events[-1].end_s
    assert ended.sum() == history.i[k.LAST_DONE]
    if table.notifies:
        np.testing.assert_allclose(done.until_s[ended, -1], completion[ended], **tolerance)
    return int(joined.sum())


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"network": "LDLRNN", "accelerator": {"name": "toy", "prefetch": True}, "lanes": 5},
        {"network": "MNMT", "accelerator": "epur", "lanes": 16, "workload": "translation"},
        {"network": "MNMT", "accelerator": "epur-baseline", "lanes": 16, "workload": "translation"},
        {"network": "MNMT", "accelerator": "tpu", "lanes": 16, "workload": "translation"},
    ],
)
def test_replayed_times_are_the_simulators(keywords):
    env = make(**{"requests": 200, **keywords})
    joined = sum(check_round(env) for env in random_episode(env))
    assert joined > 0 or not env.system.table.notifies


def test_queue_and_energy_add_up():
    for env in random_episode(make(requests=100, deadline=2.0)):
        history = env._renderer.history
        event = history.events[-1]
        joined = 0 if event.round is None else int((~event.round.ready).sum())
        assert event.queue >= 0
        assert event.queue + event.arrived[1] - event.arrived[0] - joined == history.i[k.WAITING]
        spent = sum(e.power_w * (e.end_s - e.start_s) for e in history.events)
        assert spent <= history.energy_j * (1 + 1e-9)


# --- history ------------------------------------------------------------------------------------------------------
def test_history_is_bounded():
    env = make(requests=20_000, lanes=8)
    env.reset(seed=0)
    sizes = []
    tracemalloc.start()
    for n in range(3000):
        _, _, terminated, truncated, _ = env.step(action(env, time_steps=1))
        assert not terminated
        assert not truncated
        events = env._renderer.history.events
        assert len(events) <= h.MAX_EVENTS
        assert all(event.clock_s >= env._renderer.history.window()[0] for event in events)
        if n % 1000 == 999:
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[-1] < sizes[0] + 200_000


def test_more_decisions_than_are_kept_shorten_the_time_axis():
    env = make(requests=1000, lanes=8)
    env.reset(seed=0)
    history = env._renderer.history
    history.span_s = 1e9
    for _ in range(h.MAX_EVENTS + 10):
        env.step(action(env, time_steps=1))
    assert history.window() == (history.events[0].start_s, history.clock_s)
    assert env.render().shape == (600, 960, 3)


def test_holds_that_take_next_to_no_time_are_drawn_too():
    env = make(hold=1e-9)
    env.reset(seed=0)
    for _ in range(h.MAX_EVENTS + 10):
        env.step(action(env, admit=0))
    assert env.render().shape == (600, 960, 3)


def test_reset_begins_a_new_picture():
    env = hand_episode(decisions=1)
    used = env.render()
    env.reset(options={"trace": HAND})
    assert not env._renderer.history.events
    fresh = env.render()
    assert (fresh != used).any()
    env.step(action(env, time_steps=4))
    np.testing.assert_array_equal(env.render(), used)


# --- ansi ---------------------------------------------------------------------------------------------------------
def test_ansi_shows_lanes_queue_and_counters():
    env = make("ansi")
    env.reset(options={"trace": HAND})
    env.step(action(env, time_steps=1, joins=0))
    lines = [line.rstrip() for line in env.render().splitlines()]
    assert lines[0] == "Toy on toy, 2 lanes"
    assert lines[1] == "lane    0 |a.|"  # A has two steps left; B is complete
    assert lines[2] == "log2 left |1 |"
    assert lines[3] == "queue     |#" + " " * 63 + "| 1"  # C
    assert "clock 3 s" in lines[4]
    assert "served 1 / 4" in lines[4]
    assert "energy 7 J" in lines[6]
    assert lines[7].startswith("last T, ran 1, 1")


def test_ansi_needs_no_pygame(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert isinstance(hand_episode("ansi").render(), str)


def test_a_long_queue_is_cut_to_the_width():
    env = make("ansi", lanes=1, requests=500)
    env.reset(options={"trace": RequestTrace(arrival_s=np.zeros(200), length=np.ones(200))})
    line = env.render().splitlines()[3]
    assert line.rstrip() == "queue     |" + "#" * 63 + ">| 200"


# --- human and life cycle -----------------------------------------------------------------------------------------
def test_human_opens_a_window_and_stays_closed_once_closed(monkeypatch):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = make("human", accelerator={"name": "toy"})
    env.reset(options={"trace": HAND})
    assert pygame.display.get_surface().get_size() == p.SIZE
    assert env.render() is None
    env.step(action(env, time_steps=4))
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
    np.testing.assert_array_equal(shown, hand_episode(decisions=1).render())
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    env.step(action(env, time_steps=4))
    assert not pygame.display.get_init()
    env.reset(seed=0)
    assert not pygame.display.get_init()
    env.close()
    env.close()


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_closing_twice(mode):
    env = hand_episode(mode)
    env.render()
    env.close()
    env.close()


@pytest.mark.parametrize("mode", ["rgb_array", "ansi", "human"])
def test_render_before_reset(mode):
    with pytest.raises(gym.error.ResetNeeded):
        make(mode).render()


@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_missing_pygame_says_what_to_install(mode, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"ebatch-env\[render\]"):
        make(mode).reset(seed=0)


# --- numbers ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (1.0, "1 s"),
        (0.0123, "12.3 ms"),
        (999.9, "1 ks"),
        (2.5e-7, "250 ns"),
        (3e-15, "3 fs"),
        (1e14, "100 Ts"),
    ],
)
def test_engineering(value, text):
    assert h.engineering(value, "s") == text


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 40.0), (12.31, 12.42), (1999.0, 2300.0), (0.0, 0.7)])
def test_ticks_are_round_few_and_inside(low, high):
    marks, decimals = p.ticks(low, high, 7)
    assert 3 <= len(marks) <= 8
    assert low - 1e-9 <= marks[0] < marks[-1] <= high + 1e-9
    texts = [f"{mark:.{decimals}f}" for mark in marks]
    np.testing.assert_allclose([float(text) for text in texts], marks, rtol=1e-12)
    assert len(set(texts)) == len(texts)
