"""Losses that are one sum over a batch, with its derivative.

Absent: means and variances, which ops compose of sums; softmax is in normalization.py.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from ..arrays import check_floats, check_inside, check_labels, check_shape
from .adding import sum
from .normalization import log_softmax, softmax
from .pointwise import bce_with_logits, sigmoid


def squared_error(x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    """(scale * sum of (x - target)^2, scale * 2 (x - target))."""
    check_shape("squared_error", "target", target, x.shape)
    check_floats("squared_error", x, target)
    d = x - target
    return sum(np.atleast_1d(d * d).ravel(), (0,), scale), 2 * scale * d if slope else None


def bernoulli_loss(x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    """(scale * sum of bce_with_logits(x, target), scale * (sigmoid(x) - target))."""
    check_shape("bernoulli_loss", "target", target, x.shape)
    check_floats("bernoulli_loss", x, target)
    total = sum(np.atleast_1d(bce_with_logits(x, target)).ravel(), (0,), scale)
    return total, scale * (sigmoid(x) - target) if slope else None


def class_loss(x: Array, labels: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    """(-scale * sum over i of log_softmax(x)[i, labels[i]], scale * (softmax(x) - one_hot(labels)))."""
    check_labels(x, labels)
    check_floats("class_loss", x)
    check_inside("class_loss", labels, x.shape[1])
    rows = np.arange(len(x))
    total = sum(log_softmax(x)[rows, labels], (0,), -scale)
    if not slope:
        return total, None
    p = softmax(x)
    p[rows, labels] -= 1
    return total, scale * p
