"""The two contenders behind one interface: what a worker prepares, and nothing that touches a clock.

A job is a function of no arguments that a worker calls again and again. Inputs come from NumPy with fixed seeds, so
that both contenders compute the same thing; `array` turns a job's result into NumPy, NCHW, to be compared.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from .cases import Layer
from .networks import STEPS, Step, fill

CHAIN = 100  # ops in a row, to time a backward node


def operands(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, weight and the gradient of the output; the weight scaled so that outputs are about 1."""
    rng = np.random.default_rng(1)
    x, w, g = (rng.standard_normal(s, np.float32) for s in (layer.x_shape, layer.weight_shape, layer.y_shape))
    w *= 1 / math.sqrt(layer.c * layer.size**2)
    return x, w, g


class Library:
    """What Tinygen and Torch share: noise that is repeatable while results are compared, and steps."""

    T: Any  # the module: tinygen or torch
    reproducible: np.random.Generator | None = None

    def tensor(self, array: np.ndarray) -> Any:
        raise NotImplementedError

    def array(self, result: Any) -> np.ndarray:
        """The result as a NumPy array."""
        return np.ascontiguousarray(result.detach().cpu().numpy())

    def synchronize(self) -> None:
        """Waits until the device has finished."""

    def randn(self, *shape: int) -> Any:
        if self.reproducible is not None:
            return self.tensor(self.reproducible.standard_normal(shape, np.float32))
        return self.T.randn(*shape, device=self.device)

    def rand(self, *shape: int) -> Any:
        if self.reproducible is not None:
            return self.tensor(self.reproducible.random(shape, np.float32))
        return self.T.rand(*shape, device=self.device)

    def compiled(self, function: Callable) -> Callable:
        return function

    def begin_step(self) -> None:
        """Called before each training step whose results are compared."""

    def place(self, module: Any) -> None:
        """Moves a network's parameters to the device, in place."""

    def step(self, name: str, small: bool) -> tuple[Callable[[], Any], Step, list[np.ndarray]]:
        """(a job that trains once, the step, what to compare: losses of three updates and the first's gradients)."""
        step = STEPS[name](self, small)
        fill(step.modules, self)
        for module in step.modules:
            self.place(module)
        batches = [tuple(self.tensor(a) for a in batch) for batch in step.batches]
        compared, grads = [], []
        self.reproducible = np.random.default_rng(11)
        for i in range(3):
            self.begin_step()
            compared += [float(loss.detach()) for loss in step.update(*batches[i])]
            if i == 0:
                grads = [self.array(p.grad) for p in step.updated.parameters()]
        self.reproducible = None
        count = iter(range(1 << 62))
        return lambda: step.update(*batches[next(count) % len(batches)]), step, [np.array(compared), *grads]

    def overhead(self, name: str) -> dict[str, Callable[[], Callable[[], Any]]]:
        """{pass: prepare}: prepare() returns the function that is timed, CHAIN ops of one kind on 4 elements."""
        f, a, b, differentiable = self._tiny(name)

        def chain(x: Any) -> Any:
            for _ in range(CHAIN):
                x = f(x, b)
            return x

        def apart(x: Any) -> None:
            for _ in range(CHAIN):
                f(x, b)

        def backward() -> Callable[[], Any]:
            y = chain(differentiable)
            seed = self.T.ones_like(y).detach()
            return lambda: self.grad(y, differentiable, seed)

        def unrecorded() -> None:
            with self.T.no_grad():
                apart(a)

        return {
            "unrecorded": lambda: unrecorded,
            "recorded": lambda: lambda: apart(differentiable),
            "backward_node": backward,
        }

    def _tiny(self, name: str) -> tuple[Callable, Any, Any, Any]:
        T = self.T
        shape = (1, 1, 2, 2) if name == "conv2d" else (2, 2)
        a = self.tensor(np.full(shape, 0.5, np.float32))
        b = self.tensor(np.full((1, 1, 1, 1) if name == "conv2d" else shape, 0.5, np.float32))
        conv2d = T.nn.functional.conv2d
        functions: dict[str, Callable] = {
            "add": lambda x, y: x + y,
            "mul": lambda x, y: x * y,
            "relu": lambda x, y: T.relu(x),
            "matmul": lambda x, y: x @ y,
            "conv2d": lambda x, y: conv2d(x, y),
        }
        return functions[name], a, b, self.tensor(np.full(shape, 0.5, np.float32)).requires_grad_()

    device: str = "cpu"

    def grad(self, y: Any, x: Any, seed: Any = None, create_graph: bool = False) -> Any:
        raise NotImplementedError


OPS = ("add", "mul", "relu", "matmul", "conv2d")


