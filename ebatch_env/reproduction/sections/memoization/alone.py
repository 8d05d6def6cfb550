"""One sequence at a time: accuracy against reuse, and what reuse is worth on E-PUR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from ebatch_env.machines.approximation import MemoizationEffect
from ebatch_env.machines.savings import (
    MEMOIZATION_MEAN,
    MEMOIZATION_MEAN_LONG,
    PUBLISHED_MEMOIZATION,
    PublishedEffect,
    Saving,
    saving,
)
from ebatch_env.reproduction import energy_readings
from ebatch_env.reproduction import trained_networks as nets
from ebatch_env.reproduction.report import Chart, Row, Series, Table, points
from ebatch_env.reproduction.sections.memoization.measured import Measured, never

Found = Mapping[str, list[Measured]]

AIM = 0.15


def reuse_at(found: Found, loss: float = nets.LOSS) -> dict[str, list[float]]:
    """Reuse by network and seed at the threshold for ``loss``."""
    return {name: [one.at_loss[loss].reuse for one in seeds] for name, seeds in found.items()}


def published_savings(reuse: Mapping[str, float] | None = None) -> dict[str, Saving]:
    """Of the papers' networks on the published machine, with the papers' reuse or with another."""
    shares = {one.network: one.share for one in PUBLISHED_MEMOIZATION} if reuse is None else reuse
    return {name: saving(name, memoization=MemoizationEffect(reuse=share)) for name, share in shares.items()}


def energies() -> list[energy_readings.Counted]:
    """The published energy savings under every reading of E-PUR's energies."""

    def told(shares: Mapping[str, float]) -> dict[str, energy_readings.Effects]:
        return {name: {"memoization": MemoizationEffect(reuse=share)} for name, share in shares.items()}

    own = told({one.network: one.share for one in PUBLISHED_MEMOIZATION})
    scaled = told(_scaled_to(MEMOIZATION_MEAN.share))
    long, short = MEMOIZATION_MEAN_LONG.energy_saved or 0.0, MEMOIZATION_MEAN.energy_saved or 0.0
    means = [
        energy_readings.PrintedMean("mean of the four", long, own),
        energy_readings.PrintedMean(f"mean, reuse scaled to {MEMOIZATION_MEAN.share:.1%}", short, scaled),
    ]
    return energy_readings.counted(PUBLISHED_MEMOIZATION, own, means)


def measured_savings(share: float) -> dict[str, Saving]:
    """Of the papers' networks if all reused ``share``."""
    return published_savings({one.network: share for one in PUBLISHED_MEMOIZATION})


def _mean(savings: Mapping[str, Saving], field: str) -> float:
    return fmean(getattr(one, field) for one in savings.values())


def _scaled_to(mean: float) -> dict[str, float]:
    """Published reuse of the networks, scaled to another published mean."""
    own = fmean(one.share for one in PUBLISHED_MEMOIZATION)
    return {one.network: one.share * mean / own for one in PUBLISHED_MEMOIZATION}


