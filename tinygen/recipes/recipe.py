"""A recipe: a function from what the data say to a Step, with the plan that is known to work.

    @recipe("deep convolutional GAN, f = 16", lectures=(0, 3, 4), batch_size=64, drop_last=True,
            small={"epochs": 150, "channels": (32, 64)}, gpu={"channels": (64, 128)}, tiny={"channels": (4, 6)})
    def dcgan(given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, lr: float = 2e-4) -> GANStep: ...

    @recipe("least-squares GAN (Mao et al. 2017)", like=dcgan)
    def lsgan(given: Given, ...): ...

The function's signature is what `--set` is checked against; its docstring holds one line `name: meaning` for each
argument. Its name, with dashes, is the recipe's. `like` inherits plan, presets and meanings of another recipe; a
preset's values reach only arguments that the function has.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_type_hints

from tinygen.errors import SettingError
from tinygen.step import Step

PLAN = ("epochs", "batch_size")  # what a preset may change besides arguments


class Given(NamedTuple):
    """What data and plan say; it stands in config.json."""

    shape: tuple[int, ...]  # of one example: (C, H, W), or (2,) for points
    classes: tuple[str, ...]  # their names; () where there are no labels
    steps: int  # updates in the whole training

    @property
    def pixels(self) -> tuple[int, ...]:
        """The shape of images, for networks whose values end in [0, 1]; other data raise ValueError."""
        if len(self.shape) != 3:
            raise ValueError("this model makes values in [0, 1], and points have others; give images")
        return self.shape


def all_batches(dataset: Any, settings: Any) -> Any:
    """The training batches of a data set, as the plan in `settings` has them."""
    return dataset.batches(settings.batch_size, settings.seed, drop_last=settings.drop_last)


@dataclass(frozen=True)
class Recipe:
    """A named experiment; see `recipe` for the fields."""

    name: str
    summary: str
    build: Callable[..., Step]  # (given, *steps of `on`, **arguments)
    chapter: str
    lectures: tuple[int, ...] = ()
    data: str = "digits"
    labels: bool = False
    unlabelled: bool = False
    pair: bool = False
    epochs: int = 10
    batch_size: int = 128
    drop_last: bool = False
    small: Mapping[str, Any] = field(default_factory=dict)
    gpu: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    on: tuple[str, ...] = ()
    batches: Callable = all_batches  # (dataset, settings) -> what `fit` learns from
    baselines: tuple[Callable, ...] = ()
    scored: tuple[float, ...] = ()
    root: str = ""  # the recipe at the root of `like`
    family: str = ""  # those whose runs may stand in for each other
    meanings: Mapping[str, str] = field(default_factory=dict)  # of the arguments: lines of the docstring

    def arguments(self) -> dict[str, inspect.Parameter]:
        """What `--set` may change: the function's parameters that have a default."""
        parameters = inspect.signature(self.build).parameters
        return {name: p for name, p in parameters.items() if p.default is not p.empty}

    def defaults(self) -> dict[str, Any]:
        """The arguments' values where nothing is set."""
        return {name: p.default for name, p in self.arguments().items()}

    @property
    def kind(self) -> type[Step]:
        """The class of the Step, as the function's annotation says; Step where it says nothing."""
        try:
            return get_type_hints(self.build).get("return", Step)
        except NameError:  # a name that is imported for the type checker alone
            return Step

    def preset(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """(plan, arguments) of the preset "small", "gpu" or "tiny"."""
        values, known = getattr(self, name), self.arguments()
        return {k: v for k, v in values.items() if k in PLAN}, {k: v for k, v in values.items() if k in known}


RECIPES: dict[str, Recipe] = {}
_INHERITED = (
    "data", "labels", "unlabelled", "pair", "epochs", "batch_size", "drop_last", "small", "gpu", "tiny", "on",
    "batches", "baselines",
)  # fmt: skip


def recipe(
    summary: str, *, like: Callable | None = None, apart: bool = False, lectures: tuple[int, ...] = (), **plan: Any
) -> Callable:
    """Decorator: registers a function as a recipe and returns it unchanged.

    `apart`: what stands on a recipe that this one is `like`, or on this one, does not take a run of the other.

    Further keywords: `data`, where it is not the embedded digits; `labels`, whether it needs them, and
    `unlabelled`, whether some images may lack theirs; `pair`: whether it learns from two data sets, unpaired;
    `epochs`, `batch_size`, `drop_last`; `small` for images below 16 pixels, `gpu` and `tiny`: what differs there;
    `on`: names of recipes whose trained Steps the function receives after `given`; `batches(dataset, settings)`:
    what is learned from, where it is not the data set's own batches; `baselines`, functions of baselines.py;
    `scored`: after which shares of its epochs `reproduce` scores on the way.
    """

    def register(build: Callable) -> Callable:
        name = build.__name__.replace("_", "-")
        base = next((r for r in RECIPES.values() if r.build is like), None)
        if like and not base:
            raise ValueError(f"recipe {name}: like={like.__name__} is no recipe")
        inherited = {key: getattr(base, key) for key in _INHERITED} if base else {}
        if name in RECIPES and RECIPES[name].chapter != build.__module__:
            raise ValueError(f"two recipes are called {name!r}: in {RECIPES[name].chapter} and {build.__module__}")
        RECIPES[name] = Recipe(
            name, summary, build, build.__module__, lectures=lectures or (base.lectures if base else ()),
            root=base.root if base else name, family=base.family if base and not apart else name,
            meanings={**(base.meanings if base else {}), **meanings(build)},
            **inherited | plan,
        )  # fmt: skip
        return build

    return register


def meanings(function: Callable) -> dict[str, str]:
    """{argument: what it means}: the lines `name: meaning` of a docstring."""
    lines = (inspect.getdoc(function) or "").splitlines()
    pairs = (line.partition(": ") for line in lines)
    return {name: text for name, colon, text in pairs if colon and name.isidentifier()}


def find(name: str) -> Recipe:
    """The recipe of that name; an unknown one raises SettingError with the nearest."""
    return nearest(name, RECIPES, "recipe")


def nearest(name: str, table: Mapping[str, Any], kind: str) -> Any:
    """table[name]; an unknown name raises SettingError with the nearest."""
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1, cutoff=0.4)
        guess = f" Did you mean {near[0]}?" if near else ""
        known = ", ".join(table) or "none"
        raise SettingError(f"no {kind} is called {name!r}.{guess} Known: {known}")
    return table[name]


