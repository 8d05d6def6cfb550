"""Batch to completion: padded batches, and padded batches of similar length."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ebatch_baselines.base import LONGEST, ORDER, SHED, SIZE, TIMEOUT, Baseline
from ebatch_baselines.view import View
from ebatch_env.environment.actions import Plans
from ebatch_env.environment.observations import MIX_BINS
from ebatch_env.environment.system import System
from ebatch_env.scoring.policy import Knob
from ebatch_env.simulator.plan import Order
from ebatch_env.simulator.state import Int64Array


class Padded(Baseline):
    """Batches of up to ``size``, run to the end of their longest sequence.

    Source: the dynamic batchers of TensorFlow Serving (size and timeout from the first task) and Triton (preferred
    size, queue delay); FasterTransformer, too, admits only when nothing runs. Timeout 0.001 is in effect greedy.
    Mapping: with all lanes free hold until ``size`` requests wait or the oldest has waited ``timeout``, then admit up
    to ``size``, T to the end of the longest, no joins; nobody else enters until all lanes are free. Lanes that ran out
    are padded where the machine has no completion notification (``notifies=False``); where it has, they cost nothing.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `size` | 1 | 1/64..1, log | largest batch, as a share of the lanes |
    | `timeout` | 0.1 | 0.001..10, log | longest wait for a full batch, in reference latencies |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "padded"
    knobs: ClassVar[tuple[Knob, ...]] = (SIZE, TIMEOUT, ORDER, SHED)

    def __init__(self, system: System, **knobs: Any) -> None:
        super().__init__(system, **knobs)
        self._size = self.lanes_of(self.settings["size"])
        self._timeout_s = self.seconds_of(self.settings["timeout"])

    def plan(self, view: View) -> Plans:
        """Hold, start a batch, or let the batch run on."""
        return self._batch(view, np.minimum(view.waiting, self._size), **self.service())

    def _batch(self, view: View, ready: Int64Array, **service: int) -> Plans:
        """Start the ``ready`` requests (E,) if nothing runs and they are enough or have waited enough."""
        start = view.idle & ((ready >= self._size) | (view.oldest_wait >= self._timeout_s))
        admit = np.where(start, self.at_most(view, ready), 0)
        return Plans.of(view.size, time_steps=LONGEST, admit=admit, joins=0, **service)


class Buckets(Padded):
    """Padded batches of similar length.

    Source: length buckets as in TensorFlow Serving and the MXNet baseline of BatchMaker (Gao et al., EuroSys 2018).
    Mapping: buckets are ranges of the workload's length octiles, ``octiles`` wide. A batch is made of the oldest
    waiting request and those closest to it in length (order "similar"), as many as wait in its bucket, up to ``size``;
    size and timeout as in `Padded`. Where lengths are hidden it is `Padded`.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `size` | 1 | 1/64..1, log | largest batch, as a share of the lanes |
    | `timeout` | 0.1 | 0.001..10, log | longest wait for a full batch, in reference latencies |
    | `octiles` | 2 | 1, 2, 4 | width of a bucket, in octiles of the workload's lengths |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "buckets"
    knobs: ClassVar[tuple[Knob, ...]] = (
        SIZE,
        TIMEOUT,
        Knob("octiles", 1, 4, 2, choices=(1, 2, 4), meaning="width of a bucket, in octiles of the workload's lengths"),
        SHED,
    )

    def plan(self, view: View) -> Plans:
        """Hold, start a batch from the bucket of the oldest, or let the batch run on."""
        if not self.system.lengths_known:
            return super().plan(view)
        width = self.settings["octiles"]
        buckets = view.waiting_by_octile.reshape(view.size, MIX_BINS // width, width).sum(-1)
        ready = buckets[np.arange(view.size), view.oldest_octile // width].astype(np.int64)
        ready = np.minimum(np.maximum(ready, np.minimum(view.waiting, 1)), self._size)
        return self._batch(view, ready, **{**self.service(), "order": Order.SIMILAR})
