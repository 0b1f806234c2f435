"""What turns images into images, side by side with the truth and with what needs no network (lectures 2, 3).

    tinygen study super-resolution --data mnist        # interpolation, SRResNet, SRGAN: PSNR, SSIM, C-FID
    tinygen study colours                              # which objective keeps two equally likely colours
    tinygen study role-of-z                            # how much of an image noise decides
    tinygen study translation                          # CycleGAN where the way between both kinds is known
    tinygen study refined                              # what refined drawings teach a classifier
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import metrics
from tinygen.data.unpaired import CHANGES, Unpaired
from tinygen.data.varied import untinted
from tinygen.studies import noise, transfer
from tinygen.training import aside, track

from . import restored
from .baselines import DIGITS
from .generated import classifier
from .settings import RunError
from .study import Findings, Rows, Trained, generator, study

PIECE = 250  # images that are computed at once


def computed(trained: Trained, function: Callable, images: np.ndarray) -> np.ndarray:
    """function(piece) of all images, as a trained run computes."""
    with aside(trained.step, 0):
        pieces = [function(tg.tensor(images[i : i + PIECE], device=trained.step.device)).cpu().numpy()
                  for i in range(0, len(images), PIECE)]  # fmt: skip
    return np.concatenate(pieces)


# ---------------------------------------------------------------------------------- G19: super-resolution


@study("interpolation, SRResNet and SRGAN: PSNR, SSIM, C-FID", on=("srresnet", "srgan"), lectures=(2,), exact=True,
       least={"shown": 1, "n": 2}, tiny={"n": 32})  # fmt: skip
def super_resolution(net: Trained, game: Trained, n: int = 10_000, shown: int = 6) -> Findings:
    """Test images made small and large again, in five ways. PSNR is the mean over images of each one's.

    n: test images, at most
    shown: images in the picture
    """
    x = net.dataset.limited(n).floats("test")
    small = computed(net, net.step.degrade, x)
    ways: dict[str, Callable] = {
        mode: lambda y, mode=mode: restored.upsampled(y, mode, x.shape[2:]) for mode in restored.INTERPOLATIONS
    }
    ways |= {"SRResNet": net.step.apply, "SRGAN": game.step.apply}
    made = {name: computed(game if name == "SRGAN" else net, way, small)
            for name, way in track(list(ways.items()), "ways")}  # fmt: skip
    rows = [_compared(name, images, x) for name, images in made.items()]
    found = {row["way"]: row for row in rows}
    numbers = {f"psnr_{way.lower()}": found[way]["PSNR"] for way in ("bicubic", "SRResNet", "SRGAN")}
    numbers["srgan_above_bicubic"] = found["SRGAN"]["PSNR"] - found["bicubic"]["PSNR"]
    if isinstance(rows[0].get("C-FID"), float):
        numbers |= {f"cfid_{way.lower()}": found[way]["C-FID"] for way in ("SRResNet", "SRGAN")}
        numbers["cfid_drop"] = 1 - found["SRGAN"]["C-FID"] / found["SRResNet"]["C-FID"]
    pictures = [tg.tensor(images[:shown]) for images in (*made.values(), x)]
    return Findings(numbers, {"restored": Rows(pictures, [*made, "truth"])}, rows)


@study("four times the side: interpolation, SRResNet and SRGAN", on=("srresnet-x4", "srgan-x4"), lectures=(2,),
       exact=True, least={"shown": 1, "n": 2}, tiny={"n": 32})  # fmt: skip
def super_resolution_x4(net: Trained, game: Trained, n: int = 10_000, shown: int = 6) -> Findings:
    """As super-resolution, from a sixteenth of the pixels.

    n: test images, at most
    shown: images in the picture
    """
    return super_resolution(net, game, n, shown)


def _compared(way: str, images: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"way": way, "PSNR": float(restored.psnrs(images, truth).mean())}
    if min(truth.shape[2:]) >= restored.SMALLEST:
        row["SSIM"] = metrics.ssim(images, truth)
    if metrics.scorable(truth.shape[1:]):
        row |= {"C-FID": restored.distance(images, truth).get("cfid", "-")}
    return row


# ---------------------------------------------------------------------------------- G21: colours

COLOURISERS = ("colourise-unconditional", "colourise", "colourise-z", "colourise-l2", "colourise-l1")


def of_few_hues(shape: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Why the study of colours refuses: it knows the law of few hues alone."""
    if data.startswith(("two-hues-", "three-hues-")):
        return None
    return f"it knows the law of hues of two-hues-digits, two-hues-mnist and three-hues-..., and these are {data}"


