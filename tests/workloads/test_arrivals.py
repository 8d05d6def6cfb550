from __future__ import annotations

import math

import numpy as np
import pytest

from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import MMPP, AllAtOnce, Arrivals, Diurnal, GammaRenewal, Poisson, Replay, write_csv
from ebatch_env.workloads.modulated import diurnal, mmpp, shipped_profile

KINDS = [
    Poisson(),
    MMPP(4.0, 0.3, 5.0),
    MMPP(),
    MMPP(10_000.0, 0.001, 1.0),
    GammaRenewal(0.2),
    GammaRenewal(3.0),
    Diurnal(100.0),
    Diurnal(20.0, 0.5, (1.0, 0.0, 5.0)),
    AllAtOnce(),
]


def dispersion(times: np.ndarray, window: float) -> float:
    """Variance over mean of the counts in consecutive windows."""
    edges = np.arange(0.0, times[-1], window)
    counts = np.diff(np.searchsorted(times, edges))
    return float(counts.var() / counts.mean())


@pytest.mark.parametrize("arrivals", KINDS, ids=str)
def test_sorted_and_repeatable(arrivals: Arrivals) -> None:
    assert isinstance(arrivals, Arrivals)
    for n in (1, 2, 1000):
        times = arrivals.sample(np.random.default_rng(5), n)
        assert times.dtype == np.float64
        assert times.shape == (n,)
        assert times[0] >= 0.0
        assert np.isfinite(times).all()
        assert (np.diff(times) >= 0.0).all()
        assert (times == arrivals.sample(np.random.default_rng(5), n)).all()
        times[:] = -1.0  # fresh memory each time
        assert arrivals.sample(np.random.default_rng(5), n)[0] >= 0.0


@pytest.mark.parametrize(("arrivals", "cv"), [(Poisson(), 1.0), (GammaRenewal(0.2), 0.2), (GammaRenewal(3.0), 3.0)])
def test_renewal_processes(arrivals: Arrivals, cv: float) -> None:
    n = 400_000
    gaps = np.diff(arrivals.sample(np.random.default_rng(11), n), prepend=0.0)
    assert gaps.mean() == pytest.approx(1.0, abs=4.0 * cv / math.sqrt(n))
    assert gaps.std() == pytest.approx(cv, rel=0.03)
    # The index of dispersion of a renewal process tends to cv**2; with 4,000 windows its error is about 2.2 %.
    assert dispersion(np.cumsum(gaps), 100.0) == pytest.approx(cv**2, rel=0.12)


@pytest.mark.parametrize("arrivals", [MMPP(8.0, 0.2, 6.0), MMPP(20.0, 0.05, 10.0), MMPP(3.0, 0.7, 4.0)], ids=str)
def test_mmpp_against_theory(arrivals: MMPP) -> None:
    n = 2_000_000
    times = arrivals.sample(np.random.default_rng(2), n)
    error = math.sqrt(arrivals.index_of_dispersion() / n)  # of the mean rate
    assert n / times[-1] == pytest.approx(1.0, abs=4.0 * error)
    gaps = np.diff(times)
    assert gaps.std() / gaps.mean() == pytest.approx(arrivals.cv, rel=0.02)
    for window in (0.5, 5.0, 50.0, 500.0):
        windows = n / window
        assert dispersion(times, window) == pytest.approx(
            arrivals.index_of_dispersion(window), rel=5.0 * math.sqrt(2.0 / windows) + 0.03
        )
    assert arrivals.index_of_dispersion(1e9) == pytest.approx(arrivals.index_of_dispersion(), rel=1e-6)
    assert arrivals.index_of_dispersion(1e-6) == pytest.approx(1.0, abs=1e-4)


