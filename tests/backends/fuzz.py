"""Nearly valid calls of every kernel: a table against the reference, which must agree on results and on errors.

    python tests/backends/fuzz.py avx2 --calls 50000 --seed 1            # or baseline, avx512, cuda-emulated
    python tests/backends/fuzz.py avx2 --first 1234 --calls 1 --seed 1   # one call again

Each call is made from (seed, number) alone: a valid call of a random kernel, then usually one thing wrong with it: a
shape, a dtype, an index, a size, a layout or the array for the result. What the C++ extension is then given is spoiled
once more and given to it directly: that may raise, and must not crash. A crash ends the process; the number of the
call stands in the file that --at names. Absent: speed, and numbers that are not finite.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tinygen.backends import reference
from tinygen.backends.geometry import Geometry, Pieces, Taps

HUGE = (2**31, 2**32, 2**62, -(2**31), -(2**62), 10**9, -(10**9))
POINTWISE = {
    "sigmoid": (), "tanh": (), "softplus": (), "silu": (), "erf": (), "gelu": (True,), "leaky_relu": (0.2,),
    "elu": (1.0, 1.5),
}  # fmt: skip


def floats(rng: Any, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def sizes(rng: Any, count: int, most: int = 7) -> tuple[int, ...]:
    """Lengths of axes, now and then 0 or as long as a few vectors."""
    return tuple([int(rng.choice([0, 33, 70], p=[0.2, 0.5, 0.3])) if rng.random() < 0.06 else int(rng.integers(1, most))
                  for _ in range(count)])  # fmt: skip


# ---------------------------------------------------------------- valid calls


def geometry(rng: Any) -> Geometry:
    """Any, of small sizes; now and then one that Winograd's algorithm takes."""
    if rng.random() < 0.03:
        k, s = ((3, 1), (2, 1), (4, 2))[rng.integers(3)]
        n, c, size = int(rng.integers(4, 20)), int(rng.integers(16, 34)), int(rng.integers(8, 13))
        return Geometry.of_convolution("fuzz", (n, c, size, size), (24, c, k, k), 1, s, 1, 1)
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    c, k = (groups * int(rng.integers(1, 6)) for _ in range(2))
    n, h, w, p, q = (int(v) for v in rng.integers(0 if rng.random() < 0.1 else 1, 9, 5))
    r, s = (int(v) for v in rng.integers(0 if rng.random() < 0.05 else 1, 5, 2))
    pads = [int(rng.choice([*range(-3, 5), 100, 10**6, -(10**6)], p=[0.097] * 8 + [0.1, 0.062, 0.062])) for _ in "hw"]
    steps = [int(rng.choice([1, 2, 3, 50], p=[0.5, 0.3, 0.14, 0.06])) for _ in range(4)]
    return Geometry((n, c, h, w), (k, c // groups, r, s), (n, k, p, q), (steps[0], steps[1]), (steps[2], steps[3]),
                    (pads[0], pads[1]), groups)  # fmt: skip


def contraction(rng: Any) -> tuple[str, list]:
    geo, name = geometry(rng), str(rng.choice(["conv", "conv_transpose", "conv_weight", "conv_moments"]))
    x, w, y = (floats(rng, *shape) for shape in (geo.x_shape, geo.w_shape, geo.y_shape))
    if name == "conv_weight":
        return name, [x, y, geo]
    bias = floats(rng, geo.x_shape[1] if name == "conv_transpose" else geo.w_shape[0]) if rng.random() < 0.5 else None
    return name, [y if name == "conv_transpose" else x, w, geo, bias, float(rng.choice([1.0, 0.2]))]


def product(rng: Any) -> tuple[str, list]:
    m, k, n = sizes(rng, 3, 20)
    if rng.random() < 0.5:
        return "linear", [floats(rng, m, k), floats(rng, n, k), floats(rng, n) if rng.random() < 0.5 else None, 0.2]
    batch = sizes(rng, int(rng.integers(0, 3)), 4)
    left, right = (tuple([d if rng.random() < 0.8 else 1 for d in batch])[int(rng.integers(0, 2)) :] for _ in "ab")
    return "matmul", [floats(rng, *left, m, k), floats(rng, *right, k, n)]


def taps(rng: Any, size: int, outside: bool) -> Taps:
    shape = int(rng.integers(0 if rng.random() < 0.1 else 1, 7)), int(rng.integers(1, 10))
    if rng.random() < 0.3:  # windows side by side
        shape = size // 2, 2
        return Taps(np.arange(2 * shape[0]).reshape(shape), np.ones(shape), size)
    low = -1 if outside or size == 0 else 0
    index = rng.integers(low, max(size, low + 1), shape)
    return Taps(index, rng.standard_normal(shape) * (rng.random(shape) < 0.8) * (index >= 0), size)


def planes(rng: Any) -> tuple[str, list]:
    name = str(rng.choice(["resample", "max_pool", "take_plane", "put_plane", "scatter_add"]))
    n, c, h, w, p, q = sizes(rng, 6, 6)
    if name in ("resample", "max_pool"):
        return name, [floats(rng, n, c, h, w), *(taps(rng, size, name == "max_pool") for size in (h, w))]
    if name == "scatter_add":
        index = rng.integers(0, max(1, h), n if h else 0)
        return name, [floats(rng, len(index), *(p, q)[: rng.integers(0, 3)]), index, h]
    if h * w == 0:
        p = 0
    index = rng.integers(0, max(1, h * w), (n, c, p, q))
    return name, [floats(rng, n, c, h, w), index] if name == "take_plane" else [floats(rng, n, c, p, q), index, (h, w)]


def total(rng: Any) -> tuple[str, list]:
    name = str(rng.choice(["sum", "sum", "squared_error", "bernoulli_loss", "class_loss"]))
    if name == "sum":
        x = floats(rng, *sizes(rng, int(rng.integers(1, 6)), 5))
        return name, [x, tuple([i for i in range(x.ndim) if rng.random() < 0.6]), 0.5]
    if name == "class_loss":
        rows, classes = int(rng.integers(0, 9)), int(rng.integers(1, 40))
        return name, [floats(rng, rows, classes), rng.integers(0, classes, rows), 0.5, bool(rng.integers(2))]
    shape = sizes(rng, int(rng.integers(0, 4)))
    return name, [floats(rng, *shape), rng.random(shape), 0.5, bool(rng.integers(2))]


def normalization(rng: Any) -> tuple[str, list]:
    name = str(rng.choice(["channel_norm", "channel_norm_backward", "row_norm", "row_norm_backward", "softmax",
                           "log_softmax"]))  # fmt: skip
    if "softmax" in name:
        return name, [floats(rng, *sizes(rng, int(rng.integers(1, 4))))]
    if name.startswith("row"):
        x = floats(rng, *[max(1, s) for s in sizes(rng, 2)])
        y, rstd = reference.row_norm(x, 0.1)
        return name, [x, 0.1] if name == "row_norm" else [floats(rng, *x.shape), y, rstd]
    x = floats(rng, *[max(1, s) for s in sizes(rng, 3)])
    weight, bias = floats(rng, x.shape[1]), floats(rng, x.shape[1])
    if name == "channel_norm":
        return name, [x, weight, bias, 0.1, 0.2]
    mean, rstd = reference.channel_norm(x, weight, bias, 0.1)[1:]
    g = floats(rng, *x.shape)
    return name, [g, x, weight, bias, mean, rstd, 1.0, rng.choice([None, "first", "own", "other"])]


def pointwise(rng: Any) -> tuple[str, list]:
    name = str(rng.choice(sorted(POINTWISE) + ["bce_with_logits"]))
    shape = sizes(rng, int(rng.integers(0, 4)))
    x, g, back = floats(rng, *shape), floats(rng, *shape), rng.random() < 0.5 and name != "erf"
    g = np.broadcast_to(0.7, shape) if rng.random() < 0.2 else g
    if name == "bce_with_logits":
        return (name + "_backward", [g, x, rng.random(shape)]) if back else (name, [x, rng.random(shape)])
    more = [rng.choice([None, "first", "own", "other"])] if name == "leaky_relu" else []
    return (name + "_backward", [g, x, *POINTWISE[name], *more]) if back else (name, [x, *POINTWISE[name], *more])


def optimizer(rng: Any) -> tuple[str, list]:
    name = str(rng.choice(["sgd_step", "adam_step", "rmsprop_step"]))
    count = int(rng.integers(1, 70))
    cut = int(rng.integers(0, count + 1))
    p, g = (Pieces([floats(rng, cut), floats(rng, count - cut)], [0, cut]) for _ in "pg")
    m, v, lr, step = floats(rng, count), rng.random(count), np.array(0.1), np.array(3.0)
    maybe = lambda a: a if rng.random() < 0.6 else None
    if name == "sgd_step":
        return name, [p, g, maybe(m), lr, step, 0.9, 0.1, 0.01, True]
    if name == "adam_step":
        return name, [p, g, m, v, lr, step, 0.9, 0.99, 1e-3, 0.01, bool(rng.integers(2))]
    return name, [p, g, v + 2, maybe(m), maybe(floats(rng, count) / 9), lr, 0.9, 1e-3, 0.01, 0.5]


def numbers(rng: Any) -> tuple[str, list]:
    name = str(rng.choice(["random_bits", "random_uniform", "random_normal"]))
    where = [int(rng.integers(0, 2**63)), int(rng.integers(0, 2**32)), int(rng.integers(0, 2**40))]
    if name == "random_bits":
        return name, [*where, int(rng.integers(0, 2100))]
    return name, [*where, sizes(rng, int(rng.integers(0, 4))), rng.choice([np.float32, np.float64])]


FAMILIES = [contraction, contraction, product, planes, planes, total, normalization, pointwise, optimizer, numbers]

# ---------------------------------------------------------------- one thing wrong


def other_shape(rng: Any, a: np.ndarray) -> np.ndarray:
    """One axis longer or shorter, gone, or new."""
    shape, what = list(a.shape), rng.integers(4)
    if what == 0 or not shape:
        shape.insert(int(rng.integers(len(shape) + 1)), int(rng.integers(0, 3)))
    elif what == 1:
        del shape[rng.integers(len(shape))]
    else:
        axis = rng.integers(len(shape))
        shape[axis] = max(0, shape[axis] + int(rng.choice([-1, 1, 5, -shape[axis]])))
    return np.resize(a, shape) if a.size else np.zeros(shape, a.dtype)


def other_layout(rng: Any, a: np.ndarray) -> np.ndarray:
    """The same values behind other strides, or read-only."""
    if a.ndim == 0:
        return a
    what = rng.integers(4)
    if what == 0:
        return np.repeat(a, 2, -1)[..., ::2]
    if what == 1:
        return a[..., ::-1].copy()[..., ::-1]
    if what == 2:
        return np.asfortranarray(a)
    a = a.copy()
    a.flags.writeable = False
    return a


def other_index(rng: Any, a: np.ndarray) -> np.ndarray:
    if a.size and a.dtype == np.int64:
        a = a.copy()
        a.flat[rng.integers(a.size)] = rng.choice([-1, *HUGE, a.max() + 1, a.max() + 1000])
    return a


def spoiled(rng: Any, args: list, indices: bool) -> list:
    """One argument is not what it should be."""
    args, i = list(args), int(rng.integers(len(args)))
    a = args[i]
    if isinstance(a, np.ndarray) and a.ndim + a.size > 1:
        how = rng.integers(4)
        if a.dtype.kind == "i" and how < 2:
            args[i] = other_index(rng, a) if indices else a
        elif how == 0:
            args[i] = np.nan_to_num(a).astype(rng.choice([np.float16, np.int32, np.float64, np.float32]))
        else:
            args[i] = (other_layout if how == 1 else other_shape)(rng, a)
    elif isinstance(a, Taps):
        weight = np.where(rng.random(a.weight.shape) < 0.2, 1.0, a.weight)
        args[i] = Taps(a.index, weight, a.size + int(rng.integers(2)))
    elif isinstance(a, Geometry):
        args[i] = geometry(rng)
    elif isinstance(a, Pieces):
        starts = [s + int(rng.choice([0, 1, -1, *HUGE])) for s in a.starts]
        args[i] = Pieces(a.arrays, starts) if rng.random() < 0.6 else Pieces(a.arrays[:1], a.starts)
    elif isinstance(a, tuple) and a and all(isinstance(n, int) for n in a):
        j = int(rng.integers(len(a)))
        args[i] = (*a[:j], a[j] + int(rng.choice([-1, 1, -9])), *a[j + 1 :])
    elif type(a) is int and rng.random() < 0.5 and i == len(args) - 1:
        args[i] = a + int(rng.choice([-1, 1, -(10**9)]))
    return args


# ---------------------------------------------------------------- both tables


def ready(args: list, dtype: Any) -> list:
    """The arguments for one call: floats of this dtype, arrays of their own, an array for the result where asked."""
    made: list = []
    for a in args:
        if isinstance(a, Pieces):
            made.append(Pieces([x.astype(dtype) for x in a.arrays], a.starts))
        elif isinstance(a, np.ndarray) and a.dtype == np.float64 and a.ndim:
            made.append(a.astype(dtype, order="K") if a.strides and any(a.strides) and a.flags.writeable else a)
            if made[-1].dtype != dtype:
                made[-1] = np.broadcast_to(dtype(a.flat[0]), a.shape) if a.size and not any(a.strides) else (
                    a.astype(dtype))  # fmt: skip
                made[-1].flags.writeable = False
        elif isinstance(a, str):  # where the result goes
            first, last = made[0], made[1] if isinstance(made[1], np.ndarray) else made[0]
            made.append({"first": first, "own": np.empty_like(last), "other": last}[a])
        else:
            made.append(a)
    return made


def outcome(table: Any, name: str, args: list) -> tuple:
    """(results, or the error) and what the call left in its arguments."""
    try:
        with np.errstate(all="ignore"):
            got = getattr(table, name)(*args)
    except (ValueError, TypeError, IndexError) as error:
        return type(error).__name__, str(error)
    got = got if isinstance(got, tuple) else (got,)
    left = args[0].arrays if name.endswith("_step") else []
    return tuple([g for g in (*got, *left) if g is not None])


def differ(name: str, want: tuple, got: tuple, dtype: Any) -> str | None:
    errors = [o[:2] if len(o) > 1 and isinstance(o[0], str) else ("computes",) for o in (want, got)]
    if name.endswith("_step"):  # where many pieces are wrong, which is named first may differ
        errors = [e[:1] for e in errors]
    if errors[0] != errors[1]:
        return f"the reference: {errors[0]}\nthe kernel: {errors[1]}"
    if errors[0][0] != "computes":
        return None
    for w, g in zip(want, got, strict=False):
        w, g = np.asarray(w), np.asarray(g)
        if w.shape != g.shape or w.dtype != g.dtype:
            return f"the reference: {w.shape} {w.dtype}, the kernel: {g.shape} {g.dtype}"
        limit = 2e-2 if w.dtype == np.float16 else 2e-4 if np.float32 in (dtype, w.dtype) else 1e-10
        size = max(1.0, float(np.abs(w[np.isfinite(w)]).max(initial=0)))
        if not np.allclose(g, w, rtol=limit, atol=limit * size, equal_nan=True):
            return f"values differ by {np.abs(g - w).max()}"
    return None


class Recorder:
    """The extension, noting each call that goes through."""

    def __init__(self, extension: Any) -> None:
        self.extension, self.calls = extension, []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.extension, name)
        if not callable(found) or isinstance(found, type):
            return found

        def call(*args: Any) -> Any:
            self.calls.append((found, args))
            return found(*args)

        return call


