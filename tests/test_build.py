"""The build and the choice of kernels: TINYGEN_CPU, sources, threads, and installing without a compiler."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tinygen.backends import reference
from tinygen.backends.cuda import sources as cuda_sources
from tinygen.backends.geometry import Geometry

ROOT = Path(__file__).resolve().parent.parent
_cpu = pytest.importorskip("tinygen._cpu", reason="built without a compiler")
cpu = pytest.importorskip("tinygen.backends.cpu")

GEOMETRY = Geometry((3, 20, 9, 11), (40, 20, 3, 3), (3, 40, 5, 6), (2, 2), (1, 1), (1, 1))


def operands(dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s).astype(dtype) for s in (GEOMETRY.x_shape, GEOMETRY.w_shape, GEOMETRY.y_shape)]


def python(code, **env):
    """The finished process of `python -c code` with these environment variables added."""
    full = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run([sys.executable, "-c", code], env=full, capture_output=True, text=True)


@pytest.fixture
def keep_settings():
    isa, threads = _cpu.isa(), _cpu.get_num_threads()
    yield
    _cpu.select(isa)
    cpu.set_num_threads(threads)


@pytest.mark.parametrize("isa", _cpu.isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_instruction_set_computes_the_reference(keep_settings, isa, dtype):
    _cpu.select(isa)
    assert cpu.isa() == isa
    x, w, y = operands(dtype)
    for got, expected in [
        (cpu.conv(x, w, GEOMETRY), reference.conv(x, w, GEOMETRY)),
        (cpu.conv_transpose(y, w, GEOMETRY), reference.conv_transpose(y, w, GEOMETRY)),
        (cpu.conv_weight(x, y, GEOMETRY), reference.conv_weight(x, y, GEOMETRY)),
        (cpu.sigmoid(x), reference.sigmoid(x)),
    ]:
        assert np.abs(expected).max() > 0.5
        error = np.abs(got - expected).max() / np.abs(expected).max()
        assert error < (2e-5 if dtype == np.float32 else 1e-13)


def test_instruction_sets_differ_only_in_rounding_but_are_different_code(keep_settings):
    if len(_cpu.isas()) < 2:
        pytest.skip("this machine has only the baseline")
    x, w, _ = operands()
    results = []
    for isa in _cpu.isas():
        _cpu.select(isa)
        results.append(cpu.conv(x, w, GEOMETRY))
    assert not np.array_equal(results[0], results[-1])  # fused multiply-adds round once: the baseline has none


def test_tinygen_cpu_selects_the_kernels():
    done = python("from tinygen.backends import device; print(device('cpu').kernels.isa())", TINYGEN_CPU="baseline")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "baseline"


def test_an_unknown_tinygen_cpu_names_the_legal_values():
    done = python("from tinygen.backends import device; device('cpu')", TINYGEN_CPU="sse9")
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert "TINYGEN_CPU='sse9'" in message and "reference" in message
    for isa in _cpu.isas():
        assert isa in message
    with pytest.raises(ValueError, match="no such instruction set"):
        _cpu.select("sse9")


def test_omp_num_threads_is_the_default():
    done = python("from tinygen.backends import cpu; print(cpu.get_num_threads())", OMP_NUM_THREADS="3")
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.parametrize("value", ["99999999999999999999", "9" * 5000, "²", "-3", "0", "many", "1e9", ""])
def test_an_omp_num_threads_that_is_no_count_does_not_break_the_import(value):
    done = python("from tinygen.backends import cpu; print(cpu.get_num_threads())", OMP_NUM_THREADS=value)
    assert 1 <= int(done.stdout) <= 4 * os.cpu_count(), done.stderr


def test_threads_are_bounded_by_the_machine(keep_settings):
    for count in (10**9, 10**30):
        cpu.set_num_threads(count)
        assert cpu.get_num_threads() == 4 * os.cpu_count()
    x, w, _ = operands()
    assert np.isfinite(cpu.conv(x, w, GEOMETRY)).all()


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="no /proc here")
def test_threads_above_a_lowered_count_end():
    code = """
