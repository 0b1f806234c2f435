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


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_each_signal_is_remembered_with_its_exit_code(name, code):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        signal.raise_signal(number)
        assert interrupts.wanted and interrupts.code == code
        with pytest.raises(KeyboardInterrupt if name == "SIGINT" else SystemExit) as stop:
            signal.raise_signal(number)
        assert name == "SIGINT" or stop.value.code == code
    assert signal.getsignal(number) is before


def test_under_nohup_a_closed_terminal_is_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupts.wanted
    finally:
        signal.signal(signal.SIGHUP, before)
