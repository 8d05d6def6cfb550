"""`CostTable`'s own arithmetic: what schedulers read off a machine."""

import numpy as np
import pytest

from ebatch_env import CostTable, EnergyPart, RequestTrace, RoundPlan, Simulator

STEP = {"step_s": [[0, 1, 1, 2]] * 2, "step_j": [[0, 1.5, 2.0, 3.0]] * 2}


def table(**changes):
    return CostTable(**{**STEP, "load_s": [2, 3], "load_j": [5, 5], **changes})


def test_round_s_and_round_j_by_hand():
    plain = table(static_w=0.5)
    assert plain.round_s(4, 2) == 2 + 4 + 3 + 4
    assert plain.round_j(4, 2) == 10 + 4 * (2.0 + 2.0) + 0.5 * 13
    assert plain.round_s([1, 4], [3, 3]).tolist() == [9, 21]
    assert plain.round_s(1, 0) == 5  # no lane busy: the loads alone


def test_prefetch_pays_for_what_sticks_out():
    # Steady state: load 1 (3 s) runs beside pass 0, load 0 (2 s) beside pass 1.
    assert table(prefetch=True).round_s(1, 1) == 2 + 3
    assert table(prefetch=True).round_s(4, 1) == 4 + 4


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("gemm", [False, True])
def test_round_s_is_what_the_simulator_takes(prefetch, gemm):
    extra = {"input_floor_s": [0.5, 0.25], "input_row_s": [0.125, 0.125], "input_j": [1, 1]} if gemm else {}
    machine = table(prefetch=prefetch, **extra)
    trace = RequestTrace(np.zeros(3), np.full(3, 400))
    log = Simulator(machine, 3, trace).run(lambda view: RoundPlan(time_steps=4))
    starts = np.array([record.start_s for record in log.rounds])
    assert np.allclose(np.diff(starts)[5:], machine.round_s(4, 3))
    energies = np.array([record.energy_j for record in log.rounds])
    assert np.allclose(energies, machine.round_j(4, 3))


def test_parts_must_add_up():
    half = EnergyPart(np.full(2, 2.5), np.zeros(2), np.array(STEP["step_j"]) / 2)
    assert set(table(parts={"a": half, "b": half}).parts) == {"a", "b"}
    with pytest.raises(ValueError, match="parts' load_j must add up"):
        table(parts={"a": half})
    with pytest.raises(ValueError, match="without a part named 'static'"):
        table(parts={"static": EnergyPart(np.full(2, 5.0), np.zeros(2), np.array(STEP["step_j"]))})


def test_arrays_are_frozen():
    with pytest.raises(ValueError, match="read-only"):
        table().step_s[0, 1] = 7
