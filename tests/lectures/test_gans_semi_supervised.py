"""The slide's facts about the semi-supervised GAN: K logits that say class and real, G's two objectives."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import games
from tinygen.models.semi_supervised_gan import feature_matching, judged_real, log_fake, log_real

LOGITS = np.random.default_rng(0).normal(0, 3, (7, 4))


class Judge(nn.Module):
    """Features tanh(w x), logits of two classes."""

    def __init__(self):
        super().__init__()
        self.below, self.above = nn.Linear(3, 4), nn.Linear(4, 2)
        by_hand.stir(self)

    def features(self, x):
        return self.below(x).tanh()

    def forward(self, x):
        return self.above(self.features(x))


def test_the_sum_over_the_classes_is_z_over_z_plus_1():
    """D(y|x) = exp l_y / (Z + 1) is a softmax over K + 1 logits, of which the last, for a fake, is 0."""
    z = np.exp(LOGITS).sum(1)
    with_fake = np.exp(np.concatenate([LOGITS, np.zeros((7, 1))], 1))
    softmax = with_fake / with_fake.sum(1, keepdims=True)
    real, fake = log_real(tg.tensor(LOGITS)).exp().numpy(), log_fake(tg.tensor(LOGITS)).exp().numpy()
    for expected in (z / (z + 1), softmax[:, :-1].sum(1)):
        assert real == pytest.approx(expected, rel=1e-12)
    for expected in (1 / (z + 1), softmax[:, -1]):
        assert fake == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [500.0, -500.0])
def test_both_logarithms_are_finite_and_right_far_out(size):
    """At l = 500, log(1 - D) = -500 - log K; at -500, log D = -500 + log K: exp would overflow, or log 0."""
    logits = tg.full((2, 10), size, requires_grad=True)
    real, fake = log_real(logits), log_fake(logits)
    far = -500 + np.log(10) if size < 0 else -500 - np.log(10)
    expected = (0.0, far) if size > 0 else (far, 0.0)
    assert real.tolist() == pytest.approx([expected[0]] * 2, rel=1e-6, abs=1e-6)
    assert fake.tolist() == pytest.approx([expected[1]] * 2, rel=1e-6, abs=1e-6)
    (real + fake).sum().backward()
    assert np.isfinite(logits.grad.numpy()).all()


def test_gradients_are_the_share_that_is_wrong_spread_by_the_softmax():
    """d/dl_k of log D: (1 - D) p_k; of log(1 - D): -D p_k, p the softmax over the K classes."""
    exp = np.exp(LOGITS)
    z = exp.sum(1, keepdims=True)
    for function, factor in ((log_real, 1 / (z + 1)), (log_fake, -z / (z + 1))):
        logits = tg.tensor(LOGITS, requires_grad=True)
        function(logits).sum().backward()
        np.testing.assert_allclose(logits.grad.numpy(), factor * exp / z, rtol=1e-10)


def test_with_one_class_it_is_the_game_of_the_first_slide():
    a, b = tg.tensor(LOGITS[:, :1]), tg.tensor(LOGITS[:, 1:2])
    both = (-log_real(a).mean() - log_fake(b).mean()).item()
    assert both == pytest.approx(games.minimax().discriminator(a, b).item(), rel=1e-12)


def test_g_s_objective_on_the_slide_is_the_logarithm_of_the_sum_over_the_classes():
    judge, x = Judge(), tg.randn(5, 3)
    z = np.exp(judge(x).detach().numpy().astype(float)).sum(1)
    assert judged_real(judge, None, x).item() == pytest.approx(-np.log(z / (z + 1)).mean(), rel=1e-5)


def test_feature_matching_compares_means_over_batches():
    """Permuted images are no worse, other images with the same mean features neither; only the fakes are moved."""
    judge = Judge()
    real, fake = tg.randn(6, 3), tg.randn(6, 3)
    w, b, *_ = by_hand.arrays(judge)
    mean = lambda x: np.tanh(by_hand.linear(x.numpy(), w, b)).mean(0)
    expected = ((mean(real) - mean(fake)) ** 2).mean()
    assert feature_matching(judge, real, fake).item() == pytest.approx(expected, rel=1e-5)
    backwards = tg.tensor(real.numpy()[::-1].copy())
    assert feature_matching(judge, real, backwards).item() == pytest.approx(0, abs=1e-12)
    twice = tg.cat([real, real])
    assert feature_matching(judge, real, twice).item() == pytest.approx(0, abs=1e-12)
    moved, wanted = fake.clone().requires_grad_(), real.clone().requires_grad_()
    feature_matching(judge, wanted, moved).backward()
    assert wanted.grad is None and abs(moved.grad.numpy()).max() > 0
