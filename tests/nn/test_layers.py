"""Layers: values and gradients of both orders against torch, names, options and errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F
from tinygen.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")


H = torch.nn
LAYERS = {  # name: (the layer, of nn or of torch.nn; input shape)
    "linear": (lambda N: N.Linear(5, 3), (2, 4, 5)),
    "conv2d": (lambda N: N.Conv2d(2, 4, 3, 2, 1), (2, 2, 7, 6)),
    "conv2d groups": (lambda N: N.Conv2d(4, 6, (3, 2), padding=(1, 0), dilation=2, groups=2, bias=False), (2, 4, 7, 6)),
    "conv2d same": (lambda N: N.Conv2d(2, 3, 4, padding="same"), (2, 2, 6, 5)),
    "conv2d valid": (lambda N: N.Conv2d(2, 3, 2, padding="valid"), (2, 6, 5)),
    **{
        f"conv2d {mode}": (lambda N, mode=mode: N.Conv2d(2, 3, 3, 2, (2, 1), padding_mode=mode), (2, 2, 6, 5))
        for mode in ("reflect", "replicate", "circular")
    },
    "conv2d same circular": (lambda N: N.Conv2d(2, 3, 4, padding="same", padding_mode="circular"), (2, 2, 6, 5)),
    "conv1d": (lambda N: N.Conv1d(2, 4, 3, 2, 1), (2, 2, 9)),
    "conv1d reflect": (lambda N: N.Conv1d(2, 4, 3, 1, 2, padding_mode="reflect"), (2, 2, 9)),
    "conv_transpose2d": (lambda N: N.ConvTranspose2d(4, 2, 3, 2, 1, 1), (2, 4, 4, 3)),
    "transposed groups": (lambda N: N.ConvTranspose2d(4, 6, 3, 2, groups=2, bias=False, dilation=2), (2, 4, 4, 3)),
    "conv_transpose1d": (lambda N: N.ConvTranspose1d(4, 2, 4, 2, 1), (2, 4, 5)),
    "batch_norm1d": (lambda N: N.BatchNorm1d(3), (6, 3)),
    "batch_norm1d 3d": (lambda N: N.BatchNorm1d(3), (4, 3, 5)),
    "batch_norm2d": (lambda N: N.BatchNorm2d(3), (4, 3, 5, 2)),
    "batch_norm2d average": (lambda N: N.BatchNorm2d(3, momentum=None, eps=0.1), (4, 3, 5, 2)),
    "batch_norm2d plain": (lambda N: N.BatchNorm2d(3, affine=False, track_running_stats=False), (4, 3, 5, 2)),
    "layer_norm": (lambda N: N.LayerNorm((3, 4)), (2, 3, 4)),
    "layer_norm no bias": (lambda N: N.LayerNorm(4, bias=False), (2, 3, 4)),
    "group_norm": (lambda N: N.GroupNorm(2, 4), (3, 4, 5)),
    "instance_norm2d": (lambda N: N.InstanceNorm2d(3), (2, 3, 4, 5)),
    "instance_norm2d full": (lambda N: N.InstanceNorm2d(3, affine=True, track_running_stats=True), (2, 3, 4, 5)),
    "instance_norm2d image": (lambda N: N.InstanceNorm2d(3), (3, 4, 5)),
    "instance_norm1d": (lambda N: N.InstanceNorm1d(3, affine=True), (2, 3, 6)),
    "max_pool2d": (lambda N: N.MaxPool2d(3, 2, 1), (2, 3, 7, 6)),
    "max_pool1d": (lambda N: N.MaxPool1d(2, ceil_mode=True), (2, 3, 7)),
    "avg_pool2d": (lambda N: N.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 7, 6)),
    "avg_pool1d": (lambda N: N.AvgPool1d(3, 1, 1), (2, 3, 7)),
    "adaptive_avg_pool2d": (lambda N: N.AdaptiveAvgPool2d((2, 3)), (2, 3, 7, 5)),
    "adaptive_avg_pool1d": (lambda N: N.AdaptiveAvgPool1d(3), (2, 3, 7)),
    "adaptive_max_pool2d": (lambda N: N.AdaptiveMaxPool2d(2), (2, 3, 7, 5)),
    "upsample": (lambda N: N.Upsample(scale_factor=2), (2, 3, 4, 3)),
    "upsample bilinear": (lambda N: N.Upsample(size=(7, 5), mode="bilinear", align_corners=True), (2, 3, 4, 3)),
    "upsampling_nearest2d": (lambda N: N.UpsamplingNearest2d(scale_factor=2), (1, 2, 3, 3)),
    "upsampling_bilinear2d": (lambda N: N.UpsamplingBilinear2d(scale_factor=2), (1, 2, 3, 3)),
    "pixel_shuffle": (lambda N: N.PixelShuffle(2), (2, 8, 3, 4)),
    "pixel_unshuffle": (lambda N: N.PixelUnshuffle(2), (2, 2, 6, 4)),
    "zero_pad2d": (lambda N: N.ZeroPad2d((1, 2, 0, 3)), (2, 2, 3, 4)),
    "zero_pad1d": (lambda N: N.ZeroPad1d(2), (2, 2, 3)),
    "constant_pad2d": (lambda N: N.ConstantPad2d(1, 3.5), (2, 2, 3, 4)),
    "reflection_pad2d": (lambda N: N.ReflectionPad2d((1, 2, 2, 1)), (2, 2, 3, 4)),
    "reflection_pad1d": (lambda N: N.ReflectionPad1d(2), (2, 2, 4)),
    "replication_pad2d": (lambda N: N.ReplicationPad2d(3), (2, 2, 3, 4)),
    "circular_pad2d": (lambda N: N.CircularPad2d(1), (2, 2, 3, 4)),
    "flatten": (lambda N: N.Flatten(), (2, 3, 4)),
    "unflatten": (lambda N: N.Unflatten(1, (2, 3)), (2, 6, 4)),
    "identity": (lambda N: N.Identity(54, unused=True), (2, 3)),
    "relu": (lambda N: N.ReLU(), (2, 3)),
    "relu6": (lambda N: N.ReLU6(), (2, 30)),
    "leaky_relu": (lambda N: N.LeakyReLU(0.2), (2, 3)),
    "prelu": (lambda N: N.PReLU(3), (2, 3, 4)),
    "prelu one": (lambda N: N.PReLU(), (2, 3)),
    "elu": (lambda N: N.ELU(0.7), (2, 3)),
    "selu": (lambda N: N.SELU(), (2, 3)),
    "gelu": (lambda N: N.GELU(), (2, 3)),
    "gelu tanh": (lambda N: N.GELU("tanh"), (2, 3)),
    "silu": (lambda N: N.SiLU(), (2, 3)),
    "mish": (lambda N: N.Mish(), (2, 3)),
    "sigmoid": (lambda N: N.Sigmoid(), (2, 3)),
    "tanh": (lambda N: N.Tanh(), (2, 3)),
    "softsign": (lambda N: N.Softsign(), (2, 3)),
    "softplus": (lambda N: N.Softplus(2.0, 1.0), (2, 9)),
    "softmax": (lambda N: N.Softmax(1), (2, 3, 4)),
    "softmin": (lambda N: N.Softmin(1), (2, 3, 4)),
    "log_softmax": (lambda N: N.LogSoftmax(dim=-1), (2, 3)),
    "log_sigmoid": (lambda N: N.LogSigmoid(), (2, 3)),
    "hardtanh": (lambda N: N.Hardtanh(-0.5, 0.7), (2, 9)),
    "threshold": (lambda N: N.Threshold(0.1, 20), (2, 9)),
    "celu": (lambda N: N.CELU(0.7), (2, 3)),
    "glu": (lambda N: N.GLU(1), (2, 4, 3)),
    "hardsigmoid": (lambda N: N.Hardsigmoid(), (2, 30)),
    "hardswish": (lambda N: N.Hardswish(), (2, 30)),
    "softshrink": (lambda N: N.Softshrink(0.3), (2, 9)),
    "tanhshrink": (lambda N: N.Tanhshrink(), (2, 3)),
    "rms_norm": (lambda N: N.RMSNorm((3, 4)), (2, 3, 4)),
    "rms_norm of NumPy's integer": (lambda N: N.RMSNorm(4 if N is torch.nn else np.int64(4)), (2, 3, 4)),
    "rms_norm plain": (lambda N: N.RMSNorm(4, 0.1, False), (2, 3, 4)),
    "local_response_norm": (lambda N: N.LocalResponseNorm(3, 0.5, 0.6, 1.1), (2, 5, 4)),
    "unfold": (lambda N: N.Unfold((2, 3), stride=2, padding=1), (2, 3, 5, 4)),
    "fold": (lambda N: N.Fold((4, 3), 2), (2, 12, 6)),
    "bilinear": (lambda N: N.Bilinear(3, 3, 2), (4, 3)),
    "cosine_similarity": (lambda N: N.CosineSimilarity(), (2, 3, 4)),
    "pairwise_distance": (lambda N: N.PairwiseDistance(), (2, 3)),
}  # fmt: skip


def same(ours, theirs, **tolerance):
    np.testing.assert_allclose(
        ours.detach().numpy(), theirs.detach().numpy(), **{"rtol": 1e-9, "atol": 1e-10, **tolerance}
    )


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_torch_in_training_and_eval(name, rng):
    make, shape = LAYERS[name]
    ours, theirs = make(nn).double(), make(H).double()
    with torch.no_grad():  # weights away from their special values, the same on both sides
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape))))
    ours.load_state_dict(theirs.state_dict())
    count = 2 if name.startswith(("cosine", "pairwise", "bilinear")) else 1
    for mode in (True, True, False):
        ours.train(mode), theirs.train(mode)
        values = [rng.standard_normal(shape) for _ in range(count)]
        xs, hs = [tg.tensor(v).requires_grad_() for v in values], [torch.tensor(v, requires_grad=True) for v in values]
        y, h = ours(*xs), theirs(*hs)
        assert tuple(y.shape) == tuple(h.shape)
        same(y, h)
        g = rng.standard_normal(tuple(h.shape))
        y.backward(tg.tensor(g))
        h.backward(torch.tensor(g))
        rtol = 1e-7 if name in ("celu", "hardsigmoid") else 1e-9  # torch rounds their constants to float32
        for x, r in zip(xs, hs, strict=True):
            same(x.grad, r.grad, rtol=rtol)
        for (n, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            same(p.grad, q.grad, err_msg=n)
        for (n, b), c in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            same(b, c, err_msg=n)
    assert repr(ours).startswith(type(ours).__name__ + "(")


KINKED = {"identity", "threshold", "relu6", "hardtanh", "softplus", "hardswish", "hardsigmoid", "softshrink"}
SMOOTH = [n for n in LAYERS if n not in KINKED]


@pytest.mark.parametrize("name", SMOOTH)
def test_layers_have_two_orders_of_derivatives(name, rng):
    make, shape = LAYERS[name]
    layer = make(nn).double()
    names = [n for n, _ in layer.named_parameters()]
    values = [tg.tensor(rng.standard_normal(p.shape)) for p in layer.parameters()]
    count = 2 if name.startswith(("cosine", "pairwise", "bilinear")) else 1
    inputs = [tg.tensor(rng.standard_normal(shape)) for _ in range(count)]

    def f(*tensors):
        count = len(inputs)
        for n, t in zip(names, tensors[count:], strict=True):
            layer.__dict__[n] = t
        return layer(*tensors[:count])

    assert gradcheck(f, [*inputs, *values], directions=1)
    assert gradgradcheck(f, [*inputs, *values], directions=1)


def test_float32_layers_equal_torch():
    theirs = H.Sequential(H.Conv2d(1, 4, 3, 2, 1), H.BatchNorm2d(4), H.ReLU(), H.Flatten(), H.Linear(64, 5))
    ours = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(1).standard_normal((3, 1, 8, 8)).astype(np.float32)
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        y = ours(tg.tensor(x))
        assert y.dtype == np.float32
        same(y, theirs(torch.tensor(x)), rtol=1e-4, atol=1e-5)


def test_embedding_equals_torch():
    ours, theirs = nn.Embedding(6, 3, padding_idx=2), H.Embedding(6, 3, padding_idx=2)
    assert (ours.weight.array[2] == 0).all() and (ours.weight.array[1] != 0).all()
    ours.load_state_dict(theirs.state_dict())
    index = np.array([[1, 2, 1], [5, 0, 2]])
    y, h = ours(tg.tensor(index)), theirs(torch.tensor(index))
    same(y, h)
    (y * y).sum().backward()
    (h * h).sum().backward()
    same(ours.weight.grad, theirs.weight.grad, rtol=1e-6)
    assert repr(ours) == "Embedding(6, 3, padding_idx=2) (params: 18)"


def test_transposed_convolution_returns_to_the_size_asked_for():
    down, up = nn.Conv2d(1, 2, 3, 2, 1), nn.ConvTranspose2d(2, 1, 3, 2, 1)
    for size in (7, 8):
        x = tg.randn(1, 1, size, size)
        assert tuple(up(down(x), output_size=x.size()).shape) == tuple(x.shape)
    assert tuple(nn.ConvTranspose1d(2, 1, 3, 2)(tg.randn(1, 2, 4), output_size=[10]).shape) == (1, 1, 10)
    with pytest.raises(ValueError, match="legal sizes"):
        up(down(x), output_size=(11, 11))


def test_asymmetric_padding():
    x = tg.randn(1, 1, 5, 5)
    layer = nn.Conv2d(1, 1, 3, padding=((2, 0), (1, 3)))
    expected = nn.functional.conv2d(nn.functional.pad(x, (1, 3, 2, 0)), layer.weight, layer.bias)
    same(layer(x), expected)
    assert tuple(nn.Conv2d(1, 1, 3, 2, "same")(x).shape) == (1, 1, 3, 3)  # strided 'same': ceil(size / stride)
    mirrored = nn.Conv2d(1, 1, 3, 2, "same", padding_mode="reflect")
    same(
        mirrored(x),
        nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), "reflect"), mirrored.weight, mirrored.bias, 2),
    )


def test_dropout_drops_in_training_only():
    x = tg.ones(100, 200)
    layer = nn.Dropout(0.25)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)} and abs((y == 0).mean() - 0.25) < 0.02
    assert layer.eval()(x) is x or np.array_equal(layer(x).numpy(), x.numpy())
    planes = nn.Dropout2d(0.5)(tg.ones(20, 10, 3, 3)).numpy().reshape(200, 9)
    assert (planes == planes[:, :1]).all() and 0.3 < (planes[:, 0] == 0).mean() < 0.7
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(1.5)


def test_options_after_the_leading_ones_are_keyword_only():
    for make, hint in (
        (lambda: nn.BatchNorm2d(8, 0.8), r"eps=0\.8"),
        (lambda: nn.BatchNorm1d(8, 0.8), "BatchNorm1d: the options eps, momentum"),
        (lambda: nn.InstanceNorm2d(8, 0.8), "InstanceNorm2d"),
        (lambda: nn.GroupNorm(2, 8, 1e-3), "GroupNorm"),
        (lambda: nn.LayerNorm(8, 1e-3), "LayerNorm"),
        (lambda: nn.Conv2d(1, 1, 3, 1, 1, 2), "dilation=2"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, 1, 1, 0, 1), "groups=1"),
        (lambda: nn.MaxPool2d(2, 2, 0, 2), "dilation=2"),
        (lambda: nn.Embedding(3, 2, 0), "padding_idx=0"),
        (lambda: nn.Upsample(None, 2), "scale_factor=2"),
    ):
        with pytest.raises(TypeError, match=hint):
            make()


def test_layers_refuse_what_does_not_fit():
    for call, match in (
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups=2 should divide in_channels=3"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="mirror"), "padding_mode='mirror'"),
        (lambda: nn.Conv2d(4, 4, (3, 3, 3)), "one integer, or 2"),
        (lambda: nn.ConvTranspose2d(4, 4, 3, padding_mode="reflect"), "no meaning"),
        (lambda: nn.GroupNorm(3, 4), "should divide"),
        (lambda: nn.Upsample(), "either size or scale_factor"),
        (lambda: nn.BatchNorm2d(3)(tg.zeros(2, 4, 5, 5)), r"C=3, got \(2, 4, 5, 5\)"),
        (lambda: nn.BatchNorm2d(3)(tg.zeros(2, 3)), r"\(N, C, H, W\)"),
        (lambda: nn.BatchNorm1d(3)(tg.zeros(1, 3)), "more than one value per channel"),
        (lambda: nn.InstanceNorm2d(3)(tg.zeros(2, 3, 1, 1)), "more than one value"),
        (lambda: nn.InstanceNorm2d(3)(tg.zeros(2, 4, 5, 5)), "C=3"),
        (lambda: nn.PReLU(3)(tg.zeros(2, 4)), "expected 3 channels"),
        (lambda: nn.ZeroPad2d((1, 2)), "one integer or 4"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


# Every name of torch.nn that model code may use here.
NAMES = """
    Module Parameter Sequential ModuleList ModuleDict ParameterList Identity Linear Flatten Unflatten Embedding
    Conv1d Conv2d ConvTranspose1d ConvTranspose2d PixelShuffle PixelUnshuffle
    MaxPool1d MaxPool2d AvgPool1d AvgPool2d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d
    Upsample UpsamplingNearest2d UpsamplingBilinear2d ZeroPad1d ZeroPad2d ConstantPad2d ReflectionPad1d ReflectionPad2d
    ReplicationPad2d CircularPad2d Dropout Dropout1d Dropout2d
    BatchNorm1d BatchNorm2d InstanceNorm1d InstanceNorm2d LayerNorm GroupNorm
    ReLU LeakyReLU PReLU ELU SELU GELU SiLU Mish Sigmoid Tanh Softplus Softsign Softmax Softmin LogSoftmax LogSigmoid
    Hardtanh ReLU6 Threshold CELU GLU Hardsigmoid Hardswish Softshrink Tanhshrink RMSNorm LocalResponseNorm Unfold Fold
    Bilinear PoissonNLLLoss
    MSELoss L1Loss SmoothL1Loss HuberLoss BCELoss BCEWithLogitsLoss CrossEntropyLoss NLLLoss KLDivLoss
    HingeEmbeddingLoss MarginRankingLoss TripletMarginLoss CosineEmbeddingLoss GaussianNLLLoss CosineSimilarity
    PairwiseDistance
