"""The .cu files for real GPUs, without one: nvcc's cubins within a budget of registers, and NVRTC as CuPy calls it.

The budget (tests/cuda/cuda_budget.json) holds, per architecture and kernel: registers, bytes of shared memory and bytes
spilled, as nvcc 13.0 counts them. A kernel over it fails; after a change that is meant:
PYTHONPATH=. python tests/test_cuda_compile.py. What the machine lacks is skipped: nvcc, its disassembler, or CuPy. No
driver is needed, pip has everything: cupy-cuda13x, and nvidia-cuda-nvrtc, -nvcc, -runtime, -cuobjdump and -nvdisasm.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path

import pytest

import tinygen
from tinygen.backends.cuda import sources

pytestmark = pytest.mark.emulated
ARCHITECTURES = ("75", "80", "90", "100")
BUDGET = Path(__file__).with_name("cuda_budget.json")
needs_nvcc = pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not installed")


@cache
def resources(architecture: str) -> dict[str, list[int]]:
    """"kernel" or "kernel double" -> [registers, bytes of shared memory, bytes spilled], from ptxas."""

    def compiled(job: tuple[str, str]) -> dict[str, list[int]]:
        file, kind = job
        command = ["nvcc", "-std=c++17", f"-arch=sm_{architecture}", "-cubin", "-ftz=true", "-Xptxas", "-v"]
        command += [*(["-DDOUBLE"] if kind else []), str(sources.folder() / file), "-o", os.devnull]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = {}
        for part in done.stderr.split("Compiling entry function '")[1:]:
            spilled = sum(map(int, re.findall(r"(\d+) bytes spill", part)))
            shared = re.search(r"(\d+) bytes smem", part)
            registers = int(re.search(r"Used (\d+) registers", part)[1])
            found[part.split("'")[0] + kind] = [registers, int(shared[1]) if shared else 0, spilled]
        return found

    jobs = product(sorted(set(sources.kernel_files().values())), ("", " double"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {name: used for found in pool.map(compiled, jobs) for name, used in found.items()}


@needs_nvcc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_stay_within_their_budget(architecture):
    budget, used = json.loads(BUDGET.read_text())[architecture], resources(architecture)
    assert used.keys() == budget.keys()
    over = {n: (v, budget[n]) for n, v in used.items() if any(a > b for a, b in zip(v, budget[n], strict=True))}
    assert not over, f"[registers, shared, spilled] over budget: {over}"
    assert not any(v[2] > 24 for n, v in used.items() if n.startswith("gemm"))  # and that only around the loop


@needs_nvcc
def test_every_kernel_is_compiled():
    names = {n.removesuffix(" double") for n in resources("90")}
    assert names == set(sources.kernel_files())


def nvrtc_compile(text: str, architecture: str, options: tuple) -> bytes:
    """The cubin, with exactly the options that cupy.RawModule adds."""
    from cupy._core import core
    from cupy_backends.cuda.libs import nvrtc

    own = core.assemble_cupy_compiler_options(options)
    every = (*own, "-ftz=true", f"-arch=sm_{architecture}", "--device-as-default-execution-space")
    program = nvrtc.createProgram(text, "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(program, every)
        return nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)


@pytest.mark.parametrize("architecture", ["75", "90"])  # what differs from nvcc is the front end, not the GPU
def test_nvrtc_compiles_what_cupy_will_be_given(architecture):
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc")
    for file, more in product(sorted(set(sources.kernel_files().values())), ((), ("-DDOUBLE",))):
        cubin = nvrtc_compile(sources.source(file), architecture, (*sources.OPTIONS, *more))
        assert cubin[:4] == b"\x7fELF"


def test_cupy_has_every_function_that_is_asked_of_xp():
    """What ops and optimizers call as `xp.name` must exist in CuPy, and not in NumPy alone."""
    cupy = pytest.importorskip("cupy")
    package = Path(tinygen.__file__).parent
    files = [f for pattern in ("*.py", "ops/*.py", "nn/*.py", "backends/cuda/*.py") for f in package.glob(pattern)]
    names = {n for f in files for n in re.findall(r"\bxp\.(\w+)", f.read_text())} - {"cuda"}
    assert len(names) > 10
    assert not sorted(n for n in names if not hasattr(cupy, n))


def test_a_source_holds_its_headers():
    text = sources.source("gemm_simt.cu")
    assert "#include" not in text and text.count("struct Gather {") == 1 and "cudacpu" in text


def hot_loop(sass: str) -> dict[str, Counter]:
    """Per kernel, the instructions of its longest loop by kind, from nvdisasm or cuobjdump."""
    loops = {}
    for part in sass.split("Function : ")[1:]:
        lines = re.findall(r"/\*([0-9a-f]{4,5})\*/\s+(?:@!?U?P\d+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);", part)
        code = [(int(at, 16), kind.split(".")[0], rest) for at, kind, rest in lines]
        best = (0, -1)
        for at, kind, rest in code:
            back = re.search(r"0x([0-9a-f]+)", rest)
            if kind == "BRA" and back and int(back[1], 16) < at and at - int(back[1], 16) > best[1] - best[0]:
                best = (int(back[1], 16), at)
        loops[part.split()[0]] = Counter(kind for at, kind, _ in code if best[0] <= at <= best[1])
    return loops


@needs_nvcc
@pytest.mark.skipif(
    not (shutil.which("cuobjdump") and shutil.which("nvdisasm")), reason="cuobjdump or nvdisasm is not installed"
)
def test_instructions_of_the_hot_loops(tmp_path, capsys):
    """Printed; judged are the share of multiplications, on which TUNING.md builds, and that nothing is spilled."""
    shares = {"gemm_simt": 0.6, "gemm_tf32": 0.07, "gemm_tf32x3": 0.085, "gemm_bf16": 0.045}
    for file, share in shares.items():
        unit = "FFMA" if file == "gemm_simt" else "HMMA"
        cubin = tmp_path / f"{file}.cubin"
        command = ["nvcc", "-std=c++17", "-arch=sm_90", "-cubin", sources.folder() / f"{file}.cu", "-o", cubin]
        subprocess.run(command, check=True, capture_output=True)
        sass = subprocess.run(["cuobjdump", "--dump-sass", cubin], capture_output=True, text=True, check=True).stdout
        for name, kinds in sorted(hot_loop(sass).items()):
            with capsys.disabled():
                print(f"\n{name}: {sum(kinds.values())} instructions, {dict(kinds.most_common(8))}", end="")
            assert kinds[unit] >= share * sum(kinds.values()) and kinds[unit] >= 16, name
            assert not kinds["LDL"] + kinds["STL"], name


if __name__ == "__main__":
    table = {a: dict(sorted(resources(a).items())) for a in ARCHITECTURES}
    rows = [f'"{a}": {{\n' + ",\n".join(f'  "{n}": {v}' for n, v in t.items()) + "\n}" for a, t in table.items()]
    BUDGET.write_text("{" + ",\n".join(rows) + "}\n")
