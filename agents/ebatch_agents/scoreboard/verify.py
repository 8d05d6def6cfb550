"""Checking a scoreboard from its files: needs no torch, and nothing of the training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ebatch_agents import library
from ebatch_agents.card import Card
from ebatch_agents.runs import versions
from ebatch_agents.scoreboard.board import RECORDS, VALIDATION, Board, checksum, plain, read
from ebatch_agents.scoreboard.entrants import Entrant, baselines, rivals
from ebatch_agents.scoreboard.learned import watch
from ebatch_agents.scoreboard.summary import figures, groups_of, mean_cost
from ebatch_agents.scoreboard.transfer import Case
from ebatch_env.compatibility import ScenarioVersion
from ebatch_env.errors import check_integer
from ebatch_env.scoring.jobs import PolicySpec, build_system, system_keywords
from ebatch_env.scoring.pool import in_any_order
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.runner import Block, play_block
from ebatch_env.scoring.seeds import EVALUATION_SEED, VALIDATION_SEED

DECIDING = ("ebatch-env", "numpy", "numba")  # the libraries that episodes depend on
TOLERANCE = 1e-9  # of figures worked out again; records must agree to the last bit

Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        mismatches: a line for each thing that does not agree; none: the scoreboard stands.
        notes: what could not be checked, and why.
        figures, episodes, weights: how many were checked.
    """

    mismatches: tuple[str, ...]
    notes: tuple[str, ...]
    figures: int
    episodes: int
    weights: int

    @property
    def summary(self) -> str:
        """What was checked."""
        return (
            f"{self.figures:,} figures worked out again from the records, {self.episodes:,} episodes played again with the same "
            f"records to the last bit, {self.weights} agents with the right checksums"
        )


class _Check:
    """Gathers what is found."""

    def __init__(self) -> None:
        self.mismatches: list[str] = []
        self.notes: list[str] = []
        self.figures = self.episodes = self.weights = 0

    def same(self, what: str, told: Any, found: Any, now: str = "when worked out again") -> bool:
        """Compare plain values; tells the first place where they differ."""
        self.figures += _count(found)
        place = next(_differences(told, found), None)
        if place is None:
            return True
        where, left, right = place
        self.mismatches.append(f"{what}{where} is {left!r} in the files and {right!r} {now}")
        return False


def check(
    folder: Path,
    *,
    sample: int | None = 2,
    trace: Path | None = None,
    other_versions: bool = False,
    processes: int = 1,
    progress: Tell | None = None,
) -> Verdict:
    """Check a scoreboard.

    Args:
        folder: with the files that `ebatch_agents.scoreboard.board` lists; the first two are needed. Weights that are not there
            are looked for among the agents that the package ships.
        sample: how many episodes of each policy in each condition are played again; None: all. Which ones depends on the
            records' checksum.
        trace: the file of requests, where the scoreboard has some.
        other_versions: other versions of the libraries are noted rather than held against it.
        processes: to play in.
        progress: called with the share done and what is being done.

    Raises:
        ValueError: no scoreboard, or one of another format.
        OSError: a file cannot be read.
    """
    if sample is not None:
        check_integer("sample", sample, low=0)
    check_integer("processes", processes, low=1)
    board = read(folder)
    found = _Check()
    _check_versions(board, found, other_versions)
    _check_files(board, folder, found)
    blocks: list[tuple[Block, list[EpisodeRecord]]] = []
    rng = np.random.default_rng(int(checksum(folder / RECORDS)[:16], 16))
    for env_id, values in board.values["scenarios"].items():
        mine = {case: records for (env, case), records in board.records.items() if env == env_id}
        _check_figures(env_id, values, mine, found)
        specs = _specs(env_id, values, folder, found)
        if sample is None:
            _check_learned(env_id, values, specs, found)
        blocks += _blocks(env_id, values, mine, specs, sample, rng, trace, found)
    unknown = sorted({env for env, _ in board.records} - set(board.values["scenarios"]))
    found.mismatches += [f"{env} has records and no figures" for env in unknown]
    _replay(blocks, processes, progress, found)
    return Verdict(tuple(found.mismatches), tuple(found.notes), found.figures, found.episodes, found.weights)


def _check_versions(board: Board, found: _Check, other_versions: bool) -> None:
    told, here = board.values["versions"], versions()
    for name in DECIDING:
        if told.get(name) != here.get(name):
            line = f"version of {name} is {told.get(name)} in the files and {here.get(name)} here"
            if other_versions:
                found.notes.append(line)
            else:
                found.mismatches.append(line + "; --other-versions checks all the rest all the same")


