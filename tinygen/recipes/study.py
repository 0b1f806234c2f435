"""A study: a function of trained runs, or of a data set, that returns numbers and pictures.

    @study("interpolation and scatter of codes", on=("autoencoder",), lectures=(1, 4))
    def codes(trained: Trained, pairs: int = 4) -> Findings: ...

    tinygen study codes runs/autoencoder-001 --set pairs=8

It receives one `Trained` for each recipe of `on`: the run that is named, the newest that fits, or one that is trained
for it. One that says `data="digits"` instead receives a Dataset. What it finds goes to studies/<name>/ of the run that
is named, or of the first, or of the present folder where it stands on no run.
"""

from __future__ import annotations

import inspect
import json
import math
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygen as tg
from tinygen import metrics
from tinygen.data import Dataset, load, place
from tinygen.data.unpaired import Unpaired
from tinygen.errors import UserError
from tinygen.free_memory import TooLarge
from tinygen.step import Sheet as Sheet  # a chapter's studies hand it back
from tinygen.training import Display, save_picture
from tinygen.training.log import NotFinite
from tinygen.training.pictures import rows, save_film, save_pillow
from tinygen.training.whole import whole

from .recipe import Recipe, find, meanings, nearest
from .run import data_of, load_run, stand_on
from .settings import TINY_LIMIT, RunError, Settings, annotation, check_arguments, read_settings, writing

COUNTS = ("int", "Sequence[int]")  # annotations of arguments that ask for more or less


class Trained(NamedTuple):
    """A trained run, as a study receives it."""

    step: Any
    dataset: Dataset
    settings: Settings
    folder: Path

    def encode(self, images: tg.Tensor) -> tg.Tensor:
        """Codes of images; both on the CPU, wherever the run computes."""
        return self.step.encode(images.to(self.step.device)).cpu()

    def decode(self, codes: tg.Tensor) -> tg.Tensor:
        """Images of codes; both on the CPU, wherever the run computes."""
        return self.step.decode(codes.to(self.step.device)).cpu()


def generator() -> np.random.Generator:
    """Random numbers for NumPy that follow from the study's seed."""
    return np.random.default_rng(int(tg.randint(0, 2**31 - 1, (1,)).item()))


class Rows(NamedTuple):
    """A row for each batch of images, its title on the left."""

    batches: Sequence[tg.Tensor]
    titles: Sequence[str]


class Film(NamedTuple):
    """Pillow images of one size, shown one after the other for so many seconds: an animated GIF."""

    frames: Sequence[Any]
    seconds: float = 6.0


class Findings(NamedTuple):
    """What a study found: numbers and pictures by name.

    A picture is a Pillow image, a Sheet, Rows, a Film, or what `save_picture` takes.
    """

    metrics: Mapping[str, float]
    pictures: Mapping[str, Any]
    table: Sequence[Mapping[str, Any]] = ()  # rows with equal keys


@dataclass(frozen=True)
class Study:
    """A named study; see `study` for the fields."""

    name: str
    summary: str
    run: Callable[..., Findings]
    chapter: str
    on: tuple[str, ...] = ()
    data: str | None = None
    lectures: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    tiny: Mapping[str, Any] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)  # of the arguments: lines of the docstring
    least: Mapping[str, int] = field(default_factory=dict)
    above: Mapping[str, float] = field(default_factory=dict)
    asks: Callable | None = None
    exact: bool = False

    def refuses(self, shape: Sequence[int], classes: Sequence[str], data: str) -> str | None:
        """Why it cannot look at runs on data of that shape, those classes and that name; None where it can."""
        return self.asks(tuple(shape), tuple(classes), data) if self.asks else None

    def fits(self, recipe: Recipe) -> bool:
        """Whether a run of a recipe may be named: one of a family, or, where it is not exact, one of the same kind."""
        bases = [find(base) for base in self.on]
        return any(base.family == recipe.family or (not self.exact and same_kind(base, recipe)) for base in bases)

    def takes(self, settings: Settings) -> bool:
        """Whether a run's data are such as it can look at."""
        given = settings.given
        return self.refuses(given["shape"], given["classes"], settings.data["name"]) is None

    def arguments(self) -> dict[str, inspect.Parameter]:
        """What `--set` may change: the function's parameters that have a default."""
        parameters = inspect.signature(self.run).parameters
        return {name: p for name, p in parameters.items() if p.default is not p.empty}


STUDIES: dict[str, Study] = {}


