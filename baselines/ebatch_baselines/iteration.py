"""Schedulers that re-form the batch every few time-steps: continuous and cellular batching."""

from __future__ import annotations

from typing import ClassVar

from ebatch_baselines.base import ORDER, SHED, SIZE, Baseline
from ebatch_baselines.view import View
from ebatch_env.environment.actions import Plans
from ebatch_env.scoring.policy import Knob


class Continuous(Baseline):
    """Continuous batching: every iteration runs all running sequences and those admitted, first come first served.

    Source: iteration-level scheduling of Orca (Yu et al., OSDI 2022) and vLLM (``max_num_seqs``); Triton's sequence
    batcher, strategy Oldest (``max_candidate_sequences``).
    Mapping: an iteration is a round of T = 1 over all layers; newcomers enter between iterations until ``size``
    sequences run. ``iterations`` > 1 schedules that many at once, as vLLM's multi-step scheduling does; on this machine
    that is T = ``iterations``.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `size` | 1 | 1/64..1, log | most sequences that run at once, as a share of the lanes |
    | `iterations` | 1 | 1..8 | iterations per scheduling decision; 1 is Orca's rule |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "continuous"
    knobs: ClassVar[tuple[Knob, ...]] = (
        SIZE,
        Knob("iterations", 1, 8, 1, integer=True, meaning="iterations per scheduling decision; 1 is Orca's rule"),
        ORDER,
        SHED,
    )

    def plan(self, view: View) -> Plans:
        """Top the lanes up to ``size`` and run."""
        admit = self.at_most(view, self.lanes_of(self.settings["size"]) - view.busy)
        return Plans.of(view.size, time_steps=self.settings["iterations"], admit=admit, joins=0, **self.service())


class Cellular(Baseline):
    """Cellular batching: batches are formed per cell, and requests join and leave between cells.

    Source: BatchMaker (Gao, Yu, Wu and Li, EuroSys 2018), which submits up to 5 cell batches to an idle worker at once.
    Mapping: a cell type is a layer. BatchMaker's scheduler submits up to 5 steps of one layer, then of the next; that
    is a round of T = ``steps`` <= 5 here, where every layer runs its T steps in turn. Requests that arrive after the
    submission wait for the next one, so nobody joins within a round; a sequence that ends leaves its lane at that
    step. T = 5 is no power of two: with the default levels of an action it becomes 4. Priorities among cell types have
    no counterpart, because a round fixes the order of the layers.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `size` | 1 | 1/64..1, log | largest batch of a cell, as a share of the lanes |
    | `steps` | 5 | 1..5 | steps submitted at once |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "cellular"
    knobs: ClassVar[tuple[Knob, ...]] = (
        SIZE,
        Knob("steps", 1, 5, 5, integer=True, meaning="steps submitted at once"),
        ORDER,
        SHED,
    )

    def plan(self, view: View) -> Plans:
        """Re-form the batch and submit a few steps."""
        admit = self.at_most(view, self.lanes_of(self.settings["size"]) - view.busy)
        return Plans.of(view.size, time_steps=self.settings["steps"], admit=admit, joins=0, **self.service())
