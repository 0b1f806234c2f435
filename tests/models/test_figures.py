"""Figures of codes, weights and reconstructions: known answers, over all images of unequal batches."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import AutoencoderStep, figures, penalties
from tinygen.networks.mlp import MLPDecoder, MLPEncoder

DIGIT = (1, 8, 8)


def made(latent=5, *ends):
    encoder = nn.Sequential(MLPEncoder(DIGIT, (), latent), *ends)
    step = AutoencoderStep(encoder, nn.Sequential(MLPDecoder(DIGIT, (), latent), nn.Sigmoid()))
    by_hand.stir(step.encoder, step.decoder)
    return step


def unequal(x):
    """The images as batches of 9 and the rest."""
    return [(x[:9], None), (x[9:], None)]


def brighter(n=13):
    """Images whose last batch is unlike the first, so that a mean of means differs from the mean."""
    x = by_hand.images(n)[0]
    x[9:] = 0.2 * x[9:]
    return x


class Coded(AutoencoderStep):
    """Its codes are the images themselves."""

    def encode(self, x):
        return x.flatten(1)


def test_norms_are_those_of_the_weights_of_both_networks_without_biases():
    step = made()
    kernels = [w for w in by_hand.arrays(step.encoder, step.decoder) if w.ndim > 1]
    assert len(kernels) == 2
    found = figures.weight_norms(step, [])
    assert found["weight_norm"] == pytest.approx(np.sqrt(sum((w**2).sum() for w in kernels)), rel=1e-5)
    assert found["weight_sum"] == pytest.approx(sum(abs(w).sum() for w in kernels), rel=1e-5)


def test_sparsity_counts_codes_below_a_hundredth_of_their_unit_s_largest_among_units_alive():
    codes = np.array([[0, 100, 0, 2], [0, 0.9, 3, 2], [0, 1.1, 0.031, 2], [0, 0, 0.029, 2]], np.float32)
    step = Coded(nn.Linear(4, 4), nn.Linear(4, 4))
    found = figures.sparsity(step, [(tg.tensor(codes[:3]), None), (tg.tensor(codes[3:]), None)])
    assert found == {"near_zero": pytest.approx((2 + 2 + 0) / 12), "dead": 1.0}
    assert figures.sparsity(step, [(tg.zeros(3, 4), None)]) == {"near_zero": 0.0, "dead": 4.0}


def test_contraction_is_the_squared_jacobian_over_the_variance_of_the_codes():
    step, x = made(5, nn.Sigmoid()), brighter()
    w, b = by_hand.arrays(step.encoder)
    h = by_hand.sigmoid(by_hand.linear(x.numpy().reshape(13, -1).astype(float), w, b))
    norms = ((h * (1 - h)) ** 2) @ (w**2).sum(1)
    spread = ((h - h.mean(0)) ** 2).sum(1).mean()
    for norm in (penalties.jacobian, penalties.of_a_sigmoid):
        with tg.no_grad():
            found = figures.contraction(norm)(step, unequal(x))
        assert found["jacobian"] == pytest.approx(norms.mean(), rel=1e-4)
        assert found["contraction"] == pytest.approx(norms.mean() / spread, rel=1e-4)
    assert all(p.grad is None for p in step.encoder.parameters())


def test_the_norm_of_a_contraction_is_the_one_that_is_handed_in():
    step, x = made(), brighter()
    sizes = lambda encoder, x, code: code.square().sum(1) if encoder is step.encoder else None
    with tg.no_grad():
        found = figures.contraction(sizes)(step, unequal(x))
        expected = step.encode(x).square().sum(1).mean().item()
    assert found["jacobian"] == pytest.approx(expected, rel=1e-5)


def test_variation_is_that_of_reconstructions_and_of_images():
    step, x = made(), brighter()
    size = lambda y: (abs(np.diff(y, axis=2)).sum() + abs(np.diff(y, axis=3)).sum()) / len(y)
    with tg.no_grad():
        found = figures.variation(step, unequal(x))
        y = step.apply(x).numpy()
    assert found["variation_real"] == pytest.approx(size(x.numpy()), rel=1e-5)
    assert found["variation"] == pytest.approx(size(y), rel=1e-5)


def test_the_gap_is_between_noise_and_images_as_they_are():
    step, x = made(), brighter(12)
    step.corrupt = lambda x: x + 5
    with tg.no_grad():
        tg.manual_seed(3)
        found = figures.unseen(step, [(x[:8], None), (x[8:], None)])
        tg.manual_seed(3)
        noise = tg.cat([tg.rand(8, *DIGIT), tg.rand(4, *DIGIT)])
        expected = [((step.apply(z).numpy() - z.numpy()) ** 2).mean() for z in (x, noise)]
    assert [found["mse_clean"], found["mse_noise"]] == pytest.approx(expected, rel=1e-5)
    assert found["gap"] == pytest.approx(expected[1] - expected[0], rel=1e-4)
    identity = Coded(nn.Linear(2, 2), nn.Linear(2, 2))
    identity.apply = lambda x: x
    assert figures.unseen(identity, [(x, None)]) == {"mse_clean": 0.0, "mse_noise": 0.0, "gap": 0.0}
