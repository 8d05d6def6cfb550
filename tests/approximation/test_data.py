"""The data sets are what they are said to be, and nothing of the test part is in the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ebatch_env.approximation import DATA, load
from ebatch_env.approximation.data import read_ts, sktime_file

SIZES = {  # sequences of train, validation and test; least and greatest length; features; classes
    "vowels": ((216, 54, 370), (7, 29), 12, 9),
    "digits": ((1078, 359, 360), (8, 8), 8, 10),
    "motion": ((40, 10, 150), (150, 150), 17, 2),
}


@pytest.mark.parametrize("name", DATA)
def test_sizes(name: str) -> None:
    data, (sizes, lengths, features, classes) = load(name), SIZES[name]
    parts = (data.train, data.validation, data.test)
    assert tuple(part.sequences for part in parts) == sizes
    every = np.concatenate([part.length for part in parts])
    assert (every.min(), every.max()) == lengths
    assert (data.features, data.classes) == (features, classes)
    for part in parts:
        assert set(part.label) == set(range(classes))
        beyond = np.arange(part.steps.shape[1]) >= part.length[:, None]
        assert (part.steps[beyond] == 0).all()
        assert np.isfinite(part.steps).all()


@pytest.mark.parametrize("name", DATA)
def test_standardised_by_the_training_part(name: str) -> None:
    train = load(name).train
    inside = train.steps[np.arange(train.steps.shape[1]) < train.length[:, None]]
    axis = None if name == "digits" else 0
    np.testing.assert_allclose(inside.mean(axis=axis), 0.0, atol=1e-4)
    np.testing.assert_allclose(inside.std(axis=axis), 1.0, rtol=1e-4)


@pytest.mark.parametrize("name", DATA)
def test_parts_do_not_overlap(name: str) -> None:
    data = load(name)
    seen = [{x[:n].tobytes() for x, n in zip(p.steps, p.length, strict=True)} for p in (data.train, data.validation)]
    test = {x[:n].tobytes() for x, n in zip(data.test.steps, data.test.length, strict=True)}
    assert not seen[0] & seen[1]
    assert not test & (seen[0] | seen[1])


def test_ts_files_read_like_sktime_reads_them() -> None:
    from sktime.datasets import load_from_tsfile

    steps, label = read_ts(sktime_file("JapaneseVowels", "TEST"))
    frame, names = load_from_tsfile(
        str(sktime_file("JapaneseVowels", "TEST")), return_data_type="nested_univ", return_y=True
    )
    assert len(frame) == len(steps)
    for row in (0, 17, 369):
        theirs = np.array([np.asarray(frame.iloc[row, column]) for column in range(12)]).T
        np.testing.assert_array_equal(steps[row], theirs)
    np.testing.assert_array_equal(label, np.asarray(names).astype(int) - 1)


def test_ts_reader(tmp_path: Path) -> None:
    path = tmp_path / "tiny.ts"
    path.write_text("# a comment: 1\n@problemName tiny\n@DATA\n1,2,3:4,5,6:b\n\n7:8:a\n", encoding="utf-8")
    steps, label = read_ts(path)
    np.testing.assert_array_equal(steps[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(steps[1], [[7, 8]])
    assert label.tolist() == [1, 0]


def test_take_shortens() -> None:
    part = load("vowels").test
    short = np.flatnonzero(part.length < 12)[:3]
    taken = part.take(short)
    assert taken.steps.shape[1] == taken.length.max() < 12
    np.testing.assert_array_equal(taken.steps[0], part.steps[short[0], : taken.steps.shape[1]])


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="data must be one of vowels, digits, motion, got 'vowel'"):
        load("vowel")


def test_without_sktime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="ebatch-env\\[approximation\\]"):
        sktime_file("JapaneseVowels", "TEST")
