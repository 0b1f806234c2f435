"""What an autoencoder's codes are good for, and what they are not (lectures 0, 1, 4): studies.

    tinygen study codes                          # lines between codes, classifiers on codes, foreign images
    tinygen study latent-size --data mnist       # the error of d = 2, 5, 10, 32 numbers beside PCA's
    tinygen study classifier-initialisation      # few labels: from scratch, frozen encoder, fine-tuned
    tinygen study decoder-as-generator           # a plain decoder makes poor samples of noise
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import nn
from tinygen.data import DataError, Dataset, load
from tinygen.data.selection import subset
from tinygen.metrics import baselines, scorable
from tinygen.metrics import scores as judge
from tinygen.studies import latents, transfer
from tinygen.training import aside, draw_repeats, fit, panels, picture_of, scatter, track

from .recipe import find
from .run import build
from .scores import samples, unscored
from .settings import RunError, prepare
from .study import Findings, Sheet, Trained, generator, study

OTHER = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}  # images of the same shape that are something else
NAMED = "name an autoencoder, such as recipe=conv-autoencoder"
BITS = (8, 6, 4, 3, 2)  # of a number in a code


def error(step: tg.Step, images: np.ndarray) -> float:
    """Squared error per pixel of the reconstructions."""
    again = latents.encoded(lambda x: step.apply(x.to(step.device)).cpu(), images)
    return float(np.mean((again - images) ** 2, dtype=np.float64))


# ---------------------------------------------------------------------------------- A13, A15


@study("lines between codes, classifiers on codes, compression, foreign images", on=("autoencoder",), lectures=(1, 4),
       needs=("latent",), least={"steps": 2})  # fmt: skip
def codes(trained: Trained, pairs: int = 4, points: int = 2000, steps: int = 8, fitted: int = 10_000) -> Findings:
    """Images along lines between codes, codes of test images in the plane, and classifiers on codes where training
    has the classes; the error of rounded codes, and of images unlike those of the training.

    pairs: lines between codes of test images
    points: test images whose codes are drawn, classified and rounded
    steps: images on a line
    fitted: training codes that logistic regression and the support vector machine learn from, at most
    """
    step, dataset = trained.step, trained.dataset
    order = subset(dataset.count("test"), points)
    images = dataset.floats("test")[order]
    labels = None if dataset.test_labels is None else dataset.test_labels[order]
    if 2 * pairs > len(order):
        raise RunError(
            f"{pairs} lines need the codes of {2 * pairs} test images, and there are {len(order)}: give at most "
            f"pairs={len(order) // 2}, or more points"
        )
    draw = generator()
    watch = partial(track, what="codes of training images")
    with aside(step, 0):
        found = latents.encoded(trained.encode, images)
        known = latents.encoded(trained.encode, dataset.floats("train"), watch=watch)
        ends = tg.tensor(found[: 2 * pairs])
        lines = [latents.line(ends[2 * i], ends[2 * i + 1], steps) for i in range(pairs)]
        kinds = {"test images": images, **_foreign(dataset, images, draw)}
        errors = {kind: error(step, x) for kind, x in kinds.items()}
        pictures = {
            "interpolations": Sheet(trained.decode(tg.cat(lines)), steps),
            "foreign": panels([picture_of((x[:12], step.apply(tg.tensor(x[:12]).to(step.device)).cpu()), nrow=4)
                               for x in kinds.values()], [f"{kind}: {e:.4f}" for kind, e in errors.items()]),
            "codes": scatter(latents.in_the_plane(found), labels, dataset.classes,
                             f"codes of {len(found):,} test images"),
        }  # fmt: skip
        rounded = {bits: latents.quantised(found, known, bits) for bits in BITS}
        table = [_compressed(dataset, found, 32, errors["test images"])]
        table += [_compressed(dataset, z, bits, float(np.mean((latents.decoded(trained.decode, z) - images) ** 2)))
                  for bits, z in rounded.items()]  # fmt: skip
    own = errors.pop("test images")
    names = {"upside down": "foreign_upside_down", "uniform noise": "foreign_noise"}
    numbers = {names.get(kind, "foreign_images"): value / own for kind, value in errors.items()}
    seen = dataset.train_labels
    if labels is not None and seen is not None and np.isin(labels, seen).all():  # no neighbour has a class unseen
        numbers |= _classified(dataset, known, found, images, labels, fitted)
    return Findings({"mse": own, "queries": float(len(found)), **numbers}, pictures, table)


def _foreign(dataset: Dataset, images: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Images unlike those of the training, by kind: turned by 180 degrees, noise, and another data set."""
    kinds = {
        "upside down": np.ascontiguousarray(images[..., ::-1, ::-1]),
        "uniform noise": draw.random(images.shape, np.float32),
    }
    try:
        other = load(OTHER[dataset.name]).floats("test")
    except (KeyError, DataError):  # no such set, or it is not on this machine
        return kinds
    some = other[subset(len(other), len(images))]
    return kinds | {OTHER[dataset.name]: some} if other.shape[1:] == images.shape[1:] else kinds


