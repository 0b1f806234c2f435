"""Settings of the C++ kernels: instruction set, threads, Winograd's algorithm; and where each kernel is defined.

The environment is read once, at import: TINYGEN_CPU, OMP_NUM_THREADS and TINYGEN_WINOGRAD.
"""

from __future__ import annotations

import os

import tinygen._cpu as _cpu

from ...errors import SettingError
from .. import thread_count


def _select_isa() -> None:
    wanted = os.environ.get("TINYGEN_CPU", "")
    if wanted == "reference":  # asked for NumPy, and imported this module all the same: a test comparing the two
        wanted = ""
    try:
        _cpu.select(wanted)
    except ValueError as error:
        legal = ", ".join(["reference", *_cpu.isas()])
        raise SettingError(f"TINYGEN_CPU={wanted!r}: {error}; this machine runs {legal} (unset: the last)") from None


def _default_threads() -> int:
    """OMP_NUM_THREADS where it is a count (its first number), else the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    try:
        return thread_count(int(wanted))
    except ValueError:
        pass
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_select_isa()
_cpu.set_num_threads(_default_threads())
_cpu.set_winograd(os.environ.get("TINYGEN_WINOGRAD", "1") != "0")


def set_num_threads(count: int) -> None:
    """Sets the number of threads of the C++ kernels and, if threadpoolctl is installed, of NumPy's BLAS.

    At most four for each core of the machine. Threads above a lowered count end.
    """
    count = thread_count(count)
    _cpu.set_num_threads(count)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return
    threadpool_limits(limits=count, user_api="blas")


def get_num_threads() -> int:
    """The number of threads of the C++ kernels."""
    return _cpu.get_num_threads()


def isa() -> str:
    """The instruction set in use: "baseline", "avx2" or "avx512"."""
    return _cpu.isa()


def sources() -> dict[str, str]:
    """Kernel name -> "csrc/cpu/kernels/file.cpp:line", where it is defined."""
    where = _cpu.sources()
    convs = {f"{kernel}_moments": where[kernel] for kernel in ("conv", "conv_transpose")}
    return {**where, **convs, "linear": where["matmul"]}


def set_winograd(enabled: bool) -> None:
    """See tinygen.set_winograd."""
    if not isinstance(enabled, bool):
        raise TypeError(f"set_winograd: expected True or False, got {enabled!r}")
    _cpu.set_winograd(enabled)


def get_winograd() -> bool:
    return _cpu.get_winograd()
