"""The VAE's update against the ELBO written out in NumPy, with the noise given; its figures where they are known."""

from __future__ import annotations

import math

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import Bernoulli, Gaussian, VAEStep
from tinygen.networks.convolutional import ConvDecoder, ConvEncoder
from tinygen.networks.mlp import MLPDecoder, MLPEncoder, gaussian
from tinygen.training import evaluate

DIGIT = (1, 8, 8)
LATENT = 3


def made(likelihood=Bernoulli, hidden=12, latent=LATENT, **options):
    encoder, decoder = gaussian(MLPEncoder(DIGIT, (), hidden), hidden, latent), MLPDecoder(DIGIT, (hidden,), latent)
    return VAEStep(encoder, decoder, likelihood(), latent=latent, **options)


def convolutional(**options):
    encoder = gaussian(ConvEncoder(DIGIT, (4, 8), (), 16), 16, 20)
    return VAEStep(encoder, ConvDecoder(DIGIT, (4, 8), (16,), 20), Bernoulli(), latent=20, **options)


def encoded(weights, x):
    """(mean, log variance) of images, from the encoder's parameters."""
    h = by_hand.relu(by_hand.mlp(x, weights[:2]))
    return by_hand.linear(h, *weights[2:4]), by_hand.linear(h, *weights[4:6])


def terms(weights, x, noise):
    """(reconstruction term, KL) of the parameters of `made`; a ninth is the Gaussian's log sigma."""
    mean, log_variance = encoded(weights, x)
    logits = by_hand.mlp(mean + np.exp(0.5 * log_variance) * noise, weights[6:10])
    x, y = x.reshape(len(x), -1), by_hand.sigmoid(logits)
    if len(weights) == 11:
        sigma = np.exp(weights[10])
        recon = (0.5 * ((x - y) / sigma) ** 2 + np.log(sigma) + 0.5 * np.log(2 * np.pi)).sum() / len(x)
    else:
        recon = -(x * np.log(y) + (1 - x) * np.log(1 - y)).sum() / len(x)
    return recon, by_hand.kl(mean, log_variance).mean()


def parameters(step):
    return by_hand.arrays(step.encoder, step.decoder, step.likelihood)


def seeded(n, latent=LATENT, seed=3):
    """The noise that the next draw of (n, latent) gives; the random numbers start again."""
    tg.manual_seed(seed)
    noise = tg.randn(n, latent).numpy().astype(float)
    tg.manual_seed(seed)
    return noise


@pytest.mark.parametrize("likelihood", [Bernoulli, Gaussian])
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_update_follows_the_elbo_with_its_noise(likelihood, beta):
    """Loss, terms and every gradient; the noise is drawn once for each image."""
    step = made(likelihood, beta=beta, lr=1e-3)
    by_hand.stir(step.encoder, step.decoder)
    x, labels = by_hand.images(7)
    by_hand.leave_gradients(step.encoder, step.decoder, step.likelihood)
    before, noise = parameters(step), seeded(7)
    metrics = step((x, labels))
    pixels = x.numpy().astype(float)
    recon, kl = terms(before, pixels, noise)
    assert metrics["recon"].item() == pytest.approx(recon, rel=1e-5)
    assert metrics["kl"].item() == pytest.approx(kl, rel=1e-5)
    assert metrics["loss"].item() == pytest.approx(recon + beta * kl, rel=1e-5)

    def objective(weights):
        recon, kl = terms(weights, pixels, noise)
        return recon + beta * kl

    found = by_hand.gradients(step.encoder, step.decoder, step.likelihood)
    assert by_hand.same_slopes(objective, before, found)
    for old, new, gradient in zip(before, parameters(step), found):  # Adam's first step has length lr
        large = abs(gradient) > 1e-4
        assert (old - new)[large] == pytest.approx(1e-3 * np.sign(gradient[large]), rel=0.02)


