"""Actions and plans are two ways to say the same."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebatch_env import RoundPlan, make_system
from ebatch_env.environment.actions import CONTROLS, ActionCodec, Plans
from ebatch_env.environment.env import EBatchEnv
from ebatch_env.machines import resolve_machine
from ebatch_env.networks import resolve_network

TABLE = resolve_machine("epur").cost_table(resolve_network("MNMT"), 64)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(flat=st.booleans(), seed=st.integers(0, 1000), controls=st.sets(st.sampled_from(CONTROLS), min_size=1))
def test_legal_actions_survive_decode_and_encode(flat, seed, controls):
    codec = ActionCodec.build(TABLE, 64, controls=sorted(controls), flat=flat)
    codec.space.seed(seed)
    actions = np.array([codec.space.sample(codec.split_mask(codec.mask())) for _ in range(8)])
    plans = codec.decode(actions)
    assert np.array_equal(codec.encode(plans), actions)
    assert codec.mask().sum() == (np.prod if flat else np.sum)([codec.legal[c].sum() for c in codec.controls])


def test_encode_takes_the_next_level_down():
    codec = make_system("ebatch/EPUR-Translation-v0").actions
    plans = Plans.of(6, time_steps=[5, 1, 100, 0, 24, 16], admit=[0, 3, 63, 64, 1000, -1])
    back = codec.decode(codec.encode(plans))
    assert back.time_steps.tolist() == [4, 1, 16, 0, 16, 16]
    assert back.admit.tolist() == [0, 2, 32, -1, -1, -1]


def test_encode_leaves_what_is_not_controlled():
    codec = ActionCodec.build(TABLE, 64, controls=["admit"], plan=RoundPlan(time_steps=8, joins=False))
    back = codec.decode(codec.encode(Plans.of(2, time_steps=1, admit=[4, 9], joins=1)))
    assert back.time_steps.tolist() == [8, 8]
    assert back.joins.tolist() == [0, 0]
    assert back.admit.tolist() == [4, 8]


def test_encode_never_takes_an_illegal_level():
    codec = ActionCodec.build(TABLE, 64, lengths_known=False, has_deadlines=False)
    back = codec.decode(codec.encode(Plans.of(1, order=2, shed=1)))
    assert back.order.tolist() == [0]
    assert back.shed.tolist() == [0]


def test_levels_of_any_choice():
    codec = ActionCodec.build(TABLE, 64, time_step_levels=[3, None], admit_levels=[None, 5])
    assert codec.space.nvec.tolist() == [2, 2, 2, 3, 2]
    assert codec.decode([[0, 1, 0, 0, 0]]).admit.tolist() == [5]
    with pytest.raises(ValueError, match="admit_levels must be an integer"):
        ActionCodec.build(TABLE, 64, admit_levels=[-2])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "controls", [c for n in range(1, 6) for c in itertools.combinations(CONTROLS, n)], ids="+".join
)
def test_the_kernel_decodes_as_the_codec_does(controls, flat):
    """One decision by each form of the same plan leaves the same system behind, for every selection of controls."""
    keywords = {"workload": "translation-bursty", "deadline": 1.0, "requests": 24, "lanes": 8, "load": 3.0}
    env = EBatchEnv(controls=controls, flat_actions=flat, **keywords)
    every = EBatchEnv(**keywords)
    rng = np.random.default_rng(len(controls))
    for seed in range(4):
        env.reset(seed=seed)
        every.reset(seed=seed)
        legal = env.system.actions.mask().nonzero()[0] if flat else None
        action = rng.choice(legal) if flat else env.action_space.sample(env.reset(seed=seed)[1]["action_mask"])
        plans = env.system.actions.decode(np.reshape(action, (1, -1)))
        observation = env.step(action)[0]
        np.testing.assert_array_equal(observation, every.step(every.system.actions.encode(plans)[0])[0])


def test_a_mask_always_leaves_something():
    codec = EBatchEnv(lanes=64, admit_levels=[0, 100]).system.actions
    assert codec.mask(hold=False)[-codec.levels["shed"].size :].any()
    for mask in codec.split_mask(codec.mask(hold=False)):
        assert mask.any()
