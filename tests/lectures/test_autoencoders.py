"""The slides' facts about autoencoders: principal components, weights, codes, Jacobians, paths, smoothness."""

from __future__ import annotations

from itertools import pairwise

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import AutoencoderStep, figures, penalties
from tinygen.networks.mlp import MLPDecoder, MLPEncoder
from tinygen.recipes import autoencoders as recipes
from tinygen.recipes import find
from tinygen.recipes.recipe import Given
from tinygen.studies import latents, transfer
from tinygen.testing import gradcheck


def linear_autoencoder(inputs, latent, corrupt=None, lr=1e-2):
    encoder, decoder = nn.Linear(inputs, latent, bias=False), nn.Linear(latent, inputs, bias=False)
    return AutoencoderStep(encoder, decoder, corrupt, lr=lr)


def trained(step, x, updates, lr=1e-2):
    for t in range(updates):
        step.optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + np.cos(np.pi * t / updates))
        step((x, None))
    return step


def test_a_linear_autoencoder_finds_the_principal_components():
    """Its error is PCA's within half a percent; its subspace is PCA's within one degree."""
    draw = np.random.default_rng(0)
    turn = np.linalg.qr(draw.normal(size=(6, 6)))[0]
    x = (draw.normal(size=(300, 6)) * [3, 2, 0.7, 0.4, 0.3, 0.2]) @ turn
    x = (x - x.mean(0)).astype(np.float32)
    step = trained(linear_autoencoder(6, 2), tg.tensor(x), 800, 3e-2)
    _, singular, axes = np.linalg.svd(x.astype(float), full_matrices=False)
    best = (singular[2:] ** 2).sum() / x.size
    found = step.measure((tg.tensor(x), None))["mse"].item()
    assert best * (1 - 1e-5) <= found <= 1.005 * best
    basis = np.linalg.qr(by_hand.arrays(step.decoder)[0])[0]
    cosines = np.linalg.svd(basis.T @ axes[:2].T)[1]
    assert np.degrees(np.arccos(cosines.clip(-1, 1).min())) < 1


def test_an_overcomplete_linear_autoencoder_learns_the_identity_and_noise_keeps_it_from_it():
    x = tg.randn(200, 4)
    free = trained(linear_autoencoder(4, 6), x, 400, 3e-2)
    assert free.measure((x, None))["mse"].item() < 1e-5
    noise = tg.randn(200, 4)
    denoising = trained(linear_autoencoder(4, 6, lambda x: x + noise), x, 400, 3e-2)
    assert ((denoising.apply(x) - x) ** 2).mean().item() > 0.05


def test_a_linear_denoising_autoencoder_is_the_wiener_filter():
    """y = C (C + s^2 I)^-1 x~, C the covariance: the least-squares map from corrupted to clean."""
    draw = np.random.default_rng(1)
    x = (draw.normal(size=(2000, 4)) * [2, 1, 0.5, 0.2]).astype(np.float32)
    noise = (0.5 * draw.normal(size=x.shape)).astype(np.float32)
    step = linear_autoencoder(4, 4, lambda x: x + tg.tensor(noise))
    trained(step, tg.tensor(x), 500, 3e-2)
    encoder, decoder = by_hand.arrays(step.encoder, step.decoder)
    variance = np.array([4, 1, 0.25, 0.04])
    np.testing.assert_allclose(decoder @ encoder, np.diag(variance / (variance + 0.25)), atol=0.05)
    fitted = np.linalg.lstsq((x + noise).astype(float), x.astype(float), rcond=None)[0]
    least = (((x + noise) @ fitted - x) ** 2).mean()
    assert step.measure((tg.tensor(x), None))["mse"].item() == pytest.approx(least, rel=1e-3)


# ---------------------------------------------------------------------------------- penalties


@pytest.mark.parametrize(
    ("penalty", "gradient"), [(penalties.weights_l2, lambda w: 2 * w), (penalties.weights_l1, np.sign)]
)
def test_gradients_of_weight_penalties_leave_biases_out(penalty, gradient):
    encoder, decoder = MLPEncoder((1, 3, 3), (5,), 2), MLPDecoder((1, 3, 3), (5,), 2)
    by_hand.stir(encoder, decoder)
    penalty(0.3)(encoder, decoder, None, None, None).backward()
    kernels = 0
    for network in (encoder, decoder):
        for p in network.parameters():
            if p.ndim == 1:
                assert p.grad is None
            else:
                kernels += 1
                np.testing.assert_allclose(p.grad.numpy(), 0.3 * gradient(p.detach().numpy()), rtol=1e-5)
    assert kernels == 4


