"""tinygen's steps, networks, models and recipes on PyTorch: the same source files, loaded a second time.

    side = load()                                # in a process of its own
    step = side.find("vae").build(given)         # a Step of torch modules and torch optimizers
    side.score(step, dataset)                    # the same test figures

While they load, `tinygen`, `tinygen.nn`, `tinygen.nn.functional`, `tinygen.optim` and `.lr_scheduler` are torch's. What
torch lacks is on one list, `LIST`; a name that neither has fails by name. What is NumPy alone (data, metrics) and
what only studies use stays tinygen's own.

Random numbers come from tinygen's Philox stream, so that both engines see the same noise; after `share_noise(False)`
from torch's generator, as a user of torch has them. Initial weights and dropout are torch's in any case.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import tinygen
import tinygen.studies
from tinygen.recipes import CHAPTERS

# Loaded from source on torch, chapters of recipes too. Everything else below tinygen stays what it is.
SOURCES = ("step", "networks", "models", "data.corruptions", "training.evaluate", "recipes.recipe", "recipes.scores",
           "recipes.study")  # fmt: skip
PACKAGES = ("data", "training", "recipes")  # those in which some files are sources
UNCHANGED = ("errors", "free_memory", "metrics", "observe", "studies")


class NotOnTheList(LookupError):
    """A source file uses a name that torch lacks."""


class Words(ModuleType):
    """A module of tinygen made of torch's: `theirs`, and before it what the list supplies."""

    def __init__(self, name: str, theirs: Any, supplied: dict[str, Any]) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self._theirs = theirs
        vars(self).update(supplied)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        if not hasattr(self._theirs, name):
            raise NotOnTheList(f"{self.__name__}.{name}: torch has no such name, and it is not on the list")
        return getattr(self._theirs, name)


# ---------------------------------------------------------------------------------- the list


@contextmanager
def frozen(*modules: Any) -> Iterator[None]:
    """The parameters of these modules (or these tensors) are constants inside."""
    tensors = [t for m in modules for t in (m.parameters() if hasattr(m, "parameters") else [m])]
    learned = [t for t in tensors if t.requires_grad]
    for t in learned:
        t.requires_grad_(False)
    try:
        yield
    finally:
        for t in learned:
            t.requires_grad_(True)


def reparameterize(mean: Any, log_variance: Any, noise: Any) -> Any:
    """mean + sigma noise."""
    return mean + (0.5 * log_variance).exp() * noise


