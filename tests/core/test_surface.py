"""surface.pyi says what tensor.py attaches to Tensor. `python tests/core/test_surface.py` writes it anew."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import tinygen as tg
from tinygen.tape import Op

STUB = Path(tg.__file__).parent / "surface.pyi"
HEAD = '''"""The methods that tensor.py attaches to Tensor, for type checkers and editors; no code runs from here.

`python tests/core/test_surface.py` writes this file from the class itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .backends import Device
from .ops.random import Generator
from .ops.sorting import Sorted
from .tape import Tensor

_bool = bool  # below, bool, float and int are methods
_float = float
_int = int

class Surface:
'''
ATTRIBUTES = {  # what has no signature
    "shape": "tuple[_int, ...]", "ndim": "_int", "dtype": "np.dtype", "requires_grad": "_bool", "is_leaf": "_bool",
    "is_cuda": "_bool", "grad": "Tensor | None", "name": "str | None", "grad_fn": "Any", "data": "Tensor",
    "T": "Tensor", "mT": "Tensor", "array": "Any", "device": "Device", "node": "Any", "_version": "list[_int]",
}  # fmt: skip
RETURNS = {  # what a lambda returns, where that is no tensor
    "size": "Any", "dim": "_int", "numel": "_int", "tolist": "Any", "is_floating_point": "_bool",
    "is_contiguous": "_bool", "__len__": "_int", "__iter__": "Iterator[Tensor]", "__contains__": "_bool",
    "__bool__": "_bool", "__float__": "_float", "__int__": "_int", "__index__": "_int", "__dlpack__": "Any",
    "__dlpack_device__": "Any",
}  # fmt: skip


def signature_of(name, method):
    """The parameters after self, and what is returned, as text."""
    if isinstance(method, Op):
        keywords = [f"{n}: Any = {default!r}" for n, default in method.attributes.items()]
        operands = [f"{n}: Any" for n in method.args[1:]]
        return [*operands, *(["*", *keywords] if keywords else [])], "Tensor"
    closure = inspect.getclosurevars(method).nonlocals
    if name.endswith("_") and not name.startswith("_") and "function" in closure:  # add_ takes what add takes
        return signature_of(name[:-1], closure["function"])[0], "Tensor"
    signature = inspect.signature(method)
    parameters = [str(p) for p in annotated(signature)][1:]
    keywords = [str(p) for p in annotated(signature) if p.kind is p.KEYWORD_ONLY]
    if keywords and not any(p.startswith("*") for p in parameters):
        parameters.insert(parameters.index(keywords[0]), "*")
    returned = signature.return_annotation
    if returned is signature.empty or (name.startswith("__") and returned == "Any"):
        returned = RETURNS.get(name, "Tensor")
    return parameters, returned


def annotated(signature):
    """The parameters; Any where there is no annotation."""

    class Text(str):
        def __repr__(self):
            return str(self)

    said = signature.parameters.values()
    return [p.replace(annotation=Text("Any" if p.annotation is p.empty else p.annotation)) for p in said]


def surface():
    """The text of surface.pyi."""
    lines = [f"    {name}: {kind}" for name, kind in ATTRIBUTES.items()]
    methods = {n: m for n, m in vars(tg.Tensor).items() if n not in ATTRIBUTES and (callable(m) or isinstance(m, Op))}
    hidden = {"__init__", "__repr__", "__format__", "__hash__", "__reduce__", "_set_data"}
    for name in sorted(set(methods) - hidden):
        parameters, returned = signature_of(name, methods[name])
        ignored = "  # type: ignore[override]" if name in ("__eq__", "__ne__") else ""
        text = f"def {name}({', '.join(['self', *parameters])}) -> {returned}: ...{ignored}"
        text = re.sub(r"(?<=[ \[|])(bool|float|int)\b(?!\()", r"_\1", text)
        if len(text) > 116:
            start, rest = text.split("(", 1)
            arguments, end = rest.rsplit(") ->", 1)
            text = f"{start}(\n        {arguments}\n    ) ->{end}"
        lines.append(f"    {text}")
    return HEAD + "\n".join(lines) + "\n"


def declared():
    (body,) = (n.body for n in ast.parse(STUB.read_text()).body if isinstance(n, ast.ClassDef))
    return {n.target.id if isinstance(n, ast.AnnAssign) else n.name for n in body}


def test_the_stub_is_current():
    assert STUB.read_text() == surface(), "run `python tests/core/test_surface.py` to renew surface.pyi"


def test_every_name_the_stub_promises_exists():
    x = tg.zeros(2, 2)
    assert not [name for name in declared() if not hasattr(x, name)]


def test_the_stub_promises_every_public_name():
    public = {n for n in dir(tg.Tensor) if not n.startswith("_")}
    assert not public - declared()


def test_is_cuda():
    assert tg.zeros(1).is_cuda is False


if __name__ == "__main__":
    STUB.write_text(surface())
