"""What a frozen network sees: against NumPy, each channel by itself; nothing in it is learned."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from by_hand import conv, max_pool, relu

import tinygen as tg
from tinygen.networks.frozen import Features


def arrays():
    draw = np.random.default_rng(5)
    shapes = {"c1.weight": (4, 1, 3, 3), "c1.bias": (4,), "c2.weight": (5, 4, 3, 3), "c2.bias": (5,)}
    return {name: draw.normal(size=shape) for name, shape in shapes.items()}


def expected(x, w, pooled):
    h = relu(conv(x.reshape(-1, 1, *x.shape[2:]), w["c1.weight"], w["c1.bias"], 1, 1))
    h = max_pool(h) if pooled else h
    return max_pool(relu(conv(h, w["c2.weight"], w["c2.bias"], 1, 1)))


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 11)])
def test_the_forward(shape, pooled):
    x, _ = by_hand.images(3, shape)
    found = Features(arrays(), pooled)(x).numpy()
    assert found.shape[0] == 3 * shape[0] and found.dtype == np.float32
    np.testing.assert_allclose(found, expected(x.numpy(), arrays(), pooled), rtol=1e-4, atol=1e-4)


def test_each_channel_is_looked_at_by_itself():
    x, _ = by_hand.images(4, (3, 8, 8))
    network = Features(arrays(), False)
    together = network(x).numpy().reshape(4, 3, 5, 4, 4)
    for channel in range(3):
        np.testing.assert_allclose(together[:, channel], network(x[:, channel : channel + 1]).numpy(), rtol=1e-5)


def test_slopes_flow_to_the_images_and_to_no_weight():
    network = Features(arrays(), True)
    draw = np.random.default_rng(1)
    x = tg.tensor(draw.random((2, 1, 8, 8), np.float32), requires_grad=True)
    network(x).square().mean().backward()
    objective = lambda values: (expected(values[0], arrays(), True) ** 2).mean()
    values, slopes = (a.numpy().astype(np.float64) for a in (x.detach(), x.grad))
    assert by_hand.same_slopes(objective, [values], [slopes])
    assert list(network.parameters()) == [] and len(network.state_dict()) == 4
