"""What kernel tables share: the checks of their arrays, whatever library these are of. Errors name the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def float_dtype(kernel: str, dtype: Any) -> np.dtype:
    """`dtype` as NumPy's; TypeError unless it is float32 or float64."""
    dtype = np.dtype(dtype)
    if dtype not in FLOATS:
        raise TypeError(f"{kernel}: expected float32 or float64, got {dtype}")
    return dtype


def promoted(op: str, arrays: list) -> np.dtype | None:
    """The dtype that all arguments of an op are converted to, as in torch; None where NumPy's own rules are those.

    Integers take the floating dtype beside them. Arrays without axes do not widen those that have some, of integers as
    of floats. TypeError for several floating dtypes, OverflowError for an integer without axes that does not fit.
    """
    given = [a for a in arrays if hasattr(a, "dtype")]
    floats = sorted({a.dtype.name for a in given if a.dtype.kind == "f" and a.ndim})
    if len(floats) > 1:
        raise TypeError(f"{op}: mixed dtypes {' and '.join(floats)}; use .float()")
    floats = floats or sorted({a.dtype.name for a in given if a.dtype.kind == "f"})[-1:]  # without axes: the widest
    if floats or float in map(type, arrays):
        return np.dtype(floats[0] if floats else "float32")
    if len(given) < 2:
        return None
    single = [a for a in given if not a.ndim and a.dtype.kind in "iu"]
    dtypes = {a.dtype for a in given if a.ndim and a.dtype.kind in "iu"} if single else ()
    if not dtypes:
        return None
    dtype = np.result_type(*dtypes)
    limits = np.iinfo(dtype)
    for a in single:  # not on a GPU, where reading a number waits
        if isinstance(a, np.ndarray | np.generic) and not limits.min <= int(a) <= limits.max:
            raise OverflowError(f"{op}: {a} does not fit the {dtype} beside it; widen that with .to({str(a.dtype)!r})")
    return dtype


def check_floats(kernel: str, *arrays: Array | None) -> None:
    """TypeError unless all arrays (None is skipped, the first is none) share one float dtype."""
    dtype = arrays[0].dtype  # type: ignore[union-attr]
    if dtype not in FLOATS:
        raise TypeError(f"{kernel}: expected float32 or float64, got {dtype}; convert the tensor with .float()")
    for a in arrays:
        if a is not None and a.dtype is not dtype and a.dtype != dtype:
            raise TypeError(f"{kernel}: arrays of {dtype} and {a.dtype} in one call; convert one of them")


def check_in_place(kernel: str, *arrays: Array | None) -> None:
    """ValueError for an array that an update in place cannot reach: a contiguous copy would be updated instead."""
    for a in arrays:
        # CuPy's flags have no `writeable`: all its arrays are.
        if a is not None and not (a.flags.c_contiguous and getattr(a.flags, "writeable", True)):
            raise ValueError(
                f"{kernel}: an update in place needs contiguous, writeable arrays, got strides {a.strides}; "
                "copy them with ascontiguousarray first"
            )


def check_out(kernel: str, x: Array, out: Array | None, *inputs: Array) -> None:
    """ValueError unless a result like x can be written to `out`: it may be the first input, and overlaps no other."""
    if out is None:
        return
    check_in_place(kernel, out)
    if out.shape != x.shape or out.dtype != x.dtype:
        raise ValueError(f"{kernel}: out is {out.shape} {out.dtype}, the result {x.shape} {x.dtype}")
    for i, a in enumerate(inputs):
        if (i == 0 and a is out) or not isinstance(a, np.ndarray):
            continue
        if a is not out and a.base is None is out.base:  # two arrays that own their memory
            continue
        if np.may_share_memory(a, out):
            raise ValueError(f"{kernel}: out overlaps an input that the kernel still reads; leave it out, or copy")


# Shapes and places. Every table asks these before it computes, so a wrong call fails alike on all: no kernel reads or
# writes beyond an array. Ops check earlier, in the user's words.