def rows(found: Found) -> list[Row]:
    """Measured reuse, and E-PUR with published and with measured reuse, beside what is printed."""
    reuse, span = nets.mean_interval(nets.over_networks(found, lambda one: one.at_loss[nets.LOSS].reuse))
    lost, lost_span = nets.mean_interval(nets.over_networks(found, lambda one: _lost(one, nets.LOSS)))
    printed = published_savings()
    scaled = published_savings(_scaled_to(MEMOIZATION_MEAN.share))
    other = "other networks and data than the paper's"
    few = 0 if span else len(next(iter(found.values())))

    def energy(what: str, saved: float, by: PublishedEffect) -> Row:
        published = None if by.energy_saved is None else 100 * by.energy_saved
        return Row(f"{what}: energy saved", 100 * saved, "%", published, by.source, by.checked, AIM)

    def ours(what: str, field: str, published: float | None, unit: str, factor: float) -> Row:
        at = [factor * _mean(measured_savings(share), field) for share in (reuse, *(span or ()))]
        ends = None if span is None else (at[1], at[2])
        source, checked = MEMOIZATION_MEAN.source, MEMOIZATION_MEAN.checked
        row = Row(f"E-PUR with our mean reuse: {what}", at[0], unit, published, source, checked, None, ends, other)
        return replace(row, seeds=few, figure=f"{what}, mean")

    at_print = f"published reuse, scaled to its printed mean of {MEMOIZATION_MEAN.share:.1%}"
    return [
        Row(
            f"neuron evaluations reused at a training loss of {nets.LOSS:.0%}, mean of {len(found)} networks",
            100 * reuse,
            "%",
            100 * MEMOIZATION_MEAN.share,
            MEMOIZATION_MEAN.source,
            MEMOIZATION_MEAN.checked,
            interval=_times(100, span),
            note=other,
            seeds=few,
        ),
        Row(
            "test accuracy lost at those thresholds, mean",
            100 * lost,
            "points",
            interval=_times(100, lost_span),
            seeds=few,
        ),
        ours("speed-up", "speed_up", MEMOIZATION_MEAN.speed_up, "x", 1.0),
        ours("energy saved", "energy_saved", 100 * (MEMOIZATION_MEAN.energy_saved or 0.0), "%", 100.0),
        *(
            energy(f"{one.network} with the published reuse, {one.share:.1%}", printed[one.network].energy_saved, one)
            for one in PUBLISHED_MEMOIZATION
        ),
        energy("published reuse, mean of four networks", _mean(printed, "energy_saved"), MEMOIZATION_MEAN_LONG),
        Row(
            f"{at_print}: speed-up",
            _mean(scaled, "speed_up"),
            "x",
            MEMOIZATION_MEAN.speed_up,
            MEMOIZATION_MEAN.source,
            MEMOIZATION_MEAN.checked,
            AIM,
            figure="speed-up, mean",
        ),
        replace(energy(at_print, _mean(scaled, "energy_saved"), MEMOIZATION_MEAN), figure="energy saved, mean"),
    ]


def _lost(one: Measured, loss: float) -> float:
    return one.exact - one.at_loss[loss].accuracy


