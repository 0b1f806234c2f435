"""Checks of derivatives: what a new op, layer or loss must pass before it is believed.

    gradcheck(F.softplus, [tg.randn(3, 4, dtype="float64")])      # True, or an AssertionError that names the input

A gradient of n numbers is not checked one by one: along a random direction u the finite difference
(L(x + eps u) - L(x - eps u)) / (2 eps) must equal <dL/dx, u>, where L = <v, f(x)> with random weights v for the
outputs. A wrong element changes almost every such number, so three directions for each input are a strong test at the
price of six calls.

Everything is in float64 and away from kinks: at a kink (relu at 0, the maximum of two equal numbers) a difference
quotient averages both sides and proves nothing. Functions must be deterministic: fix masks and noise before calling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backends import Device
from .recording import enable_grad, no_grad
from .tape import Op, Tensor, grad, leaf

__all__ = ["adjoint_check", "composite_check", "gradcheck", "gradgradcheck"]


def gradcheck(
    f: Callable,
    inputs: Any,
    *,
    directions: int = 3,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
) -> bool:
    """True if the gradients of f agree with central differences along random directions; else raises AssertionError.

    f maps tensors to a tensor or a tuple of them. Checked are the inputs that require grad, or, if none does, all of
    floating dtype; others (indices, None, Python values) are passed through. Raises TypeError for floating inputs that
    are not float64.
    """
    values, checked = _prepare("gradcheck", inputs)
    outputs = _outputs(f(*_fresh(values, checked)))
    if all(o.node is None for o in outputs):
        raise AssertionError(f"gradcheck of {_name(f)}: no output depends differentiably on an input")
    return _compare("gradcheck", f, values, checked, directions, eps, rtol, atol, seed)


def gradgradcheck(
    f: Callable,
    inputs: Any,
    *,
    directions: int = 3,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
) -> bool:
    """True if the second derivatives of f agree with central differences of its gradients; else raises AssertionError.

    `gradcheck` applied to the function (inputs, grad_outputs) -> gradients, which is computed with `create_graph`, so
    the derivative with respect to the incoming gradient is checked as well.
    """
    values, checked = _prepare("gradgradcheck", inputs)
    rng = np.random.default_rng([seed, 2])
    outputs = _outputs(f(*_fresh(values, checked)))
    used = [i for i, o in enumerate(outputs) if o.node is not None]
    if not used:
        raise AssertionError(f"gradgradcheck of {_name(f)}: no output depends differentiably on an input")
    weights = [_on(outputs[i].device, rng.standard_normal(outputs[i].array.shape)) for i in used]
    count = len(values)

    def gradient(*arguments: Any) -> tuple[Tensor, ...]:
        with enable_grad():
            xs = [
                leaf(Tensor(t.array, None, t.device)) if i in checked and t.node is None else t
                for i, t in enumerate(arguments[:count])
            ]
            results = _outputs(f(*xs))
            wanted = [xs[i] for i in checked]
            seeds = list(arguments[count:])
            found = grad([results[i] for i in used], wanted, seeds, create_graph=True, allow_unused=True)
        return tuple(
            _on(x.device, np.zeros(x.array.shape)) if g is None else g for g, x in zip(found, wanted, strict=True)
        )

    gradient.__name__ = f"gradient of {_name(f)}"
    every = [*checked, *range(count, count + len(weights))]
    return _compare("gradgradcheck", gradient, [*values, *weights], every, directions, eps, rtol, atol, seed)


def adjoint_check(
    A: Callable,
    A_adjoint: Callable,
    x_shape: Sequence[int],
    y_shape: Sequence[int],
    *,
    rtol: float = 1e-10,
    seed: int = 0,
) -> bool:
    """True if <A x, y> = <x, A* y> for random float64 x and y, to rounding; else raises AssertionError.

    Both are linear functions of one tensor. An A that maps everything to zero is refused: it would pass beside any
    adjoint.
    """
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(tuple(x_shape)), rng.standard_normal(tuple(y_shape))
    with no_grad():
        image, preimage = _array(A(Tensor(x))), _array(A_adjoint(Tensor(y)))
    for what, got, expected in (("A x", image, y.shape), ("A* y", preimage, x.shape)):
        if got.shape != expected:
            raise AssertionError(f"adjoint_check: {what} has shape {got.shape}, expected {expected}")
    if not image.any():
        raise AssertionError("adjoint_check: A x is zero everywhere, so nothing is checked")
    left, right = float(np.vdot(image, y)), float(np.vdot(x, preimage))
    scale = float(np.linalg.norm(image) * np.linalg.norm(y) + np.linalg.norm(x) * np.linalg.norm(preimage))
    if not abs(left - right) <= rtol * scale:
        raise AssertionError(
            f"adjoint_check: <A x, y> = {left:.12g}, <x, A* y> = {right:.12g} (both of size {scale:.3g})"
        )
    return True


def composite_check(op: Op, inputs: Any, *, rtol: float | None = None, seed: int = 0, **attributes: Any) -> bool:
    """True if a fused op's forward and fast VJP equal its composite's; else raises AssertionError naming the argument.

    Inputs of float32 are compared to 1e-4, of float64 to 1e-9 (`rtol`, relative to the largest element). Raises too if
    the fast VJP does not run, because then the comparison would be of the composite with itself.
    """
    if op.composite is None or op.fast is None:
        raise TypeError(f"composite_check: {op.name} has no {'composite' if op.composite is None else 'fast VJP'}")
    values = [Tensor(v) if isinstance(v, np.ndarray) else v for v in _as_list(inputs)]
    checked = [i for i, t in enumerate(values) if isinstance(t, Tensor) and t.array.dtype.kind == "f"]
    if rtol is None:
        rtol = 1e-9 if all(values[i].array.dtype == np.float64 for i in checked) else 1e-4
    rng = np.random.default_rng(seed)
    fused, plain = _fresh(values, checked), _fresh(values, checked)
    outputs, expected = _outputs(op(*fused, **attributes)), _outputs(op.composite(*plain, **attributes))
    for i, (a, b) in enumerate(zip(outputs, expected, strict=True)):
        _close(f"composite_check of {op.name}: output {i}", "forward", _array(a), _array(b), rtol)
    weights = [_on(o.device, rng.standard_normal(o.array.shape).astype(o.array.dtype)) for o in outputs]
    ran: list[bool] = []
    fast = op.fast
    rule, reads = fast

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = rule(*args, **kwargs)
        ran.append(result is not NotImplemented)
        return result

    op.fast = (watched, reads)
    try:
        found = grad(outputs, [fused[i] for i in checked], weights, allow_unused=True)
    finally:
        op.fast = fast
    if not any(ran):
        raise AssertionError(f"composite_check of {op.name}: the fast VJP did not run")
    roots = [(o, w) for o, w in zip(expected, weights, strict=True) if o.node is not None]
    reference = grad([o for o, _ in roots], [plain[i] for i in checked], [w for _, w in roots], allow_unused=True)
    for i, fast_g, plain_g in zip(checked, found, reference, strict=True):
        zero = np.zeros_like(_array(values[i]))
        where = f"composite_check of {op.name}: gradient of input {i} ('{op.args[min(i, len(op.args) - 1)]}')"
        got, want = (zero if g is None else _array(g) for g in (fast_g, plain_g))
        _close(where, "fast VJP", got, want, rtol)
    return True


def _prepare(name: str, inputs: Any) -> tuple[list, list[int]]:
    """The inputs as a list of tensors (others untouched), and which of them to check."""
    values = [Tensor(v) if isinstance(v, np.ndarray) else v for v in _as_list(inputs)]
    floating = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.array.dtype.kind == "f"]
    checked = [i for i in floating if values[i].node is not None] or floating
    if not checked:
        raise TypeError(f"{name}: none of the {len(values)} inputs is a floating tensor")
    for i in checked:
        if values[i].array.dtype != np.float64:
            raise TypeError(
                f"{name}: input {i} is {values[i].array.dtype}; finite differences need float64, convert with .double()"
            )
    return values, checked


def _compare(
    name: str,
    f: Callable,
    values: list,
    checked: list[int],
    directions: int,
    eps: float,
    rtol: float,
    atol: float,
    seed: int,
) -> bool:
    rng = np.random.default_rng([seed, 1])
    xs = _fresh(values, checked)
    outputs = _outputs(f(*xs))
    weights = [rng.standard_normal(o.array.shape) for o in outputs]
    roots = [(o, _on(o.device, w)) for o, w in zip(outputs, weights, strict=True) if o.node is not None]
    gradients: Sequence[Tensor | None] = [None] * len(checked)
    if roots:
        gradients = grad([o for o, _ in roots], [xs[i] for i in checked], [w for _, w in roots], allow_unused=True)

    def loss(arguments: list) -> float:
        with no_grad():
            return sum(float(np.vdot(w, _array(o))) for w, o in zip(weights, _outputs(f(*arguments)), strict=True))

    producers = sorted({_op_of(o) for o, _ in roots})
    for i, gradient in zip(checked, gradients, strict=True):
        x = values[i]
        if gradient is not None:
            is_, its = (f"{a.shape} {a.dtype}" for a in (x.array, gradient.array))
            if is_ != its:
                raise AssertionError(f"{name} of {_name(f)}: input {i} is {is_}, its gradient {its}")
        for _ in range(directions):
            u = rng.standard_normal(x.array.shape)
            analytic = 0.0 if gradient is None else float(np.vdot(_array(gradient), u))
            sides = []
            for sign in (1.0, -1.0):
                moved = list(values)
                moved[i] = _on(x.device, _array(x) + sign * eps * u)
                sides.append(loss(moved))
            numeric = (sides[0] - sides[1]) / (2 * eps)
            if not abs(analytic - numeric) <= atol + rtol * max(abs(analytic), abs(numeric)):  # also fails for NaN
                raise AssertionError(
                    f"{name} of {_name(f)}: input {i} {tuple(x.array.shape)}: the gradient along a random direction is "
                    f"{analytic:.10g}, the finite difference {numeric:.10g} (output made by {', '.join(producers)})"
                )
    return True


def _close(where: str, what: str, a: np.ndarray, b: np.ndarray, rtol: float) -> None:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        raise AssertionError(f"{where}: {what} {a.shape} {a.dtype}, composite {b.shape} {b.dtype}")
    scale = max(float(np.abs(b).max(initial=0)), float(np.finfo(b.dtype).tiny) if b.dtype.kind == "f" else 0)
    error = float(np.abs(a - b).max(initial=0)) if a.dtype.kind == "f" else float((a != b).any())
    if not error <= rtol * scale:
        at = np.unravel_index(int(np.argmax(np.abs(a - b))), a.shape)
        raise AssertionError(f"{where}: {what} {a[at]:.9g}, composite {b[at]:.9g} at {tuple(map(int, at))}")


def _array(tensor: Tensor) -> np.ndarray:
    """The values as a NumPy array, also of a tensor that requires grad."""
    return tensor.array if isinstance(tensor.array, np.ndarray) else tensor.array.get()


def _on(device: Device, array: Any) -> Tensor:
    return Tensor(device.kernels.xp.asarray(array), None, device)


def _fresh(values: list, checked: list[int]) -> list:
    """The same values with new leaves for the checked ones, so that nothing hangs on the caller's graph."""
    return [leaf(Tensor(v.array.copy(), None, v.device)) if i in checked else v for i, v in enumerate(values)]


def _outputs(result: Any) -> tuple[Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _as_list(inputs: Any) -> list:
    return list(inputs) if isinstance(inputs, tuple | list) else [inputs]


def _name(f: Callable) -> str:
    return getattr(f, "__name__", None) or type(f).__name__


def _op_of(tensor: Tensor) -> str:
    node: Any = tensor.node
    node = node if hasattr(node, "op") or not node.parents else node.parents[0]
    return node.op.name if hasattr(node, "op") else "a leaf"
