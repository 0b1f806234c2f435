"""Whether operations are recorded: for each thread alone.

    with tg.no_grad(): ...           # nothing inside is recorded
    @tg.no_grad()                    # nor inside this function, or this generator function; @tg.no_grad does too
    tg.set_grad_enabled(False)       # from here on
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any


class _Thread(threading.local):
    """What each thread has for itself."""

    recording = True
    within: Any = None  # the node whose VJPs are running


thread = _Thread()


class _Recording:
    """Context manager or decorator that switches this thread's recording on or off; nests.

    It decorates a generator function too: the mode holds inside, not between the steps.
    """

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self.previous: list[bool] = []

    def __enter__(self) -> None:
        self.previous.append(thread.recording)
        thread.recording = self.mode

    def __exit__(self, *error: object) -> None:
        thread.recording = self.previous.pop()

    def __call__(self, function: Callable) -> Callable:
        mode = self.mode

        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            with _Recording(mode):
                return function(*args, **options)

        @wraps(function)
        def steps(*args: Any, **options: Any) -> Any:
            with _Recording(mode):
                generator = function(*args, **options)
            advance, given = generator.send, None
            while True:
                try:
                    with _Recording(mode):
                        item = advance(given)
                except StopIteration as stop:
                    return stop.value
                try:
                    advance, given = generator.send, (yield item)
                except GeneratorExit:
                    with _Recording(mode):
                        generator.close()
                    raise
                except BaseException as error:
                    advance, given = generator.throw, error

        return steps if inspect.isgeneratorfunction(function) else call


class set_grad_enabled(_Recording):
    """Switches this thread's recording on or off, at once; as a context manager, until its end."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self.before, thread.recording = thread.recording, mode

    def __enter__(self) -> None:
        thread.recording = self.mode

    def __exit__(self, *error: object) -> None:
        thread.recording = self.before

    def __call__(self, function: Callable) -> Callable:
        thread.recording = self.before  # a decorator switches inside the function alone
        return super().__call__(function)


def no_grad(function: Callable | None = None) -> Any:
    """Context manager or decorator: operations inside are not recorded."""
    return _Recording(False) if function is None else _Recording(False)(function)


def enable_grad(function: Callable | None = None) -> Any:
    """Context manager or decorator: operations inside are recorded, also within `no_grad`."""
    return _Recording(True) if function is None else _Recording(True)(function)


def is_grad_enabled() -> bool:
    """True where this thread records operations."""
    return thread.recording