import os
import numpy as np
from tinygen import _cpu
from tinygen.backends import cpu
x = np.ones((4, 1 << 18), np.float32)
own = len(os.listdir("/proc/self/task"))
expected = cpu.sigmoid(x)
for count in (3, 1, 4, 2, 2, 3):
    _cpu.set_num_threads(count)  # not cpu's: the threads of NumPy's BLAS stay
    assert np.array_equal(cpu.sigmoid(x), expected)
    print(len(os.listdir("/proc/self/task")) - own - (count - 1), end=" ")
    _cpu.set_num_threads(1)
    print(len(os.listdir("/proc/self/task")) - own, end=" ")
"""
    done = python("import os; os.environ['OMP_NUM_THREADS'] = '1'" + code)
    assert done.returncode == 0 and done.stdout.split() == ["0"] * 12, done.stdout + done.stderr


def test_sources_point_at_the_definitions():
    places = _cpu.sources()
    assert {"conv", "conv_transpose", "conv_weight"} <= set(places)
    for kernel, where in places.items():
        file, line = where.split(":")
        text = (ROOT / file).read_text().splitlines()[int(line) - 1]
        assert re.match(rf"TINYGEN_KERNEL\({kernel}\b", text), (where, text)


def test_a_number_of_threads_gives_the_same_bits(keep_settings):
    x, w, y = operands()
    results = {}
    for threads in (1, 2, 3):
        cpu.set_num_threads(threads)
        first, second = cpu.conv_weight(x, y, GEOMETRY), cpu.conv_weight(x, y, GEOMETRY)
        assert np.array_equal(first, second)
        results[threads] = cpu.conv(x, w, GEOMETRY), cpu.conv_transpose(y, w, GEOMETRY)
    for threads in (2, 3):  # these two sum every output in one order, whatever the threads
        for one, many in zip(results[1], results[threads]):
            assert np.array_equal(one, many)


def test_several_callers_at_once_get_the_bits_that_one_gets(keep_settings):
    """The GIL is released in kernels: Python threads meet in the one set of workers, more of them than cores too."""
    x, w, y = operands()
    for threads in (2, 5):
        cpu.set_num_threads(threads)
        alone = cpu.conv_weight(x, y, GEOMETRY), cpu.conv(x, w, GEOMETRY)
        with ThreadPoolExecutor(4) as callers:
            calls = [
                callers.submit(lambda: (cpu.conv_weight(x, y, GEOMETRY), cpu.conv(x, w, GEOMETRY))) for _ in range(40)
            ]
            for call in calls:
                assert all(map(np.array_equal, alone, call.result(timeout=120)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_with_threads_of_its_own():
    """It has none of its parent's workers, and must not wait for them; another thread of the parent is in a kernel."""
    code = """
import os, signal, threading
import numpy as np
from tinygen.backends import cpu
cpu.set_num_threads(2)
x = np.ones((4, 1 << 18), np.float32)
expected = cpu.sigmoid(x)
done = False
def work():
    while not done:
        cpu.sigmoid(x)
other = threading.Thread(target=work)
other.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # it must not outlive a test that has given up waiting
        same = np.array_equal(cpu.sigmoid(x), expected)
        os._exit(10 * same + len(os.listdir("/proc/self/task")) if os.path.exists("/proc") else 12)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done = True
other.join()
"""
    full = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=full, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["12"] * 10, done.stderr


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_set_num_threads_refuses_what_is_no_count(count):
    with pytest.raises(ValueError, match="set_num_threads: expected an integer of at least 1"):
        cpu.set_num_threads(count)


def test_dtypes_are_refused_by_name():
    x, w, _ = operands()
    with pytest.raises(TypeError, match="conv: expected float32 or float64, got int32"):
        cpu.conv(x.astype(np.int32), w, GEOMETRY)
    with pytest.raises(TypeError, match="conv: arrays of float32 and float64"):
        cpu.conv(x, w.astype(np.float64), GEOMETRY)
    with pytest.raises(TypeError, match="expected dtype float32, got float64"):
        prepared = cpu.contraction._geometry(GEOMETRY)
        _cpu.conv(prepared, x, w.astype(np.float64), None, np.empty(GEOMETRY.y_shape, np.float32))


