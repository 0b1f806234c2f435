"""The kernel table in plain NumPy: the oracle of every test, and the backend where no compiler was.

Each function is its formula and nothing else: no blocking, no threads, no fusing. Given float64 it is as exact as
float64 is; given float32 it stays float32. Read this file to learn what a kernel computes, and csrc/ to learn how it
does so fast.

    from tinygen.backends import reference as k
    k.softmax(numpy.zeros((1, 4)))            # array([[0.25, 0.25, 0.25, 0.25]])
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .geometry import Geometry, Pieces, Shape, Taps

Array = np.ndarray

name = "reference"
xp = np


def set_num_threads(n: int) -> None:
    """Limits the threads of NumPy's BLAS to `n`, where threadpoolctl is installed; all else here runs on one thread."""
    if n < 1:
        raise ValueError(f"set_num_threads: expected at least 1 thread, got {n}")
    try:
        import threadpoolctl
    except ImportError:
        return
    threadpoolctl.threadpool_limits(n, user_api="blas")


def get_num_threads() -> int:
    """The number of threads of NumPy's BLAS; 1 where threadpoolctl is not there to tell."""
    try:
        import threadpoolctl
    except ImportError:
        return 1
    pools = threadpoolctl.threadpool_info()
    return max((pool["num_threads"] for pool in pools if pool["user_api"] == "blas"), default=1)


def set_winograd(enabled: bool) -> None:
    """Nothing: the oracle computes by definition."""


def get_winograd() -> bool:
    return False


# ---------------------------------------------------------------- convolution: one loop over taps, three contractions


