"""nn.init: bounds, moments and structure of what is drawn; torch's default distributions; same seed, same net."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.nn import init


def array(tensor):
    return tensor.detach().numpy()


def test_gains():
    gain = init.calculate_gain
    assert gain("linear") == gain("sigmoid") == gain("conv2d") == gain("conv_transpose1d") == 1
    assert gain("tanh") == 5 / 3 and gain("relu") == math.sqrt(2) and gain("selu") == 0.75
    assert gain("leaky_relu", 0.2) == math.sqrt(2 / 1.04) and gain("leaky_relu") == math.sqrt(2 / 1.0001)
    with pytest.raises(ValueError, match="known: linear"):
        gain("swish")
    with pytest.raises(ValueError, match="slope"):
        gain("leaky_relu", True)


@pytest.mark.parametrize(
    "shape, fan_in, fan_out", [((300, 200), 200, 300), ((40, 30, 3, 5), 450, 600), ((64, 32, 8), 256, 512)]
)
def test_scaled_distributions(shape, fan_in, fan_out):
    w = nn.Parameter(tg.zeros(*shape))
    for fill, bound in (
        (lambda: init.xavier_uniform_(w, gain=2.0), 2 * math.sqrt(6 / (fan_in + fan_out))),
        (lambda: init.kaiming_uniform_(w, nonlinearity="relu"), math.sqrt(6 / fan_in)),
        (lambda: init.kaiming_uniform_(w, a=math.sqrt(5)), 1 / math.sqrt(fan_in)),
        (lambda: init.kaiming_uniform_(w, mode="fan_out", nonlinearity="linear"), math.sqrt(3 / fan_out)),
    ):
        assert fill() is w and w.requires_grad and w.is_leaf
        values = array(w)
        assert -bound <= values.min() < -0.99 * bound and 0.99 * bound < values.max() <= bound
        assert abs(values.std() / (bound / math.sqrt(3)) - 1) < 0.02 and abs(values.mean()) < 0.02 * bound
    for fill, std in (
        (lambda: init.xavier_normal_(w), math.sqrt(2 / (fan_in + fan_out))),
        (lambda: init.kaiming_normal_(w, mode="fan_out", nonlinearity="tanh"), 5 / 3 / math.sqrt(fan_out)),
        (lambda: init.kaiming_normal_(w, a=0.1), math.sqrt(2 / 1.01 / fan_in)),
    ):
        assert fill() is w
        assert abs(array(w).std() / std - 1) < 0.02 and abs(array(w).mean()) < 0.03 * std


def test_plain_distributions_and_constants():
    x = nn.Parameter(tg.zeros(200, 100))
    values = array(init.normal_(x, 3.0, 0.5))
    assert abs(values.mean() - 3) < 0.02 and abs(values.std() - 0.5) < 0.02
    values = array(init.uniform_(x, -2.0, 1.0))
    assert values.min() >= -2 and values.max() <= 1 and abs(values.mean() + 0.5) < 0.03
    assert (array(init.constant_(x, 0.3)) == np.float32(0.3)).all() and (array(init.ones_(x)) == 1).all()
    assert (array(init.zeros_(x)) == 0).all()
    assert np.array_equal(array(init.eye_(nn.Parameter(tg.ones(3, 2)))), np.eye(3, 2))


def test_truncated_normal_has_its_moments_and_its_bounds():
    values = array(init.trunc_normal_(tg.zeros(300, 300), mean=1.0, std=2.0, a=0.0, b=3.0))
    from scipy.stats import truncnorm

    law = truncnorm(-0.5, 1.0, 1.0, 2.0)
    assert values.min() >= 0 and values.max() <= 3
    assert abs(values.mean() - law.mean()) < 0.01 and abs(values.std() - law.std()) < 0.01
    with pytest.raises(ValueError, match="no probability"):
        init.trunc_normal_(tg.zeros(2), a=50.0, b=51.0)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 2, 3, 3), (4, 4)])
def test_orthogonal(shape):
    w = array(init.orthogonal_(tg.zeros(*shape, dtype=tg.float64), gain=3.0)).reshape(shape[0], -1) / 3
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-12)


def test_orthogonal_matrices_are_uniform_over_signs():
    entries = [array(init.orthogonal_(tg.zeros(3, 3)))[0, 0] for _ in range(200)]
    assert 60 < sum(e > 0 for e in entries) < 140


def test_dirac_copies_channels():
    x = tg.randn(2, 6, 5, 5)
    for groups in (1, 2):
        w = init.dirac_(tg.zeros(6, 6 // groups, 3, 3), groups)
        y = nn.functional.conv2d(x, w, padding=1, groups=groups)
        np.testing.assert_array_equal(y.numpy(), x.numpy())
    with pytest.raises(ValueError, match="groups=4"):
        init.dirac_(tg.zeros(6, 6, 3, 3), 4)


def test_sparse_columns():
    values = array(init.sparse_(tg.zeros(50, 20), 0.25, std=2.0))
    assert ((values == 0).sum(0) == 13).all() and abs(values[values != 0].std() - 2) < 0.2


def test_errors_name_the_shape():
    for call, match in (
        (lambda: init.xavier_uniform_(tg.zeros(3)), r"at least 2 dimensions, got shape \(3,\)"),
        (lambda: init.kaiming_normal_(tg.zeros(3, 3), mode="fan"), "'fan_in' or 'fan_out'"),
        (lambda: init.orthogonal_(tg.zeros(3)), "at least 2"),
        (lambda: init.eye_(tg.zeros(3)), "matrix"),
        (lambda: init.sparse_(tg.zeros(3), 0.5), "matrix"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    assert init.kaiming_uniform_(tg.zeros(0, 3)).numel() == 0 and init.orthogonal_(tg.zeros(3, 0)).numel() == 0


@pytest.mark.parametrize(
    "make, fan_in",
    [
        (lambda: nn.Linear(50, 400), 50),
        (lambda: nn.Conv2d(8, 300, (3, 5)), 120),
        (lambda: nn.Conv2d(8, 400, 3, groups=2), 36),
        (lambda: nn.Conv1d(8, 300, 7), 56),
        (lambda: nn.ConvTranspose2d(100, 64, 4), 64 * 16),  # torch counts the weight's second axis here too
        (lambda: nn.ConvTranspose1d(100, 64, 4), 64 * 4),
    ],
)
def test_layers_start_as_torch_s_do(make, fan_in):
    layer, bound = make(), 1 / math.sqrt(fan_in)
    for p in (layer.weight, layer.bias):
        values = array(p)
        assert abs(values).max() <= bound and abs(values).max() > 0.9 * bound
        assert abs(values.std() / (bound / math.sqrt(3)) - 1) < 0.15


def test_normalisations_start_as_the_identity_and_embeddings_normal():
    for layer in (nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.LayerNorm((2, 2))):
        assert (array(layer.weight) == 1).all() and (array(layer.bias) == 0).all()
    assert abs(array(nn.Embedding(300, 100).weight).std() - 1) < 0.02


def test_same_seed_same_net_and_drawing_never_touches_numpy():
    def build():
        tg.manual_seed(5)
        net = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 2, 3))
        init.orthogonal_(net[0].weight)
        init.trunc_normal_(net[1].weight)
        return [array(p).copy() for p in net.parameters()]

    np.random.seed(1)
    first = build()
    after = np.random.rand()
    np.random.seed(1)
    assert after == np.random.rand()
    assert all(np.array_equal(a, b) for a, b in zip(first, build(), strict=True))


def test_initialising_invalidates_recorded_graphs():
    layer = nn.Linear(2, 2)
    loss = (layer(tg.ones(1, 2).requires_grad_()) ** 2).sum()
    init.zeros_(layer.weight)
    with pytest.raises(RuntimeError, match="changed"):
        loss.backward()
