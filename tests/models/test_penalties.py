"""Penalties of an autoencoder against sums and differences written out in NumPy."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import penalties
from tinygen.networks.convolutional import ConvDecoder, ConvEncoder
from tinygen.networks.mlp import MLPDecoder, MLPEncoder

SHAPE = (2, 8, 9)


def networks():
    pair = ConvEncoder(SHAPE, (3,), (), 4), nn.Sequential(ConvDecoder(SHAPE, (3,), (), 4), nn.Sigmoid())
    by_hand.stir(*pair)
    return pair


def kernels(*modules):
    return [p for module in modules for p in module.parameters() if p.ndim > 1]


def paid(penalty, encoder, decoder, x):
    code = encoder(x)
    return penalty(encoder, decoder, x, code, decoder(code))


def test_weights_are_summed_over_both_networks_without_biases():
    encoder, decoder = networks()
    x, _ = by_hand.images(3, SHAPE)
    every = [w.detach().numpy().astype(float) for w in kernels(encoder, decoder)]
    assert len(every) == 4
    one = paid(penalties.weights_l1(0.3), encoder, decoder, x)
    two = paid(penalties.weights_l2(0.3), encoder, decoder, x)
    assert one.shape == two.shape == ()
    assert one.item() == pytest.approx(0.3 * sum(abs(w).sum() for w in every), rel=1e-5)
    assert two.item() == pytest.approx(0.3 * sum((w**2).sum() for w in every), rel=1e-5)


def test_codes_are_summed_over_entries_and_averaged_over_the_batch():
    code = tg.tensor(np.float32([[1.0, -2.0, 0.0], [0.5, 0.5, -3.0]]))
    value = penalties.code_l1(0.1)(None, None, None, code, None)
    assert value.shape == () and value.item() == pytest.approx(0.1 * (3 + 4) / 2)
    planes = code.reshape(2, 3, 1, 1).expand(2, 3, 2, 2)
    assert penalties.code_l1(0.1)(None, None, None, planes, None).item() == pytest.approx(4 * 0.1 * (3 + 4) / 2)


def test_total_variation_sums_differences_of_neighbours():
    y = np.random.default_rng(3).normal(size=(3, *SHAPE)).astype("f4")
    expected = 0.0
    for n, c, i, j in np.ndindex(y.shape):
        expected += abs(y[n, c, i + 1, j] - y[n, c, i, j]) if i + 1 < SHAPE[1] else 0
        expected += abs(y[n, c, i, j + 1] - y[n, c, i, j]) if j + 1 < SHAPE[2] else 0
    value = penalties.total_variation(0.2)(None, None, None, None, tg.tensor(y))
    assert value.shape == () and value.item() == pytest.approx(0.2 * expected / 3, rel=1e-5)
    assert penalties.total_variation(0.2)(None, None, None, None, tg.ones(2, 1, 8, 8)).item() == 0
    ramp = tg.arange(4).float().reshape(1, 1, 1, 4).expand(1, 1, 3, 4)
    assert penalties.total_variation(1.0)(None, None, None, None, ramp).item() == 9  # 3 rows of 3 differences


def test_contraction_is_the_squared_jacobian_of_the_code_over_the_batch():
    encoder = ConvEncoder((1, 8, 8), (3,), (5,), 4).double()
    by_hand.stir(encoder)
    x = tg.randn(3, 1, 8, 8, dtype=tg.float64)
    total = 0.0
    with tg.no_grad():
        for i in range(64):
            step = np.zeros(64)
            step[i] = 1e-6
            ahead, back = (encoder(x + s * tg.tensor(step).reshape(1, 1, 8, 8)).numpy() for s in (1, -1))
            total += (((ahead - back) / 2e-6) ** 2).sum()
    value = penalties.contractive(0.7)(encoder, None, x, None, None)
    assert value.shape == () and value.item() == pytest.approx(0.7 * total / 3, rel=1e-6)
    value.backward()
    first = next(encoder.parameters())
    assert first.grad is not None and first.grad.abs().max().item() > 0
    assert x.grad is None and not x.requires_grad


def test_every_penalty_moves_what_it_speaks_of():
    """code_l1 reaches the encoder alone, contractive too; the others reach both networks."""
    x, _ = by_hand.images(3, SHAPE)
    reach = {"weights_l1": (1, 1), "weights_l2": (1, 1), "code_l1": (1, 0), "contractive": (1, 0),
             "total_variation": (1, 1)}  # fmt: skip
    for name, expected in reach.items():
        encoder, decoder = networks()
        paid(getattr(penalties, name)(1.0), encoder, decoder, x).backward()
        moved = [
            int(any(p.grad is not None and p.grad.abs().max().item() > 0 for p in network.parameters()))
            for network in (encoder, decoder)
        ]
        assert tuple(moved) == expected, name


# ---------------------------------------------------------------------------------- closed form, constraint


def sigmoid_layer(inputs=64, outputs=5):
    encoder = nn.Sequential(MLPEncoder((1, 8, 8), (), outputs), nn.Sigmoid())
    by_hand.stir(encoder)
    return encoder


def test_the_closed_form_and_double_backward_are_equal_with_their_gradients():
    x, found = by_hand.images(6)[0], []
    encoder = sigmoid_layer().double()
    x = x.double()
    for norm in (penalties.jacobian, penalties.of_a_sigmoid):
        encoder.zero_grad()
        each = norm(encoder, x, encoder(x))
        assert each.shape == (6,)
        value = penalties.contractive(0.4, norm)(encoder, None, x, encoder(x), None)
        assert value.item() == pytest.approx(0.4 * each.detach().numpy().mean(), rel=1e-10)
        value.backward()
        found.append((each.detach().numpy(), by_hand.gradients(encoder)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-10)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert abs(a).max() > 1e-3
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)


def test_the_closed_form_is_the_sum_over_units_of_slope_and_weight():
    encoder = sigmoid_layer()
    x, _ = by_hand.images(4)
    w, b = by_hand.arrays(encoder)
    expected = []
    for image in x.numpy().reshape(4, 64):
        total = 0.0
        for row, shift in zip(w, b):
            h = by_hand.sigmoid(row @ image + shift)
            total += (h * (1 - h)) ** 2 * (row**2).sum()
        expected.append(total)
    assert len(w) == 5
    np.testing.assert_allclose(penalties.of_a_sigmoid(encoder, x, encoder(x)).detach().numpy(), expected, rtol=1e-4)


def test_the_norm_that_is_handed_in_is_the_one_that_is_paid():
    received = []
    norm = lambda *given: received.append(given) or tg.tensor([1.0, 2.0, 6.0])
    given = nn.Identity(), tg.zeros(3, 2), tg.ones(3, 2)
    penalty = penalties.contractive(0.5, norm)
    assert penalty(given[0], None, *given[1:], None).item() == 1.5
    assert all(a is b for a, b in zip(received[0], given, strict=True))


@pytest.mark.parametrize(
    "encoder",
    [lambda: MLPEncoder((1, 8, 8), (), 4), lambda: nn.Sequential(MLPEncoder((1, 8, 8), (6,), 4), nn.Sigmoid()),
     lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Tanh())],
)  # fmt: skip
def test_the_closed_form_refuses_what_it_is_not_the_form_of(encoder):
    encoder = encoder()
    x, _ = by_hand.images(2)
    with pytest.raises(ValueError, match=r"Linear, Sigmoid; the encoder is .*penalties.jacobian"):
        penalties.of_a_sigmoid(encoder, x, encoder(x))


def test_columns_of_the_layer_behind_the_code_have_norm_1():
    decoder = nn.Sequential(MLPDecoder((1, 8, 8), (7,), 5), nn.Sigmoid())
    by_hand.stir(decoder)
    before = by_hand.arrays(decoder)
    penalties.unit_columns(decoder)
    first, *rest = by_hand.arrays(decoder)
    assert first.shape == (7, 5)
    np.testing.assert_allclose(first, before[0] / np.sqrt((before[0] ** 2).sum(0)), rtol=1e-5)
    assert all((a == b).all() for a, b in zip(rest, before[1:]))


@pytest.mark.parametrize(
    "name", ["weights_l1", "weights_l2", "code_l1", "total_variation", "contractive"]
)
def test_a_strength_below_0_is_refused(name):
    penalty = getattr(penalties, name)
    for strength in (-1e-3, float("nan")):
        with pytest.raises(ValueError, match=f"strength must be at least 0, it is {strength}; .* is usual, 0 leaves"):
            penalty(strength)
    penalty(0.0)