def gaussian_kl(mean: Any, log_variance: Any) -> Any:
    """KL(N(mean, sigma^2) || N(0, I)) of each row."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1)


_shared = True


def share_noise(shared: bool) -> None:
    """Whether random numbers come from tinygen's stream (at the beginning they do), or from torch's generator."""
    global _shared
    _shared = shared


def _draw(name: str, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    import torch

    if not _shared:
        return getattr(torch, name)(*size, dtype=dtype, device=device, requires_grad=requires_grad)
    kind = None if dtype is None else str(dtype).removeprefix("torch.")
    drawn = torch.from_numpy(getattr(tinygen, name)(*size, dtype=kind).numpy()).to(device or "cpu")
    return drawn.requires_grad_() if requires_grad else drawn


def _draw_like(name: str, x: Any, dtype: Any = None, **options: Any) -> Any:
    return _draw(name, tuple(x.shape), dtype=dtype or x.dtype, **options)


class EMA:
    """A moving average of a network's weights, by torch's own kernels; see tinygen's `optim.EMA`."""

    def __init__(self, module: Any, decay: float = 0.999, *, warmup: bool = False) -> None:
        self.module, self.decay, self.warmup, self.updates = module, decay, warmup, 0
        self.averages = [p.detach().clone() for p in module.parameters()]

    def update(self) -> None:
        import torch

        self.updates += 1
        n = self.updates
        decay = min((1 + n) / (10 + n), self.decay) if self.warmup else self.decay
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, list(self.module.parameters()), 1 - decay)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        held = [p.data for p in self.module.parameters()]
        for p, average in zip(self.module.parameters(), self.averages, strict=True):
            p.data = average
        try:
            yield
        finally:
            for p, values in zip(self.module.parameters(), held, strict=True):
                p.data = values

    def state_dict(self) -> dict[str, Any]:
        return {"averages": self.averages, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averages, self.updates = state["averages"], state["updates"]


def _optimizers() -> dict[str, Any]:
    """EMA, and the optimizers whose loop over the parameters torch can fuse on a CPU."""
    from torch import optim

    fused = {name: partial(getattr(optim, name), fused=True) for name in ("Adam", "AdamW", "SGD", "Adagrad")}
    return fused | {"EMA": EMA}


def _root() -> dict[str, Any]:
    from torch import autograd
    from torch.nn import functional

    words = {"grad": autograd.grad, "frozen": frozen, "avg_pool2d": functional.avg_pool2d, "pad": functional.pad}
    draws = {name: partial(_draw, name) for name in ("rand", "randn", "randint", "randperm")}
    alike = {f"{name}_like": partial(_draw_like, name) for name in ("rand", "randn")}
    states = {"get_rng_state": tinygen.get_rng_state, "set_rng_state": tinygen.set_rng_state}
    return words | draws | alike | states


LIST: dict[str, Callable[[], dict[str, Any]]] = {  # module: its words that are not torch's own
    "tinygen": _root,
    "tinygen.nn": dict,
    "tinygen.nn.functional": lambda: {"reparameterize": reparameterize, "gaussian_kl": gaussian_kl},
    "tinygen.optim": _optimizers,
    "tinygen.optim.lr_scheduler": dict,
}


# ---------------------------------------------------------------------------------- loading


@functools.cache
def load(chapters: tuple[str, ...] = CHAPTERS) -> SimpleNamespace:
    """What runs recipes on torch: .find(name) and .score(...) as in `tinygen.recipes`.

    Raises NotOnTheList, or ImportError for a module that no source may import. Afterwards tinygen is what it was.
    """
    sources = (*SOURCES, *[f"recipes.{chapter}" for chapter in chapters])
    before = {name: module for name, module in sys.modules.items() if f"{name}.".startswith("tinygen.")}
    try:
        for name in before:
            if _within(name, sources):
                del sys.modules[name]
            elif not _within(name, (*PACKAGES, *UNCHANGED)):
                sys.modules[name] = None  # type: ignore[assignment]  # whoever imports it fails by its name
        for package in PACKAGES:
            sys.modules[f"tinygen.{package}"] = _copy(before[f"tinygen.{package}"])
        _put_words(before)
        for source in sources:
            name = f"tinygen.{source}"
            package = name.rpartition(".")[0]
            new, old, handed_on = importlib.import_module(name), vars(before[name]), vars(before[package])
            for word, value in vars(new).items():
                if word in handed_on and handed_on[word] is old.get(word):
                    setattr(sys.modules[package], word, value)
        recipe, scores = (sys.modules[f"tinygen.recipes.{name}"] for name in ("recipe", "scores"))
        return SimpleNamespace(find=recipe.find, score=scores.score)
    finally:
        for name in [name for name in sys.modules if f"{name}.".startswith("tinygen.")]:
            del sys.modules[name]
        sys.modules.update(before)


def _within(name: str, places: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"tinygen.{place}.") for place in places)


def _copy(module: ModuleType) -> ModuleType:
    copy = ModuleType(module.__name__)
    vars(copy).update(vars(module))
    return copy


def _put_words(before: dict[str, ModuleType]) -> None:
    """Puts torch's words in the place of tinygen's, and tinygen's other packages among them."""
    theirs = {name: importlib.import_module(name.replace("tinygen", "torch")) for name in LIST}
    for name, supplied in LIST.items():
        words = sys.modules[name] = Words(name, theirs[name], supplied())
        package, _, last = name.rpartition(".")
        if package:
            setattr(sys.modules[package], last, words)
    root = sys.modules["tinygen"]
    root.__path__ = before["tinygen"].__path__  # so that sources are found
    for name in (*PACKAGES, *UNCHANGED):
        setattr(root, name, sys.modules[f"tinygen.{name}"])
