"""How good a model is: measures that are defined here once, so that numbers can be compared.

    metrics.scores(samples, real)                      digits.py      frozen networks: C-FID, confidence, classes
    metrics.psnr(x, y)  metrics.ssim(x, y)             images.py      pairs of images
    metrics.auroc(scores, positive)                    ranking.py     anomalies
    metrics.precision_at_1(embeddings, labels)         neighbours.py  retrieval
    metrics.modes_covered(samples, centres, sd)        modes.py       mixtures of known modes
    metrics.mmd(features, features)                    discrepancy.py  maximum mean discrepancy
    metrics.bits_per_dim(nats, dims)                   likelihood.py  densities
    metrics.baselines.pca_mse(train, test, d)          baselines.py   what trivial models reach
    metrics.describe("cfid")                           names.py       title, unit and better direction of a name

Arrays in, Python floats out. Every figure of a set depends on its size: report n beside it.
"""

from __future__ import annotations

from . import baselines
from .digits import (
    CNN_FILE,
    DIGITS_FILE,
    class_histogram_kl,
    classes_covered,
    confident,
    features,
    frozen_weights,
    gan_test,
    mnist_features,
    mnist_scores,
    scorable,
    scores,
)
from .discrepancy import mmd
from .frechet import frechet_distance, frechet_from_features
from .images import nyquist_share, psnr, ssim
from .likelihood import bits_per_dim, importance_sampled_nll, k_sample_bound
from .manifold import precision_recall
from .modes import energy_distance, modes_covered, within_3_sigma
from .names import NAMES, Metric, UnknownMetric, describe
from .neighbours import map_at_r, precision_at_1, recall_at_k
from .ranking import auprc, auroc

__all__ = [
    "CNN_FILE", "DIGITS_FILE", "NAMES", "Metric", "UnknownMetric", "auprc", "auroc", "baselines", "bits_per_dim",
    "class_histogram_kl", "classes_covered", "confident", "describe", "energy_distance", "features",
    "frechet_distance", "frechet_from_features", "frozen_weights", "gan_test", "importance_sampled_nll",
    "k_sample_bound", "map_at_r", "mmd", "mnist_features", "mnist_scores", "modes_covered", "nyquist_share",
    "precision_at_1", "precision_recall", "psnr", "recall_at_k", "scorable", "scores", "ssim", "within_3_sigma",
]  # fmt: skip
