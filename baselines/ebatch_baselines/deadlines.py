"""Schedulers that look at deadlines: early drop, lazy batching, and batch sizes steered by latency."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ebatch_baselines.base import LONGEST, NO_LIMIT, ORDER, SHED, STEPS, Baseline
from ebatch_baselines.view import View
from ebatch_env.environment.actions import Plans
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray
from ebatch_env.scoring.policy import Knob
from ebatch_env.simulator.state import Int64Array


class _Predicting(Baseline):
    """What the schedulers share that predict when a batch will be done: rounds of T steps with a busy lanes."""

    def __init__(self, system: System, **knobs: Any) -> None:
        super().__init__(system, **knobs)
        self._steps = self.offered_steps(self.settings["time_steps"])
        self._lanes = np.arange(system.lanes + 1)  # (B+1,)

    def finish_s(self, steps: FloatArray) -> FloatArray:
        """Seconds until a sequence with ``steps`` (E,) left is done with 0..B lanes busy, shape (E, B+1)."""
        table = self.system.table
        limit = table.max_time_steps if self._steps == LONGEST else min(self._steps, table.max_time_steps)
        whole, rest = np.divmod(np.ceil(steps).astype(np.int64), limit)
        full_s = table.round_s(limit, self._lanes)
        last, which = np.unique(rest, return_inverse=True)  # few among many environments
        last_s = table.round_s(last[:, None], self._lanes[None, :]) * (last > 0)[:, None]
        return np.asarray(whole[:, None] * full_s + last_s[which], dtype=np.float64)

    @staticmethod
    def most_lanes(fits: np.ndarray[Any, np.dtype[np.bool_]]) -> Int64Array:
        """The largest number of lanes that ``fits`` (E, B+1); -1 if none does."""
        largest = fits.shape[1] - 1 - np.argmax(fits[:, ::-1], axis=1)
        return np.where(fits.any(axis=1), largest, -1).astype(np.int64)


class EarlyDrop(_Predicting):
    """Drop what cannot meet its deadline; then the largest batch that meets the earliest one.

    Source: Nexus (Shen et al., SOSP 2019): early drop, and batch sizes that fit the earliest deadline.
    Mapping: shed on. The finish of the oldest waiting request and of the longest lane is predicted for every number of
    busy lanes, from the machine's step times; as many enter as keep both within their slack, at least one with all
    lanes free. Joins are on if nothing limits the admission. Without deadlines everybody enters.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `time_steps` | 16 | 1..4096, log | T; rounded down to one that the action offers |
    | `margin` | 1 | 0.5..4, log | predicted times are multiplied by this |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    """

    name: ClassVar[str] = "early-drop"
    knobs: ClassVar[tuple[Knob, ...]] = (
        STEPS,
        Knob("margin", 0.5, 4.0, 1.0, log=True, meaning="predicted times are multiplied by this"),
        ORDER,
    )

    def plan(self, view: View) -> Plans:
        """Shed, size the batch, run."""
        margin = self.settings["margin"]
        fits = margin * self.finish_s(view.oldest_length) <= view.oldest_slack[:, None]
        lanes_fit = margin * self.finish_s(view.most_left) <= view.lanes_slack[:, None]
        # A lane that is late whatever happens is no reason to keep others waiting.
        fits &= lanes_fit | ~lanes_fit.any(axis=1, keepdims=True)
        count = np.maximum(self.most_lanes(fits) - view.busy, np.where(view.idle, 1, 0))
        joins = count >= view.free
        admit = np.where(joins, NO_LIMIT, self.at_most(view, count))
        return Plans.of(view.size, time_steps=self._steps, admit=admit, joins=joins, **{**self.service(), "shed": 1})


class Lazy(_Predicting):
    """A newcomer joins what runs only if everybody's predicted slack stays positive.

    Source: LazyBatching (Choi, Kim and Rhu, HPCA 2021), which batches layer by layer and decides by slack.
    Mapping: every round decides anew who enters, so T is the granularity. The finish of the lanes and of the oldest
    waiting request is predicted as if the batch had the newcomers in it; they enter as far as both slacks stay
    positive. Slack that is lost already protects nobody: then all enter. Nothing is dropped, unless ``shed``.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `time_steps` | 4 | 1..4096, log | T; rounded down to one that the action offers |
    | `caution` | 1 | 0.5..8, log | predicted times are multiplied by this; LazyBatching predicts on the safe side |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "lazy"
    knobs: ClassVar[tuple[Knob, ...]] = (
        Knob("time_steps", 1, 4096, 4, integer=True, log=True, meaning="time-steps T of a round"),
        Knob("caution", 0.5, 8.0, 1.0, log=True, meaning="predicted times are multiplied by this"),
        ORDER,
        SHED,
    )

    def plan(self, view: View) -> Plans:
        """Let in whoever takes nobody's slack away."""
        caution = self.settings["caution"]
        lanes_fit = caution * self.finish_s(view.most_left) <= view.lanes_slack[:, None]
        queue_fits = caution * self.finish_s(view.oldest_length) <= view.oldest_slack[:, None]
        rows = np.arange(view.size)
        doomed = ~lanes_fit[rows, view.busy]
        fits = (lanes_fit | doomed[:, None]) & (queue_fits | ~queue_fits.any(axis=1, keepdims=True))
        count = np.maximum(self.most_lanes(fits) - view.busy, np.where(view.idle, 1, 0))
        admit = self.at_most(view, count)
        return Plans.of(view.size, time_steps=self._steps, admit=admit, joins=0, **self.service())


