"""From a recipe and a data set to settings, from settings to a Step, from a Step to a run; and back from a run's
folder.

`Settings` is what config.json holds: plain values from which everything is rebuilt. The seed is set once, before the
weights are drawn; after that a run is a pure function of its settings.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tinygen as tg
from tinygen.data import KNOWN, Dataset, load
from tinygen.training import Display, Run, aside, load_checkpoint, new_folder, restore

CHECKPOINT = "checkpoint.safetensors"
SMALL = 16  # pixels a side: below, a recipe's settings for small images hold (the embedded digits are 8x8)


class RunError(ValueError):
    """A recipe, a run or a setting that does not exist or does not fit."""


@dataclass(frozen=True)
class Recipe:
    """A named experiment. `model` holds the Step's arguments; `small` and `gpu` what differs for images below 16 pixels
    and with --preset gpu (same keys); `from_data(dataset, steps)` arguments that only the data can tell."""

    name: str
    summary: str
    step: Callable[..., Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 10
    batch_size: int = 128
    drop_last: bool = False
    small: Mapping[str, Any] = field(default_factory=dict)
    gpu: Mapping[str, Any] = field(default_factory=dict)
    from_data: Callable[[Dataset, int], dict[str, Any]] | None = None
    expected: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)  # data: metric: (from, to)


@dataclass
class Settings:
    """Everything a run depends on; what config.json holds."""

    recipe: str
    data: dict[str, Any]  # name (or path), size, channels, limit, sha
    shape: list[int]  # (C, H, W)
    model: dict[str, Any]  # arguments of the Step, besides the shape
    epochs: int
    batch_size: int
    drop_last: bool
    seed: int
    preset: str
    device: str
    threads: int
    version: str


def find(name: str) -> Recipe:
    """The recipe of that name; an unknown one raises RunError with the nearest."""
    from .catalogue import RECIPES

    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise RunError(f"no recipe is called {name!r}.{guess} Recipes: {', '.join(RECIPES)}")
    return RECIPES[name]


def prepare(
    recipe: Recipe, dataset: Dataset, data: Mapping[str, Any], *, preset: str = "cpu", seed: int = 0,
    device: str | None = None, threads: int | None = None, epochs: int | None = None, batch_size: int | None = None,
    lr: float | None = None, model: Mapping[str, Any] | None = None,
) -> Settings:  # fmt: skip
    """The settings of a run: the recipe's, changed by what its presets say, and by what is given here."""
    if preset not in ("cpu", "gpu"):
        raise RunError(f"no preset is called {preset!r}; presets: cpu, gpu")
    _check_arguments(recipe, model or {})
    small = min(dataset.shape[1:]) < SMALL
    layers = [recipe.small] if small else []
    layers += [recipe.gpu] if preset == "gpu" and not small else []
    chosen = {"epochs": recipe.epochs, "batch_size": recipe.batch_size}
    arguments = dict(recipe.model)
    for layer in layers:
        chosen |= {k: v for k, v in layer.items() if k != "model"}
        arguments |= layer.get("model", {})
    count = len(dataset.train_images)
    if epochs is None and not small and not data.get("limit"):
        # Few images: about as many of them as ten epochs of MNIST show, within reason.
        epochs = max(recipe.epochs, min(200, 600_000 // count))
    chosen["epochs"] = epochs or chosen["epochs"]
    chosen["batch_size"] = min(batch_size or chosen["batch_size"], count)
    steps = len(dataset.batches(chosen["batch_size"], drop_last=recipe.drop_last)) * chosen["epochs"]
    if recipe.from_data:
        arguments |= recipe.from_data(dataset, steps)
    arguments |= dict(model or {}) | ({"lr": lr} if lr is not None else {})
    return Settings(
        recipe=recipe.name, data={**data, "sha": dataset.sha}, shape=list(dataset.shape), model=arguments, **chosen,
        drop_last=recipe.drop_last, seed=seed, preset=preset, device=device or ("cuda" if preset == "gpu" else "cpu"),
        threads=threads or (1 if small else tg.get_num_threads()), version=tg.__version__,
    )  # fmt: skip


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _several(check: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(check, value))


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # annotation of a Step's argument: in words, and its test
    "int": ("a whole number of at least 1", _whole),
    "float": ("a number", _number),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "Sequence[int]": ("a list of whole numbers of at least 1, such as [64,32]", lambda value: _several(_whole, value)),
    "tuple[float, float]": (
        "a list of two numbers, such as [0.5,0.999]", lambda value: _several(_number, value) and len(value) == 2
    ),
}  # fmt: skip


def _check_arguments(recipe: Recipe, model: Mapping[str, Any]) -> None:
    """Raises RunError for an argument that the Step does not have, or that is of another kind."""
    parameters = {n: p for n, p in inspect.signature(recipe.step).parameters.items() if n != "shape"}
    for name, value in model.items():
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            guess = f" Did you mean {near[0]}?" if near else ""
            raise RunError(f"{recipe.name} has no argument {name!r}.{guess} It has: {', '.join(parameters)}")
        kind, _, optional = str(parameters[name].annotation).partition(" | ")
        words, check = KINDS.get(kind, ("", lambda value: True))
        if not (check(value) or (optional and value is None)):
            raise RunError(f"{name} of {recipe.name} must be {words}; it is {json.dumps(value, default=repr)}")


def build(settings: Settings) -> Any:
    """The untrained Step, its weights drawn from the seed. Raises RunError where an argument does not fit."""
    tg.manual_seed(settings.seed)
    try:
        step = find(settings.recipe).step(shape=tuple(settings.shape), **settings.model)
    except (TypeError, ValueError, IndexError) as error:
        raise RunError(f"{settings.recipe} cannot be built with {settings.model}: {error}") from error
    for module in step.modules.values():
        if settings.device != "cpu":
            module.to(settings.device)
    return step


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
    name: str, data: str | os.PathLike = "digits", *, folder: str | os.PathLike | None = None, size: int | None = None,
    channels: int | None = None, limit: int | None = None, display: Display | None = None, **options: Any,
) -> RecipeRun:  # fmt: skip
    """A new run of a recipe, not yet trained, in runs/<name>-NNN or `folder`; options as in `prepare`."""
    recipe = find(name)
    dataset = load(data, size=size, channels=channels, limit=limit)
    # A path is kept whole, since the run may go on from another folder.
    named = dataset.name in KNOWN and not os.path.isfile(data) and os.sep not in os.fspath(data)
    place = dataset.name if named else str(Path(data).expanduser().absolute())
    source = {"name": place, "size": size, "channels": channels, "limit": limit}
    settings = prepare(recipe, dataset, source, **options)
    step = build(settings)
    batches = _batches(settings, dataset)  # the last that may fail: what fails leaves no folder
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


