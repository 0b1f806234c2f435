"""The command line.

    tinygen train vae                                   # the embedded digits, about twenty seconds
    tinygen train dcgan --data mnist --epochs 10
    tinygen resume runs/vae-001
    tinygen sample runs/vae-001 -n 64 --seed 1
    tinygen sample vae-d2 --pretrained                  # weights that ship with tinygen
    tinygen apply runs/vae-001 picture.png
    tinygen list dcgan                                  # what it is, its arguments, what it reaches

What is wrong with the input is said in one line, with exit code 2; Ctrl-C saves and ends with 130. Libraries that are
slow to import are imported after the first output.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from . import options
from .errors import UserError
from .options import fail, parser_of

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # of a disk, or of what a user may write


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    0, 1 for OUTSIDE, 2 for wrong input; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows "?", and the command runs on
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        fail(f"there is no command {argv[0]!r}.{guess} Commands: {', '.join(COMMANDS)}")
    parser = parser_of(COMMANDS)
    arguments, further = parser.parse_known_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    if further and arguments.command != "sample":  # a model's own options are known once it is loaded
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    arguments.further = further
    return _guarded(COMMANDS[arguments.command].run, arguments)


def _guarded(command: Callable, arguments: argparse.Namespace) -> int:
    try:
        from .free_memory import limited
        from .training.interrupts import Interrupted  # NumPy alone

        on_gpu = str(getattr(arguments, "device", "")).startswith("cuda") or getattr(arguments, "preset", "") == "gpu"
        with nullcontext() if on_gpu else limited():  # a driver reserves addresses that it never uses
            return command(arguments) or 0
    except (UserError, FileNotFoundError, PermissionError) as error:
        fail(str(error))
    except MemoryError as error:
        studied = arguments.command == "study"  # which has none of those options
        remedy = "ask for less with --set" if studied else "give a smaller -n, --size or --batch-size"
        fail(f"there is not enough memory: {error or 'no more can be had'}; {remedy}")
    except Interrupted as error:
        _farewell(f"\n{error}")
        return error.code
    except KeyboardInterrupt:
        print("\nstopped at once", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `tinygen list | head`: nobody reads any more
        _silence()
        return 141
    except OSError as error:
        if error.errno not in FULL:
            raise
        _silence()  # what is waiting to be printed may be what does not fit
        fail(f"{error.filename or 'the output'} cannot be written: {error.strerror}; make room, and try again")


def _farewell(text: str) -> None:
    """Prints, unless the terminal is gone."""
    try:
        print(text, flush=True)
    except OSError:
        _silence()


def _silence() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """{"latent": 2} of ["latent=2"]; values are JSON, or else text."""
    from .recipes.settings import value_of

    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            fail(f"--set {pair}: write NAME=VALUE, such as latent=2")
        found[name] = value_of(text)
    return found


def _device(name: str) -> Any:
    """The device that the option names; SettingError, naming the option, where it is not there."""
    import tinygen as tg
    from tinygen.errors import SettingError

    try:
        return tg.device(name)
    except (ValueError, RuntimeError) as error:
        raise SettingError(f"--device {name}: {error}") from error


def _quoted(path: Any) -> str:
    return shlex.quote(str(path))


# ---------------------------------------------------------------------------------- training


def _train(arguments: argparse.Namespace) -> int:
    from tinygen.recipes import find, start
    from tinygen.training import Display

    find(arguments.recipe)  # before anything is loaded
    if arguments.device:
        _device(arguments.device)
    run = start(
        arguments.recipe, arguments.data, folder=arguments.out, display=Display(), preset=arguments.preset,
        keep=arguments.keep, size=arguments.size, channels=arguments.channels, limit=arguments.limit,
        only=arguments.only, without=arguments.without, labels=arguments.labels, seed=arguments.seed,
        device=arguments.device, epochs=arguments.epochs, batch_size=arguments.batch_size, lr=arguments.lr,
        threads=arguments.threads, arguments=_assignments(arguments.set),
    )  # fmt: skip
    return _go(run)


def _resume(arguments: argparse.Namespace) -> int:
    from tinygen.recipes import open_run
    from tinygen.training import Display

    run = open_run(arguments.run, display=Display(), epochs=arguments.epochs, device=arguments.device)
    if run.position.epoch >= run.settings.epochs:
        drawn = run.complete()
        if drawn:
            print(f"finished what was left to draw: {', '.join(map(str, drawn))}")
        print(f"{run.folder} has all its {run.settings.epochs} epochs; train it longer with:\n"
              f"  tinygen resume {_quoted(run.folder)} --epochs {2 * run.settings.epochs}")  # fmt: skip
        return 0
    return _go(run)


def _go(run: Any) -> int:
    """Trains, with a head that says what and a foot that says where everything is."""
    from tinygen.recipes import find
    from tinygen.recipes.listing import further
    from tinygen.training import Interrupted, duration

    settings, step, folder = run.settings, run.step, _quoted(run.folder)
    counts = ", ".join(
        f"{name} {sum(p.numel() for p in network.parameters()):,}" for name, network in step.networks().items()
    )
    print(f"{settings.recipe} on {run.dataset!r}")
    if run.dataset.unread:
        print(f"note: not read: {run.dataset.unread}")
    place = f"{settings.device}, {settings.threads} thread{'s' if settings.threads > 1 else ''}"
    print(f"parameters: {counts}; {place}, seed {settings.seed}; run in {run.folder}")
    if _on_plain_numpy(settings.device):
        print("this runs on plain NumPy, many times slower: see `tinygen doctor` for the compiled kernels")
    at = f" from epoch {run.position.epoch + 1}" if run.position.epoch or run.position.index else ""
    print(
        f"{_count(settings.epochs)} of {len(run.batches)} steps with {settings.batch_size} {run.dataset.items}{at}; "
        "Ctrl-C saves",
        flush=True,
    )
    try:
        run.fit()
    except Interrupted as error:
        _farewell(f"\n{error}; everything is saved. Go on with:\n  tinygen resume {folder}")
        return error.code
    if run.kept:
        value, epoch = run.kept
        print(f"\nkept: epoch {epoch}, validation {run.keep.metric} {value:.4g}")
    pictures = sorted(p for p in run.folder.iterdir() if p.suffix in (".png", ".gif"))
    print(f"\ndone in {duration(run.seconds)}. Look at:")
    for picture in pictures:
        print(f"  {picture}")
    print("and go on with:")
    given = settings.given
    looks = further(find(settings.recipe), folder, given["shape"], given["classes"], settings.data["name"])
    for command in [*looks, f"tinygen resume {folder} --epochs {2 * settings.epochs}"]:
        print(f"  {command}")
    return 0


def _on_plain_numpy(device: str) -> bool:
    """Whether the kernels of this device are the reference's: installed without a compiler, or asked for."""
    import tinygen as tg

    return tg.device(device).kernels.name == "reference"


