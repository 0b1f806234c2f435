"""A data set in one NumPy file.

    np.savez_compressed("mine.npz", images=images, labels=labels)     # then: tinygen train vae --data mine.npz

`images` are (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, uint8 or floats in [0,1]; `labels` (optional) are
N whole numbers or strings. A test set may be in the file too; without one, every tenth image is held out. Names
understood, as Keras, MedMNIST and others write them: see the tables below. Other arrays in the file are ignored.

Absent on purpose: pickled objects, which could run code.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from .dataset import Dataset, dense_labels
from .pixels import DataError
from .selection import held_out

NAMES = {
    "train images": ("images", "x", "X", "x_train", "X_train", "train_x", "train_images", "images_train"),
    "train labels": ("labels", "y", "y_train", "train_y", "train_labels", "labels_train"),
    "test images": ("x_test", "X_test", "test_x", "test_images", "images_test"),
    "test labels": ("y_test", "test_y", "test_labels", "labels_test"),
}
ROUNDING = 1e-6  # how far floats may leave [0,1] and still count as rounding


def load_npz(path: Path) -> Dataset:
    """The data set in an .npz file. Raises DataError naming the file, the array and the reason."""
    arrays = _read(path)
    if "train images" not in arrays:
        names = ", ".join(NAMES["train images"])
        raise DataError(f"{path}: no array of images; one of these names is expected: {names}")
    images = as_images(arrays["train images"], f"{path}: train images")
    labels = _as_labels(arrays.get("train labels"), len(images), f"{path}: train labels")
    source = str(path)
    if "test images" in arrays:
        test_images = as_images(arrays["test images"], f"{path}: test images")
        test_labels = _as_labels(arrays.get("test labels"), len(test_images), f"{path}: test labels")
    elif "test labels" in arrays:
        raise DataError(f"{path}: test labels without test images; add {NAMES['test images'][0]}")
    else:
        train, test = held_out(len(images), str(path))
        images, test_images = images[train], images[test]
        test_labels = None
        if labels is not None:
            labels, test_labels = labels[train], labels[test]
        source += ", every 10th image held out"
    if (labels is None) != (test_labels is None):
        raise DataError(f"{path}: labels for one split only; add the missing labels or remove the others")
    classes: tuple[str, ...] = ()
    if labels is not None and test_labels is not None:
        if labels.dtype.kind != test_labels.dtype.kind and "U" in (labels.dtype.kind, test_labels.dtype.kind):
            raise DataError(f"{path}: training labels are {labels.dtype}, test labels {test_labels.dtype}")
        classes, (labels, test_labels) = dense_labels(labels, test_labels)
    return Dataset(path.stem, images, labels, test_images, test_labels, classes, source)


def as_images(array: np.ndarray, what: str) -> np.ndarray:
    """The images as (N, C, H, W), uint8 or float32 in [0,1]; DataError where that is in doubt."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(f"{what} have shape {array.shape}; expected (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 "
                        f"or 3 channels")
    elif array.shape[3] in (1, 3):  # both readings are open; a side of 1 or 3 pixels is too small in either
        raise DataError(f"{what} have shape {array.shape}, whose sides are too small; at least 8 pixels are needed")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise DataError(f"{what} are {array.dtype}; save them as uint8 (0..255) or as floats in [0,1]")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not np.isfinite([low, high]).all():
        raise DataError(f"{what} hold NaN or infinity")
    if low < -ROUNDING or high > 1 + ROUNDING:
        remedy = "use (x + 1) / 2" if low >= -1 - ROUNDING and high <= 1 + ROUNDING else "divide by 255 or rescale"
        raise DataError(f"{what} are floats in [{low:g}, {high:g}], not in [0,1]; {remedy} before saving")
    return np.clip(np.ascontiguousarray(array, np.float32), 0, 1)


def _as_labels(array: np.ndarray | None, count: int, what: str) -> np.ndarray | None:
    if array is None:
        return None
    if array.shape == (count, 1):
        array = array[:, 0]
    if array.shape != (count,):
        raise DataError(f"{what} have shape {array.shape}; expected ({count},): one class number per image, not "
                        f"one-hot")
    if array.dtype.kind not in "iuU":
        raise DataError(f"{what} are {array.dtype}; save them as whole numbers (astype(np.int64)) or strings")
    return array


def _read(path: Path) -> dict[str, np.ndarray]:
    """The known arrays of an .npz by role. Each member is read to its end, so that its CRC-32 is compared."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m[:-4] if m.endswith(".npy") else m for m in archive.namelist()]
            _check_directory(path, archive)
            found = {}
            for role, names in NAMES.items():
                present = [name for name in names if name in members]
                if len(present) > 1:
                    raise DataError(f"{path}: both {present[0]} and {present[1]} could be the {role}; keep one")
                if present:
                    found[role] = _array(archive.read(present[0] + ".npy"), f"{path}: array {present[0]}")
            return found
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:  # damaged archives make zipfile raise a dozen types, all of them meaning the same
        raise DataError(f"{path}: damaged or not an .npz file ({type(error).__name__}: {error})") from error


def _check_directory(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises DataError when a damaged list of members hides one, the labels say, or shows it by another name."""
    with path.open("rb") as file:
        file.seek(-22 - len(archive.comment), io.SEEK_END)  # the end record: 22 bytes, of which 10 and 11 count members
        count = int.from_bytes(file.read(12)[10:], "little")
    if count not in (len(archive.infolist()), 0xFFFF):  # 0xFFFF: counted elsewhere, as huge archives do
        raise DataError(f"{path}: damaged: {count} arrays were saved, {len(archive.infolist())} can be found")
    for member in archive.infolist():
        archive.open(member).close()  # compares the name with the one beside the data


def _array(content: bytes, what: str) -> np.ndarray:
    stream = io.BytesIO(content)
    try:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        if "pickle" in str(error).lower() or "object arrays" in str(error).lower():
            raise DataError(f"{what} holds Python objects, which are not loaded since they could run code; save a "
                            f"numeric array (all images of one shape)") from error
        raise DataError(f"{what} is not a readable NumPy array ({error})") from error
    if stream.read(1):
        raise DataError(f"{what} has foreign bytes after its values")
    return array
