"""Steps shared with the threads that PyTorch works with."""

import copy
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from ebatch_env.environment import compiled, crew, openmp
from ebatch_env.environment.dynamics import Dynamics, Streams
from ebatch_env.environment.fleet import build_system

KEYWORDS = {"workload": "translation-bursty", "deadline": 4.0, "requests": 24, "lanes": 8}
ENVIRONMENTS = 40
STEPS = 60
BETWEEN_S = 2 * crew.BACK_TO_BACK_S
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or openmp._library() is None, reason="PyTorch has another OpenMP here, and lends nothing"
)


@pytest.fixture(autouse=True)
def forty_are_many(monkeypatch):
    monkeypatch.setattr(crew, "WORTH_WAKING", 1)


@pytest.fixture(params=[2, 3])
def learner_threads(request):
    """PyTorch works with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    torch.ones(512, 512) @ torch.ones(512, 512)  # from now on they are there
    torch.ones(1 << 20).exp()
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def system():
    return build_system(**KEYWORDS)


@pytest.fixture(scope="module")
def actions(system):
    rng = np.random.default_rng(1)
    columns = [
        rng.choice(np.flatnonzero(system.actions.legal[c]), size=(STEPS, ENVIRONMENTS)) for c in system.actions.controls
    ]
    return np.ascontiguousarray(np.stack(columns, axis=-1), np.int64)


class Player:
    """Forty systems, and all that is seen of them."""

    def __init__(self, system, threads):
        self.dynamics = Dynamics(system, ENVIRONMENTS, threads, lent=True)
        self.streams = Streams([np.random.default_rng(seed) for seed in range(ENVIRONMENTS)])
        self.dynamics.restart(range(ENVIRONMENTS), self.streams)
        self.seen = [self.dynamics.observation]

    def step(self, row):
        d = self.dynamics
        d.step(row, self.streams)
        self.seen += [d.observation, d.reward, d.terminated, d.truncated, d.mask, d.terms]

    def play(self, actions, between_s=0.0):
        for row in actions:
            time.sleep(between_s)
            self.step(row)
        return self

    @property
    def lends(self):
        team = self.dynamics._crew._team
        return team is not None and np.isfinite(team._quickest_s)


def assert_same(one, other):
    for a, b in zip(one.seen, other.seen, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("threads", [2, 3, 5])  # as many as PyTorch's, fewer and more
def test_a_team_plays_the_same(system, actions, learner_threads, threads):
    lent = Player(system, threads).play(actions, BETWEEN_S)
    assert lent.lends
    assert_same(Player(system, 1).play(actions), lent)


def test_a_team_and_helpers_take_turns(system, actions, learner_threads):
    """Some steps follow at once, others do not."""
    player = Player(system, 3)
    for n, row in enumerate(actions):
        if n % 10 < 3:
            time.sleep(BETWEEN_S)
        player.step(row)
    assert player.dynamics._crew._begun
    assert player.lends
    assert_same(Player(system, 1).play(actions), player)


def test_several_python_threads_have_a_team_each(system, actions, learner_threads):
    players = [Player(system, 2) for _ in range(3)]
    threads = [threading.Thread(target=player.play, args=(actions, BETWEEN_S)) for player in players]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = Player(system, 1).play(actions)
    for player in players:
        assert_same(alone, player)


def test_a_copy_has_a_team_of_its_own(system, actions, learner_threads):
    player = Player(system, 2).play(actions[:20], BETWEEN_S)
    other = copy.deepcopy(player)
    player.play(actions[20:], BETWEEN_S)
    other.play(actions[20:], BETWEEN_S)
    assert other.lends
    assert other.dynamics._crew._team is not player.dynamics._crew._team
    assert_same(player, other)


@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_loses_nothing(system, actions, learner_threads, monkeypatch, after):
    player = Player(system, 2).play(actions[:20], BETWEEN_S)
    run = openmp.Team.run

    def interrupted(team):
        if after:
            run(team)
        raise KeyboardInterrupt

    monkeypatch.setattr(openmp.Team, "run", interrupted)
    monkeypatch.setattr(openmp.Team, "is_ready", lambda _: True)
    time.sleep(BETWEEN_S)
    with pytest.raises(KeyboardInterrupt):
        player.step(actions[20])
    monkeypatch.undo()
    player.play(actions[21:], BETWEEN_S)
    alone = Player(system, 1).play(actions)
    per_step = 6
    del alone.seen[1 + 20 * per_step : 1 + 21 * per_step]  # nobody saw the step that was interrupted
    assert_same(alone, player)


def test_a_member_is_the_code_that_everybody_runs(system, actions, learner_threads):
    """No second copy of it is compiled: that would take as long again."""
    assert Player(system, 2).play(actions, BETWEEN_S).lends
    assert len(compiled.work.overloads) == 1


def test_a_slow_team_sits_out_longer_and_longer(system, actions, learner_threads):
    """A thread of it that finds no core holds up the step, where a crew would have waited for nobody."""
    player = Player(system, 2).play(actions, BETWEEN_S)
    team = player.dynamics._crew._team
    team._without, team._next_without, team._quickest_s = 0, openmp.LEAST_WITHOUT, 1e-4
    for without in (64, 128, 256):
        assert team.is_ready()
        team._took(1e-3)
        assert [team.is_ready() for _ in range(without)] == [False] * without
    for without in (448, 392, 343):
        assert team.is_ready()
        team._took(1.5e-4)
        assert team._next_without == without
    for _ in range(20):
        team._took(1.0)
    assert team._without == team._next_without == openmp.MOST_WITHOUT
    assert_same(Player(system, 1).play(actions), player)


@pytest.mark.parametrize("threads", [1, 5])
def test_no_team_of_one_nor_of_many_more_than_there_is_work_for(system, actions, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert not Player(system, 2).play(actions, BETWEEN_S).lends
    torch.set_num_threads(before)


def test_no_team_for_few_systems(system, actions, learner_threads, monkeypatch):
    monkeypatch.setattr(crew, "WORTH_WAKING", ENVIRONMENTS + 1)
    assert not Player(system, 2).play(actions, BETWEEN_S).lends


def test_no_team_without_a_learner(system, actions, learner_threads, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert not Player(system, 2).play(actions, BETWEEN_S).lends


@pytest.mark.parametrize(
    "maps",
    [
        None,
        b"7f00-7f01 r-xp 0 0:0 0 /usr/lib/libm.so.6\n7f00-7f01 r-xp 0 0:0 0 /tmp/\xff\n",
        b"7f00-7f01 r-xp 0 0:0 0 /usr/lib/libgomp.so.1\n",
        b"7f00-7f01 r-xp 0 0:0 0 /no/torch/libgomp.so.1\n",
    ],
    ids=["no maps", "no OpenMP", "somebody else's", "not loaded"],
)
def test_no_team_where_the_threads_are_not_the_learners(maps, monkeypatch, tmp_path):
    place = tmp_path / "maps"
    if maps is not None:
        place.write_bytes(maps)
    monkeypatch.setattr(openmp, "Path", lambda _: place)
    assert openmp._library() is None


USE = """
import multiprocessing, os, time, torch
torch.set_num_threads(2)
torch.ones(1 << 20).exp()
"""
MAKE = f"""
import ebatch_env, numpy
from ebatch_env.environment import crew
crew.WORTH_WAKING = 1
env = ebatch_env.make_sb3("ebatch/EPUR-Translation-v0", {ENVIRONMENTS}, threads=2, **{KEYWORDS})
env.reset()
actions = numpy.zeros(({ENVIRONMENTS}, env.system.actions.columns), int)
def step():
    time.sleep({BETWEEN_S})
    env.step(actions)
"""
# The environment is made before the fork, or after it by the child alone.
BEFORE = f"""
{USE}{MAKE}
step()
assert env.dynamics._crew._team.is_ready()
child = os.fork()
step()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("both")
"""
AFTER = f"""
{USE}
def live():
    exec({MAKE!r}, globals())
    step()
child = multiprocessing.get_context("fork").Process(target=live)
child.start()
child.join()
assert child.exitcode == 0
print("both")
"""


@pytest.mark.parametrize("code", [BEFORE, AFTER], ids=["before", "after"])
def test_the_child_of_a_fork_does_without(code):
    """GNU's OpenMP would wait there for threads that only the parent has."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("both\n", 0), done.stderr