# ---------------------------------------------------------------------------------- what was trained


def _sample(arguments: argparse.Namespace) -> None:
    import inspect

    from tinygen.recipes import load_run, pretrained, samples
    from tinygen.recipes.pretrained import names
    from tinygen.recipes.settings import RunError, annotation, check_arguments, value_of, writing
    from tinygen.step import Unsupported

    if arguments.pretrained:
        step = pretrained(str(arguments.run), arguments.device or "cpu")
        place = Path(f"{arguments.run}-sample-{arguments.seed}.png")
    elif str(arguments.run) in names() and not arguments.run.exists():
        raise RunError(f"{arguments.run} is no run; its shipped weights: tinygen sample {arguments.run} --pretrained")
    else:
        kind = "averaged" if arguments.averaged else "sample"
        step, place = load_run(arguments.run, arguments.device), arguments.run / f"{kind}-{arguments.seed}.png"
    if arguments.averaged and (arguments.pretrained or not step.averages()):
        raise RunError(f"{arguments.run} keeps no average of its weights; leave out --averaged")
    parameters = dict(list(inspect.signature(step.sample).parameters.items())[1:])
    is_text = lambda name: name in parameters and annotation(parameters[name]).startswith("str")
    pairs = _pairs(arguments.further)
    options: dict[str, Any] = {name: text if is_text(name) else value_of(text) for name, text in pairs}
    if step.offers("sample"):
        check_arguments(f"sampling {arguments.run}", parameters, options, "--")
    words = "".join(f"-{name}-{text}" for name, text in pairs)
    told = re.sub(r"[^\w.-]+", "-", words)  # a prompt may hold anything
    target = arguments.out or place.with_name(f"{place.stem}{told}{place.suffix}")
    _check_suffix(target)
    if arguments.out:
        _check_own(target)
    with writing(target):  # before the samples are drawn, which may take a while
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with step.averaged() if arguments.averaged else nullcontext():
            images = samples(step, arguments.n, arguments.seed, **options)
    except Unsupported as error:
        raise RunError(f"{arguments.run}: {error}; see {arguments.run}/*.png, and tinygen list for others") from error
    with writing(target):
        _save(images, target, max(1, min(arguments.n, round(arguments.n**0.5))))
    print(f"{arguments.n} samples (seed {arguments.seed}) in {target}")