def check_shape(kernel: str, what: str, array: Array | None, shape: tuple[int, ...]) -> None:
    """ValueError unless the array has this shape; None is left alone."""
    if array is not None and array.shape != shape:
        raise ValueError(f"{kernel}: {what} should have shape {shape}, got {array.shape}")


def check_axes(kernel: str, what: str, array: Array, axes: str) -> None:
    """ValueError unless the array has as many axes as `axes` names: "N C H W"."""
    if len(array.shape) != (len(axes) + 1) // 2:
        raise ValueError(f"{kernel}: {what} should have the axes {axes}, got shape {array.shape}")


def check_index(kernel: str, index: Array) -> None:
    """TypeError unless these are integers."""
    if index.dtype.kind not in "iu":
        raise TypeError(f"{kernel}: index should hold integers, got {index.dtype}")


def outside(kernel: str, index: np.ndarray, length: int) -> IndexError:
    """The error for the first index that is not in [0, length)."""
    wrong = index[(index < 0) | (index >= length)]
    return IndexError(f"{kernel}: index {wrong.flat[0]} is outside [0, {length})")


def check_inside(kernel: str, index: np.ndarray, length: int) -> None:
    """IndexError unless all of them are in [0, length)."""
    if index.size and (index.min() < 0 or index.max() >= length):
        raise outside(kernel, index, length)


def check_conv(kernel: str, geo: Any, x: Array | None, w: Array | None, y: Array | None) -> None:
    """ValueError unless the arrays have the geometry's shapes."""
    if (
        (x is None or x.shape == geo.x_shape) and (w is None or w.shape == geo.w_shape)
        and (y is None or y.shape == geo.y_shape)
    ):  # fmt: skip
        return
    check_shape(kernel, "x", x, geo.x_shape)
    check_shape(kernel, "w", w, geo.w_shape)
    check_shape(kernel, "y", y, geo.y_shape)


def check_planes(kernel: str, x: Array, rows: Any, cols: Any) -> None:
    """ValueError unless the taps are those of x (N, C, H, W)."""
    check_axes(kernel, "x", x, "N C H W")
    check_shape(kernel, "x", x, (*x.shape[:2], rows.size, cols.size))


def check_taps_inside(kernel: str, *taps: Any) -> None:
    """IndexError for a tap that has a weight and looks outside."""
    for t in taps:
        if not t.inside:
            raise IndexError(f"{kernel}: a tap with a weight has index -1, outside the axis; give it weight 0")


def check_take(x: Array, index: Array) -> None:
    """x (N, C, H, W), index (N, C, P, Q)."""
    check_axes("take_plane", "x", x, "N C H W")
    check_axes("take_plane", "index", index, "N C P Q")
    check_shape("take_plane", "index", index, (*x.shape[:2], *index.shape[2:]))
    check_index("take_plane", index)


def check_put(y: Array, index: Array, size: tuple[int, int]) -> None:
    """y and index (N, C, P, Q)."""
    check_axes("put_plane", "y", y, "N C P Q")
    check_shape("put_plane", "index", index, y.shape)
    check_index("put_plane", index)
    if len(size) != 2 or min(size) < 0:
        raise ValueError(f"put_plane: size should be (height, width), got {size}")


def check_scatter(values: Array, index: Array, length: int) -> None:
    """values (count, ...), index (count,)."""
    if values.ndim < 1 or length < 0:
        raise ValueError(f"scatter_add: values need an axis, length is at least 0; got {values.shape} and {length}")
    check_shape("scatter_add", "index", index, values.shape[:1])
    check_index("scatter_add", index)


def check_matmul(a: Array, b: Array) -> None:
    """a (..., m, k), b (..., k, n), the axes in front broadcast."""
    m, n = a.shape, b.shape
    if len(m) == len(n) == 2 and m[1] == n[0]:  # most calls, and these checks are on the path of every step
        return
    if len(m) < 2 or len(n) < 2 or m[-1] != n[-2]:
        expected = f"got {m} and {n}, expected (..., m, k) and (..., k, n)"
        raise ValueError(f"matmul: the shapes of the arrays do not fit together; {expected}")
    for p, q in zip(m[-3::-1], n[-3::-1], strict=False):
        if p != q and p != 1 and q != 1:
            raise ValueError(f"matmul: the batch axes of {m} and {n} do not broadcast")