def _span(x_size: int, y_size: int, stride: int, offset: int) -> tuple[slice, slice] | None:
    """Where a tap touches, in y and in x: all p with 0 <= stride * p + offset < x_size; None if there is no such p."""
    first = max(0, -(offset // stride))
    end = min(y_size, (x_size - 1 - offset) // stride + 1)
    if end <= first:
        return None
    return slice(first, end), slice(stride * first + offset, stride * (end - 1) + offset + 1, stride)


def _taps(geo: Geometry) -> Iterator[tuple[int, int, tuple[Any, ...], tuple[Any, ...]]]:
    """For each kernel tap (i, j) that touches the input: i, j, where in y, where in x."""
    for i, j in itertools.product(range(geo.w_shape[2]), range(geo.w_shape[3])):
        rows = _span(geo.x_shape[2], geo.y_shape[2], geo.stride[0], geo.dilation[0] * i - geo.pad[0])
        cols = _span(geo.x_shape[3], geo.y_shape[3], geo.stride[1], geo.dilation[1] * j - geo.pad[1])
        if rows and cols:
            yield i, j, (..., rows[0], cols[0]), (..., rows[1], cols[1])


def _by_group(a: Array, groups: int) -> Array:
    """An activation (N, C, H, W) as a view (N, groups, C / groups, H, W)."""
    return a.reshape(a.shape[0], groups, a.shape[1] // groups, *a.shape[2:])


def _columns(a: Array) -> Array:
    """(..., H, W) as (..., H * W), also where a size is 0."""
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def _finished(y: Array, bias: Array | None, slope: float) -> Array:
    y = y if bias is None else y + bias[:, None, None]
    return y if slope == 1 else leaky_relu(y, slope)


def conv(x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
    """y[n,k,p] = bias[k] + sum over c, t of x[n, c, stride * p + dilation * t - pad] w[k,c,t], per group."""
    y = np.zeros(geo.y_shape, x.dtype)
    x_view, y_view = _by_group(x, geo.groups), _by_group(y, geo.groups)
    w_view = w.reshape(geo.groups, geo.w_shape[0] // geo.groups, *geo.w_shape[1:])
    for i, j, at_y, at_x in _taps(geo):
        y_view[at_y] += (w_view[..., i, j] @ _columns(x_view[at_x])).reshape(y_view[at_y].shape)
    return _finished(y, bias, slope)


def conv_transpose(y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
    """x[n, c, stride * p + dilation * t - pad] = bias[c] + sum over k, p, t of y[n,k,p] w[k,c,t]: conv's adjoint."""
    x = np.zeros(geo.x_shape, y.dtype)
    x_view, y_view = _by_group(x, geo.groups), _by_group(y, geo.groups)
    w_view = w.reshape(geo.groups, geo.w_shape[0] // geo.groups, *geo.w_shape[1:])
    for i, j, at_y, at_x in _taps(geo):
        x_view[at_x] += (w_view[..., i, j].swapaxes(1, 2) @ _columns(y_view[at_y])).reshape(x_view[at_x].shape)
    return _finished(x, bias, slope)


def conv_weight(x: Array, y: Array, geo: Geometry) -> Array:
    """w[k,c,t] = sum over n, p of x[n, c, stride * p + dilation * t - pad] y[n,k,p]: conv's gradient by its weight."""
    w = np.zeros(geo.w_shape, x.dtype)
    x_view, y_view = _by_group(x, geo.groups), _by_group(y, geo.groups)
    w_view = w.reshape(geo.groups, geo.w_shape[0] // geo.groups, *geo.w_shape[1:])
    for i, j, at_y, at_x in _taps(geo):
        w_view[..., i, j] = (_columns(y_view[at_y]) @ _columns(x_view[at_x]).swapaxes(2, 3)).sum(0)
    return w


def conv_moments(
    x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
) -> tuple[Array, Array | None]:
    """conv, and no sums: channel_norm makes its own."""
    return conv(x, w, geo, bias, slope), None


def conv_transpose_moments(
    y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
) -> tuple[Array, Array | None]:
    """conv_transpose, and no sums."""
    return conv_transpose(y, w, geo, bias, slope), None


# ---------------------------------------------------------------- planes


def _resample_axis(x: Array, taps: Taps, axis: int) -> Array:
    shape = list(x.shape)
    shape[axis] = taps.index.shape[0]
    y = np.zeros(shape, x.dtype)
    along = [1] * x.ndim
    along[axis] = -1
    for t in range(taps.index.shape[1]):
        weight = taps.weight[:, t].astype(x.dtype).reshape(along)
        # A tap that is not used must not turn an infinity into NaN, so it is left out and not multiplied by 0.
        np.add(y, weight * x.take(taps.index[:, t], axis), out=y, where=np.broadcast_to(weight != 0, y.shape))
    return y


def resample(x: Array, rows: Taps, cols: Taps) -> Array:
    """y[n,c,p,q] = sum over t, u of rows.weight[p,t] cols.weight[q,u] x[n, c, rows.index[p,t], cols.index[q,u]]."""
    with np.errstate(invalid="ignore"):
        return _resample_axis(_resample_axis(x, rows, 2), cols, 3)


def max_pool(x: Array, rows: Taps, cols: Taps) -> tuple[Array, Array]:
    """(values, winners): the maximum over the taps of each output, and where it was (h * W + w, int64).

    The first maximum in row-major order of the taps wins, NaN wins over all; an output with no tap inside is -inf.
    """
    n, c, _, width = x.shape
    shape = (n, c, rows.index.shape[0], cols.index.shape[0])
    values, winners = np.full(shape, -np.inf, x.dtype), np.full(shape, -1, np.int64)
    for t, u in itertools.product(range(rows.index.shape[1]), range(cols.index.shape[1])):
        h, w = rows.index[:, t][:, None], cols.index[:, u]
        inside = (h >= 0) & (w >= 0)
        if not inside.any():
            continue
        value = x[:, :, np.maximum(h, 0), np.maximum(w, 0)]
        better = inside & ((value > values) | (winners < 0) | (np.isnan(value) & ~np.isnan(values)))
        np.copyto(values, value, where=better)
        np.copyto(winners, h * width + w, where=better)
    return values, np.maximum(winners, 0)


def take_plane(x: Array, index: Array) -> Array:
    """y[n,c,p,q] = x[n,c].flat[index[n,c,p,q]]."""
    return np.take_along_axis(_columns(x), _columns(index), 2).reshape(index.shape)


def put_plane(y: Array, index: Array, size: tuple[int, int]) -> Array:
    """x (N, C, *size) with x[n,c].flat[index[n,c,p,q]] += y[n,c,p,q]: the adjoint of take_plane."""
    x = np.zeros((*y.shape[:2], *size), y.dtype)
    n, c = np.ogrid[: y.shape[0], : y.shape[1]]
    np.add.at(x.reshape(*y.shape[:2], size[0] * size[1]), (n[..., None], c[..., None], _columns(index)), _columns(y))
    return x


def scatter_add(values: Array, index: Array, length: int) -> Array:
    """out (length, *values.shape[1:]) with out[index[i]] += values[i]."""
    out = np.zeros((length, *values.shape[1:]), values.dtype)
    np.add.at(out, index, values)
    return out


def matmul(a: Array, b: Array) -> Array:
    """c[..., i, j] = sum over k of a[..., i, k] b[..., k, j]."""
    return np.matmul(a, b)


def linear(x: Array, w: Array, bias: Array | None = None, slope: float = 1.0) -> Array:
    """y[i, j] = sum over k of x[i, k] w[j, k] + bias[j], then leaky_relu with this slope (1: nothing, 0: ReLU)."""
    y = np.matmul(x, w.T)
    if bias is not None:
        y += bias
    return y if slope == 1 else leaky_relu(y, slope)


# ---------------------------------------------------------------- sums and losses


def sum(x: Array, axes: tuple[int, ...], scale: float = 1.0) -> Array:
    """scale * the sum of x over `axes`, added up in float64."""
    return np.asarray(scale * x.sum(axes, np.float64), x.dtype)


def squared_error(x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    """(scale * sum of (x - target)^2, scale * 2 (x - target))."""
    d = x - target
    return sum(np.atleast_1d(d * d).ravel(), (0,), scale), 2 * scale * d if slope else None


def bernoulli_loss(x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    """(scale * sum of bce_with_logits(x, target), scale * (sigmoid(x) - target))."""
    total = sum(np.atleast_1d(bce_with_logits(x, target)).ravel(), (0,), scale)
    return total, scale * (sigmoid(x) - target) if slope else None


def class_loss(x: Array, labels: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    """(-scale * sum over i of log_softmax(x)[i, labels[i]], scale * (softmax(x) - one_hot(labels)))."""
    rows = np.arange(len(x))
    total = sum(log_softmax(x)[rows, labels], (0,), -scale)
    if not slope:
        return total, None
    p = softmax(x)
    p[rows, labels] -= 1
    return total, scale * p


# ---------------------------------------------------------------- normalisation


def channel_norm(
    x: Array, weight: Array, bias: Array, eps: float, slope: float = 1.0, moments: Array | None = None
) -> tuple[Array, Array, Array]:
    """(y, mean, rstd) of x (N, C, S): y = (x - mean) * rstd * weight + bias, statistics per channel c over n and s.

    Behind it comes leaky_relu with this slope (1: nothing, 0: ReLU).
    """
    mean = x.mean((0, 2))
    centred = x - mean[:, None]
    rstd = 1 / np.sqrt((centred * centred).mean((0, 2)) + eps)
    y = centred * (rstd * weight)[:, None] + bias[:, None]
    return y if slope == 1 else leaky_relu(y, slope), mean, rstd


def channel_norm_backward(
    g: Array, x: Array, weight: Array, bias: Array, mean: Array, rstd: Array, slope: float = 1.0,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """(gx, gweight, gbias): with h = (x - mean) * rstd, gx = weight * rstd * (g - avg(g) - h * avg(g * h)).

    With a slope other than 1, g has first passed leaky_relu_backward at h * weight + bias.
    """
    h = (x - mean[:, None]) * rstd[:, None]
    if slope != 1:
        g = leaky_relu_backward(g, h * weight[:, None] + bias[:, None], slope)
    gweight, gbias = (g * h).sum((0, 2)), g.sum((0, 2))
    count = max(1, x.shape[0] * x.shape[2])
    gx = (g - (gbias[:, None] + h * gweight[:, None]) / count) * (weight * rstd)[:, None]
    return _into(out, gx), gweight, gbias


def row_norm(x: Array, eps: float) -> tuple[Array, Array]:
    """(y, rstd) of x (M, D): y = (x - mean) * rstd with statistics per row; rstd (M,)."""
    centred = x - x.mean(1, keepdims=True)
    rstd = 1 / np.sqrt((centred * centred).mean(1) + eps)
    return centred * rstd[:, None], rstd


def row_norm_backward(g: Array, y: Array, rstd: Array) -> Array:
    """gx = rstd * (g - avg(g) - y * avg(g * y)), averages per row."""
    return (g - g.mean(1, keepdims=True) - y * (g * y).mean(1, keepdims=True)) * rstd[:, None]


def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)) along the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x: Array) -> Array:
    """x - log(sum(exp(x))) along the last axis."""
    centred = x - x.max(-1, keepdims=True, initial=-np.inf)
    return centred - np.log(np.exp(centred).sum(-1, keepdims=True))


# ---------------------------------------------------------------- pointwise


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def sigmoid_backward(g: Array, out: Array) -> Array:
    """g * out * (1 - out)."""
    return g * out * (1 - out)


def tanh(x: Array) -> Array:
    """tanh(x)."""
    return np.tanh(x)


def tanh_backward(g: Array, out: Array) -> Array:
    """g * (1 - out^2)."""
    return g * (1 - out * out)


def leaky_relu(x: Array, slope: float, out: Array | None = None) -> Array:
    """x where x > 0, else slope * x; slope 0 gives 0 even at -inf. Written into `out` if that is given."""
    return _into(out, np.maximum(x, 0) if slope == 0 else np.where(x > 0, x, slope * x))


def leaky_relu_backward(g: Array, x: Array, slope: float, out: Array | None = None) -> Array:
    """g where x > 0, else slope * g (0 if slope is 0, whatever g is). Written into `out` if that is given."""
    return _into(out, np.where(x <= 0, np.zeros_like(g) if slope == 0 else slope * g, g))


def _into(out: Array | None, values: Array) -> Array:
    """`values`, in the memory of `out` if that is given."""
    if out is None:
        return values
    out[...] = values
    return out


def elu(x: Array, alpha: float, scale: float) -> Array:
    """scale * (x if x > 0 else alpha * expm1(x))."""
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_backward(g: Array, x: Array, alpha: float, scale: float) -> Array:
    """g * scale * (1 if x > 0 else alpha * exp(x))."""
    return g * (scale * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softplus_backward(g: Array, x: Array) -> Array:
    """g * sigmoid(x)."""
    return g * sigmoid(x)


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def silu_backward(g: Array, x: Array) -> Array:
    """g * s * (1 + x * (1 - s)), s = sigmoid(x)."""
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


# gelu's tanh approximation x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) is x * sigmoid(a x + b x^3):
_GELU_A = 2 * math.sqrt(2 / math.pi)
_GELU_B = 0.044715 * _GELU_A


def gelu(x: Array, tanh: bool) -> Array:
    """x * Phi(x), Phi the normal distribution function; with `tanh` its approximation x * sigmoid(a x + b x^3)."""
    if tanh:
        return x * sigmoid(_GELU_A * x + _GELU_B * x * x * x)
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def gelu_backward(g: Array, x: Array, tanh: bool) -> Array:
    """g * (Phi(x) + x * Phi'(x)), or the same of the tanh approximation."""
    if tanh:
        v = np.clip(x, -20, 20)  # constant beyond, while the cube of a large x overflows
        inner = _GELU_A * v + _GELU_B * v * v * v
        e = np.exp(-np.abs(inner))
        slope = e / ((1 + e) * (1 + e))  # sigmoid', without the cancellation of s * (1 - s)
        return g * (sigmoid(inner) + v * slope * (_GELU_A + 3 * _GELU_B * v * v))
    density = np.exp(-0.5 * x * x) * math.sqrt(0.5 / math.pi)
    return g * (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * density)


def erf(x: Array) -> Array:
    """2 / sqrt(pi) * integral from 0 to x of exp(-t^2) dt."""
    try:
        from scipy import special

        return special.erf(x)
    except ImportError:  # value by value
        return np.vectorize(math.erf, otypes=[x.dtype])(x)


def bce_with_logits(x: Array, target: Array) -> Array:
    """max(x, 0) - x * target + log1p(exp(-|x|)): -log of the probability that sigmoid(x) gives to `target`."""
    return np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))


def bce_with_logits_backward(g: Array, x: Array, target: Array) -> Array:
    """g * (sigmoid(x) - target)."""
    return g * (sigmoid(x) - target)


# ---------------------------------------------------------------- optimizer steps, in place


def sgd_step(
    p: Array, g: Pieces, buffer: Array | None, lr: Array, step: Array,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool,
) -> None:  # fmt: skip
    """p -= lr * d with d = g + weight_decay * p, or with momentum d = buffer = momentum * buffer + (1 - dampening) * d.

    The first step sets buffer = d (no dampening); nesterov looks ahead: d + momentum * buffer. (torch.optim.SGD)
    """
    d = g.joined(p)
    if weight_decay:
        d += weight_decay * p
    if buffer is not None:
        buffer[...] = d if int(step) == 1 else momentum * buffer + (1 - dampening) * d
        d = d + momentum * buffer if nesterov else buffer
    p -= float(lr) * d


def adam_step(
    p: Array, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
    beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    """Running means m of g and v of g^2; p -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Weight decay is added to the gradient (Adam) or, decoupled, shrinks p by 1 - lr * weight_decay (AdamW).
    """
    rate, t, d = float(lr), int(step), g.joined(p)
    if weight_decay and decoupled:
        p *= 1 - rate * weight_decay
    elif weight_decay:
        d += weight_decay * p
    m += (1 - beta1) * (d - m)
    v *= beta2
    v += (1 - beta2) * (d * d)
    p -= (rate / (1 - beta1**t)) * m / (np.sqrt(v) / math.sqrt(1 - beta2**t) + eps)


def rmsprop_step(
    p: Array, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
    alpha: float, eps: float, weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    """p -= lr * d with d = g / (sqrt(v) + eps), v the running mean of g^2.

    With `mean`, the running mean of g, its square is taken off v (centred); with `buffer`, d gathers there:
    buffer = momentum * buffer + d.
    (torch.optim.RMSprop)
    """
    d = g.joined(p)
    if weight_decay:
        d += weight_decay * p
    v *= alpha
    v += (1 - alpha) * (d * d)
    variance = v
    if mean is not None:
        mean += (1 - alpha) * (d - mean)
        variance = v - mean * mean
    d /= np.sqrt(variance) + eps
    if buffer is not None:
        buffer *= momentum
        buffer += d
        d = buffer
    p -= float(lr) * d


# ---------------------------------------------------------------- random numbers (Salmon et al. 2011, Philox4x32-10)

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def _philox(key: tuple[int, int], counter: list[Array]) -> list[Array]:
    """The four output words of Philox4x32-10 for counters given as four uint64 arrays that hold 32-bit values."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high, low = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1 = (low >> _SHIFT) ^ c1 ^ np.uint64(k0), low & _LOW
        c2, c3 = (high >> _SHIFT) ^ c3 ^ np.uint64(k1), high & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def random_bits(seed: int, stream: int, offset: int, count: int) -> Array:
    """`count` 32-bit words from block `offset` on, four to a block; any part of the sequence costs only itself."""
    block = np.arange((count + 3) // 4, dtype=np.uint64) + np.uint64(offset)
    counter = [block & _LOW, block >> _SHIFT, np.full_like(block, stream), np.zeros_like(block)]
    words = _philox((seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF), counter)
    return np.stack(words, 1).astype(np.uint32).reshape(-1)[:count].copy()


def random_uniform(seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    """Uniform numbers in [0, 1): one word makes a float32 with 24 random bits, two make a float64 with 53."""
    count = math.prod(shape)
    if np.dtype(dtype) == np.float32:
        bits = random_bits(seed, stream, offset, count) >> 8
        return bits.astype(np.float32).reshape(shape) * np.float32(2.0**-24)
    words = random_bits(seed, stream, offset, 2 * count).astype(np.float64)
    high, low = np.floor(words[0::2] / 32), np.floor(words[1::2] / 64)
    return ((high * 2.0**26 + low) * 2.0**-53).reshape(shape)


def random_normal(seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    """Standard normal numbers by Box-Muller from pairs of uniforms of one dtype; computed in float64, then rounded.

    The angle is a fraction v of a turn: quarter turns are split off exactly, so cos(2 pi / 4) is 0 on every backend.
    """
    count = math.prod(shape)
    u, v = random_uniform(seed, stream, offset, ((count + 1) // 2, 2), dtype).astype(np.float64).T
    radius = np.sqrt(-2 * np.log1p(-u))
    quarter = np.rint(4 * v)
    angle = 2 * np.pi * (v - quarter / 4)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = quarter.astype(np.int64) % 4
    pairs = np.stack([np.choose(turn, (cos, -sin, -cos, sin)), np.choose(turn, (sin, cos, -sin, -cos))], 1)
    return (radius[:, None] * pairs).reshape(-1)[:count].astype(dtype).reshape(shape)
