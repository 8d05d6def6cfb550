"""The agents of a scoreboard: their weights and cards beside what its record says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebatch_agents import library
from ebatch_agents.card import Card, scores_of
from ebatch_agents.scoreboard.board import plain
from ebatch_agents.scoreboard.comparison import Check
from ebatch_env.scoring.jobs import PolicySpec
from ebatch_env.scoring.records import EpisodeRecord


def specs_of(
    env_id: str, values: Mapping[str, Any], records: Sequence[EpisodeRecord], folder: Path, found: Check
) -> dict[str, PolicySpec]:
    """Policies to play again, by label: baselines, and the agents whose weights are here and right.

    Args:
        env_id: the id.
        values: the scenario's, of a scoreboard.
        records: of the evaluation.
        folder: the scoreboard's.
        found: what is not so is told here.
    """
    specs = {
        entrant["label"]: PolicySpec(entrant["label"], entrant["label"], entrant["knobs"])
        for entrant in values["baselines"]
    }
    # A published record has no weights beside it: they are those that ship.
    beside = [folder / "agents", folder / "shipped"]
    places = beside if any(place.is_dir() for place in beside) else [library.place()]
    absent = []
    for agent in values["agents"]:
        copies = _copies(values, agent, places)
        path = _weights(env_id, values, agent, records, copies, found)
        if path is not None:
            specs[agent["label"]] = PolicySpec(agent["label"], str(path), {"transfer": True})
        elif copies:
            continue  # none of them is right, which has been told
        elif agent["label"] == values["shipped"]["label"]:
            found.mismatches.append(
                f"{env_id}: the weights of the shipped agent, {agent['label']}, are nowhere to be found"
            )
        else:
            absent.append(agent["label"])
    if absent:
        found.notes.append(
            f"{env_id}: the weights of {', '.join(absent)} are not here: their records are not played again"
        )
    return specs


def _copies(values: Mapping[str, Any], agent: Mapping[str, Any], places: Sequence[Path]) -> list[Path]:
    names = [agent["weights"]]
    if agent["label"] == values["shipped"]["label"]:
        names.append(values["shipped"]["weights"])
    return [path for path in (place / name for place in places for name in names) if path.is_file()]


def _weights(
    env_id: str,
    values: Mapping[str, Any],
    agent: Mapping[str, Any],
    records: Sequence[EpisodeRecord],
    copies: Sequence[Path],
    found: Check,
) -> Path | None:
    """The agent's weights, every copy with its card checked; None: none is right.

    The shipped copy's card has the scores of the evaluation, the others' none.
    """
    mine = [record for record in records if record.policy == agent["label"]]
    scores = plain(scores_of(mine)) if mine else {}
    first = None
    for path in copies:
        card_path = path.with_suffix(".json")
        try:
            card = Card.read(card_path)
            card.check_file(path)
        except (ValueError, OSError) as error:
            found.mismatches.append(f"{env_id}: {agent['label']}: {' '.join(str(error).split())}")
            continue
        told = {
            "sha256": agent["sha256"],
            "algorithm": values["algorithm"],
            "scenario": values["scenario"],
            "seed": agent["seed"],
            "decisions": agent["kept_at"],
        }
        on_card = {
            "sha256": card.sha256,
            "algorithm": card.algorithm,
            "scenario": plain(card.scenario.to_dict()),
            "seed": card.training.get("seed"),
            "decisions": card.training.get("decisions"),
        }
        what, where = f"{env_id}: {agent['label']}: ", f"on the card {card_path.name}"
        right = found.same(what, told, on_card, where)
        wanted = scores if path.name == values["shipped"]["weights"] else {}
        right &= found.same(f"{what}scores.", wanted, dict(card.scores), where, "by the records")
        if right:
            found.weights += 1
            first = first or path
    return first
