"""The pictures below a folder, and what else lies there: nothing is left out without a word.

    found, unread = find(folder)         # paths in parts, sorted; an Unread
    str(unread)                          # ".heic: 3 (a.heic, b.heic, c.heic); no regular file: 1 (pipe.png)"

Links to folders are followed, save to a folder that they lie in. Hidden files are no one's pictures and are not
counted. What is no regular file (a pipe, a device) is never opened: reading it might wait for ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

Parts = tuple[str, ...]
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
NAMED = 3  # of each kind


class Unread:
    """What was not read, by kind; its text counts and names it, and is empty where there is nothing."""

    def __init__(self) -> None:
        self.kinds: dict[str, list[str]] = {}

    def add(self, kind: str, parts: Parts) -> None:
        """One more of a kind, such as ".heic"."""
        self.kinds.setdefault(kind, []).append("/".join(parts))

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values()))

    def __str__(self) -> str:
        texts = []
        for kind, names in sorted(self.kinds.items()):
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            texts.append(f"{kind}: {len(names):,} ({', '.join(sorted(names)[:NAMED])}{more})")
        return "; ".join(texts)


def find(folder: Path) -> tuple[list[Parts], Unread]:
    """(the paths of all pictures below a folder, in parts and sorted by them; what else is there)."""
    unread = Unread()
    return pictures(_files(folder, (), (), unread), unread), unread


def pictures(files: Iterable[Parts], unread: Unread) -> list[Parts]:
    """Those of the files that are pictures by their names and not hidden, sorted; the others go to `unread`."""
    found = []
    for parts in files:
        if any(map(hidden, parts)):
            continue
        if parts[-1].lower().endswith(EXTENSIONS):
            found.append(parts)
        else:
            unread.add(os.path.splitext(parts[-1])[1].lower() or "without an extension", parts)
    return sorted(found)


def hidden(name: str) -> bool:
    """Whether nobody meant it as a picture: .git, and the ._name.jpg and __MACOSX that macOS leaves."""
    return name.startswith((".", "__MACOSX"))


def _files(folder: Path, parts: Parts, above: tuple[tuple[int, int], ...], unread: Unread) -> Iterator[Parts]:
    try:
        with os.scandir(folder) as entries:
            status = os.stat(folder)
            here = (status.st_dev, status.st_ino)
            if here in above:
                unread.add("link to a folder that it lies in", parts)
                return
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if not parts:
            raise
        unread.add(f"folder that cannot be opened ({error.strerror or error})", parts)
        return
    for entry in listed:
        at = (*parts, entry.name)
        if hidden(entry.name):
            continue
        if _is_dir(entry):
            yield from _files(Path(entry.path), at, (*above, here), unread)
        elif is_special(entry.path):
            unread.add("no regular file", at)
        else:
            yield at


def _is_dir(entry: os.DirEntry) -> bool:
    """Whether it is a folder or a link to one; a link to itself is neither."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_special(path: str | os.PathLike) -> bool:
    """Whether it is neither a file nor a folder, such as a pipe; a link that leads nowhere is not."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
