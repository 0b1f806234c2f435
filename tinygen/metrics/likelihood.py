"""Likelihoods that can be compared: bits per dimension, and the importance-sampled log-likelihood of a latent model.

    -log p(x) ~ -log 1/k sum over i of w_i,  w_i = p(x | z_i) p(z_i) / q(z_i | x),  z_i drawn from q

The mean of log 1/k sum w is a lower bound of log p(x) that rises with k: the ELBO at k = 1, log p(x) in the limit
(Burda et al. 2016). So report k beside it. Weights arrive as logarithms; sums take the largest out first.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["bits_per_dim", "importance_sampled_nll", "k_sample_bound"]


def bits_per_dim(nats: float, dims: int) -> float:
    """nats / (dims log 2): a negative log-likelihood of `dims` values (C H W of an image), in bits per value.

    The density must be one of integers 0..255; for pixels x/256 add log 256 first, as 8 bits per dimension.
    """
    if dims < 1:
        raise ValueError(f"bits_per_dim: dims = {dims}; it is the number of values of an image, C x H x W")
    return float(nats) / (dims * math.log(2))


def importance_sampled_nll(log_weights: np.ndarray) -> float:
    """Mean over images of -log 1/k sum_i w_i, in nats, from log w (k, N) for k draws of z and N images."""
    return -k_sample_bound(log_weights, len(log_weights))


def k_sample_bound(log_weights: np.ndarray, k: int) -> float:
    """Mean of log 1/k sum of k weights, in nats, over N images and K/k groups of draws, from log w (K, N).

    Raises ValueError unless k divides K. Burda et al. 2016.
    """
    log_weights = np.asarray(log_weights, np.float64)
    if log_weights.ndim != 2 or log_weights.size == 0:
        raise ValueError(f"log weights are {log_weights.shape}; expected (K, N): K draws of z for each of N images")
    draws, images = log_weights.shape
    if k < 1 or draws % k:
        raise ValueError(f"k_sample_bound: k = {k} must divide the {draws} draws, so that every draw is used once")
    groups = log_weights.reshape(draws // k, k, images)
    largest = groups.max(1, keepdims=True)
    largest[np.isneginf(largest)] = 0.0  # all weights are 0: the logarithm is -inf, not NaN
    with np.errstate(divide="ignore"):
        logs = np.log(np.exp(groups - largest).mean(1)) + largest[:, 0]
    return float(logs.mean())
