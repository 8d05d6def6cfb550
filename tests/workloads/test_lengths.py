from __future__ import annotations

import csv
import math
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebatch_env.workloads import Empirical, Fixed, Geometric, Lengths, Table, Uniform
from ebatch_env.workloads.empirical import NAMED_QUANTILES

KINDS = [
    Fixed(7),
    Uniform(3, 40),
    Geometric(20.0, 200),
    Geometric(500.0, 1000),
    Geometric(1.5, 3),
    Table((5, 2, 900), (1.0, 0.0, 3.0)),
    Empirical("translation"),
    Empirical("speech"),
    Empirical("speech", stride=2),
    Empirical("sentiment"),
    Empirical("transcript"),
    Empirical((0.2, 1.0, 1.0, 9.5)),
]


@pytest.mark.parametrize("lengths", KINDS, ids=str)
def test_samples_follow_the_stated_law(lengths: Lengths) -> None:
    drawn = lengths.sample(np.random.default_rng(1), 100_000)
    assert isinstance(lengths, Lengths)
    assert drawn.dtype == np.int32
    assert drawn.shape == (100_000,)
    assert drawn.min() >= 1
    assert drawn.max() <= lengths.max_length
    spread = float(drawn.std())
    assert float(drawn.mean()) == pytest.approx(lengths.mean, abs=4.5 * spread / math.sqrt(100_000) + 1e-12)
    # P(length <= q(p)) >= p >= P(length < q(p)), up to sampling error.
    p = np.linspace(0.05, 0.95, 19)
    q = lengths.quantile(p)
    slack = 4.5 * 0.5 / math.sqrt(100_000)
    assert (np.array([(drawn <= x).mean() for x in q]) >= p - slack).all()
    assert (np.array([(drawn < x).mean() for x in q]) <= p + slack).all()


@pytest.mark.parametrize("lengths", KINDS, ids=str)
def test_stratified_quantiles_have_the_stated_mean_and_ends(lengths: Lengths) -> None:
    n = 200_000
    strata = lengths.quantile((np.arange(n) + 0.5) / n)
    assert strata.mean() == pytest.approx(lengths.mean, abs=lengths.max_length / n)
    assert lengths.quantile(1.0) == lengths.max_length
    assert (np.diff(lengths.quantile([0.0, 0.25, 0.5, 1.0])) >= 0).all()
    assert lengths.quantile(np.full((2, 3), 0.5)).shape == (2, 3)


@pytest.mark.parametrize("name", NAMED_QUANTILES)
def test_shipped_tables_are_interpolated_then_rounded(name: str) -> None:
    column, scale = NAMED_QUANTILES[name]
    text = resources.files("ebatch_env.workloads").joinpath("data/length_quantiles.csv").read_text()
    percentiles = np.array([float(row[column]) for row in csv.DictReader(text.splitlines())]) * scale
    assert percentiles.size == 101
    uniform = np.random.default_rng(3).random(50_000)
    wanted = np.floor(np.interp(uniform * 100.0, np.arange(101.0), percentiles) + 0.5)
    drawn = Empirical(name).sample(np.random.default_rng(3), 50_000)
    assert (drawn == wanted).mean() > 0.9999  # a draw on the edge of two lengths may round either way
    assert abs(drawn - wanted).max() <= 1
    assert Empirical(name).max_length == math.floor(percentiles[-1] + 0.5)


def test_hand_worked_laws() -> None:
    # Curve 1 -> 3: below 1.5 a quarter of the time, above 2.5 a quarter.
    ramp = Empirical((1, 3))
    assert ramp.mean == 2.0
    assert ramp.quantile([0.25, 0.2501, 0.75, 0.7501]).tolist() == [1, 2, 2, 3]
    assert Table((4, 1), (1, 3)).quantile([0.0, 0.75, 0.76]).tolist() == [1, 1, 4]
    assert Table((4, 2)).mean == 3.0
    assert Uniform(5, 5).sample(np.random.default_rng(0), 3).tolist() == [5, 5, 5]
    assert Empirical((6, 6), stride=2) == Empirical((6.0, 6.0), stride=2)
    assert Empirical((6, 6), stride=2).mean == 3.0
    assert Empirical((0, 0)).max_length == 1  # never below one step


