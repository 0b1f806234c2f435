"""Random numbers that depend on a counter and nothing else, and dropout.

A generator's state is (seed, stream, offset). Philox turns block number `offset` of a stream into four 32-bit words;
drawing n words moves the offset on by ceil(n / 4) blocks. So a state is three integers that a checkpoint can hold,
any part of a stream can be made again without the part before it, and bits and uniforms are equal on every device.
The kernels `random_bits`, `random_uniform` and `random_normal` define the numbers; what is made of them here is
defined by formulas:

    randint      low + floor(r (high - low) / 2^64), r of 64 bits, the first word the high one
    randperm     the stable order of n such r
    bernoulli    u < p     dropout   x / (1 - p) where u >= p, else 0     (u uniform float32 for any dtype of x)

Deliberately absent: a generator for each device; derivatives with respect to distributions' parameters.
"""

from __future__ import annotations

import math
import operator
import os
import threading
from typing import Any

import numpy as np

from ..backends import Device
from ..backends import device as get_device
from ..backends.arrays import native, native_dtype
from ..tape import Tensor, leaf, op
from .creation import fitting
from .in_place import changed
from .view import sizes_of

__all__ = [
    "Generator", "default_generator", "manual_seed", "initial_seed", "get_rng_state", "set_rng_state",
    "rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial",
    "rand_like", "randn_like", "randint_like",
    "dropout", "dropout1d", "dropout2d",
]  # fmt: skip


_advancing = threading.Lock()


class Generator:
    """A place in a sequence of random numbers: (seed, stream, offset).

    `device` is accepted because torch has it; a generator serves every device.
    """

    __slots__ = ("_home", "_offset", "_seed", "_stream")

    def __init__(self, device: Any = "cpu", *, seed: int = 0, stream: int = 0) -> None:
        self._home = operator.index(stream) % 2**32  # the stream that manual_seed returns to
        self._seed, self._stream, self._offset = operator.index(seed) % 2**64, self._home, 0

    def manual_seed(self, seed: int) -> Generator:
        """Go to the start of the sequence that belongs to `seed` (any integer, modulo 2^64); returns the generator.

        That is in the generator's own stream, whatever state it was set to since.
        """
        self._seed, self._stream, self._offset = operator.index(seed) % 2**64, self._home, 0
        return self

    def seed(self) -> int:
        """Take a seed from the operating system, and return it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self) -> int:
        """The seed."""
        return self._seed

    def get_state(self) -> tuple[int, int, int]:
        """(seed, stream, offset)."""
        return self._seed, self._stream, self._offset

    def set_state(self, state: Any) -> Generator:
        """Return to a state that get_state gave; ValueError for anything but three integers in range."""
        try:
            seed, stream, offset = (operator.index(v) for v in state)
        except (TypeError, ValueError):
            raise ValueError(f"set_state: expected the three integers (seed, stream, offset), got {state!r}") from None
        if not (0 <= seed < 2**64 and 0 <= stream < 2**32 and 0 <= offset < 2**64):
            raise ValueError(f"set_state: (seed, stream, offset) = {state} is out of range")
        self._seed, self._stream, self._offset = seed, stream, offset
        return self

    def fork(self, stream: int) -> Generator:
        """A new generator with the same seed at the start of another stream, which is independent of this one."""
        return Generator(seed=self._seed, stream=stream)

    def advance(self, words: int) -> int:
        """The offset of the next block; the ceil(words / 4) blocks from there on are spoken for."""
        with _advancing:  # two threads never receive the same block
            offset = self._offset
            self._offset = (offset + -(-words // 4)) % 2**64
        return offset

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed}, stream={self._stream}, offset={self._offset})"


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """The default generator, sent to the start of the sequence that belongs to `seed`."""
    return default_generator.manual_seed(seed)


def initial_seed() -> int:
    """The default generator's seed."""
    return default_generator.initial_seed()


def get_rng_state() -> tuple[int, int, int]:
    """The default generator's (seed, stream, offset)."""
    return default_generator.get_state()


def set_rng_state(state: Any) -> None:
    """Send the default generator back to a state of get_rng_state."""
    default_generator.set_state(state)


# ---------------------------------------------------------------- drawing arrays


