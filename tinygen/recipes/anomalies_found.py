"""Anomalies that a BiGAN finds, score by score, beside what is found without a game (lecture 0).

    tinygen study anomaly --data mnist-only-8          # one class normal, all others anomalous
    tinygen study anomaly --data mnist-without-8       # one class anomalous

Every run has learned from normal images alone; what is ranked is the whole test split. alpha is fixed before any test
image is seen; the picture of all alphas says what another one would have brought, and is no way to choose one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import metrics
from tinygen.data import one_class, place
from tinygen.data.selection import subset
from tinygen.studies import anomaly as scored
from tinygen.studies import noise
from tinygen.training import aside, figure, track

from .images_compared import PIECE, computed
from .study import Findings, Rows, Trained, generator, study

ALPHAS = np.linspace(0, 1, 21)
WITHOUT_A_GAME = ("PCA", "autoencoder", "VAE")  # drawn as broken lines


def one_class_normal(shape: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Why the study of anomalies refuses: nothing says which images are normal."""
    if one_class.parts(place(data)) is not None:
        return None
    return (f"it needs data of which some classes are normal and the others anomalous, and these are {data}; give "
            f"--data mnist-only-8, mnist-without-8, digits-only-8 or the like")  # fmt: skip


@study(
    "scores of anomalies by a BiGAN beside PCA, an autoencoder and a VAE", on=("bigan-penalised", "autoencoder", "vae"),
    data="digits-only-8", lectures=(0,), asks=one_class_normal, above={"c": 0, "lr": 0},
    least={"gaussians": 1, "components": 1, "fitted": 2, "inverted": 2, "evaluations": 1, "shown": 1},
    tiny={"inverted": 32, "evaluations": 3},
)  # fmt: skip
def anomaly(
    game: Trained, plain: Trained, variational: Trained, alpha: float = 0.1, gaussians: int = 5, components: int = 32,
    fitted: int = 10_000, inverted: int = 1000, evaluations: int = 60, c: float = 30.0, lr: float = 0.3,
    shown: int = 12,
) -> Findings:  # fmt: skip
    """AUROC and AUPRC of every score on the test images; positive are those of a class that is not normal.

    Gaussians and principal axes are fitted to training images. In the last column of the table a score wins where its
    AUROC is above that of the combined one on the same images.

    alpha: weight of the feature match in the combined score; the rest is the reconstruction's
    gaussians: in the mixture
    components: principal axes of PCA
    fitted: training images whose codes the Gaussian and the mixture are fitted to, at most
    inverted: test images for which the code of least |G(z) - s|^2 + |z|^2 / c is searched, at most
    evaluations: gradients of each search
    c: weight of the image against the code's norm in a search
    lr: learning rate of Adam in a search
    shown: images in a row of the picture
    """
    dataset: Any = game.dataset  # of one class, as `asks` says
    train, test, positive = dataset.floats("train"), dataset.floats("test"), dataset.anomalous()
    draw = generator()
    known, *_ = _terms(game, train[subset(len(train), fitted)])
    codes, logits, reconstruction, feature_match = _terms(game, test)
    mixture = scored.mixture(known, gaussians, int(draw.integers(2**31)))
    combined = scored.combined(reconstruction, feature_match, alpha)
    scores = {
        "prior": scored.prior(codes), "Gaussian": scored.gaussian(known)(codes), "mixture": mixture(codes),
        "discriminator": scored.discriminator(logits), "reconstruction": reconstruction,
        "feature match": feature_match, "combined": combined, "PCA": scored.principal(train, components)(test),
        "autoencoder": _rebuilt(plain, test), "VAE": _rebuilt(variational, test),
    }  # fmt: skip
    chosen = subset(len(test), inverted)
    search = partial(noise.by_adam, lr=lr)
    searched = _inverted(game, test[chosen], int(draw.integers(2**31)), c=c, search=search, evaluations=evaluations)
    everything = np.arange(len(test))
    judged = {name: (score, everything) for name, score in scores.items()} | {"inversion of G": (searched, chosen)}
    sizes = {"mixture": f" of {gaussians}", "combined": f", alpha {alpha:g}", "PCA": f", {components} axes"}
    rows = [_row(name + sizes.get(name, ""), score, positive[of], combined[of])
            for name, (score, of) in judged.items()]  # fmt: skip
    found = dict(zip(judged, rows))
    numbers = {f"auroc_{_key(name)}": row["AUROC"] for name, row in found.items()}
    numbers |= {"auprc_combined": found["combined"]["AUPRC"], "auprc_pca": found["PCA"]["AUPRC"]}
    numbers["auroc_above_pca"] = numbers["auroc_combined"] - numbers["auroc_pca"]
    swept = [metrics.auroc(scored.combined(reconstruction, feature_match, a), positive) for a in ALPHAS]
    pictures = {
        "roc": _draw_roc({name: (score, positive[of]) for name, (score, of) in judged.items()}),
        "alpha": _draw_sweep(swept, alpha, found), "ranked": _ranked(game, test, combined, positive, shown),
    }  # fmt: skip
    return Findings(numbers, pictures, rows)