def _compressed(dataset: Dataset, codes: np.ndarray, bits: int, mse: float) -> dict[str, float]:
    """A row: bits of a code beside the 8 of every value in an image."""
    size = codes.shape[1] * bits
    return {"bits a number": bits, "bits a code": size, "ratio": 8 * int(np.prod(dataset.shape)) / size, "mse": mse}


def _classified(
    dataset: Dataset, known: np.ndarray, found: np.ndarray, images: np.ndarray, labels: np.ndarray, fitted: int
) -> dict[str, float]:
    """The shares of test codes that classifiers on training codes get right, and 1-NN on pixels beside them."""
    seen = dataset.train_labels
    assert seen is not None
    there = np.flatnonzero(seen >= 0)  # -1: the label is unknown
    pixels = dataset.floats("train")[there].reshape(len(there), -1)
    some = there[subset(len(there), fitted)]
    learn = (known[some], seen[some], found, labels)
    several = len(np.unique(seen[some])) > 1
    return {
        "nearest_neighbour": latents.one_nearest_neighbour(known[there], seen[there], found, labels),
        "pixel_nearest_neighbour": latents.one_nearest_neighbour(
            pixels, seen[there], images.reshape(len(images), -1), labels),
        "codes": float(len(there)),
        **({"logistic_regression": transfer.logistic_regression(*learn), "svm": transfer.support_vectors(*learn),
            "fitted": float(len(some))} if several else {}),
    }  # fmt: skip


# ---------------------------------------------------------------------------------- A4


@study("the error of d numbers an image, PCA's beside it", data="digits", lectures=(1,), tiny={"epochs": 2})
def latent_size(
    dataset: Dataset, sizes: Sequence[int] = (2, 5, 10, 32), recipe: str = "autoencoder", epochs: int | None = None
) -> Findings:
    """The test error of autoencoders with codes of d numbers beside that of PCA, and their reconstructions.

    sizes: the numbers d in a code
    recipe: of the autoencoder, one with an argument `latent`
    epochs: of each training (default: the recipe's)
    """
    kind = find(recipe)
    if not sizes:
        raise RunError("study latent-size: sizes is a list of one number or more, it is []; [2,5,10,32] is usual")
    if "latent" not in kind.arguments():
        raise RunError(f"study latent-size needs a recipe with an argument latent: {recipe} has none; {NAMED}")
    seed = int(generator().integers(2**31))
    train, test = dataset.floats("train"), dataset.floats("test")
    shown = test[subset(len(test), 24)]
    rows, pictures, titles = [], [picture_of(shown, nrow=4)], ["test images"]
    for d in track(list(sizes), "trainings"):
        settings = prepare(kind, dataset, {"name": dataset.name}, epochs=epochs, seed=seed, arguments={"latent": d})
        step = build(settings)
        if not step.offers("apply"):
            raise RunError(f"study latent-size needs a recipe that reconstructs: {recipe} does not; {NAMED}")
        fit(step, dataset.batches(settings.batch_size, settings.seed), settings.epochs)
        pca = baselines.pca_mse(train, test, d) if d <= test[0].size else 0.0
        with aside(step, 0):
            mse = error(step, test)
            pictures.append(picture_of(step.apply(tg.tensor(shown)), nrow=4))
        titles.append(f"d = {d}: {mse:.4f}")
        rows.append({"d": d, "ratio": test[0].size / d, "mse": mse, "PCA": pca, "epochs": settings.epochs})
    numbers = {f"mse_{which}": rows[i]["mse"] for which, i in (("smallest_code", 0), ("largest_code", -1))}
    beaten = sum(row["mse"] < row["PCA"] for row in rows)
    return Findings({**numbers, "pca_beaten": beaten / len(rows)}, {"reconstructions": panels(pictures, titles)}, rows)