@study("two equally likely colours: which objective keeps them", on=COLOURISERS, lectures=(2,), least={"shown": 1},
       asks=of_few_hues, exact=True)  # fmt: skip
def colours(
    unconditional: Trained, conditional: Trained, noisy: Trained, squared: Trained, absolute: Trained, shown: int = 8
) -> Findings:
    """Grey test images in the colours of five objectives, beside the truth.

    saturation: of all light of an image, mean over images. hue error: largest |share of images of a hue - 1/k|.
    brightness: the brightest channel's light, by the truth's. The mean of colours that cancel is grey; the median of
    each channel of three primaries is black.

    shown: images in the picture
    """
    dataset: Any = conditional.dataset  # of few hues, as `asks` says
    hues = np.unique(dataset.train_hues).tolist()
    truth = dataset.floats("test")
    runs = dict(zip(COLOURISERS, (unconditional, conditional, noisy, squared, absolute)))
    made = {name: computed(one, one.step.restored, truth) for name, one in track(list(runs.items()), "objectives")}
    rows: list[dict[str, Any]] = []
    numbers: dict[str, float] = {}
    for name, images in {"truth": truth, **made}.items():
        shares = restored.hue_shares(images, hues)
        rows.append({
            "objective": name, "saturation": float(restored.saturations(images).mean()),
            "hue error": float(abs(shares - 1 / len(hues)).max()), **{f"hue {h:.2g}": s for h, s in zip(hues, shares)},
            "brightness": float(_brightness(images) / _brightness(truth)),
            "squared error": float(((images - truth) ** 2).mean()),
            "absolute error": float(abs(images - truth).mean()),
        })  # fmt: skip
    for row in rows[1:]:
        key = row["objective"].removeprefix("colourise").strip("-") or "conditional"
        numbers |= {f"saturation_{key}": row["saturation"], f"hue_error_{key}": row["hue error"],
                    f"brightness_{key}": row["brightness"]}  # fmt: skip
    seen = np.repeat(truth.max(1, keepdims=True), 3, 1)
    pictures = [tg.tensor(images[:shown]) for images in (seen, *made.values(), truth)]
    return Findings(numbers, {"colours": Rows(pictures, ["grey", *made, "truth"])}, rows)


def _brightness(images: np.ndarray) -> float:
    return float(images.max(1).mean(dtype=np.float64))


# ---------------------------------------------------------------------------------- G22: the role of noise


@study("how much of an image noise decides, and how much what G sees", on=("pix2pix-z",), lectures=(2,),
       needs=("latent",), least={"draws": 2, "images": 2, "shown": 1}, tiny={"draws": 3, "images": 8})  # fmt: skip
def role_of_z(trained: Trained, draws: int = 16, images: int = 200, shown: int = 6) -> Findings:
    """The share of the variance of G(x, z) that is of z: mean over x of the variance over z, by that over both.

    0 where G has learned to leave z out: the input says it all. A G without z is 0 by construction. What is open, such
    as colours of outlines (--data two-hues-digits), z may decide. In the picture a row: what G sees, and draws.

    draws: of z for each image
    images: test images
    shown: of them in the picture
    """
    x = trained.dataset.limited(images).floats("test")
    seen = computed(trained, trained.step.observed, x)
    made = _drawn(trained, seen, draws)
    numbers = {"share_of_z": share_of_noise(made), "deviation_of_z": float(made.std(0).mean())}
    rows = [tg.tensor(np.concatenate([_as_seen(seen[i], made.shape[2]), made[: min(draws, 9), i]]))
            for i in range(min(shown, len(seen)))]  # fmt: skip
    return Findings(numbers, {"draws": Rows(rows, ["x, G(x, z)"] * len(rows))})


