"""The model families: the lectures' facts, sizes from the data, updates that move the right weights the right way."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygen as tg
from tinygen.models import (
    AutoencoderStep,
    ClassifierStep,
    ConvAutoencoder,
    DCDiscriminator,
    DCGenerator,
    GANStep,
    LeNet5,
    MLPAutoencoder,
    VAEStep,
    conv_vae,
    mlp_vae,
)
from tinygen.models.autoencoder import beside
from tinygen.models.gan import bce, weights_init
from tinygen.nn.functional import gaussian_kl

DIGIT = (1, 8, 8)


def batch(n=16, shape=DIGIT, seed=0):
    draw = np.random.default_rng(seed)
    return tg.tensor(draw.random((n, *shape), np.float32)), tg.tensor(draw.integers(0, 10, n))


def weights(module):
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def learned(module):
    return {name: p.detach().numpy().copy() for name, p in module.named_parameters()}


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def count(module):
    return sum(p.numel() for p in module.parameters())


SIZES = [(8, 8), (9, 9), (8, 11), (10, 9), (11, 11), (12, 15), (13, 8), (14, 14), (15, 15), (16, 17), (17, 16),
         (19, 23), (20, 20), (21, 9), (22, 27), (25, 25), (27, 28), (28, 28), (29, 31), (33, 32)]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_what_is_decoded_has_the_size_of_what_was_encoded(size):
    for channels in (1, 3):
        shape = (channels, *size)
        x, _ = batch(2, shape)
        assert ConvAutoencoder(shape, (4, 5), 3)(x).shape == x.shape
        assert conv_vae(shape, (4, 5), (6,), 3)(x)[0].shape == x.shape
        fake = DCGenerator(shape, (4, 5), 3)(tg.randn(2, 3))
        assert fake.shape == x.shape
        assert DCDiscriminator(shape, (4, 5))(fake).shape == (2, 1)
        assert LeNet5(shape, 7)(x).shape == (2, 7)


def test_an_image_that_cannot_be_halved_so_often_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"8x8 pixels cannot be halved 4 times.*channels"):
        ConvAutoencoder(DIGIT, (2, 2, 2, 2))


def test_numbers_of_parameters_on_mnist():
    mnist = (1, 28, 28)
    assert count(LeNet5(mnist)) == 61_706
    assert count(mlp_vae(mnist)) == 2 * 784 * 400 + 400 + 784 + 3 * 400 * 20 + 2 * 20 + 400
    assert count(MLPAutoencoder(mnist)) == 2 * (784 * 512 + 512 * 256 + 256 * 32) + 2 * (512 + 256) + 32 + 784
    assert count(DCGenerator(mnist)) == 100 * 32 * 49 + 2 * 32 + 32 * 16 * 16 + 2 * 16 + 16 * 16 + 1
    assert count(DCDiscriminator(mnist)) == 16 * 16 + 16 + 16 * 32 * 16 + 2 * 32 + 32 * 49 + 1


# ---------------------------------------------------------------------------------- autoencoder


@pytest.mark.parametrize("conv", [False, True])
def test_autoencoder_learns(conv):
    tg.manual_seed(0)
    step = AutoencoderStep(DIGIT, conv=conv, latent=8, lr=3e-3)
    data = batch()
    losses = [step(data)["mse"].item() for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]
    assert step.evaluate([data, data])["mse"] == pytest.approx(
        ((step.model(data[0]) - data[0]) ** 2).mean().item(), rel=1e-5
    )


def test_rows_of_images_alternate_with_rows_of_reconstructions():
    x = tg.arange(20).reshape(20, 1, 1, 1).float()
    rows = beside(x, x + 100, columns=4, rows=2).reshape(4, 4).tolist()
    assert rows == [[0, 1, 2, 3], [100, 101, 102, 103], [4, 5, 6, 7], [104, 105, 106, 107]]
    assert beside(x[:3], x[:3]).shape == (6, 1, 1, 1)


# ---------------------------------------------------------------------------------- VAE


@pytest.mark.parametrize(("mu", "sigma", "kl"), [(1, 1, 0.5), (0, 2, 0.80685), (0.5, 0.5, 0.44315), (0, 1, 0.0)])
def test_kl_of_gaussians(mu, sigma, kl):
    one = tg.tensor([[float(mu)]]), tg.tensor([[2 * math.log(sigma)]])
    assert gaussian_kl(*one).item() == pytest.approx(kl, abs=2e-5)
    three = (t.expand(4, 3) for t in one)
    assert gaussian_kl(*three).tolist() == pytest.approx([3 * kl] * 4, abs=1e-4)  # summed over dimensions only


def test_reparametrisation_gradients():
    """d E[z^2] / d mu = 2 mu and d / d sigma = 2 sigma, within the Monte Carlo error."""
    tg.manual_seed(0)
    n = 200_000
    mu, sigma = tg.tensor([0.7], requires_grad=True), tg.tensor([1.3], requires_grad=True)
    z = mu + sigma * tg.randn(n)
    (z * z).mean().backward()
    assert mu.grad.item() == pytest.approx(1.4, abs=5 * 2 * 1.3 / math.sqrt(n))
    assert sigma.grad.item() == pytest.approx(2.6, abs=5 * 2 * math.sqrt(0.7**2 + 2 * 1.3**2) / math.sqrt(n))


def test_likelihoods_are_summed_over_pixels_averaged_over_the_batch_and_finite():
    step = VAEStep((1, 8, 16))
    draw = np.random.default_rng(1)
    a, x = draw.normal(size=(3, 1, 8, 16)).astype("f4"), draw.random((3, 1, 8, 16), "f4")
    p = 1 / (1 + np.exp(-a.astype(float)))
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum() / 3
    assert step.negative_log_likelihood(tg.tensor(a), tg.tensor(x)).item() == pytest.approx(expected, rel=1e-5)
    extreme = tg.tensor(np.float32([[50.0, -50.0]]))
    assert step.negative_log_likelihood(extreme, tg.tensor(np.float32([[0.0, 1.0]]))).item() == pytest.approx(100.0)

    gaussian = VAEStep((1, 8, 16), likelihood="gaussian")
    sigma = math.exp(gaussian.model.log_sigma.item())
    density = np.exp(-((x - p) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    value = gaussian.negative_log_likelihood(tg.tensor(a), tg.tensor(x)).item()
    assert value == pytest.approx(-np.log(density).sum() / 3, rel=1e-5)


def test_the_learned_sigma_finds_the_error():
    """The best sigma^2 is the mean squared error of a pixel."""
    tg.manual_seed(0)
    step = VAEStep(DIGIT, hidden=(8,), latent=2, likelihood="gaussian", lr=1e-2)
    data = batch(32)
    for _ in range(300):
        step(data)
    logits, _, _ = step.model(data[0])
    error = ((logits.sigmoid() - data[0]) ** 2).mean().item()
    assert math.exp(2 * step.model.log_sigma.item()) == pytest.approx(error, rel=0.15)


@pytest.mark.parametrize(
    "options", [{}, {"conv": True, "channels": (4, 8), "hidden": (16,)}, {"likelihood": "gaussian"}]
)
def test_vae_learns_and_reports_its_terms(options):
    tg.manual_seed(0)
    step = VAEStep(DIGIT, **options)
    data = batch(32)
    metrics = [step(data) for _ in range(60)]
    assert all(m["loss"].item() == pytest.approx(m["recon"].item() + m["kl"].item(), rel=1e-5) for m in metrics)
    assert metrics[-1]["loss"].item() < metrics[0]["loss"].item()
    test = step.evaluate([data, data])
    assert test["loss"] == pytest.approx(test["recon"] + test["kl"])
    assert step.sample(5).shape == (5, *DIGIT)


def test_active_units_are_the_dimensions_whose_mean_varies():
    step = VAEStep(DIGIT, latent=5)
    with tg.no_grad():
        step.model.mu.weight[2:] = 0  # mu of three dimensions no longer depends on the image
        step.model.mu.weight[:2] = tg.randn(2, 400)
    assert step.evaluate([batch(64)])["active"] == 2


def test_beta_weighs_the_kl_in_the_loss_only():
    step = VAEStep(DIGIT, beta=4.0)
    m = step(batch())
    assert m["loss"].item() == pytest.approx(m["recon"].item() + 4 * m["kl"].item(), rel=1e-5)


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(ValueError, match=r"bernoulli.*gaussian.*poisson"):
        VAEStep(DIGIT, likelihood="poisson")


# ---------------------------------------------------------------------------------- GAN


def test_losses_from_logits_are_the_naive_ones_and_finite():
    a = tg.tensor(np.linspace(-8, 8, 33))
    d = 1 / (1 + np.exp(-np.linspace(-8, 8, 33)))
    assert bce(a, 1).item() == pytest.approx(-np.log(d).mean())
    assert bce(a, 0).item() == pytest.approx(-np.log(1 - d).mean())
    assert bce(a, 0.9).item() == pytest.approx(-(0.9 * np.log(d) + 0.1 * np.log(1 - d)).mean())
    assert bce(tg.tensor([50.0, -50.0]), 0).item() == pytest.approx(25.0)


def test_the_non_saturating_gradient_survives_where_the_minimax_one_vanishes():
    """At logit a: d/da log(1 - s(a)) = -s(a) and d/da -log s(a) = -(1 - s(a)); a = -4: -0.018 and -0.982."""
    gradients = {}
    for name, loss in (("minimax", lambda a: -bce(a, 0)), ("non-saturating", lambda a: bce(a, 1))):
        a = tg.tensor([-4.0], requires_grad=True)
        loss(a).backward()
        gradients[name] = a.grad.item()
    assert gradients["minimax"] == pytest.approx(-0.01799, abs=1e-5)
    assert gradients["non-saturating"] == pytest.approx(-0.98201, abs=1e-5)


GANS = [{"hidden": (16, 24), "latent": 6}, {"conv": True, "channels": (4, 8), "latent": 6}]


@pytest.mark.parametrize("options", GANS, ids=["mlp", "dcgan"])
def test_the_discriminators_update_moves_only_d_and_lowers_its_loss(options):
    tg.manual_seed(0)
    step = GANStep(DIGIT, lr=1e-3, **options)
    step.D.eval()  # dropout and batch statistics aside, the same batch must be judged better
    real, fake = 2 * batch(32)[0] - 1, step.G(step.noise(32)).detach()
    before_g, before_d = weights(step.G), learned(step.D)
    losses = [step.update_discriminator(real, fake)["d_loss"].item() for _ in range(10)]
    assert same(before_g, weights(step.G))
    assert all(p.grad is None for p in step.G.parameters())
    after = learned(step.D)
    assert all((before_d[name] != after[name]).any() for name in after)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("objective", ["non-saturating", "minimax"])
@pytest.mark.parametrize("options", GANS, ids=["mlp", "dcgan"])
def test_the_generators_update_moves_only_g_and_pleases_d(options, objective):
    tg.manual_seed(0)
    step = GANStep(DIGIT, lr=1e-3, objective=objective, **options)
    step.D.eval()
    step.G.eval()
    z = step.noise(32)
    before_g, before_d = learned(step.G), weights(step.D)
    judged = []
    for _ in range(10):
        fake = step.G(z)
        judged.append(step.D(fake.detach()).sigmoid().mean().item())
        step.update_generator(fake)
    assert same(before_d, weights(step.D))
    assert all(p.grad is None for p in step.D.parameters())
    after = learned(step.G)
    assert all((before_g[name] != after[name]).any() for name in after)
    assert judged[-1] > judged[0]


def test_d_is_updated_k_times_on_its_shares_of_the_batch():
    step = GANStep(DIGIT, discriminator_steps=3, hidden=(8, 8), latent=4)
    seen = []
    update = step.update_discriminator
    step.update_discriminator = lambda real, fake: (
        seen.append((len(real), len(fake), fake.requires_grad)) or update(real, fake)
    )
    metrics = step(batch(12))
    assert seen == [(4, 4, False)] * 3
    assert {"d_loss", "g_loss", "d_accuracy", "d_real", "d_fake", "d_grad", "g_grad"} == set(metrics)
    assert all(v.shape == () and not v.requires_grad for v in metrics.values())


def test_labels_are_smoothed_on_the_real_side_only():
    step = GANStep(DIGIT, smoothing=0.1, hidden=(8, 8), latent=4)
    step.D.eval()
    real, fake = 2 * batch()[0] - 1, step.G(step.noise(16)).detach()
    a, b = step.D(real).detach(), step.D(fake).detach()
    expected = bce(a, 0.9).item() + bce(b, 0).item()
    assert step.update_discriminator(real, fake)["d_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_dcgan_initialisation():
    tg.manual_seed(0)
    step = GANStep((1, 28, 28), conv=True)
    for name, p in [*step.G.named_parameters(), *step.D.named_parameters()]:
        values = p.detach().numpy()
        if name.startswith("norms") and name.endswith("weight"):
            assert abs(values.mean() - 1) < 0.02 and 0.01 < values.std() < 0.03
        elif name.endswith("bias"):
            assert not values.any()
        elif values.size > 200:
            assert abs(values.mean()) < 0.004 and values.std() == pytest.approx(0.02, rel=0.15)
    assert step.G.apply(weights_init) is step.G


def test_images_are_scaled_inside_the_step_only():
    step = GANStep(DIGIT, hidden=(8, 8), latent=4)
    seen = []
    step.D.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].numpy() if not inputs[0].requires_grad else None)
    )
    step((tg.ones(4, *DIGIT), None))
    assert (seen[0] == 1).all()  # white stays 1, and
    step((tg.zeros(4, *DIGIT), None))
    assert (seen[3] == -1).all()  # black becomes -1
    samples = step.sample(7).detach().numpy()
    assert samples.shape == (7, *DIGIT) and samples.min() >= 0 and samples.max() <= 1


def test_health_in_plain_words():
    step = GANStep(DIGIT, hidden=(8, 8))
    fine = {"d_loss": 1.0, "d_accuracy": 0.8, "d_grad": 1.0, "g_grad": 1.0}
    assert "balanced" in step.health(fine) and "80%" in step.health(fine)
    assert "D has won" in step.health(fine | {"d_accuracy": 1.0, "d_loss": 0.001})
    assert "guessing" in step.health(fine | {"d_accuracy": 0.5})
    assert "explode" in step.health(fine | {"g_grad": 2000.0})
    assert "well ahead" in step.health(fine | {"d_accuracy": 0.97})


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match=r"non-saturating.*minimax.*hinge"):
        GANStep(DIGIT, objective="hinge")


# ---------------------------------------------------------------------------------- classifier


def test_lenet_learns_by_heart_and_its_rate_falls_to_zero():
    tg.manual_seed(0)
    step = ClassifierStep(DIGIT, lr=4e-3, decay_steps=100)
    data = batch(32)
    rates = []
    for _ in range(100):
        rates.append(step.optimizer.param_groups[0]["lr"])
        metrics = step(data)
    assert rates == pytest.approx([4e-3 * (1 - t / 100) for t in range(100)])
    assert step.optimizer.param_groups[0]["lr"] == 0
    assert metrics["accuracy"].item() > 0.9
    test = step.evaluate([data, data])
    assert test["accuracy"] > 0.9 and test["loss"] < 0.5


def test_the_hardest_image_comes_first():
    step = ClassifierStep(DIGIT)
    x, labels = batch(40)
    hardest = step.pictures((x, labels))["hardest"]
    probabilities = tg.softmax(step.model(x), 1).detach().numpy()[np.arange(40), labels.numpy()]
    assert hardest.shape == (32, *DIGIT)
    assert np.array_equal(hardest[0].numpy(), x.numpy()[probabilities.argmin()])


@pytest.mark.parametrize("step", [AutoencoderStep, VAEStep, GANStep, ClassifierStep])
def test_a_step_shows_its_class_and_its_modules(step):
    made = step(shape=DIGIT)
    assert repr(made).startswith(f"{step.__name__}(\n  (") and repr(made).endswith("\n)")
    for name, module in made.modules.items():
        assert f"({name}): {type(module).__name__}(" in repr(made)
        assert name in made._repr_html_() and module._repr_html_() in made._repr_html_()
