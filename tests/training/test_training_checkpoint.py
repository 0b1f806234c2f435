"""The state of a training: parts by name, random numbers, and what does not fit."""

from __future__ import annotations

import os

import numpy as np
import pytest
from toys import Counting, Toy, assert_equal

import tinygen as tg
from tinygen import nn, training
from tinygen.step import Step
from tinygen.training import checkpoint


def batch(level=0.5):
    return (tg.full((4, 1, 8, 8), level), None)


def test_the_state_holds_every_part_by_its_name_and_the_random_numbers(tmp_path):
    step = Toy()
    step(batch())
    tg.manual_seed(3)
    tg.rand(5)
    state = training.state_of(step)
    assert set(state) == {"parts", "rng"} and set(state["parts"]) == {"net", "optimizer"}
    training.save_checkpoint(tmp_path / "a.safetensors", state)
    expected = tg.rand(3).tolist()
    other = Toy()
    training.restore(other, training.load_checkpoint(tmp_path / "a.safetensors"))
    assert tg.rand(3).tolist() == expected
    assert_equal(other.state_dict(), step.state_dict())
    from safetensors.numpy import load_file

    assert "parts.net.weight" in load_file(tmp_path / "a.safetensors")


def test_a_checkpoint_of_another_step_is_refused():
    with pytest.raises(ValueError, match=r"parts \['net', 'optimizer'\], the step has \['net'\]"):
        training.restore(Counting(), training.state_of(Toy()))
    with pytest.raises(ValueError, match="no Step's"):
        training.restore(Counting(), {"weights": {}})


def test_a_checkpoint_of_the_older_form_says_so():
    with pytest.raises(ValueError, match=r"older form.*train the model anew"):
        training.restore(Counting(), {"modules": {}, "optimizers": {}, "rng": [0, 0, 0]})


class Standing(Step):
    """A Step that stands on another one."""

    def __init__(self, base):
        self.base, self.net = base, nn.Linear(2, 2)


def test_a_step_that_is_a_part_is_saved_moved_and_looked_at_with_the_whole():
    whole, other = Standing(Toy()), Standing(Toy())
    assert set(whole.networks()) == {"base.net", "net"}
    whole.base(batch())
    assert not np.allclose(whole.base.net.weight.detach().numpy(), other.base.net.weight.detach().numpy())
    training.restore(other, training.state_of(whole))
    assert_equal(other.state_dict(), whole.state_dict())
    with training.aside(whole, 0):
        assert not whole.base.net.training
    assert whole.base.net.training


@pytest.mark.parametrize("links", [True, False])
def test_at_no_moment_is_there_no_checkpoint(links, tmp_path, monkeypatch):
    path, previous = tmp_path / "checkpoint.safetensors", tmp_path / "checkpoint.previous.safetensors"
    checkpoint.save_checkpoint(path, {"count": 1}, previous)
    seen, replace = [], os.replace

    def watched(*names):
        seen.append(checkpoint.load_checkpoint(path)["count"])
        replace(*names)

    def refused(*names):
        raise OSError(1, "not here")

    monkeypatch.setattr("os.replace", watched)
    if not links:
        monkeypatch.setattr("os.link", refused)
    checkpoint.save_checkpoint(path, {"count": 2}, previous)
    assert set(seen) == {1} and len(seen) >= 2
    assert [checkpoint.load_checkpoint(name)["count"] for name in (path, previous)] == [2, 1]
