"""What config.json may hold, checked before anything is built from it.

    check_settings(settings)         # ValueError: "epochs must be a whole number of at least 1; it is null"

A file that was edited by hand, or damaged, is refused in one line that names the entry. Whether an argument is one of
the recipe's, and of its kind, is checked with the recipe's signature where the Step is built.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

PRESETS = ("cpu", "gpu", "tiny")
LARGEST = 2**63  # whole numbers are below it
Check = tuple[str, Callable[[Any], bool]]  # in words, and the test


def _whole(least: int, below: int = LARGEST) -> Check:
    words = f"a whole number of at least {least}" + ("" if below == LARGEST else f", below {below}")
    return words, lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value < below


def _one_of(*values: Any) -> Check:
    return f"one of {', '.join(map(str, values))}", lambda value: isinstance(value, str) and value in values


def _or_none(check: Check) -> Check:
    return f"{check[0]}, or null", lambda value: value is None or check[1](value)


def _list(check: Check, lengths: range) -> Check:
    least, most = lengths.start, lengths.stop - 1
    words = f"a list of {least} to {most}, each {check[0]}" if most < LARGEST else f"a list, each {check[0]}"
    return words, lambda value: isinstance(value, list | tuple) and len(value) in lengths and all(map(check[1], value))


TEXT: Check = ("a text", lambda value: isinstance(value, str) and "\0" not in value)
NAME: Check = ("a text that is not empty", lambda value: TEXT[1](value) and value != "")
BOOL: Check = ("true or false", lambda value: isinstance(value, bool))
NAMES_TO_VALUES: Check = ("an object", lambda value: isinstance(value, dict))

FIELDS: dict[str, Check] = {
    "recipe": NAME,
    "data": NAMES_TO_VALUES,
    "given": NAMES_TO_VALUES,
    "arguments": NAMES_TO_VALUES,
    "epochs": _whole(1),
    "batch_size": _whole(1),
    "drop_last": BOOL,
    "seed": _whole(0),
    "preset": _one_of(*PRESETS),
    "device": NAME,
    "threads": _whole(1, 65536),
    "version": TEXT,
    "keep": _or_none(NAME),
    "on": _or_none(NAMES_TO_VALUES),
}
DATA: dict[str, Check] = {
    "name": NAME,
    "sha": NAME,
    "folder": _or_none(TEXT),
    "size": _or_none(_whole(1)),
    "channels": _or_none(_whole(1, 4)),
    "limit": _or_none(_whole(1)),
    "labels": _or_none(_whole(1)),
    "only": _or_none(TEXT),
    "without": _or_none(TEXT),
}
GIVEN: dict[str, Check] = {
    "shape": _list(_whole(1), range(1, 4)),
    "classes": _list(TEXT, range(0, LARGEST)),
    "steps": _whole(1),
}


def check_settings(settings: Mapping[str, Any], where: str = "") -> None:
    """Raises ValueError, naming the first entry of config.json that is missing or of another kind."""
    _check(settings, FIELDS, where, required=("recipe", "data", "given"))
    _check(settings["data"], DATA, f"{where}data.", required=("name", "sha"))
    _check(settings["given"], GIVEN, f"{where}given.", required=tuple(GIVEN))
    if len(settings["given"]["shape"]) == 2:
        raise ValueError(f"{where}given.shape must be channels, height and width, or one number of values")
    for base, trace in (settings.get("on") or {}).items():
        at = f"{where}on.{base}."
        if not isinstance(trace, dict) or not isinstance(trace.get("settings"), dict):
            raise ValueError(f"{at[:-1]} must be an object that holds settings; it is {shown(trace)}")
        missing = [name for name in FIELDS if name not in ("keep", "on", *trace["settings"])]
        unknown = [name for name in trace["settings"] if name not in FIELDS]
        if missing or unknown:
            raise ValueError(f"{at}settings lacks {', '.join(missing) or 'nothing'}, and nobody knows its "
                             f"{', '.join(unknown) or 'nothing else'}")  # fmt: skip
        check_settings(trace["settings"], f"{at}settings.")


def _check(values: Mapping[str, Any], checks: Mapping[str, Check], where: str, required: tuple[str, ...]) -> None:
    for name in required:
        if name not in values:
            raise ValueError(f"it lacks {where}{name}")
    for name, value in values.items():
        words, holds = checks.get(name, ("", lambda value: True))
        if not holds(value):
            raise ValueError(f"{where}{name} must be {words}; it is {shown(value)}")


def shown(value: Any, most: int = 60) -> str:
    """A value as JSON, cut where it is long."""
    try:
        text = json.dumps(value, default=repr)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= most else f"{text[:most]} ..."