def study(
    summary: str, *, on: tuple[str, ...] = (), data: str | None = None, lectures: tuple[int, ...] = (),
    needs: tuple[str, ...] = (), tiny: Mapping[str, Any] | None = None, least: Mapping[str, int] | None = None,
    above: Mapping[str, float] | None = None, asks: Callable | None = None,
    exact: bool = False,
) -> Callable:  # fmt: skip
    """Decorator: registers a function as a study and returns it unchanged.

    `on`: names of recipes, whose runs the function receives; `data`, instead: the data set it receives where none
    is named. With both it receives runs alone, and where no run is named or there, one is trained on `data` in place
    of the recipe's. `needs`: arguments of a recipe without which its runs are refused. `tiny`: arguments that make it
    take seconds. `least`: arguments and their smallest values; `above`: those that must be larger than a value.
    `asks(shape, classes, name of the data)`: of a study on runs, why it cannot look at such data, or None; asked
    before one is trained. `exact`: a run of another recipe is refused, though it builds the same kind of Step. The
    docstring's first line says what is found; one line `name: meaning` follows for each argument.
    """
    def register(run: Callable) -> Callable:
        name = run.__name__.replace("_", "-")
        if name in STUDIES and STUDIES[name].chapter != run.__module__:
            raise ValueError(f"two studies are called {name!r}: in {STUDIES[name].chapter} and {run.__module__}")
        STUDIES[name] = Study(
            name, summary, run, run.__module__, on, data, lectures, needs, tiny or {}, meanings(run),
            least or {}, above or {}, asks, exact,
        )  # fmt: skip
        return run

    return register


def find_study(name: str) -> Study:
    """The study of that name; an unknown one raises SettingError with the nearest."""
    return nearest(name, STUDIES, "study")


def run_study(
    name: str, folder: str | os.PathLike | None = None, *, arguments: Mapping[str, Any] | None = None,
    tiny: bool = False, display: Display | None = None, seed: int = 0, data: str | None = None,
) -> tuple[Findings, Path]:  # fmt: skip
    """(findings, the folder they lie in) of a study.

    `folder`: the run to look at, for the recipe of `on` that it is of; else `data` name what that run is trained
    on. A study on a data set looks at `data`, a name or a path (at the tiny preset at the first images only).
    Raises RunError for arguments that do not fit, and TooLarge, a MemoryError, for those that ask for too much.
    """
    chosen = find_study(name)
    check_arguments(f"study {name}", chosen.arguments(), arguments or {})
    _check_ranges(chosen, arguments or {})
    preset = "tiny" if tiny else "cpu"
    if folder is not None and not chosen.on:
        raise RunError(f"study {name} stands on no run; leave {folder} out")
    if data is not None and not chosen.on and chosen.data is None:
        raise RunError(f"study {name} stands on no run and reads no data; leave out --data {data}")
    if folder is not None and data is not None:
        raise RunError(f"study {name} looks at the data of {folder}; leave out --data {data}")
    named = None if folder is None else _slot(chosen, Path(folder))
    _check_asks(chosen, folder, data)
    source: Mapping[str, Any] | None = {"name": place(data)} if data is not None else None
    if folder is not None:
        source = read_settings(Path(folder)).data
    folders: list[Path] = []
    rules = chosen.needs, chosen.takes, chosen.data
    for i, base in enumerate(chosen.on):
        folders.append(Path(folder) if folder is not None and i == named  # type: ignore[arg-type]
                       else stand_on(base, source, preset, display, *rules))  # fmt: skip
        source = source or read_settings(folders[0]).data  # all of them on the same data
    given: list[Any] = []
    for one in folders:
        settings = read_settings(one)
        given.append(Trained(load_run(one), data_of(settings), settings, one))
    if chosen.data is not None and not chosen.on:
        given.append(load(data or chosen.data, limit=TINY_LIMIT if tiny else None))
        if isinstance(given[-1], Unpaired):
            raise RunError(f"study {name} looks at one data set, and {given[-1].name} is a pair; give one of them")
    values = {**(chosen.tiny if tiny else {}), **(arguments or {})}
    tg.manual_seed(seed)
    with _named(chosen, arguments or {}, folder or data):
        findings = chosen.run(*given, **values)
    target = (Path(folder) if folder is not None else folders[0] if folders else Path()) / "studies" / name
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        for title, content in findings.pictures.items():
            _save(content, target / title)
        content = {
            "study": name, "runs": [str(f) for f in folders], "arguments": values, "seed": seed,
            "data": [{"name": g.name, "sha": g.sha} for g in given if isinstance(g, Dataset)],
            "metrics": {metric: float(value) for metric, value in findings.metrics.items()},
            "table": [dict(row) for row in findings.table], "version": tg.__version__,
        }  # fmt: skip
        with whole(target / "study.json") as temporary:
            temporary.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return findings, target


