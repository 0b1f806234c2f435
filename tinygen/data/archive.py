"""A zip of pictures as a data set: read like the folder that it would unpack to, and never unpacked to disk.

    tinygen train vae --data pictures.zip --size 32

Folders inside are classes, train and test folders the split: folder.py tells the rules. Each member is decompressed
into memory when it is decoded, its CRC-32 compared. One that claims to be larger than 256 MiB is refused before that.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from .dataset import Dataset
from .folder import check_count, load_pictures
from .found import Unread, pictures
from .pixels import DataError

LARGEST = 256 << 20  # bytes of one decompressed member


@dataclass(frozen=True)
class Member:
    """A file inside a zip; opens like a Path, and str() is `archive.zip: folder/name.png`."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def open(self, mode: str = "rb") -> IO[Any]:
        """The decompressed bytes as a stream, which ends after the size that the archive states for them."""
        if self.info.file_size > LARGEST:
            raise DataError(f"claims {self.info.file_size:,} bytes, more than the {LARGEST:,} that are read; remove it")
        return self.archive.open(self.info)

    def __str__(self) -> str:
        return f"{self.archive.filename}: {self.info.filename}"


def open_zip(path: Path) -> zipfile.ZipFile:
    """The opened archive; DataError where it is none, or its directory is damaged."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: damaged or not a zip archive ({error}); fetch it again, or unpack it and give the "
                        f"folder") from error


def members(archive: zipfile.ZipFile) -> dict[tuple[str, ...], Member]:
    """{path in parts: member} of the files in an archive; the last one where a name occurs twice."""
    found = {}
    for info in archive.infolist():
        parts = tuple(part for part in info.filename.split("/") if part not in ("", "."))
        if parts and not info.is_dir():
            found[parts] = Member(archive, info)
    return found


def load_zip(path: Path, *, size: int | None = None, channels: int | None = None, limit: int | None = None) -> Dataset:
    """The pictures in a zip as uint8 (N, C, size, size); DataError names every member that cannot be read."""
    with open_zip(path) as archive:
        files = members(archive)
        unread = Unread()
        chosen = {parts: files[parts] for parts in check_count(path, pictures(files, unread), unread)}
        made = load_pictures(path.stem, str(path), chosen, size=size, channels=channels, limit=limit)
        return replace(made, unread=str(unread))