def share_of_noise(made: np.ndarray) -> float:
    """Variance over draws (axis 0), mean over images (axis 1) and values, by the variance over draws and images.

    Both by n - 1: a G of noise alone has 1 in the mean, however few the draws.
    """
    within = made.var(0, ddof=1, dtype=np.float64).mean()
    total = made.reshape(-1, *made.shape[2:]).var(0, ddof=1, dtype=np.float64).mean()
    return float(within / max(total, 1e-12))


def _drawn(one: Trained, seen: np.ndarray, draws: int) -> np.ndarray:
    """(draws, N, C, H, W): what G makes of each image, with other noise in every draw."""
    with aside(one.step, 0):
        x = tg.tensor(seen, device=one.step.device)
        return np.stack([one.step.apply(x).cpu().numpy() for _ in range(draws)])


def _as_seen(image: np.ndarray, channels: int) -> np.ndarray:
    return np.repeat(image[None], channels, 1) if len(image) < channels else image[None]


# ---------------------------------------------------------------------------------- G24: without pairs


def changed_digits(shape: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Why the study of translation refuses: the change from one kind to the other is not known."""
    if data.partition("+")[2] in CHANGES:
        return None
    known = " or ".join(f"digits+{change}" for change in CHANGES)
    return f"it needs digits beside changed ones, such as {known}, and these are {data}"


@study("from one kind of images to another, where the way is known: are digits kept?", on=("cyclegan",),
       lectures=(0, 1, 2, 3), least={"shown": 1}, asks=changed_digits)  # fmt: skip
def translation(trained: Trained, shown: int = 8) -> Findings:
    """A pair of digits and changed digits: what a frozen network makes of translated test digits, changed back.

    kept: share taken for their label, of both ways; the error beside the change itself; and of G(F(y)) and F(G(x)).
    A G that changes nothing keeps digits, too: see the same figures of images as they are, and how far they lean.

    shown: images in the picture
    """
    dataset = trained.dataset
    assert isinstance(dataset, Unpaired)
    name = trained.settings.data["name"].partition("+")[2]
    change, step = CHANGES[name], trained.step
    x, y = dataset.first.floats("test"), dataset.second.floats("test")
    to_b, to_a = computed(trained, step.forth, x), computed(trained, step.back, y)
    around = computed(trained, step.back, to_b), computed(trained, step.forth, to_a)
    wanted = change.apply(x), change.undo(y)
    numbers = {
        "cycle_l1": _l1((around[0], around[1]), (x, y)), "translation_l1": _l1((to_b, to_a), wanted),
        "untranslated_l1": _l1((x, y), wanted),
    }  # fmt: skip
    if name == "slanted":
        leaning = {"x": x, "translated": to_b, "changed": wanted[0]}
        numbers |= {f"slant_{what}": float(noise.slant(images).mean()) for what, images in leaning.items()}
    if metrics.scorable((1, *x.shape[2:])) and tuple(dataset.classes) == DIGITS:
        labels = dataset.first.test_labels, dataset.second.test_labels
        kept = [_recognised(images, of) for images, of in zip((change.undo(to_b), to_a), labels)]
        numbers |= {"kept_forth": kept[0], "kept_back": kept[1],
                    "kept": (len(x) * kept[0] + len(y) * kept[1]) / (len(x) + len(y))}  # fmt: skip
        numbers["kept_real"] = _recognised(x, labels[0])
        as_they_are = [_recognised(images, of) for images, of in zip((change.undo(x), y), labels)]
        numbers["kept_untranslated"] = (len(x) * as_they_are[0] + len(y) * as_they_are[1]) / (len(x) + len(y))
    rows = [tg.tensor(images[:shown]) for images in (x, to_b, wanted[0], around[0], y, to_a, wanted[1], around[1])]
    titles = ["x", "G(x)", "x changed", "F(G(x))", "y", "F(y)", "y changed back", "G(F(y))"]
    return Findings(numbers, {"translation": Rows(rows, titles)})


def _l1(images: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Mean |a - b| per value over two sets, each with the same weight."""
    return float(np.mean([abs(a - b).mean(dtype=np.float64) for a, b in zip(images, others)]))


def _recognised(images: np.ndarray, labels: np.ndarray) -> float:
    grey = images if images.shape[1] == 1 else untinted(images)[0].astype(np.float32)
    return metrics.gan_test(grey, labels)[0]


# ---------------------------------------------------------------------------------- G18: what refined drawings teach


@study("what a classifier learns from drawn digits, from refined ones and from real ones", on=("refiner",),
       lectures=(3,), least={"draws": 1, "updates": 1, "shown": 1}, tiny={"draws": 1, "updates": 3})  # fmt: skip
def refined(trained: Trained, draws: int = 3, updates: int = 1000, shown: int = 10) -> Findings:
    """Test accuracy on real digits of LeNet-5 that learns from drawn digits, from what the refiner makes of them, and
    from as many real ones. labels kept: share of refined digits that the network of drawn ones takes for their label.
    recognised: share of drawn and of refined digits that the frozen network, which knows real ones, takes for it.

    draws: of untrained weights
    updates: of each classifier
    shown: images in the picture
    """
    dataset = trained.dataset
    if not isinstance(dataset, Unpaired) or tuple(dataset.first.classes) != tuple(dataset.second.classes):
        raise RunError(f"study refined needs drawn digits beside real ones of the same classes; {trained.folder} is "
                       f"trained on {trained.settings.data['name']}")  # fmt: skip
    drawn, labels = dataset.first.floats("train"), dataset.first.train_labels
    real, answers = dataset.second.floats("test"), dataset.second.test_labels
    made = computed(trained, trained.step.apply, drawn)
    draw = generator()
    chosen = draw.permutation(dataset.second.count("train"))[: len(drawn)]
    assert dataset.second.train_labels is not None
    lessons: Mapping[str, tuple] = {
        "drawn": (drawn, labels), "refined": (made, labels),
        "real": (dataset.second.floats("train", chosen), dataset.second.train_labels[chosen]),
    }
    reached: dict[str, list[float]] = {name: [] for name in lessons}
    same: list[float] = []
    for _ in track(range(draws), "classifiers"):
        seed = int(draw.integers(2**31))
        for name, (images, of) in lessons.items():
            tg.manual_seed(seed)  # the same untrained weights, the same order
            network = classifier(dataset.second, images, of, updates, np.random.default_rng(seed))
            reached[name].append(transfer.judged(network, real, answers))
            same += [transfer.judged(network, made, labels)] if name == "drawn" else []
    means = {name: float(np.mean(values)) for name, values in reached.items()}
    rows = [{"learns from": name, "images": len(lessons[name][0]), "accuracy": means[name],
             "deviation": float(np.std(reached[name]))} for name in lessons]  # fmt: skip
    numbers = {f"learned_from_{name}": mean for name, mean in means.items()}
    numbers |= {"gain_refined": means["refined"] - means["drawn"], "labels_kept": float(np.mean(same))}
    if metrics.scorable(dataset.shape) and tuple(dataset.classes) == DIGITS:
        numbers["recognised_refined"] = metrics.gan_test(made, labels)[0]
        numbers["recognised_drawn"] = metrics.gan_test(drawn, labels)[0]
    some = np.linspace(0, len(drawn) - 1, shown).astype(int)  # of each class and kind
    pictures = [tg.tensor(images) for images in (drawn[some], made[some], lessons["real"][0][:shown])]
    return Findings(numbers, {"refined": Rows(pictures, list(lessons))}, rows)