def test_mmpp_rates_and_limits() -> None:
    for ratio, share in [(10.0, 0.1), (1.0, 0.5), (3.0, 0.9)]:
        calm, burst = MMPP(ratio, share, 10.0).rates
        assert burst == pytest.approx(ratio * calm)
        assert share * burst + (1.0 - share) * calm == pytest.approx(1.0, rel=1e-12)
    plain = MMPP(1.0, 0.5, 10.0)
    assert plain.cv == 1.0
    assert plain.index_of_dispersion() == 1.0
    draws = np.random.default_rng(4).standard_exponential(1 + 500)
    assert np.allclose(plain.sample(np.random.default_rng(4), 500), np.cumsum(draws[1:]))


@pytest.mark.parametrize("arrivals", [MMPP(10.0, 0.2, 8.0), Diurnal(30.0, 1.0)], ids=str)
def test_time_zero_is_an_arbitrary_moment(arrivals: Arrivals) -> None:
    """Modulated processes start stationary: the mean number of arrivals by t is t from the very start."""
    rng = np.random.default_rng(8)
    runs = 20_000
    counts = np.array([np.searchsorted(arrivals.sample(rng, 60), [0.5, 2.0, 4.0]) for _ in range(runs)])
    assert counts.max() < 60
    for mean, std, t in zip(counts.mean(axis=0), counts.std(axis=0), [0.5, 2.0, 4.0], strict=True):
        assert mean == pytest.approx(t, abs=4.0 * std / math.sqrt(runs))


def test_mmpp_kernel_inverts_the_integrated_rate() -> None:
    draws = np.random.default_rng(6).standard_exponential(1 + 300 + 200)
    rates, means = (0.5, 4.0), (6.0, 3.0)
    for threshold in (0.0, 1e9):
        out = np.empty(300)
        assert mmpp(draws, out, threshold, rates, means)
        state = (np.arange(200) + (threshold > 0.0)) % 2
        stays = draws[301:] * np.array(means)[state]
        edges = np.concatenate([[0.0], np.cumsum(stays)])
        integral = np.concatenate([[0.0], np.cumsum(stays * np.array(rates)[state])])
        assert integral[-1] > draws[1:301].sum()
        assert np.allclose(out, np.interp(np.cumsum(draws[1:301]), integral, edges), rtol=1e-9)


def test_mmpp_draws_more_when_the_sojourns_run_out() -> None:
    class Short:
        """Sojourns so short that the first blocks do not last."""

        def __init__(self) -> None:
            self.blocks = 0

        def standard_exponential(self, n: int) -> np.ndarray:
            self.blocks += 1
            ones = np.ones(n)
            if self.blocks == 1:
                ones[101:] = 1e-3
            return ones

    rng = Short()
    process = MMPP(10.0, 0.1, 32.0)
    times = process.sample(rng, 100)  # type: ignore[arg-type]
    assert rng.blocks > 1
    assert (np.diff(times) > 0.0).all()


def test_diurnal_kernel_inverts_the_integrated_rate() -> None:
    profile = np.array([2.0, 0.0, 0.5, 1.5])
    gaps = np.random.default_rng(3).standard_exponential(400)
    for phase in (0.0, 0.25, 1.5, 3.999):
        slot = int(phase)
        widths = np.full(900, 2.5)
        widths[0] *= slot + 1 - phase
        rates = profile[(slot + np.arange(900)) % 4]
        edges = np.concatenate([[0.0], np.cumsum(widths)])
        integral = np.concatenate([[0.0], np.cumsum(widths * rates)])
        keep = np.append(True, np.diff(integral) > 0.0)  # np.interp wants it to rise; slots without arrivals go last
        wanted = np.interp(np.cumsum(gaps), integral[keep], edges[keep])
        got = np.empty(gaps.size)
        diurnal(gaps, phase, 2.5, profile, got)
        empty = rates[np.searchsorted(edges, got, side="right") - 1] == 0.0
        assert not empty.any()
        busy = ~np.isin(np.searchsorted(edges, wanted, side="right") - 1, np.flatnonzero(rates == 0.0))
        assert busy.sum() > 200
        after = rates[np.searchsorted(edges, wanted, side="right") - 2] != 0.0
        assert np.allclose(got[busy & after], wanted[busy & after], rtol=1e-9)