def raw(rng: Any, function: Any, args: tuple) -> None:
    """What the extension was given, spoiled, given to it again."""
    fresh = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    bad = spoiled(rng, fresh, True)
    if rng.random() < 0.05:
        bad[int(rng.integers(len(bad)))] = None
    with suppress(ValueError, TypeError, IndexError):
        function(*bad)


def run(place: str, seed: int, first: int, calls: int, at: str | None) -> int:
    """Makes the calls; returns how many of them disagreed."""
    recorder = None
    if place == "cuda-emulated":
        table = importlib.import_module("tinygen.backends.cuda.emulated").on_numpy()
    else:
        table = importlib.import_module("tinygen.backends.cpu")
        table.runtime._cpu.select(place)
        recorder = Recorder(table.runtime._cpu)
        for file in ("contraction", "normalization", "optimizer", "planes", "pointwise", "random", "sums"):
            getattr(table, file)._cpu = recorder
    trace = os.open(at, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if at else None
    wrong = 0
    for number in range(first, first + calls):
        rng = np.random.default_rng((seed, number))
        name, args = FAMILIES[rng.integers(len(FAMILIES))](rng)
        if trace is not None:
            os.pwrite(trace, f"{number} {name}\n".ljust(40).encode(), 0)
        dtype = np.float32 if rng.random() < 0.7 else np.float64
        state = rng.bit_generator.state
        outcomes = []
        for each in (reference, table):  # the same spoiling, on arrays of their own
            rng.bit_generator.state = state
            given = ready(args, dtype)
            if rng.random() < 0.75:
                with suppress(ValueError, IndexError):  # Taps and Geometry refuse by themselves
                    given = spoiled(rng, given, place != "cuda-emulated")
            outcomes.append(outcome(each, name, given))
        refused = place == "cuda-emulated" and "is outside [" in str(outcomes[0][-1:])
        if refused:  # a GPU cannot raise for an index
            continue
        if problem := differ(name, *outcomes, dtype):
            wrong += 1
            print(f"call {number} of seed {seed}, {name}: {problem}", flush=True)
        for function, given in recorder.calls if recorder else []:
            raw(rng, function, given)
        if recorder:
            recorder.calls.clear()
    return wrong


if __name__ == "__main__":
    faulthandler.enable()
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at")
    options = parser.parse_args()
    disagreed = run(options.place, options.seed, options.first, options.calls, options.at)
    print(f"{options.place}: {options.calls} calls, {disagreed} disagreed")
    sys.exit(disagreed > 0)
