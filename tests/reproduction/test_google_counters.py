"""Google's counters: what is published adds up, and the model's are the sums one does by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ebatch_env.machines import TPUv1
from ebatch_env.reproduction.google_counters import LSTMS, NETWORKS_COUNTED, CountedNetwork, counters

LSTM0 = LSTMS[0]


@pytest.mark.parametrize("net", NETWORKS_COUNTED.values(), ids=lambda net: net.name)
def test_published_and_modelled_cycles_add_up(net: CountedNetwork) -> None:
    assert net.active + net.stall + net.shift + net.other == pytest.approx(100.0, abs=0.1)
    found = counters(TPUv1(), net)
    assert sum(found[key] for key in ("active", "stall", "shift", "other")) == pytest.approx(100.0)


def test_counters_by_hand() -> None:
    machine = TPUv1(activation_bytes=2, instruction_cycles=10.0, bandwidth_bytes_per_s=700e6 * 64, drain_cycles=100)
    net = replace(LSTM0, weights=100 * 65536, matrices=8, vector_layers=5, batch=50, width=300)
    # Tile 1024 cycles; 100 of work, 256 of shift. 5 * 50 * 3 rows * 10 cycles + 2 cells * 100, over 100 tiles: 77.
    found = counters(machine, net)
    assert found["cycles"] == pytest.approx(1024 + 77)
    assert found["active"] == pytest.approx(100 * 100 / 1101)
    assert found["stall"] == pytest.approx(100 * (1024 - 356) / 1101)
    assert found["tops"] == pytest.approx(2 * 50 * 65536 * 700e6 / 1101 / 1e12)


def test_a_full_array_hides_the_shift() -> None:
    found = counters(TPUv1(), replace(LSTM0, batch=1349), rows=5000)
    assert found["stall"] == found["shift"] == 0.0


def test_only_16_bits_explain_the_lstms() -> None:
    # Cycles per useful row by counters over production: twice one on both LSTMs, about one on both MLPs.
    assert [round(net.row_cycles) for net in NETWORKS_COUNTED.values()] == [1, 1, 2, 2]
