"""The generator of textures: sizes, what a place receives from several z, and that nothing inside knows its place."""

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen.networks.fully_convolutional import TextureGenerator


def generator(shape=(1, 16, 16), channels=(3, 5), latent=4, stirred=True):
    network = TextureGenerator(shape, channels, latent)
    if stirred:
        by_hand.stir(network)
    network.eval()
    return network


def noise(*shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("cells", [(1, 1), (1, 3), (4, 2)])
def test_a_map_of_h_by_w_gives_a_picture_of_h_plus_3_by_w_plus_3_strides(depth, cells):
    network = generator((3, 500, 500), [2] * depth)
    h, w = cells
    assert network(noise(2, 4, h, w)).shape == (2, 3, 2**depth * (h + 3), 2**depth * (w + 3))
    assert network.stride == 2**depth


def test_cells_are_those_of_the_next_larger_picture():
    network = generator((1, 16, 16), (3, 5))
    for side in range(1, 41):
        h, w = network.cells((side, 7))
        assert w == 1 and 4 * (h + 3) >= side and (h == 1 or 4 * (h + 2) < side)
    assert network.cells() == (1, 1) and network.cells((17, 16)) == (2, 1) and network.cells((16, 21)) == (1, 3)
    assert generator((1, 33, 47), (3, 5)).cells() == (6, 9)


def test_a_picture_is_cut_at_right_and_below_and_the_trainings_map_gives_the_trainings_size():
    network = generator((1, 13, 22), (3, 5))
    z = noise(2, 4, *network.cells())
    whole = network(z, (16, 24)).detach().numpy()
    assert network(z).shape == (2, 1, 13, 22) and whole.shape == (2, 1, 16, 24)
    np.testing.assert_array_equal(network(z).detach().numpy(), whole[:, :, :13, :22])
    np.testing.assert_array_equal(network(z, (5, 23)).detach().numpy(), whole[:, :, :5, :23])
    assert network(noise(2, 4, 2, 3)).shape == (2, 1, 20, 24)  # another map: all of it


def forward_by_hand(network, z):
    """Every layer as the sum over z's places and kernels, no library's convolution."""
    def transposed(x, weight, stride, padding):
        n, _, h, w = x.shape
        k = weight.shape[-1]
        full = np.zeros((n, weight.shape[1], stride * (h - 1) + k, stride * (w - 1) + k))
        for i in range(h):
            for j in range(w):
                full[:, :, stride * i : stride * i + k, stride * j : stride * j + k] += np.einsum(
                    "nc,cdyx->ndyx", x[:, :, i, j], weight)  # fmt: skip
        return full[:, :, padding : full.shape[2] - padding, padding : full.shape[3] - padding]

    state = {name: value.numpy().astype(float) for name, value in network.state_dict().items()}
    plane = lambda values: values[None, :, None, None]
    y = transposed(z, state["first.weight"], 1, 0)
    y = y / np.sqrt(transposed(np.ones((1, 1, *z.shape[2:])), np.ones((1, 1, 6, 6)), 1, 0))
    last = len(network.up) - 1
    for i in range(last + 1):
        mean, variance = state[f"norms.{i}.running_mean"], state[f"norms.{i}.running_var"]
        y = (y - plane(mean)) / np.sqrt(plane(variance) + 1e-5)
        y = np.maximum(y * plane(state[f"norms.{i}.weight"]) + plane(state[f"norms.{i}.bias"]), 0)
        y = transposed(y, state[f"up.{i}.weight"], 2, 3 if i == last else 2)
    return (np.tanh(y + plane(state[f"up.{last}.bias"])) + 1) / 2


@pytest.mark.parametrize("cells", [(1, 1), (2, 8)])
def test_forward_by_hand(cells):
    network = generator((2, 200, 200), (3, 5, 4))
    z = noise(2, 4, *cells)
    found, expected = network(z).detach().numpy(), forward_by_hand(network, z.numpy().astype(float))
    assert found.shape == expected.shape and np.ptp(found) > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_moving_the_map_moves_the_picture_by_the_stride():
    """Inside: where all places have 36 z, 5 places from the map's border. Exactly, to the last bit or two."""
    network = generator((1, 16, 16), (3, 5))
    z = noise(1, 4, 14, 15)
    moved = noise(1, 4, 14, 15, seed=1).numpy()
    moved[:, :, 2:, 1:] = z.numpy()[:, :, :-2, :-1]  # two down, one to the right; others come in
    one, two = network(z).detach().numpy(), network(tg.tensor(moved)).detach().numpy()
    top, left, stride = 8, 7, 4
    inside = one[:, :, stride * 5 : stride * 9, stride * 5 : stride * 11]
    again = two[:, :, stride * 7 : stride * 11, stride * 6 : stride * 12]
    assert inside.shape == again.shape and np.ptp(inside) > 0.1
    np.testing.assert_allclose(inside, again, atol=1e-6)
    assert abs(one - two)[:, :, : stride * top, : stride * left].max() > 0.02  # and it does move


def test_a_crop_of_the_map_gives_the_crop_of_the_picture_inside():
    network = generator((1, 16, 16), (3, 5))
    z = noise(1, 4, 20, 20)
    whole, crop = network(z).detach().numpy(), network(z[:, :, 3:16, 4:18]).detach().numpy()
    stride = 4
    np.testing.assert_allclose(
        crop[:, :, 5 * stride : 11 * stride, 5 * stride : 12 * stride],
        whole[:, :, 8 * stride : 14 * stride, 9 * stride : 16 * stride], atol=1e-6,
    )  # fmt: skip


def test_each_unit_has_the_variance_that_one_z_gives_it_wherever_z_overlap():
    """With kernels of equal norm at all places, as many samples say: 1, 6 or 36 z change nothing."""
    network = generator((1, 16, 16), (5,), latent=6, stirred=False)
    weight = network.first.weight
    values = weight.detach().numpy()
    weight.data = tg.tensor(values / np.sqrt(np.square(values).sum(0, keepdims=True)))
    seen = []
    norm = network.norms[0]
    forward = norm.forward
    norm.forward = lambda y: (seen.append(y.detach().numpy()), forward(y))[1]
    for h, w in ((1, 1), (1, 9), (9, 9)):
        network(noise(3000, 6, h, w, seed=h + w))
    for units in seen:
        np.testing.assert_allclose(units.var(0).mean(0), 1, atol=0.09)
        np.testing.assert_allclose(units.mean((0, 2, 3)), 0, atol=0.06)


def test_no_layer_is_dense_and_the_weights_do_not_grow_with_the_size():
    small, large = generator((1, 16, 16), (3, 5)), generator((1, 500, 300), (3, 5))
    assert [p.shape for p in small.parameters()] == [p.shape for p in large.parameters()]
    assert all(p.ndim in (1, 4) for p in small.parameters())


def test_points_are_refused():
    with pytest.raises(ValueError, match=r"texture has images \(channels, height, width\).*\(2,\)"):
        TextureGenerator((2,), (3, 5), 4)
