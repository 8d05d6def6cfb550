"""The trained agents that come with this package, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ebatch_agents.card import Card
from ebatch_env.scoring.policy import StoredPolicy

FOLDER = "trained"


def place() -> Path:
    """The folder of this package's agents."""
    return Path(str(resources.files("ebatch_agents"))) / FOLDER


def shipped(folder: Path | None = None) -> dict[str, StoredPolicy]:
    """Names with their files: of every card in ``folder``; None: in this package.

    Raises:
        ValueError: a file there is no card.
    """
    where = place() if folder is None else folder
    cards = {path.stem: Card.read(path) for path in sorted(where.glob("*.json"))}
    return {
        name: StoredPolicy(where / card.weights, _summary(card), card.env, name.replace(f"@{card.short}", ""))
        for name, card in cards.items()
    }


def _summary(card: Card) -> str:
    text = f"{card.algorithm} trained on {card.env}"
    cost = card.scores.get("metrics", {}).get("cost")
    if cost is None:
        return text
    return f"{text}: cost {cost['iqm']:.3g} ({cost['low']:.3g}..{cost['high']:.3g})"