def test_terms_are_those_of_the_encoder_and_the_decoded_draw():
    step = made()
    by_hand.stir(step.encoder, step.decoder)
    x, _ = by_hand.images(9)
    noise = seeded(9)
    recon, kl = step.terms(x)
    mean, log_variance = step.encoder(x)
    logits = step.decoder(mean + (0.5 * log_variance).exp() * tg.tensor(noise.astype(np.float32)))
    assert recon.item() == pytest.approx(step.likelihood(logits, x).item(), rel=1e-6)
    assert kl.item() == pytest.approx(by_hand.kl(mean.detach().numpy(), log_variance.detach().numpy()).mean(), rel=1e-5)


def test_evaluation_is_the_mean_over_all_images_of_unequal_batches():
    step = made(beta=3.0)
    by_hand.stir(step.encoder, step.decoder)
    x = by_hand.images(37)[0]
    x[32:] = 0.1 * x[32:]  # so that a mean of the two batches' means is another number
    tg.manual_seed(3)
    noise = np.concatenate([tg.randn(n, LATENT).numpy() for n in (32, 5)])
    recon, kl = terms(parameters(step), x.numpy().astype(float), noise)
    tg.manual_seed(3)
    with tg.no_grad():
        found = evaluate(step, [(x[:32], None), (x[32:], None)])
    assert found["recon"] == pytest.approx(recon, rel=1e-5)
    assert found["kl"] == pytest.approx(kl, rel=1e-5)
    assert found["loss"] == pytest.approx(recon + kl, rel=1e-5)  # beta is 1 in the test figure
    assert list(found) == ["loss", "recon", "kl", "active"]


def test_the_kl_is_per_image():
    step = made()
    x, _ = by_hand.images(6)
    mean, log_variance = (t.detach().numpy() for t in step.encoder(x))
    assert step.measure((x, None))["kl"].item() == pytest.approx(by_hand.kl(mean, log_variance).mean(), rel=1e-5)
    twice = tg.cat([x, x])
    assert step.measure((twice, None))["kl"].item() == pytest.approx(step.measure((x, None))["kl"].item(), rel=1e-5)


def test_a_measurement_learns_nothing():
    step = made()
    before = parameters(step)
    step.measure(by_hand.images())
    assert all((a == b).all() for a, b in zip(before, parameters(step)))


class Means(nn.Module):
    """An encoder whose means are the first pixels themselves."""

    def forward(self, x):
        mean = x.flatten(1)[:, :5]
        return mean, tg.zeros_like(mean)


def test_a_latent_is_active_by_the_variance_of_its_mean_over_all_images():
    """Standard deviations 0.05, 0.09, 0.11 and 0.2 around any mean: variances above 0.01 are two."""
    step = made(latent=5)
    step.encoder = Means()
    x = tg.zeros(37, *DIGIT)
    deviations = [0.05, 0.09, 0.11, 0.2, 0.0]
    wave = np.random.default_rng(0).normal(size=(37, 5))
    wave = (wave - wave.mean(0)) / wave.std(0)
    x[:, 0, 0, :5] = tg.tensor((wave * deviations + [0, 5, -3, 0.5, 9]).astype(np.float32))
    assert step.summary([(x[:32], None), (x[32:], None)]) == {"active": 2.0}
    x[:, 0, 0, :5] = tg.tensor((0.05 * wave).astype(np.float32))
    assert step.summary([(x[:32], None), (x[32:], None)]) == {"active": 0.0}
    constant = tg.zeros(64, *DIGIT)
    constant[32:] = 1.0  # each batch alone stands still; together they do not
    assert step.summary([(constant[:32], None), (constant[32:], None)]) == {"active": 5.0}


def test_active_units_are_the_dimensions_whose_mean_varies():
    step = made(hidden=400, latent=5)
    head = step.encoder[2]
    with tg.no_grad():
        head.mean.weight[2:] = 0  # the mean of three dimensions no longer depends on the image
        head.mean.weight[:2] = tg.randn(2, 400)
        assert evaluate(step, [by_hand.images(64)])["active"] == 2


