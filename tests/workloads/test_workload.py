from __future__ import annotations

import json
import math
import pickle
from dataclasses import asdict

import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from hypothesis import given, settings
from hypothesis import strategies as st

from ebatch_env.errors import LARGEST
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import (
    CATALOGUE,
    MMPP,
    AllAtOnce,
    Empirical,
    Fixed,
    Poisson,
    TraceWorkload,
    Uniform,
    Workload,
    WorkloadLike,
    catalogue,
    resolve_workload,
    workload_names,
    write_csv,
)
from ebatch_env.workloads.catalogue import ARRIVALS, LENGTHS

LENGTH_SPECS = st.one_of(
    st.sampled_from(["translation", "speech", "sentiment", "transcript"]),
    st.builds(lambda n: {"kind": "fixed", "length": n}, st.integers(1, 1 << 24)),
    st.builds(lambda a, b: {"kind": "uniform", "low": a, "high": a + b}, st.integers(1, 99), st.integers(0, 99)),
    st.builds(
        lambda n, share: {"kind": "geometric", "mean": 1.0 + share * (n / 2 - 1.0), "max_length": n},
        st.integers(3, 5000),
        st.floats(0.001, 1.0),
    ),
    st.builds(
        lambda pairs: {"kind": "table", "lengths": list(pairs), "weights": list(pairs.values())},
        st.dictionaries(st.integers(1, 1 << 24), st.floats(1e-290, 1e9), min_size=1, max_size=9),
    ),
    st.builds(
        lambda points, stride: {"kind": "empirical", "source": sorted(points), "stride": stride},
        st.lists(st.floats(0.0, 1e4), min_size=2, max_size=20),
        st.integers(1, 4),
    ),
)
ARRIVAL_SPECS = st.one_of(
    st.sampled_from(["poisson", "mmpp", "all-at-once", "diurnal"]),
    st.builds(
        lambda r, s, d: {"kind": "mmpp", "burst_ratio": r, "burst_share": s, "sojourn": d},
        st.floats(1.0, 1e4),
        st.floats(0.001, 0.999),
        st.floats(1.0, 1e9),
    ),
    st.builds(lambda cv: {"kind": "gamma-renewal", "cv": cv}, st.floats(0.01, 50.0)),
    st.builds(lambda p, a: {"kind": "diurnal", "period": p, "amplitude": a}, st.floats(1.0, 1e9), st.floats(0.0, 1.55)),
    st.builds(
        lambda p, a, profile: {"kind": "diurnal", "period": p, "amplitude": a, "profile": [1.0, *profile]},
        st.floats(1.0, 1e9),
        st.floats(0.0, 1.0),
        st.lists(st.floats(0.0, 10.0), min_size=1, max_size=7),
    ),
)


def check(trace: RequestTrace, requests: int) -> None:
    """Pass a trusted trace through the checks it skipped."""
    assert trace.requests == requests
    assert trace.arrival_s.dtype == trace.deadline_s.dtype == np.float64
    assert trace.length.dtype == np.int32
    checked = RequestTrace(trace.arrival_s, trace.length, trace.deadline_s)
    assert (checked.length == trace.length).all()


def same(a: RequestTrace, b: RequestTrace) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("arrival_s", "length", "deadline_s"))


