"""The learning rate of an update, for models that are trained for a number of updates known beforehand."""

from __future__ import annotations

from tinygen import optim


def falling(
    optimizer: optim.Optimizer, steps: int | None
) -> optim.lr_scheduler.LRScheduler | None:
    """lr for two thirds of `steps` updates, then in a line to 0. No schedule, and so a constant lr, for None.

    The last iterate is what is kept. A rate that falls makes it a good one: squared errors lose the noise of single
    batches, and a game is not left amid a swing. It falls late, since a rate that falls from the first update on costs
    what could have been learned.
    """
    if not steps:
        return None
    return optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min(1.0, max(0.0, 3 - 3 * t / steps))
    )
