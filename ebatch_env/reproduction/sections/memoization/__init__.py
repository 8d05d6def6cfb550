"""``ebatch reproduce memoization``: neuron-level fuzzy memoization on trained networks, on E-PUR, and in batches."""

from __future__ import annotations

from ebatch_env.errors import needs_extra
from ebatch_env.reproduction.report import Options, Progress, Section

with needs_extra("section 'memoization'", "approximation"):
    from ebatch_env.reproduction import energy_readings
    from ebatch_env.reproduction import trained_networks as nets
    from ebatch_env.reproduction.approximate_serving import seeds_text
    from ebatch_env.reproduction.sections.memoization import alone, batched
    from ebatch_env.reproduction.sections.memoization.measured import Measured, measure

__all__ = ["run"]


def run(options: Options, progress: Progress) -> Section:
    """Measure everything."""
    found: dict[str, list[Measured]] = nets.measure_all(
        measure, options, lambda share, what: progress(0.95 * share, what)
    )
    progress(0.95, "schedulers with memoization on")
    served = batched.serving(found)
    energies = alone.energies()
    constants, sensitive = batched.sensitivity(found)
    progress(1.0, "done")
    return Section(
        "memoization",
        "Neuron-level fuzzy memoization",
        rows=alone.rows(found),
        summary=f"{alone.summary(found, energies)}\n{batched.summary(found, served)}",
        tables=[*alone.tables(found), *batched.tables(found, served), energy_readings.table(energies), constants],
        charts=[*alone.charts(found), *batched.charts(found), *energy_readings.charts(energies), *sensitive],
        quick=nets.quick_text(),
        seeds=(
            f"Networks trained with seeds {', '.join(map(str, nets.seeds(options)))}, intervals over them (95 %, "
            f"Student); lanes filled with seed {nets.BATCH_SEED} plus the network's; {seeds_text()}."
        ),
    )
