"""LeNet-5: sizes from the data, the forward against NumPy loops."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from by_hand import SIZES

from tinygen.networks.lenet import LeNet5


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_any_image_of_at_least_8_pixels_is_classified(size):
    for channels in (1, 3):
        x, _ = by_hand.images(2, (channels, *size))
        assert LeNet5((channels, *size), 7)(x).shape == (2, 7)


@pytest.mark.parametrize(("size", "padding"), [((8, 9), 2), ((11, 20), 2), ((12, 12), 0), ((15, 14), 0)])
def test_the_forward_pads_the_second_convolution_of_small_images_only(size, padding):
    network = LeNet5((2, *size), 7)
    by_hand.stir(network, size=0.2)
    x, _ = by_hand.images(3, (2, *size))
    w1, b1, w2, b2, *rest = by_hand.arrays(network)
    h = by_hand.max_pool(by_hand.relu(by_hand.conv(x.numpy(), w1, b1, 1, 2)))
    h = by_hand.max_pool(by_hand.relu(by_hand.conv(h, w2, b2, 1, padding)))
    np.testing.assert_allclose(network(x).detach().numpy(), by_hand.mlp(h, rest), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 7, 28), (1, 28, 7), (2,)])
def test_what_is_too_small_is_refused(shape):
    with pytest.raises(ValueError, match=r"LeNet5 needs images .* at least 8 pixels, not"):
        LeNet5(shape)


def test_ten_classes_where_nothing_is_said():
    assert LeNet5((1, 28, 28))(by_hand.images(2, (1, 28, 28))[0]).shape == (2, 10)
