"""Rendering: ``ansi``, ``rgb_array`` and ``human``. ``docs/rendering.md`` says what each mark means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.env import FRAMES_PER_SECOND
from ebatch_env.environment.history import History, ansi_frame
from ebatch_env.environment.painter import SIZE, Painter
from ebatch_env.environment.system import System

if TYPE_CHECKING:
    pass


class Renderer:
    """Follows one environment and shows it in one of its render modes."""

    def __init__(self, system: System, mode: str) -> None:
        self.mode = mode
        self.history = History(system)
        self.painter = None if mode == "ansi" else Painter(self.history)
        self._window: Any = None
        self._closed = False

    def begin(self, dynamics: Dynamics) -> None:
        """A new episode is in place."""
        self.history.begin(dynamics)
        if self._window is not None and self.painter is not None:
            self.painter.pygame.display.set_caption(self.history.title())

    def record(self, dynamics: Dynamics) -> None:
        """A decision was carried out."""
        self.history.record(dynamics)

    def frame(self) -> str | npt.NDArray[np.uint8]:
        """The state as text (``ansi``), or as a new uint8 array (height, width, 3)."""
        if self.painter is None:
            return ansi_frame(self.history)
        pixels = self.painter.pygame.surfarray.array3d(self.painter.draw())
        return np.ascontiguousarray(pixels.transpose(1, 0, 2))

    def show(self) -> None:
        """Show the state in a window, at most `FRAMES_PER_SECOND` times a second; once closed it stays closed."""
        assert self.painter is not None
        pygame = self.painter.pygame
        if self._closed:
            return
        if self._window is None:
            pygame.display.init()
            self._window, self._ticker = pygame.display.set_mode(SIZE), pygame.time.Clock()
            pygame.display.set_caption(self.history.title())
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            self.close()
            return
        self._window.blit(self.painter.draw(), (0, 0))
        pygame.display.flip()
        self._ticker.tick(FRAMES_PER_SECOND)

    def close(self) -> None:
        """Close the window, if any."""
        self._closed = True
        if self._window is not None and self.painter is not None:
            self.painter.pygame.display.quit()
            self._window = None
