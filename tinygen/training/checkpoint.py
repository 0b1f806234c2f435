"""The state of a training as one tree of tensors and plain values, and that tree as one file.

    {"parts": {"encoder": {...}, "optimizer": {...}}, "rng": [...]}

The file is safetensors: weights are found in it under "parts.<attribute of the Step>.<parameter>", whoever reads it.
"""

from __future__ import annotations

import os
from typing import Any

import tinygen as tg
from tinygen import serialization
from tinygen.step import Step


def state_of(step: Step) -> dict[str, Any]:
    """Everything that a Step and the random numbers need to go on bit for bit."""
    return {"parts": step.state_dict(), "rng": list(tg.get_rng_state())}


def restore(step: Step, state: dict[str, Any]) -> None:
    """Puts `state_of` back. Raises ValueError where the state has other parts than the Step."""
    if "parts" not in state:
        kind = "of tinygen's older form, which named modules and optimizers" if "modules" in state else "no Step's"
        raise ValueError(f"the checkpoint is {kind}; train the model anew with this version")
    step.load_state_dict(state["parts"])
    tg.set_rng_state(state["rng"])


def save_checkpoint(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Writes a state, all or nothing: a run that is killed meanwhile keeps the checkpoint before."""
    serialization.save(state, path)


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """The state in a file. Raises ValueError, naming the file, where it is damaged."""
    return serialization.load(path)