@settings(deadline=None, max_examples=200)
@given(
    lengths=LENGTH_SPECS,
    arrivals=ARRIVAL_SPECS,
    requests=st.integers(1, 300),
    rate=st.floats(1e-9, 1e12),
    deadline=st.none() | st.floats(1e-6, 1e12),
    seed=st.integers(0, 2**32),
)
def test_any_valid_spec_gives_valid_traces(lengths, arrivals, requests, rate, deadline, seed) -> None:
    workload = resolve_workload({"lengths": lengths, "arrivals": arrivals})
    again = resolve_workload(json.loads(json.dumps(workload.to_dict())))
    assert again == workload
    assert hash(again) == hash(workload)
    try:
        trace = workload.sample(np.random.default_rng(seed), requests, rate, deadline)
    except ValueError as error:
        if "rate_rps must be high enough" in str(error):
            assert requests / rate > 1e-2 * LARGEST
        else:
            assert "deadline_s must be long enough" in str(error)  # noqa: PT017
            assert deadline < requests / rate * 1e-9
        return
    check(trace, requests)
    assert trace.length.max() <= workload.lengths.max_length
    assert same(trace, again.sample(np.random.default_rng(seed), requests, rate, deadline))


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue(name: str) -> None:
    workload = resolve_workload(name)
    assert isinstance(workload, WorkloadLike)
    assert workload is CATALOGUE[name]
    check(workload.sample(np.random.default_rng(0), 500, 20.0, 0.25), 500)
    assert resolve_workload(json.loads(json.dumps(asdict(workload)))) == workload
    assert pickle.loads(pickle.dumps(workload)) == workload
    assert name in workload_names()


def test_scale_free() -> None:
    workload = CATALOGUE["speech-bursty"]
    slow = workload.sample(np.random.default_rng(3), 1000, 1.0)
    fast = workload.sample(np.random.default_rng(3), 1000, 64.0, 0.5)
    assert (slow.arrival_s == fast.arrival_s * 64.0).all()
    assert (slow.length == fast.length).all()
    assert (fast.deadline_s == fast.arrival_s + 0.5).all()
    assert np.isinf(slow.deadline_s).all()


def test_golden_trace() -> None:
    """The same seed gives the same trace on any machine with the same NumPy stream."""
    trace = CATALOGUE["translation-bursty"].sample(np.random.default_rng(7), 5, 10.0, 0.5)
    assert [x.hex() for x in trace.arrival_s.tolist()] == [
        "0x1.8eed583011686p-3",
        "0x1.21e3bb5f4c3f2p-2",
        "0x1.334e09b02c65ap-2",
        "0x1.3752b91466c92p-2",
        "0x1.7927ba329cf7ep-2",
    ]
    assert trace.length.tolist() == [21, 20, 39, 25, 21]


@pytest.mark.parametrize("name", ["translation", "speech-bursty", "sentiment-diurnal"])
def test_long_run_rate_and_mean_length(name: str) -> None:
    trace = CATALOGUE[name].sample(np.random.default_rng(1), 1_000_000, 50.0)
    assert trace.requests / trace.arrival_s[-1] == pytest.approx(50.0, rel=0.05)
    assert trace.length.mean() == pytest.approx(CATALOGUE[name].lengths.mean, rel=0.005)


