"""Steps shared with the threads that PyTorch works with."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from ebatch_env.environment import compiled, crew, openmp
from ebatch_env.environment.vector import EBatchVectorEnv

KEYWORDS = {"workload": "translation-bursty", "deadline": 4.0, "requests": 24, "lanes": 8, "autoreset_mode": "SameStep"}
ENVIRONMENTS = 40
BETWEEN_S = 2 * crew.BACK_TO_BACK_S


@pytest.fixture(params=[2, 3])
def learner_threads(request):
    """PyTorch works with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def play(threads, between_s=0.0, steps=60):
    """All that is seen of an episode or two, and whether a team had a part in it."""
    env = EBatchVectorEnv(ENVIRONMENTS, threads=threads, **KEYWORDS)
    codec, rng = env.system.actions, np.random.default_rng(1)
    columns = [rng.choice(np.flatnonzero(codec.legal[c]), size=(steps, ENVIRONMENTS)) for c in codec.controls]
    seen = [env.reset(seed=7)[0]]
    for actions in np.stack(columns, axis=-1):
        time.sleep(between_s)
        observation, reward, terminated, truncated, info = env.step(actions)
        seen += [observation, reward, terminated, truncated, info["action_mask"]]
    env.close()
    return seen, env.dynamics._crew._team is not None


@pytest.mark.parametrize("threads", [2, 3, 5])  # as many as PyTorch's, fewer and more
def test_a_team_plays_the_same(learner_threads, threads):
    alone, _ = play(1)
    shared, lent = play(threads, BETWEEN_S)
    assert lent
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_team_and_helpers_take_turns(learner_threads):
    """Some steps follow at once, others do not."""
    alone, _ = play(1)
    env = EBatchVectorEnv(ENVIRONMENTS, threads=3, **KEYWORDS)
    codec, rng = env.system.actions, np.random.default_rng(1)
    columns = [rng.choice(np.flatnonzero(codec.legal[c]), size=(60, ENVIRONMENTS)) for c in codec.controls]
    seen = [env.reset(seed=7)[0]]
    for n, actions in enumerate(np.stack(columns, axis=-1)):
        if n % 10 < 3:
            time.sleep(BETWEEN_S)
        observation, reward, terminated, truncated, info = env.step(actions)
        seen += [observation, reward, terminated, truncated, info["action_mask"]]
    assert env.dynamics._crew._begun
    assert env.dynamics._crew._team is not None
    env.close()
    for one, other in zip(alone, seen, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_member_is_the_code_that_everybody_runs(learner_threads):
    """No second copy of it is compiled: that would take as long again."""
    assert play(2, BETWEEN_S)[1]
    assert len(compiled.work.overloads) == 1


def test_no_team_without_a_learner_or_with_its_one_thread(learner_threads, monkeypatch):
    assert openmp.there_is_one()
    monkeypatch.setattr(openmp, "LEARNER", "no_such_module")
    assert not openmp.there_is_one()
    assert not play(2, BETWEEN_S, steps=5)[1]
    monkeypatch.undo()
    torch.set_num_threads(1)
    assert not openmp.there_is_one()
    assert not play(2, BETWEEN_S, steps=5)[1]


@pytest.mark.parametrize(
    "maps", [None, "7f00-7f01 r-xp 0 0:0 0 /usr/lib/libm.so.6\n", "7f00-7f01 r-xp 0 0:0 0 /no/libgomp.so.1\n"]
)
def test_no_team_where_the_threads_are_not_gnus(maps, monkeypatch, tmp_path):
    """Another system, another OpenMP, a file that is not what its name says."""
    place = tmp_path / "maps"
    if maps is not None:
        place.write_text(maps)
    monkeypatch.setattr(openmp, "Path", lambda _: place)
    monkeypatch.setattr(openmp, "_library", openmp._library.__wrapped__)
    assert not openmp.there_is_one()


def test_the_learners_own_library_is_taken(monkeypatch, tmp_path):
    """Others may have brought theirs as well."""
    own = openmp._library()._name
    assert "/torch/" in own
    place = tmp_path / "maps"
    place.write_text(f"7f00-7f01 r-xp 0 0:0 0   /a/libgomp.so.1\n7f02-7f03 r-xp 0 0:0 0   {own}\n")
    monkeypatch.setattr(openmp, "Path", lambda _: place)
    assert openmp._library.__wrapped__()._name == own


def test_the_child_of_a_fork_does_without():
    """GNU's OpenMP would wait there for threads that only the parent has."""
    code = f"""
import os, time, torch
import numpy as np
from ebatch_env.environment.vector import EBatchVectorEnv
torch.set_num_threads(2)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
env = EBatchVectorEnv({ENVIRONMENTS}, threads=2, **{KEYWORDS})
env.reset(seed=7)
actions = np.zeros(({ENVIRONMENTS}, env.system.actions.columns), np.int64)
def step():
    time.sleep({BETWEEN_S})
    env.step(actions)
step()
assert env.dynamics._crew._team is not None
child = os.fork()
step()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("both")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("both\n", 0), done.stderr
