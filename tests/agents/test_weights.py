"""Loading what was exported, without torch; damaged and mismatched files are refused by what differs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")
pytest.importorskip("safetensors")

from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors

import ebatch_env
from ebatch_agents.weights import load
from ebatch_env.scoring.policy import make_policy
from tests.agents.conftest import TOY

SYSTEM = ebatch_env.make_system(TOY)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def copied(exported: Callable[[str], Path], tmp_path: Path) -> Path:
    """An export to damage."""
    for file in exported("ppo").parent.iterdir():
        shutil.copy(file, tmp_path / file.name)
    return tmp_path / "ppo@Toy.safetensors"


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    card = path.with_suffix(".json")
    values = json.loads(card.read_text())
    change(values)
    card.write_text(json.dumps(values))


def reweigh(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the tensors, and the card to match."""
    tensors = dict(read_tensors(path.read_bytes()))
    change(tensors)
    content = write_tensors(tensors)
    path.write_bytes(content)
    edit(path, lambda card: card.update(sha256=hashlib.sha256(content).hexdigest()))


def test_either_file_will_do(copied: Path) -> None:
    rows = np.random.default_rng(0).uniform(0, 1, (20, SYSTEM.observations.size)).astype(np.float32)
    by_weights, by_card = make_policy(copied, SYSTEM), make_policy(copied.with_suffix(".json"), SYSTEM)
    assert np.array_equal(by_weights.predict(rows)[0], by_card.predict(rows)[0])


def test_no_torch_is_needed(copied: Path) -> None:
    code = "import sys\nfor name in ('torch', 'stable_baselines3', 'sb3_contrib'): sys.modules[name] = None\n"
    code += "from ebatch_env.cli import main; main()"
    command = [sys.executable, "-c", code, "evaluate", "--env", TOY, "--episodes", "2", "--json", "--policy"]
    done = subprocess.run([*command, str(copied)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == ""
    assert [record["policy"] for record in json.loads(done.stdout)] == [str(copied)] * 2


def test_a_file_without_its_card_is_refused(copied: Path) -> None:
    copied.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"policy must be a file with its card ppo@Toy.json beside it"):
        load(copied, SYSTEM)


def test_a_card_without_its_file(copied: Path) -> None:
    copied.unlink()
    with pytest.raises(OSError, match="safetensors"):
        load(copied.with_suffix(".json"), SYSTEM)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-100] + b"\x00" * 100, lambda b: b + b"\x00"]
)
def test_damaged_weights(copied: Path, damage: Callable[[bytes], bytes]) -> None:
    copied.write_bytes(damage(copied.read_bytes()))
    with pytest.raises(ValueError, match=r"ppo@Toy.safetensors must be sha256 .*as its card says: the file is damaged"):
        load(copied, SYSTEM)


