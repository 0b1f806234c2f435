"""Before networks (lecture 0): sparse codes, and denoisers that look at the neighbours of a pixel.

    tinygen study sparse-coding --data china
    tinygen study classic-denoisers runs/conv-denoising-gauss30-001
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

import tinygen as tg
from tinygen.data import Dataset
from tinygen.data.corruptions import gaussian
from tinygen.data.drawn import Textures, painted, textures
from tinygen.data.selection import subset
from tinygen.metrics import auroc, psnr
from tinygen.studies import denoising
from tinygen.studies import sparse_coding as sparse
from tinygen.training import aside, draw_powers

from .settings import RunError
from .study import Findings, Rows, Sheet, Trained, generator, study

SHOWN = 8  # images of a picture
OPTIMUM = 10  # times the steps: what FISTA reaches then is taken for the optimum

# ---- sparse coding


@study(
    "sparse codes: atoms, ISTA and FISTA, images denoised and deblurred, defects found", data="flower", lectures=(0,),
    tiny={"atoms": 12, "patches": 200, "rounds": 2, "steps": 4, "images": 8, "textured": 8},
    least={"atoms": 2, "side": 2, "patches": 2, "textured": 2}, above={"strength": 0, "noise": 0, "blur": 0},
)  # fmt: skip
def sparse_coding(
    dataset: Dataset, atoms: int = 128, side: int = 8, strength: float = 0.05, patches: int = 8000, rounds: int = 20,
    steps: int = 60, images: int = 24, noise: float = 0.1, blur: float = 1.5, textured: int = 40,
) -> Findings:  # fmt: skip
    """A dictionary is learned from patches of training images; test images are denoised and deblurred with it.

    Defects are looked for on the data's own textures, or on drawn fibres, with a dictionary of normal ones.

    atoms: in a dictionary
    side: pixels of a patch, at most the image's
    strength: lambda of the learning, of the curves and of the outliers' density
    patches: that a dictionary is learned from
    rounds: of learning, codes and atoms by turns
    steps: of ISTA and FISTA; twice as many for deblurring
    images: test images that are denoised and deblurred
    noise: standard deviation of what is added before denoising; a fifth of it after blurring
    blur: standard deviation of the Gaussian blur, in pixels
    textured: test textures, three of four with a defect
    """
    dataset = dataset.in_channels(1)
    side = min(side, *dataset.shape[1:])
    draw = generator()
    train = dataset.floats("train", subset(dataset.count("train"), 1000))[:, 0]
    test = dataset.floats("test", subset(dataset.count("test"), images))[:, 0]
    known = _some_patches(train, side, patches, draw)
    known = known - known.mean(1, keepdims=True)  # denoising keeps a patch's own mean
    learned = sparse.learned_atoms(known, atoms, strength, rounds, seed=int(draw.integers(2**31)))

    numbers, curves = _descent(known[:200], learned, strength, steps)
    restored, table = {}, []
    for what, (clean, seen, found), figures in (
        ("denoised", *_denoised(train, test, learned, noise, steps)),
        ("deblurred", *_deblurred(train, test, learned, noise / 5, blur, steps)),
    ):
        order = np.argsort(-clean.var((1, 2)))[:SHOWN]  # a crop of the sky shows nothing
        shown = [tg.tensor(y[order, None].astype(np.float32)) for y in (clean, seen.clip(0, 1), found)]
        restored[what] = Rows(shown, ("clean", "seen", what))
        table += [{"task": what, "method": name, "figure": "PSNR", "value": value, "n": len(test)}
                  for name, value in figures.items()]  # fmt: skip
    found_defects, defects = _outliers(dataset, atoms, side, strength, patches, rounds, steps, textured, draw)
    table += [{"task": "defects", "method": name, "figure": "AUROC of pixels", "value": value, "n": textured}
              for name, value in found_defects.items()]  # fmt: skip
    value = {(row["task"], row["method"]): row["value"] for row in table}
    numbers |= {
        "psnr_noisy": value["denoised", "nothing"], "psnr_linear": value["denoised", "best linear map of a patch"],
        "psnr_denoised": value["denoised", "sparse code"], "psnr_blurred": value["deblurred", "nothing"],
        "psnr_wiener": value["deblurred", "Wiener filter"], "psnr_deblurred": value["deblurred", "sparse code"],
        "auroc": value["defects", "objective"],
    }  # fmt: skip
    pictures = {"atoms": _drawn(learned, known, strength, steps), "objective": curves} | restored | defects
    return Findings(numbers, pictures, table)


def _some_patches(images: np.ndarray, side: int, count: int, draw: np.random.Generator) -> np.ndarray:
    """(count, side^2): squares of images (N, H, W) at random places; all images where they are no larger."""
    windows = sparse.patches_of(images, side)
    places = [draw.integers(0, n, count) for n in windows.shape[:3]]
    return windows[tuple(places)].reshape(count, -1)


def _descent(known: np.ndarray, learned: np.ndarray, strength: float, steps: int) -> tuple[dict, Any]:
    """How far ISTA and FISTA are above the optimum after each step, as shares of it: figures and a picture."""
    D, z = sparse.matrix(tg.tensor(learned, dtype=tg.float64)), tg.tensor(known, dtype=tg.float64)
    lipschitz = sparse.largest_square(learned)
    value = lambda x: sparse.objective(D, x, z, strength).mean().item()
    last = sparse.after(sparse.fista(D, z, strength, lipschitz), OPTIMUM * steps)
    best = value(last)
    step = np.arange(1, steps + 1)
    gaps = {}
    for name, algorithm in (("ISTA", sparse.ista), ("FISTA", sparse.fista)):
        iterates = islice(algorithm(D, z, strength, lipschitz), steps)
        gaps[name] = (step, np.array([value(x) / best - 1 for x in iterates]))
    first = gaps["ISTA"][1][0]
    guides = {"1 / k": (step, first / step), "1 / k²": (step, first / step**2)}
    used = (last != 0).sum(1).to(tg.float64).mean().item()
    numbers = {"ista_gap": gaps["ISTA"][1][-1], "fista_gap": gaps["FISTA"][1][-1], "atoms_used": used}
    title = f"objective of {len(known):,} patches, λ = {strength:g}"
    return numbers, draw_powers(gaps, guides, "steps k", "above the optimum, as a share of it", title)


def _drawn(learned: np.ndarray, known: np.ndarray, strength: float, steps: int) -> Sheet:
    """The atoms as images around grey, those used most first."""
    D, z = sparse.matrix(tg.tensor(learned)), tg.tensor(known)
    codes = sparse.after(sparse.fista(D, z, strength, sparse.largest_square(learned)), steps)
    order = np.argsort(-codes.abs().sum(0).numpy(), kind="stable")
    side = round(learned.shape[1] ** 0.5)
    shown = 0.5 + 0.5 * learned / abs(learned).max(1, keepdims=True)
    return Sheet(tg.tensor(shown[order].reshape(-1, 1, side, side)), 16)


def _denoised(
    train: np.ndarray, test: np.ndarray, learned: np.ndarray, noise: float, steps: int
) -> tuple[tuple[np.ndarray, ...], dict[str, float]]:
    """(clean, noisy, denoised) and the PSNR of each method: every patch by itself, means where patches overlap."""
    side = round(learned.shape[1] ** 0.5)
    stride = _stride(test.shape[1:], side, 2)
    noisy = gaussian(noise)(tg.tensor(test)).numpy()
    squares = sparse.patches_of(noisy, side, stride)
    flat = squares.reshape(-1, side * side)
    bright = flat.mean(1, keepdims=True)
    D = sparse.matrix(tg.tensor(learned))
    strength = 1.75 * noise  # the best of 1.5, 1.75, 2, 2.5 and 3 on training images held out
    x = sparse.after(sparse.fista(D, tg.tensor(flat - bright), strength, sparse.largest_square(learned)), steps)
    together = lambda found: sparse.averaged(found.reshape(squares.shape), stride).clip(0, 1)
    found = together(D.forward(x).numpy() + bright)
    known = sparse.patches_of(train, side, side).reshape(-1, side * side).astype(float)
    best = together(denoising.linear(flat, known.mean(0), np.cov(known.T), noise))
    figures = {"nothing": psnr(noisy, test), "best linear map of a patch": psnr(best, test),
               "sparse code": psnr(found, test)}  # fmt: skip
    return (test, noisy, found), figures


def _deblurred(
    train: np.ndarray, test: np.ndarray, learned: np.ndarray, noise: float, blur: float, steps: int
) -> tuple[tuple[np.ndarray, ...], dict[str, float]]:
    """(clean, blurred, deblurred) and PSNRs, leaving out a margin, over which the blur takes in what lies outside.

    The image is a transposed convolution of its codes, and what is seen the blur of that.
    """
    side = round(learned.shape[1] ** 0.5)
    constant = np.full((1, side * side), 1 / side, np.float32)  # what patches were learned without
    kernels = tg.tensor(np.concatenate([constant, learned]).reshape(-1, 1, side, side))
    image = sparse.transposed_convolution(kernels, _stride(test.shape[1:], side, side // 4))
    kernel = denoising.gaussian_kernel(blur)
    R = sparse.convolution(tg.tensor(kernel.astype(np.float32)))
    mean = train.mean()  # outside the image all is of mean brightness
    z = gaussian(noise)(R.forward(tg.tensor(test[:, None] - mean)))
    seen = sparse.composed(R, image)
    lipschitz = 1.02 * sparse.largest_eigenvalue(seen, tg.randn_like(seen.adjoint(z[:1])))
    strength = noise / 3  # near the best of 1/4, 1/3 and 1/2 on training images held out
    x = sparse.after(sparse.fista(seen, z, strength, lipschitz), 2 * steps)  # a blur makes it slow
    found = (image.forward(x).numpy()[:, 0] + mean).clip(0, 1)
    blurred = z.numpy()[:, 0] + mean
    wiener = denoising.wiener(blurred, train.mean(0), denoising.spectrum(train), noise, kernel).clip(0, 1)
    edge = min(len(kernel) // 2, min(test.shape[1:]) // 4)
    within = lambda y: psnr(y[:, edge:-edge, edge:-edge], test[:, edge:-edge, edge:-edge])
    figures = {"nothing": within(blurred), "Wiener filter": within(wiener), "sparse code": within(found)}
    return (test, blurred, found), figures


def _stride(shape: Sequence[int], side: int, most: int) -> int:
    """The largest step, at most `most`, at which patches end with the image."""
    return max(s for s in range(1, max(most, 1) + 1) if all((n - side) % s == 0 for n in shape))


def _outliers(
    dataset: Dataset, atoms: int, side: int, strength: float, patches: int, rounds: int, steps: int, count: int,
    draw: np.random.Generator,
) -> tuple[dict[str, float], dict]:  # fmt: skip
    """AUROC of pixels with a defect for each score, and a picture: textures, the objective as a map, the defects."""
    drawn = lambda: textures("fibres", train=5 * count, test=count, defect=painted)
    textured = dataset if isinstance(dataset, Textures) else drawn()
    train = textured.floats("train")[:200, 0]
    test, masks = textured.floats("test")[:count, 0], np.asarray(textured.test_masks)[:count, 0]
    mean = train.mean()  # of all pixels: a patch that is too bright is an outlier, too
    known = _some_patches(train, side, patches, draw) - mean
    learned = sparse.learned_atoms(known, atoms, strength, rounds, seed=int(draw.integers(2**31)))
    D, lipschitz = sparse.matrix(tg.tensor(learned)), sparse.largest_square(learned)
    stride = _stride(test.shape[1:], side, 2)
    squares = sparse.patches_of(test, side, stride)
    flat = squares.reshape(-1, side * side) - mean
    z = tg.tensor(flat)
    x = sparse.after(sparse.fista(D, z, strength, lipschitz), steps)
    scores = {
        "objective": sparse.objective(D, x, z, strength).numpy(),
        "|Dx - z|^2 alone": sparse.objective(D, x, z, 0.0).numpy(),
        "|x|_1 alone": x.abs().sum(1).numpy(),
        "distance to the mean": (flat**2).sum(1),
    }
    spread = lambda score: np.broadcast_to(score.reshape(*squares.shape[:3], 1, 1), squares.shape)
    maps = {name: sparse.averaged(spread(score), stride) for name, score in scores.items()}
    figures = {name: auroc(at.ravel(), masks.ravel() > 0.5) for name, at in maps.items()}
    low, high = np.quantile(maps["objective"], (0.01, 0.995))
    heat = ((maps["objective"] - low) / (high - low)).clip(0, 1)
    shown = [tg.tensor(a[:SHOWN, None].astype(np.float32)) for a in (test, heat, masks)]
    titles = ("textures", "objective", "defects")
    return figures, {"defects": Rows(shown, titles), "texture-atoms": _drawn(learned, known, strength, steps)}


# ---- denoisers without a network


@study(
    "denoisers without a network beside a trained one", on=("denoising-gauss30",), lectures=(0,),
    needs=("sd",), tiny={"images": 12, "tuned": 6},
)  # fmt: skip
def classic_denoisers(trained: Trained, images: int = 1000, tuned: int = 50) -> Findings:
    """PSNR of test images with the noise that the run was trained against; all estimates are cut to [0, 1].

    images: test images
    tuned: training images on which the width of windows is chosen
    """
    step, dataset = trained.step, trained.dataset
    sd = trained.settings.arguments["sd"]
    if not sd > 0:
        raise RunError(
            f"study classic-denoisers: sd of {trained.folder} must be above 0, it is {sd:g}: nothing is to be removed; "
            f"name another run, or leave it out"
        )
    train = dataset.floats("train")
    some = train[subset(len(train), tuned)]
    clean = dataset.floats("test", subset(dataset.count("test"), images))
    spoil = gaussian(sd)
    spoilt, noisy = spoil(tg.tensor(some)).numpy(), spoil(tg.tensor(clean)).numpy()
    flat = _planes(train).reshape(len(train) * train.shape[1], -1)
    every = _planes(train)
    with aside(step, 0):
        restored = step.apply(tg.tensor(noisy).to(step.device)).cpu().numpy()
    estimates: list[tuple[str, str, np.ndarray]] = [("nothing", "", noisy)]
    for name, candidates in _candidates(sd).items():
        tried = {setting: _on_planes(denoise, spoilt) for setting, denoise in candidates.items()}
        best = max(tried, key=lambda setting: psnr(tried[setting], some))
        estimates.append((name, best, _on_planes(candidates[best], noisy)))
    mean, power = every.mean(0), denoising.spectrum(every)
    estimates.append(("Wiener filter", "spectrum of training images",
                      _on_planes(lambda z: denoising.wiener(z, mean, power, sd), noisy)))  # fmt: skip
    covariance = np.cov(flat.T)
    whole = lambda z: denoising.linear(z.reshape(len(z), -1), flat.mean(0), covariance, sd).reshape(z.shape)
    estimates.append(("best linear map", "covariance of training images", _on_planes(whole, noisy)))
    estimates.append((trained.settings.recipe, str(trained.folder), restored.clip(0, 1)))
    reached = {name: psnr(found, clean) for name, _, found in estimates}
    table = [{"denoiser": name, "setting": setting, "PSNR": reached[name], "n": len(clean)}
             for name, setting, _ in estimates]  # fmt: skip
    polynomials = [value for name, value in reached.items() if name.startswith("polynomial") and name != ADAPTIVE]
    numbers = {
        "psnr_noisy": reached["nothing"], "psnr_polynomial": max(polynomials), "psnr_adaptive": reached[ADAPTIVE],
        "psnr_bilateral": reached["bilateral filter"], "psnr_wiener": reached["Wiener filter"],
        "psnr_linear": reached["best linear map"], "psnr_trained": reached[trained.settings.recipe],
    }  # fmt: skip
    shown = [clean, *(found for _, _, found in estimates)]
    beside = [tg.tensor(one[:SHOWN].clip(0, 1).astype(np.float32)) for one in shown]
    titles = ["clean", *(f"{name}: {value:.1f} dB" for name, value in reached.items())]
    return Findings(numbers, {"denoised": Rows(beside, titles)}, table)


ADAPTIVE = "polynomial of degree 0, adaptive neighbourhoods"


def _candidates(sd: float) -> dict[str, dict[str, Callable]]:
    """name: {setting: a function of planes (N, H, W)}, of which one is chosen on training images."""
    found: dict[str, dict[str, Callable]] = {}
    widths = {f"window of {width:g} pixels": denoising.gaussian_kernel(width) for width in (0.5, 0.6, 0.7, 0.8, 1, 1.4)}
    for degree in (0, 1, 2):
        found[f"polynomial of degree {degree}"] = {
            setting: partial(denoising.local_polynomial, window=window, degree=degree)
            for setting, window in widths.items()
        }
    found[ADAPTIVE] = {
        f"intervals of {width:g} deviations": partial(_adaptive, sd=sd, width=width)
        for width in (0.2, 0.3, 0.5, 0.8, 1.2)
    }
    found["bilateral filter"] = {
        f"{setting}, range {reach:g}": partial(denoising.bilateral, window=window, range_sd=reach)
        for setting, window in widths.items()
        for reach in (0.5, 0.7, 1, 2, 4)
    }
    return found


def _adaptive(images: np.ndarray, sd: float, width: float) -> np.ndarray:
    return denoising.adaptive_neighbourhoods(images, (1, 2, 3, 5), 0, sd, width).estimate


def _planes(images: np.ndarray) -> np.ndarray:
    """(N C, H, W): every colour of images (N, C, H, W) by itself."""
    return images.reshape(-1, *images.shape[2:])


def _on_planes(denoise: Callable, images: np.ndarray) -> np.ndarray:
    return denoise(_planes(images)).reshape(images.shape).clip(0, 1)
