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


@njit(**COMPILED)
def play_one(
    plans, f, i, lanes, rf, ri, links, bits, levels, hist, layers, step_s, step_j, alone, machine, bins, scratch, marks, times, passes
):  # fmt: skip
    """One system's decisions, (steps, 5), until its episode is over. Returns how many it took."""
    taken = 0
    for step in range(plans.shape[0]):
        if i[k.SERVED] + i[k.SHED] < i[k.REQUESTS]:
            k.decide(
                plans[step], f, i, lanes, rf, ri, links, bits, levels, hist, layers, step_s, step_j, alone, machine, bins,
                scratch, marks, times, passes,
            )  # fmt: skip
            k.settle(f, i)
            taken += 1
    return taken


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
    plans, f, i, lanes, rf, ri, links, bits, hist, levels, layers, step_s, step_j, alone, machine, bins, scratch, marks, times, passes,
    taken,
):  # fmt: skip
    e = cuda.grid(1)
    if e < f.shape[0]:
        taken[e] = play_one(
            plans[e], f[e], i[e], lanes[e], rf[e], ri[e], links[e], bits[e], levels, hist[e], layers, step_s, step_j, alone,
            machine, bins, scratch[e], marks[e], times[e], passes[e],
        )  # fmt: skip


@njit(nogil=True)
def play_cpu(
    plans, f, i, lanes, rf, ri, links, bits, hist, levels, layers, step_s, step_j, alone, machine, bins, scratch, marks, times, passes,
    taken,
):  # fmt: skip
    for e in range(f.shape[0]):
        taken[e] = play_one(
            plans[e], f[e], i[e], lanes[e], rf[e], ri[e], links[e], bits[e], levels, hist[e], layers, step_s, step_j, alone,
            machine, bins, scratch[e], marks[e], times[e], passes[e],
        )  # fmt: skip


def random_plans(system: Any, n: int, steps: int) -> np.ndarray:
    """Legal plans, (n, steps, 5), in the kernel's codes."""
    codec, rng = system.actions, np.random.default_rng(SEED)
    columns = [rng.choice(codec.levels[c][codec.legal[c]], size=(n, steps)) for c in codec.controls]
    return np.stack(columns, axis=-1).astype(np.int64)


def main() -> int:
    """Play, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=64)
    options = parser.parse_args()
    n, steps = options.systems, options.steps
    system = ebatch_env.make_system(ENV_ID, **WORK)
    dynamics = Dynamics(system, n, threads=1)
    dynamics.restart(range(n), Streams([seeding.np_random(SEED + e)[0] for e in range(n)]))
    own, shared, scratch = _everything(dynamics, n)
    plans = random_plans(system, n, steps)
    taken = np.zeros(n, np.int64)
    before = [cuda.to_device(array) for array in own]
    fixed = [cuda.to_device(array) for array in (*shared, *scratch)]
    on_device, seconds = [], []
    device_plans, device_taken = cuda.to_device(plans), cuda.to_device(taken)
    for _ in range(4):  # the first compiles
        on_device = [cuda.to_device(array.copy_to_host()) for array in before]
        cuda.synchronize()
        start = time.perf_counter()
        play_gpu[(n + THREADS - 1) // THREADS, THREADS](device_plans, *on_device, *fixed, device_taken)
        cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    play_cpu(plans[:1], *[a[:1] for a in own], *shared, *scratch, taken[:1])
    compile_s = time.perf_counter() - start
    for array, device in zip(own, before, strict=True):
        array[:1] = device[:1].copy_to_host()
    start = time.perf_counter()
    play_cpu(plans, *own, *shared, *scratch, taken)
    cpu_s = time.perf_counter() - start
    same = {name: bool(np.array_equal(device.copy_to_host(), array, equal_nan=array.dtype.kind == "f"))
            for name, device, array in zip(("f", "i", "lanes", "rf", "ri", "links", "bits", "hist"), on_device, own, strict=True)}  # fmt: skip
    worst = float(np.max(np.abs(on_device[0].copy_to_host() - own[0]) / np.maximum(np.abs(own[0]), 1e-300)))
    decisions = int(taken.sum())
    print(json.dumps({"device": str(cuda.get_current_device().name), "systems": n, "decisions": decisions, "gpu_s": seconds,
                      "gpu_decisions_per_s": decisions / min(seconds[1:]), "cpu_core_decisions_per_s": decisions / cpu_s,
                      "same": same, "largest relative difference of f": worst, "seed": SEED, "compile_s": compile_s}, indent=1))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