def test_samples_are_the_decoded_standard_normal():
    for likelihood in (Bernoulli, Gaussian):
        step = made(likelihood)
        by_hand.stir(step.decoder)
        z = seeded(50)
        expected = by_hand.sigmoid(by_hand.mlp(z, by_hand.arrays(step.decoder))).reshape(50, *DIGIT)
        np.testing.assert_allclose(step.sample(50).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_reconstructions_decode_the_mean_without_noise():
    step = made()
    by_hand.stir(step.encoder, step.decoder)
    x, _ = by_hand.images(6)
    weights = parameters(step)
    mean, _ = encoded(weights, x.numpy())
    expected = by_hand.sigmoid(by_hand.mlp(mean, weights[6:])).reshape(x.shape)
    np.testing.assert_allclose(step.encode(x).detach().numpy(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(step.apply(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(step.decode(step.encode(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    shown = step.pictures((x, None))
    assert list(shown) == ["samples", "reconstructions"] and shown["samples"].shape == x.shape
    assert (shown["reconstructions"][0] == x).all()
    np.testing.assert_allclose(shown["reconstructions"][1].detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_learned_sigma_finds_the_error():
    """The best sigma^2 is the mean squared error of a pixel."""
    tg.manual_seed(0)
    step = made(Gaussian, hidden=8, latent=2, lr=1e-2)
    data = by_hand.images(32)
    for _ in range(300):
        step(data)
    mean, log_variance = step.encoder(data[0])
    drawn = step.decode(mean + (0.5 * log_variance).exp() * tg.randn_like(mean))
    error = ((drawn - data[0]) ** 2).mean().item()
    assert math.exp(2 * step.likelihood.log_sigma.item()) == pytest.approx(error, rel=0.15)


BUILT = [lambda: made(hidden=400, latent=20), convolutional, lambda: made(Gaussian, hidden=400, latent=20)]


@pytest.mark.parametrize("build", BUILT, ids=["mlp", "conv", "gaussian"])
def test_vae_learns_and_reports_its_terms(build):
    tg.manual_seed(0)
    step = build()
    data = by_hand.images(32)
    metrics = [step(data) for _ in range(60)]
    assert all(m["loss"].item() == pytest.approx(m["recon"].item() + m["kl"].item(), rel=1e-5) for m in metrics)
    assert all(value.shape == () and not value.requires_grad for m in metrics for value in m.values())
    assert metrics[-1]["loss"].item() < metrics[0]["loss"].item()
    test = evaluate(step, [data, data])
    assert test["loss"] == pytest.approx(test["recon"] + test["kl"])
    assert step.sample(5).shape == (5, *DIGIT)


def test_beta_weighs_the_kl_in_the_loss_only():
    step = made(beta=4.0)
    m = step(by_hand.images())
    assert m["loss"].item() == pytest.approx(m["recon"].item() + 4 * m["kl"].item(), rel=1e-5)


def test_one_optimizer_moves_encoder_decoder_and_likelihood_at_the_rate_given():
    step = made(Gaussian, lr=0.02)
    assert [group["lr"] for group in step.optimizer.param_groups] == [0.02]
    assert made().optimizer.param_groups[0]["lr"] == 1e-3 and made().beta == 1.0
    before = [by_hand.learned(network) for network in step.networks().values()]
    step(by_hand.images(40))
    assert all(by_hand.all_moved(a, by_hand.learned(b)) for a, b in zip(before, step.networks().values()))


@pytest.mark.parametrize("beta", [-1.0, float("nan")])
def test_a_senseless_beta_is_refused(beta):
    with pytest.raises(ValueError, match=f"beta weighs the KL term: it must be at least 0, it is {beta}"):
        made(beta=beta)
    made(beta=0.0)  # an autoencoder with noise in its codes
