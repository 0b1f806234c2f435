"""What the plan of a run, its epochs and batches, asks of a Step."""

from __future__ import annotations

from typing import Any

import tinygen as tg
from tinygen.step import Step

from .settings import RunError, Settings


def has_schedule(step: Step) -> bool:
    """Whether its learning rate depends on how many steps are planned."""
    schedules = (part for part in step.parts().values() if isinstance(part, tg.optim.lr_scheduler.LRScheduler))
    return not all(getattr(part, "constant", False) for part in schedules)  # one that only counts stretches nothing


def check_batch(settings: Settings, step: Step, batches: Any) -> None:
    """Raises RunError where a batch of an epoch has too few examples for one update, or too many."""
    if step.most_batch is not None and batches.batch_size > step.most_batch:
        raise RunError(
            f"{settings.recipe}: batch of {batches.batch_size}, and its store of older images takes batches of "
            f"{step.most_batch} at most; give a smaller --batch-size, or a larger store (--set)"
        )
    least, rest = step.least_batch, 0 if settings.drop_last else batches.count % batches.batch_size
    smallest = rest or batches.batch_size
    if smallest >= least:
        return
    remedy = f"give --batch-size of at least {least}"
    if batches.count < least:
        remedy = f"there are {batches.count} to learn from, give at least {least} (--limit, --data)"
    elif rest:
        remedy = f"the last batch is the rest of {batches.count}, give another --batch-size"
    raise RunError(f"{settings.recipe}: batch of {smallest}, and one update needs {least} examples: {remedy}")
