"""From a recipe and a data set to a run, and back from a run's folder.

    run = start("vae", data="mnist"); run.fit()
    open_run("runs/vae-001", epochs=20).fit()
    step = load_run("runs/vae-001")

The seed is set once, before the weights are drawn; after that a run is a pure function of its settings. A recipe that
stands on a trained run holds its Step (or its networks) as a part, so its weights are in the new checkpoint too.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import tinygen as tg
from tinygen.data import DataError, Dataset, load, place
from tinygen.errors import UserError
from tinygen.step import Step
from tinygen.training import (
    Display,
    Interrupted,
    Keep,
    Run,
    Tensors,
    new_folder,
    restore,
)
from tinygen.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    load_newest,
)
from tinygen.training.lock import Lock, check_free
from tinygen.training.run import check_kinds

from .keep import measured, metric_of
from .memory import built_within, fitting
from .plan import check_batch, has_schedule
from .recipe import RECIPES, find
from .scores import watch
from .settings import (
    TINY_LIMIT,
    RunError,
    Settings,
    check_arguments,
    given_of,
    prepare,
    read_settings,
    write_settings,
    writing,
)
from .stored import best_epoch, check_new, epochs_done, is_finished, named, read_checkpoint, runs, trace, weights

__all__ = [
    "RecipeRun", "best_epoch", "build", "data_of", "epochs_done", "load_run", "open_run", "runs", "stand_on", "start",
]  # fmt: skip

TEST_BATCH = {3: 256, 1: 2000}  # examples in a test batch: images, points
SPOILS = {  # arguments of denoisers: what they must be below, and in words
    "sd": (math.inf, "above 0"), "noise": (math.inf, "above 0"), "p": (1.0, "above 0 and below 1"),
}  # fmt: skip
OPTIONS = ("size", "channels", "limit", "only", "without", "labels")  # of data.load


class RecipeRun(Run):
    """A Run that knows its settings and its data."""

    settings: Settings
    dataset: Dataset

    def fit(self, epochs: int | None = None) -> None:
        """Trains until `epochs` (default: the settings') are done, with the settings' number of threads: sums are
        bit-equal for a fixed one."""
        epochs = epochs or self.settings.epochs
        with self._threads():
            super().fit(epochs)

    def _fit(self, epochs: int) -> None:
        if self.position.epoch < epochs:  # only a run that goes on has a new plan
            write_settings(self.folder, self.settings)
        super()._fit(epochs)

    def complete(self, epochs: int | None = None) -> list[Path]:
        """Draws what a run that has all its epochs lacks; which files."""
        with self._threads():
            return super().complete(epochs or self.settings.epochs)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        threads = tg.get_num_threads()
        tg.set_num_threads(self.settings.threads)
        try:
            yield
        finally:
            tg.set_num_threads(threads)


def start(
    name: str, data: str | os.PathLike | None = None, *, folder: str | os.PathLike | None = None,
    title: str | None = None, parent: str | os.PathLike = "runs", display: Display | None = None, preset: str = "cpu",
    keep: str | None = None, **options: Any,
) -> RecipeRun:  # fmt: skip
    """A new run of a recipe, not yet trained, in <parent>/<title>-NNN or `folder`; the title is the recipe's name.

    The folder is made last: what cannot be trained leaves none.
    `data`: a name or path (default: the recipe's); its options are those of `data.load`, further ones those of
    `prepare`. `keep`: "best", or "best:metric", keeps the best epoch on a tenth of the training images, which are then
    not learned from.
    """
    recipe = find(name)
    data = recipe.data if data is None else data
    if folder is not None:
        check_new(folder)
    source = {option: options.pop(option, None) for option in OPTIONS}
    if preset == "tiny" and source["limit"] is None:
        source["limit"] = TINY_LIMIT
    dataset = load(data, **{option: value for option, value in source.items() if value is not None})
    remembered = os.environ.get("TINYGEN_DATA")
    source = {"name": place(data), **source,  # a path is kept whole, since the run may go on from another folder
               "folder": remembered and str(Path(remembered).expanduser().absolute())}
    settings = prepare(recipe, dataset, source, preset=preset, keep=metric_of(keep), **options)
    bases = {base: stand_on(base, source, preset, display) for base in recipe.on}
    settings.on = {base: trace(folder) for base, folder in bases.items()} or None

    def make() -> Step:
        return build(settings, [load_run(folder, settings.device) for folder in bases.values()])

    with built_within(settings):
        step = make()
    batches = _batches(settings, dataset)  # the last that may fail: what fails leaves no folder
    _check_spoils(step, settings)
    step = fitting(step, make, settings, batches[0])
    if settings.keep is not None:
        settings.keep = measured(settings.keep, step, Tensors(batches[2], settings.device))
    check_batch(settings, step, batches[0])
    with writing(folder or parent):
        if folder is None:
            folder = new_folder(Path(parent), title or name)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with Lock(folder):  # two may have looked at the same empty folder
            check_new(folder)
            write_settings(folder, settings)
            return _run(folder, settings, step, dataset, batches, display, resume=False)


def build(settings: Settings, bases: Sequence[Step] | None = None) -> Step:
    """The untrained Step, its weights drawn from the seed. Raises RunError where an argument does not fit.

    `bases`: the trained Steps that the recipe stands on; without them they are built untrained, for weights to come.
    """
    recipe = find(settings.recipe)
    if bases is None:
        bases = [build(Settings(**base["settings"])) for base in (settings.on or {}).values()]
    check_arguments(settings.recipe, recipe.arguments(), settings.arguments)  # config.json may have been edited
    try:
        device = tg.device(settings.device)
    except (ValueError, RuntimeError) as error:
        raise RunError(f"device {settings.device!r} of {settings.recipe}: {error}") from error
    tg.manual_seed(settings.seed)
    try:
        step = recipe.build(given_of(settings), *bases, **settings.arguments)
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError) as error:
        if isinstance(error, UserError) and not isinstance(error, DataError):  # it names the argument itself
            raise
        reason = "a list of sizes is too short" if isinstance(error, IndexError) else error
        changed = {k: v for k, v in settings.arguments.items() if v != recipe.defaults().get(k)}
        raise RunError(
            f"{settings.recipe} cannot be built for data of shape {'x'.join(map(str, settings.given['shape']))}"
            f"{f' with {changed}' if changed else ''}: {reason}"
        ) from error
    return step if settings.device == "cpu" else step.to(device)


def open_run(
    folder: str | os.PathLike, *, display: Display | None = None, epochs: int | None = None, device: str | None = None
) -> RecipeRun:
    """The run of a folder at its last checkpoint, ready to go on; `epochs` changes the total it is to reach, `device`
    where it is computed.

    The folder keeps its plan until `fit` goes on. Raises RunError where more than `epochs` epochs are done already.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    check_free(folder)  # before the data are read, which may take a while
    check_kinds(folder)
    settings.device = device or settings.device
    dataset = data_of(settings)
    if dataset.sha != settings.data["sha"]:
        raise RunError(
            f"{folder}: the data {settings.data['name']!r} have changed since this run began; it cannot go on as it was"
        )
    for name, value in (("shape", dataset.shape), ("classes", _classes(dataset))):
        if list(value) != list(settings.given[name]):
            says = f"{name} of the data is {list(value)}, it says {settings.given[name]}"
            raise RunError(f"{folder / 'config.json'}: {says}; restore the file, or train anew")
    try:
        position = load_newest(folder)[0]["run"]["position"]
    except CheckpointError as error:
        raise RunError(str(error)) from error
    if epochs is not None and (epochs, 0) < (position["epoch"], position["index"]):
        raise RunError(f"{folder} has done {position['epoch']} epochs already; give --epochs above that")
    planned, settings.epochs = settings.epochs, epochs or settings.epochs
    batches = _batches(settings, dataset)
    settings.given["steps"] = len(batches[0]) * settings.epochs
    with built_within(settings):
        step = build(settings)
    step = fitting(step, lambda: build(settings), settings, batches[0])
    if planned != settings.epochs > position["epoch"] and display and has_schedule(step):
        how = "stretched" if settings.epochs > planned else "shortened"
        display.say(
            f"note: the learning rate schedule is {how} from {planned} to {settings.epochs} epochs, so the result "
            f"differs from that of a run planned with {settings.epochs}"
        )
    return _run(folder, settings, step, dataset, batches, display, resume=True)


def load_run(folder: str | os.PathLike, device: str | None = None) -> Any:
    """The trained Step of a run, in evaluation mode: `.networks()`, `.sample(n)` where it has one.

    Rebuilt from config.json and checkpoint.safetensors (best.safetensors, where the run keeps its best epoch); the
    data are not needed. It lies on `device`, or where it was trained. Raises RunError where a file is missing.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    settings.device = device or settings.device
    state = tg.get_rng_state()
    try:
        with built_within(settings):
            step = build(settings)
        with named(folder / weights(folder, settings)):
            restore(step, read_checkpoint(folder, weights(folder, settings)))
    finally:
        tg.set_rng_state(state)
    return step.eval()


def data_of(settings: Settings) -> Dataset:
    """The data set of a run, from the folder that $TINYGEN_DATA names now, or else from the one that it named then."""
    return _remembered(settings.data)[0]


def _remembered(source: Mapping[str, Any]) -> tuple[Dataset, str | None]:
    """(data set, its $TINYGEN_DATA) of what config.json holds: the first folder whose data are those of the run."""
    options = {option: source[option] for option in OPTIONS if source.get(option) is not None}
    folders = [folder for folder in (os.environ.get("TINYGEN_DATA"), source.get("folder")) if folder]
    found, errors = [], []
    for folder in dict.fromkeys(folders or [None]):
        try:
            with _environment("TINYGEN_DATA", folder):
                found.append((load(source["name"], **options), folder))
        except DataError as error:
            errors.append(error)
        else:
            if found[-1][0].sha == source["sha"]:
                return found[-1]
    if not found:
        raise errors[0]
    return found[0]  # others: whoever goes on with them says so


def stand_on(
    base: str, source: Mapping[str, Any] | None, preset: str, display: Display | None, needs: Sequence[str] = (),
    takes: Callable[[Settings], bool] = lambda settings: True, data: str | None = None,
) -> Path:  # fmt: skip
    """The folder of the newest finished run of that recipe on those data, at that preset; else one of its family.

    `source`: name and options of the data, as config.json holds them; None: any. `needs`: arguments that a relative
    must have; `takes(settings)`: whether a run will do. Where there is no such run, one is trained, and that is said:
    of any data on `data`, or else on the recipe's own.
    """
    recipe, relatives = find(base), []
    for folder in runs():
        try:
            settings = read_settings(folder)
        except RunError:
            continue
        other = RECIPES.get(settings.recipe)
        related = other and other.family == recipe.family and set(needs) <= set(other.arguments())
        same = source is None or all(settings.data.get(key) == source.get(key) for key in ("name", *OPTIONS))
        if related and same and settings.preset == preset and takes(settings) and is_finished(folder, settings):
            relatives.append((settings.recipe != base, folder, settings))
    if relatives:
        _, folder, settings = min(relatives, key=itemgetter(0))  # the first of the smallest, and the newest come first
        (display or Display()).say(f"stands on {folder} ({settings.recipe}, seed {settings.seed})")
        return folder
    (display or Display()).say(f"needs a trained {base}, and there is none here: training one first")
    options: dict[str, Any] = {option: source.get(option) for option in OPTIONS} if source else {}
    of_a_run = source is not None and "sha" in source  # whose data need not be where $TINYGEN_DATA says now
    with _environment("TINYGEN_DATA", _remembered(source)[1] if source and of_a_run else None):
        run = start(base, source["name"] if source else data, display=display, preset=preset, **options)
    try:
        run.fit()
    except Interrupted as error:
        command = f"tinygen resume {shlex.quote(str(run.folder))}"
        text = f"{base}: {error}; it is saved. Finish it with:\n  {command}\nand start anew"
        raise Interrupted(text, error.code) from error
    return run.folder


def _check_spoils(step: Step, settings: Settings) -> None:
    """Raises RunError for a denoiser whose corruption changes nothing, or leaves nothing of an image.

    Where a recipe's own value is 0, as the noise of overcomplete-autoencoder, 0 is a choice.
    """
    defaults = find(settings.recipe).defaults() if hasattr(step, "corrupt") else {}
    for name in SPOILS.keys() & defaults.keys():
        value, (below, words) = settings.arguments[name], SPOILS[name]
        if defaults[name] and not 0 < value < below:
            raise RunError(
                f"{name} of {settings.recipe} must be {words}, it is {value:g}; {defaults[name]:g} is its own. What "
                f"sees images as they are: tinygen train autoencoder, conv-autoencoder or overcomplete-autoencoder"
            )


def _classes(dataset: Dataset) -> Sequence[str]:
    return () if dataset.train_labels is None else dataset.classes


def _batches(settings: Settings, dataset: Dataset) -> tuple[Any, Any, Any]:
    """Batches to learn from, to test on, and to choose the best epoch by (None where the last one is kept)."""
    learned, held = (dataset, None) if settings.keep is None else dataset.divided()
    train = find(settings.recipe).batches(learned, settings)
    size = TEST_BATCH[len(dataset.shape)]
    test = dataset.batches(min(size, dataset.count("test")), split="test")  # shuffled: files come in an order
    return train, test, held and held.batches(min(size, held.count("train")), shuffle=False)


def _run(
    folder: Path, settings: Settings, step: Any, dataset: Dataset, batches: tuple[Any, Any, Any],
    display: Display | None, resume: bool,
) -> RecipeRun:  # fmt: skip
    train, test, validation = batches
    keep = None if settings.keep is None else Keep(settings.keep, validation)
    with named(folder / CHECKPOINT):
        run = RecipeRun(
            folder, step, train, test, display, settings.seed, settings.device, resume,
            watch=partial(watch, dataset=dataset, seed=settings.seed), keep=keep,
        )  # fmt: skip
    run.settings, run.dataset = settings, dataset
    return run


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Context manager in which an environment variable has a value."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