def test_resolve_forms(tmp_path, monkeypatch) -> None:
    assert resolve_workload({"lengths": "translation"}) == Workload(Empirical("translation"), Poisson())
    assert resolve_workload({"lengths": Fixed(3), "arrivals": MMPP()}) == Workload(Fixed(3), MMPP())
    mine = Workload(Uniform(1, 2), AllAtOnce())
    assert resolve_workload(mine) is mine
    path = tmp_path / "t.csv"
    write_csv(path, RequestTrace(arrival_s=[0.0, 1.0], length=[3, 4]))
    assert resolve_workload(path) == resolve_workload(str(path)) == TraceWorkload(str(path))
    assert resolve_workload({"trace": str(path), "steps": "total"}).steps == "total"
    (tmp_path / "plugin_for_tests.py").write_text(
        "import numpy as np\n"
        "from dataclasses import dataclass, field\n"
        "from ebatch_env.workloads import Fixed, Workload\n"
        "def make():\n    return Workload(Fixed(5))\n"
        "ready = Workload(Fixed(6))\n"
        "@dataclass(frozen=True)\n"
        "class Steady:\n"
        "    gap: float = 1.0\n"
        "    kind: str = field(default='plugin_for_tests:Steady', init=False)\n"
        "    def sample(self, rng, n):\n        return self.gap * np.arange(n)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_workload("plugin_for_tests:make") == Workload(Fixed(5))
    assert resolve_workload("plugin_for_tests:ready") == Workload(Fixed(6))
    assert resolve_workload({"kind": "plugin_for_tests:make"}) == Workload(Fixed(5))
    steady = resolve_workload({"lengths": Fixed(1), "arrivals": {"kind": "plugin_for_tests:Steady", "gap": 2.0}})
    assert steady.sample(np.random.default_rng(0), 3, 2.0).arrival_s.tolist() == [0.0, 1.0, 2.0]
    assert resolve_workload(json.loads(json.dumps(steady.to_dict()))) == steady
    # Someone else's parts are checked on every draw.
    broken = resolve_workload({"lengths": Fixed(1), "arrivals": {"kind": "plugin_for_tests:Steady", "gap": -1.0}})
    with pytest.raises(ValueError, match="arrival_s must be finite and >= 0"):
        broken.sample(np.random.default_rng(0), 3, 2.0)


def test_entry_points(monkeypatch) -> None:
    class Point:
        name = "from-a-plugin"

        def load(self):
            return lambda: Workload(Fixed(8))

    monkeypatch.setattr(catalogue, "entry_points", lambda group: [Point()] if group == "ebatch_env.workloads" else [])
    assert workload_names()[-1] == "from-a-plugin"
    assert resolve_workload("from-a-plugin") == Workload(Fixed(8))
    with pytest.raises(ValueError, match=r"workload must be one of translation, .*, from-a-plugin, a path"):
        resolve_workload("from-nowhere")


def test_survives_gymnasium_json() -> None:
    for workload in (CATALOGUE["speech-diurnal"], Workload(Empirical((1, 2, 9)))):
        spec = EnvSpec("Test-v0", entry_point="a:b", kwargs={"workload": workload})
        kwargs = EnvSpec.from_json(spec.to_json()).kwargs
        assert resolve_workload(kwargs["workload"]) == workload


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("", ValueError, "workload must be one of"),
        (3, TypeError, "workload must be a name"),
        (Workload, TypeError, "workload must be a name"),
        ("math:pi", TypeError, "workload must be a name"),
        ("no_such_module_here:x", ImportError, "no_such_module_here"),
        ("math:no_such_thing", AttributeError, "no_such_thing"),
        ("absent.csv", FileNotFoundError, "absent"),
        ({}, ValueError, "'lengths' or 'trace'"),
        ({"lengths": "translation", "rate": 3}, ValueError, "workload has no parameter 'rate'; it takes lengths"),
        ({"lengths": 5}, ValueError, "lengths must be a dict with 'kind', one of empirical"),
        ({"lengths": {"low": 1}}, ValueError, "lengths must be a dict with 'kind'"),
        ({"lengths": {"kind": "normal"}}, ValueError, "lengths kind must be one of empirical"),
        ({"lengths": {"kind": "uniform", "low": 1}}, ValueError, "lengths of kind 'uniform' takes low, high"),
        ({"lengths": {"kind": "uniform", "lo": 1}}, ValueError, "has no parameter 'lo'; it takes low, high"),
        ({"lengths": "translation", "arrivals": "weekly"}, ValueError, "arrivals kind must be one of poisson"),
        ({"lengths": "translation", "arrivals": {"kind": "poisson", "rate": 1}}, ValueError, "it takes none"),
        ({"kind": "translation"}, ValueError, "workload kind must be 'module:Class'"),
        ({"trace": "t.csv", "rate": 3}, ValueError, "has no parameter 'rate'; it takes trace, steps"),
        ({"trace": 7}, ValueError, "trace must be a RequestTrace or a path"),
    ],
)
def test_refused_specs(spec, error, message) -> None:
    with pytest.raises(error, match=message):
        resolve_workload(spec)