@pytest.mark.parametrize(("x", "strength"), [(1.5, 1.0), (-2.0, 0.5), (0.3, 1.0), (-0.2, 0.6)])
def test_a_sparse_linear_unit_is_the_soft_threshold(x, strength):
    """min_h (x - h)^2 + l |h| is at h = sign(x) max(|x| - l/2, 0): small codes become zero."""
    expected = np.sign(x) * max(abs(x) - strength / 2, 0)
    h = tg.tensor([[1.0 if x > 0 else -1.0]], requires_grad=True)
    optimizer = optim.SGD([h], lr=0.02)
    for _ in range(200):
        loss = (h - x).square().sum() + penalties.code_l1(strength)(None, None, None, h, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert h.item() == pytest.approx(expected, abs=0.035 if expected == 0 else 1e-3)  # 0.035: an update's length


def test_the_sparse_penalty_is_on_the_code_and_not_on_the_weights():
    """One slide sums |theta|; with codes of zero there is nothing to pay, whatever the weights."""
    encoder, decoder = MLPEncoder((3,), (), 2), MLPDecoder((3,), (), 2)
    by_hand.stir(encoder, decoder)
    assert penalties.code_l1(1.0)(encoder, decoder, tg.zeros(4, 3), tg.zeros(4, 2), tg.ones(4, 3)).item() == 0


def test_the_contractive_penalty_of_a_sigmoid_layer_has_a_closed_form():
    """|J|^2 = sum_j (h_j (1 - h_j))^2 sum_i W_ji^2, mean over the batch; and so has its gradient."""
    encoder = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid())
    by_hand.stir(encoder)
    x = np.random.default_rng(2).normal(size=(7, 5)).astype(np.float32)

    def closed(weights):
        w, b = weights
        h = by_hand.sigmoid(by_hand.linear(x.astype(float), w, b))
        return 0.3 * ((h * (1 - h)) ** 2 @ (w**2).sum(1)).mean()

    value = penalties.contractive(0.3)(encoder, None, tg.tensor(x), None, None)
    assert value.item() == pytest.approx(closed(by_hand.arrays(encoder)), rel=1e-5)
    value.backward()
    assert by_hand.same_slopes(closed, by_hand.arrays(encoder), by_hand.gradients(encoder))


def test_scaling_the_code_leaves_the_contraction_unchanged_and_not_the_jacobian():
    """E(x) times c and D(h / c) are the same autoencoder: c = 1/2 quarters |J|^2, and says nothing of it."""
    x, _ = by_hand.images(20)
    step = recipes.contractive_autoencoder(Given((1, 8, 8), (), 1), latent=6)
    by_hand.stir(step.encoder)
    halved = AutoencoderStep(Scaled(step.encoder, 0.5), nn.Sequential(Scaled(nn.Identity(), 2.0), step.decoder))
    with tg.no_grad():
        assert np.allclose(halved.apply(x).numpy(), step.apply(x).numpy(), atol=1e-6)
        one, other = (figures.contraction()(each, [(x, None)]) for each in (step, halved))
        (closed,) = (figure(step, [(x, None)]) for figure in step.figures)
    assert one == pytest.approx(closed, rel=1e-4)
    assert other["jacobian"] == pytest.approx(one["jacobian"] / 4, rel=1e-4)
    assert other["contraction"] == pytest.approx(one["contraction"], rel=1e-4)


