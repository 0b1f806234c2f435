"""Few labels and many images: the semi-supervised GAN (lecture 2), and the same network without the game.

    tinygen train ssgan --data mnist                # 100 labels
    tinygen study semi-supervision --data mnist     # five draws of the labels, with the game and without
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinygen as tg
from tinygen.data import Dataset, as_float
from tinygen.data.few_labels import FewLabels
from tinygen.data.selection import balanced_draw
from tinygen.models import ClassifierStep, SemiSupervisedGANStep
from tinygen.models.semi_supervised_gan import feature_matching, judged_real
from tinygen.networks.mlp import MLPGenerator
from tinygen.networks.noisy import NoisyDiscriminator
from tinygen.training import Tensors, aside, draw_repeats, evaluate, fit, track

from . import baselines
from .recipe import Given, find, nearest, recipe
from .run import build
from .settings import RunError, Settings, prepare
from .study import Findings, Rows, generator, study

OBJECTIVES = {"feature-matching": feature_matching, "judged-real": judged_real}


def few_labels(dataset: Dataset, settings: Settings) -> FewLabels:
    """All training images, and beside them those `labelled` ones that the seed draws, as many of each class."""
    labels = dataset.train_labels
    assert labels is not None
    there = np.flatnonzero(labels >= 0)
    chosen = there[balanced_draw(labels[there], settings.arguments["labelled"], settings.seed)]
    return FewLabels(
        dataset.train_images, labels, chosen, settings.batch_size, settings.seed, drop_last=settings.drop_last
    )


@recipe(
    "semi-supervised GAN: 100 labels (Salimans et al. 2016)", lectures=(2,), labels=True, unlabelled=True,
    batches=few_labels, baselines=(baselines.largest_class, baselines.real_images, baselines.pixel_noise),
    batch_size=100, drop_last=True,
    small={
        "epochs": 40, "batch_size": 50, "hidden": (250, 250), "latent": 16, "objective": "judged-real", "noise": 0.3,
    },
    tiny={"hidden": (8, 6), "latent": 4, "labelled": 20},
)  # fmt: skip
def ssgan(
    given: Given, hidden: Sequence[int] = (500, 250, 250), latent: int = 100, labelled: int = 100,
    objective: str = "feature-matching", noise: float = 0.5, hidden_noise: float = 0.5, lr: float = 2e-3,
) -> SemiSupervisedGANStep:  # fmt: skip
    """hidden: widths of the discriminator's layers, the last its features; the generator's in reverse
    latent: numbers of noise
    labelled: images whose labels are read, as many of each class, drawn from the seed; all where there are fewer
    objective: of the generator, feature-matching or judged-real
    noise: deviation of the noise on the discriminator's images
    hidden_noise: deviation of the noise on its hidden layers
    lr: learning rate of both players at the first update
    """
    _check_labelled(labelled, given.classes)  # few_labels reads it
    generator = MLPGenerator(given.pixels, hidden[::-1], latent)
    discriminator = NoisyDiscriminator(
        given.shape, hidden, len(given.classes), noise=noise, hidden_noise=hidden_noise
    )  # fmt: skip
    rule = nearest(objective, OBJECTIVES, "objective")
    return SemiSupervisedGANStep(generator, discriminator, rule, latent=latent, steps=given.steps, lr=lr)


def _check_labelled(labelled: int, classes: Sequence[str]) -> None:
    if labelled < len(classes):
        raise ValueError(f"labelled={labelled} names not even one image of each class; give at least {len(classes)}")


@study("100 labels: a semi-supervised GAN and the same network without the game", data="digits", lectures=(2,),
       tiny={"labelled": 20, "draws": 2, "epochs": 1})  # fmt: skip
def semi_supervision(
    dataset: Dataset, labelled: int = 100, draws: int = 5, epochs: int | None = None
) -> Findings:
    """Test accuracies of one network on the same few labels, in a game with a generator on all images and alone.

    labelled: images whose labels are read, as many of each class
    draws: draws of the labels and of the untrained weights
    epochs: of each training (default: the recipe's)
    """
    kind = find("ssgan")
    if dataset.train_labels is None:
        raise RunError(f"semi-supervision needs labels, and {dataset.name} has none")
    try:
        _check_labelled(labelled, dataset.classes)
    except ValueError as error:
        raise RunError(f"study semi-supervision: {error}") from error
    draw = generator()
    test = Tensors(dataset.batches(min(256, dataset.count("test")), split="test"))
    found: dict[str, list[float]] = {"labels alone": [], "with the game": []}
    for _ in track(range(draws), "draws of the labels"):
        settings = prepare(
            kind, dataset, {"name": dataset.name}, epochs=epochs, seed=int(draw.integers(2**31)),
            arguments={"labelled": labelled},
        )  # fmt: skip
        batches = few_labels(dataset, settings)
        updates = settings.given["steps"]
        alone: Any = build(settings)  # the weights that the game begins with
        alone = ClassifierStep(alone.discriminator, dataset.classes, steps=updates, lr=settings.arguments["lr"])
        fit(alone, batches.few, updates // len(batches.few))
        game: Any = build(settings)
        fit(game, batches, settings.epochs)
        for way, step in zip(found, (alone, game)):
            with aside(step, 0):
                found[way].append(evaluate(step, test)["accuracy"])
    with aside(game, 0):
        samples = game.sample(10)
    few, order = batches.few.images, np.argsort(batches.few.labels, kind="stable")  # type: ignore[arg-type]
    shown = as_float(few[order[:: max(1, len(few) // 10)][:10]])
    rows: list[dict[str, Any]] = [
        {"way": way, "labels": len(few), "accuracy": float(np.mean(values)),
         "spread": float(np.std(values, ddof=1)) if draws > 1 else 0.0, "least": min(values), "draws": draws}
        for way, values in found.items()
    ]  # fmt: skip
    alone_mean, game_mean = rows[0]["accuracy"], rows[1]["accuracy"]
    figure = draw_repeats(
        {way: {f"{len(few)} labels": values} for way, values in found.items()}, "accuracy on the test set",
        f"{draws} draws of the labels, mean and deviation",
    )  # fmt: skip
    return Findings(
        {"supervised": alone_mean, "semi_supervised": game_mean, "gain": game_mean - alone_mean},
        {"accuracies": figure, "samples": Rows([tg.tensor(shown), samples], ["labelled", "samples"])}, rows,
    )  # fmt: skip
