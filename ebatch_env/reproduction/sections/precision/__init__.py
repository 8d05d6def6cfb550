"""``ebatch reproduce precision``: dynamic precision on trained networks, on E-PUR, in batches, and with memoization."""

from __future__ import annotations

from ebatch_env.errors import needs_extra
from ebatch_env.reproduction.report import Options, Progress, Section

with needs_extra("section 'precision'", "approximation"):
    from ebatch_env.reproduction import energy_readings
    from ebatch_env.reproduction import trained_networks as nets
    from ebatch_env.reproduction.approximate_serving import seeds_text
    from ebatch_env.reproduction.sections.precision import alone, batched
    from ebatch_env.reproduction.sections.precision.measured import Measured, measure

__all__ = ["run"]


def run(options: Options, progress: Progress) -> Section:
    """Measure everything."""
    found: dict[str, list[Measured]] = nets.measure_all(
        measure, options, lambda share, what: progress(0.9 * share, what)
    )
    progress(0.9, "sensitivity")
    varied = alone.sensitivity(found)
    progress(0.95, "schedulers with both schemes on")
    served = batched.serving(found)
    energies = alone.energies()
    constants, sensitive = batched.sensitivity(found)
    progress(1.0, "done")
    return Section(
        "precision",
        "Dynamic precision",
        rows=alone.rows(found),
        summary=f"{alone.summary(found, energies)}\n{batched.summary(found, served)}",
        tables=[
            *alone.tables(found, varied),
            *batched.tables(found, served),
            energy_readings.table(energies),
            constants,
        ],
        charts=[*alone.charts(found), *batched.charts(found), *energy_readings.charts(energies), *sensitive],
        quick=nets.quick_text(),
        seeds=(
            f"Networks trained with seeds {', '.join(map(str, nets.seeds(options)))}, intervals over them (95 %, "
            f"Student); lanes filled with seed {nets.BATCH_SEED} plus the network's; {seeds_text()}."
        ),
    )
