"""Layers, losses and slopes written out in NumPy and float64: what networks and Steps are held to.

    w = by_hand.arrays(network)                  # the parameters in their order, float64
    by_hand.linear(x, w[0], w[1])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import tinygen as tg

SIZES = [(8, 8), (9, 9), (8, 11), (10, 9), (11, 11), (12, 15), (13, 8), (14, 14), (15, 15), (16, 17), (17, 16),
         (19, 23), (20, 20), (21, 9), (22, 27), (25, 25), (27, 28), (28, 28), (29, 31), (33, 32)]  # fmt: skip


def arrays(*modules) -> list[np.ndarray]:
    """Copies of the parameters of modules, in their order."""
    return [p.detach().numpy().astype(np.float64) for module in modules for p in module.parameters()]


def gradients(*modules) -> list[np.ndarray]:
    """Copies of the gradients that an update left behind."""
    return [p.grad.numpy().astype(np.float64) for module in modules for p in module.parameters()]


def leave_gradients(*modules) -> None:
    """Gives every parameter a gradient, as an earlier update leaves it: the next one has to forget it."""
    for module in modules:
        for p in module.parameters():
            p.grad = tg.full(p.shape, 7.0)


def stir(*modules, size: float = 0.4) -> None:
    """Draws every parameter anew, so that no scale is 1 and no bias 0 where a formula could forget it."""
    for module in modules:
        for p in module.parameters():
            p.data.normal_(0.0, size)


def slope(objective: Callable, weights: Sequence[np.ndarray], direction: Sequence[np.ndarray], h=1e-5) -> float:
    """The derivative of objective(weights) along a direction, by central differences."""
    ahead, back = ([w + s * h * d for w, d in zip(weights, direction)] for s in (1, -1))
    return (objective(ahead) - objective(back)) / (2 * h)


def same_slopes(objective: Callable, weights: Sequence, found: Sequence, seed: int = 0, rel: float = 2e-3) -> bool:
    """Whether `found` are the objective's gradients, along one random direction for each array and one for all."""
    draw = np.random.default_rng(seed)
    whole = [draw.normal(size=w.shape) for w in weights]
    ways = [[d if i == k else 0 * d for i, d in enumerate(whole)] for k in range(len(whole))]
    size = np.sqrt(sum((g**2).sum() for g in found))
    for way in [whole, *ways]:
        expected, got = slope(objective, weights, way), sum((g * d).sum() for g, d in zip(found, way))
        assert abs(got - expected) <= rel * (abs(expected) + 0.01 * size), (got, expected)
    return True


def relu(x):
    return np.maximum(x, 0)