def test_what_is_no_safetensors_file(copied: Path) -> None:
    for content in (b"", b"PK\x03\x04 a zip", copied.read_bytes()[:500]):
        copied.write_bytes(content)
        edit(copied, lambda card, c=content: card.update(sha256=hashlib.sha256(c).hexdigest()))
        with pytest.raises(ValueError, match="a safetensors file that numpy can read"):
            load(copied, SYSTEM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.update({"head.bias": np.full(16, np.nan, np.float32)}),
            r"tensor 'head.bias' must be finite, got 'nan at",
        ),
        (lambda t: t["hidden.0.weight"].__setitem__((3, 4), np.inf), r"must be finite, got 'inf at \(3, 4\)'"),
        (lambda t: t.update({"head.bias": np.zeros(16)}), "tensor 'head.bias' must be float32, got 'float64'"),
        (lambda t: t.update({"head.bias": np.zeros(15, np.float32)}), r"must be of shape \(16,\), got 'shape \(15,\)'"),
        (lambda t: t.pop("hidden.1.bias"), "weights must be such that there is a tensor 'hidden.1.bias'"),
        (
            lambda t: t.update({"extra": np.zeros(1, np.float32)}),
            "weights must be among hidden.0.weight, .* got 'extra'",
        ),
    ],
)
def test_weights_that_do_not_make_up_the_network(
    copied: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    def writable(tensors: dict[str, Any]) -> None:
        tensors.update({name: tensor.copy() for name, tensor in tensors.items()})
        change(tensors)

    reweigh(copied, writable)
    with pytest.raises(ValueError, match=message):
        load(copied, SYSTEM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.clear(), "card must be a card of format 1"),
        (lambda c: c.update(format=2), "card must be a card of format 1"),
        (lambda c: c.pop("algorithm"), "card must be a card with all its parts"),
        (lambda c: c.pop("interface"), "card must be a card with all its parts"),
        (lambda c: c.update(more=1), "card must be a card with all its parts"),
        (lambda c: c["interface"].pop("fields"), "interface must be fields, constants and actions"),
        (lambda c: c["scenario"].pop("parts"), "scenario must be env and parts"),
        (lambda c: c["architecture"].pop("head"), "architecture must be"),
        (lambda c: c["architecture"].update(head="critic"), "head must be one of logits, values, quantiles"),
        (lambda c: c["architecture"].update(activation="elu"), "activation must be one of tanh, relu"),
        (lambda c: c["architecture"].update(hidden=[-64, 64]), "architecture must be of sizes >= 1"),
        (lambda c: c["architecture"].update(hidden=[32, 64]), r"tensor 'hidden.0.weight' must be of shape \(32, 71\)"),
        (lambda c: c["architecture"].update(outputs=[16]), "architecture must be 71 inputs and outputs"),
        (lambda c: c.update(weights="../x.safetensors"), "weights must be the name of a file beside the card"),
        (lambda c: c.update(weights="x.safetensors"), "policy must be the file that its card is for, x.safetensors"),
        # What it was trained for.
        (lambda c: c["interface"]["fields"].pop(), "observation must be of 70 fields, as trained, got '71 fields'"),
        (lambda c: c["interface"]["fields"][2].__setitem__(0, "mix"), r"observation field 2 must be mix \(share\), as tra"),
        (lambda c: c["interface"]["fields"][0].__setitem__(2, 64.0), "scale of observation field 'queue_length' must be 64"),
        (lambda c: c["interface"]["constants"].update(load_s=0.5), "observation constant 'load_s' must be 0.5"),
        (lambda c: c["interface"]["actions"].update(admit=[0, -1]), r"levels of admit must be \[0, -1\], as trained"),
        (lambda c: c["interface"]["actions"].pop("shed"), r"controls must be \['time_steps', 'admit', 'joins', 'order'\]"),
        (lambda c: c["scenario"]["parts"].update(load="0"), "scenario 'ebatch/Toy-v0' must be the version .*load differ"),
        (lambda c: c["scenario"].update(env="ebatch/Gone-v0"), "env must be one of"),
    ],
)  # fmt: skip
def test_cards_that_are_none_or_are_for_something_else(
    copied: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit(copied, change)
    with pytest.raises(ValueError, match=message):
        load(copied, SYSTEM)


@pytest.mark.parametrize("text", ["", "[]", "no", '"x"', "\x00"])
def test_what_is_no_json_card(copied: Path, text: str) -> None:
    copied.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match="card must be a"):
        load(copied, SYSTEM)


def test_transfer_runs_it_where_every_number_still_means_the_same(copied: Path) -> None:
    other = ebatch_env.make_system(TOY, objective={"energy": 2.0})
    with pytest.raises(ValueError, match="observation constant 'weight_energy' .*transfer=true"):
        load(copied, other)
    rows = np.zeros((3, SYSTEM.observations.size), np.float32)
    assert load(copied, other, transfer=True).predict(rows)[0].shape == (3, 5)
    edit(copied, lambda card: card["scenario"]["parts"].update(load="0"))
    load(copied, SYSTEM, transfer=True)
    with pytest.raises(ValueError, match="controls must be"):
        load(copied, ebatch_env.make_system("ebatch/Queue-v0"), transfer=True)
    with pytest.raises(ValueError, match="transfer must be True or False, got 'yes'"):
        load(copied, SYSTEM, transfer="yes")  # type: ignore[arg-type]


def test_observations_and_states_of_another_shape(exported: Callable[[str], Path]) -> None:
    policy = load(exported("recurrent_ppo"), SYSTEM)
    with pytest.raises(ValueError, match=r"observation must be of shape \(E, 71\) or \(71,\), got 'shape \(4, 3\)'"):
        policy.predict(np.zeros((4, 3), np.float32))
    _, state = policy.predict(np.zeros((4, 71), np.float32))
    with pytest.raises(ValueError, match="state must be what the last call returned"):
        policy.predict(np.zeros((5, 71), np.float32), state)


def test_other_weights_are_other_results(copied: Path) -> None:
    from ebatch_env.scoring.jobs import PolicySpec, fingerprint

    def digest() -> str:
        spec = PolicySpec("agent", "a name that says nothing")
        return fingerprint(SYSTEM, load(copied, SYSTEM), spec, TOY, 0)

    before = digest()
    assert digest() == before
    reweigh(copied, lambda tensors: tensors.update({"head.bias": tensors["head.bias"] + 1}))
    assert digest() != before
