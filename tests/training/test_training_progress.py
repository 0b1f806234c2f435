"""What a person sees while something takes time."""

from __future__ import annotations

import io

import pytest

from tinygen.training import progress
from tinygen.training.progress import Display, duration, track


def test_plain_lines_tell_time_epochs_and_health():
    stream = io.StringIO()
    display = Display(stream)
    assert not display.live
    display.start(epochs=2, epoch=0, index=0, steps=10, images=100)
    for epoch in range(2):
        for index in range(10):
            display.step(epoch, index + 1, {"loss": 1.0})
        display.epoch(epoch + 1, {"loss": 0.5}, {"loss": 0.25}, "all is well")
    display.close()
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("time: about ") and "images/s" in lines[0]
    assert lines[1:] == ["epoch 1/2  train loss 0.5  test loss 0.25", "  all is well"] + [
        "epoch 2/2  train loss 0.5  test loss 0.25", "  all is well"]  # fmt: skip


def test_live_bar_on_a_terminal():
    stream = io.StringIO()
    display = Display(stream, live=True)
    display.start(epochs=1, epoch=0, index=0, steps=3, images=30)
    for index in range(3):
        display.last = -1.0  # as if a while had passed
        display.step(0, index + 1, {"loss": 1.25})
    display.bar.refresh()
    display.say("a line [with brackets]")
    display.close()
    text = stream.getvalue()
    assert "epoch 1/1" in text and "images/s" in text and "loss 1.25" in text and "a line [with brackets]" in text


def test_a_long_training_prints_about_twenty_epochs():
    stream = io.StringIO()
    display = Display(stream)
    display.start(epochs=203, epoch=0, index=0, steps=1, images=10)
    for epoch in range(1, 204):
        display.epoch(epoch, {"loss": 1.0}, {}, None)
    lines = stream.getvalue().splitlines()
    assert 18 <= len(lines) <= 22 and lines[-1].startswith("epoch 203/203")


def test_durations_in_words():
    assert [duration(s) for s in (0.44, 42.4, 200, 3900)] == ["0.4 s", "42 s", "3 min 20 s", "1 h 05 min"]


class Clock:
    """Seconds that pass only when told."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)


@pytest.mark.parametrize(("each", "said"), [(1.0, True), (0.1, False)])
def test_a_long_job_says_how_long_after_its_first_part(each, said, monkeypatch):
    clock, stream = Clock(monkeypatch), io.StringIO()
    parts = []
    for part in track(range(10), "samples", stream):
        parts.append(part)
        clock.now += each
    assert parts == list(range(10))
    assert stream.getvalue() == ("samples: about 9.0 s\n" if said else "")


def test_a_long_job_has_a_bar_on_a_terminal(monkeypatch):
    clock, stream = Clock(monkeypatch), io.StringIO()
    stream.isatty = lambda: True
    for _ in track(range(5), "samples", stream):
        clock.now += 10.0
    assert "samples: about 40 s" in stream.getvalue()
    assert list(track([], "nothing", stream)) == []