def leaky(x, leak=0.2):
    return np.where(x > 0, x, leak * x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


def linear(x, w, b=0.0):
    """y_no = sum_i x_ni w_oi + b_o."""
    return np.einsum("ni,oi->no", x, w) + b


def conv(x, w, b=0.0, stride=1, padding=0):
    """y_nkij = sum_cab x[n, c, s i + a - p, s j + b - p] w_kcab + b_k."""
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    kernel = w.shape[2]
    h, v = ((side - kernel) // stride + 1 for side in x.shape[2:])
    y = np.zeros((len(x), len(w), h, v))
    for i in range(h):
        for j in range(v):
            window = x[:, :, stride * i : stride * i + kernel, stride * j : stride * j + kernel]
            y[:, :, i, j] = np.einsum("ncab,kcab->nk", window, w)
    return y + np.reshape(b, (1, -1, 1, 1))


def conv_transpose(x, w, size, b=0.0, stride=2, padding=1):
    """y[n, c, s i + a - p, s j + b - p] += x_nkij w_kcab, of the size (height, width) asked for."""
    n, _, h, v = x.shape
    kernel = w.shape[2]
    y = np.zeros((n, w.shape[1], size[0] + 2 * padding + stride, size[1] + 2 * padding + stride))
    for i in range(h):
        for j in range(v):
            rows = slice(stride * i, stride * i + kernel)
            columns = slice(stride * j, stride * j + kernel)
            y[:, :, rows, columns] += np.einsum("nk,kcab->ncab", x[:, :, i, j], w)
    return y[:, :, padding : padding + size[0], padding : padding + size[1]] + np.reshape(b, (1, -1, 1, 1))


def batch_norm(x, scale, shift, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * scale + shift, mean and variance over all axes but the second."""
    axes = tuple(i for i in range(x.ndim) if i != 1)
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * scale.reshape(shape) + shift.reshape(shape)


def max_pool(x):
    """The largest of each 2x2 square; an odd last row or column is left out."""
    h, v = x.shape[2] // 2, x.shape[3] // 2
    y = np.empty((*x.shape[:2], h, v))
    for i in range(h):
        for j in range(v):
            y[:, :, i, j] = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((2, 3))
    return y


def mirrored(x, pixels):
    """x with so many pixels more at each border, in the order in which a mirror at the border pixel shows them."""
    beyond = lambda side: [*range(pixels, 0, -1), *range(side), *range(side - 2, side - 2 - pixels, -1)]
    return x[:, :, beyond(x.shape[2])][:, :, :, beyond(x.shape[3])]


def instance_norm(x, eps=1e-5):
    """(x - mean) / sqrt(var + eps), mean and variance of each plane of each image."""
    return (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + eps)


def shuffled(x, r=2):
    """y[n, c, r i + a, r j + b] = x[n, r r c + r a + b, i, j]."""
    n, planes, h, v = x.shape
    y = np.empty((n, planes // r**2, r * h, r * v))
    for c, a, b in np.ndindex(planes // r**2, r, r):
        y[:, c, a::r, b::r] = x[:, r * r * c + r * a + b]
    return y


def support(network, side, place, channels=1):
    """Which pixels of an image the outputs at (place, place) depend on, by their slope: (side, side), True or False."""
    values = 0.5 + 0.5 * np.random.default_rng(0).random((1, channels, side, side))
    x = tg.tensor(values.astype(np.float32), requires_grad=True)
    network(x)[:, :, place, place].sum().backward()
    return (x.grad.numpy()[0] != 0).any(0)


def open_paths(*modules):
    """Draws positive parameters, so that no ReLU is shut and no two paths cancel."""
    for module in modules:
        for p in module.parameters():
            p.data.uniform_(0.01, 0.03)


def farthest(network, channels=1):
    """How many pixels of its input a network looks to each side: (up, down, left, right)."""
    looks = np.zeros(4, int)
    centre = network.multiple * (40 // network.multiple)
    for place in range(network.scale * centre, network.scale * (centre + network.multiple)):
        seen, here = support(network, 2 * centre, place, channels), place // network.scale
        rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
        looks = np.maximum(looks, [here - rows[0], rows[-1] - here, here - columns[0], columns[-1] - here])
    return looks.tolist()


def mlp(x, weights):
    """Linear layers with ReLU between them; `weights`: weight, bias, weight, bias, ..."""
    x = x.reshape(len(x), -1)
    for k in range(0, len(weights), 2):
        x = linear(x if k == 0 else relu(x), weights[k], weights[k + 1])
    return x


def kl(mean, log_variance):
    """KL(N(mean, e^log_variance) || N(0, I)) of each row."""
    return 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(1)


def images(n=16, shape=(1, 8, 8), seed=0):
    """(images in [0, 1], labels 0 to 9) as tensors."""
    draw = np.random.default_rng(seed)
    return tg.tensor(draw.random((n, *shape), np.float32)), tg.tensor(draw.integers(0, 10, n))


def state(module):
    """Copies of everything that a module saves, buffers too."""
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def learned(module):
    """Copies of the parameters by name."""
    return {name: p.detach().numpy().copy() for name, p in module.named_parameters()}


def same(a, b):
    """Whether two dictionaries of arrays are equal, bit for bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def all_moved(a, b):
    """Whether some value of every array differs."""
    return a.keys() == b.keys() and all((a[name] != b[name]).any() for name in a)