def _check_ranges(chosen: Study, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        usual = chosen.arguments()[name].default
        for words, limits, fits in (("at least", chosen.least, operator.ge), ("above", chosen.above, operator.gt)):
            if name in limits and not fits(value, limits[name]):
                raise RunError(
                    f"study {chosen.name}: {name} must be {words} {limits[name]:g}, it is {value:g}; "
                    f"{usual:g} is usual: --set {name}={usual:g}"
                )


@contextmanager
def _named(chosen: Study, values: Mapping[str, Any], source: str | os.PathLike | None) -> Iterator[None]:
    """Context manager in which what the arguments of a study lead to is said with its name, as `build` says it."""
    given = f" with {dict(values)}" if values else ""
    try:
        yield
    except (UserError, NotFinite):
        raise
    except MemoryError as error:
        sizes = [name for name, parameter in chosen.arguments().items() if annotation(parameter) in COUNTS]
        which = ", ".join([name for name in sizes if name in values] or sizes)
        remedy = f"give a smaller {which}" if which else "look at smaller data"
        raise TooLarge(
            f"study {chosen.name}{given} does not fit into memory: {error or 'no more can be had'}; {remedy}"
        ) from error
    except (ValueError, ArithmeticError) as error:  # NumPy's LinAlgError is a ValueError
        if not (values or source):  # a fault of the study's own
            raise
        remedy = f"change {', '.join(values)}" if values else f"look at something else than {source}"
        raise RunError(f"study {chosen.name}{given}: {' '.join(str(error).split())}; {remedy}") from error


def _plain(value: Any) -> Any:
    """The value as JSON has it: numbers of any library are floats, and null where they are NaN or infinite."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _save(content: Any, place: Path) -> None:
    """Writes a picture of Findings as a PNG file, a film as a GIF; `place` has no ending."""
    from PIL import Image

    path = place.with_name(f"{place.name}.png")
    if isinstance(content, Film):
        save_film(content.frames, place.with_name(f"{place.name}.gif"), content.seconds)
    elif isinstance(content, Rows):
        save_pillow(rows(content.batches, content.titles), path)
    elif isinstance(content, Image.Image):
        save_pillow(content, path)
    else:
        save_picture(content, path)


def _slot(chosen: Study, folder: Path) -> int:
    """Which of the study's recipes a named run stands for: its own, or the first that it fits."""
    recipe = read_settings(folder).recipe
    looks = f"study {chosen.name} looks at a run of {chosen.on[0]}; {folder} is one of {recipe}"
    family = [i for i, base in enumerate(chosen.on) if find(base).family == find(recipe).family]
    fitting = [i for i, base in enumerate(chosen.on) if same_kind(find(recipe), find(base))]
    if not chosen.fits(find(recipe)):
        raise RunError(f"{looks}; name another run, or leave it out")
    lacking = [name for name in chosen.needs if name not in find(recipe).arguments()]
    if lacking:
        raise RunError(f"{looks}, which has no {' and no '.join(lacking)}; leave {folder} out, or name another run")
    return (family or fitting)[0]


def _check_asks(chosen: Study, folder: str | os.PathLike | None, data: str | None) -> None:
    """Raises RunError for data that the study cannot look at, before runs on them are trained."""
    if chosen.asks is None or (folder is None and data is None):
        return
    if folder is not None:
        settings = read_settings(Path(folder))
        shape, classes, data = settings.given["shape"], settings.given["classes"], settings.data["name"]
    else:
        dataset = load(str(data))
        shape, classes = dataset.shape, dataset.classes
    reason = chosen.refuses(shape, classes, str(data))
    if reason:
        raise RunError(f"study {chosen.name}: {reason}")


def images(shape: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Why a study that draws images refuses: the data are points."""
    return None if len(shape) == 3 else "it draws images, and these are points; name another run, or other data"


def scored_images(shape: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Why a study that judges images by a frozen network refuses: none knows their shape."""
    if images(shape, classes, data) or metrics.scorable(shape):
        return images(shape, classes, data)
    return f"no frozen network knows images of {'x'.join(map(str, shape))}; name another run, or other data"


def same_kind(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes build the same kind of Step, as their functions' annotations say."""
    kinds = [inspect.signature(recipe.build).return_annotation for recipe in (one, other)]
    return one.family == other.family or kinds[0] == kinds[1] is not inspect.Signature.empty
