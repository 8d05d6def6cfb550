"""``ebatch reproduce e-batch``: E-BATCH over cellular batching and padding on E-PUR and TPU, against the paper's abstract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ebatch_env.reproduction.report import Options, Progress, Section
from ebatch_env.reproduction.sections.headline import depth, loads, mechanisms, saturated, sensitivity
from ebatch_env.reproduction.sections.headline.cases import CASES, MACHINES, headline_networks
from ebatch_env.reproduction.sections.headline.summary import summary
from ebatch_env.scoring.pool import in_any_order
from ebatch_env.scoring.seeds import EVALUATION_SEED, TUNING_SEED

__all__ = ["run"]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        seeds: episodes on a full queue.
        requests_per_lane: of each of them.
        loads: shares of E-BATCH's saturated throughput.
        load_seeds: episodes at each load.
        requests: of each of them.
        depths: requests per lane at which the full queue's depth is looked into.
        depth_seeds: episodes at each of them.
    """

    seeds: int
    requests_per_lane: int
    loads: tuple[float, ...]
    load_seeds: int
    requests: int
    depths: tuple[int, ...]
    depth_seeds: int


QUICK = Size(4, 16, (0.4, 0.8, 1.1), 3, 320, (16, 48), 2)
FULL = Size(16, 48, (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1), 8, 1024, (16, 48, 144, 432), 4)


class Job(Protocol):
    """A piece of work: plain data, so that another process can do it."""

    def run(self) -> Any:
        """Measure."""
        ...


def run(options: Options, progress: Progress) -> Section:
    """Measure everything."""
    size = QUICK if options.quick else FULL
    seeds = tuple(range(EVALUATION_SEED, EVALUATION_SEED + size.seeds))
    jobs: list[Job] = [
        *(saturated.SaturatedJob(m, name, seeds, size.requests_per_lane) for m in MACHINES for name in CASES),
        *(
            mechanisms.MechanismJob(m, name, seeds, size.requests_per_lane)
            for m in MACHINES
            for name in headline_networks()
        ),
        *depth.jobs(size.depths, seeds[: size.depth_seeds]),
        *loads.jobs(size.loads, seeds[: size.load_seeds], size.requests),
        *(
            sensitivity.SensitivityJob(number, size.requests_per_lane)
            for number in range(len(sensitivity.variations()))
        ),
    ]
    results = run_jobs(jobs, options.processes, progress)

    def of(kind: type[Any]) -> list[Any]:
        return [result for result in results if isinstance(result, kind)]

    found = {(item.machine, item.network): item for item in of(saturated.Saturated)}
    switched, loaded, deep = of(mechanisms.Mechanisms), of(loads.Loaded), of(depth.Depth)
    knees, sensitive = of(loads.Knee), of(sensitivity.Sensitive)
    return Section(
        name="e-batch",
        title="E-BATCH over cellular batching and padding",
        rows=saturated.rows(found, size.requests_per_lane),
        summary=summary(found, deep, switched, loaded, knees, sensitive),
        tables=[
            *saturated.tables(found),
            *depth.tables(deep),
            *mechanisms.tables(switched),
            *loads.tables(loaded, knees),
            *sensitivity.tables(sensitive),
        ],
        charts=[
            *saturated.charts(found),
            *depth.charts(deep),
            *mechanisms.charts(switched, found),
            *loads.charts(loaded, knees),
            *sensitivity.charts(sensitive),
        ],
        quick=(
            f"{QUICK.requests_per_lane} requests a lane wait at the start of a full queue instead of "
            f"{FULL.requests_per_lane}, "
            "which changes the gain over buckets (see the table of depths) and hardly the others; "
            f"{QUICK.seeds} seeds instead of {FULL.seeds}, {len(QUICK.loads)} loads instead of {len(FULL.loads)}, "
            "depths up to "
            f"{max(QUICK.depths)} instead of {max(FULL.depths)}."
        ),
        seeds=(
            f"{size.requests_per_lane} requests a lane. Seeds {seeds[0]}..{seeds[-1]} on a full queue and "
            f"{seeds[0]}..{seeds[size.load_seeds - 1]} under load, "
            f"{seeds[0]}..{seeds[size.depth_seeds - 1]} for the depths, {TUNING_SEED} to choose a fixed T, "
            f"{TUNING_SEED + 1} for the sensitivity."
        ),
    )


def run_jobs(jobs: Sequence[Job], processes: int, progress: Progress) -> list[Any]:
    """Results of the jobs, in their order."""
    results: dict[int, Any] = {}
    for (number, job), result in in_any_order(_run_job, list(enumerate(jobs)), processes):
        results[number] = result
        progress(len(results) / len(jobs), type(job).__name__.removesuffix("Job").lower())
    return [results[number] for number in range(len(jobs))]


def _run_job(item: tuple[int, Job]) -> Any:
    return item[1].run()
