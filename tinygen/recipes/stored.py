"""What the folder of a run holds, read back; nothing here is written.

    read_checkpoint(folder)      the state of its last epoch, or an error that says what to do
    epochs_done(folder)          how far it is
    runs()                       the folders of runs, the newest first
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinygen.errors import UserError
from tinygen.training import load_checkpoint
from tinygen.training.checkpoint import BEST, CHECKPOINT, PREVIOUS, checked, has_checkpoint
from tinygen.training.lock import NAME as LOCK
from tinygen.training.lock import is_lock
from tinygen.training.whole import is_stray

from .settings import REQUIRED, RunError, Settings, read_settings


def check_new(folder: str | os.PathLike) -> None:
    """Raises RunError unless a run may begin in the folder: it is new, empty, or a start that came to nothing."""
    if not os.fspath(folder):
        raise RunError("--out: the name of the folder is empty; leave it out, or give one such as runs/mine")
    folder = Path(folder)
    if has_checkpoint(folder):
        command = f"tinygen resume {shlex.quote(str(folder))}"
        raise RunError(f"{folder} holds a run already; choose another --out, or go on with: {command}")
    if not folder.is_dir():
        return
    strange = [path.name for path in sorted(folder.iterdir()) if not _is_of_a_start(path)]
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise RunError(f"{folder} holds files that are no run's ({', '.join(strange[:3])}{more}), which might be "
                       "overwritten; choose another --out, or an empty folder")  # fmt: skip


def _is_of_a_start(path: Path) -> bool:
    """Whether a start that came to nothing may have left the file: settings, an empty folder, what was half written."""
    if path.name == "frames" and path.is_dir():
        return not any(path.iterdir())
    if path.name == "config.json" and path.is_file():  # opening a pipe might wait for ever
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, OSError):
            return False
        return isinstance(content, dict) and (not content or content.keys() >= REQUIRED)
    return is_lock(path) if path.name == LOCK else is_stray(path)


def weights(folder: Path, settings: Settings) -> str:
    """The file that holds a run's result: its best epoch, where that is kept, or its last."""
    return BEST if settings.keep and (folder / BEST).exists() else CHECKPOINT


def epochs_done(folder: str | os.PathLike) -> int:
    """How many whole epochs a run has done; 0 where its training never began."""
    folder = Path(folder)
    return read_checkpoint(folder)["run"]["position"]["epoch"] if has_checkpoint(folder) else 0


def best_epoch(folder: str | os.PathLike) -> int | None:
    """The epoch whose weights are a run's result, where the run keeps its best; None where that is the last one."""
    folder = Path(folder)
    if weights(folder, read_settings(folder)) != BEST:
        return None
    return read_checkpoint(folder, BEST)["run"]["position"]["epoch"]


def runs(parent: str | os.PathLike = "runs") -> Iterator[Path]:
    """The folders of runs, the newest checkpoint first."""
    found = [path.parent for path in Path(parent).glob("*/config.json") if (path.parent / CHECKPOINT).exists()]
    yield from sorted(found, key=lambda folder: (folder / CHECKPOINT).stat().st_mtime, reverse=True)


def is_finished(folder: Path, settings: Settings) -> bool:
    """Whether all planned epochs are done and the run can be read: a damaged one is no run to stand on."""
    try:
        return epochs_done(folder) == settings.epochs
    except RunError:
        return False


def trace(folder: Path) -> dict[str, Any]:
    """What config.json keeps of the run that another one stands on."""
    settings = read_settings(folder)
    content = (folder / weights(folder, settings)).read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    return {"path": str(folder.absolute()), "sha": sha, "settings": asdict(settings)}


def read_checkpoint(folder: Path, name: str = CHECKPOINT) -> dict[str, Any]:
    """The state in a run's file. Figures and samples are of that very file: nothing goes back to another one."""
    path = folder / name
    if not has_checkpoint(folder):
        raise RunError(f"{folder} has no {name}: its training never began")
    try:
        return checked(load_checkpoint(path), path)
    except (ValueError, OSError) as error:
        anew = "restore the file, or start anew with: tinygen train"
        remedy = f"remove {path} to use the last epoch" if name == BEST else anew
        if name == CHECKPOINT and (folder / PREVIOUS).exists():
            remedy += f"; or go on from the checkpoint before it with: tinygen resume {shlex.quote(str(folder))}"
        raise RunError(f"{error}; {remedy}") from error


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Context manager in which a checkpoint that does not fit becomes a RunError that names its file."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, LookupError, RuntimeError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: {' '.join(str(error).split())}") from error
