"""The text of the CUDA kernels: where csrc/cuda is, which file defines which kernel, a file with its headers in it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

OPTIONS = ("--std=c++17", "-lineinfo")  # of NVRTC


def folder() -> Path:
    """Where the .cu files are: inside the package where it was installed, beside it in a clone."""
    package = Path(__file__).resolve().parents[2]
    for place in (package / "csrc" / "cuda", package.parent / "csrc" / "cuda"):
        if (place / "device.h").is_file():
            return place
    raise ImportError(f"the CUDA sources are neither in {package} nor beside it; install tinygen from a wheel")


@cache
def kernel_files() -> dict[str, str]:
    """The .cu file that defines each kernel: KERNEL(threads, name, ...) or a macro like it."""
    return {
        name: path.name
        for path in sorted(folder().glob("*.cu"))
        for name in re.findall(r"^[A-Z]*_?KERNEL(?:_WITH)?\((?:\d+, |[A-Z]+, )+(\w+)", path.read_text(), re.MULTILINE)
    }


def source(name: str) -> str:
    """A .cu file with its headers in it: the key of CuPy's cache of compiled kernels does not see included files.

    Errors of the compiler, profilers and compute-sanitizer name file and line as they are in the folder.
    """
    seen = {"cudacpu.h"}

    def expand(file: str) -> list[str]:
        seen.add(file)
        lines = [f'#line 1 "{file}"']
        for number, line in enumerate((folder() / file).read_text().splitlines(), 1):
            included = re.fullmatch(r'#include "([\w/]+\.h)"', line)
            if included and included[1] not in seen:
                lines += [*expand(included[1]), f'#line {number + 1} "{file}"']
            else:
                lines.append("" if included or line == "#pragma once" else line)
        return lines

    return "\n".join(expand(name)) + "\n"
