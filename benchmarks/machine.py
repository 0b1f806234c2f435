"""Where a measurement was made, and the environment that a contender's process is started with.

Three things that are fixed when a process starts change results more than any kernel does:
- malloc. By default glibc returns large buffers to the system and page-faults them back at each call, up to 7x on
  single ops. `default` is what users run; `tuned` keeps the pages (and asks for huge ones): kernel against kernel.
- OPENBLAS_CORETYPE. Exported by some environments, it pins NumPy's BLAS to an old core and can halve it: removed, and
  the output says so.
- the instruction set: to compare AVX2 with AVX2, both sides are held to it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

TUNED_MALLOC = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {"hugetlb": 1, "mmap_threshold": 1 << 32, "trim_threshold": 1 << 33, "top_pad": 1 << 28}.items()
)
REMOVED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "GLIBC_TUNABLES", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "TINYGEN_CPU")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
TORCH_ISA = {  # ATen's kernels, oneDNN's, MKL's
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "baseline": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "DNNL_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
BLAS_ISA = {"avx2": "Haswell", "baseline": "Nehalem"}


def removed_environment() -> dict[str, str]:
    """The variables that would have changed the contenders, and are not handed to them."""
    return {name: os.environ[name] for name in REMOVED if name in os.environ}


def environment(threads: int, isa: str = "", tuned_malloc: bool = False, library: str = "tinygen") -> dict[str, str]:
    """The environment of a contender: no inherited tuning, `threads` threads, instruction set `isa` ("": the best)."""
    env = {name: value for name, value in os.environ.items() if name not in REMOVED}
    env |= dict.fromkeys(THREADS, str(threads))
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if tuned_malloc:
        env["GLIBC_TUNABLES"] = TUNED_MALLOC
    if isa and library == "tinygen":
        env["TINYGEN_CPU"] = isa
    if isa in BLAS_ISA:
        env |= {"OPENBLAS_CORETYPE": BLAS_ISA[isa]} if library == "tinygen" else TORCH_ISA[isa]
    return env


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_seconds(stat: str | None = None) -> float | None:
    """Idle time of the cores that this process may use, together (/proc/stat, to 10 ms); None where unknown."""
    try:
        lines = (Path("/proc/stat").read_text() if stat is None else stat).splitlines()
        mine = os.sched_getaffinity(0)
        # cpu<i> user nice system idle iowait ...
        found = [row[4:6] for row in map(str.split, lines) if row and row[0][3:].isdigit() and int(row[0][3:]) in mine]
        return sum(int(ticks) for row in found for ticks in row) / os.sysconf("SC_CLK_TCK") if found else None
    except (OSError, AttributeError, ValueError):
        return None


def has_glibc() -> bool:
    """Whether malloc can be tuned by GLIBC_TUNABLES."""
    return platform.libc_ver()[0] == "glibc"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(re.findall(r"^(model name|cpu family|model)\s*:\s*(.+)$", text, re.M))
    name = re.sub(r"\((R|TM)\)|@.*", "", found.get("model name", platform.machine())).strip()
    if "family" not in name and not re.search(r"\d", name):  # a virtual machine that hides the name
        name += f" family {found.get('cpu family', '?')} model {found.get('model', '?')}"
    return re.sub(r"\s+", " ", name)


def _memory_gib() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError, AttributeError):
        return None


@functools.cache
def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory and system."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "system": platform.platform(terse=True),
    }


def slug(described: dict[str, Any] | None = None) -> str:
    """The machine as a folder's name: amd-epyc-9b45-2-cores."""
    described = described or machine()
    return re.sub(r"[^a-z0-9]+", "-", f"{described['processor']} {described['cores']} cores".lower()).strip("-")


@functools.cache
def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that are compared."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("tinygen", "numpy", "torch"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    if found["tinygen"] is None:
        import tinygen

        found["tinygen"] = tinygen.__version__
    return found


@functools.cache
def commit() -> str | None:
    """The commit that is checked out, with a + where sources differ from it; None outside a clone."""
    ask = lambda *words: subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        changed = ask("status", "--porcelain", "--untracked-files=no", "--", "tinygen", "csrc", "benchmarks/*.py")
        return ask("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def refuse_reference(device: str, isa: str = "") -> None:
    """Ends the program unless `device` runs tinygen's compiled kernels: a time of the NumPy oracle says nothing."""
    import tinygen

    oracle = "benchmarks: the reference backend is an oracle in plain NumPy and is never timed: "
    if isa == "reference":
        sys.exit(oracle + "unset TINYGEN_CPU, or give --isa baseline, avx2 or avx512")
    if device not in ("cpu", "cuda"):
        sys.exit(
            f"benchmarks: times of device {device!r} mean nothing or cannot be had; use --device cpu or --device cuda"
        )
    try:
        kernels = tinygen.device(device).kernels
    except (ValueError, RuntimeError) as error:
        sys.exit(f"benchmarks: {error}")
    if kernels.name == "reference":
        sys.exit(oracle + "tinygen._cpu is not built here; install a C++17 compiler and run pip install -e . again")
