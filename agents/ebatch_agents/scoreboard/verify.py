"""Checking a scoreboard from its files: needs no torch, and nothing of the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ebatch_agents.runs import versions
from ebatch_agents.scoreboard.agent_files import specs_of
from ebatch_agents.scoreboard.board import RECORDS, VALIDATION, Board, checksum, plain, read
from ebatch_agents.scoreboard.comparison import Check, differences
from ebatch_agents.scoreboard.entrants import Entrant, baselines, candidates, rivals
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
    found = Check()
    _check_versions(board, found, other_versions)
    _check_files(board, folder, found)
    blocks: list[tuple[Block, list[EpisodeRecord]]] = []
    rng = np.random.default_rng(int(checksum(folder / RECORDS)[:16], 16))
    first = board.values["settings"]["validation_episodes"]
    for env_id, values in board.values["scenarios"].items():
        mine = {case: records for (env, case), records in board.records.items() if env == env_id}
        _check_figures(env_id, values, mine, found)
        _check_choices(env_id, values, mine.get(VALIDATION, ()), first, found)
        specs = specs_of(env_id, values, mine.get("", ()), folder, found)
        if sample is None:
            _check_learned(env_id, values, specs, found)
        blocks += _blocks(env_id, values, mine, specs, sample, rng, trace, found)
    unknown = sorted({env for env, _ in board.records} - set(board.values["scenarios"]))
    found.mismatches += [f"{env} has records and no figures" for env in unknown]
    _replay(blocks, processes, progress, found)
    return Verdict(tuple(found.mismatches), tuple(found.notes), found.figures, found.episodes, found.weights)


def _check_versions(board: Board, found: Check, other_versions: bool) -> None:
    told, here = board.values["versions"], versions()
    for name in DECIDING:
        if told.get(name) != here.get(name):
            line = f"version of {name} is {told.get(name)} in the files and {here.get(name)} here"
            if other_versions:
                found.notes.append(line)
            else:
                found.mismatches.append(line + "; --other-versions checks all the rest all the same")


def _check_files(board: Board, folder: Path, found: Check) -> None:
    for name, told in board.values["files"].items():
        if (folder / name).is_file():
            found.same(f"checksum of {name}", told, checksum(folder / name), "of the file")


def _check_figures(
    env_id: str, values: Mapping[str, Any], records: Mapping[str, Sequence[EpisodeRecord]], found: Check
) -> None:
    """Everything that can be worked out without playing."""
    found.same(f"{env_id}: scenario: ", values["scenario"], _now(env_id), "now")
    played = {case: rows for case, rows in records.items() if case != VALIDATION}
    for case, rows in records.items():
        counts = Counter(record.episode for record in rows)
        policies = {record.policy for record in rows}
        odd = sorted(episode for episode, count in counts.items() if count != len(policies))
        if odd:
            title = f"{env_id}{f', {case}' if case else ''}"
            found.mismatches.append(f"{title}: not every policy has a record of episode {odd[0]}, or one has two")
            played.pop(case, None)
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
    here = {
        entrant.label: plain(asdict(entrant)) for entrant in baselines(env_id, build_system(system_keywords(env_id)))
    }
    for entrant in values["baselines"]:
        if entrant["label"] not in here:
            found.mismatches.append(f"{env_id}: baseline {entrant['label']} is not installed")
        else:
            found.same(f"{env_id}: baseline {entrant['label']}: ", entrant, here[entrant["label"]], "as tuned now")


def _check_choices(
    env_id: str,
    values: Mapping[str, Any],
    records: Sequence[EpisodeRecord],
    first: int,
    found: Check,
) -> None:
    """Which agent is shipped and whom all are compared with, by the ``records`` of the validation episodes, of which agents in
    training are evaluated on the ``first``."""
    entrants = [Entrant(**entrant) for entrant in values["baselines"]]
    costs = {entrant.label: mean_cost(records, entrant.label) for entrant in candidates(entrants)}
    choice = {"episodes": len({record.episode for record in records}), "costs": costs}
    found.same(f"{env_id}, {VALIDATION}: choice.", values["choice"], plain(choice))
    found.same(f"{env_id}: rivals", values["rivals"], rivals(entrants, costs))
    validation = {label: mean_cost(records, label, first) for label in values["rivals"]}
    found.same(f"{env_id}, {VALIDATION}: ", values["validation"], plain(validation))
    for agent in values["agents"]:
        best = min(float(cost) for _, cost in agent["evaluations"])
        found.same(f"{env_id}: {agent['label']} validation_cost", agent["validation_cost"], plain(best))
    chosen = min(values["agents"], key=lambda agent: (float(agent["validation_cost"]), agent["seed"]))
    found.same(f"{env_id}: agent to ship", values["shipped"]["label"], chosen["label"])


def _check_learned(env_id: str, values: Mapping[str, Any], specs: Mapping[str, PolicySpec], found: Check) -> None:
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


def _blocks(
    env_id: str,
    values: Mapping[str, Any],
    records: Mapping[str, Sequence[EpisodeRecord]],
    specs: Mapping[str, PolicySpec],
    sample: int | None,
    rng: np.random.Generator,
    trace: Path | None,
    found: Check,
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
    blocks: Sequence[tuple[Block, list[EpisodeRecord]]], processes: int, progress: Tell | None, found: Check
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
            place = next(differences(asdict(told), asdict(record), tolerance=0.0), None)
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