def test_diurnal_rates() -> None:
    profile = np.array(shipped_profile())
    assert profile.shape == (24,)
    rates = Diurnal().rates
    assert rates.mean() == pytest.approx(1.0, abs=1e-12)
    assert np.allclose(rates, profile / profile.mean())
    assert Diurnal(amplitude=0.5).rates == pytest.approx(0.5 + 0.5 * rates)
    rng = np.random.default_rng(9)
    rng.random()
    flat = np.cumsum(rng.standard_exponential(1000))
    assert np.allclose(Diurnal(amplitude=0.0).sample(np.random.default_rng(9), 1000), flat)
    # Counts of whole days do not see the swing, counts of hours do.
    times = Diurnal(240.0).sample(np.random.default_rng(9), 500_000)
    assert 500_000 / times[-1] == pytest.approx(1.0, abs=4.0 / math.sqrt(500_000))
    assert dispersion(times, 240.0) == pytest.approx(1.0, abs=4.0 * math.sqrt(2.0 * 240.0 / 500_000))
    assert dispersion(times, 10.0) > 1.25


def test_replay(tmp_path) -> None:
    path = tmp_path / "t.csv"
    write_csv(path, RequestTrace(arrival_s=[10.0, 11.0, 11.0, 16.0], length=[1, 1, 1, 1]))
    replay = Replay(str(path))
    assert Replay(path) == replay
    cycle = [1.0, 0.5, 0.0, 2.5]  # gaps over their mean, 2 s; the one before the first request is the mean
    seen = set()
    for seed in range(30):
        gaps = np.diff(replay.sample(np.random.default_rng(seed), 9), prepend=0.0).tolist()
        first = next(k for k in range(4) if np.allclose([cycle[(k + i) % 4] for i in range(9)], gaps))
        seen.add(first)
    assert seen == {0, 1, 2, 3}
    write_csv(path, RequestTrace(arrival_s=[1.0, 1.0], length=[1, 1]))
    with pytest.raises(ValueError, match=r"t\.csv: a replay needs"):
        Replay(str(path))
    with pytest.raises(ValueError, match="steps must be one of"):
        Replay(str(path), steps="all")


def test_equal_seeds_equal_times_here_and_everywhere() -> None:
    golden = {
        Poisson(): [0.6799319039689096, 1.6995290054347743, 1022.0494130646555],
        MMPP(): [1.937234492785143, 1.9748671517043481, 1445.9402791663247],
        Diurnal(): [1.0401929213077583, 1.0603996776728424, 1022.3620534245167],
    }
    for arrivals, wanted in golden.items():
        assert arrivals.sample(np.random.default_rng(0), 1000)[[0, 1, 999]].tolist() == wanted


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GammaRenewal(0.0), r"cv must be a finite number in \[0.01, 50\]"),
        (lambda: MMPP(0.5), "burst_ratio must be"),
        (lambda: MMPP(burst_share=0.0), "burst_share must be"),
        (lambda: MMPP(burst_share=1.0), "burst_share must be"),
        (lambda: MMPP(sojourn=0.5), "sojourn must be"),
        (lambda: MMPP(sojourn=math.nan), "sojourn must be"),
        (lambda: MMPP().index_of_dispersion(0.0), "t must be"),
        (lambda: Diurnal(0.5), "period must be"),
        (lambda: Diurnal(amplitude=-1.0), "amplitude must be"),
        (lambda: Diurnal(amplitude=2.0), "amplitude must be small enough"),
        (lambda: Diurnal(profile=(1.0,)), "profile must be two or more"),
        (lambda: Diurnal(profile=(0.0, 0.0)), "profile must be two or more"),
        (lambda: Diurnal(profile=(1.0, -1.0)), "profile must be finite and >= 0"),
    ],
)
def test_errors_name_field_value_and_range(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