def test_any_layout_is_accepted():
    x, w, y = operands()
    laid_out = np.asfortranarray(x), w.transpose(1, 0, 3, 2).copy().transpose(1, 0, 3, 2), y[:, ::-1][:, ::-1]
    assert not any(a.flags.c_contiguous for a in laid_out[:2])
    assert np.array_equal(cpu.conv(laid_out[0], laid_out[1], GEOMETRY), cpu.conv(x, w, GEOMETRY))
    assert np.array_equal(cpu.conv_weight(laid_out[0], laid_out[2], GEOMETRY), cpu.conv_weight(x, y, GEOMETRY))


def test_freed_arrays_are_kept_unless_the_environment_says_otherwise():
    """Counted in page faults: a 3 MB array that is freed and allocated again costs 750 unless it is kept."""
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        pytest.skip("malloc is not glibc's")
    code = """
import resource
import numpy as np
from tinygen import _cpu
x = np.ones((3, 1 << 18), np.float32)
faults = []
for _ in range(20):
    y = x + x
    z = y * x
    del y, z
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[4])
"""
    kept, default = (int(python(code, TINYGEN_MALLOC=wish).stdout) for wish in ("", "default"))
    assert default > 5000
    assert kept < default / 10


LARGE = 3 << 20  # bytes; more than NumPy's arrays need to come from csrc/cpu/memory.cpp
HANDLER = """
import numpy as np
try:
    from numpy._core.multiarray import get_handler_name
except ImportError:
    from numpy.core.multiarray import get_handler_name
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory.cpp is for Linux")
def test_large_arrays_are_ours_unless_the_environment_says_otherwise():
    code = HANDLER + "old = np.ones(3 << 20, np.int8); import tinygen._cpu\n"
    code += "print(get_handler_name(old), get_handler_name(old + old))"
    assert python(code).stdout.split() == ["default_allocator", "tinygen"]
    assert python(code, TINYGEN_MALLOC="default").stdout.split() == ["default_allocator"] * 2


def test_large_arrays_are_zeroed_resized_and_outlive_what_made_them():
    for size in (LARGE, 17 * LARGE):
        dirty = np.full(size, 7, np.int8)
        address = dirty.ctypes.data
        view = dirty[5:10]
        del dirty
        assert view.tolist() == [7] * 5
        del view
        zeros = np.zeros(size, np.int8)
        assert not zeros.any()
        if sys.platform == "linux":
            assert zeros.ctypes.data == address  # it was kept, and had to be zeroed
    for before, after in [(100, LARGE), (LARGE, 100), (LARGE, 2 * LARGE), (2 * LARGE, LARGE), (LARGE, LARGE + 4096)]:
        a = np.arange(before, dtype=np.int8)
        expected = a.copy()
        a.resize(after, refcheck=False)  # NumPy's realloc; what is new is zero
        np.testing.assert_array_equal(a[:before], expected[:after])
        assert not a[before:].any()


def test_large_arrays_come_and_go_between_threads():
    def work(seed):
        made = np.full(LARGE + 4096 * seed, seed, np.int8)
        return made.sum(dtype=np.int64), made

    arrays = [np.full(LARGE + 4096 * i, i, np.int8) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda i: arrays.pop().sum(dtype=np.int64), range(4)))  # freed by another thread
        results = list(pool.map(work, range(40)))  # allocated by another
    assert sorted(sums) == [i * (LARGE + 4096 * i) for i in range(4)]
    assert all((made == i).all() and total == i * made.size for i, (total, made) in enumerate(results))


@pytest.mark.skipif(sys.platform != "linux", reason="memory.cpp is for Linux")
def test_kept_memory_is_a_quarter_of_the_most_that_was_live():
    code = """
