"""Builds `tinygen._cpu`: every file of csrc/cpu/kernels three times (baseline, AVX2, AVX-512), everything else once.

The three copies live in namespaces of their own and are chosen at run time, so one build runs on every x86-64 machine.
A C++ compiler that works here must compile all of it without error; where there is none (or no Python headers), the
package is installed without the extension and computes with NumPy (`tinygen.backends.reference`). Settings:

    CXX               the compiler                             TINYGEN_JOBS      compilations at a time (default: cores)
    TINYGEN_SANITIZE  address,undefined or thread: build with sanitizers; how to run that is in csrc/cpu/README.md
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from glob import glob
from importlib.util import find_spec

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

CSRC = "csrc/cpu"
ISAS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"],
}
VECTOR_BYTES = {"baseline": 16, "avx2": 32, "avx512": 64}
X86 = platform.machine().lower() in ("x86_64", "amd64")

NOTICE = """
*******************************************************************************************************
 tinygen is installed WITHOUT its C++ kernels: {reason}.
 It works, on the NumPy reference backend, many times slower. For full speed install a C++17 compiler
 and Python's headers (Debian, Ubuntu: apt install g++ python3-dev; macOS: xcode-select --install),
 then install tinygen again.
*******************************************************************************************************
"""


def run(command: list[str]) -> str | None:
    """None if the command succeeds, else what it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return None if done.returncode == 0 else done.stdout


def compiles(command: list[str], program: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "probe.cpp")
        with open(source, "w") as file:
            file.write(program)
        return run([*command, "-c", source, "-o", os.path.join(folder, "probe.o")]) is None


VECTOR_PROBE = "typedef float v __attribute__((vector_size(16))); v f(v a) { return a + a; }"


def find_compiler() -> list[str] | None:
    """The command of a working C++ compiler with GCC's vector extensions (GCC or Clang), or None."""
    candidates = [os.environ.get("CXX"), sysconfig.get_config_var("CXX"), "g++", "c++", "clang++"]
    for candidate in filter(None, candidates):
        command = shlex.split(candidate)
        if shutil.which(command[0]) and compiles([*command, "-std=c++17", "-fPIC"], VECTOR_PROBE):
            return command
        if candidate == os.environ.get("CXX"):
            raise SystemExit(f"CXX={candidate}: not found, or cannot compile C++17; unset CXX or correct it")
    return None


def pybind11_headers() -> str:
    """The folder with pybind11's headers: the package's, or PyTorch's, which brings a copy."""
    try:
        import pybind11

        return pybind11.get_include()
    except ImportError:
        torch = find_spec("torch")
        if torch is None or not torch.submodule_search_locations:
            raise
        return os.path.join(torch.submodule_search_locations[0], "include")


