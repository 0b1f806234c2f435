"""What is installed, and whether it works: versions, kernels, threads, GPU, three self-checks.

    tinygen doctor [--device cuda]
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import Any

import numpy as np

import tinygen as tg
from tinygen.testing import gradcheck

PACKAGES = ("scikit-learn", "safetensors", "pillow", "matplotlib", "rich", "torch", "cupy-cuda12x", "cupy-cuda13x")


def examine(device: Any = None) -> bool:
    """Prints all of it; whether every check passed. `device`: the only one to check."""
    began = time.perf_counter()
    python = platform.python_version()
    print(f"tinygen {tg.__version__}, Python {python}, NumPy {np.__version__}, {platform.platform()}")
    print("packages: " + ", ".join(f"{package} {_version(package)}" for package in PACKAGES))
    kernels = tg.device("cpu").kernels
    path = kernels.isa() if hasattr(kernels, "isa") else "plain NumPy (no compiled kernels: slow)"
    print(f"CPU kernels: {kernels.name}, {path}; {tg.get_num_threads()} threads of {os.cpu_count()} cores")
    print(f"BLAS: {_blas()}")
    places = ["cpu"]
    try:
        tg.device("cuda")
        print("GPU: usable as --device cuda")
        places.append("cuda")
    except (RuntimeError, ImportError, AttributeError) as error:
        print(f"GPU: none ({str(error).partition(';')[0]})")
    good = True
    devices = [device] if device is not None else [tg.device(place) for place in places]
    for one, name in product(devices, CHECKS):
        try:
            CHECKS[name](one)
            print(f"  ok    {one}: {name}")
        except Exception as error:
            good = False
            print(f"  WRONG {one}: {name}: {error}")
    verdict = "all well" if good else "SOMETHING IS WRONG: report the lines above"
    print(f"{verdict}, {time.perf_counter() - began:.1f} s")
    return good


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def _blas() -> str:
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown (threadpoolctl is not installed)"
    found = [f"{i['internal_api']} {i.get('version') or ''} ({i.get('architecture', '?')}), {i['num_threads']} threads"
             for i in threadpool_info() if i["user_api"] == "blas"]  # fmt: skip
    return "; ".join(found) or "none found"


def check_adjoint(device: Any) -> None:
    """<conv(x, w), y> = <x, conv_transpose(y, w)>, with a size that the stride does not divide."""
    draw = np.random.default_rng(0)
    drawn = lambda shape: tg.tensor(np.asarray(draw.standard_normal(shape), np.float32), device=device)
    x, w = drawn((4, 3, 29, 28)), drawn((8, 3, 4, 4))
    y = tg.conv2d(x, w, stride=2, padding=1)
    g = drawn(y.shape)
    back = tg.conv_transpose2d(g, w, stride=2, padding=1, output_size=(29, 28))
    left, right = (y * g).sum().item(), (x * back).sum().item()
    if not abs(left - right) <= 1e-4 * max(1.0, float((abs(y) * abs(g)).sum().item())) or left == 0:
        raise ArithmeticError(f"{left} is not {right}")


def check_gradients(device: Any) -> None:
    """Backward against central differences in float64."""
    draw = np.random.default_rng(1)
    shapes = ((2, 2, 8, 8), (3, 2, 3, 3), (3 * 16, 4))
    x, w, v = (tg.tensor(draw.standard_normal(s), device=device) for s in shapes)
    gradcheck(
        lambda x, w, v: (tg.conv2d(x, w, stride=2, padding=1).tanh().reshape(2, -1) @ v).softmax(-1).log(), [x, w, v]
    )


def check_random(device: Any) -> None:
    """Philox4x32-10 with a zero key and a zero counter (Salmon et al. 2011, known answers)."""
    words = [int(v) for v in device.kernels.random_bits(0, 0, 0, 4)]
    known = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    if words != known:
        raise ArithmeticError(f"{[hex(w) for w in words]} is not {[hex(w) for w in known]}")


CHECKS: dict[str, Callable[[Any], None]] = {
    "convolution against its adjoint": check_adjoint,
    "gradients of a small net": check_gradients,
    "random numbers against known ones": check_random,
}
