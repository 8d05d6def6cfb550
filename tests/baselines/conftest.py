from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from ebatch_baselines import Baseline
from ebatch_env import make_system
from ebatch_env.environment.system import System

POLICIES = {
    "serial": "simple:Serial",
    "constant": "simple:Constant",
    "random": "simple:Random",
    "padded": "padded:Padded",
    "buckets": "padded:Buckets",
    "triton-sequence": "triton:TritonSequence",
    "continuous": "iteration:Continuous",
    "cellular": "iteration:Cellular",
    "ebatch-fixed": "ebatch:EBatchFixed",
    "ebatch": "ebatch:EBatch",
    "full-waves": "waves:FullWaves",
    "early-drop": "deadlines:EarlyDrop",
    "lazy": "deadlines:Lazy",
    "clipper-aimd": "deadlines:ClipperAIMD",
    "greedy": "batch_queue:Greedy",
    "cap": "batch_queue:Cap",
    "optimal-queue": "batch_queue:OptimalQueue",
    "linear": "linear:Linear",
}


def policy_of(name: str) -> type[Baseline]:
    module, _, attribute = POLICIES[name].partition(":")
    found: type[Baseline] = getattr(importlib.import_module(f"ebatch_baselines.{module}"), attribute)
    return found


@cache
def _scenario_system(env_id: str, requests: int) -> System:
    # Of several machines the last: what acts on all of them is several policies, see tests/scoring/test_machines.py.
    return make_system(env_id, requests=requests).machines[-1]


@pytest.fixture
def scenario_system() -> Callable[..., System]:
    return _scenario_system


@pytest.fixture
def policy_class() -> Callable[[str], type[Baseline]]:
    return policy_of


@pytest.fixture
def toy() -> Callable[..., System]:
    """Systems of 8 lanes of the toy machine, sequences of 1-9 steps."""

    def build(**keywords: Any) -> System:
        given = {
            "network": "Toy",
            "accelerator": "toy",
            "lanes": 8,
            "workload": {"lengths": {"kind": "uniform", "low": 1, "high": 9}},
            "requests": 40,
            "deadline": 6.0,
        }
        return System.build(**{**given, **keywords})

    return build


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "policy_name" in metafunc.fixturenames:
        metafunc.parametrize("policy_name", POLICIES)
