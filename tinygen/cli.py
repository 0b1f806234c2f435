"""The command line: train, resume, sample, evaluate, list, doctor, check-data.

    tinygen train vae                                   # the embedded digits, about a minute
    tinygen train dcgan --data mnist --epochs 10
    tinygen train conv-vae --data ~/pictures --size 32  # own images
    tinygen resume runs/vae-001
    tinygen sample runs/vae-001 -n 64 --seed 1

What is wrong with the input is said in one line, with exit code 2; Ctrl-C saves and ends with 130. Libraries that are
slow to import are imported after the first output.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

COMMANDS = {
    "train": "train a recipe", "resume": "go on with a run that was stopped, or train it longer",
    "sample": "draw pictures from a trained run", "evaluate": "print the test figures of a run",
    "list": "list the recipes, and the runs here", "doctor": "say what is installed and whether it works",
    "check-data": "look at a data set before training on it",
}  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        _fail(f"{message} (see: {self.prog} --help)")


def _fail(message: str) -> NoReturn:
    print(f"tinygen: {message}", file=sys.stderr)
    raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code (0, 2 for wrong input, 130 after Ctrl-C)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        _fail(f"there is no command {argv[0]!r}.{guess} Commands: {', '.join(COMMANDS)}")
    arguments = _parser().parse_args(argv)
    if arguments.command is None:
        _parser().print_help()
        return 0
    from tinygen.data import DataError
    from tinygen.recipes import RunError
    from tinygen.training import Interrupted, NotFinite

    try:
        return globals()["_" + arguments.command.replace("-", "_")](arguments) or 0
    except (DataError, RunError, NotFinite, FileNotFoundError, PermissionError) as error:
        _fail(str(error))
    except ValueError as error:
        if not str(error).startswith("TINYGEN_CPU="):  # a wrong environment variable; all else is ours
            raise
        _fail(str(error))
    except RuntimeError as error:
        if not str(error).startswith("device "):  # a device that is not there is the user's to mend; all else is ours
            raise
        _fail(str(error))
    except Interrupted as error:
        print(f"\n{error}; everything is saved. Go on with:\n  tinygen resume {_Last.folder}")
        return 130
    except KeyboardInterrupt:
        print("\nstopped at once", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `tinygen list | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


class _Last:
    """The folder of the run in progress, for the message after Ctrl-C."""

    folder: Path


def _parser() -> _Parser:
    parser = _Parser(prog="tinygen", description="Generative models, from the equation to the kernel.")
    commands = parser.add_subparsers(dest="command", metavar="command")
    make = {name: commands.add_parser(name, help=text, description=text) for name, text in COMMANDS.items()}

    train = make["train"]
    train.add_argument("recipe", help="its name; see: tinygen list")
    _data_options(train)
    train.add_argument("--epochs", type=_positive(int), help="passes over the training images")
    train.add_argument("--batch-size", type=_positive(int), help="images per step")
    train.add_argument("--lr", type=_positive(float), help="learning rate")
    train.add_argument("--seed", type=_seed, default=0, help="same seed and threads, same run (default 0)")
    train.add_argument("--preset", choices=("cpu", "gpu"), default="cpu", help="sizes and device (default cpu)")
    train.add_argument("--device", help="cpu, cuda or cuda-emulated (default: the preset's)")
    train.add_argument(
        "--threads", type=_positive(int), help="CPU threads (default: all cores; 1 for images below 16 pixels)"
    )
    train.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an argument of the model, such as latent=2"
    )
    train.add_argument("--out", type=Path, help="folder of the run (default: runs/<recipe>-<next number>)")

    resume = make["resume"]
    resume.add_argument("run", type=Path, help="folder of the run")
    resume.add_argument("--epochs", type=_positive(int), help="train until so many epochs are done in total")

    for command in ("resume", "sample", "evaluate"):
        make[command].add_argument("--device", help="cpu, cuda or cuda-emulated (default: the run's)")
    make["doctor"].add_argument("--device", help="what to check (default: cpu, and cuda where there is a GPU)")

    sample = make["sample"]
    sample.add_argument("run", type=Path, help="folder of the run")
    sample.add_argument("-n", type=_positive(int), default=64, help="how many (default 64)")
    sample.add_argument("--seed", type=_seed, default=1, help="same seed, same samples (default 1)")
    sample.add_argument(
        "--out", type=Path, help="picture file, or .npy for the numbers (default: <run>/sample-<seed>.png)"
    )

    evaluate = make["evaluate"]
    evaluate.add_argument("run", type=Path, help="folder of the run")
    evaluate.add_argument("-n", type=_positive(int), default=10_000, help="samples that are scored (default 10,000)")
    evaluate.add_argument("--seed", type=_seed, default=0)

    check = make["check-data"]
    check.add_argument("data", help="a name, or the path of an image folder, .npz file, or idx folder")
    _data_options(check, data=False)
    check.add_argument("--out", type=Path, help="also write a sheet of images there (default: <name>-sheet.png)")
    return parser


def _data_options(parser: argparse.ArgumentParser, data: bool = True) -> None:
    if data:
        parser.add_argument(
            "--data", default="digits", help="digits (default), mnist, fashion-mnist, or a path to your images"
        )
    parser.add_argument("--size", type=_positive(int), help="pixels a side, at least 8 (default: as in the data)")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1 grey, 3 colour (default: as in the data)")
    parser.add_argument("--limit", type=_positive(int), help="use at most so many images")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^63 - 1, it is {text}")
    return int(text)


def _positive(kind: type) -> Any:
    def convert(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be {'at least 1' if kind is int else 'above 0'}, it is {text}")
        return value

    convert.__name__ = f"positive {'whole number' if kind is int else 'number'}"  # argparse says: invalid ... value
    return convert


def _train(arguments: argparse.Namespace) -> None:
    from tinygen.recipes import find, start
    from tinygen.training import Display

    find(arguments.recipe)  # before anything is loaded
    if arguments.device:
        _device(arguments.device)
    run = start(
        arguments.recipe, arguments.data, folder=arguments.out, size=arguments.size, channels=arguments.channels,
        limit=arguments.limit, display=Display(), preset=arguments.preset, seed=arguments.seed, device=arguments.device,
        epochs=arguments.epochs, batch_size=arguments.batch_size, lr=arguments.lr, threads=arguments.threads,
        model=_assignments(arguments.set),
    )  # fmt: skip
    _go(run)


def _device(name: str) -> Any:
    """The device that the option names; RunError, naming the option, where it is not there."""
    import tinygen as tg
    from tinygen.recipes import RunError

    try:
        return tg.device(name)
    except (ValueError, RuntimeError) as error:
        raise RunError(f"--device {name}: {error}") from error


def _assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """{"latent": 2} of ["latent=2"]; values are JSON, or else text."""
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            _fail(f"--set {pair}: write NAME=VALUE, such as latent=2")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _resume(arguments: argparse.Namespace) -> int:
    from tinygen.recipes import open_run
    from tinygen.training import Display

    run = open_run(arguments.run, display=Display(), epochs=arguments.epochs, device=arguments.device)
    if run.position.epoch >= run.settings.epochs:
        print(f"{run.folder} has all its {run.settings.epochs} epochs; train it longer with:\n"
              f"  tinygen resume {run.folder} --epochs {2 * run.settings.epochs}")  # fmt: skip
        return 0
    _go(run)
    return 0


def _go(run: Any) -> None:
    """Trains, with a head that says what and a foot that says where everything is."""
    from tinygen.training.display import duration

    settings, step = run.settings, run.step
    counts = ", ".join(
        f"{name} {sum(p.numel() for p in module.parameters()):,}" for name, module in step.modules.items()
    )
    print(f"{settings.recipe} on {run.dataset!r}")
    place = f"{settings.device}, {settings.threads} thread{'s' if settings.threads > 1 else ''}"
    print(f"parameters: {counts}; {place}, seed {settings.seed}; run in {run.folder}")
    at = f" from epoch {run.position.epoch + 1}" if run.position.epoch or run.position.index else ""
    print(
        f"{settings.epochs} epochs of {len(run.batches)} steps with {settings.batch_size} images{at}; Ctrl-C saves",
        flush=True,
    )
    _Last.folder = run.folder
    run.fit()
    pictures = sorted(p for p in run.folder.iterdir() if p.suffix in (".png", ".gif"))
    print(f"\ndone in {duration(run.seconds)}. Look at:")
    for picture in pictures:
        print(f"  {picture}")
    print("and go on with:")
    if hasattr(step, "sample"):
        print(f"  tinygen sample {run.folder} -n 64 --seed 1")
    print(f"  tinygen evaluate {run.folder}")
    print(f"  tinygen resume {run.folder} --epochs {2 * settings.epochs}")


def _sample(arguments: argparse.Namespace) -> None:
    from tinygen.recipes import RunError, load_run
    from tinygen.recipes.recipe import read_settings, samples, writing

    step = load_run(arguments.run, arguments.device)
    if not hasattr(step, "sample"):
        recipe = read_settings(arguments.run).recipe
        what = "gives labels, not images" if recipe == "lenet" else "has learned no distribution to sample from"
        raise RunError(
            f"{arguments.run} is a {recipe}: it {what}; see {arguments.run}/*.png, or try: tinygen train vae"
        )
    target = arguments.out or arguments.run / f"sample-{arguments.seed}.png"
    if target.suffix.lower() not in (".png", ".npy"):
        raise RunError(f"--out {target}: the file must end in .png or .npy")
    with writing(target):  # before the samples are drawn, which may take a while
        target.parent.mkdir(parents=True, exist_ok=True)
    images = samples(step, arguments.n, arguments.seed)
    with writing(target):
        if target.suffix.lower() == ".npy":
            import numpy as np

            with open(target, "wb") as file:  # np.save would make x.NPY.npy of x.NPY
                np.save(file, images.numpy())
        else:
            from tinygen.training.pictures import save_picture

            save_picture(images, target, nrow=max(1, min(arguments.n, round(arguments.n**0.5))))
    print(f"{arguments.n} samples (seed {arguments.seed}) in {target}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from tinygen.data import load
    from tinygen.recipes import RunError, expected, load_run, score
    from tinygen.recipes.recipe import epochs_done, read_settings

    settings = read_settings(arguments.run)
    source = settings.data
    step = load_run(arguments.run, arguments.device)
    dataset = load(source["name"], size=source["size"], channels=source["channels"], limit=source["limit"])
    done = epochs_done(arguments.run)
    epochs = _epochs(done, settings.epochs)
    print(f"{arguments.run}: {settings.recipe} on {source['name']}, {epochs}, seed {settings.seed}")
    began = time.perf_counter()
    try:
        found = score(step, dataset, arguments.seed, arguments.n)
    except ValueError as error:  # too few samples
        raise RunError(str(error)) from error
    if not found:
        print("  nothing to measure: samples are scored on grey 28x28 images (--data mnist); look at the pictures")
        return
    ranges = expected(settings) if done == settings.epochs else {}
    units = getattr(step, "units", {}) | SAMPLE_UNITS
    for name, (value, n) in found.items():
        line = f"  {name:<10} {value:>10.5g}  {units.get(name, ''):<36} n = {n:,}"
        if name in ranges:
            low, high = ranges[name]
            line += f"   expected {low:g} to {high:g}" + ("" if low <= value <= high else "  OUTSIDE")
        print(line)
    print(f"measured in {time.perf_counter() - began:.1f} s")


def _epochs(done: int, planned: int) -> str:
    return f"{done} epochs" if done == planned else f"{done} of {planned} epochs"


SAMPLE_UNITS = {
    "cfid": "Fréchet distance of samples and test", "conf95": "share of samples (real: 0.970)",
    "class_kl": "nats, of class frequencies", "digits": "of 10 classes present",
}  # fmt: skip


def _list(arguments: argparse.Namespace) -> None:
    from tinygen.data import KNOWN
    from tinygen.recipes import RECIPES, RunError
    from tinygen.recipes.recipe import epochs_done, read_settings

    width = max(map(len, RECIPES))
    print("recipes (tinygen train <name>):")
    for name, recipe in RECIPES.items():
        print(f"  {name:<{width}}  {recipe.summary}")
    print(f"data (--data): {', '.join(KNOWN)}, or a path: image folder, .npz, idx files")
    runs = sorted(Path("runs").glob("*/config.json"))
    if runs:
        print("runs here:")
        for path in runs:
            try:
                settings = read_settings(path.parent)
                epochs = _epochs(epochs_done(path.parent), settings.epochs)
                print(f"  {path.parent}  {settings.recipe} on {settings.data['name']}, {epochs}")
            except RunError as error:  # one that is damaged should not hide the others
                print(f"  {path.parent}  cannot be read: {error}")


def _check_data(arguments: argparse.Namespace) -> None:
    from tinygen.data import contact_sheet, load, summary
    from tinygen.recipes import RunError
    from tinygen.recipes.recipe import writing

    if arguments.out and arguments.out.suffix.lower() != ".png":
        raise RunError(f"--out {arguments.out}: the file must end in .png")
    dataset = load(arguments.data, size=arguments.size, channels=arguments.channels, limit=arguments.limit)
    figures = summary(dataset)
    print(f"{dataset!r}\n  from {dataset.source}" if dataset.source else repr(dataset))
    print("  pixels {min:.3f} to {max:.3f}, mean {mean:.4f}, standard deviation {std:.4f}".format(**figures))
    for split in ("train", "test"):
        histogram = figures[f"{split}_histogram"]
        if histogram:
            shown = list(histogram.items())
            print(f"  {split}: " + ", ".join(f"{k} {v:,}" for k, v in shown[:20]) + (" ..." if len(shown) > 20 else ""))
    for warning in figures["warnings"]:
        print(f"  note: {warning}")
    import numpy as np
    from PIL import Image

    sheet = contact_sheet(dataset)
    factor = max(1, 480 // max(sheet.shape[:2]))
    target = arguments.out or Path(f"{Path(dataset.name).stem or 'data'}-sheet.png")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(sheet).repeat(factor, 0).repeat(factor, 1)).save(target)
    print(f"  look at {target}")


def _doctor(arguments: argparse.Namespace) -> int:
    began = time.perf_counter()
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import numpy as np

    import tinygen as tg

    print(
        f"tinygen {tg.__version__}, Python {platform.python_version()}, NumPy {np.__version__}, {platform.platform()}"
    )
    installed = []
    for package in (
        "scikit-learn",
        "safetensors",
        "pillow",
        "matplotlib",
        "rich",
        "torch",
        "cupy-cuda12x",
        "cupy-cuda13x",
    ):
        try:
            installed.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            installed.append(f"{package} -")
    print("packages: " + ", ".join(installed))
    kernels = tg.device("cpu").kernels
    path = kernels.isa() if hasattr(kernels, "isa") else "plain NumPy (no compiled kernels: slow)"
    print(f"CPU kernels: {kernels.name}, {path}; {tg.get_num_threads()} threads of {os.cpu_count()} cores")
    print(f"BLAS: {_blas()}")
    places = ["cpu"]
    try:
        tg.device("cuda")
        print("GPU: usable as --device cuda")
        places.append("cuda")
    except (RuntimeError, ImportError, AttributeError) as error:
        print(f"GPU: none ({str(error).partition(';')[0]})")
    good = True
    devices = [_device(place) for place in ([arguments.device] if arguments.device else places)]
    for device, name in product(devices, CHECKS):
        try:
            CHECKS[name](device)
            print(f"  ok    {device}: {name}")
        except Exception as error:
            good = False
            print(f"  WRONG {device}: {name}: {error}")
    print(
        f"{'all well' if good else 'SOMETHING IS WRONG: report the lines above'}, {time.perf_counter() - began:.1f} s"
    )
    return 0 if good else 1


def _blas() -> str:
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown (threadpoolctl is not installed)"
    found = [f"{i['internal_api']} {i.get('version') or ''} ({i.get('architecture', '?')}), {i['num_threads']} threads"
             for i in threadpool_info() if i["user_api"] == "blas"]  # fmt: skip
    return "; ".join(found) or "none found"


def _check_adjoint(device: Any) -> None:
    """<conv(x, w), y> = <x, conv_transpose(y, w)>, with a size that the stride does not divide."""
    import numpy as np

    import tinygen as tg

    draw = np.random.default_rng(0)
    drawn = lambda shape: tg.tensor(np.asarray(draw.standard_normal(shape), np.float32), device=device)
    x, w = drawn((4, 3, 29, 28)), drawn((8, 3, 4, 4))
    y = tg.conv2d(x, w, stride=2, padding=1)
    g = drawn(y.shape)
    back = tg.conv_transpose2d(g, w, stride=2, padding=1, output_size=(29, 28))
    left, right = (y * g).sum().item(), (x * back).sum().item()
    if not abs(left - right) <= 1e-4 * max(1.0, float((abs(y) * abs(g)).sum().item())) or left == 0:
        raise ArithmeticError(f"{left} is not {right}")


def _check_gradients(device: Any) -> None:
    """Backward against central differences in float64."""
    import numpy as np

    import tinygen as tg
    from tinygen.testing import gradcheck

    draw = np.random.default_rng(1)
    shapes = ((2, 2, 8, 8), (3, 2, 3, 3), (3 * 16, 4))
    x, w, v = (tg.tensor(draw.standard_normal(s), device=device) for s in shapes)
    gradcheck(
        lambda x, w, v: (tg.conv2d(x, w, stride=2, padding=1).tanh().reshape(2, -1) @ v).softmax(-1).log(), [x, w, v]
    )


def _check_random(device: Any) -> None:
    """Philox4x32-10 with a zero key and a zero counter (Salmon et al. 2011, known answers)."""
    words = [int(v) for v in device.kernels.random_bits(0, 0, 0, 4)]
    known = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    if words != known:
        raise ArithmeticError(f"{[hex(w) for w in words]} is not {[hex(w) for w in known]}")


CHECKS = {
    "convolution against its adjoint": _check_adjoint,
    "gradients of a small net": _check_gradients,
    "random numbers against known ones": _check_random,
}


if __name__ == "__main__":
    sys.exit(main())
