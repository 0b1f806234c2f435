"""Retrieval: does the nearest neighbour of an embedding belong to its class? By brute force, in blocks of queries.

    P@1   = share of queries whose nearest other point has their class
    R@k   = share of queries with one of their class among the k nearest
    MAP@R = mean over queries of 1/R sum over i <= R of [i-th is right] (right among the first i) / i

R is the number of other points of the query's class (Musgrave et al. 2020). Distances are Euclidean: normalise first
for the cosine. Every point is a query against all others. A class of one point has nothing to find: it is no query.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["map_at_r", "precision_at_1", "recall_at_k"]

BLOCK = 500


def precision_at_1(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """P@1 of embeddings (N, D) with integer labels (N,). Raises ValueError where no class has two points."""
    return recall_at_k(embeddings, labels, 1)


def recall_at_k(embeddings: np.ndarray, labels: np.ndarray, k: int) -> float:
    """R@k of embeddings (N, D) with integer labels (N,): the share of queries with a hit among the k nearest.

    Raises ValueError unless 1 <= k < N, or where no class has two points.
    """
    if not 1 <= k < len(embeddings):
        raise ValueError(f"recall_at_k: k = {k} for {len(embeddings)} points; it must be at least 1 and below that")
    return float(np.mean([hits.any() for hits, _ in _queries(embeddings, labels, k)]))


def map_at_r(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """MAP@R of embeddings (N, D) with integer labels (N,); 1 where each class is nearer to itself than to others.

    Raises ValueError where no class has two points. Musgrave et al. 2020.
    """
    k = int(np.bincount(np.unique(labels, return_inverse=True)[1]).max()) - 1
    found = []
    for hits, r in _queries(embeddings, labels, k):
        first = hits[:r]
        precision = np.cumsum(first) / np.arange(1, r + 1)
        found.append((first * precision).sum() / r)
    return float(np.mean(found))


def _queries(embeddings: np.ndarray, labels: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, int]]:
    """(Is the i-th nearest of its class? (k,), R) for every query. Ties have no fixed order."""
    embeddings = np.asarray(embeddings, np.float64)
    if embeddings.ndim != 2 or np.shape(labels) != embeddings.shape[:1]:
        raise ValueError(f"embeddings {embeddings.shape} and labels {np.shape(labels)}; expected (N, D) and (N,)")
    _, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if sizes.max() < 2:
        raise ValueError(f"{len(labels)} points of {len(sizes)} classes: no class has two, so nothing can be retrieved")
    embeddings = embeddings - embeddings.mean(0)  # |x|^2 - 2xy + |y|^2 loses digits far from the origin
    norms = (embeddings**2).sum(1)
    for start in range(0, len(embeddings), BLOCK):
        block = embeddings[start : start + BLOCK]
        rows = np.arange(len(block))
        squared = norms - 2 * block @ embeddings.T  # |x|^2 is the same along a row
        squared[rows, start + rows] = np.inf
        nearest = np.argpartition(squared, k - 1)[:, :k]
        order = np.take_along_axis(squared, nearest, 1).argsort(1)
        nearest = np.take_along_axis(nearest, order, 1)
        own = labels[start : start + BLOCK]
        for row in np.flatnonzero(sizes[own] > 1):
            yield labels[nearest[row]] == own[row], int(sizes[own[row]]) - 1