""".split()


def test_torchs_names_resolve():
    classes = {n for n, v in vars(nn).items() if isinstance(v, type) and not n.startswith("_")}
    assert classes == set(NAMES)
    assert not [n for n in NAMES if not isinstance(getattr(H, n, None), type)]
    assert all(getattr(nn, n).__module__.startswith("tinygen.nn.") for n in NAMES)
    from tinygen.nn.utils import clip_grad_norm_, clip_grad_value_, spectral_norm

    assert spectral_norm is nn.spectral_norm
    assert {clip_grad_norm_.__name__, clip_grad_value_.__name__} == {"clip_grad_norm_", "clip_grad_value_"}


@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"])
def test_a_convolution_layer_passes_through_its_function(name):
    function = getattr(F, {"Conv": "conv", "ConvTranspose": "conv_transpose"}[name[:-2]] + name[-2:])
    layer = getattr(nn, name)(2, 4, 3, 2, 1)
    x = tg.randn(1, 2, *([5] * int(name[-2])))
    called = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code) if event == "call" else None)
    try:
        y = layer(x)
    finally:
        sys.setprofile(None)
    assert function.__code__ in called
    same(y, function(x, layer.weight, layer.bias, 2, 1), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"])
def test_convolutions_refuse_what_makes_no_sense(kind):
    """At construction, and as functions: sizes, strides and groups below one, numbers that are no integers, dtypes."""
    layer, axes = getattr(nn, kind), int(kind[-2])
    name = ("conv_transpose" if "Transpose" in kind else "conv") + f"{axes}d"
    for words, options in {
        "kernel_size=0": {"kernel_size": 0}, "kernel_size=-1": {"kernel_size": -1},
        "kernel_size=2.5": {"kernel_size": 2.5}, "stride=0": {"stride": 0}, "dilation=0": {"dilation": 0},
        "groups=0": {"groups": 0}, "groups=-2": {"groups": -2},
        "in_channels=0": {"in_channels": 0}, "out_channels=0": {"out_channels": 0},
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"{kind}: {words} should"):
            layer(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, **options})
    f, x, w = getattr(F, name), tg.ones(1, 4, *[8] * axes), tg.ones(4, 4, *[3] * axes)
    for options in ({"groups": 0}, {"groups": -1}, {"groups": 1.0}, {"stride": 0}, {"stride": 1.5}, {"dilation": 0}):
        (option,) = options
        with pytest.raises(ValueError, match=f"{name}: {option}={options[option]} should"):
            f(x, w, **options)
    with pytest.raises(ValueError, match=f"{name}: padding=0.5 should"):
        f(x, w, padding=0.5)
    with pytest.raises(ValueError, match=rf"{name}: a weight's kernel=.* should"):
        f(x, tg.ones(4, 4, *[0] * axes))
    for a, b in ((x.double(), w), (x, w.double()), (x.long(), w), (x, w.long()), (x > 0, w)):
        with pytest.raises(TypeError, match=f"{name}: mixed dtypes, input {a.dtype} and weight {b.dtype}; convert"):
            f(a, b)
    with pytest.raises(TypeError, match="mixed dtypes float32 and float64"):
        f(x, w, tg.ones(4, dtype="float64"))
    assert f(x, w).shape[1] == 4  # what was refused has left nothing behind


def test_other_senseless_numbers_are_refused():
    for call in (lambda: F.hardtanh(tg.ones(2), 2, 1), lambda: nn.Hardtanh(2.0, 1.0)):
        with pytest.raises(ValueError, match=r"anh: min_val=2.* should not be above max_val=1"):
            call()
    assert F.hardtanh(tg.ones(2) * 3, 1, 1).tolist() == [1, 1]
    for factor in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"interpolate: scale_factor={factor} should be positive"):
            F.interpolate(tg.ones(1, 1, 4, 4), scale_factor=factor)
