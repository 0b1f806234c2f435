"""Progressive growing of GANs: small images first, then larger ones (Karras 2018, lectures 2-4).

    0 .. stay           both players work at the smallest size
    .. + fade           the new layers' share alpha rises from 0 to 1;   x = (1 - alpha) up(half(x)) + alpha x
    .. + stay           both work at the next size;                      and so on, until the size is the data's

Stage and alpha follow from the count of updates, which the checkpoint keeps. The count is there twice: on the host,
where the schedule of a constant learning rate counts, it decides what is computed; on the device it is a number
that alpha is computed from. So a captured graph fades, and each `phase` has a graph of its own.

The game, the penalty and the players are handed in, as for GANStep: this Step only decides what size they work at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tinygen as tg
from tinygen import nn, optim

from .gan import GANStep


class Updates(optim.lr_scheduler.LambdaLR):
    """Counts updates, also where they are replayed as a graph; the rate stays as it is."""

    constant = True

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer, lambda update: 1.0)


class Plan:
    """When it grows, in updates. It goes into a checkpoint: a training that becomes longer keeps it."""

    def __init__(self, stay: int, fade: int) -> None:
        self.stay, self.fade = stay, fade

    def state_dict(self) -> dict[str, int]:
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        vars(self).update({name: int(state[name]) for name in vars(self)})


class Count(nn.Module):
    """A number on the device, 0-d."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("updates", tg.zeros(()))


class ProgressiveGANStep(GANStep):
    """One round of the game at the present size. Further arguments are GANStep's.

    `stay`: updates at each size but the last; `fade`: updates in which alpha rises. The players have `sizes`, and
    `grow(stage, fading, alpha)` (networks/growing.py). Raises ValueError where stay is below 0, or fade below 1.
    """

    def __init__(
        self,
        generator: Any,
        discriminator: Any,
        *rules: Any,
        stay: int,
        fade: int,
        **options: Any,
    ) -> None:
        super().__init__(generator, discriminator, *rules, **options)
        if stay < 0 or fade < 1:
            raise ValueError(
                f"stay must be at least 0 updates and fade at least 1, they are {stay} and {fade}"
            )
        self.sizes = generator.sizes
        self.plan, self.count = Plan(stay, fade), Count()
        self.schedule = Updates(self.generator_optimizer)
        self.grow()

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        self.grow()
        metrics = super().__call__((self.seen(batch[0]), None))
        metrics["alpha"] = self.generator.alpha.clone()
        metrics["size"] = 0 * metrics["alpha"] + self.sizes[self.phase[0]][0]
        self.count.updates.add_(1)
        self.schedule.step()
        return metrics

    @property
    def phase(self) -> tuple[int, bool]:
        """(index of the present size, whether its layers are being faded in)."""
        plan = self.plan
        before, since = divmod(
            self.schedule.last_epoch, plan.stay + plan.fade
        )
        if before >= len(self.sizes) - 1:
            return len(self.sizes) - 1, False
        return (before + 1, True) if since >= plan.stay else (before, False)

    def grow(self) -> None:
        """Sets both players to the present size and alpha."""
        stage, fading = self.phase
        plan = self.plan
        begun = stage * (plan.stay + plan.fade) - plan.fade
        alpha = (self.count.updates - begun) / plan.fade
        for player in (self.generator, self.discriminator):
            player.grow(stage, fading, alpha if fading else alpha * 0 + 1)

    def seen(self, x: tg.Tensor) -> tg.Tensor:
        """Images as the players see them now: of the present size; in a fade mixed with the coarser ones."""
        stage, fading = self.phase
        player = self.generator
        x = player.smaller(x, stage)
        if not fading:
            return x
        coarse = player.smaller(x, stage - 1)
        return player.mixed(player.larger(coarse, stage), x)

    def sample(self, n: int) -> tg.Tensor:
        """n images in [0, 1], enlarged to the data's size."""
        self.grow()
        images = self.generator(self.noise(n))
        return self.generator.larger(images, len(self.sizes) - 1)

    def summary(self, batches: Iterable[tuple]) -> dict[str, float]:
        """Slopes of the critic, as GANStep's, at the present size."""
        self.grow()
        return super().summary((self.seen(x), None) for x, *_ in batches)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Also sets the players to the size that the count says."""
        super().load_state_dict(state)
        self.grow()
