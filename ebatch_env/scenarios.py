"""Scenarios: what each registered id means. To add one, add an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gymnasium as gym


@dataclass(frozen=True)
class Scenario:
    """A registered environment.

    Attributes:
        id: the Gymnasium id.
        summary: one line for lists.
        keywords: the keywords of `EBatchEnv`, plain JSON values, so an ``EnvSpec`` survives a round trip.
    """

    id: str
    summary: str
    keywords: Mapping[str, Any]


# Deadlines are in reference latencies, and each scenario asks something of its own; `ebatch headroom` measures how much there is
# to gain. The paper's networks under a steady load with bursts: on TPU, where a full batch is always right, there is nothing.
_LIVE = {
    "load": 0.8,
    "deadline": 4.0,
    "objective": {"energy": 1.0, "latency": 0.25, "miss": 4.0, "shed": 4.0, "credit": 2.0},
}
# A burst brings five and a half times what the machine can serve, and a missed deadline is what costs.
_BURSTS = {
    "workload": {"lengths": "translation", "arrivals": {"kind": "mmpp", "burst_ratio": 20.0, "sojourn": 64.0}},
    "load": 0.8,
    "deadline": 4.0,
    "objective": {"energy": 0.5, "latency": 0.1, "miss": 8.0, "shed": 6.0, "credit": 4.0},
}
# Quiet hours: weights are loaded for few lanes, so energy is saved by waiting for company, as long as deadlines let it.
_PATIENT = {"energy": 1.0, "latency": 0.05, "miss": 4.0, "shed": 4.0, "credit": 3.0}
_QUIET = {"deadline": 16.0, "hold": 1.0, "objective": _PATIENT}
# On a GPU a step costs nearly the same for one lane as for all.
_GPU = {"accelerator": "v100", "network": "MNMT", "hold": 1.0, "objective": {**_PATIENT, "latency": 0.02}}
# Many short sequences and a few long ones, which everybody in their batch waits for.
_MIXED = {"kind": "table", "lengths": [4, 8, 16, 120], "weights": [0.35, 0.3, 0.2, 0.15]}

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        scenario.id: scenario
        for scenario in (
            Scenario(
                "ebatch/EPUR-Translation-v0",
                "MNMT (LSTM 8x1024) on E-PUR: sentences of 2-78 words, bursts far above capacity, deadlines, and work to drop",
                {"accelerator": "epur", "network": "MNMT", **_BURSTS},
            ),
            Scenario(
                "ebatch/EPUR-Speech-v0",
                "DeepSpeech2 (GRU 5x800) on E-PUR: utterances of 1-33 s in quiet hours, and how long to wait for company",
                {
                    "accelerator": "epur",
                    "network": "DeepSpeech2",
                    "workload": "speech-bursty",
                    "load": 0.1,
                    "requests": 256,
                    "time_step_levels": [8, 16, None],  # at 10 ms a frame nobody needs to look up more often
                    **_QUIET,
                },
            ),
            Scenario(
                "ebatch/TPU-Translation-v0",
                "MNMT (LSTM 8x1024) on TPU v1: sentences of 2-78 words in bursts, with deadlines",
                {"accelerator": "tpu", "network": "MNMT", "workload": "translation-bursty", **_LIVE},
            ),
            Scenario(
                "ebatch/TPU-Speech-v0",
                "DeepSpeech2 (GRU 5x800) on TPU v1: utterances of 1-33 s in bursts, with deadlines",
                {"accelerator": "tpu", "network": "DeepSpeech2", "workload": "speech-bursty", **_LIVE},
            ),
            Scenario(
                "ebatch/Machines-v0",
                "one policy for E-PUR, TPU v1 and V100 in quiet hours: the machine is drawn episode by episode",
                {
                    "accelerator": ["epur", "tpu", "v100"],
                    "network": "MNMT",
                    "workload": "translation-bursty",
                    "load": 0.15,
                    **_QUIET,
                },
            ),
            Scenario(
                "ebatch/EPURBaseline-Mixed-v0",
                "MNMT on an E-PUR that pads: sequences of 4, 8, 16 and 120 steps, and an order to serve them in",
                {
                    "accelerator": "epur-baseline",
                    # Deadlines and reference costs of the machine that notifies: the same in absolute terms.
                    "reference_accelerator": "epur",
                    "network": "MNMT",
                    "workload": {"lengths": _MIXED, "arrivals": {"kind": "mmpp"}},
                    **_LIVE,
                },
            ),
            Scenario(
                "ebatch/V100-Shift-v0",
                "MNMT on V100: the load of an episode lies between 0.02 and 0.8, and nobody says where",
                {
                    **_GPU,
                    "workload": "translation",
                    "load": [0.02, 0.8],
                    "deadline": 20.0,
                },
            ),
            Scenario(
                "ebatch/V100-Decoder-v0",
                "MNMT on V100 as a decoder: nobody knows how long a sequence will be",
                {
                    **_GPU,
                    "workload": {
                        "lengths": {"kind": "geometric", "mean": 24.0, "max_length": 200},
                        "arrivals": {"kind": "mmpp"},
                    },
                    "lengths_known": False,
                    "load": 0.2,
                    "deadline": 24.0,
                },
            ),
            Scenario(
                "ebatch/EPUR-Stairs-v0",
                "a small LSTM that stays on chip, on an E-PUR whose step time has four stairs: a lane too many costs a stair",
                {
                    "accelerator": {"name": "epur", "replicas": 4},
                    "lanes": 16,
                    "network": "IMDB",
                    "workload": "sentiment",
                    "load": 0.7,
                    "requests": 256,
                    "time_step_levels": [1, 2, 4, 8],
                    "objective": {"energy": 0.25, "latency": 1.0, "credit": 2.0},
                },
            ),
            Scenario(
                "ebatch/Toy-v0",
                "two lanes and round numbers: small enough to check by hand",
                {
                    "network": "Toy",
                    "accelerator": "toy",
                    "lanes": 2,
                    "workload": {"lengths": {"kind": "uniform", "low": 1, "high": 4}, "arrivals": {"kind": "poisson"}},
                    "load": 0.4,
                    "requests": 16,
                    "hold": 0.25,
                    "objective": {"energy": 1.0, "latency": 0.25, "credit": 3.0},
                },
            ),
            Scenario(
                "ebatch/Queue-v0",
                "a batch queue: all lengths 1, one layer, Poisson arrivals; its optimum is known exactly",
                {
                    "network": "Toy",
                    "accelerator": {"name": "batch-server", "curve": "doubling"},
                    "lanes": 32,
                    "workload": {"lengths": {"kind": "fixed", "length": 1}, "arrivals": {"kind": "poisson"}},
                    "load": 0.7,
                    "requests": 4096,
                    "hold": float("inf"),
                    "controls": ["admit"],
                    "admit_levels": [*range(32), None],
                    "plan": {"time_steps": 1, "joins": False},
                    "objective": {"energy": 0.0, "latency": 1.0, "credit": 2.0},
                },
            ),
        )
    }
)


def scenario(env_id: str) -> Scenario:
    """The scenario of an id.

    Raises:
        ValueError: no such id; the message lists them.
    """
    if env_id not in SCENARIOS:
        raise ValueError(f"env must be one of {', '.join(SCENARIOS)}, got {env_id!r}")
    return SCENARIOS[env_id]


def register_all() -> None:
    """Register every scenario with Gymnasium; doing it twice does no harm."""
    for entry in SCENARIOS.values():
        if entry.id not in gym.registry:
            gym.register(
                id=entry.id,
                entry_point="ebatch_env.environment.env:EBatchEnv",
                vector_entry_point="ebatch_env.environment.vector:EBatchVectorEnv",
                kwargs=dict(entry.keywords),
            )
