"""Saving and loading on safetensors: tensors by name, and everything that is plain JSON beside them.

    tg.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, "checkpoint.safetensors")
    state = tg.load("checkpoint.safetensors")

A flat state dict is written under its own names, so `safetensors.torch.load_file` reads it, and files that PyTorch
users saved load here. Nested dicts and lists join their keys with dots; their structure, numbers and strings travel
in the file's metadata. A file is complete or absent: it is written beside its place, flushed to disk, then renamed. A
checksum of every byte tells damage. Deliberately absent: pickled objects (a file can run no code), tensors that share
memory (each is written out).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .backends import device as get_device
from .backends.arrays import native
from .tape import Tensor

__all__ = ["save", "load"]

_TENSOR, _DICT, _TUPLE = "$tensor", "$dict", "$tuple"  # how the structure names what JSON has no word for


_DTYPES = {"float16", "float32", "float64", "bool"} | {f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)}
_RESERVED = "__metadata__"  # what safetensors calls its own entry
_DEEPEST = 100


def _pack(value: Any, path: str, tensors: dict[str, np.ndarray], within: tuple[int, ...] = ()) -> Any:
    """The structure of `value` as JSON; its arrays go into `tensors` under their dotted paths.

    `within`: the ids of the dicts and lists that it lies in.
    """
    if isinstance(value, Mapping | list | tuple):
        if id(value) in within:
            kind = type(value).__name__
            raise TypeError(f"save: '{path}' is a {kind} that lies in itself; save it without that entry")
        if len(within) == _DEEPEST:
            raise TypeError(f"save: '{path[:60]}...' lies more than {_DEEPEST} dicts and lists deep; save it flatter")
        within = (*within, id(value))
    if isinstance(value, Tensor | np.ndarray) or (hasattr(value, "__array__") and not isinstance(value, np.generic)):
        name = path or "tensor"
        _check_text(name, "the name of a tensor")
        while name in tensors or name == _RESERVED:
            name += "_"
        array = value.detach().cpu().array if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.name not in _DTYPES:
            remedy = "; save it as float64" if array.dtype.kind == "f" else ""
            held = "a file holds floats, integers and booleans of at most 64 bits"
            raise TypeError(f"save: '{name}' has dtype {array.dtype}; {held}{remedy}")
        tensors[name] = np.array(native(array), order="C", copy=None)
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        plain = all(isinstance(k, str) and not k.startswith("$") for k in value)
        items = [(k, _pack(v, f"{path}.{k}" if path else str(k), tensors, within)) for k, v in value.items()]
        return dict(items) if plain else {_DICT: [[_pack(k, path, tensors, within), v] for k, v in items]}
    if isinstance(value, list | tuple):
        items = [_pack(v, f"{path}.{i}" if path else str(i), tensors, within) for i, v in enumerate(value)]
        return items if isinstance(value, list) else {_TUPLE: items}
    if isinstance(value, np.str_) or (isinstance(value, np.generic) and value.dtype.name in _DTYPES):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "state_dict"):
        raise TypeError(f"save: '{path or type(value).__name__}' is a {type(value).__name__}; save its state_dict()")
    raise TypeError(
        f"save: '{path}' is a {type(value).__name__}; only tensors, dicts, lists, numbers and strings are saved"
    )


def _check_text(text: str, what: str) -> None:
    """Raises TypeError for half a surrogate pair, which UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"save: {text!a} is {what}, and no text that UTF-8 can hold; rename it") from error


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(_unpack(v, tensors) for v in value[_TUPLE])
    if _DICT in value:
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in value[_DICT]}
    return {k: _unpack(v, tensors) for k, v in value.items()}


VERSION = "2"  # 1, which files without a version have: the checksum is of the tensors alone
_CHUNK = 1 << 20


def _checksum(file: IO[bytes]) -> tuple[str, int]:
    """(CRC-32 of a file in which the checksum itself counts as zeros, where that stands in it)."""
    file.seek(0)
    header = file.read(int.from_bytes(file.read(8), "little"))
    found = re.search(rb'(?<!\\)"crc32":"([0-9a-f]{8})"', header)  # in the structure quotes have a backslash
    at = found.start(1) if found else len(header)
    total = zlib.crc32(header[at + 8 :], zlib.crc32(b"0" * 8, zlib.crc32(header[:at])))
    file.seek(8 + len(header))
    while chunk := file.read(_CHUNK):
        total = zlib.crc32(chunk, total)
    return f"{zlib.crc32(len(header).to_bytes(8, 'little'), total):08x}", 8 + at


