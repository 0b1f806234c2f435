"""Importance weights and the bound of k draws against NumPy, with the noise given."""

from __future__ import annotations

import math

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen.data.corruptions import binarised
from tinygen.models import Bernoulli, Gaussian, IWAEStep, VAEStep
from tinygen.networks.mlp import MLPDecoder, MLPEncoder, gaussian
from tinygen.training import evaluate

DIGIT, LATENT, HIDDEN = (1, 8, 8), 3, 12


def made(likelihood=Bernoulli, kind=IWAEStep, prepare=None, **options):
    tg.manual_seed(0)
    encoder = gaussian(MLPEncoder(DIGIT, (), HIDDEN), HIDDEN, LATENT)
    step = kind(encoder, MLPDecoder(DIGIT, (HIDDEN,), LATENT), likelihood(), prepare, latent=LATENT, **options)
    by_hand.stir(step.encoder, step.decoder)
    return step


def parameters(step):
    return by_hand.arrays(step.encoder, step.decoder, step.likelihood)


def seeded(*sizes, seed=3):
    """The noise (k, N, latent) that the next draws of (N, k, latent) give; the random numbers start again."""
    tg.manual_seed(seed)
    noise = [tg.randn(*size).numpy().astype(float).swapaxes(0, 1) for size in sizes]
    tg.manual_seed(seed)
    return noise


def normal(z, mean, variance):
    """log N(z; mean, diag variance), summed over the last axis."""
    return -0.5 * (np.log(2 * np.pi * variance) + (z - mean) ** 2 / variance).sum(-1)


def log_weights(weights, x, noise):
    """log p(x|z) + log p(z) - log q(z|x), (k, N), every density whole; an eleventh array is a Gaussian's log sigma."""
    h = by_hand.relu(by_hand.mlp(x, weights[:2]))
    mean, variance = by_hand.linear(h, *weights[2:4]), np.exp(by_hand.linear(h, *weights[4:6]))
    found = []
    for eps in noise:
        z = mean + np.sqrt(variance) * eps
        y, rows = by_hand.sigmoid(by_hand.mlp(z, weights[6:10])), x.reshape(len(x), -1)
        if len(weights) == 11:
            log_p = normal(rows, y, np.full(rows.shape, np.exp(2 * weights[10])))
        else:
            log_p = (rows * np.log(y) + (1 - rows) * np.log(1 - y)).sum(1)
        found.append(log_p + normal(z, 0, np.ones_like(z)) - normal(z, mean, variance))
    return np.array(found)


def bound(weights, x, noise):
    """Mean over images of log of the mean of w, without the largest taken out."""
    return np.log(np.exp(log_weights(weights, x, noise)).mean(0)).mean()


@pytest.mark.parametrize("likelihood", [Bernoulli, Gaussian])
@pytest.mark.parametrize("kind", [VAEStep, IWAEStep])
def test_log_weights_are_three_densities(likelihood, kind):
    step = made(likelihood, kind, **({"samples": 2} if kind is IWAEStep else {}))
    x, labels = by_hand.images(7)
    (noise,) = seeded((7, 4, LATENT))
    found = step.log_weights((x, labels), 4)
    assert found.shape == (4, 7)
    np.testing.assert_allclose(
        found.detach().numpy(), log_weights(parameters(step), x.numpy().astype(float), noise), rtol=2e-5
    )


