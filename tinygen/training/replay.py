"""Which op made the first NaN of a training: its last steps again, watched.

A training is a pure function of its checkpoint, so it can be repeated from there. Only the last two steps are watched
by `tg.detect_anomaly`: a NaN in a gradient shows in the weights, and in the loss one step later.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygen as tg
from tinygen.observe import AnomalyError

from .checkpoint import restore
from .evaluate import to_tensors


def first_bad_op(step: Any, batches: Any, state: dict, epoch: int, index: int, device: Any = "cpu") -> str:
    """A sentence that names the op, or nothing where no op of those steps makes a NaN or an infinity from good values.

    `state`: the checkpoint to begin at; (epoch, index): the step whose metrics were not finite. The Step is left as it
    was before the bad step.
    """
    restore(step, state)
    steps = len(batches)
    position = state["run"]["position"]
    first, last = position["epoch"] * steps + position["index"], epoch * steps + index
    with np.errstate(all="ignore"):
        for i in range(first, last - 1):
            step(to_tensors(batches.at(*divmod(i, steps)), device))
        try:
            with tg.detect_anomaly(infinite=True):
                for i in range(max(first, last - 1), last + 1):
                    step(to_tensors(batches.at(*divmod(i, steps)), device))
        except AnomalyError as error:
            return f"The first bad op: {str(error).splitlines()[0].rstrip('.;')}. "
    return ""
