"""What generated images are worth: measures of them, and classifiers that learn from them (lectures 0, 2, 4).

    tinygen study sample-metrics                 # C-FID, precision, recall, MMD, GAN-train, GAN-test and their floors
    tinygen study augmentation                   # 100 labels alone, and with samples of a conditional GAN

    GAN-train   a classifier learns from samples and is tested on real images: low where kinds of images are missing
    GAN-test    a classifier of real images is tested on samples: low where samples are not of their class

Both are of Shmelkov et al. 2018, and need samples with labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import metrics, nn, optim
from tinygen.data import Batches, Dataset
from tinygen.networks.lenet import LeNet5
from tinygen.studies import transfer
from tinygen.training import draw_repeats, fit, panels, picture_of, track

from .baselines import DIGITS
from .run import build
from .scores import labelled, unscored
from .settings import RunError
from .study import Findings, Trained, generator, scored_images, study


def classifier(
    dataset: Dataset, x: np.ndarray, labels: np.ndarray, updates: int, draw: np.random.Generator
) -> nn.Module:
    """LeNet-5 after so many updates of 50 images each; Adam at 1e-3."""
    network = LeNet5(dataset.shape, len(dataset.classes))
    transfer.fit(network, optim.Adam(network.parameters(), lr=1e-3), x, labels, updates, draw, size=50)
    return network


def seed_of(draw: np.random.Generator) -> int:
    return int(draw.integers(2**31))


# ---------------------------------------------------------------------------------- all measures


@study("C-FID, precision, recall, MMD, GAN-train and GAN-test, with their floors", on=("gan", "dcgan", "cgan"),
       lectures=(2, 4), tiny={"n": 64, "near": 64, "updates": 3}, least={"near": 4},
       asks=scored_images)  # fmt: skip
def sample_metrics(
    plain: Trained, deep: Trained, conditional: Trained, n: int = 10_000, near: int = 5000, updates: int = 1000
) -> Findings:
    """Six measures of three runs' samples, beside what real training images reach in the samples' place, and grey
    images: a few far real ones have wide neighbourhoods, so that precision calls these good. Recall and C-FID do not.

    n: samples of each run
    near: of them, for precision, recall and MMD, which compare all pairs
    updates: of the classifiers that learn from samples, and from as many real images
    """
    dataset = conditional.dataset
    reason = unscored(dataset)
    if reason:
        raise RunError(f"study sample-metrics: {reason}; take a run on other images")
    draw = generator()
    test, answers = dataset.floats("test"), dataset.test_labels
    known = metrics.features(test)[0]
    chosen = draw.permutation(dataset.count("train"))[:n]
    assert answers is not None and dataset.train_labels is not None  # else no cgan would have been trained
    drawn: list[tuple] = [("real images", dataset.floats("train", chosen), dataset.train_labels[chosen])]
    for one in (plain, deep, conditional):
        drawn.append((one.settings.recipe, *labelled(one.step, n, seed_of(draw))))
    noise = np.random.default_rng(0).standard_normal(drawn[0][1].shape, np.float32)
    drawn.append(("grey images", 0.5 + 0.01 * noise, None))
    rows, judge = [], None
    for i, (name, images, labels) in enumerate(track(drawn, "measures of samples")):
        row: dict[str, Any] = {"samples of": name, "n": len(images), **distances(known, images, near)}
        row |= {"GAN-train": "-", "GAN-test": "-"}
        if labels is not None:
            learner = classifier(dataset, images, labels, updates, draw)
            row["GAN-train"] = transfer.judged(learner, test, answers)
            judge = judge or learner  # that of real images comes first
            own = (images, labels) if i else (test, answers)  # images that the judge has not learned from
            row["GAN-test"] = recognised(dataset, judge, *own)
        rows.append(row)
    shown = panels([picture_of(images[:48], nrow=6) for _, images, _ in drawn],
                   [f"{row['samples of']}: C-FID {row['C-FID']:.3g}" for row in rows])  # fmt: skip
    return Findings(_figures(rows), {"samples": shown}, rows)


def distances(known: np.ndarray, images: np.ndarray, near: int) -> dict[str, float]:
    """C-FID of images from the real features `known`; precision, recall and MMD of the first `near` of both."""
    found = metrics.features(images)[0]
    few = known[:near], found[:near]
    precision, recall = metrics.precision_recall(*few)
    distance = metrics.frechet_from_features(known, found)
    return {"C-FID": distance, "precision": precision, "recall": recall, "MMD": metrics.mmd(*few)}


def recognised(dataset: Dataset, judge: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """GAN-test: by the frozen network where it knows the classes, else by a classifier of real images."""
    if tuple(dataset.classes) == DIGITS:
        return metrics.gan_test(images, labels)[0]
    return transfer.judged(judge, images, labels)


def _figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of the conditional run all, of real images all, of the other runs the C-FID, of grey images the precision."""
    real, plain, deep, conditional, grey = rows
    names = {"C-FID": "cfid", "precision": "precision", "recall": "recall", "MMD": "mmd", "GAN-train": "gan_train",
             "GAN-test": "gan_test"}  # fmt: skip
    numbers = {name: conditional[title] for title, name in names.items()}
    numbers |= {f"{name}_real": real[title] for title, name in names.items()}
    others = {"cfid_gan": plain["C-FID"], "cfid_dcgan": deep["C-FID"], "precision_grey": grey["precision"]}
    return numbers | others