def _key(name: str) -> str:
    return {"inversion of G": "inversion"}.get(name, name.lower().replace(" ", "_"))


def _row(name: str, scores: np.ndarray, positive: np.ndarray, combined: np.ndarray) -> dict[str, Any]:
    reached = metrics.auroc(scores, positive)
    above = reached - metrics.auroc(combined, positive)
    told = f"{'wins' if above > 0 else 'loses'} by {abs(above):.3f}" if abs(above) >= 0.0005 else "-"
    return {"score": name, "AUROC": reached, "AUPRC": metrics.auprc(scores, positive), "n": len(scores),
            "beside combined": told}  # fmt: skip


def _terms(game: Trained, images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of each image: its code (N, D), the logit of D, |G(E(s)) - s|_2 and |f(s, E(s)) - f(G(E(s)), E(s))|_2, (N,)."""
    step = game.step

    def terms(s: tg.Tensor) -> tg.Tensor:
        code = step.encode(s)
        again, judge = step.decode(code), step.discriminator
        match = scored.distance(judge.features(s, code), judge.features(again, code))
        columns = [judge(s, code), scored.distance(again, s), match]
        return tg.cat([code, *(column.reshape(-1, 1) for column in columns)], 1)

    found = computed(game, terms, images)
    return found[:, :-3], *found[:, -3:].T


def _rebuilt(trained: Trained, images: np.ndarray) -> np.ndarray:
    """(N,): |s' - s|_2 of what an autoencoder makes of each image."""
    return scored.distance(computed(trained, trained.step.apply, images), images)


def _inverted(game: Trained, images: np.ndarray, seed: int, **options: Any) -> np.ndarray:
    """(N,): the least |G(z) - s|^2 + |z|^2 / c that a search finds for each image, from one random code."""
    found = []
    with aside(game.step, seed):
        for start in track(range(0, len(images), PIECE), "codes searched"):
            some = tg.tensor(images[start : start + PIECE])
            starts = tg.randn(1, len(some), game.step.latent)
            found.append(noise.inverted(game.decode, some, starts, **options).losses)
    return np.concatenate(found)


def _ranked(game: Trained, test: np.ndarray, scores: np.ndarray, positive: np.ndarray, shown: int) -> Rows:
    """The test images of the highest and of the lowest scores, what G makes of their codes, and the worst mistakes."""
    order = np.argsort(-scores, kind="stable")
    most, least = order[:shown], order[::-1][:shown]
    again = lambda rows: computed(game, game.step.restored, test[rows])
    missed, alarms = order[::-1][positive[order[::-1]]][:shown], order[~positive[order]][:shown]
    batches = {
        "most anomalous": test[most], "G(E(s))": again(most), "least anomalous": test[least], " G(E(s))": again(least),
        "normal, highest scores": test[alarms], "anomalous, lowest scores": test[missed],
    }  # fmt: skip
    return Rows([tg.tensor(batch) for batch in batches.values()], [title.strip() for title in batches])


def _draw_roc(judged: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    """The ROC curve of each score."""
    from matplotlib import colormaps

    canvas, finish = figure((8.4, 4.8))
    axes = canvas.add_subplot()
    colours = [*colormaps["tab10"](range(10)), "black"]
    for colour, (name, (scores, positive)) in zip(colours, judged.items(), strict=True):
        label = f"{name}: {metrics.auroc(scores, positive):.3f}, n = {len(scores):,}"
        axes.plot(*scored.roc(scores, positive), label=label, color=colour,
                  linewidth=2.4 if name == "combined" else 1.2,
                  linestyle="--" if name in WITHOUT_A_GAME else "-")  # fmt: skip
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set_title("test images that are taken for anomalies")
    axes.set_xlabel("share of normal images")
    axes.set_ylabel("share of anomalous images")
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, title="area under the curve", loc="center left", bbox_to_anchor=(1, 0.5))
    return finish()


def _draw_sweep(swept: Sequence[float], alpha: float, found: Mapping[str, Mapping[str, Any]]) -> Any:
    """AUROC of the combined score over alpha, and the levels of what needs no game."""
    canvas, finish = figure((6.6, 4.2))
    axes = canvas.add_subplot()
    axes.plot(ALPHAS, swept, marker="o", markersize=3.5, label="combined")
    axes.axvline(alpha, color="grey", linewidth=1, linestyle=":", label=f"fixed beforehand: {alpha:g}")
    for name, colour, line in zip(WITHOUT_A_GAME, ("tab:orange", "tab:green", "tab:red"), ("--", ":", "-.")):
        axes.axhline(found[name]["AUROC"], color=colour, linewidth=1.4, linestyle=line, label=name)
    axes.set_title("AUROC of (1 - alpha) reconstruction + alpha feature match")
    axes.set_xlabel("alpha")
    axes.set_ylabel("AUROC on the test images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return finish()
