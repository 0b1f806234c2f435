"""The state of a training as one tree of tensors and plain values, and that tree as one file.

The file is safetensors: weights are found in it under "modules.<name>.<parameter>", whoever reads it.
"""

from __future__ import annotations

import os
from typing import Any

import tinygen as tg
from tinygen import serialization


def state_of(step: Any) -> dict[str, Any]:
    """Everything that a Step and the random numbers need to go on bit for bit: modules, optimizers, schedules, rng."""
    parts = {"modules": step.modules, "optimizers": step.optimizers, "schedules": getattr(step, "schedules", {})}
    states = {kind: {name: part.state_dict() for name, part in named.items()} for kind, named in parts.items()}
    return {**states, "rng": list(tg.get_rng_state())}


def restore(step: Any, state: dict[str, Any]) -> None:
    """Puts `state_of` back. Raises ValueError where the state has other modules or optimizers than the Step."""
    parts = {"modules": step.modules, "optimizers": step.optimizers, "schedules": getattr(step, "schedules", {})}
    for kind, named in parts.items():
        if set(named) != set(state[kind]):
            raise ValueError(f"the checkpoint has {kind} {sorted(state[kind])}, the step has {sorted(named)}")
        for name, part in named.items():
            part.load_state_dict(state[kind][name])
    tg.set_rng_state(state["rng"])


def save_checkpoint(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Writes a state, all or nothing: a run that is killed meanwhile keeps the checkpoint before."""
    serialization.save(state, path)


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """The state in a file. Raises ValueError, naming the file, where it is damaged."""
    return serialization.load(path)