def _check_files(board: Board, folder: Path, found: _Check) -> None:
    for name, told in board.values["files"].items():
        if (folder / name).is_file():
            found.same(f"checksum of {name}", told, checksum(folder / name), "of the file")


def _check_figures(
    env_id: str, values: Mapping[str, Any], records: Mapping[str, Sequence[EpisodeRecord]], found: _Check
) -> None:
    """Everything that can be worked out without playing."""
    found.same(f"{env_id}: scenario: ", values["scenario"], _now(env_id), "now")
    played = {case: rows for case, rows in records.items() if case != VALIDATION}
    for case, rows in list(played.items()):
        counts = Counter(record.episode for record in rows)
        policies = {record.policy for record in rows}
        odd = sorted(episode for episode, count in counts.items() if count != len(policies))
        if odd:
            title = f"{env_id}{f', {case}' if case else ''}"
            found.mismatches.append(f"{title}: not every policy has a record of episode {odd[0]}, or one has two")
            del played[case]
    worked_out = plain(figures(values, played))
    for case in {**values["cases"], **worked_out}:
        title = f"{env_id}{f', {case}' if case else ''}"
        told = values["cases"].get(case)
        if case in records and case not in played:
            continue  # nothing can be worked out, which has been told
        if told is None or case not in worked_out:
            found.mismatches.append(
                f"{title} has {'records and no figures' if told is None else 'figures and no records'}"
            )
            continue
        for policy in {**told["policies"], **worked_out[case]}:
            found.same(f"{title}: ", {policy: told["policies"].get(policy)}, {policy: worked_out[case].get(policy)})
        found.same(f"{title}: episodes", told["episodes"], len({record.episode for record in played[case]}))
    known = {label for labels in groups_of(values).values() for label in labels}
    strangers = sorted({record.policy for rows in records.values() for record in rows} - known)
    found.mismatches += [f"{env_id}: {label} has records and is neither agent nor baseline" for label in strangers]
    validation = {label: mean_cost(records.get(VALIDATION, ()), label) for label in values["validation"]}
    found.same(f"{env_id}, {VALIDATION}: ", values["validation"], plain(validation))
    for agent in values["agents"]:
        best = min(float(cost) for _, cost in agent["evaluations"])
        found.same(f"{env_id}: {agent['label']} validation_cost", agent["validation_cost"], plain(best))
    chosen = min(values["agents"], key=lambda agent: (float(agent["validation_cost"]), agent["seed"]))
    found.same(f"{env_id}: agent to ship", values["shipped"]["label"], chosen["label"])
    entrants = [Entrant(**entrant) for entrant in values["baselines"]]
    found.same(f"{env_id}: rivals", values["rivals"], rivals(entrants))
    here = {
        entrant.label: plain(asdict(entrant)) for entrant in baselines(env_id, build_system(system_keywords(env_id)))
    }
    for entrant in values["baselines"]:
        if entrant["label"] not in here:
            found.mismatches.append(f"{env_id}: baseline {entrant['label']} is not installed")
        else:
            found.same(f"{env_id}: baseline {entrant['label']}: ", entrant, here[entrant["label"]], "as tuned now")


def _check_learned(env_id: str, values: Mapping[str, Any], specs: Mapping[str, PolicySpec], found: _Check) -> None:
    """The maps of what is decided where."""
    told = dict(values["learned"])
    system = build_system(system_keywords(env_id))
    labels = {name: values["shipped"]["label"] if name == values["algorithm"] else name for name in told["policies"]}
    try:
        policies = {name: replace(specs[label], knobs={}).make(system, env_id) for name, label in labels.items()}
    except (KeyError, ValueError):
        return  # one is not here or cannot act, which has been told
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + told.pop("episodes"))
    found.same(f"{env_id}: learned: ", told, plain(watch(system, policies, seeds)))


def _now(env_id: str) -> dict[str, Any] | None:
    try:
        return ScenarioVersion.of(env_id).to_dict()
    except ValueError:
        return None  # there is no such id any more


def _specs(env_id: str, values: Mapping[str, Any], folder: Path, found: _Check) -> dict[str, PolicySpec]:
    """Policies to play again: baselines, and the agents whose weights are here."""
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
        path = _weights(env_id, values, agent, copies, found)
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
    env_id: str, values: Mapping[str, Any], agent: Mapping[str, Any], copies: Sequence[Path], found: _Check
) -> Path | None:
    """The agent's weights, every copy with its card checked; None: none is right."""
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
        if found.same(f"{env_id}: {agent['label']}: ", told, on_card, f"on the card {card_path.name}"):
            found.weights += 1
            first = first or path
    return first


