"""Parameters as one vector and back: torch's order, gradients, aliases kept."""

from __future__ import annotations

import numpy as np
import pytest
from tinygen.nn.utils import parameters_to_vector, vector_to_parameters

import tinygen as tg
from tinygen import nn

torch = pytest.importorskip("torch")


def test_the_order_is_torchs_and_it_comes_back():
    theirs = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Linear(4, 3))
    ours = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 3))
    ours.load_state_dict(theirs.state_dict())
    vector = parameters_to_vector(ours.parameters())
    expected = torch.nn.utils.parameters_to_vector(theirs.parameters()).detach().numpy()
    np.testing.assert_array_equal(vector.detach().numpy(), expected)
    arrays = [p.array for p in ours.parameters()]
    vector_to_parameters(vector.detach() * 2, ours.parameters())
    np.testing.assert_array_equal(parameters_to_vector(ours.parameters()).detach().numpy(), 2 * expected)
    assert all(p.array is a and p.requires_grad for p, a in zip(ours.parameters(), arrays))


def test_the_vector_is_differentiable():
    layer = nn.Linear(3, 2)
    parameters_to_vector(layer.parameters()).square().sum().backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), 2 * layer.weight.detach().numpy())


def test_a_change_is_noticed_by_the_tape():
    layer = nn.Linear(3, 2)
    y = layer(tg.ones(1, 3).requires_grad_())
    vector_to_parameters(tg.zeros(8), layer.parameters())
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match="8 numbers"):
        vector_to_parameters(tg.zeros(7), nn.Linear(3, 2).parameters())
    with pytest.raises(ValueError, match="at least one"):
        parameters_to_vector([])