def _check_suffix(target: Path) -> None:
    if target.suffix.lower() not in (".png", ".npy"):
        fail(f"--out {target}: the file must end in .png or .npy")


def _check_own(target: Path) -> None:
    """Fails where a file would be written over that tinygen has not written."""
    from tinygen.training.pictures import is_own

    if target.is_file() and not is_own(target):
        fail(f"--out {target} exists, and is no picture of tinygen's; choose another name, or move it away")


def _save(images: Any, target: Path, columns: int) -> None:
    """Writes images as numbers or as a sheet of all of them."""
    from tinygen.training.pictures import save_array, save_picture

    if target.suffix.lower() == ".npy":
        save_array(images.numpy(), target)
    else:
        save_picture(images, target, nrow=columns, most=len(images))


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """[("label", "7")] of ["--label", "7"] or ["--label=7"]."""
    found = []
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for name, value in zip(words[::2], words[1::2] + [""] * (len(words) % 2)):
        if not name.startswith("--"):
            fail(f"unrecognized argument: {name}")
        if not value or value.startswith("--"):
            fail(f"{name}: give a value, such as {name} 7")
        found.append((name[2:].replace("-", "_"), value))
    return found


def _apply(arguments: argparse.Namespace) -> None:
    from tinygen.recipes import load_run
    from tinygen.recipes.marked import looked_at
    from tinygen.recipes.settings import RunError, writing
    from tinygen.training import track

    look = looked_at(load_run(arguments.run, arguments.device), arguments.run, arguments.rate)
    out, run = arguments.out, arguments.run.resolve().name
    folder = out if out and (len(arguments.files) > 1 or out.is_dir()) else None
    if folder and not folder.is_dir() and folder.suffix.lower() in (".png", ".npy"):
        raise RunError(f"--out {out}: {len(arguments.files)} pictures need a folder, and this is a file's name")
    if out and not folder:
        _check_suffix(out)
    names = [file.stem for file in arguments.files]
    if folder and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RunError(f"two pictures are called {twice}: in {folder} one would overwrite the other; send them apart")
    for file in track(arguments.files, "pictures"):
        target = (folder or file.parent) / f"{file.stem}-{run}.png" if folder or not out else out
        if target.exists() and file.exists() and target.samefile(file):
            raise RunError(f"--out {target} is the picture itself; choose another name")
        if out:
            _check_own(target)
        made = look(file)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            made.save(target)
        print(f"{file} at {made.size} pixels, {made.what}: {target}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from tinygen.metrics.names import NAMES
    from tinygen.recipes import find, load_run, read_settings, score
    from tinygen.recipes.reproduce import expected
    from tinygen.recipes.run import best_epoch, data_of, epochs_done
    from tinygen.recipes.scores import baselines, over, unscored
    from tinygen.recipes.settings import RunError

    settings = read_settings(arguments.run)
    step, dataset = load_run(arguments.run, arguments.device), data_of(settings)
    done = epochs_done(arguments.run)
    epochs, best = _epochs(done, settings.epochs), best_epoch(arguments.run)
    if best is not None:
        epochs = f"best epoch {best} of {done}" + ("" if done == settings.epochs else f" ({settings.epochs} planned)")
    print(f"{arguments.run}: {settings.recipe} on {settings.data['name']}, {epochs}, seed {settings.seed}", flush=True)
    began = time.perf_counter()
    try:
        found = score(step, dataset, arguments.seed, arguments.n)
    except ValueError as error:  # too few samples
        raise RunError(f"{error}; give a larger -n") from error
    reason = unscored(dataset) if step.offers("sample") else None
    if reason:
        print(f"  samples are not scored: {reason}; look at the pictures" if found else
              f"  nothing to measure: {reason}; look at the pictures")  # fmt: skip
    ranges = expected(settings, dataset) if done == settings.epochs else {}
    trivial = baselines(find(settings.recipe), dataset, settings.arguments)
    for name, (value, n) in found.items():
        unit = NAMES[name].unit if name in NAMES else ""
        line = f"  {name:<16} {value:>10.5g}  {unit:<36} {over(name, n)}"
        if name in ranges and ranges[name][1] == n:  # a figure of other numbers of samples is another figure
            low, high = ranges[name][0]
            line += f"   expected {low:.5g} to {high:.5g}" + ("" if low <= value <= high else "  OUTSIDE")
        print(line)
        for baseline in trivial.get(name, []):
            print(f"    {baseline.beside(value)}")
    print(f"measured in {time.perf_counter() - began:.1f} s")


def _study(arguments: argparse.Namespace) -> int:
    from tinygen.metrics.names import NAMES
    from tinygen.recipes import STUDIES, run_study
    from tinygen.training import Display

    if arguments.name is None:
        for one in STUDIES.values():
            print(f"  {one.name:<16} {one.summary}" + (f"  (on {', '.join(one.on)})" if one.on else ""))
        return 0
    findings, folder = run_study(
        arguments.name, arguments.run, arguments=_assignments(arguments.set), tiny=arguments.tiny,
        display=Display(), seed=arguments.seed, data=arguments.data,
    )  # fmt: skip
    _print_table(findings.table)
    for name, value in findings.metrics.items():
        unit = NAMES[name].unit if name in NAMES else ""
        print(f"  {name:<24} {value:>10.5g}  {unit}".rstrip())
    print("look at:")
    for path in sorted(folder.iterdir()):
        print(f"  {path}")
    return 0


def _print_table(rows: Sequence[Any]) -> None:
    if not rows:
        return
    cells = [list(rows[0])] + [[f"{v:.5g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  " + "  ".join(f"{text:>{width}}" for text, width in zip(line, widths)))


def _reproduce(arguments: argparse.Namespace) -> int:
    from tinygen.recipes import RECIPES, STUDIES, reproduce
    from tinygen.recipes.recipe import nearest

    if arguments.name not in STUDIES:
        nearest(arguments.name, {**RECIPES, **STUDIES}, "recipe or study")
    result = reproduce(
        arguments.name, arguments.data, arguments.seeds, preset=arguments.preset, save=arguments.save,
        threads=arguments.threads,
    )  # fmt: skip
    return 0 if result.passes else 1


# ---------------------------------------------------------------------------------- what there is


def _list(arguments: argparse.Namespace) -> None:
    from tinygen.recipes import RECIPES, STUDIES
    from tinygen.recipes.listing import describe_recipe, describe_study, overview, table
    from tinygen.recipes.recipe import nearest

    if arguments.table:
        print(table())
    elif arguments.name in STUDIES:
        print(describe_study(arguments.name))
    elif arguments.name:
        nearest(arguments.name, {**RECIPES, **STUDIES}, "recipe or study")
        print(describe_recipe(arguments.name))
    else:
        print(overview())
        _list_runs()


def _list_runs() -> None:
    from tinygen.recipes import RunError, read_settings
    from tinygen.recipes.run import epochs_done

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


def _epochs(done: int, planned: int) -> str:
    return _count(done) if done == planned else f"{done} of {_count(planned)}"


def _count(epochs: int) -> str:
    return f"{epochs} epoch{'' if epochs == 1 else 's'}"


def _check_data(arguments: argparse.Namespace) -> None:
    from tinygen.data import contact_sheet, load, summary
    from tinygen.recipes.settings import RunError, writing
    from tinygen.training.pictures import save_pillow

    if arguments.out and arguments.out.suffix.lower() != ".png":
        raise RunError(f"--out {arguments.out}: the file must end in .png")
    if arguments.out:
        _check_own(arguments.out)
    options = {key: getattr(arguments, key) for key in ("size", "channels", "limit", "only", "without", "labels")}
    dataset = load(arguments.data, **{key: value for key, value in options.items() if value is not None})
    figures = summary(dataset)
    print(f"{dataset!r}\n  from {dataset.source}" if dataset.source else repr(dataset))
    values = "pixels" if len(dataset.shape) == 3 else "values"
    print("  {} {min:.3f} to {max:.3f}, mean {mean:.4f}, standard deviation {std:.4f}".format(values, **figures))
    for split in ("train", "test"):
        histogram = figures[f"{split}_histogram"]
        if histogram:
            shown = list(histogram.items())
            print(f"  {split}: " + ", ".join(f"{k} {v:,}" for k, v in shown[:20]) + (" ..." if len(shown) > 20 else ""))
    for warning in figures["warnings"]:
        print(f"  note: {warning}")
    target = arguments.out or Path(f"{Path(dataset.name).stem or 'data'}-sheet.png")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        save_pillow(_sheet(dataset, contact_sheet), target)
    print(f"  look at {target}" + ("; training images left, test images right" if _unseen(dataset) else ""))


def _unseen(dataset: Any) -> bool:
    """Whether the test images have classes that the training images lack, such as defects."""
    train, test = dataset.train_labels, dataset.test_labels
    return train is not None and test is not None and bool(set(test.tolist()) - set(train.tolist()))


def _sheet(dataset: Any, contact_sheet: Callable) -> Any:
    """A Pillow image of what a data set holds, large enough to look at."""
    if len(dataset.shape) != 3:
        from tinygen.training.plots import draw_points

        return draw_points([dataset.floats("train")])
    import numpy as np
    from PIL import Image

    sheets = [contact_sheet(dataset, split=split) for split in (("train", "test") if _unseen(dataset) else ("train",))]
    height = max(len(sheet) for sheet in sheets)
    edges = [[(0, height - len(sheet)), (0, 0)] + [(0, 0)] * (sheet.ndim - 2) for sheet in sheets]
    sheet = np.concatenate([np.pad(sheet, edge, constant_values=128) for sheet, edge in zip(sheets, edges)], axis=1)
    factor = max(1, 720 // max(sheet.shape[:2]))
    return Image.fromarray(sheet.repeat(factor, 0).repeat(factor, 1))


def _doctor(arguments: argparse.Namespace) -> int:
    from .doctor import examine

    return 0 if examine(_device(arguments.device) if arguments.device else None) else 1


class Command:
    """A command: what it does in a line, its options, and the function that does it."""

    def __init__(self, help: str, options: Callable, run: Callable) -> None:
        self.help, self.options, self.run = help, options, run


COMMANDS = {
    "train": Command("train a recipe", options.train, _train),
    "resume": Command("resume a run that was stopped, or train it longer", options.resume, _resume),
    "sample": Command("draw pictures from a trained run", options.sample, _sample),
    "apply": Command("send your pictures through a trained run", options.apply, _apply),
    "evaluate": Command("print the test figures of a run", options.evaluate, _evaluate),
    "study": Command("look at trained runs: a table and pictures", options.study, _study),
    "reproduce": Command("train anew and compare with the kept figures", options.reproduce, _reproduce),
    "list": Command("list recipes and studies, the runs here, or all that is known of one", options.list, _list),
    "doctor": Command("say what is installed and whether it works", options.doctor, _doctor),
    "check-data": Command("look at a data set before training on it", options.check_data, _check_data),
}


if __name__ == "__main__":
    sys.exit(main())
