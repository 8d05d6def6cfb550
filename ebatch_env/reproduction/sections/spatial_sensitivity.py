"""What the uncertain constants of Plasticine, Brainwave and the V100 do to the abstract's two ratios, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ebatch_env.machines import V100, Accelerator, Brainwave, Plasticine
from ebatch_env.machines.plasticine import CHAIN_UNITS
from ebatch_env.reproduction.report import Chart, Series, Table
from ebatch_env.reproduction.sections.spatial_deepbench import (
    FULL_TASKS,
    PAPERS_LOOPS,
    TASKS,
    geometric_mean,
    latency_ms,
    with_loops,
)

RATIOS = {"V100": 30.0, "Brainwave": 2.0}  # over Plasticine, from the abstract of Zhao et al.
STANDS = "as it stands"


@dataclass(frozen=True)
class Varied:
    """The two ratios with one constant changed; ``what`` is "" for the machines as they stand."""

    what: str
    value: str
    ratios: dict[str, float]

    @property
    def label(self) -> str:
        """For example "Plasticine, cycles a step = 110"."""
        return f"{self.what} = {self.value}" if self.what else STANDS


def ratios(plasticine: Plasticine, others: dict[str, Accelerator]) -> dict[str, float]:
    """Geometric means of latencies over Plasticine's with the paper's loops: ten tasks for the V100, all for Brainwave."""
    tasks = {"V100": FULL_TASKS, "Brainwave": TASKS}
    return {
        name: geometric_mean(
            latency_ms(machine, task) / latency_ms(with_loops(PAPERS_LOOPS[task.cell], plasticine), task)
            for task in tasks[name]
        )
        for name, machine in others.items()
    }


def variations() -> list[Varied]:
    """As it stands, then every constant at two values around its own."""
    spatial, gpu, brainwave = Plasticine(), V100(), Brainwave()
    others: dict[str, Accelerator] = {"V100": gpu, "Brainwave": brainwave}
    found = [Varied("", "", ratios(spatial, others))]
    # A unit on the way of a step takes 13 cycles as fitted: 10 and 16.
    for cycles in (10 * CHAIN_UNITS, 16 * CHAIN_UNITS):
        changed = replace(spatial, step_latency_cycles=cycles)
        found.append(Varied("Plasticine, cycles a step", str(cycles), ratios(changed, others)))
    for cycles in (0, 4 * spatial.start_cycles):
        changed = replace(spatial, start_cycles=cycles)
        found.append(Varied("Plasticine, cycles a call", str(cycles), ratios(changed, others)))
    for cycles in (500, 770):  # 630 to 770 cycles a step are recalled
        changed_bw = {**others, "Brainwave": replace(brainwave, chain_cycles=cycles)}
        found.append(Varied("Brainwave, cycles a step", str(cycles), ratios(spatial, changed_bw)))
    for cycles in (0, 2 * brainwave.call_cycles):
        changed_bw = {**others, "Brainwave": replace(brainwave, call_cycles=cycles)}
        found.append(Varied("Brainwave, cycles a call", str(cycles), ratios(spatial, changed_bw)))
    for factor in (0.5, 2.0):
        floor = factor * gpu.call_floor_s
        changed_gpu = {**others, "V100": replace(gpu, call_floor_s=floor)}
        found.append(Varied("V100, ms a call", f"{1e3 * floor:g}", ratios(spatial, changed_gpu)))
    for factor in (0.5, 2.0):
        floor = factor * gpu.step_floor_s
        changed_gpu = {**others, "V100": replace(gpu, step_floor_s=floor)}
        found.append(Varied("V100, us a step", f"{1e6 * floor:g}", ratios(spatial, changed_gpu)))
    for bandwidth in (0.8 * gpu.bandwidth_bytes_per_s, 900e9):  # 900 GB/s in print
        changed_gpu = {**others, "V100": replace(gpu, bandwidth_bytes_per_s=bandwidth)}
        found.append(Varied("V100, GB/s", f"{bandwidth / 1e9:g}", ratios(spatial, changed_gpu)))
    return found


def table(found: Sequence[Varied]) -> Table:
    """Every value."""
    columns = ["constant", "value", *(f"{name} over Plasticine (published {RATIOS[name]:g})" for name in RATIOS)]
    rows: list[tuple[str | float | None, ...]] = [
        (item.what or STANDS, item.value, *(item.ratios[name] for name in RATIOS)) for item in found
    ]
    return Table("sensitivity", "Uncertain constants, one at a time: geometric means over DeepBench", columns, rows)


def charts(found: Sequence[Varied]) -> list[Chart]:
    """One per ratio: lines from the ratio as it stands; constants that have no part in it are left out."""
    (base,) = [item for item in found if not item.what]
    result = []
    for name, published in RATIOS.items():
        stands = base.ratios[name]
        moved = [item for item in found if item.what and item.ratios[name] != stands]
        values = [item.ratios[name] for item in moved]
        low, high = [min(v, stands) for v in values], [max(v, stands) for v in values]
        series = Series("with this value, all else as it stands", [item.label for item in moved], values, low, high)
        references = ((f"as it stands: {stands:.3g}", stands), (f"published: {published:g}", published))
        title = f"{name} over Plasticine: what one constant at a time does to the mean ratio of latencies"
        result.append(
            Chart(f"sensitivity-{name.lower()}", title, "", "ratio", [series], "points", references=references)
        )
    return result


def summary(found: Sequence[Varied]) -> str:
    """Which constant moves which ratio most."""
    (base,) = [item for item in found if not item.what]
    parts = []
    for name, published in RATIOS.items():
        widest = max(found, key=lambda item: abs(item.ratios[name] - base.ratios[name]))
        values = [item.ratios[name] for item in found]
        parts.append(
            f"{name} over Plasticine goes from {min(values):.3g}x to {max(values):.3g}x (as it stands "
            f"{base.ratios[name]:.3g}x, published {published:g}x), furthest with {widest.label}"
        )
    return "; ".join(parts) + ". One constant at a time; the fitted ones were fitted to recalled latencies."
