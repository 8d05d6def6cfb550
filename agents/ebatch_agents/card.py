"""`Card`: what is known about a trained policy, in a JSON file beside its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ebatch_agents.network import Architecture
from ebatch_env.compatibility import Interface, ScenarioVersion
from ebatch_env.errors import fail
from ebatch_env.scoring.files import write_json
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.statistics import aggregate

FORMAT = 1


def short_id(env_id: str) -> str:
    """An id without "ebatch/" and version.

    >>> short_id("ebatch/Toy-v0")
    'Toy'
    """
    return env_id.removeprefix("ebatch/").rpartition("-v")[0]


def scores_of(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """What a card says of the episodes that its policy played, one record each: how many, the seed of the first, and per
    metric the interquartile mean (``iqm``) with its 95 % interval (``low``, ``high``)."""
    metrics = {found.metric: {"iqm": found.iqm, "low": found.low, "high": found.high} for found in aggregate(records)}
    return {"episodes": len(records), "seed": min(record.seed for record in records), "metrics": metrics}


@dataclass(frozen=True)
class Card:
    """What is known about a trained policy.

    Attributes:
        algorithm: what trained it, one of `ALGORITHMS`.
        scenario: the id it was trained on, and what that meant then.
        interface: what it sees and does.
        architecture: its network.
        masked: it takes legal actions only.
        weights: name of the file beside the card.
        sha256: of that file.
        training: steps, seed, command and hyperparameters, and keywords in the place of the scenario's.
        scores: how it does, as `scores_of` says it; empty: it was not scored.
        same_actions: how it compared with the model it came from (`export.Comparison`).
        versions: of the libraries it was trained with.
    """

    algorithm: str
    scenario: ScenarioVersion
    interface: Interface
    architecture: Architecture
    masked: bool
    weights: str
    sha256: str
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    same_actions: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def env(self) -> str:
        """The id it was trained on."""
        return self.scenario.env

    @property
    def short(self) -> str:
        """That id without "ebatch/" and version, as names of files have it."""
        return short_id(self.env)

    def write(self, path: Path) -> None:
        """Write the card.

        Raises:
            OSError: it cannot be written.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["scenario"], values["interface"] = self.scenario.to_dict(), self.interface.to_dict()
        values["architecture"] = asdict(self.architecture)
        write_json(path, {"format": FORMAT, **values})

    @classmethod
    def read(cls, path: Path) -> Card:
        """Read a card.

        Raises:
            ValueError: it is no card, or one of another format.
            OSError: it cannot be read.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise fail("card", str(path), f"a JSON file ({error})") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise fail("card", str(path), f"a card of format {FORMAT}, as `ebatch export` writes it")
        try:
            values["scenario"] = ScenarioVersion.from_dict(values["scenario"])
            values["interface"] = Interface.from_dict(values["interface"])
            values["architecture"] = Architecture.from_dict(values["architecture"])
            card = cls(**values)
        except (KeyError, TypeError) as error:
            raise fail("card", str(path), f"a card with all its parts ({error})") from None
        if Path(str(card.weights)).name != card.weights:
            raise fail("weights", card.weights, "the name of a file beside the card")
        return card

    def check_file(self, path: Path) -> bytes:
        """The content of the weights' file.

        Raises:
            ValueError: it is not the file that the card was written for.
            OSError: it cannot be read.
        """
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise fail(
                str(path),
                f"sha256 {found[:16]}... ({len(content)} bytes)",
                f"sha256 {self.sha256[:16]}..., as its card says: the file is damaged or another",
            )
        return content
