"""The simulator's kernel on a GPU: `python benchmarks/gpu.py` (needs numba-cuda and a CUDA device).

A round is a plain function over one system's arrays. Here the same source, unchanged, is compiled for a GPU with a thread
for each system; its episodes are held against the processor's, number by number. Nothing else in the project needs a GPU.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from numba import cuda, njit

import ebatch_env
from ebatch_env.environment.dynamics import Dynamics, Streams
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.bits import COMPILED
from ebatch_env.simulator.state import Scratch

ENV_ID = "ebatch/EPUR-Translation-v0"
WORK: dict[str, Any] = {"workload": "translation-bursty"}
SEED = 0
THREADS = 64  # of a block
REPEATS = 3
ROUNDING = 1e-12  # relative


@njit(**COMPILED)
def play_one(
    e, plans, f, i, lanes, rf, ri, links, bits, hist, levels, layers, step_s, step_j, alone, machine, bins, scratch, marks, times,
    passes, taken,
):  # fmt: skip
    """System e's decisions, ``plans`` (E, steps, 5), until its episode is over; ``taken`` (E,) counts them."""
    for step in range(plans.shape[1]):
        if i[e, k.SERVED] + i[e, k.SHED] < i[e, k.REQUESTS]:
            k.decide(
                plans[e, step], f[e], i[e], lanes[e], rf[e], ri[e], links[e], bits[e], levels, hist[e], layers, step_s, step_j,
                alone, machine, bins, scratch[e], marks[e], times[e], passes[e],
            )  # fmt: skip
            k.settle(f[e], i[e])
            taken[e] += 1


def _everything(dynamics: Dynamics, n: int) -> tuple[list[Any], tuple[Any, ...], list[Any]]:
    """The arrays of each system, those that all share, and a scratch for each."""
    s, machine = dynamics.systems, dynamics._machines
    own = [s.f, s.i, s.lanes, s.rf, s.ri, s.links, s.bits, s.hist]
    shared = (
        s.levels,
        machine.layers[0],
        machine.step_s[0],
        machine.step_j[0],
        machine.alone[0],
        machine.machine[0],
        s.bins,
    )
    scratch = Scratch.of(dynamics.system.lanes, dynamics.system.table, dynamics.system.requests)
    return own, shared, [np.zeros((n, *part.shape), part.dtype) for part in scratch]


@cuda.jit
def play_gpu(
    plans, f, i, lanes, rf, ri, links, bits, hist, levels, layers, step_s, step_j, alone, machine, bins, scratch, marks, times,
    passes, taken,
):  # fmt: skip
    e = cuda.grid(1)
    if e < taken.size:
        play_one(
            e, plans, f, i, lanes, rf, ri, links, bits, hist, levels, layers, step_s, step_j, alone, machine, bins, scratch, marks, times,
            passes, taken,
        )  # fmt: skip


@njit(nogil=True)
def play_cpu(
    plans, f, i, lanes, rf, ri, links, bits, hist, levels, layers, step_s, step_j, alone, machine, bins, scratch, marks, times,
    passes, taken,
):  # fmt: skip
    for e in range(taken.size):
        play_one(
            e, plans, f, i, lanes, rf, ri, links, bits, hist, levels, layers, step_s, step_j, alone, machine, bins, scratch, marks, times,
            passes, taken,
        )  # fmt: skip


def random_plans(system: Any, n: int, steps: int) -> np.ndarray:
    """Legal plans, (n, steps, 5), in the kernel's codes."""
    codec, rng = system.actions, np.random.default_rng(SEED)
    columns = [rng.choice(codec.levels[c][codec.legal[c]], size=(n, steps)) for c in codec.controls]
    return np.stack(columns, axis=-1).astype(np.int64)


def differences(gpu: list[np.ndarray], cpu: list[np.ndarray]) -> tuple[list[str], float]:
    """Names of the arrays of whole numbers that differ, and the largest relative difference of a time or an energy."""
    names = ("f", "i", "lanes", "rf", "ri", "links", "bits", "hist")
    wrong, worst = [], 0.0
    for name, one, other in zip(names, gpu, cpu, strict=True):
        if one.dtype.kind == "f":
            with np.errstate(invalid="ignore", divide="ignore"):
                relative = np.abs(one - other) / np.abs(other)
            worst = max(worst, float(np.nanmax(np.where(one == other, 0.0, relative))))
        elif not np.array_equal(one, other):
            wrong.append(name)
    return wrong, worst


def main() -> int:
    """Play on both, compare, print JSON. Returns 1 if the episodes differ by more than rounding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", type=int, default=16384, help="default: 16384")
    parser.add_argument("--steps", type=int, default=64, help="decisions of each, at most; default: 64")
    options = parser.parse_args()
    n = options.systems
    system = ebatch_env.make_system(ENV_ID, **WORK)
    dynamics = Dynamics(system, n, threads=1)
    dynamics.restart(range(n), Streams([seeding.np_random(SEED + e)[0] for e in range(n)]))
    own, shared, scratch = _everything(dynamics, n)
    plans, taken = random_plans(system, n, options.steps), np.zeros(n, np.int64)

    fixed = [cuda.to_device(array) for array in (*shared, *scratch)]
    device_plans = cuda.to_device(plans)
    seconds, state = [], []
    for _ in range(1 + REPEATS):  # the first time it is compiled
        state, device_taken = [cuda.to_device(array) for array in own], cuda.to_device(taken)
        cuda.synchronize()
        start = time.perf_counter()
        play_gpu[(n + THREADS - 1) // THREADS, THREADS](device_plans, *state, *fixed, device_taken)
        cuda.synchronize()
        seconds.append(time.perf_counter() - start)

    play_cpu(plans[:0], *(array[:0] for array in own), *shared, *scratch, taken[:0])  # compiles
    start = time.perf_counter()
    play_cpu(plans, *own, *shared, *scratch, taken)
    cpu_s = time.perf_counter() - start
    wrong, worst = differences([array.copy_to_host() for array in state], own)
    report = {
        "device": str(cuda.get_current_device().name),
        "seed": SEED,
        "systems": n,
        "decisions": int(taken.sum()),
        "gpu_decisions_per_s": float(taken.sum() / min(seconds[1:])),
        "cpu_core_decisions_per_s": float(taken.sum() / cpu_s),
        "whole numbers that differ": wrong,
        "largest relative difference": worst,
    }
    print(json.dumps(report, indent=2))
    return 1 if wrong or worst > ROUNDING else 0


if __name__ == "__main__":
    raise SystemExit(main())
