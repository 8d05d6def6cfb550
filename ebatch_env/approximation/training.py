"""Networks trained on the data sets, each in seconds; kept in a cache that no figure depends on.

Training is a function of recipe and seed alone: one thread, seeded shuffles and noise.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import nn

from ebatch_env.approximation.data import SequenceData, load
from ebatch_env.approximation.networks import Readout, RecurrentClassifier
from ebatch_env.errors import check_integer, fail

FORMAT = 1  # of what is cached: raise it when training changes


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how.

    Attributes:
        data: name of a data set.
        cell, layers, hidden, readout: see `RecurrentClassifier`.
        epochs: passes over the training part.
        batch: sequences per step of AdamW.
        learning_rate: its peak; it follows one cycle (Smith and Topin 2019).
        noise: deviation of the normal noise added to the features, in their own deviations.
        weight_decay: of AdamW.
    """

    data: str
    cell: str
    layers: int
    hidden: int
    readout: Readout = "last"
    epochs: int = 30
    batch: int = 32
    learning_rate: float = 3e-3
    noise: float = 0.1
    weight_decay: float = 1e-4

    def network(self, data: SequenceData) -> RecurrentClassifier:
        """The network, not trained yet."""
        return RecurrentClassifier(self.cell, data.features, self.hidden, self.layers, data.classes, self.readout)


_MOTION = {"readout": "mean", "batch": 20, "learning_rate": 5e-3, "weight_decay": 1e-2}

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        f"{recipe.data}-{recipe.cell}": recipe
        for recipe in (
            Recipe("vowels", "lstm", 2, 64),
            Recipe("vowels", "gru", 2, 64),
            Recipe("digits", "lstm", 1, 96, noise=0.4),
            Recipe("digits", "gru", 1, 96, noise=0.4),
            Recipe("motion", "lstm", 1, 64, epochs=150, **_MOTION),  # type: ignore[arg-type]
            Recipe("motion", "gru", 1, 64, epochs=60, **_MOTION),  # type: ignore[arg-type]
        )
    }
)


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: no such name; the message lists them.
    """
    if name not in RECIPES:
        raise fail("recipe", name, "one of " + ", ".join(RECIPES))
    return RECIPES[name]


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside: sums must not be cut up differently from machine to machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(how: Recipe, seed: int, data: SequenceData | None = None) -> RecurrentClassifier:
    """Train a network; the global torch generator is left as it was.

    Args:
        how: the recipe.
        seed: of the initial weights, the order of the sequences and the noise.
        data: what to train on instead of the recipe's data set.

    Raises:
        ValueError: a negative seed.
    """
    check_integer("seed", seed, low=0)
    data = load(how.data) if data is None else data
    part = data.train
    steps, length, label = torch.tensor(part.steps), torch.tensor(part.length), torch.tensor(part.label)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = how.network(data)
        batches = -(-part.sequences // how.batch)
        optimiser = torch.optim.AdamW(network.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, how.learning_rate, total_steps=how.epochs * batches)
        for _ in range(how.epochs):
            for rows in torch.randperm(part.sequences).split(how.batch):
                clean = steps[rows, : int(length[rows].max())]
                logits = network(clean + how.noise * torch.randn_like(clean), length[rows])
                loss = nn.functional.cross_entropy(logits, label[rows])
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
    network.requires_grad_(False)
    return network.eval()


def cache_folder() -> Path:
    """Where trained networks are kept: ``ebatch-env`` under ``$XDG_CACHE_HOME``, or under ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "ebatch-env" / "networks"


def trained(name: str, seed: int, folder: Path | None = None) -> RecurrentClassifier:
    """The network of a recipe, from the cache if it is there, or else trained now and put there.

    The cache is only a shortcut: what cannot be read is trained anew, and what cannot be written is not kept.

    Args:
        name: of a recipe.
        seed: see `train`.
        folder: of the cache; None: `cache_folder`.

    Raises:
        ValueError: an unknown name, or a negative seed.
    """
    how, data = recipe(name), load(recipe(name).data)
    check_integer("seed", seed, low=0)
    path = (cache_folder() if folder is None else folder) / f"{name}-{seed}-{_digest(how, data)}.pt"
    with suppress(OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError):
        network = how.network(data)
        network.load_state_dict(torch.load(path, weights_only=True))
        network.requires_grad_(False)
        return network.eval()
    network = train(how, seed, data)
    with suppress(OSError):
        _write(network, path)
    return network


def _digest(how: Recipe, data: SequenceData) -> str:
    """Of all that the trained weights depend on, besides the seed."""
    parts = (data.train.steps, data.train.length, data.train.label)
    content = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
    content.update(json.dumps([FORMAT, torch.__version__, asdict(how)], sort_keys=True).encode())
    return content.hexdigest()[:16]


def _write(network: RecurrentClassifier, path: Path) -> None:
    """All at once: whoever reads ``path`` meanwhile finds nothing or everything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(network.state_dict(), file)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
