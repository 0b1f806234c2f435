"""One process at a time trains in a folder.

    with Lock(folder):
        ...

The system holds the lock of the file `lock` and lets go of it when the process ends, however it ends: what a dead one
has left is taken over. The file says who holds it. A file system without locks has none. Somebody else's file of that
name is never opened for writing through a link, changed or removed.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

from tinygen.errors import UserError

from .whole import WriteError, kind_of

NAME = "lock"
_OPEN = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
_BEGIN = '{"pid": '  # of what is written; a process that died meanwhile may have left less


class LockedError(UserError, RuntimeError):
    """A folder in which another process trains, or whose `lock` is no run's; the message names it."""


class Lock:
    """Context manager that holds a folder. Raises LockedError, naming the process, host and time of who holds it.

    LockedError, too, where `lock` is a link, a folder or a file with other content: it stays as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.handle = folder / NAME, -1

    def __enter__(self) -> Lock:
        while True:
            _check_regular(self.path)
            try:
                self.handle = os.open(self.path, _OPEN | os.O_CREAT, 0o666)
            except OSError as error:
                raise WriteError(self.path, error) from error
            if not _lock(self.handle):
                holder = _holder(self.handle)
                os.close(self.handle)
                raise LockedError(f"{self.path.parent} is in use: {holder} trains in it; wait, or end that process")
            if self._is_there():
                if not _is_own(self.handle):
                    os.close(self.handle)
                    raise _foreign(self.path, "has other content than a run's lock")
                break
            os.close(self.handle)  # whoever held it took the file away just now
        os.ftruncate(self.handle, 0)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        content = {"pid": os.getpid(), "host": socket.gethostname(), "time": now}
        os.pwrite(self.handle, json.dumps(content).encode(), 0)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._is_there():
            self.path.unlink(missing_ok=True)  # before it is let go, so that nobody else's is taken away
        os.close(self.handle)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.handle), self.path.lstat())
        except FileNotFoundError:
            return False


def check_free(folder: Path) -> None:
    """Raises LockedError where another process trains in the folder; changes nothing."""
    _check_regular(folder / NAME)
    try:
        handle = os.open(folder / NAME, _OPEN)
    except OSError:
        return
    try:
        if not _lock(handle):
            raise LockedError(f"{folder} is in use: {_holder(handle)} trains in it; wait, or end that process")
        if not _is_own(handle):
            raise _foreign(folder / NAME, "has other content than a run's lock")
    finally:
        os.close(handle)


def is_lock(path: Path) -> bool:
    """Whether a file is what a run has left as its lock; it is only read."""
    try:
        _check_regular(path)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except (LockedError, OSError):
        return False
    try:
        return _is_own(handle)
    finally:
        os.close(handle)


def _check_regular(path: Path) -> None:
    """Raises LockedError where it is there and no regular file: opening a pipe might wait, a link leads elsewhere."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise _foreign(path, f"is {kind_of(mode)}, and no run's lock")


def _foreign(path: Path, what: str) -> LockedError:
    return LockedError(f"{path} {what}; it is left as it is: move it away, or use another folder")


def _is_own(handle: int) -> bool:
    """Whether it holds what a lock holds, the beginning of it, or nothing."""
    content = os.pread(handle, 1000, 0)
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        begin = _BEGIN.encode()
        return begin.startswith(content) or (content.startswith(begin) and os.fstat(handle).st_size < 1000)
    return not found or (isinstance(found, dict) and {"pid", "host", "time"} == found.keys())


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