def _checksum_of_tensors(tensors: Mapping[str, np.ndarray]) -> str:
    """The checksum of a file of version 1."""
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].reshape(-1).view(np.uint8).data, zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def save(obj: Any, path: str | os.PathLike) -> None:
    """Writes tensors, nested in dicts and lists with plain JSON values, to a safetensors file: whole or not at all.

    Raises TypeError, naming the place, for what cannot be written; a module or optimizer is saved as its state_dict().
    """
    target = Path(path)
    tensors: dict[str, np.ndarray] = {}
    if hasattr(obj, "state_dict"):
        raise TypeError(f"save: got a {type(obj).__name__}; save its state_dict()")
    structure = _pack(obj, "", tensors)
    metadata = {"format": "tinygen", "version": VERSION, "structure": json.dumps(structure), "crc32": "0" * 8}
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    try:
        _write(tensors, temporary, metadata)
        with open(temporary, "rb+") as file:
            total, at = _checksum(file)
            file.seek(at)
            file.write(total.encode())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(path: Path) -> None:
    """Flushes a folder's names to disk: a renaming, too, should survive a power cut."""
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(tensors: Mapping[str, np.ndarray], path: str, metadata: Mapping[str, str]) -> None:
    """safetensors' save_file, whose word for a full disk is an OSError like everybody's."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(dict(tensors), path, dict(metadata))
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if not number:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class Damaged(ValueError):
    """A file whose bytes are not those that were written."""


def load(path: str | os.PathLike, device: Any = "cpu") -> Any:
    """What `save` wrote, its tensors on `device`; of any other safetensors file {name: tensor}.

    Raises FileNotFoundError (with the nearest name in the folder) and ValueError, naming file and reason, for a file
    that is truncated, damaged or not safetensors at all.
    """
    from safetensors import SafetensorError, safe_open

    source = Path(path)
    if not source.is_file():
        near = difflib.get_close_matches(source.name, os.listdir(source.parent) if source.parent.is_dir() else [], 1)
        hint = f"; is it '{source.parent / near[0]}'?" if near else ""
        raise FileNotFoundError(f"load: there is no file '{source.resolve()}'{hint}")
    arrays: dict[str, np.ndarray] = {}
    try:
        with safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            ours = metadata.get("format") == "tinygen" or {"structure", "crc32"} <= metadata.keys()
            if ours and "version" in metadata:  # before anything is made of what may be damaged
                with open(source, "rb") as content:
                    _compare(source, metadata, _checksum(content)[0])
            for name in file.keys():  # noqa: SIM118 (not a dict)
                arrays[name] = file.get_tensor(name)
    except (SafetensorError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, Damaged):
            raise
        size = source.stat().st_size
        reason = f"{error}" + (
            " (NumPy has no such dtype; save it as float32)" if isinstance(error, TypeError | AttributeError) else ""
        )
        raise ValueError(f"load: '{source}' ({size:,} bytes) cannot be read as safetensors: {reason}") from error
    if ours and "version" not in metadata:
        _compare(source, metadata, _checksum_of_tensors(arrays))
    elif ours and metadata["version"] != VERSION:
        raise ValueError(f"load: '{source}' has version {metadata['version']} of the file format, this tinygen reads "
                         f"{VERSION} and before; update tinygen")  # fmt: skip
    place = get_device(device)
    tensors = {n: Tensor(place.kernels.xp.asarray(a), None, place) for n, a in arrays.items()}
    if not ours:
        return tensors
    try:
        return _unpack(json.loads(metadata["structure"]), tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # only in files of version 1
        raise Damaged(f"load: '{source}' is damaged: its structure does not fit its tensors ({error!r})") from error


def _compare(source: Path, metadata: Mapping[str, str], total: str) -> None:
    written = metadata.get("crc32", "nothing")
    if written != total:
        raise Damaged(f"load: '{source}' is damaged: its checksum is {total}, it was written with {written}")