class ClipperAIMD(Baseline):
    """Batch size by additive increase and multiplicative decrease, so that a batch's time stays below a target.

    Source: Clipper (Crankshaw et al., NSDI 2017).
    Mapping: batch to completion as `Padded`, taking at once what waits, up to a size that is remembered per
    environment: it starts at 1, grows by ``increase`` after a full batch within the target and shrinks by a factor
    1 - ``decrease`` after one beyond it. The target is a share of the
    deadline, or of the reference latency where there is none.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `target` | 0.5 | 0.05..4, log | a batch's target time, as a share of the deadline (or reference latency) |
    | `increase` | 1 | 1..16 | sequences added |
    | `decrease` | 0.1 | 0.05..0.5 | share taken away |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "clipper-aimd"
    knobs: ClassVar[tuple[Knob, ...]] = (
        Knob("target", 0.05, 4.0, 0.5, log=True, meaning="a batch's target time, share of the deadline or latency"),
        Knob("increase", 1, 16, 1, integer=True, meaning="sequences added after a batch within the target"),
        Knob("decrease", 0.05, 0.5, 0.1, meaning="share taken away after a batch beyond it"),
        ORDER,
        SHED,
    )
    memory_size: ClassVar[int] = 3  # largest size less 1, seconds of the running batch, its size

    def plan(self, view: View) -> Plans:
        """Learn from the batch that has just ended, then start the next."""
        grown, spent, batch = view.memory.T  # views: assignment below changes the memory
        spent += np.where((batch > 0) & (view.read("last_held") == 0), view.read("last_duration"), 0.0)
        ended = view.idle & (batch > 0)
        limit_s = self.settings["target"] * (self.system.deadline_s or self.system.saturation.latency_s)
        larger = np.where(batch >= np.floor(1.0 + grown), grown + self.settings["increase"], grown)
        smaller = (1.0 + grown) * (1.0 - self.settings["decrease"]) - 1.0
        changed = np.where(spent <= limit_s, larger, smaller)
        grown[:] = np.where(ended, np.clip(changed, 0.0, self.system.lanes - 1.0), grown)
        start = view.idle & (view.waiting > 0)
        size = np.minimum(np.floor(1.0 + grown), view.waiting).astype(np.int64)
        batch[:] = np.where(start, size, np.where(ended, 0.0, batch))
        spent[:] = np.where(view.idle, 0.0, spent)
        admit = np.where(start, self.at_most(view, size), 0)
        return Plans.of(view.size, time_steps=LONGEST, admit=admit, joins=0, **self.service())
