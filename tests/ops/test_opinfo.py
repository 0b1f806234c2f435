"""PyTorch's own samples of each op (OpInfo): values, gradients and second derivatives are torch's.

For every name in NAMES the samples of torch.testing._internal run in float64 on both engines, of many samples
every n-th. The bad inputs that torch keeps for an op get an ordinary exception here too.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
import tinygen.nn.functional as F

torch = pytest.importorskip("torch")

NAMES = """
nn.functional.conv1d nn.functional.conv2d nn.functional.conv3d nn.functional.conv_transpose1d
nn.functional.conv_transpose2d nn.functional.conv_transpose3d nn.functional.unfold nn.functional.linear
nn.functional.bilinear nn.functional.max_pool1d nn.functional.max_pool2d nn.functional.max_pool3d
nn.functional.avg_pool1d nn.functional.avg_pool2d nn.functional.avg_pool3d nn.functional.adaptive_avg_pool1d
nn.functional.adaptive_avg_pool2d nn.functional.adaptive_max_pool1d nn.functional.adaptive_max_pool2d
nn.functional.batch_norm nn.functional.instance_norm nn.functional.layer_norm nn.functional.group_norm
nn.functional.rms_norm nn.functional.local_response_norm nn.functional.interpolate.nearest
nn.functional.interpolate.bilinear nn.functional.interpolate.bicubic nn.functional.interpolate.area
nn.functional.grid_sample nn.functional.pixel_shuffle nn.functional.pixel_unshuffle nn.functional.pad.constant
nn.functional.pad.reflect nn.functional.pad.replicate nn.functional.pad.circular nn.functional.softmin
nn.functional.softplus nn.functional.softsign nn.functional.relu nn.functional.leaky_relu nn.functional.elu
nn.functional.selu nn.functional.celu nn.functional.gelu nn.functional.silu nn.functional.mish nn.functional.glu
nn.functional.hardtanh nn.functional.hardsigmoid nn.functional.hardswish nn.functional.logsigmoid nn.functional.prelu
nn.functional.tanhshrink nn.functional.threshold nn.functional.normalize nn.functional.cosine_similarity
nn.functional.pairwise_distance nn.functional.cross_entropy nn.functional.nll_loss nn.functional.binary_cross_entropy
nn.functional.binary_cross_entropy_with_logits nn.functional.mse_loss nn.functional.l1_loss
nn.functional.smooth_l1_loss nn.functional.huber_loss nn.functional.kl_div nn.functional.gaussian_nll_loss
nn.functional.poisson_nll_loss nn.functional.hinge_embedding_loss nn.functional.triplet_margin_loss
nn.functional.cosine_embedding_loss nn.functional.embedding nn.functional.scaled_dot_product_attention
add sub mul div.no_rounding_mode pow maximum minimum exp log sqrt abs neg sin cos tanh sigmoid erf clamp where matmul
bmm mm addmm einsum sum mean var std amax amin prod logsumexp softmax log_softmax cumsum sort topk gather scatter
scatter_add index_select masked_fill reshape view transpose permute squeeze unsqueeze expand cat stack split flip roll
tile repeat tril triu __getitem__ norm linalg.norm
""".split()
ABSENT = {f"nn.functional.{n}" for n in ("conv3d", "conv_transpose3d", "max_pool3d", "avg_pool3d")}
REARRANGED = {  # where torch's table calls an op by another order of arguments
    "nn.functional.embedding": lambda weight, index, **o: F.embedding(index, weight, **o),
    "where": lambda input, condition, other: tg.where(condition, input, other),
    "einsum": lambda tensors, equation: tg.einsum(equation, *tensors),
    "__getitem__": lambda x, index: x[index],
    "linalg.norm": tg.linalg.norm,
}  # fmt: skip
WIDER = {  # bad inputs of torch that are good ones here: (name, words of torch's error, how many)
    ("maximum", "", 2),  # a number is a constant, in every op
    ("minimum", "", 2),
    ("mean", "Input dtype must be either a floating point", 1),  # of integers: float32
}  # fmt: skip
MOST = 300  # samples of one op
ORDINARY = (ValueError, TypeError, IndexError, RuntimeError)  # NotImplementedError is a RuntimeError


@pytest.fixture(scope="module")
def table():
    """torch's OpInfo of each name."""
    from torch.testing._internal.common_methods_invocations import op_db

    full = {f"{o.name}.{o.variant_test_name}" if o.variant_test_name else o.name: o for o in op_db}
    return {name: full[name] for name in NAMES}


def ours(name):
    """tinygen's function of that name."""
    if name in REARRANGED:
        return REARRANGED[name]
    parts = name.split(".")
    return getattr(F, parts[2]) if name.startswith("nn.functional") else getattr(tg, parts[0])


def mapped(value, function):
    """Arguments with `function` applied to everything in their lists, tuples and dictionaries."""
    if isinstance(value, dict):
        return {k: mapped(v, function) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)([mapped(v, function) for v in value])
    return function(value)


