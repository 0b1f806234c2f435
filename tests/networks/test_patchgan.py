"""PatchGAN against NumPy: the square that a number of its map sees, the map's size, depths for images."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from by_hand import batch_norm, conv, instance_norm, leaky

import tinygen as tg
from tinygen import nn
from tinygen.networks.patchgan import PatchGAN, depth_for, field


def judged(x, weights, depth, norm):
    w = iter(weights)
    h = leaky(conv(2.0 * x - 1, next(w), next(w), 2, 1))
    for level in range(depth):
        h = leaky(norm(conv(h, next(w), next(w), 1 if level == depth - 1 else 2, 1), w))
    h = conv(h, next(w), next(w), 1, 1)
    assert next(w, None) is None
    return h


NORMS = {
    nn.BatchNorm2d: lambda h, w: batch_norm(h, next(w), next(w)),
    nn.InstanceNorm2d: lambda h, w: instance_norm(h),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("size", "depth"), [((8, 8), 1), ((9, 12), 1), ((15, 16), 2), ((29, 24), 3)])
def test_the_forward(size, depth, norm):
    network = PatchGAN((2, *size), 2, depth, norm)
    by_hand.stir(network)
    x, _ = by_hand.images(3, (2, *size))
    expected = judged(x.numpy(), by_hand.arrays(network), depth, NORMS[norm])
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-3, atol=1e-3)


def test_the_norm_is_batch_norm_where_nothing_is_said():
    norms = [m.num_features for m in PatchGAN((1, 32, 32), 3, 3).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == [6, 12, 24]  # none behind the first convolution, none behind the last


def test_planes_double_up_to_eight_times_the_first():
    planes = [m.out_channels for m in PatchGAN((1, 96, 96), 3, 5).modules() if isinstance(m, nn.Conv2d)]
    assert planes == [3, 6, 12, 24, 24, 24, 1]
    assert [m.negative_slope for m in PatchGAN((1, 32, 32), 3, 3) if isinstance(m, nn.LeakyReLU)] == [0.2] * 4


@pytest.mark.parametrize(("depth", "pixels"), [(1, 16), (2, 34), (3, 70)])
def test_a_number_sees_a_square_of_70_pixels_at_depth_3(depth, pixels):
    network = PatchGAN((1, 96, 96), 1, depth).eval()
    by_hand.open_paths(network)
    side = network(tg.rand(1, 1, 96, 96)).shape[2]
    seen = by_hand.support(network, 96, side // 2)
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    assert field(depth) == pixels == len(rows) == len(columns) == rows[-1] - rows[0] + 1
    assert seen.sum() == pixels**2


@pytest.mark.parametrize(("side", "depth", "numbers"), [(256, 3, 30), (28, 2, 5), (8, 1, 2), (64, 3, 6), (24, 3, 1)])
def test_the_size_of_the_map(side, depth, numbers):
    """256 pixels at depth 3 give 30 x 30, as in Isola et al. 2017."""
    assert PatchGAN((1, side, side), 1, depth).eval()(tg.rand(1, 1, side, side)).shape == (1, 1, numbers, numbers)


@pytest.mark.parametrize(
    ("size", "depth"),
    [((8, 8), 1), ((15, 15), 1), ((16, 99), 2), ((28, 28), 2), ((31, 40), 2), ((32, 32), 3), ((999, 999), 3)],
)
def test_the_depth_for_images(size, depth):
    assert depth_for((1, *size)) == depth_for((3, *size[::-1])) == depth
    if max(size) < 200:
        assert PatchGAN((1, *size), 1, depth).eval()(tg.rand(1, 1, *size)).shape[1] == 1


@pytest.mark.parametrize("size", [(7, 8), (30, 7)])
def test_smaller_images_have_no_patches(size):
    with pytest.raises(ValueError, match=f"images of {size[0]}x{size[1]} pixels are too small for a PatchGAN.*needs 8"):
        depth_for((1, *size))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_depth_that_leaves_nothing_is_refused(depth):
    side = 3 * 2**depth
    assert PatchGAN((1, side, side), 1, depth).eval()(tg.rand(1, 1, side, side)).shape == (1, 1, 1, 1)
    words = rf"PatchGAN of depth {depth} does not fit images of {side}x{side - 1} pixels; give a depth of at least 1, "
    with pytest.raises(ValueError, match=words):
        PatchGAN((1, side, side - 1), 1, depth)
    with pytest.raises(ValueError, match="PatchGAN of depth 0 does not fit"):
        PatchGAN((1, side, side), 1, 0)