def test_refused_arguments() -> None:
    workload, rng = CATALOGUE["translation"], np.random.default_rng(0)
    for kwargs, message in [
        ({"requests": 0, "rate_rps": 1.0}, "requests must be an integer in 1..10000000, got 0"),
        ({"requests": 2.0, "rate_rps": 1.0}, "requests must be an integer"),
        ({"requests": 2, "rate_rps": 0.0}, "rate_rps must be a finite number"),
        ({"requests": 2, "rate_rps": math.nan}, "rate_rps must be"),
        ({"requests": 2, "rate_rps": 1.0, "deadline_s": 0.0}, "deadline_s must be"),
        ({"requests": 2, "rate_rps": 1e-9, "deadline_s": 1e-9}, "deadline_s must be long enough"),
    ]:
        with pytest.raises(ValueError, match=message):
            workload.sample(rng, **kwargs)
    with pytest.raises(ValueError, match="lengths must be a length distribution"):
        Workload("translation")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="arrivals must be an arrival process"):
        Workload(Fixed(1), "poisson")  # type: ignore[arg-type]


def test_every_kind_says_its_name() -> None:
    for kinds in (LENGTHS, ARRIVALS):
        for kind, cls in kinds.items():
            assert cls.__dataclass_fields__["kind"].default == kind


# --- recorded traces ------------------------------------------------------------------------------------------------

RECORDED = RequestTrace(arrival_s=[1.0, 2.0, 2.5, 5.0], length=[7, 3, 7, 9], deadline_s=[2.0, 4.0, np.inf, 6.0])


def test_trace_as_recorded() -> None:
    workload = TraceWorkload(RECORDED)
    assert isinstance(workload, WorkloadLike)
    assert same(workload.sample(np.random.default_rng(0)), RECORDED)
    assert workload.rate_rps == 0.8
    assert workload.has_deadlines
    assert workload.lengths.mean == 6.5
    assert workload.lengths.max_length == 9
    assert workload.lengths.quantile([0.25, 0.5, 0.75, 1.0]).tolist() == [3, 7, 7, 9]


def test_trace_windows_by_hand() -> None:
    workload = TraceWorkload(RECORDED)
    windows = {
        (7, 3): ([1.0, 2.0], [2.0, 4.0]),
        (3, 7): ([1.0, 1.5], [3.0, np.inf]),
        (7, 9): ([0.5, 3.0], [np.inf, 4.0]),
    }
    seen = set()
    for seed in range(40):
        trace = workload.sample(np.random.default_rng(seed), 2)
        check(trace, 2)
        arrival, deadline = windows[tuple(trace.length.tolist())]
        assert trace.arrival_s.tolist() == arrival
        assert trace.deadline_s.tolist() == deadline
        seen.add(tuple(trace.length.tolist()))
        scaled = workload.sample(np.random.default_rng(seed), 2, rate_rps=1.6)
        assert scaled.arrival_s.tolist() == [t / 2 for t in arrival]
        assert np.allclose(scaled.deadline_s - scaled.arrival_s, np.array(deadline) - arrival)
        due = workload.sample(np.random.default_rng(seed), 2, 1.6, 0.25)
        assert (due.deadline_s == due.arrival_s + 0.25).all()
    assert seen == set(windows)
    whole = workload.sample(np.random.default_rng(0), rate_rps=8.0)
    assert whole.requests / whole.arrival_s[-1] == 8.0


def test_trace_in_memory_round_trips_and_limits(tmp_path) -> None:
    for trace in (RECORDED, RequestTrace(arrival_s=[0.0, 0.0], length=[1, 2])):
        workload = TraceWorkload(trace)
        again = resolve_workload(json.loads(json.dumps(workload.to_dict())))
        assert same(again.requests, trace)
        assert same(resolve_workload(asdict(workload)).requests, trace)
    assert again.rate_rps == math.inf
    assert again.sample(np.random.default_rng(0), 2, 5.0).arrival_s.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="requests must be at most 2, the length of the trace, got 3"):
        again.sample(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="requests must be an integer >= 1"):
        again.sample(np.random.default_rng(0), 0)
    path = tmp_path / "t.csv"
    write_csv(path, RECORDED)
    filed = TraceWorkload(str(path))
    assert resolve_workload(json.loads(json.dumps(asdict(filed)))) == filed
    assert same(pickle.loads(pickle.dumps(filed)).requests, RECORDED)
    with pytest.raises(ValueError, match="steps must be one of"):
        TraceWorkload(str(path), steps="all")
