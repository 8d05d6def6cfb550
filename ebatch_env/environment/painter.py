"""The picture of a `History`. ``docs/rendering.md`` says what each mark means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from ebatch_env.environment.history import MAX_ROWS, Event, History, Round, si_prefix
from ebatch_env.simulator import kernel as k

if TYPE_CHECKING:
    import pygame


SIZE = (960, 600)
LEFT, PANEL_WIDTH, SIDE = 66, 630, 716  # pixels: the panels, and the text beside them
LANES_PANEL, PASSES_PANEL, QUEUE_PANEL, POWER_PANEL = (60, 276), (340, 12), (368, 76), (460, 76)  # top and height
MIN_PASS, MIN_STRIPE = 3.0, 2.0  # pixels: rounds with narrower passes show sequences, or passes, as one bar

# Okabe and Ito's colours, told apart by colour-blind readers too; in an order that keeps neighbours unlike each other.
OKABE_ITO = ("56b4e9", "d55e00", "009e73", "f0e442", "0072b2", "cc79a7", "e69f00")
SEQUENCE_COLOURS = [tuple(bytes.fromhex(colour)) for colour in OKABE_ITO]
WHITE, INK, EDGE, GRID = (255, 255, 255), (30, 30, 30), (110, 110, 110), (205, 205, 205)
ROUND_SHADES = ((247, 247, 247), (234, 234, 234))
PADDING_COLOUR, HOLD_COLOUR = (150, 150, 150), (170, 170, 170)
SHED_COLOUR, ALARM_COLOUR = (230, 120, 0), (200, 0, 0)
LAYER_COLOURS = ((68, 1, 84), (33, 145, 140), (253, 231, 37))  # viridis: first, middle and last layer


def soften(colour: Sequence[int]) -> list[int]:
    """A pale version of ``colour``."""
    return [255 - (255 - channel) * 2 // 5 for channel in colour]


def ticks(low: float, high: float, most: int) -> tuple[list[float], int]:
    """At most ``most`` round numbers in [low, high], and the decimals needed to write them."""
    rough = (high - low) / most
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = magnitude * next(m for m in (1, 2, 5, 10) if m * magnitude >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)], max(0, -math.floor(math.log10(step) + 1e-9))


class Painter:
    """Draws a `History` on a pygame surface, which needs no display."""

    def __init__(self, history: History) -> None:
        try:
            import pygame
        except ImportError as error:
            raise gym.error.DependencyNotInstalled(
                'rgb_array and human rendering need pygame: pip install "ebatch-env[render]"'
            ) from error
        pygame.font.init()
        self.pygame, self.history = pygame, history
        self.font, self.title_font = pygame.font.Font(None, 36), pygame.font.Font(None, 52)
        layers = np.linspace(0.0, 1.0, history.system.table.n_layers)
        channels = [np.interp(layers, (0.0, 0.5, 1.0), channel) for channel in zip(*LAYER_COLOURS, strict=True)]
        self.layer_colours = np.stack(channels, axis=-1).astype(int).tolist()

    def draw(self) -> pygame.Surface:
        """A new picture of `SIZE`."""
        self.surface = self.pygame.Surface(SIZE)
        self.surface.fill(WHITE)
        low, high = self.history.window()
        self.low_s, self.pixels_per_s = low, PANEL_WIDTH / (high - low)
        self.text(self.history.title(), LEFT, 10, font=self.title_font)
        self._lanes()
        self._passes()
        self._queue()
        self._power()
        self._time_axis(low, high)
        self._side()
        return self.surface

    def x(self, times_s: npt.ArrayLike) -> Any:
        """Pixel columns of times: a number or nested lists; those outside the panels land just outside."""
        pixels = np.clip((np.asarray(times_s) - self.low_s) * self.pixels_per_s, -20.0, PANEL_WIDTH + 20.0)
        return (LEFT + np.rint(pixels).astype(np.int64)).tolist()

    def text(self, words: str, x: int, y: int, *, align: float = 0.0, font: Any = None) -> None:
        """Write ``words`` with its left end (``align`` 0), middle (0.5) or right end (1) at ``x``."""
        large = (font or self.font).render(words, True, INK)  # twice the size: letters are spaced in whole pixels
        picture = self.pygame.transform.smoothscale(large, (large.get_width() // 2, large.get_height() // 2))
        self.surface.blit(picture, (round(x - align * picture.get_width()), y))

    def _frame(self, panel: tuple[int, int]) -> None:
        """The outline of a panel, the clock in it, and the end of its clipping."""
        self.surface.set_clip(None)
        (top, height), now = panel, self.x(self.history.clock_s)
        self.pygame.draw.line(self.surface, INK, (now, top), (now, top + height - 1))
        self.pygame.draw.rect(self.surface, INK, (LEFT - 1, top - 1, PANEL_WIDTH + 2, height + 2), 1)

    def _lanes(self) -> None:
        top, height = LANES_PANEL
        shown = min(self.history.system.lanes, MAX_ROWS)
        edges = [top + lane * height // shown for lane in range(shown + 1)]
        gap = 1 if height // shown > 2 else 0
        self.rows = [(low, max(1, high - low - gap)) for low, high in pairwise(edges)]
        for event in self.history.events:
            (a, b), done = self.x((event.start_s, event.end_s)), event.round
            wide = (event.end_s - event.start_s) * self.pixels_per_s
            self.surface.set_clip((LEFT, top, PANEL_WIDTH, height))
            if done is not None:
                self.surface.fill(ROUND_SHADES[done.number % 2], (a, top, max(1, b - a), height))
                self._sequences(event, done)
                if wide > 6.0:
                    self.pygame.draw.line(self.surface, EDGE, (a, top), (a, top + height - 1))
                self.surface.set_clip(None)
                a, b = max(a, LEFT), min(b, LEFT + PANEL_WIDTH)
                fewer = [f"{done.planned} ({done.steps})"] if done.steps < done.planned else []
                for label in (*fewer, str(done.planned)):
                    if self.font.size(label)[0] // 2 + 2 <= min(wide, b - a + 1):
                        self.text(label, (a + b) // 2, top - 17, align=0.5)
                        break
            else:
                self._hatch(a, top, b - a, height)
        self._frame(LANES_PANEL)
        for lane in sorted({0, *(n * shown // 4 for n in (1, 2, 3)), shown - 1}):
            low, thick = self.rows[lane]
            self.text(str(lane), LEFT - 5, low + thick // 2 - 6, align=1.0)
        self.text("lane", LEFT - 30, top + height // 2 - 6, align=1.0)
        self.text("T", LEFT - 5, top - 17, align=1.0)

    def _hatch(self, x: int, y: int, width: int, height: int) -> None:
        self.surface.set_clip(self.pygame.Rect(x, y, width, height).clip((LEFT, 0, SIZE[0], SIZE[1])))
        for at in range(x - height - x % 8, x + width, 8):  # a pattern that stays put as the window moves
            self.pygame.draw.line(self.surface, HOLD_COLOUR, (at, y + height), (at + height, y))
        self.surface.set_clip(None)

    def _sequences(self, event: Event, done: Round) -> None:
        """The sequences of one round: pass by pass, or one bar each where passes are too narrow to tell apart."""
        history, fill, rows = self.history, self.surface.fill, self.rows
        lanes, ends = history.ri[k.LANE, done.request], history.rf[k.COMPLETION, done.request]
        ended = ends <= event.end_s  # False for NaN
        completed, pads = self.x(np.where(ended, ends, 0.0)), not history.system.table.notifies
        begin, until = self.x(done.begin_s), self.x(done.until_s)
        starts, stops = self.x(np.append(event.start_s, done.pass_s[1])), self.x(done.pass_s[1])
        detailed = (event.end_s - event.start_s) * self.pixels_per_s >= MIN_PASS * len(stops)
        order = np.argsort(done.begin_s[:, 0], kind="stable").tolist()
        for m in order:
            if lanes[m] >= len(rows):
                continue
            (y, thick), colour = rows[lanes[m]], SEQUENCE_COLOURS[done.request[m] % len(SEQUENCE_COLOURS)]
            if not detailed:
                a, b = starts[0] if done.ready[m] else begin[m][0], completed[m] if ended[m] else stops[-1]
                fill(colour, (a, y, max(1, b - a), thick))
                continue
            for a, b, start, stop in zip(begin[m], until[m], starts, stops, strict=False):
                if done.ready[m]:
                    fill(soften(colour), (start, y, a - start, thick))
                if pads:
                    fill(PADDING_COLOUR, (b, y, stop - b, thick))
                fill(colour, (a, y, max(1, b - a), thick))
        for m in np.flatnonzero(ended).tolist():
            if lanes[m] < len(rows):
                fill(INK, (completed[m] - 1, rows[lanes[m]][0], 2, rows[lanes[m]][1]))

    def _passes(self) -> None:
        top, height = PASSES_PANEL
        self.surface.set_clip((LEFT, top, PANEL_WIDTH, height))
        for event in self.history.events:
            if event.round is not None:
                starts, stops = self.x(event.round.pass_s)
                colours = self.layer_colours
                if (event.end_s - event.start_s) * self.pixels_per_s < MIN_STRIPE * len(stops):
                    starts, stops, colours = starts[:1], stops[-1:], [(EDGE, GRID)[event.round.number % 2]]
                for colour, a, b in zip(colours, starts, stops, strict=True):
                    self.surface.fill(colour, (a, top, max(1, b - a), height))
        self._frame(PASSES_PANEL)
        self.text("layer", LEFT - 5, top, align=1.0)

    def _scale(self, panel: tuple[int, int], most: float, name: str, unit: str) -> float:
        """Label a panel's axis from 0 to a round number of at least ``most``; return that number."""
        top, height = panel
        marks, _ = ticks(0.0, most or 1.0, 4)
        step = marks[1] - marks[0]
        high = step * math.ceil((most or 1.0) / step - 1e-9)
        scale, prefix = si_prefix(high) if unit else (1.0, "")
        for value in (0.0, high / 2, high):
            y = top + height - 1 - round(value / high * (height - 1))
            self.pygame.draw.line(self.surface, GRID, (LEFT, y), (LEFT + PANEL_WIDTH, y))
            if value != high / 2:
                self.text(f"{value / scale:g}", LEFT - 5, y - 6, align=1.0)
        self.text(name, LEFT - 5, top + height // 2 - 12, align=1.0)
        self.text(f"({prefix}{unit})" if unit else "", LEFT - 5, top + height // 2 + 1, align=1.0)
        return high

    def _queue(self) -> None:
        """Waiting requests, exactly: every arrival and every join is a step."""
        (top, height), rf, points = QUEUE_PANEL, self.history.rf, []
        for event in self.history.events:
            arrival = rf[k.ARRIVAL, slice(*event.arrived)]
            joined = rf[k.START, event.round.request[~event.round.ready]] if event.round else arrival[:0]
            times, change = np.append(arrival, joined), np.repeat((1, -1), (arrival.size, joined.size))
            order = np.argsort(times, kind="stable")
            waiting = event.queue + np.append(0, np.cumsum(change[order]))
            points.append((np.append(event.start_s, times[order]), waiting))
        points.append((np.array([self.history.clock_s]), np.array([self.history.i[k.WAITING]])))
        columns = np.concatenate([self.x(times) for times, _ in points])
        levels = np.concatenate([values for _, values in points])
        high = self._scale(QUEUE_PANEL, float(levels.max()), "queue", "")
        rows = top + height - 1 - np.rint(levels / high * (height - 1)).astype(int)
        corners = np.stack([np.repeat(columns, 2)[1:], np.repeat(rows, 2)[:-1]], axis=-1)
        self.surface.set_clip((LEFT, top - 1, PANEL_WIDTH, height + 1))
        if len(corners) > 1:
            self.pygame.draw.lines(self.surface, SEQUENCE_COLOURS[4], False, corners.tolist(), 2)
        for event in self.history.events:
            if event.shed:
                self.surface.fill(SHED_COLOUR, (self.x(event.start_s), top, 2, 9))
            if event.missed:
                self.surface.fill(ALARM_COLOUR, (self.x(event.end_s) - 1, top + 10, 2, 9))
        self._frame(QUEUE_PANEL)

    def _power(self) -> None:
        """Mean power of each decision; the area is energy."""
        top, height = POWER_PANEL
        static_w, events = self.history.system.table.static_w, self.history.events
        high = self._scale(POWER_PANEL, max([static_w, *(event.power_w for event in events)]), "power", "W")
        self.surface.set_clip((LEFT, top, PANEL_WIDTH, height))
        for event in events:
            a, b, c = self.x((event.start_s, event.end_s, event.clock_s))
            for low, stop, power in ((a, b, event.power_w), (b, c, static_w)):
                tall = round(power / high * (height - 1))
                self.surface.fill(SEQUENCE_COLOURS[6], (low, top + height - tall, stop - low, tall))
        self._frame(POWER_PANEL)

    def _time_axis(self, low: float, high: float) -> None:
        top = POWER_PANEL[0] + POWER_PANEL[1]
        scale, prefix = si_prefix(high - low)
        marks, decimals = ticks(low / scale, high / scale, 7)
        for mark in marks:
            x = self.x(mark * scale)
            self.pygame.draw.line(self.surface, INK, (x, top), (x, top + 5))
            self.text(f"{mark:,.{decimals}f}", x, top + 8, align=0.5)
        self.text(f"time ({prefix}s)", LEFT + PANEL_WIDTH // 2, top + 26, align=0.5)

    def _side(self) -> None:
        """Counters and the legend."""
        table, y = self.history.system.table, LANES_PANEL[0]
        for name, value in self.history.counters():
            self.text(name, SIDE, y)
            self.text(value, SIZE[0] - 12, y, align=1.0)
            y += 19
        legend: list[tuple[Sequence[Sequence[int]], int, int, str]] = [  # colours, left, width, meaning
            (SEQUENCE_COLOURS, 0, 35, "steps, coloured by request"),
            ([soften(colour) for colour in SEQUENCE_COLOURS], 0, 35, "weights, input part"),
            ([PADDING_COLOUR], 0, 35 if not table.notifies else 0, "padding"),
            ([INK], 16, 2, "sequence complete"),
            (self.layer_colours, 0, 35, "passes, by layer"),
            ([SHED_COLOUR], 16, 2, "requests shed"),
            ([ALARM_COLOUR], 16, 2, "deadlines missed"),
        ]
        for colours, left, width, meaning in legend:
            if width:
                y += 20
                for n, colour in enumerate(colours):
                    a, b = (width * m // len(colours) for m in (n, n + 1))
                    self.surface.fill(colour, (SIDE + left + a, y, b - a, 11))
                self.text(meaning, SIDE + 45, y)
        self._hatch(SIDE, y + 20, 35, 11)
        self.text("hold", SIDE + 45, y + 20)
