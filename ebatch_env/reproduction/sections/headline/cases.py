"""What is compared: the networks and their sequence lengths, the machines, the schemes, and what is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

import numpy as np

from ebatch_env.costs import CostTable
from ebatch_env.machines import resolve_machine
from ebatch_env.networks import network
from ebatch_env.simulator.plan import RoundPlan
from ebatch_env.workloads import Empirical, Fixed, Lengths, Uniform

SOURCE = "Silfa, Arnau and Gonzalez, ACM TACO 19(1), 2022, abstract (arXiv 2009.10656)"
MACHINES: Mapping[str, str] = MappingProxyType({"epur": "E-PUR", "tpu": "TPU"})
# (machine, quantity) -> how many times E-BATCH's figure is better than that of "the state of the art".
PUBLISHED: Mapping[tuple[str, str], float] = MappingProxyType(
    {("epur", "throughput"): 1.8, ("epur", "energy"): 3.6, ("tpu", "throughput"): 2.1, ("tpu", "energy"): 1.6}
)
AIM = 0.15
# Neither the paper's abstract nor anything else we could read says how many sequences a batch holds. One lane for each
# of E-PUR's (assumed) 32 dot-product units per gate; the TPU gets the same batch.
LANES = 32


@dataclass(frozen=True)
class Case:
    """A network and the lengths of its sequences.

    Attributes:
        network: a name of the catalogue.
        lengths: time-steps of a sequence.
        source: where the lengths come from.
    """

    network: str
    lengths: Lengths
    source: str


_EPUR = "arXiv 1711.07480"
# The networks of the same authors' earlier papers: the likeliest to be those of E-BATCH, whose list is not public.
CASES: Mapping[str, Case] = MappingProxyType(
    {
        case.network: case
        for case in (
            Case("DeepSpeech2", Empirical("speech"), "utterances of LibriSpeech dev-clean, 100 frames/s"),
            Case("MNMT", Empirical("translation"), "English sentences of WMT newstest, words"),
            Case("BYSDNE", Fixed(30), f"30: {_EPUR}"),
            Case("GMAT", Uniform(50, 100), f"50-100: {_EPUR}; uniform assumed"),
            Case("RLDRADSPR", Uniform(300, 512), f"300-512: {_EPUR}; uniform assumed"),
            Case("IMDB", Empirical("sentiment"), "sentences of the Stanford Sentiment Treebank, words"),
            Case("LDLRNN", Uniform(300, 700), "not published: EESEN's assumed"),
            Case("EESEN", Uniform(300, 700), f"300-700: {_EPUR}; uniform assumed"),
        )
    }
)


@dataclass(frozen=True)
class Scheme:
    """A way of batching.

    Attributes:
        key: short.
        label: shown.
        plan: the same decision every time; None: ``policy`` decides.
        policy: a registered policy's name; "" with a plan.
        stacked: the layers alternate at every time-step: see `stacked_cells`.
        notifies: whether the machine has E-BATCH's hardware support; without it lanes that ran out are padded.
        knobs: of the policy.
    """

    key: str
    label: str
    plan: RoundPlan | None = None
    policy: str = ""
    stacked: bool = False
    notifies: bool = True
    knobs: Mapping[str, float] = field(default_factory=dict)


def ebatch_fixed(time_steps: int) -> Scheme:
    """E-BATCH with rounds of ``time_steps``: everybody enters, sequences join as lanes end."""
    return Scheme("ebatch-fixed", f"E-BATCH, T = {time_steps}", RoundPlan(time_steps=time_steps))


EBATCH = Scheme("ebatch", "E-BATCH, T chosen at run time", policy="ebatch")
# What "the state of the art" is, from the abstract's own words. It names padding, and schemes that update the batch
# "every few time-steps" and for that execute different layers within a short time. The known scheme of that kind is
# cellular batching (BatchMaker, EuroSys 2018): batches are formed per RNN cell (one time-step), and its scheduler
# submits up to 5 of them before it forms the next. A cell is one time-step of the whole stack: every step goes through
# all layers, and after 5 the batch is updated. That is the rival of the headline; the other readings are shown beside:
# a batch updated after every cell, and cells of one layer each, of which 5 run before the next layer's turn.
SUBMITTED = 5
CELLS = Scheme(
    "cells-5",
    "cellular batching, a cell is a step of all layers, 5 submitted at once",
    RoundPlan(time_steps=SUBMITTED, joins=False),
    stacked=True,
)
RIVALS = (
    CELLS,
    Scheme(
        "cells-1",
        "cellular batching, a cell is a step of all layers, 1 submitted at once",
        RoundPlan(time_steps=1, joins=False),
        stacked=True,
    ),
    Scheme(
        "layers-5",
        "cellular batching, a cell is a step of one layer, 5 submitted at once",
        RoundPlan(time_steps=SUBMITTED, joins=False),
    ),
    Scheme("buckets", "padding, batches of similar length", policy="buckets", notifies=False),
    Scheme("padded", "padding, first come first served", policy="padded", notifies=False, knobs={"timeout": 0.001}),
)
SCHEMES = (EBATCH, *RIVALS)


def stacked_cells(table: CostTable) -> CostTable:
    """The machine of ``table`` if the layers alternate at every time-step: one layer whose step is all layers' step.

    Each step brings every layer's weights on chip anew and runs its input part for one step, as rounds of one step do;
    how many steps a round has then only says when the batch is updated.
    """
    lanes = np.arange(table.lanes + 1)
    busy = lanes > 0
    fixed_j = float(table.load_j.sum() + table.input_j.sum())
    return CostTable(
        step_s=(table.round_s(1, lanes) * busy)[None],
        step_j=(fixed_j * busy + table.step_j.sum(0))[None],
        static_w=table.static_w,
        notifies=table.notifies,
        max_time_steps=table.max_time_steps,
        name=f"{table.name}, stacked cells",
    )


def hop_costs(table: CostTable) -> bool:
    """Whether weights come on chip again in every round; where the whole network stays there is nothing to save."""
    return bool(table.load_j.any() or table.input_j.any())


@cache
def headline_networks() -> tuple[str, ...]:
    """The networks of the headline: sequences can be cut into steps, and weights move on both machines."""
    chosen = []
    for name in CASES:
        tables = [resolve_machine(machine).cost_table(network(name), 1) for machine in MACHINES]
        if all(hop_costs(table) and not table.whole_sequences for table in tables):
            chosen.append(name)
    return tuple(chosen)


@cache
def left_out() -> Mapping[str, str]:
    """The other networks, and why they are not in the headline's mean."""
    reasons = {}
    for name in CASES:
        if name not in headline_networks():
            tables = {label: resolve_machine(m).cost_table(network(name), 1) for m, label in MACHINES.items()}
            whole = [label for label, table in tables.items() if table.whole_sequences]
            home = [label for label, table in tables.items() if not hop_costs(table)]
            reasons[name] = (
                "read from both ends, so that only whole sequences can run"
                if whole
                else f"all weights stay on chip on the {' and '.join(home)}, so that hopping costs nothing there"
            )
    return MappingProxyType(reasons)


def lanes_of(machine: str, name: str) -> int:
    """`LANES`, or as many as leave room for the longest sequence where only whole ones can run."""
    accelerator, lanes = resolve_machine(machine), LANES
    table = accelerator.cost_table(network(name), lanes)
    while table.whole_sequences and table.max_time_steps < CASES[name].lengths.max_length:
        lanes -= 1
        table = accelerator.cost_table(network(name), lanes)
    return lanes