class Tinygen(Library):
    def __init__(self, threads: int, device: str = "cpu", **_: Any) -> None:
        import tinygen
        from tinygen import optim
        from tinygen.ops import conv as contractions

        tinygen.set_num_threads(threads)
        self.T, self.device, self.optim, self.contractions = tinygen, device, optim, contractions
        self.kernels = tinygen.device(device).kernels

    @property
    def isa(self) -> str:
        return self.kernels.isa() if hasattr(self.kernels, "isa") else ""

    def tensor(self, array: np.ndarray) -> Any:
        return self.T.tensor(array).to(self.device)

    def synchronize(self) -> None:
        if self.device == "cuda":
            self.kernels.xp.cuda.Device().synchronize()

    def adam(self, parameters: Iterable, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> Any:
        return self.optim.Adam(parameters, lr=lr, betas=betas)

    def grad(self, y: Any, x: Any, seed: Any = None, create_graph: bool = False) -> Any:
        return self.T.grad(y, x, seed, create_graph=create_graph)

    def frozen(self, module: Any) -> Any:
        return self.T.frozen(module)

    def place(self, module: Any) -> None:
        module.to(device=self.device)

    def conv(self, layer: Layer) -> dict[str, Callable[[], Any]]:
        """The jobs of a layer: the public function forward, and backward the ops that its derivatives call."""
        T, ops = self.T, self.contractions
        x, w, g = map(self.tensor, operands(layer))
        law = (layer.stride, layer.pad)
        if layer.transposed:
            geo = ops.Geometry.of_transposed("benchmark", x.shape, w.shape, 1, *law, 1, 0, None)
            jobs = {
                "forward": lambda: T.conv_transpose2d(x, w, None, *law),
                "input_grad": lambda: ops.conv(g, w, geo=geo),
                "weight_grad": lambda: ops.conv_weight(g, x, geo=geo),
            }
        else:
            geo = ops.Geometry.of_convolution("benchmark", x.shape, w.shape, 1, *law, 1)
            jobs = {
                "forward": lambda: T.conv2d(x, w, None, *law),
                "input_grad": lambda: ops.conv_transpose(g, w, geo=geo),
                "weight_grad": lambda: ops.conv_weight(x, g, geo=geo),
            }
        return jobs

    def count_flops(self, job: Callable[[], Any]) -> int | None:
        """Operations of convolutions and matrix products in one call; None where they cannot be counted."""
        from tinygen import observe

        with observe.count_flops() as counted:
            job()
        return counted.total or None


class Torch(Library):
    """`layout`: nchw or channels_last. `fused`: fused Adam, D frozen in G's update. `compile`: torch.compile too."""

    def __init__(
        self, threads: int, device: str = "cpu", layout: str = "nchw", fused: bool = False, compile: bool = False
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("this PyTorch has no CUDA; install a CUDA build, or benchmark --device cpu")
        self.T, self.device, self.fused, self.compile = torch, device, fused, compile
        self.last = layout == "channels_last"
        self.format = torch.channels_last if self.last else torch.contiguous_format
        self.isa = torch.backends.cpu.get_cpu_capability()

    def tensor(self, array: np.ndarray) -> Any:
        tensor = self.T.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return tensor.contiguous(memory_format=self.format) if tensor.ndim == 4 else tensor

    def synchronize(self) -> None:
        if self.device == "cuda":
            self.T.cuda.synchronize()

    def compiled(self, function: Callable) -> Callable:
        return self.T.compile(function) if self.compile else function

    def adam(self, parameters: Iterable, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> Any:
        return self.T.optim.Adam(parameters, lr=lr, betas=betas, **({"fused": True} if self.fused else {}))

    def grad(self, y: Any, x: Any, seed: Any = None, create_graph: bool = False) -> Any:
        return self.T.autograd.grad(y, x, seed, create_graph=create_graph)

    def frozen(self, module: Any) -> Any:
        return self._frozen(module) if self.fused else nullcontext()

    @contextmanager
    def _frozen(self, module: Any) -> Any:
        module.requires_grad_(False)
        try:
            yield
        finally:
            module.requires_grad_(True)

    def place(self, module: Any) -> None:
        module.to(self.device, memory_format=self.format)

    def conv(self, layer: Layer) -> dict[str, Callable[[], Any]]:
        T = self.T
        F = T.nn.functional
        x, w, g = map(self.tensor, operands(layer))
        s, p = [layer.stride] * 2, [layer.pad] * 2
        function = F.conv_transpose2d if layer.transposed else F.conv2d
        backward = T.ops.aten.convolution_backward
        gradient = lambda mask: backward(g, x, w, None, s, p, [1, 1], layer.transposed, [0, 0], 1, mask)
        return {
            "forward": lambda: function(x, w, None, s, p),
            "input_grad": lambda: gradient([True, False, False])[0],
            "weight_grad": lambda: gradient([False, True, False])[1],
        }


class _Gradless:
    """The part of the module's interface that a worker asks of every contender; nothing here is ever recorded."""

    __version__ = ""
    no_grad = staticmethod(nullcontext)
    set_grad_enabled = staticmethod(lambda enabled: nullcontext())


class TourStep(Library):
    """A step of csrc/cpu/tour, compiled by `benchmarks.tour` to the library at `path`: forward convolutions."""

    T = _Gradless
    isa = ""

    def __init__(self, threads: int, path: str, **_: Any) -> None:
        self.threads = threads
        self.convolution = ctypes.CDLL(path).convolution
        self.convolution.restype = None

    def tensor(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array, np.float32)

    def array(self, result: np.ndarray) -> np.ndarray:
        return result

    def conv(self, layer: Layer) -> dict[str, Callable[[], Any]]:
        x, w, _ = operands(layer)
        return {"forward": self.job(layer, x, w)}

    def job(self, layer: Layer, x: np.ndarray, w: np.ndarray) -> Callable[[], np.ndarray]:
        """A function that computes y into the same array again and again."""
        y = np.full(layer.y_shape, np.nan, np.float32)
        numbers = (*layer.x_shape, layer.k, layer.size, layer.stride, layer.pad, *layer.y_shape[2:])
        described = (ctypes.c_long * len(numbers))(*numbers)  # struct Layer of tour.h
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (x, w, y)]

        def run() -> np.ndarray:
            self.convolution(described, *pointers, self.threads)
            return y

        return run


LIBRARIES = {"tinygen": Tinygen, "torch": Torch, "tour": TourStep}
