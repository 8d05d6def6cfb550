"""What compiled code draws against what `Workload.sample` draws: bit for bit, the generator's state included."""

import numpy as np
import pytest
from numba import njit

from ebatch_env.workloads import (
    MMPP,
    AllAtOnce,
    Diurnal,
    Empirical,
    Fixed,
    GammaRenewal,
    Geometric,
    Poisson,
    Table,
    TraceWorkload,
    Uniform,
    Workload,
)
from ebatch_env.workloads.compiled import DRAWN, OUT_OF_RANGE, Law, draw, law_of
from ebatch_env.workloads.generators import stream_of

REQUESTS = 203  # numbers are drawn four at a time, the last ones singly
compiled_draw = njit(nogil=True, _nrt=False, error_model="numpy")(draw.py_func)


class Rows:
    """Rows as the kernel's: a little longer than the trace."""

    def __init__(self, law: Law, rng: np.random.Generator) -> None:
        self.arrival, self.deadline = np.zeros(REQUESTS + 8), np.zeros(REQUESTS + 8)
        self.length = np.zeros(REQUESTS + 8, np.int32)
        self.arguments = (stream_of(rng), *law, np.zeros(REQUESTS + law.draws))

    def draw(self) -> int:
        return int(compiled_draw(REQUESTS, *self.arguments, self.arrival, self.deadline, self.length))


WORKLOADS = [
    Workload(Empirical("translation"), MMPP()),
    Workload(Empirical("speech"), MMPP(burst_share=0.5, sojourn=1.0)),  # sojourns so short that blocks run out
    Workload(Fixed(3), Poisson()),
    Workload(Fixed(3), MMPP()),
    Workload(Table((7,), (1,)), MMPP()),
    Workload(Geometric(20.0, 200), Diurnal()),
    Workload(Uniform(1, 9), AllAtOnce()),
    Workload(Table((10, 20), (3, 1)), Poisson()),
]


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
@pytest.mark.parametrize("load", [(0.8, 0.8), (0.2, 1.2)])
@pytest.mark.parametrize("workload", WORKLOADS, ids=repr)
def test_same_draws_as_numpy(workload: Workload, load: tuple[float, float], bits: type) -> None:
    ours, theirs = np.random.Generator(bits(5)), np.random.Generator(bits(5))
    law = law_of(workload, requests=REQUESTS, load=load, throughput_rps=123.4, deadline_s=0.5)
    assert law is not None
    rows = Rows(law, ours)
    for _ in range(200):
        chosen = load[0] if load[0] == load[1] else load[0] + (load[1] - load[0]) * theirs.random()
        trace = workload.sample(theirs, REQUESTS, chosen * 123.4, 0.5)
        assert rows.draw() == DRAWN
        np.testing.assert_array_equal(rows.arrival[:REQUESTS], trace.arrival_s)
        np.testing.assert_array_equal(rows.deadline[:REQUESTS], trace.deadline_s)
        np.testing.assert_array_equal(rows.length[:REQUESTS], trace.length)
    assert ours.random() == theirs.random()


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.Philox])
@pytest.mark.parametrize("lengths", [Empirical("translation"), Fixed(3)], ids=repr)
def test_more_sojourns_are_drawn_where_the_first_do_not_suffice(lengths, bits, monkeypatch) -> None:
    monkeypatch.setattr(MMPP, "block", lambda self, n: 1)
    workload = Workload(lengths, MMPP())
    ours, theirs = np.random.Generator(bits(5)), np.random.Generator(bits(5))
    law = law_of(workload, requests=REQUESTS, load=(0.8, 0.8), throughput_rps=1.0, deadline_s=0.5)
    assert law is not None
    rows = Rows(law, ours)
    for _ in range(50):
        trace = workload.sample(theirs, REQUESTS, 0.8, 0.5)
        assert rows.draw() == DRAWN
        np.testing.assert_array_equal(rows.arrival[:REQUESTS], trace.arrival_s)
        np.testing.assert_array_equal(rows.length[:REQUESTS], trace.length)
        assert ours.random() == theirs.random()


def test_no_deadline_is_infinite() -> None:
    law = law_of(WORKLOADS[0], requests=REQUESTS, load=(1.0, 1.0), throughput_rps=1.0, deadline_s=None)
    assert law is not None
    rows = Rows(law, np.random.default_rng(0))
    assert rows.draw() == DRAWN
    assert np.isinf(rows.deadline[:REQUESTS]).all()


@pytest.mark.parametrize(("rate", "deadline_s"), [(1.0, 1e-300), (1e-11, None)])
def test_what_sample_refuses_is_reported(rate: float, deadline_s: float | None) -> None:
    law = law_of(WORKLOADS[0], requests=REQUESTS, load=(1.0, 1.0), throughput_rps=rate, deadline_s=deadline_s)
    assert law is not None
    assert Rows(law, np.random.default_rng(0)).draw() == OUT_OF_RANGE
    with pytest.raises(ValueError, match="must be"):
        WORKLOADS[0].sample(np.random.default_rng(0), REQUESTS, rate, deadline_s)


def test_others_are_left_to_their_own_sample() -> None:
    class Mine(Fixed):
        pass

    options = {"requests": 10, "load": (1.0, 1.0), "throughput_rps": 1.0, "deadline_s": None}
    trace = Workload(Fixed(2)).sample(np.random.default_rng(0), 20, 1.0)
    for workload in (Workload(Mine(3)), Workload(Fixed(3), GammaRenewal(2.0)), TraceWorkload(trace)):
        assert law_of(workload, **options) is None
