"""NumPy's integers are integers, and NumPy's functions know tensors: axes, sizes and strides from arrays."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F

X, Y, S = tg.randn(2, 3, 4, 4), tg.randn(4, 6), tg.randn(2, 3, 8)
CALLS = {
    "sum": lambda i: X.sum(i(1)),
    "sum tuple": lambda i: X.sum((i(1), i(2))),
    "sum kw": lambda i: X.sum(dim=i(1)),
    "sum list": lambda i: X.sum([i(1), i(2)]),
    "mean": lambda i: X.mean(i(0)),
    "var": lambda i: X.var(i(0)),
    "std": lambda i: X.std(i(0)),
    "max": lambda i: X.max(i(1)),
    "min": lambda i: X.min(i(1)),
    "amax": lambda i: X.amax(i(1)),
    "argmax": lambda i: X.argmax(i(1)),
    "any": lambda i: (X > 0).any(i(1)),
    "all": lambda i: (X > 0).all(i(1)),
    "prod": lambda i: X.prod(i(1)),
    "norm": lambda i: X.norm(2, i(1)),
    "lse": lambda i: X.logsumexp(i(1)),
    "softmax": lambda i: X.softmax(i(1)),
    "Fsoftmax": lambda i: F.softmax(X, dim=i(1)),
    "cumsum": lambda i: X.cumsum(i(1)),
    "cumprod": lambda i: X.cumprod(i(1)),
    "reshape": lambda i: Y.reshape(i(6), i(4)),
    "reshape t": lambda i: Y.reshape((i(6), i(4))),
    "reshape a": lambda i: Y.reshape(tuple(np.array([6, 4]))),
    "reshape arr": lambda i: Y.reshape(np.array([6, 4])),
    "view": lambda i: Y.view(i(6), i(4)),
    "view arr": lambda i: Y.view(np.array([6, 4])),
    "transpose": lambda i: X.transpose(i(0), i(1)),
    "permute": lambda i: X.permute(i(0), i(2), i(1), i(3)),
    "permute l": lambda i: X.permute([i(0), i(2), i(1), i(3)]),
    "permute arr": lambda i: X.permute(np.array([0, 2, 1, 3])),
    "movedim": lambda i: X.movedim(i(0), i(1)),
    "movedim t": lambda i: X.movedim((i(0),), (i(1),)),
    "flatten": lambda i: X.flatten(i(1)),
    "unflatten": lambda i: Y.unflatten(i(1), (i(2), i(3))),
    "squeeze": lambda i: X[:1].squeeze(i(0)),
    "unsqueeze": lambda i: X.unsqueeze(i(1)),
    "expand": lambda i: X[:1].expand(i(5), i(3), i(4), i(4)),
    "broadcast_to": lambda i: X[:1].broadcast_to((i(5), i(3), i(4), i(4))),
    "repeat": lambda i: Y.repeat(i(2), i(1)),
    "tile": lambda i: Y.tile((i(2), i(1))),
    "ri": lambda i: Y.repeat_interleave(i(2), i(0)),
    "roll": lambda i: Y.roll(i(1), i(0)),
    "flip": lambda i: Y.flip(i(0)),
    "flip t": lambda i: Y.flip((i(0),)),
    "split": lambda i: Y.split(i(2), i(1)),
    "split l": lambda i: Y.split([i(2), i(4)], i(1)),
    "chunk": lambda i: Y.chunk(i(2), i(1)),
    "unbind": lambda i: Y.unbind(i(1)),
    "narrow": lambda i: Y.narrow(i(1), i(0), i(2)),
    "cat": lambda i: tg.cat([Y, Y], i(1)),
    "stack": lambda i: tg.stack([Y, Y], i(1)),
    "select": lambda i: Y.select(i(1), i(0)),
    "index_select": lambda i: Y.index_select(i(1), tg.tensor([0])),
    "gather": lambda i: Y.gather(i(1), tg.tensor([[0]])),
    "scatter": lambda i: Y.scatter(i(1), tg.tensor([[0]]), 1.0),
    "tld": lambda i: tg.take_along_dim(Y, tg.tensor([[0]]), i(1)),
    "getitem": lambda i: Y[i(1)],
    "getitem2": lambda i: Y[i(1), i(2)],
    "slice": lambda i: Y[i(0):i(2)],
    "sort": lambda i: Y.sort(i(1)),
    "argsort": lambda i: Y.argsort(i(1)),
    "topk": lambda i: Y.topk(i(2), i(1)),
    "tril": lambda i: Y.tril(i(1)),
    "diagonal": lambda i: X.diagonal(i(0), i(2), i(3)),
    "diag": lambda i: tg.diag(Y, i(1)),
    "zeros": lambda i: tg.zeros(i(2), i(3)),
    "zeros t": lambda i: tg.zeros((i(2), i(3))),
    "ones": lambda i: tg.ones(i(2)),
    "full": lambda i: tg.full((i(2),), 1.0),
    "full1": lambda i: tg.full(i(2), 1.0),
    "eye": lambda i: tg.eye(i(3)),
    "arange": lambda i: tg.arange(i(3)),
    "linspace": lambda i: tg.linspace(0, 1, i(3)),
    "rand": lambda i: tg.rand(i(2), i(3)),
    "randn": lambda i: tg.randn((i(2), i(3))),
    "randint": lambda i: tg.randint(i(0), i(3), (i(2),)),
    "randperm": lambda i: tg.randperm(i(4)),
    "manual_seed": lambda i: tg.manual_seed(i(4)),
    "zeros arr": lambda i: tg.zeros(np.array([2, 3])),
    "linear": lambda i: nn.Linear(i(4), i(3))(tg.ones(1, 4)),
    "conv2d": lambda i: nn.Conv2d(i(3), i(4), i(3), stride=i(1), padding=i(1), dilation=i(1), groups=i(1))(X),
    "conv2d t": lambda i: nn.Conv2d(3, 4, (i(3), i(3)), stride=(i(1), i(1)), padding=(i(1), i(1)))(X),
    "F.conv": lambda i: F.conv2d(X, tg.ones(4, 3, 3, 3), None, i(1), i(1), i(1), i(1)),
    "F.conv t": lambda i: F.conv2d(X, tg.ones(4, 3, 3, 3), None, (i(1), i(1)), (i(1), i(1))),
    "convT": lambda i: nn.ConvTranspose2d(i(3), i(4), i(3), stride=i(2), padding=i(1), output_padding=i(1))(X),
    "convT os": lambda i: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1)(X, output_size=(i(8), i(8))),
    "conv1d": lambda i: nn.Conv1d(i(3), i(4), i(3), stride=i(2))(S),
    "maxpool": lambda i: F.max_pool2d(X, i(2), i(2), i(0)),
    "maxpool t": lambda i: F.max_pool2d(X, (i(2), i(2))),
    "avgpool": lambda i: F.avg_pool2d(X, i(2), i(2), i(0)),
    "avgpool1": lambda i: F.avg_pool1d(S, i(2)),
    "aap": lambda i: F.adaptive_avg_pool2d(X, i(2)),
    "aap t": lambda i: F.adaptive_avg_pool2d(X, (i(2), i(2))),
    "amp": lambda i: F.adaptive_max_pool2d(X, i(2)),
    "MaxPool": lambda i: nn.MaxPool2d(i(2))(X),
    "AAP": lambda i: nn.AdaptiveAvgPool2d(i(1))(X),
    "unpool": lambda i: F.max_unpool2d(*F.max_pool2d(X, 2, return_indices=True), i(2)),
    "pad": lambda i: F.pad(X, (i(1), i(1))),
    "pad l": lambda i: F.pad(X, [i(1), i(1)]),
    "ZeroPad": lambda i: nn.ZeroPad2d(i(1))(X),
    "ReflectionPad": lambda i: nn.ReflectionPad2d(i(1))(X),
    "interp": lambda i: F.interpolate(X, i(8)),
    "interp t": lambda i: F.interpolate(X, (i(8), i(8))),
    "interp S": lambda i: F.interpolate(X, scale_factor=i(2)),
    "Upsample": lambda i: nn.Upsample(scale_factor=i(2))(X),
    "ps": lambda i: F.pixel_shuffle(tg.ones(1, 4, 2, 2), i(2)),
    "pus": lambda i: F.pixel_unshuffle(X, i(2)),
    "BN": lambda i: nn.BatchNorm2d(i(3))(X),
    "LN": lambda i: nn.LayerNorm(i(4))(X),
    "LN t": lambda i: nn.LayerNorm((i(4), i(4)))(X),
    "GN": lambda i: nn.GroupNorm(i(3), i(3))(X),
    "IN": lambda i: nn.InstanceNorm2d(i(3), affine=True)(X),
    "Fln": lambda i: F.layer_norm(X, (i(4),)),
    "Flni": lambda i: F.layer_norm(X, i(4)),
    "emb": lambda i: nn.Embedding(i(4), i(3))(tg.tensor([1])),
    "emb pad": lambda i: nn.Embedding(i(4), i(3), padding_idx=i(0))(tg.tensor([1])),
    "one_hot": lambda i: F.one_hot(tg.tensor([1]), i(3)),
    "Flatten": lambda i: nn.Flatten(i(1))(X),
    "Unflatten": lambda i: nn.Unflatten(i(1), (i(3), i(1)))(X),
    "Softmax": lambda i: nn.Softmax(dim=i(1))(X),
    "normalize": lambda i: F.normalize(X, dim=i(1)),
    "cos": lambda i: F.cosine_similarity(X, X, dim=i(1)),
    "gumbel": lambda i: F.gumbel_softmax(Y, dim=i(1)),
    "cross ign": lambda i: F.cross_entropy(Y, tg.tensor([0, 1, 2, 3]), ignore_index=i(0)),
    "size": lambda i: X.size(i(1)),
    "seq idx": lambda i: nn.Sequential(nn.ReLU())[i(0)],
    "StepLR": lambda i: optim.lr_scheduler.StepLR(optim.SGD([nn.Parameter(tg.ones(1))], lr=0.1), i(1)),
    "multinomial": lambda i: tg.multinomial(tg.ones(3), i(2)),
    "masked": lambda i: X.masked_fill(X > 0, i(2)),
    "clamp": lambda i: X.clamp(i(0), i(1)),
    "round": lambda i: tg.round(X, decimals=i(1)),
    "meshgrid": lambda i: tg.meshgrid(tg.arange(i(2)), tg.arange(i(2))),
    "round2": lambda i: X.round(decimals=i(2)),
    "ConvT groups": lambda i: nn.ConvTranspose2d(4, 4, 3, groups=i(2))(tg.ones(1, 4, 4, 4)),
    "pad same": lambda i: nn.Conv2d(3, 4, i(3), padding="same")(X),
    "var corr": lambda i: X.var(i(1), correction=i(1)),
}  # fmt: skip


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.array])
@pytest.mark.parametrize("name", CALLS)
def test_integers_of_numpy_do_what_python_s_do(name, kind):
    results = []
    for i in (int, kind):
        tg.manual_seed(0)
        y = CALLS[name](i)
        parts = [part for part in (y if isinstance(y, tuple) else (y,)) if isinstance(part, tg.Tensor)]
        results.append([np.asarray(part) for part in parts])
    for plain, numpy in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, numpy)
        assert plain.dtype == numpy.dtype


FUNCTIONS = {
    **{n: getattr(np, n) for n in "mean sum std var prod max min argmax argmin any all cumsum cumprod".split()},
    "mean axis": lambda a: np.mean(a, axis=0),
    "sum axes": lambda a: np.sum(a, axis=(0, 1), keepdims=True),
    "std ddof": lambda a: np.std(a, axis=1, ddof=1),
    "var axis": lambda a: np.var(a, 0),
    "cumsum axis": lambda a: np.cumsum(a, axis=1),
    "mean dtype": lambda a: np.mean(a, dtype=np.float64),
    "argmin axis": lambda a: np.argmin(a, axis=1),
    "linalg.norm": np.linalg.norm,
    "transpose": np.transpose,
    "squeeze": lambda a: np.squeeze(a[None]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpy_s_functions_take_tensors(name):
    f, x = FUNCTIONS[name], np.random.default_rng(0).standard_normal((3, 4))
    np.testing.assert_allclose(np.asarray(f(tg.tensor(x))), f(x), rtol=1e-12)


def test_numpy_s_names_serve_and_collide_with_words():
    x = tg.randn(3, 4)
    assert tg.sum(x, axis=1, keepdims=True).shape == (3, 1)
    assert x.max(axis=0).values.shape == (4,)
    with pytest.raises(TypeError, match="sum: axis and dim are one option"):
        x.sum(axis=1, dim=0)
    with pytest.raises(TypeError, match="out"):
        x.sum(out=np.zeros(()))
