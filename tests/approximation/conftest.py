from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'approximation'")

import torch

from ebatch_env.approximation import RecurrentClassifier, Split


@dataclass(frozen=True)
class Small:
    """A small untrained network in double precision, and sequences that change slowly."""

    network: RecurrentClassifier
    split: Split


def make_small(cell: str, seed: int, layers: int = 2, sequences: int = 8, longest: int = 9) -> Small:
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RecurrentClassifier(cell, 3, 4, layers, 2, "mean" if seed % 2 else "last").double()
    network.requires_grad_(False)
    for parameter in network.parameters():
        parameter.mul_(2.0)
    length = rng.integers(1, longest + 1, sequences)
    length[0] = longest
    steps = rng.normal(size=(sequences, longest, 3)).cumsum(axis=1) * 0.5
    steps *= (np.arange(longest) < length[:, None])[..., None]
    return Small(network.eval(), Split(steps.astype(np.float32), length, rng.integers(0, 2, sequences)))