def _times(factor: float, span: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if span is None else (factor * span[0], factor * span[1])


def tables(found: Found) -> list[Table]:
    """Thresholds and what they do; E-PUR with the reuse of every network."""
    thresholds = []
    for name, seeds in found.items():
        ways = [(f"{loss:.0%} on training", [one.at_loss[loss] for one in seeds]) for loss in nets.LOSSES]
        ways.append((f"{nets.LOSS:.0%} on training, no throttling", [one.plain for one in seeds]))
        ways.append((f"{nets.LOSS:.0%} on validation", [one.validated for one in seeds]))
        for way, chosen in ways:
            lost = [100 * (one.exact - point.accuracy) for one, point in zip(seeds, chosen, strict=True)]
            thresholds.append(
                (
                    name,
                    way,
                    ", ".join("never" if point.threshold < 0 else f"{point.threshold:g}" for point in chosen),
                    nets.with_interval([100 * point.reuse for point in chosen], most=100),
                    nets.with_interval([100 * one.exact for one in seeds], most=100),
                    nets.with_interval(lost),
                )
            )
    columns = (
        "network",
        "loss allowed",
        "thresholds by seed",
        "reuse, %",
        "exact test accuracy, %",
        "test loss, points",
    )
    effects = []
    for name, shares in reuse_at(found).items():
        for shape, one in measured_savings(fmean(shares)).items():
            saved = (100 * one.computations_avoided, 100 * one.weight_reads_saved, 100 * one.energy_saved)
            effects.append((name, shape, 100 * fmean(shares), one.speed_up, *saved))
    return [
        Table("thresholds", "Thresholds chosen, and what they do on the test data", columns, thresholds),
        Table(
            "e-pur",
            "The measured reuse of our networks, on the papers' networks on E-PUR without batches",
            (
                "reuse of",
                "network",
                "reuse, %",
                "speed-up, x",
                "computations avoided, %",
                "weight reads saved, %",
                "energy saved, %",
            ),
            effects,
        ),
    ]


def charts(found: Found) -> list[Chart]:
    """Accuracy lost against reuse, with and without throttling, a chart for each data set; reuse by network."""
    return [
        *(
            Chart(
                f"accuracy-{data}",
                f"Accuracy lost against reuse, {data}, test data",
                "reuse, %",
                "accuracy lost, points",
                [line for name in found if name.partition("-")[0] == data for line in _curves(name, found[name])],
                references=[("loss allowed on training", 100 * nets.LOSS)],
            )
            for data in dict.fromkeys(name.partition("-")[0] for name in found)
        ),
        Chart(
            "reuse",
            "Reuse by network and way to choose the threshold",
            "network",
            "reuse, %",
            _compared(found),
            kind="bar",
        ),
    ]


def _curves(name: str, seeds: list[Measured]) -> list[Series]:
    lines = []
    for throttling in (True, False):
        curves = [one.curves[throttling] for one in seeds]  # the first point of each is exact
        reuse = [100 * fmean(column) for column in zip(*([p.reuse for p in curve] for curve in curves), strict=True)]
        lost = [[100 * (curve[0].accuracy - point.accuracy) for point in curve] for curve in curves]
        label = f"{name}, {'throttled' if throttling else 'no throttling'}"
        lines.append(Series(label, reuse, *nets.mean_curve(lost, 100.0, least=-100.0)))
    return lines


def _compared(found: Found) -> list[Series]:
    ways: dict[str, Callable[[Measured], float]] = {
        "no loss": lambda one: one.at_loss[0.0].reuse,
        "1 % loss": lambda one: one.at_loss[nets.LOSS].reuse,
        "1 % loss, no throttling": lambda one: one.plain.reuse,
    }
    return [
        Series(
            label,
            list(found),
            *nets.mean_curve([[100 * way(one) for one in column] for column in _by_seed(found)], 100),
        )
        for label, way in ways.items()
    ]


def _by_seed(found: Found) -> list[Sequence[Measured]]:
    return list(zip(*found.values(), strict=True))


def summary(found: Found, energies: Sequence[energy_readings.Counted]) -> str:
    """What holds and what does not, without batches."""
    reuse = {name: fmean(shares) for name, shares in reuse_at(found).items()}
    lost = {name: 100 * fmean(_lost(one, nets.LOSS) for one in seeds) for name, seeds in found.items()}
    lost_causes = [name for name, seeds in found.items() if never(seeds)]
    worst = max(lost, key=lambda name: lost[name])
    plain = fmean(nets.over_networks(found, lambda one: one.plain.reuse))
    mean = fmean(nets.over_networks(found, lambda one: one.at_loss[nets.LOSS].reuse))
    scaled = published_savings(_scaled_to(MEMOIZATION_MEAN.share))
    causes = ""
    if lost_causes:
        zeros = [one.curves[True][1] for name in lost_causes for one in found[name]]
        cost = fmean(one.exact - one.curves[True][1].accuracy for name in lost_causes for one in found[name])
        causes = (
            f"On {' and '.join(lost_causes)} no threshold keeps the accuracy: even at 0, where a neuron is reused "
            "only while "
            f"its binary output has not moved at all, {100 * fmean(zero.reuse for zero in zeros):.0f} % are reused at "
            "a loss "
            f"of {100 * cost:.0f} points. A smooth signal drifts without changing signs, and what does not show in the "
            "binary output is not added up either."
        )
    return points(
        (
            "Reuse.",
            f"At a loss of {nets.LOSS:.0%} on the training data, {100 * mean:.0f} % of the neuron evaluations are "
            "reused on "
            f"average, from {100 * min(reuse.values()):.0f} % to {100 * max(reuse.values()):.0f} % by network; the "
            "paper's "
            f"average is {100 * MEMOIZATION_MEAN.share:.1f} % on other networks. Without throttling it is "
            f"{100 * plain:.0f} %.",
        ),
        (
            "Accuracy.",
            "The threshold comes from training data, on which these networks make hardly any error, so it costs more "
            "on "
            f"the test data than was allowed: {lost[worst]:.1f} points on {worst}. {causes}",
        ),
        (
            "Speed.",
            "With the published reuse, scaled to its printed mean, the model's speed-up is "
            f"{_mean(scaled, 'speed_up'):.2f}x "
            f"against {MEMOIZATION_MEAN.speed_up}x.",
        ),
        (
            "Energy.",
            "Its saving goes with the reuse, network by network; the published one does not. Savings outside the aim: "
            f"{energy_readings.explained(energies, AIM)} {_more_than_all()}",
        ),
    )


def _more_than_all() -> str:
    """Published pairs that no skipping explains."""
    told = [
        f"{one.network} ({100 * (one.energy_saved or 0):.1f} % at {100 * one.share:.1f} %)"
        for one in PUBLISHED_MEMOIZATION
        if (one.energy_saved or 0) > one.share
    ]
    if not told:
        return ""
    return (
        f"More energy is said to be saved than evaluations are skipped on {' and '.join(told)}, which skipping alone "
        "cannot "
        "do; reuse and energy may be from different versions of the paper."
    )
