"""One process at a time trains in a folder.

    with Lock(folder):
        ...

The system holds the lock of the file `lock` and lets go of it when the process ends, however it ends: what a dead one
has left is taken over. The file says who holds it. A file system without locks has none.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from tinygen.errors import UserError

from .whole import WriteError

NAME = "lock"


class LockedError(UserError, RuntimeError):
    """A folder in which another process trains; the message names it."""


class Lock:
    """Context manager that holds a folder. Raises LockedError, naming the process, host and time of who holds it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.handle = folder / NAME, -1

    def __enter__(self) -> Lock:
        while True:
            try:
                self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise WriteError(self.path, error) from error
            if not _lock(self.handle):
                holder = _holder(self.handle)
                os.close(self.handle)
                raise LockedError(f"{self.path.parent} is in use: {holder} trains in it; wait, or end that process")
            if self._is_there():
                break
            os.close(self.handle)  # whoever held it took the file away just now
        os.ftruncate(self.handle, 0)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        content = {"pid": os.getpid(), "host": socket.gethostname(), "time": now}
        os.pwrite(self.handle, json.dumps(content).encode(), 0)
        return self

    def __exit__(self, *error: Any) -> None:
        self.path.unlink(missing_ok=True)  # before it is let go, so that nobody else's is taken away
        os.close(self.handle)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.handle), self.path.stat())
        except FileNotFoundError:
            return False


def check_free(folder: Path) -> None:
    """Raises LockedError where another process trains in the folder; changes nothing."""
    try:
        handle = os.open(folder / NAME, os.O_RDWR)
    except OSError:
        return
    try:
        if not _lock(handle):
            raise LockedError(f"{folder} is in use: {_holder(handle)} trains in it; wait, or end that process")
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Whether nobody else holds it; it is held until the handle is closed."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # nor on this file system
        return True
    return True


def _holder(handle: int) -> str:
    try:
        content = json.loads(os.pread(handle, 1000, 0))
        return f"process {content['pid']} on {content['host']}, since {content['time']},"
    except (ValueError, KeyError, TypeError):  # it has the lock, and has not yet written who it is
        return "another process"
