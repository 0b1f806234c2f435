"""Settings: plain values from which a run is rebuilt; what config.json holds.

    settings = prepare(find("vae"), dataset, source, seed=3)     # the recipe's values, its presets', then those given
    write_settings(folder, settings); read_settings(folder)

Every `--set` value is checked against the annotation of the recipe's argument.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_origin

import tinygen as tg
from tinygen.data import Dataset
from tinygen.data.unpaired import Unpaired
from tinygen.errors import SettingError, UserError
from tinygen.training.whole import KindError, check_kind, whole

from .recipe import Given, Recipe
from .valid import PRESETS, check_settings

SMALL = 16  # pixels a side: below, a recipe's settings for small images hold (the embedded digits are 8x8)
TINY = {"epochs": 2, "batch_size": 16}  # of the preset tiny, where the recipe does not say otherwise
TINY_LIMIT = 64  # images


class RunError(SettingError):
    """A recipe, a run or a setting that does not exist or does not fit."""


@dataclass
class Settings:
    """Everything a run depends on."""

    recipe: str
    data: dict[str, Any]  # name (or path), the options of `data.load`, sha, folder ($TINYGEN_DATA)
    given: dict[str, Any]  # the recipe's Given: shape, classes, steps
    arguments: dict[str, Any]  # of the recipe's function
    epochs: int
    batch_size: int
    drop_last: bool
    seed: int
    preset: str
    device: str
    threads: int
    version: str
    keep: str | None = None  # the metric whose best epoch is kept
    on: dict[str, Any] | None = None  # recipe: path, sha and settings of the run that this one stands on


REQUIRED = frozenset(f.name for f in fields(Settings) if f.default is MISSING)  # what every config.json holds


def prepare(
    recipe: Recipe, dataset: Dataset, data: Mapping[str, Any], *, preset: str = "cpu", seed: int = 0,
    device: str | None = None, threads: int | None = None, epochs: int | None = None, batch_size: int | None = None,
    lr: float | None = None, arguments: Mapping[str, Any] | None = None, keep: str | None = None,
    on: dict[str, Any] | None = None,
) -> Settings:  # fmt: skip
    """The settings of a run: the recipe's, changed by what its presets say, and by what is given here."""
    if preset not in PRESETS:
        raise RunError(f"no preset is called {preset!r}; presets: {', '.join(PRESETS)}")
    if recipe.pair != isinstance(dataset, Unpaired):
        raise RunError(
            f"{recipe.name} learns from two data sets; give both, such as --data {recipe.data}, or two folders: a+b"
            if recipe.pair
            else f"{recipe.name} learns from one data set, and {dataset.name} is a pair; give one of them"
        )  # fmt: skip
    if recipe.labels and dataset.train_labels is None:
        raise RunError(
            f"{recipe.name} needs labels, and {dataset.name} has none; put the images in one folder per class"
        )
    if recipe.labels and dataset.partly_labelled and not recipe.unlabelled:
        raise RunError(f"{recipe.name} needs a label of every image; leave out --labels")
    given_here = dict(arguments or {}) | ({"lr": lr} if lr is not None else {})
    check_arguments(recipe.name, recipe.arguments(), given_here)
    small = len(dataset.shape) == 3 and min(dataset.shape[1:]) < SMALL
    layers = [recipe.preset("small")] if small else []
    layers += [recipe.preset("gpu")] if preset == "gpu" and not small else []
    layers += [(TINY, {}), recipe.preset("tiny")] if preset == "tiny" else []
    plan = {"epochs": recipe.epochs, "batch_size": recipe.batch_size}
    values = recipe.defaults()
    for changed, changed_arguments in layers:
        plan |= changed
        values |= changed_arguments
    learned = dataset if keep is None else dataset.divided()[0]
    count = learned.batches(1).count  # of a pair, that of the smaller set
    if epochs is None and not layers and not data.get("limit") and len(dataset.shape) == 3:
        # Few images: about as many of them as ten epochs of MNIST show (or fewer, where those suffice), within reason.
        epochs = max(recipe.epochs, min(200, min(10, recipe.epochs) * 60_000 // count))
    plan["epochs"] = epochs or plan["epochs"]
    plan["batch_size"] = min(batch_size or plan["batch_size"], count)
    steps = len(learned.batches(plan["batch_size"], drop_last=recipe.drop_last)) * plan["epochs"]
    classes = () if dataset.train_labels is None else tuple(dataset.classes)
    return Settings(
        recipe=recipe.name, data={**data, "sha": dataset.sha}, given=Given(dataset.shape, classes, steps)._asdict(),
        arguments=values | given_here, **plan, drop_last=recipe.drop_last, seed=seed, preset=preset,
        device=device or ("cuda" if preset == "gpu" else "cpu"),
        threads=threads or (1 if small or preset == "tiny" else tg.get_num_threads()), version=tg.__version__,
        keep=keep, on=on,
    )  # fmt: skip


def given_of(settings: Settings) -> Given:
    """The recipe's Given, from what config.json holds."""
    given = settings.given
    return Given(tuple(given["shape"]), tuple(given["classes"]), given["steps"])


# ---------------------------------------------------------------------------------- arguments and their kinds


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _several(check: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(check, value))


def _pair(check: Callable[[Any], bool], value: Any) -> bool:
    return _several(check, value) and len(value) == 2


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # annotation of an argument: in words, and its test
    "int": ("a whole number of at least 1", _whole),
    "float": ("a number", _number),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "str": ("a text", lambda value: isinstance(value, str)),
    "Sequence[int]": ("a list of whole numbers of at least 1, such as [64,32]", lambda value: _several(_whole, value)),
    "tuple[float, float]": ("a list of two numbers, such as [0.5,0.999]", lambda value: _pair(_number, value)),
    "tuple[int, int]": ("two whole numbers, such as 512x768", lambda value: _pair(_whole, value)),
}


def check_arguments(
    owner: str, parameters: Mapping[str, inspect.Parameter], values: Mapping[str, Any], dash: str = ""
) -> None:
    """Raises RunError for an argument that is not among the parameters, or that is of another kind."""
    for name, value in values.items():
        if name not in parameters:
            near, shown = difflib.get_close_matches(name, parameters, n=1), dash + name if dash else repr(name)
            guess = f" Did you mean {dash}{near[0]}?" if near else ""
            known = ", ".join(dash + p for p in parameters) or "none"
            raise RunError(f"{owner} has no argument {shown}.{guess} It has: {known}")
        kind, _, optional = annotation(parameters[name]).partition(" | ")
        words, check = KINDS.get(kind, ("", lambda value: True))
        if not (check(value) or (optional and value is None)):
            raise RunError(f"{dash}{name} of {owner} must be {words}; it is {json.dumps(value, default=repr)}")


def annotation(parameter: inspect.Parameter) -> str:
    """The annotation as it is written in the source."""
    kind = parameter.annotation
    if isinstance(kind, str):
        return kind
    plain = isinstance(kind, type) and get_origin(kind) is None
    return kind.__name__ if plain else str(kind).replace("collections.abc.", "").replace("typing.", "")


def value_of(text: str) -> Any:
    """The value of an option's text: JSON, or HxW as two whole numbers, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        sides = text.split("x")
        return tuple(map(int, sides)) if len(sides) == 2 and all(s.isdecimal() for s in sides) else text


# ---------------------------------------------------------------------------------- config.json


@contextmanager
def writing(target: str | os.PathLike) -> Iterator[None]:
    """Context manager in which an OSError becomes a RunError that names the file or folder to be written."""
    try:
        yield
    except OSError as error:
        said = error if isinstance(error, UserError) else f"{target} cannot be written: {error.strerror or error}"
        raise RunError(f"{said}; choose another --out, in a folder where you may write") from error


def write_settings(folder: Path, settings: Settings) -> None:
    """Writes config.json, all at once."""
    with whole(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")


def read_settings(folder: Path) -> Settings:
    """The settings in a run's folder; RunError says what is missing and which runs there are."""
    path = folder / "config.json"
    try:
        check_kind(path)
    except KindError as error:
        raise RunError(str(error)) from error
    if not path.exists():
        around = sorted(p.parent.name for p in folder.parent.glob("*/config.json")) if folder.parent.exists() else []
        near = difflib.get_close_matches(folder.name, around, n=1, cutoff=0.3) or around[-1:]
        hint = f" Did you mean {folder.parent / near[0]}?" if near else " Train one with: tinygen train NAME"
        raise RunError(f"{folder} is no run: it has no config.json.{hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "model" in content and "given" not in content:
            raise RunError(f"{folder} was made by an older tinygen, whose runs this one cannot read; train it anew: "
                           f"tinygen train {content.get('recipe')}")  # fmt: skip
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
        missing = [f.name for f in fields(Settings) if f.default is MISSING and f.name not in content]
        unknown = [name for name in content if name not in {f.name for f in fields(Settings)}]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if unknown:
            raise ValueError(f"nobody knows its entry {unknown[0]!r}")
        check_settings(content)
        return Settings(**content)
    except RunError:
        raise
    except (ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path} cannot be read: {reason}; restore the file, or train anew") from error
