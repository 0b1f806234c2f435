"""Ctrl-C: once is remembered, twice stops at once, and outside the main thread nothing is touched."""

from __future__ import annotations

import signal
import threading

import pytest

from tinygen.training.interrupts import Interrupts


def test_once_is_remembered_and_twice_stops(capfd):
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert not interrupts.wanted
        signal.raise_signal(signal.SIGINT)
        assert interrupts.wanted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err == "\nstopping after this step (Ctrl-C again: at once, without saving)\n"
    with interrupts:
        assert not interrupts.wanted  # a second training begins anew


def test_in_another_thread_nothing_is_touched():
    before, found = signal.getsignal(signal.SIGINT), []

    def work():
        with Interrupts() as interrupts:
            found.append((interrupts.wanted, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)] and signal.getsignal(signal.SIGINT) is before