# ---------------------------------------------------------------------------------- A11


@study(
    "few labels: from scratch, frozen encoder, fine-tuned", on=("conv-autoencoder",), lectures=(0, 1),
    needs=("latent",), tiny={"few": 20, "many": 30, "draws": 2, "updates": 4, "hidden": 5},
    above={"lr": 0, "tuned_lr": 0, "head_lr": 0},
)  # fmt: skip
def classifier_initialisation(
    trained: Trained, few: int = 100, many: int = 1000, draws: int = 5, updates: int = 400, hidden: int = 256,
    lr: float = 1e-3, tuned_lr: float = 3e-4, head_lr: float = 3e-3, batch_size: int = 20,
) -> Findings:  # fmt: skip
    """Test accuracies of one network, an encoder and a head of two layers, that learns from few labels in three ways.

    few: labels
    many: labels, of a second comparison
    draws: draws of the labels and of the untrained weights
    updates: at most so many; a fifth of the labels chooses how many
    hidden: values between the head's two layers
    lr: learning rate of Adam, from scratch
    tuned_lr: that of the encoder, fine-tuned
    head_lr: that of the head on a trained encoder
    batch_size: images in a batch
    """
    step, dataset = trained.step, trained.dataset
    seen, answers = dataset.train_labels, dataset.test_labels
    if seen is None or answers is None:
        raise RunError(f"classifier-initialisation needs labels, and {dataset.name} has none")
    there = np.flatnonzero(seen >= 0)
    if not len(dataset.classes) <= few < many <= len(there):
        raise RunError(
            f"study classifier-initialisation: few={few}, many={many}: give {len(dataset.classes)} <= few < many <= "
            f"{len(there)}, a label of each of the classes and no more than there are"
        )
    classes, draw = len(dataset.classes), generator()
    images = dataset.floats("test")
    with aside(step, 0):
        queries = latents.encoded(trained.encode, images)
    sizes = (queries.shape[1], hidden, classes)
    rates: dict[str, dict[str, list[float]]] = {}
    taken: dict[str, dict[str, list[int]]] = {}
    bar = iter(track(range(2 * draws), "draws of the labels"))
    for count in (few, many):
        for _ in range(draws):
            next(bar)
            chosen = there[transfer.balanced(seen[there], count, draw)]
            labels = seen[chosen]
            x = dataset.floats("train", chosen)
            held = transfer.balanced(labels, max(1, count // 5), draw)
            with aside(step, 0):
                z = latents.encoded(trained.encode, x)
            fresh = int(draw.integers(2**31))
            begun = partial(_encoder, trained, fresh)
            copied = partial(_encoder, trained, fresh, step.encoder.state_dict())
            ways: dict[str, tuple[Callable, np.ndarray, np.ndarray]] = {
                "from scratch": (lambda e=begun: transfer.joined(e(), sizes, lr=lr, head_lr=lr), x, images),
                "frozen encoder": (lambda: transfer.head_alone(sizes, head_lr, step.device), z, queries),
                "fine-tuned": (
                    lambda e=copied: transfer.joined(e(), sizes, lr=tuned_lr, head_lr=head_lr), x, images),
            }  # fmt: skip
            for way, (make, given, asked) in ways.items():
                network, best = transfer.learned(
                    make, given, labels, held, draw, most=updates, every=max(1, updates // 15), size=batch_size
                )
                title = f"{count:,} labels"
                rates.setdefault(title, {}).setdefault(way, []).append(transfer.judged(network, asked, answers))
                taken.setdefault(title, {}).setdefault(way, []).append(best)
            if count == few:
                picture = Sheet(tg.tensor(x[np.argsort(labels, kind="stable")][:100]), 10)
    list(bar)
    rows = [
        {"labels": title, "way": way, "accuracy": float(np.mean(found)), "spread": _spread(found),
         "updates": float(np.mean(taken[title][way])), "draws": len(found)}
        for title, of_way in rates.items() for way, found in of_way.items()
    ]  # fmt: skip
    figure = draw_repeats(rates, "accuracy on the test set", f"{draws} draws of the labels, mean and deviation")
    return Findings(_gains(rows), {"accuracies": figure, "labelled": picture}, rows)


def _encoder(trained: Trained, seed: int, weights: Mapping | None = None) -> nn.Module:
    """An encoder as the run's, with the weights of a seed, or a copy of those given."""
    step: Any = build(replace(trained.settings, seed=seed))
    if weights is not None:
        step.encoder.load_state_dict(weights)
    return step.encoder


def _spread(values: Sequence[float]) -> float:
    """The deviation over draws; 0 for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _gains(rows: Sequence[Mapping]) -> dict[str, float]:
    """Mean accuracies of three ways, first with few labels and then with many, and what fine-tuning gains."""
    numbers: dict[str, float] = {}
    for which, (scratch, frozen, tuned) in (("few", rows[:3]), ("many", rows[3:])):
        numbers |= {
            f"scratch_{which}": scratch["accuracy"], f"frozen_{which}": frozen["accuracy"],
            f"fine_tuned_{which}": tuned["accuracy"], f"gain_{which}": tuned["accuracy"] - scratch["accuracy"],
        }  # fmt: skip
    return numbers


# ---------------------------------------------------------------------------------- A12


@study("samples of a plain decoder beside a VAE's", on=("autoencoder", "vae"), lectures=(0, 2), needs=("latent",),
       tiny={"n": 64})  # fmt: skip
def decoder_as_generator(plain: Trained, vae: Trained, n: int = 10_000) -> Findings:
    """Samples of an autoencoder's decoder, of noise and of a Gaussian fitted to the codes, beside those of a VAE.

    n: samples of each
    """
    step, dataset = plain.step, plain.dataset
    draw = generator()
    with aside(step, 0):
        known = latents.encoded(plain.encode, dataset.floats("train"))
        noise = draw.standard_normal((n, known.shape[1]), np.float32)
        made = {
            "standard_normal": latents.decoded(plain.decode, noise),
            "fitted_gaussian": latents.decoded(plain.decode, latents.fitted_gaussian(known, n, draw)),
        }
    made["vae"] = samples(vae.step, n, int(draw.integers(2**31))).cpu().numpy()
    titles = {
        "standard_normal": "decoder, z ~ N(0, I)", "fitted_gaussian": "decoder, z ~ Gaussian of the codes",
        "vae": vae.settings.recipe,
    }  # fmt: skip
    numbers = {"samples": float(n)}
    if scorable(dataset.shape) and not unscored(dataset):
        real = dataset.floats("test")
        try:
            numbers |= {f"cfid_{kind}": judge(images, real)["cfid"] for kind, images in made.items()}
        except ValueError as error:  # too few samples
            raise RunError(f"study decoder-as-generator: n={n}: {error}; give a larger n") from error
        numbers["cfid_ratio"] = numbers["cfid_standard_normal"] / numbers["cfid_vae"]
        titles = {kind: f"{title}: C-FID {numbers[f'cfid_{kind}']:.4g}" for kind, title in titles.items()}
    shown = [picture_of(images[:48], nrow=6) for images in made.values()]
    return Findings(numbers, {"samples": panels(shown, [titles[kind] for kind in made])})
