"""The log: means of windows and epochs, values read late, the first that is not finite."""

from __future__ import annotations

import pytest

import tinygen as tg
from tinygen.training.log import Means, NotFinite, read_log, repair, write_line


def test_means_of_windows_and_of_the_epoch():
    means = Means()
    for i, value in enumerate((1.0, 3.0, 8.0)):
        means.add(0, i, {"loss": tg.tensor(value)} | ({"rare": tg.tensor(5.0)} if i == 2 else {}))
        if i == 1:
            assert means.read() == {"loss": 3.0}
            assert means.take_window() == {"loss": 2.0}
    means.read()
    assert means.take_window() == {"loss": 8.0, "rare": 5.0}
    assert means.take_epoch() == {"loss": 4.0, "rare": 5.0}
    assert means.take_epoch() == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_value_that_is_not_finite_is_named_with_its_step(value):
    means = Means()
    for index, v in enumerate((1.0, value, 2.0)):
        means.add(3, index, {"loss": tg.tensor(v)})
    with pytest.raises(NotFinite) as error:
        means.read()
    assert (error.value.name, error.value.epoch, error.value.index) == ("loss", 3, 1)


def test_lines_are_read_as_they_were_written(tmp_path):
    assert read_log(tmp_path / "log.jsonl") == []
    for line in ({"epoch": 1, "train": {"loss": 0.1}}, {"epoch": 2}):
        write_line(tmp_path / "log.jsonl", line)
    assert read_log(tmp_path / "log.jsonl") == [{"epoch": 1, "train": {"loss": 0.1}}, {"epoch": 2}]


def test_a_repaired_log_ends_with_what_is_done(tmp_path):
    """Lines that were lost let later ones move into the bytes that the checkpoint knows."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"epoch": 1, "train": {}}\n{"epoch": 3, "train": {}}\n')
    assert "its whole lines up to epoch 1 stay" in repair(path, path.stat().st_size, 2.0)
    assert [line["epoch"] for line in read_log(path)] == [1]