import numpy as np, tinygen._cpu
def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
before, most = resident(), 0.0
for megabytes in range(40, 240, 10):  # no two of a size
    a = np.ones(megabytes << 20, np.int8)
    most = max(most, resident() - before)
    del a
print(round(most), round(resident() - before))
"""
    most, rest = map(int, python(code).stdout.split())
    assert 230 <= most <= 1.25 * 230 + 20
    assert rest <= 1.25 * 230 + 20


# Installing -----------------------------------------------------------------------------------------------------------


def build(folder, **env):
    """The finished process of `setup.py build_ext` in `folder`."""
    full = {k: v for k, v in os.environ.items() if k not in ("CXX", "TINYGEN_SANITIZE")}
    command = [sys.executable, "setup.py", "build_ext"]
    return subprocess.run(command, cwd=folder, env={**full, **env}, capture_output=True, text=True)


@pytest.fixture
def project(tmp_path):
    """A copy of the build files with one trivial kernel file, so that a build that is meant to fail fails at once."""
    pytest.importorskip("setuptools")
    for file in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "README.md").write_text("")
    kernels = tmp_path / "csrc" / "cpu" / "kernels"
    kernels.mkdir(parents=True)
    (kernels / "one.cpp").write_text("static int one() { return 1; }\nint two() { return 2 * one(); }\n")
    return tmp_path


def test_without_a_compiler_the_build_succeeds_and_says_so(project):
    done = build(project, PATH="")
    assert done.returncode == 0, done.stderr
    assert "WITHOUT its C++ kernels: no working C++17 compiler" in done.stderr and "reference" in done.stderr
    assert not list(project.rglob("*.so"))


def test_a_wrong_cxx_is_an_error_not_a_silent_fallback(project):
    done = build(project, CXX="/nonexistent/g++")
    assert done.returncode != 0
    assert "CXX=/nonexistent/g++" in done.stderr


def test_with_a_compiler_a_failing_build_is_an_error(project):
    pytest.importorskip("pybind11")
    if not shutil.which("g++") and not shutil.which("c++"):
        pytest.skip("no compiler")
    (project / "csrc" / "cpu" / "kernels" / "one.cpp").write_text("int broken( { }\n")
    done = build(project)
    assert done.returncode != 0
    assert "one.cpp does not compile" in done.stderr


def test_a_kernel_file_with_weak_symbols_is_refused(project):
    """Weak symbols are merged over instruction sets by the linker: the baseline could end up executing AVX-512."""
    pytest.importorskip("pybind11")
    if not (shutil.which("g++") or shutil.which("c++")) or not shutil.which("nm"):
        pytest.skip("no compiler or no nm")
    (project / "csrc" / "cpu" / "kernels" / "one.cpp").write_text(
        "template <class T> __attribute__((noinline)) T twice(T a) { return a + a; }\n"
        "int two(int a) { return twice(a); }\n"
    )
    done = build(project)
    assert done.returncode != 0
    assert "defines weak symbols" in done.stderr


def test_a_wheel_carries_the_cuda_sources(project):
    """Installed without the clone beside it, the backend finds every kernel's file in the package."""
    pytest.importorskip("setuptools")
    shutil.copytree(ROOT / "tinygen", project / "tinygen", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copytree(ROOT / "csrc" / "cuda", project / "csrc" / "cuda")
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(project / "site")]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = "from tinygen.backends.cuda import sources; print(sources.folder(), *sorted(sources.kernel_files()))"
    command = [sys.executable, "-S", "-c", code]  # -S: an editable install would lend its package
    libraries = os.pathsep.join([str(project / "site"), *sys.path])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": libraries}, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder, *names = done.stdout.split()
    assert folder == str(project / "site" / "tinygen" / "csrc" / "cuda")
    assert names == sorted(cuda_sources.kernel_files()) and len(names) > 50
    weights = project / "site" / "tinygen" / "recipes" / "weights"  # data of the package, like the frozen networks
    assert {"vae-d2.npz", "vae-d2.json"} <= {path.name for path in weights.iterdir()}