# ---------------------------------------------------------------------------------- G26


@study(
    "few labels alone, and with samples of a conditional GAN", on=("cgan",), lectures=(0, 4),
    tiny={"few": 20, "draws": 2, "made": 40, "rounds": 2, "updates": 3},
)  # fmt: skip
def augmentation(
    trained: Trained, few: int = 100, draws: int = 5, made: int = 1000, rounds: int = 1500, updates: int = 1000
) -> Findings:
    """Test accuracies of LeNet-5 that learns from few labelled images alone, from them and samples of a GAN that was
    trained on the same few, and from them and samples of the run, whose GAN has seen all labels.

    few: labelled images, as many of each class
    draws: draws of the labelled images and of all untrained weights
    made: samples that join them
    rounds: updates of a GAN on the few
    updates: of each classifier, the same in all three ways
    """
    dataset = trained.dataset
    seen, answers = dataset.train_labels, dataset.test_labels
    assert seen is not None and answers is not None  # else no cgan would have been trained
    if not len(dataset.classes) <= few <= len(seen):
        raise RunError(
            f"study augmentation: few={few}: give {len(dataset.classes)} <= few <= {len(seen)}, an image of each of "
            f"the classes and no more than there are"
        )
    draw, test = generator(), dataset.floats("test")
    ways = {"alone": "labels alone", "own": f"+ GAN of\nthese {few:,}", "all": f"+ GAN of\nall {len(seen):,}"}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in track(range(draws), "draws of the labels"):
        chosen = transfer.balanced(seen, few, draw)
        x, y = dataset.floats("train", chosen), seen[chosen]
        own = gan_of_few(trained, x, y, rounds, seed_of(draw))
        steps = {"own": own, "all": trained.step}
        more: dict[str, tuple] = {way: labelled(step, made, seed_of(draw)) for way, step in steps.items()}
        for way in ways:
            images, labels = more.get(way, (x[:0], y[:0]))
            joined = np.concatenate([x, images]), np.concatenate([y, labels])
            rates[way].append(transfer.judged(classifier(dataset, *joined, updates, draw), test, answers))
    rows = [
        {"learned from": ways[way].replace("\n", " "), "accuracy": float(np.mean(found)),
         "spread": float(np.std(found, ddof=1)) if draws > 1 else 0.0, "draws": draws}
        for way, found in rates.items()
    ]  # fmt: skip
    title = f"{few:,} labels, {draws} draws, mean and deviation"
    groups = {f"LeNet-5, {updates:,} updates": {ways[way]: found for way, found in rates.items()}}
    order = np.argsort(y, kind="stable")
    shown = {f"the {few:,} of the last draw": x[order], f"a GAN of these {few:,}": by_class(*more["own"]),
             f"a GAN of all {len(seen):,}": by_class(*more["all"])}  # fmt: skip
    pictures = panels([picture_of(tg.tensor(images[:100]), nrow=10, most=100) for images in shown.values()],
                      list(shown))  # fmt: skip
    return Findings(_gains(rates), {"accuracies": draw_repeats(groups, "accuracy on the test set", title),
                                    "learned": pictures}, rows)  # fmt: skip


def gan_of_few(trained: Trained, x: np.ndarray, labels: np.ndarray, rounds: int, seed: int) -> Any:
    """A Step as the run's, trained for so many updates on a few images (N, C, H, W) with labels (N,)."""
    step = build(replace(trained.settings, seed=seed))
    batches = Batches(x, labels, min(trained.settings.batch_size, len(x)), seed, drop_last=True)
    fit(step, batches, max(1, round(rounds / len(batches))))
    return step


def by_class(images: np.ndarray, labels: np.ndarray, each: int = 10) -> np.ndarray:
    """At most `each` images of each class, class by class."""
    return np.concatenate([images[labels == k][:each] for k in np.unique(labels)])


def _gains(rates: Mapping[str, list[float]]) -> dict[str, float]:
    mean = {way: float(np.mean(found)) for way, found in rates.items()}
    gains = {f"gain_{way}": mean[way] - mean["alone"] for way in ("own", "all")}
    return {f"augmented_{way}": value for way, value in mean.items()} | gains
