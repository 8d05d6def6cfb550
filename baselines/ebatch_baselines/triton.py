"""The sequence batcher of the Triton Inference Server."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ebatch_baselines.base import ORDER, SHED, Baseline
from ebatch_baselines.view import View
from ebatch_env.environment.actions import Plans
from ebatch_env.scoring.policy import Knob


class TritonSequence(Baseline):
    """Slots: a sequence keeps its slot to its end, and every inference advances all slots by one request's steps.

    Source: Triton's sequence batcher, strategy Direct (``max_queue_delay_microseconds``, ``minimum_slot_utilization``).
    Mapping: slots are lanes. Between inferences waiting sequences take free slots, first come first served; no joins
    within one. A delayed start is possible only while no lane is busy (a busy machine cannot hold here): hold until
    ``utilization`` of the slots are taken or the oldest has waited ``delay``. A sequence's requests carry ``chunk``
    time-steps each and are all there from the start, so T = ``chunk``.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `slots` | 1 | 1/64..1, log | number of slots, as a share of the lanes |
    | `chunk` | 1 | 1..64, log | time-steps of one inference |
    | `delay` | 0.01 | 0.001..10, log | longest delay of a start, in reference latencies |
    | `utilization` | 0.25 | 0..1 | share of the slots with which a start does not wait |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "triton-sequence"
    knobs: ClassVar[tuple[Knob, ...]] = (
        Knob("slots", 1 / 64, 1.0, 1.0, log=True, meaning="number of slots, as a share of the lanes"),
        Knob("chunk", 1, 64, 1, integer=True, log=True, meaning="time-steps of one inference"),
        Knob("delay", 0.001, 10.0, 0.01, log=True, meaning="longest delay of a start, in reference latencies"),
        Knob("utilization", 0.0, 1.0, 0.25, meaning="share of the slots with which a start does not wait"),
        ORDER,
        SHED,
    )

    def plan(self, view: View) -> Plans:
        """Fill free slots; run the next inference unless it is worth waiting."""
        slots = self.lanes_of(self.settings["slots"])
        enough = view.waiting >= self.settings["utilization"] * slots
        late = view.oldest_wait >= self.seconds_of(self.settings["delay"])
        go = ~view.idle | enough | late
        admit = np.where(go, self.at_most(view, slots - view.busy), 0)
        return Plans.of(view.size, time_steps=self.settings["chunk"], admit=admit, joins=0, **self.service())
