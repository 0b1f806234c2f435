"""Ctrl-C during a training: the first lets the step finish and saves, the second stops at once.

    with Interrupts() as interrupts:
        ...
        if interrupts.wanted: save and leave
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any


class Interrupted(Exception):
    """The training stopped on Ctrl-C; the run is saved."""


class Interrupts:
    """Context manager that remembers a Ctrl-C in `wanted`. Outside the main thread it does nothing."""

    def __init__(self) -> None:
        self.wanted = False

    def __enter__(self) -> Interrupts:
        self.main = threading.current_thread() is threading.main_thread()
        self.wanted = False
        if self.main:
            self.previous = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(self, *error: Any) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.previous)

    def _pressed(self, number: int, frame: Any) -> None:
        if self.wanted:
            signal.default_int_handler(number, frame)
        self.wanted = True
        # os.write, since print and the bar, interrupted in mid-line, may refuse to be entered again
        os.write(2, b"\nstopping after this step (Ctrl-C again: at once, without saving)\n")