def test_geometric_ratios_and_mean() -> None:
    law = Geometric(20.0, 200)
    values, cdf = law.distribution
    chance = np.diff(cdf, prepend=0.0)
    assert np.allclose(chance[1:60] / chance[:59], chance[1] / chance[0], rtol=1e-9)
    for mean, longest in [(20.0, 200), (1.0001, 3), (500.0, 1000), (3.0, 1 << 20), (float(1 << 19), 1 << 20)]:
        values, cdf = Geometric(mean, longest).distribution
        exact = math.fsum((values * np.diff(cdf, prepend=0.0)).tolist())
        assert exact == pytest.approx(mean, rel=1e-8)


def test_equal_seeds_equal_lengths_here_and_everywhere() -> None:
    golden = {
        Empirical("translation"): [25, 15, 7, 6, 32, 39, 24, 28],
        Empirical("speech", stride=2): [377, 195, 114, 102, 517, 704, 358, 443],
        Geometric(20.0, 200): [20, 7, 1, 1, 33, 48, 19, 26],
        Uniform(1, 100): [64, 27, 5, 2, 82, 92, 61, 73],
    }
    for law, wanted in golden.items():
        assert law.sample(np.random.default_rng(0), 8).tolist() == wanted
        assert replace(law).sample(np.random.default_rng(0), 8).tolist() == wanted  # no hidden state


@given(st.lists(st.floats(0.0, 300.0), min_size=2, max_size=30), st.integers(1, 5), st.integers(0, 99))
def test_any_percentiles(points: list[float], stride: int, seed: int) -> None:
    law = Empirical(tuple(sorted(points)), stride)
    drawn = law.sample(np.random.default_rng(seed), 200)
    assert drawn.min() >= max(1, math.floor(min(points) / stride + 0.5))
    assert drawn.max() <= law.max_length <= max(1, math.floor(max(points) / stride + 0.5))
    assert 1.0 <= law.mean <= law.max_length


def test_percentiles_from_a_file(tmp_path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("percentile,steps\n0,2\n50,4\n100,10\n")
    assert Empirical.from_csv(path, "steps") == Empirical((2, 4, 10))
    with pytest.raises(ValueError, match=r"mine\.csv: column must be one of .*'words'"):
        Empirical.from_csv(path, "words")
    path.write_text("steps\n2\nten\n")
    with pytest.raises(ValueError, match=r"mine\.csv, line 3, column 'steps' must be a number, got 'ten'"):
        Empirical.from_csv(path, "steps")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed(0), "length must be an integer in 1"),
        (lambda: Fixed(2.5), "length must be an integer"),
        (lambda: Uniform(5, 4), "high must be an integer in 5"),
        (lambda: Uniform(1, 1 << 21), "high must be"),
        (lambda: Geometric(1.0, 10), r"mean must be a finite number in \(1, 5\]"),
        (lambda: Geometric(5.1, 10), "mean must be"),
        (lambda: Geometric(2.0, 2), "max_length must be"),
        (lambda: Table(()), "lengths must be at least one length"),
        (lambda: Table((1, 1)), "lengths must be distinct"),
        (lambda: Table((1, 2), (1.0,)), "weights must be one weight per length"),
        (lambda: Table((1, 2), (0.0, 0.0)), "weights must be weights with a sum in \\(0, 1e300\\)"),
        (lambda: Table((1, 2), (-1.0, 2.0)), "weights must be finite and >= 0"),
        (lambda: Empirical("telegraphy"), "source must be one of 'translation'"),
        (lambda: Empirical((3,)), "source must be two or more quantiles"),
        (lambda: Empirical((3, 2)), "source must be two or more quantiles that never fall"),
        (lambda: Empirical((3, float("nan"))), "source must be finite"),
        (lambda: Empirical((3, 1e9)), "source must be at most"),
        (lambda: Empirical("speech", stride=0), "stride must be an integer >=|stride must be an integer in 1"),
        (lambda: Uniform(1, 9).quantile(1.5), r"p must be probabilities in \[0, 1\]"),
        (lambda: Uniform(1, 9).quantile(float("nan")), "p must be"),
    ],
)
def test_errors_name_field_value_and_range(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