def test_a_deep_contractive_autoencoder_pays_for_its_jacobian():
    """Two layers: J = s'(h) W2 [a > 0] W1 by hand, in the loss, in its slope and in the figure."""
    step = recipes.deep_contractive_autoencoder(Given((1, 8, 8), (), 1), hidden=(7,), latent=3, strength=0.02)
    by_hand.stir(step.encoder, step.decoder)
    x, _ = by_hand.images(5)
    rows = x.numpy().reshape(5, 64).astype(float)

    def jacobian(weights):
        w1, b1, w2, b2 = weights[:4]
        a = rows @ w1.T + b1
        h = by_hand.sigmoid(np.maximum(a, 0) @ w2.T + b2)
        J = np.einsum("nj,jk,nk,ki->nji", h * (1 - h), w2, a > 0, w1)
        return (J**2).sum((1, 2)).mean()

    before = by_hand.arrays(step.encoder, step.decoder)
    with tg.no_grad():
        (found,) = (figure(step, [(x, None)]) for figure in step.figures)
    assert found["jacobian"] == pytest.approx(jacobian(before), rel=1e-4)
    assert step((x, None))["penalty"].item() == pytest.approx(0.02 * jacobian(before), rel=1e-4)


class Scaled(nn.Module):
    """c f(x)."""

    def __init__(self, network, scale):
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x):
        return self.scale * self.network(x)


def test_tied_weights_learn_from_both_ends():
    """y = sigmoid(W^T sigmoid(W x + b) + c): one W, whose slope has two terms."""
    step = recipes.contractive_autoencoder(Given((1, 8, 8), (), 1), latent=6, strength=0.01)
    by_hand.stir(step.encoder, step.decoder)
    x, _ = by_hand.images(7)
    rows = x.numpy().reshape(7, 64).astype(float)

    def objective(weights):
        w, b, c = weights
        h = by_hand.sigmoid(rows @ w.T + b)
        error = ((by_hand.sigmoid(h @ w + c) - rows) ** 2).mean()
        return error + 0.01 * (((h * (1 - h)) ** 2) @ (w**2).sum(1)).mean()

    before = by_hand.arrays(step.encoder, step.decoder)
    metrics = step((x, None))
    assert metrics["mse"].item() + metrics["penalty"].item() == pytest.approx(objective(before), rel=1e-5)
    assert by_hand.same_slopes(objective, before, by_hand.gradients(step.encoder, step.decoder))