def _draw(name: str, size: tuple, generator: Generator | None, dtype: Any, device: Device, normal: bool = False) -> Any:
    """Raw uniform or normal numbers for the function `name`, in single precision for dtypes below it."""
    wanted = native_dtype(np.float32 if dtype is None else dtype)
    if wanted.kind != "f":
        raise TypeError(f"{name}: random numbers of dtype {wanted} are not defined; use a floating dtype or randint")
    if min(size, default=1) < 0:
        raise ValueError(f"{name}: sizes should not be negative, got {size}")
    dtype = wanted if wanted.itemsize in (4, 8) else np.dtype(np.float32)
    count = math.prod(size)
    numbers = count + count % 2 if normal else count  # normals are made in pairs
    g = default_generator if generator is None else generator
    draw = device.kernels.random_normal if normal else device.kernels.random_uniform
    array = draw(g._seed, g._stream, g.advance(numbers * dtype.itemsize // 4), size, dtype)
    return array if wanted == dtype else array.astype(wanted)


def _bits64(count: int, generator: Generator | None, device: Device) -> tuple[Any, Any]:
    """`count` 64-bit numbers as (high words, low words), both uint64."""
    g = default_generator if generator is None else generator
    words = device.kernels.random_bits(g._seed, g._stream, g.advance(2 * count), 2 * count).astype(np.uint64)
    return words[0::2], words[1::2]


def _made(array: Any, device: Device, requires_grad: bool) -> Tensor:
    tensor = Tensor(native(array), None, device)
    if not requires_grad:
        return tensor
    if array.dtype.kind != "f":
        raise RuntimeError(f"requires_grad: only floating-point tensors have gradients, this one is {array.dtype}")
    return leaf(tensor)


def rand(
    size: Any = (),
    *more: int,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    where = get_device(device or "cpu")
    return _made(_draw("rand", sizes_of("rand", (size, *more)), generator, dtype, where), where, requires_grad)


def randn(
    size: Any = (),
    *more: int,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers of mean 0 and variance 1 (Box-Muller)."""
    where = get_device(device or "cpu")
    return _made(_draw("randn", sizes_of("randn", (size, *more)), generator, dtype, where, True), where, requires_grad)


def rand_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1) with the shape, dtype and device of input."""
    return rand(
        tuple(input.shape), generator=generator, dtype=dtype or input.dtype, device=device or input.device,
        requires_grad=requires_grad,
    )  # fmt: skip


def randn_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal numbers with the shape, dtype and device of input."""
    return randn(
        tuple(input.shape), generator=generator, dtype=dtype or input.dtype, device=device or input.device,
        requires_grad=requires_grad,
    )  # fmt: skip


def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, dtype: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Normal numbers with the given mean and standard deviation: numbers with `size`, or tensors, which broadcast.

    ValueError for a negative number as std. No gradient flows to mean or std; for that, mean + std * randn_like(mean).
    """
    tensors = [t for t in (mean, std) if isinstance(t, Tensor)]
    if size is None and not tensors:
        raise ValueError("normal: say size where neither mean nor std is a tensor")
    if not isinstance(std, Tensor) and std < 0:
        raise ValueError(f"normal: std={std} should not be negative")
    like = tensors[0] if tensors else None
    if size is not None:
        shape = sizes_of("normal", (size,))
    else:
        shape = np.broadcast_shapes(*[tuple(t.shape) for t in tensors])
    where = get_device(device) if device is not None else like.device if like is not None else get_device("cpu")
    array = _draw("normal", shape, generator, dtype if dtype is not None or like is None else like.dtype, where, True)
    mean, std = (t.array if isinstance(t, Tensor) else t for t in (mean, std))
    array *= std
    array += mean
    return _made(array, where, requires_grad)


def normal_like(input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Normal numbers with the shape, dtype and device of input: what `normal_` writes."""
    return normal(mean, std, tuple(input.shape), generator=generator, dtype=input.dtype, device=input.device)


def uniform_like(input: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Uniform numbers in [low, high) with the shape, dtype and device of input: what `uniform_` writes."""
    if high < low:
        raise ValueError(f"uniform_: expected low <= high, got {low} and {high}")
    array = _draw("uniform_", tuple(input.shape), generator, input.dtype, input.device)
    array *= high - low
    array += low
    return Tensor(array, None, input.device)


def bernoulli_like(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """1 with probability p (a number, or a tensor that broadcasts), else 0, like input: what `bernoulli_` writes."""
    p = p.array if isinstance(p, Tensor) else p
    on_host = input.device.kernels.xp is np or isinstance(p, int | float)  # elsewhere a look would wait for the device
    if on_host and not (np.all(np.asarray(p) >= 0) and np.all(np.asarray(p) <= 1)):
        raise ValueError("bernoulli: probabilities should lie between 0 and 1")
    uniform = _draw("bernoulli", tuple(input.shape), generator, np.float32, input.device)
    return Tensor((uniform < p).astype(input.dtype), None, input.device)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with probability input (or p), else 0, with input's shape and dtype; ValueError outside [0, 1]."""
    return bernoulli_like(input, input if p is None else p, generator=generator)


def randint(
    low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None, dtype: Any = None,
    device: Any = "cpu", requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Uniform integers in [low, high), int64: randint(high, size) or randint(low, high, size).

    ValueError for an empty range.
    """
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if isinstance(size, int) or size is None:
        raise TypeError(f"randint: size should be a tuple of integers, got {size}")
    low, high, shape = operator.index(low), operator.index(high), sizes_of("randint", (size,))
    if not low < high:
        raise ValueError(f"randint: no integer lies in [{low}, {high})")
    if not (low >= -(2**63) and high <= 2**63):
        raise ValueError(f"randint: [{low}, {high}) leaves the range of int64")
    if dtype is not None:
        fitting("randint", low, np.dtype(dtype)), fitting("randint", high - 1, np.dtype(dtype))
    where = get_device(device or "cpu")
    first, second = _bits64(math.prod(shape), generator, where)
    span_high, span_low = (np.uint64(v) for v in divmod(high - low, 2**32))
    # The upper 64 bits of a 128-bit product, by halves; no sum here can exceed 64 bits.
    half, mask = np.uint64(32), np.uint64(2**32 - 1)
    middle = first * span_low + (second * span_low >> half)
    other = second * span_high + (middle & mask)
    offset = first * span_high + (middle >> half) + (other >> half)
    values = (offset + np.uint64(low % 2**64)).view(np.int64).reshape(shape)  # modulo 2^64, as two's complement is
    return _made(values if dtype is None else values.astype(dtype), where, requires_grad)


def randint_like(
    input: Tensor, low: int, high: int | None = None, *, generator: Generator | None = None, dtype: Any = None
) -> Tensor:
    """Uniform integers in [low, high) (or [0, low)) with the shape, dtype and device of input."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, tuple(input.shape), generator=generator, dtype=dtype or input.dtype, device=input.device)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """The integers 0 to n - 1 in random order, int64."""
    n = operator.index(n)
    where = get_device(device or "cpu")
    high, low = _bits64(n, generator, where)
    order = where.kernels.xp.argsort((high << np.uint64(32)) | low, kind="stable")
    return _made(order.astype(np.int64 if dtype is None else dtype, copy=False), where, requires_grad)


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """num_samples indices (int64) drawn with probabilities proportional to the rows of input (K,) or (M, K).

    With replacement by inversion of the cumulative sum; without, the indices of the smallest exponential times
    -log(1 - u) / input. ValueError for negative weights, or too few positive ones.
    """
    if input.ndim not in (1, 2) or num_samples < 1:
        raise ValueError(
            f"multinomial: weights should be (K,) or (M, K), got {tuple(input.shape)}; num_samples={num_samples} > 0"
        )
    xp = input.device.kernels.xp
    weights = input.array.astype(np.float64).reshape(-1, input.shape[-1])
    if not bool(((weights >= 0) & xp.isfinite(weights)).all()) or not bool((weights.sum(1) > 0).all()):
        raise ValueError("multinomial: weights should be finite, not negative and not all zero")
    if replacement:
        u = _draw("multinomial", (len(weights), num_samples), generator, np.float64, input.device)
        total = xp.cumsum(weights, 1)
        # The first index whose sum exceeds u * total; one of weight 0 repeats its neighbour's sum and is never first.
        chosen = xp.stack([xp.searchsorted(t, v * t[-1], side="right") for t, v in zip(total, u)])
        last = (weights.shape[1] - 1) - xp.argmax(weights[:, ::-1] > 0, 1)
        chosen = xp.minimum(chosen, last[:, None])
    else:
        if int((weights > 0).sum(1).min()) < num_samples:
            raise ValueError(f"multinomial: fewer than {num_samples} weights are positive; pass replacement=True")
        u = _draw("multinomial", weights.shape, generator, np.float64, input.device)
        with np.errstate(divide="ignore", invalid="ignore"):
            times = xp.where(weights > 0, -xp.log1p(-u) / weights, np.inf)
        chosen = xp.argsort(times, axis=1, kind="stable")[:, :num_samples]
    return Tensor(
        xp.ascontiguousarray(chosen.astype(np.int64).reshape(*input.shape[:-1], num_samples)), None, input.device
    )


# ---------------------------------------------------------------- dropout


@op
def _dropout(k, x, *, mask):
    """x times a mask of 0 and 1 / (1 - p)."""
    return x * mask


_dropout.vjp("x")(lambda g, mask: _dropout(g, mask=mask))


def _dropped(name: str, x: Tensor, p: float, training: bool, shape: tuple, generator: Generator | None) -> Tensor:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: the probability p={p} should lie between 0 and 1")
    if not training or p == 0:
        return x
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating-point tensor, got {x.dtype}; convert it with .float()")
    kept = _draw(name, shape, generator, np.float32, x.device) >= p
    return _dropout(x, mask=kept.astype(x.dtype) * x.dtype.type(1 / (1 - p) if p < 1 else 0))


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """input / (1 - p) where a uniform number is >= p, else 0; without training, input (Srivastava et al. 2014)."""
    if inplace:
        return changed(dropout, input, p, training, False, generator=generator)
    return _dropped("dropout", input, p, training, tuple(input.shape), generator)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """`dropout` of whole channels: input (N, C, ...), one number per (n, c)."""
    if input.ndim < 3:
        raise ValueError(f"dropout2d: input should be (N, C, H, W), got {tuple(input.shape)}")
    if inplace:
        return changed(dropout2d, input, p, training, False, generator=generator)
    shape = tuple(input.shape[:2]) + (1,) * (input.ndim - 2)
    return _dropped("dropout2d", input, p, training, shape, generator)


dropout1d = dropout2d
