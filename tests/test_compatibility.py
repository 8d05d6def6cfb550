"""What fits and what does not, and that the refusal says why."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import ebatch_env
from ebatch_env.compatibility import Interface, ScenarioVersion, digest
from ebatch_env.scenarios import SCENARIOS

TOY = "ebatch/Toy-v0"


def test_an_interface_survives_json_and_fits_its_own_system() -> None:
    system = ebatch_env.make_system(TOY)
    interface = Interface.of(system)
    again = Interface.from_dict(json.loads(json.dumps(interface.to_dict())))
    assert again == interface
    again.check(system)
    assert len(interface.fields) == system.observations.size
    assert interface.constants["lanes"] == pytest.approx(2 / 66)
    assert interface.actions["time_steps"] == (1, 2, 4, 8, 16, 0)


def test_loads_lengths_of_episodes_and_flat_actions_do_not_matter() -> None:
    interface = Interface.of(ebatch_env.make_system(TOY))
    for keywords in ({"load": 1.5}, {"requests": 99}, {"flat_actions": True}, {"hold": 3.0}, {"max_decisions": 5}):
        interface.check(ebatch_env.make_system(TOY, **keywords))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"lanes": 3}, r"levels of admit must be \[0, 1, -1\], as trained, got \[0, 1, 2, -1\]"),
        (
            {"controls": ["admit", "time_steps"]},
            r"controls must be \['time_steps', 'admit', 'joins', 'order', 'shed'\]",
        ),
        ({"time_step_levels": [1, 2]}, r"levels of time_steps must be \[1, 2, 4, 8, 16, 0\], as trained, got \[1, 2\]"),
        (
            {"objective": {**SCENARIOS[TOY].keywords["objective"], "miss": 7.0}},
            r"observation constant 'weight_miss' must be 0.8, as trained; transfer=true",
        ),
        ({"lengths_known": False}, "observation constant 'lengths_known' must be 1, as trained"),
        (
            {"workload": {"lengths": {"kind": "uniform", "low": 1, "high": 6}, "arrivals": {"kind": "poisson"}}},
            "the scale of observation field 'queue_steps' must be 5, as trained; transfer=true .* got 7.0",
        ),
    ],
)
def test_what_differs_is_named(keywords: dict[str, Any], message: str) -> None:
    interface = Interface.of(ebatch_env.make_system(TOY))
    system = ebatch_env.make_system(TOY, **keywords)
    with pytest.raises(ValueError, match=message):
        interface.check(system)
    if "transfer" in message or "constant" in message:
        interface.check(system, transfer=True)
    else:
        with pytest.raises(ValueError, match=message):
            interface.check(system, transfer=True)


def test_another_layout_is_refused_even_in_transfer() -> None:
    system = ebatch_env.make_system(TOY)
    values = Interface.of(system).to_dict()
    fewer = Interface.from_dict({**values, "fields": values["fields"][:-1]})
    with pytest.raises(ValueError, match=r"observation must be of 70 fields, as trained, got '71 fields'"):
        fewer.check(system, transfer=True)
    renamed = [["waiting", *values["fields"][0][1:]], *values["fields"][1:]]
    with pytest.raises(
        ValueError, match=r"observation field 0 must be waiting \(squash\), as trained, got 'queue_length"
    ):
        Interface.from_dict({**values, "fields": renamed}).check(system, transfer=True)
    assert Interface.from_dict({**values, "fields": renamed}).observation_fingerprint != fewer.observation_fingerprint


@pytest.mark.parametrize("values", [None, {}, {"fields": 3}, {"fields": [[1]], "constants": {}, "actions": {}}, []])
def test_what_is_no_interface_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="interface must be fields, constants and actions"):
        Interface.from_dict(values)


def test_every_scenario_has_a_version_of_its_own() -> None:
    versions = [ScenarioVersion.of(env_id) for env_id in SCENARIOS]
    assert len({version.fingerprint for version in versions}) == len(versions)
    for version in versions:
        again = ScenarioVersion.from_dict(json.loads(json.dumps(version.to_dict())))
        assert again == version
        again.check()


def test_a_changed_scenario_is_refused_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    import ebatch_env.scenarios as scenarios

    then = ScenarioVersion.of(TOY)
    entry = SCENARIOS[TOY]
    now = replace(entry, keywords={**entry.keywords, "load": 0.81, "lanes": 3})
    monkeypatch.setattr(scenarios, "SCENARIOS", {**SCENARIOS, TOY: now})
    with pytest.raises(ValueError, match=r"must be the version trained on .*: machine, lanes, load, .* differ"):
        then.check()
    monkeypatch.setattr(scenarios, "SCENARIOS", {})
    with pytest.raises(ValueError, match="env must be one of"):
        then.check()


@pytest.mark.parametrize("values", [None, {}, {"env": "x"}, {"env": "x", "parts": [1]}])
def test_what_is_no_version_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="scenario must be env and parts"):
        ScenarioVersion.from_dict(values)


def test_digests_see_values_and_not_the_last_digits() -> None:
    assert digest({"a": 0.1 + 0.2, "b": [1]}) == digest({"b": (1,), "a": 0.3})
    assert digest(np.array([1.0, 2.0])) == digest(np.array([1.0, 2.0 + 1e-12]))
    different = [1, "1", 1.5, None, True, [1], {"1": 1}, np.array([1.0]), np.array([[1.0]])]
    assert len({digest(value) for value in different}) == len(different)
    with pytest.raises(TypeError, match="a value that has plain parts"):
        digest(object())