SWEEPS = {  # what each penalty is for, and strengths
    "l2-autoencoder": ("weight_norm", (0.0, 1e-4, 1e-3)),
    "l1-autoencoder": ("weight_sum", (0.0, 1e-4, 1e-3)),
    "smooth-autoencoder": ("variation", (0.0, 1e-3, 1e-2)),
    "contractive-autoencoder": ("jacobian", (0.0, 1e-3, 1e-2)),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_what_is_penalised_falls_with_the_strength_of_the_penalty(name):
    figure, strengths = SWEEPS[name]
    x, _ = by_hand.images(64)
    small = {"hidden": (16,)} if "hidden" in find(name).arguments() else {}
    found = []
    for strength in strengths:
        tg.manual_seed(0)
        step = find(name).build(Given((1, 8, 8), (), 80), latent=8, strength=strength, lr=1e-2, **small)
        for _ in range(80):
            step((x, None))
        with tg.no_grad():
            found.append(step.summary([(x, None)])[figure])
    assert all(b < 0.98 * a for a, b in pairwise(found)), found


def test_a_sparse_code_is_not_negative_and_its_decoder_s_columns_have_norm_1():
    """min mse + strength sum h, h = relu(...): the columns keep the penalty from being paid by small codes."""
    x, _ = by_hand.images(64)
    near_zero = []
    for strength in (0.0, 0.001):
        tg.manual_seed(0)
        step = recipes.sparse_autoencoder(Given((1, 8, 8), (), 300), (16,), 12, strength=strength, lr=3e-3)
        for _ in range(300):
            metrics = step((x, None))
        columns = next(w for w in by_hand.arrays(step.decoder) if w.ndim > 1)
        assert columns.shape == (16, 12)
        np.testing.assert_allclose((columns**2).sum(0), 1, rtol=1e-5)
        with tg.no_grad():
            code = step.encode(x)
            near_zero.append(step.summary([(x, None)])["near_zero"])
        assert code.min().item() == 0 and metrics["penalty"].item() <= strength * 1.5 * code.sum(1).mean().item()
    assert near_zero[1] > near_zero[0] + 0.1


def test_the_gradient_of_total_variation_is_that_of_finite_differences():
    y = tg.tensor(np.random.default_rng(4).normal(size=(2, 2, 4, 5)), requires_grad=True)
    penalty = penalties.total_variation(0.7)
    assert gradcheck(lambda y: penalty(None, None, None, None, y), [y])
    penalty(None, None, None, None, y).backward()
    a = y.detach().numpy()
    down, right = np.sign(np.diff(a, axis=2)), np.sign(np.diff(a, axis=3))
    expected = np.zeros(a.shape)
    expected[:, :, 1:] += down
    expected[:, :, :-1] -= down
    expected[:, :, :, 1:] += right
    expected[:, :, :, :-1] -= right
    np.testing.assert_allclose(y.grad.numpy(), 0.7 * expected / 2, rtol=1e-12)


def test_a_penalty_of_strength_0_leaves_the_plain_autoencoder():
    x, _ = by_hand.images(6)
    after = []
    for penalty in (None, penalties.total_variation(0.0)):
        tg.manual_seed(1)
        step = AutoencoderStep(MLPEncoder((1, 8, 8), (), 3), MLPDecoder((1, 8, 8), (), 3), None, penalty)
        step((x, None))
        after.append(by_hand.arrays(step.encoder, step.decoder))
    assert all((a == b).all() for a, b in zip(*after))


# ---------------------------------------------------------------------------------- paths between codes


def test_images_at_the_ends_of_an_interpolation_are_those_of_the_codes():
    step = AutoencoderStep(MLPEncoder((1, 8, 8), (9,), 3), MLPDecoder((1, 8, 8), (9,), 3))
    x, _ = by_hand.images(2)
    with tg.no_grad():
        first, last = step.encode(x)
        for path in (latents.line, latents.great_circle):
            codes = path(first, last, 8)
            assert (codes[0] == first).all() and (codes[-1] == last).all()
            assert (step.decode(codes[:1]) == step.decode(first.reshape(1, -1))).all()


def test_a_great_circle_keeps_the_norm_of_noise_where_a_line_passes_nearer_to_the_origin():
    first, last = tg.randn(2, 100, dtype=tg.float64)
    last = last * first.norm() / last.norm()
    norm = first.norm().item()
    assert latents.great_circle(first, last, 10).norm(2, 1).tolist() == pytest.approx([norm] * 10)
    assert latents.line(first, last, 11)[5].norm().item() < 0.85 * norm


# ---------------------------------------------------------------------------------- few labels


def few_labels():
    """An encoder, images and labels, and a random generator."""
    x, _ = by_hand.images(12)
    encoder = nn.Sequential(*MLPEncoder((1, 8, 8), (9,), 3))
    return encoder, x.numpy(), np.arange(12) % 3, np.random.default_rng(0)


def test_a_frozen_encoder_gets_no_updates_and_its_head_does():
    encoder, x, labels, draw = few_labels()
    before = by_hand.arrays(encoder)
    with tg.no_grad():
        codes = latents.encoded(encoder, x)
    heads = []
    make = lambda: heads.append(transfer.head_alone((3, 5, 3), 0.1)) or heads[-1]
    tg.manual_seed(0)
    network, steps = transfer.learned(make, codes, labels, np.arange(3), draw, most=6, every=2)
    assert network is heads[1][0] and steps in (2, 4, 6)
    assert all((a == b).all() for a, b in zip(before, by_hand.arrays(encoder)))
    tg.manual_seed(0)
    fresh = [transfer.head_alone((3, 5, 3), 0.1)[0] for _ in range(2)][1]
    assert all((a != b).any() for a, b in zip(by_hand.arrays(fresh), by_hand.arrays(network)))


def test_fine_tuning_moves_encoder_and_head_each_by_at_most_its_rate_in_the_first_update():
    """Adam's first step is lr g / (|g| + eps): its size is the rate, whatever the slope."""
    encoder, x, labels, draw = few_labels()
    network, optimizer = transfer.joined(encoder, (3, 5, 3), lr=1e-3, head_lr=1e-2)
    before = by_hand.arrays(encoder), by_hand.arrays(network[1])
    transfer.fit(network, optimizer, x, labels, 1, draw)
    for rate, old, part in ((1e-3, before[0], encoder), (1e-2, before[1], network[1])):
        moved = np.concatenate([abs(a - b).ravel() for a, b in zip(old, by_hand.arrays(part))])
        assert moved.max() == pytest.approx(rate, rel=1e-2)