def check_linear(x: Array, w: Array, bias: Array | None) -> None:
    """x (M, K), w (N, K), bias (N,)."""
    if len(x.shape) != 2 or len(w.shape) != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"linear: shapes {x.shape} and {w.shape} should be (M, K) and (N, K)")
    if bias is not None and bias.shape != w.shape[:1]:
        check_shape("linear", "bias", bias, w.shape[:1])


def check_sum(ndim: int, axes: tuple[int, ...]) -> None:
    """The axes ascend, and an array with `ndim` axes has them."""
    before = -1
    for axis in (*axes, ndim):
        if axis <= before:
            raise ValueError(f"sum: axes should ascend within [0, {ndim}), got {axes}")
        before = axis


def check_labels(x: Array, labels: Array) -> None:
    """x (M, classes), labels (M,)."""
    check_axes("class_loss", "x", x, "M K")
    check_shape("class_loss", "labels", labels, x.shape[:1])
    check_index("class_loss", labels)


def check_channels(kernel: str, x: Array, **per_channel: Array) -> None:
    """x (N, C, S); the others (C,)."""
    check_axes(kernel, "x", x, "N C S")
    for what, array in per_channel.items():
        check_shape(kernel, what, array, x.shape[1:2])


def check_row_gradient(g: Array, y: Array, rstd: Array) -> None:
    """g and y (M, D), rstd (M,)."""
    check_axes("row_norm_backward", "y", y, "M D")
    check_shape("row_norm_backward", "g", g, y.shape)
    check_shape("row_norm_backward", "rstd", rstd, y.shape[:1])


def check_rows(kernel: str, x: Array) -> None:
    """x has a last axis."""
    if not x.shape:
        raise ValueError(f"{kernel}: x should have at least one axis")


def check_pieces(kernel: str, sizes: list[int], gradients: list[int], starts: list[int], length: int | None) -> None:
    """ValueError unless each gradient is as long as its parameter, and the pieces lie side by side within the state."""
    if sizes != gradients:
        raise ValueError(f"{kernel}: g: the gradients have {gradients} elements, the parameters {sizes}")
    ends = [0, *(start + size for start, size in zip(starts, sizes, strict=True))]
    last = ends[-1] if length is None else length
    # From 2**62 on, the end of a piece overflows where it is a C++ integer.
    if any(start < end for start, end in zip([*starts, last], ends, strict=True)) or max(starts, default=0) >= 2**62:
        raise ValueError(f"{kernel}: g: the pieces should lie side by side within the state")


def check_count(kernel: str, shape: tuple[int, ...]) -> None:
    """ValueError for a negative size."""
    if min(shape, default=0) < 0:
        raise ValueError(f"{kernel}: sizes should not be negative, got {shape}")


def native_dtype(dtype: Any) -> np.dtype:
    """`dtype` in this machine's byte order: the one object NumPy has of it, which the tape compares by identity."""
    return np.dtype(np.dtype(dtype).type)


def native(array: Any) -> Any:
    """The array in this machine's byte order; itself if it is. A matrix, whose `*` is another, becomes an array."""
    dtype = array.dtype
    plain = np.asarray(array) if isinstance(array, np.ndarray | np.generic) else array
    if dtype.kind not in "fiub":  # refused by name, later
        return plain
    one = native_dtype(dtype)
    return plain if dtype is one else plain.view(one) if dtype.isnative else plain.astype(one)


def numeric(name: str, array: Any) -> Any:
    """`native(array)`; TypeError for what holds neither real numbers, integers nor booleans."""
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: tensors hold real numbers, integers or booleans, not {array.dtype}")
    return native(array)
