"""Ctrl-C during a training: the first lets the step finish and saves, the second stops at once.

    with Interrupts() as interrupts:
        ...
        if interrupts.wanted: save and leave

So do SIGTERM (a cluster's time is up, a machine shuts down) and SIGHUP (a terminal was closed; not under nohup).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
WORDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupted(Exception):
    """The training stopped on a signal, such as Ctrl-C; the run is saved. `code`: with which a program then ends."""

    def __init__(self, message: str, code: int = 130) -> None:
        super().__init__(message)
        self.code = code


class Interrupts:
    """Context manager that remembers a signal in `wanted`. Outside the main thread it does nothing."""

    def __init__(self) -> None:
        self.wanted = False
        self.number = int(signal.SIGINT)

    @property
    def code(self) -> int:
        """The exit code of a program that ends on the signal: 130, 143 or 129."""
        return 128 + self.number

    def __enter__(self) -> Interrupts:
        self.main = threading.current_thread() is threading.main_thread()
        self.wanted = False
        self.previous: dict[int, Any] = {}
        if self.main:
            for number in SIGNALS:
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves SIGHUP
                    self.previous[number] = signal.signal(number, self._pressed)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _pressed(self, number: int, frame: Any) -> None:
        if self.wanted:
            if number == signal.SIGINT:
                signal.default_int_handler(number, frame)
            raise SystemExit(128 + number)
        self.wanted, self.number = True, number
        # os.write, since print and the bar, interrupted in mid-line, may refuse to be entered again
        with contextlib.suppress(OSError):  # the terminal may be gone
            again = f"{WORDS.get(signal.Signals(number), 'again')}{' again' if number in WORDS else ''}"
            os.write(2, f"\nstopping after this step ({again}: at once, without saving)\n".encode())
