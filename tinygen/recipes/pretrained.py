"""Weights that ship with the package, so that a model can be looked at right after the install.

    step = pretrained("vae-d2")              # trained; needs neither data nor a run's folder
    step.sample(64)

weights/NAME.npz holds the networks' parameters and buffers in float16, weights/NAME.json how to build them: recipe,
arguments, what the data gave, the file's SHA-256, the command and the commit that trained it. Maintainers write both
with `keep(run_folder)`; all files together stay below 1 MB. Absent: optimizers, so no training goes on from here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np

import tinygen as tg
from tinygen.step import Step

from .recipe import Given, find, nearest
from .reproduce import made_by
from .run import OPTIONS, load_run
from .settings import RunError, Settings, read_settings
from .stored import epochs_done

FOLDER = Path(__file__).with_name("weights")


def names(folder: Path = FOLDER) -> list[str]:
    """The recipes whose weights are there."""
    return sorted(path.stem for path in folder.glob("*.json"))


def pretrained(name: str, device: str = "cpu", folder: Path = FOLDER) -> Step:
    """The trained Step of a recipe, in evaluation mode, on `device`.

    Raises SettingError for a name without weights, naming those there are, and RunError for a file that is not the one
    that was shipped.
    """
    nearest(name, dict.fromkeys(names(folder)), "pretrained model")
    about = _about(name, folder)
    content = _shipped(folder / f"{name}.npz", about["sha256"])
    state = tg.get_rng_state()
    try:
        step = find(about["recipe"]).build(Given(*map(_tuple, about["given"])), **about["arguments"])
    finally:
        tg.set_rng_state(state)
    with np.load(io.BytesIO(content)) as arrays:
        for part, network in step.networks().items():
            own = {key: tg.tensor(_whole(arrays[f"{part}:{key}"])) for key in network.state_dict()}
            network.load_state_dict(own)
    return step.to(device).eval()


def keep(run_folder: str | os.PathLike, folder: Path = FOLDER) -> list[Path]:
    """Writes the weights of a finished run under its recipe's name; the two files. For maintainers.

    Floats become float16; so say what figures the rounded weights reach before they are shipped.
    """
    settings, step = read_settings(Path(run_folder)), load_run(run_folder, "cpu")
    arrays = {
        f"{part}:{key}": _half(value.numpy())
        for part, network in step.networks().items()
        for key, value in network.state_dict().items()
    }
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    content = packed.getvalue()
    about = {
        "recipe": settings.recipe, "data": settings.data["name"], "given": list(settings.given.values()),
        "arguments": settings.arguments, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content),
        "command": _command(settings, epochs_done(run_folder)), "version": settings.version, **made_by(),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{settings.recipe}.npz", folder / f"{settings.recipe}.json"]
    files[0].write_bytes(content)
    files[1].write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return files


def _command(settings: Settings, epochs: int) -> str:
    """The command that trains such a run again."""
    plain = find(settings.recipe).defaults()
    changed = {name: value for name, value in settings.arguments.items() if _json(value) != _json(plain[name])}
    words = ["tinygen", "train", settings.recipe, "--data", settings.data["name"], "--seed", str(settings.seed)]
    words += ["--epochs", str(epochs), "--batch-size", str(settings.batch_size), "--threads", str(settings.threads)]
    of_data = {option: settings.data[option] for option in OPTIONS if settings.data.get(option) is not None}
    words += [word for name, value in of_data.items() for word in (f"--{name}", str(value))]
    words += [word for name, value in changed.items() for word in ("--set", f"{name}={_json(value)}")]
    return shlex.join(words)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _half(array: np.ndarray) -> np.ndarray:
    """Floats in float16, other numbers as they are."""
    return array.astype(np.float16) if array.dtype.kind == "f" else array


def _whole(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _about(name: str, folder: Path) -> dict[str, Any]:
    path = folder / f"{name}.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("recipe", "given", "arguments", "sha256") if key not in about]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}; install tinygen again") from error
    if missing:
        raise RunError(f"{path} is damaged: it lacks {', '.join(missing)}; install tinygen again")
    return about


def _shipped(path: Path, expected: str) -> bytes:
    """The content of a file whose SHA-256 is known."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}; install tinygen again") from error
    sha = hashlib.sha256(content).hexdigest()
    if sha != expected:
        found = f"its SHA-256 is {sha[:12]}..., not {expected[:12]}..."
        raise RunError(f"{path} is damaged: {found}; install tinygen again")
    return content
