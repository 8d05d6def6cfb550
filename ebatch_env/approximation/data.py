"""Real sequences to classify, each from a file inside an installed package: nothing is downloaded.

=========  ==================================================================================================
name       what it is
=========  ==================================================================================================
`vowels`   JapaneseVowels (Kudo et al. 1999, UCI): nine men say /ae/; 12 LPC cepstrum coefficients per frame, 7 to 29
           frames of 25.6 ms every 6.4 ms. Which speaker? Inside sktime; its own 270 / 370 split, every speaker in both.
`digits`   Handwritten digits (Alpaydin and Kaynak 1998, UCI), 8x8 pixels, a row per time-step. Inside scikit-learn,
           which has the 1797 images of the original test part, by 13 writers. No writer is named, but their images
           follow one another, so the split is by place: writers are kept apart, but for two at the seams.
`motion`   GunPoint (Ratanamahatana and Keogh 2005, UCR): height of a hand over 150 video frames, by two actors who draw
           a gun or only point; a step sees the last 16 heights and the slope. Inside sktime; its own 50 / 150 split,
           both actors in both.
=========  ==================================================================================================

Vowels are short and of different lengths, digits change from row to row, motion is long and smooth.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import fail

Steps = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

CONTEXT = 16  # frames that a step of `motion` sees, as speech front ends stack theirs


@dataclass(frozen=True)
class Split:
    """Some sequences.

    Attributes:
        steps: (S, T, F) features; zeros from a sequence's end on.
        length: (S,) time-steps, 1..T.
        label: (S,) class, 0..K-1.
    """

    steps: Steps  # (S, T, F)
    length: Integers  # (S,)
    label: Integers  # (S,)

    @property
    def sequences(self) -> int:
        """S."""
        return len(self.length)

    def take(self, rows: npt.ArrayLike) -> Split:
        """The sequences at ``rows``, padded no further than the longest of them."""
        chosen = np.asarray(rows)
        length = self.length[chosen]
        return Split(self.steps[chosen, : length.max()], length, self.label[chosen])


@dataclass(frozen=True)
class SequenceData:
    """A data set, standardised with the training part's mean and deviation: feature by feature, `digits` as a whole.

    Attributes:
        name: as in `DATA`.
        train: to train on, and to choose thresholds on.
        validation: held out of the training part: for choices about training, and to check thresholds.
        test: the part that all reported accuracies are of.
        classes: K.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int

    @property
    def features(self) -> int:
        """F."""
        return int(self.train.steps.shape[2])


Sequences = tuple[list[npt.NDArray[np.float64]], Integers]  # per sequence (length, F), and labels (S,)


def read_ts(path: Path) -> Sequences:
    """Sequences and labels of a file in the ``.ts`` format of the time-series classification archive.

    After ``@data`` each line is a sequence: dimensions apart by ``:``, values by ``,``, the label last. Labels are
    numbered in the order of their names.
    """
    steps, names, data = [], [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if data and line.strip():
            *dimensions, name = line.strip().split(":")
            steps.append(np.array([np.array(values.split(","), np.float64) for values in dimensions]).T)
            names.append(name)
        data = data or line.lower().startswith("@data")
    return steps, np.unique(names, return_inverse=True)[1].astype(np.int64)


def sktime_file(problem: str, part: str) -> Path:
    """Path of ``problem``'s file inside sktime; sktime itself, which takes seconds, is not imported.

    Raises:
        ModuleNotFoundError: sktime is not installed.
    """
    found = importlib.util.find_spec("sktime")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "the data set is inside sktime: pip install 'ebatch-env[approximation]'", name="sktime"
        )
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / problem / f"{problem}_{part}.ts"


def _vowels() -> SequenceData:
    train, test = (read_ts(sktime_file("JapaneseVowels", part)) for part in ("TRAIN", "TEST"))
    return _assemble("vowels", *_hold_out(train, 6), test)


def _motion() -> SequenceData:
    parts = []
    for part in ("TRAIN", "TEST"):
        steps, label = read_ts(sktime_file("GunPoint", part))
        parts.append(([_with_context(x[:, 0]) for x in steps], label))
    return _assemble("motion", *_hold_out(parts[0], 5), parts[1])


def _with_context(height: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(T, CONTEXT + 1): the last values, the first one repeated before the start, and the slope."""
    before = np.concatenate([np.full(CONTEXT - 1, height[0]), height])
    return np.column_stack([np.lib.stride_tricks.sliding_window_view(before, CONTEXT), np.gradient(height)])


def _digits() -> SequenceData:
    from sklearn.datasets import load_digits

    images = load_digits()
    steps, label = list(images.images.astype(np.float64)), images.target.astype(np.int64)
    first, second = int(0.6 * len(steps)), int(0.8 * len(steps))
    parts = [(steps[place], label[place]) for place in (slice(first), slice(first, second), slice(second, None))]
    return _assemble("digits", *parts, one_scale=True)  # by pixel, the rarely inked ones would be blown up


def _hold_out(sequences: Sequences, per_class: int) -> tuple[Sequences, Sequences]:
    """The last ``per_class`` sequences of every class apart from the rest."""
    steps, label = sequences
    held = np.zeros(len(label), np.bool_)
    for value in np.unique(label):
        held[np.flatnonzero(label == value)[-per_class:]] = True
    kept, out = np.flatnonzero(~held), np.flatnonzero(held)
    return ([steps[i] for i in kept], label[kept]), ([steps[i] for i in out], label[out])


def _assemble(
    name: str, train: Sequences, validation: Sequences, test: Sequences, *, one_scale: bool = False
) -> SequenceData:
    every = np.concatenate(train[0])
    axis = None if one_scale else 0
    mean, deviation = every.mean(axis=axis), every.std(axis=axis)

    def split(sequences: Sequences) -> Split:
        steps, label = sequences
        length = np.array([len(x) for x in steps], np.int64)
        padded = np.zeros((len(steps), length.max(), every.shape[1]), np.float32)
        for row, x in enumerate(steps):
            padded[row, : len(x)] = (x - mean) / deviation
        for array in (padded, length, label):
            array.setflags(write=False)
        return Split(padded, length, label)

    return SequenceData(name, split(train), split(validation), split(test), int(train[1].max()) + 1)


DATA: Mapping[str, Callable[[], SequenceData]] = MappingProxyType(
    {"vowels": _vowels, "digits": _digits, "motion": _motion}
)


@cache
def load(name: str) -> SequenceData:
    """The data set of that name.

    Raises:
        ValueError: no such name; the message lists them.
        ModuleNotFoundError: the package that holds it is not installed.
    """
    if name not in DATA:
        raise fail("data", name, "one of " + ", ".join(DATA))
    return DATA[name]()
