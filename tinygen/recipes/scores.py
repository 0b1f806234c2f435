"""The test figures of a trained run: what its Step measures, how good its samples are, and what is trivial.

    score(step, dataset)         # {"mse": (0.0047, 10000), "cfid": (90.3, 10000), ...}: value, and over how many
    baselines(recipe, ...)       # {"mse": [Baseline(...), ...]}: what anybody reaches without a network

Samples are scored by a frozen network (tinygen.metrics) where the data look like what it was trained on; samples of
points by the modes they cover. A Step that keeps an average of its weights is scored a second time with these:
"cfid_averaged" stands beside "cfid". Baselines are computed from the data at hand and kept in the user's cache.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import metrics
from tinygen.data import Dataset
from tinygen.data.points import Points
from tinygen.free_memory import require
from tinygen.step import Step
from tinygen.training import Tensors, Tracked, aside, evaluate, track

from .baselines import DIGITS, Baseline
from .recipe import Recipe

SAMPLES = 10_000
LIKELY, DRAWS = 1000, 100  # test images and draws of a code for each, for the importance-sampled likelihood
WATCHED = 500  # samples an epoch, to see which classes are made


def samples(step: Step, n: int, seed: int, quiet: float = 2.0, **options: Any) -> tg.Tensor:
    """n samples of a trained Step, in pieces of at most 500, the same for the same seed."""
    return _drawn(step, n, seed, lambda size: (step.sample(size, **options),), quiet)[0]


def labelled(step: Step, n: int, seed: int, quiet: float = 2.0) -> tuple[np.ndarray, np.ndarray | None]:
    """(the n samples of `samples`, their labels); None for a Step whose samples have none."""
    if not step.offers("labelled"):
        return samples(step, n, seed, quiet).numpy(), None
    images, labels = _drawn(step, n, seed, step.labelled, quiet)
    return images.numpy(), labels.numpy()


def _drawn(step: Step, n: int, seed: int, draw: Callable, quiet: float) -> list[tg.Tensor]:
    """What `draw(size)` gives, a tuple of tensors, for n examples in pieces of at most 500."""
    pieces: list[tuple[tg.Tensor, ...]] = []
    with aside(step, seed):
        for start in track(range(0, n, 500), "samples", quiet=quiet):
            pieces.append(draw(min(500, n - start)))
            if start == 0 and n > 500:  # float32, twice while they are joined
                first = pieces[0][0]
                require(8 * n * first.numel() / 500, f"{n:,} samples {(n, *first.shape[1:])}", "give a smaller -n")
        return [tg.cat(parts) for parts in zip(*pieces)]


def score(step: Step, dataset: Dataset, seed: int = 0, n: int = SAMPLES) -> dict[str, tuple[float, int]]:
    """{metric: (value, number of examples it is taken over)} on the test set; n samples where it can be sampled.

    A Step that offers `log_weights` has an nll (`importance_sampled`). Samples are not scored where `unscored` says
    why. Raises ValueError where n is too small for a score.
    """
    count = dataset.count("test")
    test = dataset.batches(min(256, count), split="test")
    with aside(step, seed):
        batches = Tracked(Tensors(test, step.device), "test figures")
        found = {name: (value, count) for name, value in evaluate(step, batches).items()}
    if step.offers("log_weights"):
        found["nll"] = importance_sampled(step, dataset, seed)
    if step.offers("sample") and not unscored(dataset):
        found |= {name: (value, n) for name, value in score_samples(step, dataset, seed, n).items()}
        if step.averages():
            with step.averaged():
                again = score_samples(step, dataset, seed, n)
            found |= {f"{name}_averaged": (value, n) for name, value in again.items()}
    return found


def importance_sampled(step: Step, dataset: Dataset, seed: int = 0) -> tuple[float, int]:
    """(-log p(x) by importance sampling with `DRAWS` draws, mean over the images in nats; number of images).

    They are `LIKELY` test images of a shuffled order: a file's first ones may be the easier ones, as MNIST's are.
    """
    count = min(LIKELY, dataset.count("test"))
    order = dataset.batches(count, split="test").at(0, 0)[0]
    pieces = [order[start : start + 50] for start in range(0, count, 50)]
    with aside(step, seed):
        drawn = [
            step.log_weights((tg.tensor(piece, device=step.device), None), DRAWS).numpy()
            for piece in track(pieces, "importance sampling")
        ]
    return metrics.importance_sampled_nll(np.concatenate(drawn, axis=1)), count


def over(metric: str, n: int) -> str:
    """Over how many examples a figure of `score` is taken, and for nll with how many draws."""
    return f"n = {n:,}" + (f", k = {DRAWS}" if metric == "nll" else "")


def unscored(dataset: Dataset) -> str | None:
    """Why samples cannot be scored against a data set; None where they can."""
    if len(dataset.shape) == 1:
        return None if dataset.count("test") > 1 else "one test point is too few"
    if not metrics.scorable(dataset.shape):
        return f"no frozen network knows images of {'x'.join(map(str, dataset.shape))}"
    needed = 2 * metrics.features(dataset.floats("test", slice(1)))[0].shape[1]
    count = dataset.count("test")
    return None if count >= needed else f"{count} test images are too few, {needed} are needed"


def score_samples(step: Step, dataset: Dataset, seed: int, n: int) -> dict[str, float]:
    """The figures of n samples against the test set, which `unscored` has nothing against."""
    if len(dataset.shape) == 1:
        return _score_points(samples(step, n, seed).numpy(), dataset)
    images, labels = labelled(step, n, seed)
    found = metrics.scores(images, dataset.floats("test"))
    # Whether a digit was recognised says something on digits only; the distance of features, on any such images.
    if tuple(dataset.classes) != DIGITS:
        return {"cfid": found["cfid"]}
    return found | (_recognised(images, labels)[0] if labels is not None else {})


def _recognised(images: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], int]:
    """(GAN-test, of all samples and of the class that is drawn worst; that class)."""
    right, of_class = metrics.gan_test(images, labels)
    worst = min(of_class, key=of_class.__getitem__)
    return {"gan_test": right, "gan_test_worst": of_class[worst]}, worst


def watch(step: Step, dataset: Dataset, seed: int) -> dict[str, float]:
    """What is logged, and read by `health`, besides the Step's own metrics, of a few samples.

    The classes or modes that they cover, of how many; of images the energy at the Nyquist frequency, beside real ones'.
    """
    if not step.offers("sample"):
        return {}
    modes = _modes(dataset)
    if len(dataset.shape) == 1 and not modes:
        return {}
    drawn, told = labelled(step, WATCHED, seed, quiet=math.inf)
    if modes:
        return {"modes": metrics.modes_covered(drawn, modes.centres, modes.sd), "modes_there": len(modes.centres)}
    real = dataset.floats("test", slice(WATCHED))
    found = {"nyquist": metrics.nyquist_share(drawn), "nyquist_real": metrics.nyquist_share(real)}
    labels = dataset.train_labels
    every = labels is not None and set(range(len(DIGITS))) <= set(np.unique(labels))  # one class alone is no collapse
    if not (metrics.scorable(dataset.shape) and tuple(dataset.classes) == DIGITS and every):
        return found
    found |= {"classes_covered": metrics.classes_covered(drawn), "classes_there": len(DIGITS)}
    if told is None:
        return found
    recognised, worst = _recognised(drawn, told)
    return found | recognised | {"worst_class": worst}


def _modes(dataset: Dataset) -> Any:
    """The mixture that points were drawn from; None for others."""
    return dataset.mixture if isinstance(dataset, Points) else None


def _score_points(drawn: np.ndarray, dataset: Dataset) -> dict[str, float]:
    found = {"energy_distance": metrics.energy_distance(drawn, dataset.floats("test"))}
    modes = _modes(dataset)
    if modes:
        found["modes"] = metrics.modes_covered(drawn, modes.centres, modes.sd)
        found["within_3_sigma"] = metrics.within_3_sigma(drawn, modes.centres, modes.sd)
    return found


def baselines(recipe: Recipe, dataset: Dataset, arguments: Mapping[str, Any]) -> dict[str, list[Baseline]]:
    """{metric: [Baseline, ...]} of the recipe's baselines (baselines.py), those that the data have."""
    found: dict[str, list[Baseline]] = {}
    for function in track(recipe.baselines, "baselines"):
        key = f"{dataset.sha[:16]} {function.__module__}.{function.__name__} {json.dumps(arguments, sort_keys=True)}"
        try:
            figure = _cached(key, lambda f=function: f(dataset, arguments))  # type: ignore[misc]
        except ValueError:  # too few images, or a code that is longer than the image
            continue
        if figure:
            found.setdefault(figure[0], []).append(Baseline(*figure))
    return found


def _cached(key: str, compute: Any) -> Any:
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinygen" / "baselines.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    if key not in kept:
        kept[key] = compute()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(kept), encoding="utf-8")
            os.replace(temporary, path)
        except OSError:
            pass  # a cache that cannot be written costs time, nothing else
    return kept[key]
