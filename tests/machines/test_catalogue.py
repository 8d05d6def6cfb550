"""Every machine with every network, and every way to name a machine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

import ebatch_env.machines
from ebatch_env.costs import CostTable
from ebatch_env.machines import EPUR, MACHINES, Accelerator, BatchServer, TPUv1, machine_names, resolve_machine
from ebatch_env.networks import NETWORKS, Network


@dataclass(frozen=True)
class Mine:
    """A user's machine: no base class."""

    step: float = 1.0
    name: str = "mine"

    def cost_table(self, network: Network, lanes: int) -> CostTable:
        step = np.tile(np.minimum(np.arange(lanes + 1), self.step), (len(network.layers), 1))
        return CostTable(step_s=step, step_j=step)


def make_mine() -> Mine:
    return Mine(step=4.0)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_machines", sys.modules[__name__])


@pytest.mark.parametrize("lanes", [1, 32, 64])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("machine", MACHINES)
def test_every_pair(machine: str, network: str, lanes: int) -> None:
    if machine == "batch-server" and len(NETWORKS[network].layers) > 1:
        with pytest.raises(ValueError, match="network must be a network of one layer"):
            MACHINES[machine].cost_table(NETWORKS[network], lanes)
        return
    table = MACHINES[machine].cost_table(NETWORKS[network], lanes)
    assert (table.n_layers, table.lanes) == (len(NETWORKS[network].layers), lanes)
    assert (np.diff(table.step_s, axis=1) >= 0).all()
    assert (table.step_s[:, 1:] > 0).all()
    assert (np.diff(table.step_j, axis=1) >= 0).all()
    assert table.max_time_steps >= 1
    assert table.notifies == (not machine.endswith("-baseline"))
    if machine not in ("toy", "batch-server"):
        assert table.whole_sequences == NETWORKS[network].bidirectional
        for name in ("load_j", "input_j", "step_j"):
            total = sum(getattr(part, name) for part in table.parts.values())
            np.testing.assert_allclose(total, getattr(table, name), rtol=1e-12)


@pytest.mark.parametrize("machine", ["epur", "tpu"])
def test_more_lanes_only_extend_the_table(machine: str) -> None:
    small, large = (MACHINES[machine].cost_table(NETWORKS["MNMT"], lanes) for lanes in (8, 40))
    np.testing.assert_array_equal(small.step_s, large.step_s[:, :9])
    np.testing.assert_array_equal(small.step_j, large.step_j[:, :9])
    np.testing.assert_array_equal(small.load_s, large.load_s)


@pytest.mark.parametrize("name", MACHINES)
def test_names_and_dicts(name: str) -> None:
    machine: Any = MACHINES[name]
    assert machine.name == name
    assert resolve_machine(name) is machine
    assert resolve_machine(machine) is machine
    assert resolve_machine({"name": name}) == machine
    assert resolve_machine(json.loads(json.dumps(asdict(machine)))) == machine
    renamed = replace(machine, name="another")
    assert resolve_machine(json.loads(json.dumps(asdict(renamed)))) == renamed


def test_fields_in_a_dict() -> None:
    assert resolve_machine({"name": "epur", "replicas": 8}) == EPUR(replicas=8)
    assert resolve_machine({"name": "epur-mwl", "replicas": 8}) == EPUR.with_mwl(replicas=8)
    assert resolve_machine({"name": "tpu", "idle_w": 0.0}) == TPUv1(idle_w=0.0)
    assert resolve_machine({"name": "batch-server", "curve": "knee"}) == BatchServer(curve="knee")


def test_users_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(Mine(), Accelerator)
    assert resolve_machine(Mine(2.0)) == Mine(2.0)
    assert resolve_machine("my_machines:Mine") == Mine()
    assert resolve_machine("my_machines:make_mine") == Mine(4.0)
    assert resolve_machine({"kind": "my_machines:Mine", "step": 3.0}) == Mine(3.0)
    assert resolve_machine({"name": "my_machines:Mine", "step": 3.0}) == Mine(3.0)

    plugin = EntryPoint("plugged", "my_machines:Mine", "ebatch_env.machines")
    monkeypatch.setattr(ebatch_env.machines, "entry_points", lambda *, group: [plugin])
    assert resolve_machine("plugged") == Mine()
    assert resolve_machine({"name": "plugged", "step": 5.0}) == Mine(5.0)
    assert "plugged" in machine_names()


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("gpu", ValueError, "accelerator must be one of epur, .*tpu.*, or module:Class, got 'gpu'"),
        ({"name": "gpu"}, ValueError, "accelerator must be one of epur"),
        (
            {"name": "epur", "replica": 3},
            ValueError,
            "accelerator field of 'epur' must be one of .*replicas.*'replica'",
        ),
        ({"name": "epur", "replicas": 0}, ValueError, "replicas must be an integer in 1..65536, got 0"),
        ({"replicas": 3}, ValueError, "accelerator must be a dict with 'name' or 'kind'"),
        ({"kind": "epur"}, ValueError, "accelerator kind must be 'module:Class', got 'epur'"),
        ("my_machines:Nothing", AttributeError, "Nothing"),
        ("no_such_module:Nothing", ImportError, "no_such_module"),
        (3, TypeError, "accelerator must be a name, a dict, or have a name and cost_table, got 3"),
        (EPUR, TypeError, "accelerator must be a name, a dict"),
    ],
)
def test_bad_specs(spec: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve_machine(spec)
