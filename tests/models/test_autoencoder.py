"""The autoencoder's update against the mean squared error in NumPy; what is corrupted, and what is compared."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import AutoencoderStep, penalties
from tinygen.networks.convolutional import ConvDecoder, ConvEncoder
from tinygen.networks.mlp import MLPDecoder, MLPEncoder
from tinygen.training import evaluate

DIGIT = (1, 8, 8)


def made(*rules, stirred=True, **options):
    encoder, decoder = MLPEncoder(DIGIT, (12,), 4), nn.Sequential(MLPDecoder(DIGIT, (12,), 4), nn.Sigmoid())
    if stirred:
        by_hand.stir(encoder, decoder)
    return AutoencoderStep(encoder, decoder, *rules, **options)


def rebuilt(weights, x):
    return by_hand.sigmoid(by_hand.mlp(by_hand.mlp(x, weights[:4]), weights[4:])).reshape(x.shape)


def parameters(step):
    return by_hand.arrays(step.encoder, step.decoder)


def fade(x):
    return 1.5 * x - 0.2


def test_the_update_follows_the_mean_squared_error():
    step = made(lr=1e-3)
    x, labels = by_hand.images(9)
    by_hand.leave_gradients(step.encoder, step.decoder)
    before, pixels = parameters(step), x.numpy().astype(float)
    metrics = step((x, labels))
    objective = lambda weights: ((rebuilt(weights, pixels) - pixels) ** 2).mean()
    assert list(metrics) == ["mse"] and metrics["mse"].shape == () and not metrics["mse"].requires_grad
    assert metrics["mse"].item() == pytest.approx(objective(before), rel=1e-5)
    found = by_hand.gradients(step.encoder, step.decoder)
    assert by_hand.same_slopes(objective, before, found)
    for old, new, gradient in zip(before, parameters(step), found):
        large = abs(gradient) > 1e-4
        assert (old - new)[large] == pytest.approx(1e-3 * np.sign(gradient[large]), rel=0.02)


def test_a_denoising_autoencoder_sees_the_corrupted_and_returns_the_clean():
    step = made(fade)
    x, _ = by_hand.images(9)
    before, pixels = parameters(step), x.numpy().astype(float)
    objective = lambda weights: ((rebuilt(weights, fade(pixels)) - pixels) ** 2).mean()
    assert step.measure((x, None))["mse"].item() == pytest.approx(objective(before), rel=1e-5)
    assert step((x, None))["mse"].item() == pytest.approx(objective(before), rel=1e-5)
    assert by_hand.same_slopes(objective, before, by_hand.gradients(step.encoder, step.decoder))


def test_a_penalty_is_added_to_what_is_minimised_and_reported_apart():
    step = made(fade, penalties.code_l1(0.05))
    x, _ = by_hand.images(9)
    before, pixels = parameters(step), x.numpy().astype(float)
    error = lambda weights: ((rebuilt(weights, fade(pixels)) - pixels) ** 2).mean()
    term = lambda weights: 0.05 * abs(by_hand.mlp(fade(pixels), weights[:4])).sum(1).mean()
    metrics = step((x, None))
    assert set(metrics) == {"mse", "penalty"}
    assert metrics["mse"].item() == pytest.approx(error(before), rel=1e-5)
    assert metrics["penalty"].item() == pytest.approx(term(before), rel=1e-4)
    found = by_hand.gradients(step.encoder, step.decoder)
    assert by_hand.same_slopes(lambda weights: error(weights) + term(weights), before, found)


def test_a_penalty_receives_both_networks_and_the_forward_pass():
    received = []

    def penalty(*arguments):
        received.append(arguments)
        return 0 * arguments[4].sum()

    step = made(fade, penalty)
    x, _ = by_hand.images(5)
    step((x, None))
    encoder, decoder, seen, code, reconstruction = received[0]
    assert encoder is step.encoder and decoder is step.decoder
    assert np.array_equal(seen.numpy(), fade(x).numpy())
    assert code.shape == (5, 4) and reconstruction.shape == x.shape
    assert code.requires_grad and reconstruction.requires_grad


def test_the_test_figure_is_the_error_alone():
    step = made(None, penalties.weights_l2(1.0))
    x, _ = by_hand.images(5)
    pixels = x.numpy().astype(float)
    found = step.measure((x, None))
    assert list(found) == ["mse"]
    assert found["mse"].item() == pytest.approx(((rebuilt(parameters(step), pixels) - pixels) ** 2).mean(), rel=1e-5)


def test_evaluation_is_the_mean_over_all_images_of_unequal_batches():
    step = made()
    x = by_hand.images(37)[0]
    x[32:] = 3 * x[32:]
    found = evaluate(step, [(x[:32], None), (x[32:], None)])
    pixels = x.numpy().astype(float)
    assert found == {"mse": pytest.approx(((rebuilt(parameters(step), pixels) - pixels) ** 2).mean(), rel=1e-5)}


def test_codes_and_images_are_those_of_the_two_networks():
    step = made(fade)
    x, _ = by_hand.images(5)
    weights, pixels = parameters(step), x.numpy().astype(float)
    code = by_hand.mlp(pixels, weights[:4])
    np.testing.assert_allclose(step.encode(x).detach().numpy(), code, rtol=1e-4, atol=1e-5)
    expected = rebuilt(weights, pixels)  # images as they are: nothing is corrupted
    np.testing.assert_allclose(step.apply(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(step.decode(step.encode(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_images_are_shown_beside_what_was_seen_and_what_came_back():
    x, _ = by_hand.images(5)
    plain = made()
    shown = plain.pictures((x, None))["reconstructions"]
    assert len(shown) == 2 and shown[0] is x
    np.testing.assert_allclose(shown[1].detach().numpy(), rebuilt(parameters(plain), x.numpy()), rtol=1e-4, atol=1e-5)
    step = made(fade)
    clean, seen, back = step.pictures((x, None))["reconstructions"]
    assert clean is x
    assert np.array_equal(seen.numpy(), np.clip(fade(x).numpy(), 0, 1)) and fade(x).max().item() > 1
    expected = rebuilt(parameters(step), fade(x.numpy().astype(float)))
    np.testing.assert_allclose(back.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_one_optimizer_moves_both_networks_at_the_rate_given():
    step = made(lr=0.02)
    assert [group["lr"] for group in step.optimizer.param_groups] == [0.02]
    assert made().optimizer.param_groups[0]["lr"] == 1e-3
    before = [by_hand.learned(network) for network in step.networks().values()]
    step(by_hand.images(40))
    assert all(by_hand.all_moved(a, by_hand.learned(b)) for a, b in zip(before, step.networks().values()))


def test_a_constraint_follows_each_update_and_holds_the_decoder():
    found = []
    step = made(None, None, lambda decoder: found.append((decoder, (parameters(step)[0] != before[0]).any())))
    before = parameters(step)
    step(by_hand.images(5))
    assert found == [(step.decoder, True)]


def test_the_learning_rate_falls_to_0_in_the_last_third_of_the_steps_given():
    step = made(steps=6, lr=0.2)
    rates = []
    for _ in range(7):
        rates.append(step.optimizer.param_groups[0]["lr"])
        step(by_hand.images(5))
    assert rates == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2, 0.1, 0])
    step(by_hand.images(5))
    assert step.optimizer.param_groups[0]["lr"] == 0
    assert made().schedule is None and "schedule" in step.parts()


def test_a_summary_is_what_all_its_figures_say():
    step = made(None, None, None, (lambda s, b: {"a": len(b)}, lambda s, b: {"b": s is step}))
    assert step.summary([1, 2, 3]) == {"a": 3, "b": True}
    assert made().summary([1, 2, 3]) == {}


@pytest.mark.parametrize("conv", [False, True])
def test_autoencoder_learns(conv):
    tg.manual_seed(0)
    if conv:
        encoder, decoder = ConvEncoder(DIGIT, (16, 32), (), 8), ConvDecoder(DIGIT, (16, 32), (), 8)
    else:
        encoder, decoder = MLPEncoder(DIGIT, (512, 256), 8), MLPDecoder(DIGIT, (256, 512), 8)
    step = AutoencoderStep(encoder, nn.Sequential(decoder, nn.Sigmoid()), lr=3e-3)
    data = by_hand.images()
    losses = [step(data)["mse"].item() for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]
    expected = ((step.apply(data[0]) - data[0]) ** 2).mean().item()
    assert evaluate(step, [data, data])["mse"] == pytest.approx(expected, rel=1e-5)
