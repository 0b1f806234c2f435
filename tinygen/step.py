"""A Step: one training update of one model, the algorithm of the slide in plain sight.

    class Autoencoder(Step):
        def __init__(self, encoder, decoder): ...       # every part that has a state is an attribute
        def __call__(self, batch): ...                  # forward, loss, zero_grad / backward / step
        def measure(self, batch): ...                   # means over a test batch

A Step's parts are found by walking its attributes, as `Module` finds its parameters: networks, optimizers, schedules,
averages of weights, image pools, other Steps that it stands on. What a Step does not answer it inherits: an empty dict,
or an error that says why.

Absent on purpose: hooks, devices as options, the loop (tinygen/training), and any choice between algorithms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from html import escape
from typing import Any, NamedTuple

import tinygen as tg
from tinygen import nn

from .errors import UserError


class Unsupported(UserError, LookupError):
    """A Step was asked for something that its model cannot give."""


class Captioned(NamedTuple):
    """Pictures with a line of text under each: images (N, C, H, W) and N strings."""

    images: tg.Tensor
    captions: list[str]


class Sheet(NamedTuple):
    """All of some images (N, C, H, W) in a grid of so many columns."""

    images: tg.Tensor
    columns: int


class AnySize(NamedTuple):
    """Pictures that `apply` takes besides those of the training's shape: of any size, but for these limits.

    channels: 1 or 3; scale: the output's size in the input's; multiple: of which both sides of the input are; reach:
    how many pixels of the input to each side an output depends on at most, None where it may be all of them; least:
    the smallest side.
    """

    channels: int
    scale: int = 1
    multiple: int = 1
    reach: int | None = None
    least: int = 1

    @classmethod
    def of(cls, network: Any) -> AnySize:
        """What a network from images to images says of itself, by attributes of these names."""
        least = getattr(network, "least", 1)
        return cls(network.channels, network.scale, network.multiple, network.reach, least)


class Step:
    """Base class of all updates; see the module. `least_batch`: examples that one update needs.

    `phase`: whatever decides, besides the batch, what an update computes. Each phase has a captured graph of its own.
    `figures`: functions of (Step, test batches) that a Step may be handed; `summary` is what they say.
    """

    least_batch: int = 1
    phase: Any = None
    figures: Sequence[Callable] = ()

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        """One update; its metrics as 0-d tensors, so that nothing waits for a GPU."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """Means over one test batch, 0-d tensors; nothing is learned."""
        return {}

    def summary(self, batches: Iterable[tuple]) -> dict[str, float]:
        """Test figures that are no means over examples. `batches` can be iterated more than once."""
        found: dict[str, float] = {}
        for figure in self.figures:
            found |= figure(self, batches)
        return found

    def log_weights(self, batch: tuple, k: int) -> tg.Tensor:
        """log p(x, z_i) / q(z_i|x) of k draws z_i of each example, (k, N): what importance sampling of p(x) takes."""
        raise Unsupported(f"{type(self).__name__} has no likelihood to estimate")

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """What to look at, by name: images in [0, 1] or points (N, 2), a tuple of such, a `Sheet`, or `Captioned`."""
        return {}

    def sample(self, n: int) -> tg.Tensor:
        """n new examples. A subclass may take keyword arguments: `tinygen sample` accepts each as an option."""
        raise Unsupported(f"{type(self).__name__} has learned no distribution to sample from")

    def labelled(self, n: int) -> tuple[tg.Tensor, tg.Tensor]:
        """The n examples that `sample` gives, and their labels (n,)."""
        raise Unsupported(f"{type(self).__name__} draws samples without labels")

    def apply(self, images: tg.Tensor) -> tg.Tensor:
        """Images (N, C, H, W) from images (N, C, H, W)."""
        raise Unsupported(f"{type(self).__name__} does not turn images into images")

    def scores(self, images: tg.Tensor) -> tg.Tensor:
        """How unlike what was learned each pixel of images (N, C, H, W) is, (N, 1, H, W)."""
        raise Unsupported(f"{type(self).__name__} finds no anomalies")

    @property
    def any_size(self) -> AnySize | None:
        """What pictures `apply` or `scores` takes; None where they must have the shape of the training's."""
        return None

    @property
    def most_batch(self) -> int | None:
        """Examples that one update can take; None where any number will do."""
        return None

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What the means over an epoch say about the training, in plain words."""
        return None

    @classmethod
    def offers(cls, name: str) -> bool:
        """Whether the Step itself answers `name`, and not this base class."""
        return getattr(cls, name) is not getattr(Step, name)

    def parts(self) -> dict[str, Any]:
        """What is saved with the Step: every attribute that has a state, under its name."""
        return {
            name: part
            for name, part in vars(self).items()
            if hasattr(part, "state_dict") and hasattr(part, "load_state_dict")
        }

    def state_dict(self) -> dict[str, Any]:
        """{part: its state}. So a Step may be a part of another one, which stands on it."""
        return {name: part.state_dict() for name, part in self.parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts `state_dict` back. Raises ValueError where the state has other parts than the Step."""
        parts = self.parts()
        if set(parts) != set(state):
            raise ValueError(f"the checkpoint has parts {sorted(state)}, the step has {sorted(parts)}")
        for name, part in parts.items():
            part.load_state_dict(state[name])

    def networks(self) -> dict[str, nn.Module]:
        """The parts that are modules; those of a Step that is a part as "its name.their name"."""
        found: dict[str, nn.Module] = {}
        for name, part in self.parts().items():
            if isinstance(part, nn.Module):
                found[name] = part
            elif isinstance(part, Step):
                found |= {f"{name}.{inner}": network for inner, network in part.networks().items()}
        return found

    def averages(self) -> dict[str, Any]:
        """The parts that are averages of a network's weights, such as `optim.EMA`."""
        return {name: part for name, part in self.parts().items() if hasattr(part, "average_parameters")}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context manager in which networks have their averaged weights. Raises Unsupported where none are kept."""
        averages = self.averages()
        if not averages:
            raise Unsupported(f"{type(self).__name__} keeps no average of its weights")
        with ExitStack() as stack:
            for average in averages.values():
                stack.enter_context(average.average_parameters())
            yield

    @property
    def device(self) -> Any:
        """Where the first parameter lies; "cpu" for a Step without parameters."""
        return next((p.device for network in self.networks().values() for p in network.parameters()), "cpu")

    def to(self, device: Any) -> Step:
        """Moves every network; the Step itself."""
        for network in self.networks().values():
            network.to(device)
        return self

    def eval(self) -> Step:
        """Puts every network in evaluation mode; the Step itself."""
        for network in self.networks().values():
            network.eval()
        return self

    def __repr__(self) -> str:
        lines = [f"({name}): {network!r}".replace("\n", "\n  ") for name, network in self.networks().items()]
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the table of each network under its name."""
        tables = [f"<p>{escape(name)}</p>{network._repr_html_()}" for name, network in self.networks().items()]
        return f"<p><b>{type(self).__name__}</b></p>{''.join(tables)}"