@pytest.mark.parametrize("likelihood", [Bernoulli, Gaussian])
@pytest.mark.parametrize("samples", [1, 5])
def test_the_update_follows_the_bound_of_k_draws(likelihood, samples):
    """Loss and every gradient: that of log of the mean weight, not of the mean log weight."""
    step = made(likelihood, samples=samples, lr=1e-3)
    x, labels = by_hand.images(6)
    by_hand.leave_gradients(step.encoder, step.decoder, step.likelihood)
    before, pixels = parameters(step), x.numpy().astype(float)
    (noise,) = seeded((6, samples, LATENT))
    metrics = step((x, labels))
    objective = lambda weights: -bound(weights, pixels, noise)
    assert metrics["loss"].item() == pytest.approx(objective(before), rel=1e-5)
    assert metrics["loss"].shape == () and not metrics["loss"].requires_grad
    found = by_hand.gradients(step.encoder, step.decoder, step.likelihood)
    assert by_hand.same_slopes(objective, before, found)
    for old, new, gradient in zip(before, parameters(step), found):  # Adam's first step has length lr
        large = abs(gradient) > 1e-4
        assert (old - new)[large] == pytest.approx(1e-3 * np.sign(gradient[large]), rel=0.02)


def test_evaluation_is_the_mean_over_all_images_of_unequal_batches():
    step = made(samples=3)
    x = by_hand.images(21)[0]
    x[16:] = 0.1 * x[16:]  # so that a mean of the two batches' means is another number
    noise = seeded((16, 3, LATENT), (5, 3, LATENT))
    with tg.no_grad():
        found = evaluate(step, [(x[:16], None), (x[16:], None)])
    pixels, weights = x.numpy().astype(float), parameters(step)
    parts = [bound(weights, part, eps) for part, eps in zip((pixels[:16], pixels[16:]), noise)]
    assert found["loss"] == pytest.approx(-(16 * parts[0] + 5 * parts[1]) / 21, rel=1e-5)
    h = by_hand.relu(by_hand.mlp(pixels, weights[:2]))
    kl = by_hand.kl(by_hand.linear(h, *weights[2:4]), by_hand.linear(h, *weights[4:6])).mean()
    assert found["kl"] == pytest.approx(kl, rel=1e-5)
    assert list(found) == ["loss", "kl", "active"]


def test_one_draw_is_the_elbo_on_average():
    """With many copies of an image the two estimates of the same bound agree."""
    step = made(samples=1)
    x = by_hand.images(1)[0].expand(20_000, *DIGIT)
    with tg.no_grad():
        recon, kl = step.terms(x)
        assert step.bound((x, None)).item() == pytest.approx((recon + kl).item(), abs=0.1)


def test_a_bound_of_no_draw_is_refused():
    with pytest.raises(ValueError, match="samples is the k of the bound: it must be at least 1, it is 0"):
        made(samples=0)


@pytest.mark.parametrize("kind", [VAEStep, IWAEStep])
def test_what_is_prepared_is_what_is_modelled_everywhere(kind):
    """Updates, test figures, codes, weights and pictures of images are those of the images in black and white."""
    options = {"samples": 2} if kind is IWAEStep else {}
    x = by_hand.images(9)[0]
    black = tg.tensor((x.numpy() > 0.5).astype("f4"))
    assert 0 < black.mean().item() < 1

    def figures(step, images):
        tg.manual_seed(1)
        batch = (images, None)
        with tg.no_grad():
            found = [*step.measure(batch).values(), step.log_weights(batch, 3), step.apply(images), step.encode(images)]
            found += [*step.pictures(batch)["reconstructions"], tg.tensor(step.summary([batch])["active"])]
        step(batch)
        return [t.numpy() for t in found] + parameters(step)

    of_grey = figures(made(kind=kind, prepare=binarised(), **options), x)
    of_black = figures(made(kind=kind, **options), black)
    assert all(np.array_equal(a, b) for a, b in zip(of_grey, of_black, strict=True))
    assert not np.allclose(of_grey[0], figures(made(kind=kind, **options), x)[0], rtol=1e-3)


def test_samples_of_a_code_are_drawn_anew_for_each_image_and_each_k():
    step = made(samples=2)
    x = by_hand.images(1)[0].expand(4, *DIGIT)
    with tg.no_grad():
        found = step.log_weights((x, None), 3).numpy()
    assert len(np.unique(found)) == 12 and math.isfinite(found.sum())
