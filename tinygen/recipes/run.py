"""From a recipe and a data set to a run, and back from a run's folder.

    run = start("vae", data="mnist"); run.fit()
    open_run("runs/vae-001", epochs=20).fit()
    step = load_run("runs/vae-001")

The seed is set once, before the weights are drawn; after that a run is a pure function of its settings. A recipe that
stands on a trained run holds its Step as a part, so its weights are in the new checkpoint too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import tinygen as tg
from tinygen.data import KNOWN, Dataset, load
from tinygen.errors import UserError
from tinygen.step import Step
from tinygen.training import Display, Keep, Run, Tensors, aside, load_checkpoint, new_folder, restore
from tinygen.training.run import BEST, CHECKPOINT

from .recipe import RECIPES, find
from .scores import watch
from .settings import (
    TINY_LIMIT,
    RunError,
    Settings,
    given_of,
    prepare,
    read_settings,
    write_settings,
    writing,
)

TEST_BATCH = {3: 256, 1: 2000}  # examples in a test batch: images, points
OPTIONS = ("size", "channels", "limit", "only", "without", "labels")  # of data.load


class RecipeRun(Run):
    """A Run that knows its settings and its data."""

    settings: Settings
    dataset: Dataset

    def fit(self, epochs: int | None = None) -> None:
        """Trains until `epochs` (default: the settings') are done, with the settings' number of threads: sums are
        bit-equal for a fixed one."""
        epochs = epochs or self.settings.epochs
        if self.position.epoch < epochs:  # only a run that goes on has a new plan
            write_settings(self.folder, self.settings)
        threads = tg.get_num_threads()
        tg.set_num_threads(self.settings.threads)
        try:
            super().fit(epochs)
        finally:
            tg.set_num_threads(threads)


def start(
    name: str, data: str | os.PathLike | None = None, *, folder: str | os.PathLike | None = None,
    display: Display | None = None, preset: str = "cpu", keep: str | None = None, **options: Any,
) -> RecipeRun:  # fmt: skip
    """A new run of a recipe, not yet trained, in runs/<name>-NNN or `folder`.

    `data`: a name or path (default: the recipe's); its options are those of `data.load`, further ones those of
    `prepare`. `keep`: "best", or "best:metric", keeps the best epoch on a tenth of the training images, which are then
    not learned from.
    """
    recipe = find(name)
    data = data or recipe.data
    source = {option: options.pop(option, None) for option in OPTIONS}
    if preset == "tiny" and source["limit"] is None:
        source["limit"] = TINY_LIMIT
    dataset = load(data, **{option: value for option, value in source.items() if value is not None})
    # A path is kept whole, since the run may go on from another folder.
    named = dataset.name in KNOWN and not os.path.isfile(data) and os.sep not in os.fspath(data)
    place = dataset.name if named else str(Path(data).expanduser().absolute())
    source = {"name": place, **source, "folder": os.environ.get("TINYGEN_DATA")}
    settings = prepare(recipe, dataset, source, preset=preset, keep=_metric(keep), **options)
    bases = {base: stand_on(base, str(data), preset, display) for base in recipe.on}
    settings.on = {base: _trace(folder) for base, folder in bases.items()} or None
    step = build(settings, [load_run(folder) for folder in bases.values()])
    batches = _batches(settings, dataset)  # the last that may fail: what fails leaves no folder
    if settings.keep == "":
        with aside(step, 0):
            first = next(iter(Tensors(batches[2], settings.device)))
            settings.keep = next(iter(step.measure(first)), "")
    with writing(folder or "runs"):
        if folder is None:
            folder = new_folder(Path("runs"), name)
        elif (Path(folder) / CHECKPOINT).exists():  # settings alone are those of a start that came to nothing
            raise RunError(
                f"{folder} holds a run already; choose another --out, or go on with: tinygen resume {folder}"
            )
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_settings(Path(folder), settings)
        return _run(Path(folder), settings, step, dataset, batches, display, resume=False)


def build(settings: Settings, bases: Sequence[Step] | None = None) -> Step:
    """The untrained Step, its weights drawn from the seed. Raises RunError where an argument does not fit.

    `bases`: the trained Steps that the recipe stands on; without them they are built untrained, for weights to come.
    """
    recipe = find(settings.recipe)
    if bases is None:
        bases = [build(Settings(**base["settings"])) for base in (settings.on or {}).values()]
    tg.manual_seed(settings.seed)
    try:
        step = recipe.build(given_of(settings), *bases, **settings.arguments)
    except UserError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        changed = {k: v for k, v in settings.arguments.items() if v != recipe.defaults().get(k)}
        raise RunError(
            f"{settings.recipe} cannot be built for data of shape {'x'.join(map(str, settings.given['shape']))}"
            f"{f' with {changed}' if changed else ''}: {error}"
        ) from error
    return step if settings.device == "cpu" else step.to(settings.device)


def open_run(
    folder: str | os.PathLike, *, display: Display | None = None, epochs: int | None = None, device: str | None = None
) -> RecipeRun:
    """The run of a folder at its last checkpoint, ready to go on; `epochs` changes the total it is to reach, `device`
    where it is computed.

    The folder keeps its plan until `fit` goes on. Raises RunError where more than `epochs` epochs are done already.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    settings.device = device or settings.device
    dataset = data_of(settings)
    if dataset.sha != settings.data["sha"]:
        raise RunError(
            f"{folder}: the data {settings.data['name']!r} have changed since this run began; it cannot go on as it was"
        )
    position = _checkpoint(folder)["run"]["position"]
    if epochs is not None and (epochs, 0) < (position["epoch"], position["index"]):
        raise RunError(f"{folder} has done {position['epoch']} epochs already; give --epochs above that")
    planned, settings.epochs = settings.epochs, epochs or settings.epochs
    batches = _batches(settings, dataset)
    settings.given["steps"] = len(batches[0]) * settings.epochs
    step = build(settings)
    if planned != settings.epochs > position["epoch"] and display and _has_schedule(step):
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
    step = build(settings)
    _put_back(step, folder, BEST if settings.keep and (folder / BEST).exists() else CHECKPOINT)
    tg.set_rng_state(state)
    return step.eval()


def data_of(settings: Settings) -> Dataset:
    """The data set of a run. The folder that $TINYGEN_DATA named then is looked into where none is named now."""
    source = settings.data
    options = {option: source[option] for option in OPTIONS if source.get(option) is not None}
    with _environment("TINYGEN_DATA", os.environ.get("TINYGEN_DATA") or source.get("folder")):
        return load(source["name"], **options)


def epochs_done(folder: str | os.PathLike) -> int:
    """How many whole epochs a run has done; 0 where its training never began."""
    folder = Path(folder)
    return _checkpoint(folder)["run"]["position"]["epoch"] if (folder / CHECKPOINT).exists() else 0


def runs(parent: str | os.PathLike = "runs") -> Iterator[Path]:
    """The folders of runs, the newest checkpoint first."""
    found = [path.parent for path in Path(parent).glob("*/config.json") if (path.parent / CHECKPOINT).exists()]
    yield from sorted(found, key=lambda folder: (folder / CHECKPOINT).stat().st_mtime, reverse=True)


def stand_on(base: str, data: str | None, preset: str, display: Display | None) -> Path:
    """The folder of the newest finished run that fits: of that recipe or its family, on those data, at that preset.

    Where there is none, one is trained, and that is said.
    """
    recipe = find(base)
    for folder in runs():
        try:
            settings = read_settings(folder)
        except RunError:
            continue
        fits = settings.recipe in RECIPES and find(settings.recipe).family == recipe.family
        same = data is None or settings.data["name"] == _place(data)
        if fits and same and settings.preset == preset and epochs_done(folder) == settings.epochs:
            (display or Display()).say(f"stands on {folder} ({settings.recipe}, seed {settings.seed})")
            return folder
    (display or Display()).say(f"needs a trained {base}, and there is none here: training one first")
    run = start(base, data, display=display, preset=preset)
    run.fit()
    return run.folder


def _place(data: str | os.PathLike) -> str:
    return os.fspath(data) if os.fspath(data) in KNOWN else str(Path(data).expanduser().absolute())


def _trace(folder: Path) -> dict[str, Any]:
    """What config.json keeps of the run that another one stands on."""
    content = (folder / CHECKPOINT).read_bytes()
    settings = asdict(read_settings(folder))
    return {"path": str(folder.absolute()), "sha": hashlib.sha256(content).hexdigest(), "settings": settings}


def _metric(keep: str | None) -> str | None:
    """The metric that `--keep best` or `--keep best:metric` names; "" for the recipe's own first."""
    if keep in (None, "last"):
        return None
    word, _, metric = str(keep).partition(":")
    if word != "best":
        raise RunError(f"--keep {keep}: write last, best, or best:METRIC, such as best:accuracy")
    return metric


def _has_schedule(step: Step) -> bool:
    return any(isinstance(part, tg.optim.lr_scheduler.LRScheduler) for part in step.parts().values())


def _batches(settings: Settings, dataset: Dataset) -> tuple[Any, Any, Any]:
    """Batches to learn from, to test on, and to choose the best epoch by (None where the last one is kept)."""
    learned, held = (dataset, None) if settings.keep is None else dataset.divided()
    train = learned.batches(settings.batch_size, settings.seed, drop_last=settings.drop_last)
    size = TEST_BATCH[len(dataset.shape)]
    test = dataset.batches(min(size, dataset.count("test")), split="test")  # shuffled: files come in an order
    return train, test, held and held.batches(min(size, held.count("train")), shuffle=False)


def _run(
    folder: Path, settings: Settings, step: Any, dataset: Dataset, batches: tuple[Any, Any, Any],
    display: Display | None, resume: bool,
) -> RecipeRun:  # fmt: skip
    train, test, validation = batches
    keep = None if settings.keep is None else Keep(settings.keep, validation)
    run = RecipeRun(
        folder, step, train, test, display, settings.seed, settings.device, resume,
        watch=partial(watch, dataset=dataset, seed=settings.seed), keep=keep,
    )  # fmt: skip
    run.settings, run.dataset = settings, dataset
    return run


def _checkpoint(folder: Path, name: str = CHECKPOINT) -> dict[str, Any]:
    path = folder / name
    if not path.exists():
        raise RunError(f"{folder} has no {name}: its training never began")
    try:
        state = load_checkpoint(path)
        if "run" not in state:
            raise ValueError(f"{path} is not the checkpoint of a run")
        return state
    except (ValueError, OSError) as error:
        raise RunError(f"{error}; restore the file, or start anew with: tinygen train") from error


def _put_back(step: Step, folder: Path, name: str) -> None:
    try:
        restore(step, _checkpoint(folder, name))
    except (ValueError, KeyError) as error:
        raise RunError(f"{folder / name}: {error}") from error


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