@contextmanager
def writing(target: str | os.PathLike) -> Iterator[None]:
    """Context manager in which an OSError becomes a RunError that names the file or folder to be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"{target} cannot be written: {reason}; choose another --out, in a folder where you may write"
        ) from error


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
    source = settings.data
    dataset = load(source["name"], size=source["size"], channels=source["channels"], limit=source["limit"])
    if dataset.sha != source["sha"]:
        raise RunError(
            f"{folder}: the data {source['name']!r} have changed since this run began; it cannot go on as it was"
        )
    position = _checkpoint(folder)["run"]["position"]
    if epochs is not None and (epochs, 0) < (position["epoch"], position["index"]):
        raise RunError(f"{folder} has done {position['epoch']} epochs already; give --epochs above that")
    if epochs is not None and epochs != settings.epochs:
        planned, settings.epochs = settings.epochs, epochs
        recipe = find(settings.recipe)
        steps = len(dataset.batches(settings.batch_size, drop_last=settings.drop_last)) * epochs
        if recipe.from_data:
            settings.model |= recipe.from_data(dataset, steps)
        if settings.model.get("decay_steps") and display and epochs > position["epoch"]:
            how = "stretched" if epochs > planned else "shortened"
            display.say(
                f"note: the learning rate schedule is {how} from {planned} to {epochs} epochs, so the result differs "
                f"from that of a run planned with {epochs}"
            )
    step = build(settings)
    return _run(folder, settings, step, dataset, _batches(settings, dataset), display, resume=True)


def load_run(folder: str | os.PathLike, device: str | None = None) -> Any:
    """The trained Step of a run: `.modules` by name, `.sample(n)` where it has one; in evaluation mode.

    Rebuilt from config.json and checkpoint.safetensors; the data are not needed. It lies on `device`, or where it was
    trained. Raises RunError where a file is missing.
    """
    settings = read_settings(Path(folder))
    settings.device = device or settings.device
    state = tg.get_rng_state()
    step = build(settings)
    restore(step, _checkpoint(Path(folder)))
    tg.set_rng_state(state)
    for module in step.modules.values():
        module.eval()
    return step


def _batches(settings: Settings, dataset: Dataset) -> tuple[Any, Any]:
    """Batches to train on, and to test on."""
    train = dataset.batches(settings.batch_size, settings.seed, drop_last=settings.drop_last)
    return train, dataset.batches(min(256, len(dataset.test_images)), split="test")


def _run(
    folder: Path, settings: Settings, step: Any, dataset: Dataset, batches: tuple[Any, Any], display: Display | None,
    resume: bool,
) -> RecipeRun:  # fmt: skip
    run = RecipeRun(folder, step, *batches, display, settings.seed, settings.device, resume)
    run.settings, run.dataset = settings, dataset
    return run


def write_settings(folder: Path, settings: Settings) -> None:
    """Writes config.json, all at once."""
    temporary = folder / "config.json.part"
    temporary.write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, folder / "config.json")


def read_settings(folder: Path) -> Settings:
    """The settings in a run's folder; RunError says what is missing and which runs there are."""
    path = folder / "config.json"
    if not path.exists():
        around = sorted(p.parent.name for p in folder.parent.glob("*/config.json")) if folder.parent.exists() else []
        near = difflib.get_close_matches(folder.name, around, n=1, cutoff=0.3) or around[-1:]
        hint = f" Did you mean {folder.parent / near[0]}?" if near else " Train one with: tinygen train vae"
        raise RunError(f"{folder} is no run: it has no config.json.{hint}")
    try:
        settings = Settings(**json.loads(path.read_text(encoding="utf-8")))
        for key in ("name", "size", "channels", "limit", "sha"):
            settings.data[key]
        return settings
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise RunError(f"{path} cannot be read: {error!r}; restore the file, or start anew") from error


