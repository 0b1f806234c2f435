"""Names of arguments: ops by keyword, as torch names them, and errors that say which argument is no tensor.

    F.linear(input=x, weight=w)        mul(x, other=y)        F.softsign([1.0]): "input should be a tensor, got list"
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

PLACES = {"input": 0, "self": 0, "other": 1, "exponent": 1}  # torch's names, beside those of the op's own arguments


def positional(op: Any, inputs: tuple, named: dict) -> tuple[tuple, dict]:
    """(inputs, attributes) of an op called with some of its inputs by keyword; TypeError for an unknown name."""
    places = {**PLACES, **{name: i for i, name in enumerate(op.args)}}
    values, attributes = dict(enumerate(inputs)), {}
    for name, value in named.items():
        place = places.get(name, len(op.args))
        if name in op.attributes:
            attributes[name] = value
        elif place in values or place >= len(op.args):
            given = "is given twice" if place in values else "is not known"
            raise TypeError(f"{op.name}: argument {name!r} {given}; there are {', '.join([*op.args, *op.attributes])}")
        else:
            values[place] = value
    if 0 not in values:
        raise TypeError(f"{op.name}: argument {op.args[0]!r} is missing")
    return tuple([values.get(i) for i in range(max(values) + 1)]), attributes


def explained(function: Callable, tensor: type) -> Callable:
    """The same function; where it fails since an argument declared as a Tensor is none, a TypeError says which."""
    declared = [p for p in inspect.signature(function).parameters.values() if p.annotation == "Tensor"]
    names = {p.name for p in declared}
    if not names:
        return function

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (TypeError, AttributeError, ValueError) as error:
            if "tensor" in str(error) and str(error).startswith(f"{function.__name__}:"):
                raise
            try:
                given = inspect.signature(function).bind(*args, **options).arguments
            except TypeError:
                raise error from None
            for name, value in given.items():
                if name in names and value is not None and not isinstance(value, tensor):
                    what = f"{name} should be a tensor, got {type(value).__name__}"
                    raise TypeError(f"{function.__name__}: {what}; write tensor(...)") from error
            raise

    return call