class BuildKernels(build_ext):
    def run(self) -> None:
        self.compiler_command = find_compiler()
        self.python_headers = ["-I" + sysconfig.get_path(name) for name in ("include", "platinclude")]
        reason = None
        if self.compiler_command is None:
            reason = "no working C++17 compiler (GCC or Clang) was found"
        elif not compiles([*self.compiler_command, "-std=c++17", *self.python_headers], "#include <Python.h>"):
            reason = "Python's C headers (Python.h) were not found"
        if reason:
            print(NOTICE.format(reason=reason), file=sys.stderr, flush=True)
            for stale in glob(os.path.join(self.build_lib, "tinygen", "_cpu*")):  # of an earlier build, with a compiler
                os.remove(stale)
            self.extensions = self.distribution.ext_modules = []
        super().run()

    def build_extension(self, ext: Extension) -> None:
        cxx = self.compiler_command
        sanitize = os.environ.get("TINYGEN_SANITIZE", "")
        flags = ["-std=c++17", "-fPIC", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra", "-MMD", "-Icsrc"]
        if sanitize:
            flags += [
                "-O1",
                "-g",
                "-fno-omit-frame-pointer",
                f"-fsanitize={sanitize}",
                "-fno-sanitize-recover=undefined",
            ]
        else:
            flags += ["-O3", "-g0", "-DNDEBUG"]
        print(f"tinygen: compiler {' '.join(cxx)}", flush=True)
        headers = [*self.python_headers, "-isystem", pybind11_headers()]

        folder = os.path.join(self.build_temp, "sanitized" if sanitize else "plain")
        os.makedirs(folder, exist_ok=True)
        with one_build_at_a_time(folder):
            objects = self.compile_all(folder, [*cxx, *flags], headers, weak_allowed=bool(sanitize))
            output = self.get_ext_fullpath(ext.name)
            os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
            shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
            extra = ["-pthread", *(["-fsanitize=" + sanitize] if sanitize else [])]
            part = output + ".part"  # renamed when complete: a running Python keeps the file it has
            failure = run([*cxx, *shared, *extra, *objects, "-o", part])
            if failure is not None:
                raise SystemExit(f"tinygen: linking {output} failed\n{failure}")
            os.replace(part, output)

    def compile_all(self, folder: str, compiler: list[str], headers: list[str], weak_allowed: bool) -> list[str]:
        """The object files: kernels once per instruction set, the rest once; only what has changed is compiled."""
        jobs = []  # (command without source and object, source, folder of the object)
        for isa in ISAS if X86 else ["baseline"]:
            define = [f"-DTINYGEN_ISA={isa}", f"-DTINYGEN_VECTOR_BYTES={VECTOR_BYTES[isa]}"]
            for source in sorted(glob(f"{CSRC}/kernels/*.cpp")):
                jobs.append(([*compiler, *ISAS[isa], *define], source, os.path.join(folder, isa)))
        for source in sorted(glob(f"{CSRC}/*.cpp")):  # module.cpp includes all of bindings/
            # -O1: nothing here computes, and the optimizer's time on pybind11's templates would double the build
            jobs.append(([*compiler, "-O1", *headers, *(["-DTINYGEN_X86"] if X86 else [])], source, folder))

        def build(job: tuple[list[str], str, str]) -> str:
            command, source, where = job
            target = os.path.join(where, os.path.basename(source)[:-4] + ".o")
            command = [*command, "-c", source, "-o", target]
            if self.force or not up_to_date(target, command):
                os.makedirs(where, exist_ok=True)
                print("  " + os.path.relpath(target, folder), flush=True)
                failure = run(command)
                if failure is not None:
                    raise SystemExit(f"\n{shlex.join(command)}\n{failure}\ntinygen: {source} does not compile")
                if not weak_allowed and where != folder:
                    refuse_weak_symbols(target)
                with open(target + ".command", "w") as file:
                    file.write(shlex.join(command))
            return target

        # The long ones first, as many at a time as there are cores; module.cpp is the longest.
        jobs.sort(key=lambda job: -os.path.getsize(job[1]) - (1 << 20) * job[1].endswith("module.cpp"))
        with ThreadPoolExecutor(int(os.environ.get("TINYGEN_JOBS") or os.cpu_count() or 1)) as pool:
            futures = [pool.submit(build, job) for job in jobs]
            try:
                objects = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)  # the first error is enough
                raise
        return sorted(objects)


@contextmanager
def one_build_at_a_time(folder: str) -> Iterator[None]:
    """Two builds in one tree wait for each other."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up_to_date(target: str, command: list[str]) -> bool:
    """Whether `target` was made by this command and is newer than everything it was made from (its -MMD list)."""
    try:
        with open(target + ".command") as file:
            if file.read() != shlex.join(command):
                return False
        with open(target[:-2] + ".d") as file:
            sources = file.read().split(":", 1)[1].replace("\\\n", " ").split()
        return all(os.path.getmtime(s) <= os.path.getmtime(target) for s in sources)
    except OSError:
        return False


def refuse_weak_symbols(target: str) -> None:
    """Stops the build if a kernel object defines a weak symbol.

    Weak symbols (std:: templates, inline functions that were not inlined) are merged over all objects by the linker:
    the baseline could then call a copy that was compiled for AVX-512, and die on machines without it.
    """
    if not shutil.which("nm"):
        return
    listing = subprocess.run(["nm", "-C", target], stdout=subprocess.PIPE, text=True, errors="replace").stdout
    weak = [line for line in listing.splitlines() if line[17:18] in ("W", "V", "u") and "DW.ref" not in line]
    if weak:
        os.remove(target)
        names = "\n".join(weak)
        raise SystemExit(f"tinygen: {target} defines weak symbols; use no std templates in kernels:\n{names}")


class CopyCudaSources(build_py):
    """The CUDA kernels are compiled on the user's machine, at first use: a wheel carries their sources."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # found beside the package
        target = os.path.join(self.build_lib, "tinygen", "csrc", "cuda")
        os.makedirs(target, exist_ok=True)
        for source in glob("csrc/cuda/*.cu") + glob("csrc/cuda/*.h") + glob("csrc/cuda/*.cpp"):
            shutil.copy(source, target)


setup(
    ext_modules=[Extension("tinygen._cpu", sources=[])],
    cmdclass={"build_ext": BuildKernels, "build_py": CopyCudaSources},
)