def epochs_done(folder: str | os.PathLike) -> int:
    """How many whole epochs a run has done; 0 where its training never began."""
    folder = Path(folder)
    return _checkpoint(folder)["run"]["position"]["epoch"] if (folder / CHECKPOINT).exists() else 0


def _checkpoint(folder: Path) -> dict[str, Any]:
    path = folder / CHECKPOINT
    if not path.exists():
        raise RunError(f"{folder} has no {CHECKPOINT}: its training never began")
    try:
        state = load_checkpoint(path)
        if "run" not in state:
            raise ValueError(f"{path} is not the checkpoint of a run")
        return state
    except (ValueError, OSError) as error:
        raise RunError(f"{error}; restore the file, or start anew with: tinygen train") from error


def expected(settings: Settings) -> Mapping[str, tuple[float, float]]:
    """The range of each test metric that the recipe is known to reach; nothing where its settings were changed."""
    recipe, model = find(settings.recipe), settings.model
    own = dict(recipe.model) | {name: model[name] for name in ("classes", "decay_steps") if name in model}
    same = (settings.epochs, settings.batch_size, model) == (recipe.epochs, recipe.batch_size, own)
    whole = not any(settings.data[option] for option in ("size", "channels", "limit"))
    return recipe.expected.get(settings.data["name"], {}) if same and whole else {}


def samples(step: Any, n: int, seed: int) -> tg.Tensor:
    """n samples of a trained Step, in pieces of at most 500, the same for the same seed."""
    with aside(step, seed):
        return tg.cat([step.sample(min(500, n - start)) for start in range(0, n, 500)])
