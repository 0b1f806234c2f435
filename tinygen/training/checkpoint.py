"""The state of a training as one tree of tensors and plain values, and that tree as one file.

    {"parts": {"encoder": {...}, "optimizer": {...}}, "rng": [...]}

The file is safetensors: weights are found in it under "parts.<attribute of the Step>.<parameter>", whoever reads it.
A run keeps the last two. Where the last is damaged or gone, it goes on from the one before, and says so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tinygen as tg
from tinygen import serialization
from tinygen.errors import UserError
from tinygen.step import Step

from .whole import WriteError, check_kind

CHECKPOINT, PREVIOUS, BEST = "checkpoint.safetensors", "checkpoint.previous.safetensors", "best.safetensors"


class CheckpointError(UserError, ValueError):
    """A run without a checkpoint that can be read."""


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


def save_checkpoint(path: str | os.PathLike, state: dict[str, Any], previous: str | os.PathLike | None = None) -> None:
    """Writes a state, all or nothing: a run that is killed meanwhile keeps the checkpoint before.

    `previous`: where the file that is replaced is kept. At every moment there is a whole file under one of the names.
    """
    path = Path(path)
    try:
        _save(path, state, previous)
    except OSError as error:
        raise WriteError(path, error, _bytes(state)) from error


def _bytes(state: Any) -> int:
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return int(state.array.nbytes) if isinstance(state, tg.Tensor) else sum(map(_bytes, values))


def _save(path: Path, state: dict[str, Any], previous: str | os.PathLike | None) -> None:
    following = path.with_name(f".{path.name}.part")
    serialization.save(state, following)
    if previous is not None and path.exists():
        link = path.with_name(f".{Path(previous).name}.part")
        link.unlink(missing_ok=True)
        try:
            os.link(path, link)
        except OSError:  # a file system without links
            shutil.copyfile(path, link)
        os.replace(link, previous)
    os.replace(following, path)
    serialization.sync_folder(path.parent)


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """The state in a file. Raises ValueError, naming the file, where it is damaged or no file."""
    check_kind(Path(path))
    return serialization.load(path)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run's training ever began."""
    return (folder / CHECKPOINT).exists() or (folder / PREVIOUS).exists()


def load_newest(folder: Path, say: Callable[[str], Any] = lambda text: None) -> tuple[dict[str, Any], str]:
    """(the state of a run, the name of the file): of its last checkpoint, or else of the one before, which is said.

    Raises CheckpointError where neither is whole.
    """
    reasons = []
    for name in (CHECKPOINT, PREVIOUS):
        try:
            state = checked(load_checkpoint(folder / name), folder / name)
        except (ValueError, OSError) as error:
            reasons.append(f"{folder / name} is not there" if isinstance(error, FileNotFoundError) else str(error))
            continue
        if reasons:
            say(f"note: {reasons[0]}; going back to epoch {state['run']['position']['epoch']}, in {name}")
        return state, name
    if not has_checkpoint(folder):
        raise CheckpointError(f"{folder} has no {CHECKPOINT}: its training never began")
    alone = [reason for reason in reasons if not reason.endswith("is not there")]
    raise CheckpointError(f"{'; '.join(alone)}; restore the file, or start anew with: tinygen train")


def checked(state: Any, path: Path) -> dict[str, Any]:
    """The state itself. Raises ValueError, naming file and entry, where it is not that of a run."""
    if not isinstance(state, dict) or not isinstance(state.get("run"), dict):
        raise ValueError(f"{path} is not the checkpoint of a run")
    run = state["run"]
    for name, (words, holds) in RUN.items():
        if name not in run or not holds(run[name]):
            came = f"it is {str(run[name])[:60]!r}" if name in run else "it is missing"
            raise ValueError(f"{path} is damaged: run.{name} must be {words}; {came}")
    if "parts" in state and not (isinstance(state["parts"], dict) and _is_rng(state.get("rng"))):
        raise ValueError(f"{path} is damaged: it must hold parts by name, and rng as three whole numbers")
    return state


def _whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**64


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_rng(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_whole, value))


def _pairs(value: Any, least: int) -> bool:
    """Whether it is {name: [number, whole number of at least `least`]}."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        return False
    pairs = [pair for pair in value.values() if isinstance(pair, list) and len(pair) == 2]
    return len(pairs) == len(value) and all(_number(a) and _whole(b, least) for a, b in pairs)


def _is_position(value: Any) -> bool:
    return isinstance(value, dict) and sorted(value) == ["epoch", "index"] and all(map(_whole, value.values()))


RUN: dict[str, tuple[str, Callable[[Any], bool]]] = {  # what a run keeps besides its Step: in words, and the test
    "position": ("the whole numbers epoch and index", _is_position),
    "log": ("a whole number of bytes", _whole),
    "window": ("a sum and a count by metric", lambda value: _pairs(value, 1)),
    "sums": ("a sum and a count by metric", lambda value: _pairs(value, 1)),
    "best": ("a value and an epoch by metric", lambda value: _pairs(value, 0)),
    "seconds": ("a number of at least 0", lambda value: _number(value) and 0 <= value < float("inf")),
}
