"""nn.functional: what it adds to the ops, against torch; torch's names and positions of arguments for each function."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import tinygen as tg
import tinygen.nn.functional as F
from tinygen.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")
TF = torch.nn.functional

R = np.random.default_rng(3)
IMAGE, SIGNAL, ROWS = R.standard_normal((2, 4, 6, 6)), R.standard_normal((2, 4, 7)), R.standard_normal((3, 5))
SHORT = ROWS * np.array([[0.01], [1.0], [0.1]])  # lengths below 0.5, above and below
W, B = R.standard_normal((6, 2, 3, 3)), R.standard_normal(6)
ONES4, POSITIVE4 = R.standard_normal(4), R.uniform(0.5, 2, 4)

CASES = {  # name: (function, tensors, further arguments, options), called the same way on both sides
    "linear": ("linear", [ROWS, R.standard_normal((2, 5)), R.standard_normal(2)], (), {}),
    "conv2d": ("conv2d", [IMAGE, W, B], (2, 1, 1, 2), {}),
    "conv2d same": ("conv2d", [IMAGE, W[..., :2], B], (1, "same", (2, 1), 2), {}),
    "conv1d same": ("conv1d", [SIGNAL, R.standard_normal((3, 4, 4))], (), {"padding": "same"}),
    "conv1d": ("conv1d", [SIGNAL, R.standard_normal((3, 4, 3)), R.standard_normal(3)], (2, 1), {}),
    "conv_transpose2d": ("conv_transpose2d", [IMAGE, W[:4, :1].repeat(3, 1), B], (2, 1, 1, 2), {}),
    "conv_transpose1d": ("conv_transpose1d", [SIGNAL, R.standard_normal((4, 3, 4))], (), {"stride": 2, "padding": 1}),
    "max_pool1d": ("max_pool1d", [SIGNAL], (3, 2, 1), {}),
    "max_pool2d": ("max_pool2d", [IMAGE], (2,), {}),
    "avg_pool1d": ("avg_pool1d", [SIGNAL], (3, 2, 1), {}),
    "avg_pool2d": ("avg_pool2d", [IMAGE], (3, 2, 1), {"count_include_pad": False}),
    "adaptive_avg_pool1d": ("adaptive_avg_pool1d", [SIGNAL], (3,), {}),
    "adaptive_avg_pool2d": ("adaptive_avg_pool2d", [IMAGE], ((4, 5),), {}),
    "adaptive_max_pool1d": ("adaptive_max_pool1d", [SIGNAL], (3,), {}),
    "adaptive_max_pool2d": ("adaptive_max_pool2d", [IMAGE], (1,), {}),
    "interpolate": ("interpolate", [IMAGE], (), {"scale_factor": 1.5, "mode": "bilinear", "align_corners": False}),
    "upsample": ("upsample", [IMAGE], (), {"scale_factor": 2}),
    "pad": ("pad", [IMAGE], ((1, 2, 0, 1),), {"mode": "reflect"}),
    "pad value": ("pad", [IMAGE], ((1, 2), "constant", 3.0), {}),
    "pixel_shuffle": ("pixel_shuffle", [IMAGE], (2,), {}),
    "pixel_unshuffle": ("pixel_unshuffle", [IMAGE], (3,), {}),
    "layer_norm": ("layer_norm", [ROWS, R.standard_normal(5), R.standard_normal(5)], (), {}),
    "group_norm": ("group_norm", [IMAGE, ONES4, ONES4 + 1], (), {}),
    "batch_norm": ("batch_norm", [IMAGE, ONES4, POSITIVE4, ONES4 + 1, ONES4 - 1], (), {"eps": 0.1}),
    "batch_norm plain": ("batch_norm", [IMAGE, ONES4, POSITIVE4], (), {}),
    "batch_norm rows": ("batch_norm", [ROWS, R.standard_normal(5), R.uniform(1, 2, 5)], (), {}),
    "instance_norm": ("instance_norm", [IMAGE], (), {"eps": 0.01}),
    "instance_norm running": ("instance_norm", [IMAGE, ONES4, POSITIVE4], (), {"use_input_stats": False}),
    "normalize": ("normalize", [ROWS], (), {}),
    "normalize p": ("normalize", [ROWS], (3.0, 0), {}),
    "normalize eps": ("normalize", [SHORT], (), {"eps": 0.5}),
    "relu": ("relu", [ROWS], (True,), {}),
    "relu_": ("relu_", [ROWS], (), {}),
    "leaky_relu": ("leaky_relu", [ROWS], (0.2, True), {}),
    "elu": ("elu", [ROWS], (0.5, True), {}),
    "selu": ("selu", [ROWS], (), {}),
    "gelu": ("gelu", [ROWS], (), {"approximate": "tanh"}),
    "silu": ("silu", [ROWS], (), {"inplace": False}),
    "mish": ("mish", [ROWS], (), {}),
    "sigmoid": ("sigmoid", [ROWS], (), {}),
    "tanh": ("tanh", [ROWS], (), {}),
    "softplus": ("softplus", [ROWS * 3], (2.0, 3.0), {}),
    "softsign": ("softsign", [ROWS], (), {}),
    "hardtanh": ("hardtanh", [ROWS], (-0.5, 0.8), {}),
    "hardtanh_": ("hardtanh", [ROWS], (-0.5, 0.8, True), {}),
    "selu_": ("selu", [ROWS], (True,), {}),
    "silu_": ("silu", [ROWS], (True,), {}),
    "mish_": ("mish", [ROWS], (True,), {}),
    "relu6_": ("relu6", [ROWS * 6], (True,), {}),
    "threshold_": ("threshold", [ROWS], (0.1, 20, True), {}),
    "relu6": ("relu6", [ROWS * 6], (), {}),
    "threshold": ("threshold", [ROWS], (0.1, 20), {}),
    "logsigmoid": ("logsigmoid", [ROWS], (), {}),
    "softmax": ("softmax", [ROWS], (1,), {}),
    "softmin": ("softmin", [ROWS], (0,), {}),
    "log_softmax": ("log_softmax", [ROWS], (), {"dim": 1}),
    "celu": ("celu", [ROWS], (0.6,), {}),
    "celu_": ("celu", [ROWS], (0.6, True), {}),
    "glu": ("glu", [IMAGE], (), {}),
    "glu dim": ("glu", [IMAGE], (1,), {}),
    "hardsigmoid": ("hardsigmoid", [ROWS * 4], (), {}),
    "hardsigmoid_": ("hardsigmoid", [ROWS * 4], (True,), {}),
    "hardswish": ("hardswish", [ROWS * 4], (), {}),
    "hardswish_": ("hardswish", [ROWS * 4], (True,), {}),
    "prelu": ("prelu", [IMAGE, ONES4], (), {}),
    "prelu one": ("prelu", [ROWS, ONES4[:1]], (), {}),
    "softshrink": ("softshrink", [ROWS], (0.4,), {}),
    "tanhshrink": ("tanhshrink", [ROWS], (), {}),
    "rms_norm": ("rms_norm", [ROWS, R.standard_normal(5)], (), {}),
    "rms_norm eps": ("rms_norm", [ROWS], (), {"eps": 0.3}),
    "local_response_norm": ("local_response_norm", [IMAGE], (3, 0.9, 0.6, 1.2), {}),
    "local_response_norm even": ("local_response_norm", [SIGNAL], (2, 0.9), {}),
    "bilinear": ("bilinear", [ROWS, ROWS[:, :4], R.standard_normal((2, 5, 4)), R.standard_normal(2)], (), {}),
    "grid_sample": ("grid_sample", [IMAGE, R.uniform(-1.3, 1.3, (2, 3, 5, 2))], ("bilinear", "border", True), {}),
    "affine_grid": ("affine_grid", [R.standard_normal((2, 2, 3))], ((2, 1, 3, 4),), {"align_corners": False}),
    "attention": (
        "scaled_dot_product_attention", [SIGNAL, SIGNAL * 0.5, SIGNAL[..., :3] + 1], (), {"is_causal": True},
    ),
    "unfold": ("unfold", [IMAGE], ((2, 3), (2, 1), (1, 0), (1, 2)), {}),
    "fold": ("fold", [R.standard_normal((2, 12, 10))], ((6, 5), (2, 3), (2, 1), (0, 1), (2, 1)), {}),
    "cosine_similarity": ("cosine_similarity", [ROWS, ROWS[::-1].copy()], (), {}),
    "cosine_similarity dim": ("cosine_similarity", [ROWS, ROWS[::-1].copy()], (0, 1e-3), {}),
    "pairwise_distance": ("pairwise_distance", [ROWS, ROWS[::-1].copy()], (3.0,), {"keepdim": True}),
}  # fmt: skip
ELSEWHERE = {  # tested below, or with their own files
    "embedding", "one_hot", "dropout", "dropout1d", "dropout2d", "gumbel_softmax", "max_unpool2d", "gaussian_kl",
    "reparameterize",
}  # fmt: skip


def call(module, name, tensors, arguments, options):
    function = getattr(module, name)
    if name in ("layer_norm", "rms_norm"):
        return function(tensors[0], (5,), *tensors[1:], **options)
    if name == "group_norm":
        return function(tensors[0], 2, *tensors[1:], **options)
    return function(*tensors, *arguments, **options)


@pytest.mark.filterwarnings("ignore:`nn.functional.upsample` is deprecated")
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_equals_torch(case):
    name, values, arguments, options = CASES[case]
    leaves = 1 if name.startswith(("batch_norm", "instance_norm")) else len(values)
    xs = [tg.tensor(v).requires_grad_(i < leaves) for i, v in enumerate(values)]
    hs = [torch.tensor(v, requires_grad=i < leaves) for i, v in enumerate(values)]
    in_place = name == "relu_" or True in arguments
    y = call(F, name, [t.clone() if in_place else t for t in xs], arguments, options)
    h = call(TF, name, [t.clone() if in_place else t for t in hs], arguments, options)
    np.testing.assert_allclose(y.detach().numpy(), h.detach().numpy(), rtol=1e-9, atol=1e-11)
    g = np.random.default_rng(0).standard_normal(tuple(h.shape))
    y.backward(tg.tensor(g))
    h.backward(torch.tensor(g))
    for x, r in zip(xs[:leaves], hs[:leaves], strict=True):
        rtol = 1e-7 if name in ("celu", "hardsigmoid") else 1e-8  # torch rounds their constants to float32
        np.testing.assert_allclose(x.grad.numpy(), r.grad.numpy(), rtol=rtol, atol=1e-10)


@pytest.mark.parametrize("name, arguments", [("hardtanh", ()), ("hardtanh", (-2.0, 0.5)), ("relu6", ())])
def test_derivative_at_the_bounds_as_torch(name, arguments):
    values = np.array([-np.inf, -3, -2, -1, -0.5, 0, 0.5, 1, 3, 6, 7, np.inf, np.nan])
    x, h = tg.tensor(values).requires_grad_(), torch.tensor(values, requires_grad=True)
    y, r = call(F, name, [x], arguments, {}), call(TF, name, [h], arguments, {})
    np.testing.assert_array_equal(y.detach().numpy(), r.detach().numpy())
    y.backward(tg.tensor(np.full(13, 2.0)))
    r.backward(torch.full((13,), 2.0, dtype=torch.float64))
    np.testing.assert_array_equal(x.grad.numpy(), h.grad.numpy())


@pytest.mark.parametrize("name, arguments", [
    ("hardsigmoid", ()), ("hardswish", ()), ("softshrink", (1.0,)), ("softshrink", ()), ("celu", (2.0,)),
    ("tanhshrink", ()),
])  # fmt: skip
def test_kinks_as_torch(name, arguments):
    values = np.array([-4.0, -3, -2, -1, -0.5, 0, 0.5, 1, 3, 6])
    x, h = tg.tensor(values).requires_grad_(), torch.tensor(values, requires_grad=True)
    y, r = call(F, name, [x], arguments, {}), call(TF, name, [h], arguments, {})
    np.testing.assert_allclose(y.detach().numpy(), r.detach().numpy(), rtol=1e-12)
    (first,), (expected,) = tg.grad(y.sum(), x, create_graph=True), torch.autograd.grad(r.sum(), h, create_graph=True)
    np.testing.assert_allclose(first.detach().numpy(), expected.detach().numpy(), rtol=1e-7)


@pytest.mark.parametrize("name", ["hardsigmoid", "hardswish", "celu"])
def test_infinities_have_finite_derivatives(name):
    x = tg.tensor([-np.inf, np.inf]).requires_grad_()
    getattr(F, name)(x).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_every_function_is_covered():
    from tinygen.nn import losses

    assert {c[0] for c in CASES.values()} | ELSEWHERE | set(losses.__all__) == set(F.__all__)


@pytest.mark.parametrize(
    "case", ["softplus", "mish", "normalize", "batch_norm", "instance_norm", "softsign", "logsigmoid",
             "celu", "glu", "hardsigmoid", "hardswish", "prelu", "softshrink", "tanhshrink", "rms_norm",
             "local_response_norm", "bilinear", "unfold", "fold"]
)
def test_what_is_composed_here_has_two_orders_of_derivatives(case):
    name, values, arguments, options = CASES[case]
    rest = [tg.tensor(v) for v in values[1:]]
    f = lambda x: call(F, name, [x, *rest], arguments, options)
    x = tg.tensor(values[0])
    assert gradcheck(f, [x]) and gradgradcheck(f, [x])


def test_arguments_have_torch_s_names_in_torch_s_order():
    for name in F.__all__:
        theirs = getattr(TF, name, None)
        try:
            expected = list(inspect.signature(theirs).parameters)
            ours = [p.name for p in inspect.signature(getattr(F, name)).parameters.values()]
        except (TypeError, ValueError):  # torch's is built in, or ours is an op
            continue
        if expected in (["args", "kwargs"], ["input"], ["x"]):
            continue
        expected = [n for n in expected if n not in ("size_average", "reduce", "_stacklevel")]
        common = [n for n in ours if n in expected]
        assert common[:2] == expected[: len(common[:2])], (name, ours, expected)
        if name not in ("gumbel_softmax", "embedding"):
            in_order = [n for n in expected if n in common]
            if not any(n in ("reduction",) for n in expected):  # losses: the options are keyword-only
                assert common == in_order, (name, ours, expected)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 2)])
def test_batch_norm_in_training_moves_the_running_statistics_as_torch(shape, rng):
    values = rng.standard_normal(shape)
    mean, var = rng.standard_normal(3), rng.uniform(0.5, 2, 3)
    ours, theirs = [tg.tensor(v.copy()) for v in (mean, var)], [torch.tensor(v.copy()) for v in (mean, var)]
    y = F.batch_norm(tg.tensor(values), *ours, training=True, momentum=0.3)
    h = TF.batch_norm(torch.tensor(values), *theirs, training=True, momentum=0.3)
    np.testing.assert_allclose(y.numpy(), h.numpy(), rtol=1e-8, atol=1e-10)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8)
    F.batch_norm(tg.tensor(values), None, None, training=True)  # statistics may be left out


def test_instance_norm_moves_given_running_statistics(rng):
    values, mean, var = rng.standard_normal((3, 2, 5)), rng.standard_normal(2), rng.uniform(0.5, 2, 2)
    ours, theirs = [tg.tensor(v.copy()) for v in (mean, var)], [torch.tensor(v.copy()) for v in (mean, var)]
    F.instance_norm(tg.tensor(values), *ours, momentum=0.3)
    TF.instance_norm(torch.tensor(values), *theirs, momentum=0.3)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9)


def test_softplus_is_linear_above_the_threshold_with_finite_gradients():
    x = tg.tensor([-1000.0, 0.0, 19.0, 1000.0]).requires_grad_()
    y = F.softplus(x)
    assert y[3].item() == 1000 and y[0].item() == 0 and y[1].item() == pytest.approx(np.log(2))
    y.sum().backward()
    assert x.grad.tolist() == [0, 0.5, 1, 1]


def test_normalize_of_a_zero_vector_is_zero():
    x = tg.zeros(2, 3).requires_grad_()
    y = F.normalize(x)
    assert (y.detach().numpy() == 0).all()
    y.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    assert F.cosine_similarity(tg.zeros(1, 3), tg.ones(1, 3)).item() == 0


def test_cosine_similarity_divides_by_eps_where_a_vector_is_shorter():
    """torch's value and derivative: that of the formula, but by the length itself also where eps stands for it."""
    a, b = SHORT, SHORT[::-1].copy()
    y = F.cosine_similarity(tg.tensor(a), tg.tensor(b), eps=0.5)
    lengths = [np.maximum(np.linalg.norm(v, axis=1), 0.5) for v in (a, b)]
    np.testing.assert_allclose(y.numpy(), (a * b).sum(1) / (lengths[0] * lengths[1]), rtol=1e-12)
    np.testing.assert_allclose(y.numpy(), TF.cosine_similarity(torch.tensor(a), torch.tensor(b), eps=0.5), rtol=1e-12)
    found, expected = [], []
    for L, lib, out in ((tg, F, found), (torch, TF, expected)):
        x, z = L.tensor(a, requires_grad=True), L.tensor(b, requires_grad=True)
        lib.cosine_similarity(x, z, eps=0.5).sum().backward()
        out += [np.asarray(x.grad), np.asarray(z.grad)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_hardtanh_and_relu6_on_their_bounds_equal_torch():
    values = [-1.0, 1.0, 0.0, 6.0, -0.5, 0.5, 7.0, -2.0, -0.0, float("nan")]
    for name, options in (("hardtanh", {}), ("hardtanh", {"min_val": -0.5, "max_val": 0.5}), ("relu6", {})):
        results = []
        for L, lib in ((tg, F), (torch, TF)):
            x = L.tensor(values, requires_grad=True)
            y = getattr(lib, name)(x, **options)
            y.sum().backward()
            results.append((y.detach().numpy(), x.grad.numpy()))
        np.testing.assert_array_equal(results[0], results[1])


def test_dropout_embedding_and_one_hot_are_reachable():
    x = tg.ones(50, 8, 4, 4)
    assert F.dropout(x, 0.5, training=False) is x or (F.dropout(x, 0.5, False).numpy() == 1).all()
    assert set(np.unique(F.dropout(x, 0.5, True).numpy())) == {0, 2}
    for drop in (F.dropout2d(x, 0.5), F.dropout1d(x[:, :, 0], 0.5)):
        planes = drop.numpy().reshape(400, -1)
        assert (planes == planes[:, :1]).all()
    table = tg.randn(5, 2)
    assert np.array_equal(F.embedding(tg.tensor([4, 0]), table).numpy(), table.numpy()[[4, 0]])
    assert F.one_hot(tg.tensor([0, 2]), 3).tolist() == [[1, 0, 0], [0, 0, 1]]
    values, places = F.max_pool2d(x, 2, return_indices=True)
    assert tuple(F.max_unpool2d(values, places, 2).shape) == tuple(x.shape)


def test_gumbel_softmax_samples_classes_in_proportion():
    logits = tg.tensor(np.log([[0.2, 0.5, 0.3]])).expand(4000, 3)
    hard = F.gumbel_softmax(logits, tau=0.7, hard=True).numpy()
    assert np.allclose(hard.sum(1), 1) and np.allclose(hard.mean(0), [0.2, 0.5, 0.3], atol=0.04)
    soft = tg.zeros(2, 3).requires_grad_()
    y = F.gumbel_softmax(soft, hard=True)
    (y * tg.arange(3).float()).sum().backward()
    assert (soft.grad.numpy() != 0).any() and np.allclose(y.detach().numpy().max(1), 1)


def test_errors_of_shapes_say_what_was_expected():
    x = tg.zeros(2, 3, 4, 4)
    for function, match in (
        (lambda: F.celu(x, 0), "alpha=0"),
        (lambda: F.glu(x, 1), "even length"),
        (lambda: F.glu(tg.zeros(())), "scalar"),
        (lambda: F.softshrink(x, -1), "lambd=-1"),
        (lambda: F.prelu(x, tg.zeros(2)), "each of 3 channels"),
        (lambda: F.rms_norm(x, 3), "should end in"),
        (lambda: F.rms_norm(x, 4, tg.zeros(3)), r"of shape \(4,\)"),
        (lambda: F.local_response_norm(tg.zeros(2, 3), 2), r"\(N, C, L\)"),
        (lambda: F.local_response_norm(x, 0), "size=0"),
        (lambda: F.bilinear(x, x, tg.zeros(2, 3, 4)), r"weight \(O, I, J\)"),
        (lambda: F.bilinear(x, x, tg.zeros(2, 4, 4), tg.zeros(3)), "bias"),
        (lambda: F.unfold(tg.zeros(4, 4), 2), r"\(N, C, H, W\)"),
        (lambda: F.unfold(x, 5), "no patch"),
        (lambda: F.unfold(x, 0), "kernel_size=0"),
        (lambda: F.fold(tg.zeros(1, 8, 10), 4, 2), r"\(N, C \* 4, 9\)"),
        (lambda: F.fold(tg.zeros(1, 7, 9), 4, 2), r"\(N, C \* 4, 9\)"),
    ):
        with pytest.raises(ValueError, match=match):
            function()


def test_errors():
    x = tg.zeros(2, 3)
    for f in (F.softmax, F.log_softmax, F.softmin):
        with pytest.raises(TypeError, match="say along which dim"):
            f(x)
    with pytest.raises(ValueError, match="running_mean and running_var are needed"):
        F.batch_norm(x, None, None)
    with pytest.raises(ValueError, match=r"\(N, 4, ...\)"):
        F.batch_norm(x, tg.zeros(4), tg.ones(4))
    with pytest.raises(ValueError, match="more than one value per channel"):
        F.batch_norm(tg.zeros(1, 3), tg.zeros(3), tg.ones(3), training=True)