def fresh(value):
    """A leaf of its own, so that two uses of a sample do not meet."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    return value


def converted(value, pairs):
    """torch's argument as tinygen's; one that requires gradients joins `pairs`, beside its double."""
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch."))
    if not isinstance(value, torch.Tensor):
        return value
    mine = tg.tensor(value.detach().numpy().copy())
    if value.requires_grad:
        pairs.append((mine.requires_grad_(), value))
    return mine


def flat(result):
    return [t for r in result for t in flat(r)] if isinstance(result, list | tuple) else [result]


def same(what, got, expected):
    """Asserts equality to rounding; None is a gradient of zeros."""
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        if a is None and b is None:
            continue
        a = np.zeros(tuple(b.shape)) if a is None else a.detach().numpy()
        b = np.zeros(a.shape) if b is None else b.detach().numpy(force=True)
        assert a.shape == b.shape and a.dtype == b.dtype, f"{what} {i}: {a.shape} {a.dtype}, {b.shape} {b.dtype}"
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9, err_msg=f"{what} {i}")


def gradients(outputs, inputs, second):
    """(ours, torch's) gradients of outputs weighted at random, and the weights; all are lists of pairs."""
    rng = np.random.default_rng(len(outputs))
    weights = [rng.standard_normal(tuple(b.shape)) for _, b in outputs]
    weights = [(tg.tensor(w).requires_grad_(second), torch.tensor(w, requires_grad=second)) for w in weights]
    (mine, theirs), (g, h) = zip(*inputs), zip(*weights)
    expected = torch.autograd.grad([b for _, b in outputs], theirs, h, create_graph=second, allow_unused=True)
    used = [(a, w) for (a, _), w in zip(outputs, g) if a is not None and a.requires_grad]
    got = [None] * len(mine)
    if used:
        ends, seeds = zip(*used)
        got = tg.grad(ends, mine, seeds, second, allow_unused=True)
    return got, expected, weights


def check(op, name, sample):
    """Asserts that values, gradients and second derivatives of one sample are torch's."""
    inputs: list = []
    arguments = mapped((sample.input, sample.args, sample.kwargs), fresh)
    x, args, kwargs = mapped(arguments, lambda v: converted(v, inputs))
    got = flat(ours(name)(x, *args, **kwargs))
    expected = flat(op.op(arguments[0], *arguments[1], **arguments[2]))
    if kwargs.get("dropout_p"):  # other random numbers
        assert [y.shape for y in got] == [tuple(r.shape) for r in expected]
        return
    same("result", got, expected)
    outputs = [(a, b) for a, b in zip(got, expected) if b.requires_grad]
    if not inputs or not outputs:
        return
    got, expected, weights = gradients(outputs, inputs, op.supports_gradgrad)
    same("gradient", got, expected)
    outputs = [(a, b) for a, b in zip(got, expected) if b is not None and b.requires_grad]
    if op.supports_gradgrad and outputs:
        got, expected, _ = gradients(outputs, [*inputs, *weights], False)
        if not any(b.numel() for _, b in outputs):  # over nothing torch has 0 * inf at times
            expected = [b if b is None else b.nan_to_num(0) for b in expected]
        same("second derivative", got, expected)


def samples(op):
    torch.manual_seed(0)
    every = list(op.sample_inputs("cpu", torch.float64, requires_grad=op.supports_autograd))
    return every[:: -(-len(every) // MOST)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ABSENT])
def test_samples_are_torchs(name, table):
    tried = 0
    for i, sample in enumerate(samples(table[name])):
        volumes = isinstance(sample.input, torch.Tensor) and sample.input.ndim == 5
        try:
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the one with second derivatives
                check(table[name], name, sample)
            tried += 1
        except NotImplementedError:
            assert volumes, f"sample {i}: {sample}"
        except Exception as error:
            raise AssertionError(f"sample {i} of {name}, {sample}: {error}") from error
    assert tried


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ABSENT])
def test_bad_inputs_get_an_ordinary_exception(name, table):
    wider = {n: (words, count) for n, words, count in WIDER}.get(name)
    taken = 0
    for error in table[name].error_inputs("cpu") if table[name].error_inputs_func else ():
        sample = error.sample_input
        try:
            x, args, kwargs = mapped((sample.input, sample.args, sample.kwargs), lambda v: converted(v, []))
            ours(name)(x, *args, **kwargs)
        except ORDINARY:
            continue
        taken += 1
        assert wider and wider[0] in error.error_regex, f"{name} takes {sample}; torch: {error.error_regex}"
    assert taken == (wider[1] if wider else 0)


def test_what_is_absent_is_absent():
    assert not [name for name in ABSENT if hasattr(F, name.split(".")[2])]
    assert len(NAMES) == len(set(NAMES)) == 135 and len(ABSENT) <= 4
