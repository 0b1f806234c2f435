"""A file that is whole or not there.

    with whole(path) as temporary:
        picture.save(temporary, format="PNG")

It is written beside its place under a hidden name, then renamed. A process that is killed meanwhile leaves a stray
`.part`, which the run takes away when it goes on. A disk that is full is said with the path and what was needed.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinygen.errors import UserError

IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENXIO}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class WriteError(UserError, OSError):
    """A file that cannot be written; the message names it, the reason and what is needed."""

    remedy = ""

    @property
    def advice(self) -> str:
        """What to do about the reason, before one goes on."""
        if self.reason.errno in IN_THE_WAY:
            return "move what is there away"
        return "make it writable" if self.reason.errno in FORBIDDEN else "make room"

    def __init__(self, path: Path, error: OSError, needed: int = 0) -> None:
        self.path, self.reason = path, error
        parts = [f"it needs {needed / 1e6:,.1f} MB"] if needed else []
        with suppress(OSError):
            parts.append(f"{shutil.disk_usage(path.parent).free / 1e6:,.1f} MB are free in {path.parent}")
        super().__init__("; ".join([f"{path} cannot be written: {error.strerror or error}", ", ".join(parts)]))

    def __str__(self) -> str:  # OSError's would be (errno, words)
        return f"{self.args[0]}{self.remedy}"


class KindError(UserError, ValueError):
    """A folder in a file's place, or anything else that is no file; the message names it."""


def kind_of(mode: int) -> str:
    """What the mode of a file says that it is, in words."""
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")


def check_kind(path: Path, folder: bool = False) -> None:
    """Raises KindError where it is there and neither a file nor a link to one (or else no folder).

    Asked before it is opened: opening a pipe would wait for ever.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link to itself
            raise
        raise KindError(f"{path} cannot be read: {error.strerror}; move it away, and try again") from error
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(mode):
        kind = "a folder" if folder else "a file"
        raise KindError(f"{path} is {kind_of(mode)}, where {kind} should be; move it away, and try again")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Context manager that gives a temporary path; what was written there takes the place of `path` at its end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        if temporary.exists():
            os.replace(temporary, path)
    except BaseException as error:
        size = temporary.stat().st_size if temporary.exists() else 0
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, UserError):
            raise WriteError(path, error, size) from error
        raise


_OWN = re.compile(  # what `whole` and `save_checkpoint` name in a run's folder, and nothing else
    r"\.(config\.json|log\.jsonl|times\.jsonl|progress\.gif|[\w-]+\.png)\.\d+\.part"
    r"|\.?\.(checkpoint|checkpoint\.previous|best|not-finite)\.safetensors(\.part)?(\.[a-z0-9_]+)?\.part"
)


def is_stray(path: Path) -> bool:
    """Whether it is a half-written file of a run by its name, and a regular file."""
    return bool(_OWN.fullmatch(path.name)) and path.is_file() and not path.is_symlink()


def take_strays(folder: Path) -> None:
    """Removes what processes that were killed while they wrote have left in a run's folder; no other file."""
    for place in (folder, folder / "frames"):
        for stray in filter(is_stray, list(place.glob(".*.part"))):
            stray.unlink()
