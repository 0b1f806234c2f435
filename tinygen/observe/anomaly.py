"""The first value that is not a number: which op made it, forward or backward, and which line asked for that op.

    with tg.detect_anomaly():
        loss = step(batch)      # AnomalyError: log, in the forward pass: 1 of 2 values of its output 2 are NaN; ...
"""

from __future__ import annotations

import inspect
import linecache
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..backends.geometry import by
from ..tape import Call, Tensor
from .observer import Observer, attached, written

_PACKAGE = Path(__file__).parent.parent
_ENGINE = "tape.py tensor.py memory.py graph.py ops backends nn optim observe".split()  # called, not calling


class Site(NamedTuple):
    """A line that called an op."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        code = linecache.getline(self.file, self.line).strip()
        return f"{self.file}:{self.line} in {self.function}" + (f": {code}" if code else "")


class AnomalyError(RuntimeError):
    """Raised by `detect_anomaly` at the first value that is not a number; its message is one line.

    `op` is the op's name as the user wrote it, `backward` whether it ran in the backward pass, `site` the line that
    called it; in the backward pass the line that called, forward, what is being differentiated, or None if that ran
    unwatched.
    """

    def __init__(self, message: str, op: str, backward: bool, site: Site | None) -> None:
        super().__init__(message)
        self.op, self.backward, self.site = op, backward, site


class _Anomaly(Observer):
    def __init__(self, infinite: bool) -> None:
        self.infinite = infinite
        self.what = "not finite" if infinite else "NaN"

    def after(self, call: Call) -> None:
        if call.node is not None and not call.derivative:
            call.node.site = _call_site()
        outputs = call.output if isinstance(call.output, tuple) else (call.output,)
        for i, t in enumerate(outputs):
            bad = self._bad(t)
            if bad:
                self._raise(call, i, t, bad)

    def _bad(self, t: Any) -> int:
        if not isinstance(t, Tensor) or t.array.dtype.kind != "f":
            return 0
        xp = t.device.kernels.xp
        return int((~xp.isfinite(t.array) if self.infinite else xp.isnan(t.array)).sum())

    def _raise(self, call: Call, i: int, t: Tensor, bad: int) -> None:
        name = written(call.op, call.attributes)
        if call.within is None:
            where, site = "in the forward pass", _call_site()
        else:
            where = f"in the backward pass of {written(call.within.op, call.within.attributes)}"
            site = getattr(call.within, "site", None)
        result = f"output {i}" if isinstance(call.output, tuple) else "its output"
        if call.derivative:
            result = f"the gradient of its input {i}"
        parts = [f"{name}, {where}: {bad} of {t.array.size} values of {result} {by(t.array.shape)} are {self.what}"]
        if site is not None:
            parts.append(f"{'called at' if call.within is None else 'the forward call was'} {site}")
        received = "gradient" if call.derivative else "input"
        parts += [f"{received} {j}{self._state(x)}" for j, x in enumerate(call.inputs)]
        raise AnomalyError("; ".join(parts), name, call.within is not None, site)

    def _state(self, x: Any) -> str:
        if not isinstance(x, Tensor):
            return f": {x!r}"
        xp, bad = x.device.kernels.xp, self._bad(x)
        if bad:
            state = f"already {self.what} in {bad} places"
            state += " (it comes from data, a parameter or a sum of gradients: no op that was watched made it)"
        elif x.array.size and x.array.dtype.kind in "fiu":
            state = f"from {float(xp.nanmin(x.array)):.4g} to {float(xp.nanmax(x.array)):.4g}"
        else:
            state = f"{x.array.dtype}"
        name = f" '{x.name}'" if x.name else ""
        return f"{name} {by(x.array.shape)}: {state}"


def _call_site() -> Site | None:
    """The nearest caller outside the engine: a model's line rather than a layer's."""
    for frame, line in traceback.walk_stack(inspect.currentframe()):
        path = Path(frame.f_code.co_filename)
        if not path.is_relative_to(_PACKAGE) or path.relative_to(_PACKAGE).parts[0] not in _ENGINE:
            return Site(str(path), line, frame.f_code.co_name)
    return None


@contextmanager
def detect_anomaly(infinite: bool = False) -> Iterator[None]:
    """Context manager: raises AnomalyError at the op that makes the first NaN (with `infinite`, also the first
    infinity).

    The message, one line, names the op, says whether it ran forward or as part of which op's derivative, the line that
    made the forward call, which inputs were bad before, and the range of the others. NumPy's warnings about it are
    switched off inside. Every result is read once: expect half the speed.
    """
    with np.errstate(all="ignore"), attached(_Anomaly(infinite)):
        yield