def _blocks(
    env_id: str,
    values: Mapping[str, Any],
    records: Mapping[str, Sequence[EpisodeRecord]],
    specs: Mapping[str, PolicySpec],
    sample: int | None,
    rng: np.random.Generator,
    trace: Path | None,
    found: _Check,
) -> list[tuple[Block, list[EpisodeRecord]]]:
    """What to play again, with the records that should come out."""
    blocks = []
    for case, rows in records.items():
        told = values["cases"].get(case, {"title": case, "overrides": {}, "trace": None})
        if told["trace"] is not None and (trace is None or checksum(trace) != told["trace"]["sha256"]):
            wanted = told["trace"]["name"]
            found.notes.append(f"{env_id}, {case}: not played again: --trace must be {wanted} as it was then")
            continue
        try:
            keywords = Case(case, told["title"], told["overrides"], None if told["trace"] is None else trace).keywords(
                env_id
            )
            build_system(keywords)
        except ValueError as error:
            found.mismatches.append(f"{env_id}, {case}: {error}")
            continue
        by_policy: dict[str, list[EpisodeRecord]] = {}
        for record in rows:
            by_policy.setdefault(record.policy, []).append(record)
        for label, mine in by_policy.items():
            if label not in specs:
                continue
            size = len(mine) if sample is None else min(sample, len(mine))
            picked = [mine[n] for n in sorted(rng.choice(len(mine), size, replace=False).tolist())]
            if not picked:
                continue
            first = VALIDATION_SEED if case == VALIDATION else EVALUATION_SEED
            if any(record.seed - record.episode != first for record in picked):
                found.mismatches.append(
                    f"{env_id}, {case}: {label}: seeds must be {first} and the number of the episode"
                )
                continue
            spec = specs[label]
            if case in ("", VALIDATION) and "transfer" in spec.knobs:
                spec = replace(spec, knobs={})
            episodes = tuple(record.episode for record in picked)
            blocks.append((Block(env_id, keywords, spec, first, episodes, None, case), picked))
    return blocks


def _replay(
    blocks: Sequence[tuple[Block, list[EpisodeRecord]]], processes: int, progress: Tell | None, found: _Check
) -> None:
    expected = {(block.env, block.key, block.policy.label): records for block, records in blocks}
    lines = []
    for done, (block, played) in enumerate(in_any_order(_play, [block for block, _ in blocks], processes), start=1):
        where = f"{block.env}{f', {block.key}' if block.key else ''}: {block.policy.label}"
        if progress is not None:
            progress(done / len(blocks), where)
        if isinstance(played, str):
            lines.append(f"{where} cannot be played again: {played}")
            continue
        for told, record in zip(expected[block.env, block.key, block.policy.label], played, strict=True):
            place = next(_differences(asdict(told), asdict(record), tolerance=0.0), None)
            found.episodes += 1
            if place is not None:
                name, left, right = place
                lines.append(
                    f"{where}, episode {told.episode}: {name} is {left!r} in the records and {right!r} played again"
                )
                break
    found.mismatches += sorted(lines)  # they come in any order


def _play(block: Block) -> list[EpisodeRecord] | str:
    try:
        return play_block(block)
    except (ValueError, OSError) as error:
        return " ".join(str(error).split())


def _differences(
    told: Any, found: Any, where: str = "", tolerance: float = TOLERANCE
) -> Iterator[tuple[str, Any, Any]]:
    """Places where plain values differ: the path, and the two values there."""
    if isinstance(told, Mapping) and isinstance(found, Mapping):
        for key in {**told, **found}:
            path = f"{where}.{key}" if where else str(key)
            if key not in told or key not in found:
                yield path, told.get(key, "nothing"), found.get(key, "nothing")
            else:
                yield from _differences(told[key], found[key], path, tolerance)
    elif isinstance(told, (list, tuple)) and isinstance(found, (list, tuple)) and len(told) == len(found):
        for n, (left, right) in enumerate(zip(told, found, strict=True)):
            yield from _differences(left, right, f"{where}[{n}]", tolerance)
    elif not _equal(told, found, tolerance):
        yield where, told, found


def _equal(told: Any, found: Any, tolerance: float) -> bool:
    if isinstance(told, float) and isinstance(found, float):
        if math.isnan(told) or math.isnan(found):
            return math.isnan(told) and math.isnan(found)
        return told == found or math.isclose(told, found, rel_tol=tolerance, abs_tol=tolerance)
    number = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (told, found))
    return bool(told == found) and (number or type(told) is type(found))


def _count(value: Any) -> int:
    """How many numbers and words there are."""
    if isinstance(value, Mapping):
        return sum(_count(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_count(item) for item in value)
    return 1
