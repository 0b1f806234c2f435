"""The emulator finds mistakes: one of each class is planted (planted.cu), and its report expected.

What values show and what the scheduler reports is checked here and now; AddressSanitizer, UndefinedBehaviorSanitizer
and ThreadSanitizer need processes of their own.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygen.backends.cuda import emulated

PLANTED = Path(__file__).with_name("planted.cu")
SEEDS = range(4)


def run(kernel: str, blocks: int = 1, size: int = 1024) -> np.ndarray:
    x, y = np.arange(1, 65, dtype=np.float32), np.full(size, np.nan, np.float32)
    emulated.Library(PLANTED)[kernel]((blocks,), (64,), (x, y))
    return y[:64]


def expected(kernel: str) -> np.ndarray:
    x = np.arange(1, 65, dtype=np.float32)
    if "copy" in kernel:
        return np.roll(x, -1)
    return 3 * (np.roll(x, -1) + np.roll(x, -2)) if "barrier" in kernel or kernel == "sound" else x


@pytest.fixture
def every_seed():
    yield SEEDS
    emulated.set_seed(0)


@pytest.mark.parametrize("kernel", ["sound", "sound_copy"])
def test_a_sound_kernel_is_right_in_every_order(kernel, every_seed):
    for seed in every_seed:
        emulated.set_seed(seed)
        np.testing.assert_array_equal(run(kernel), expected(kernel))


@pytest.mark.parametrize(
    "kernel",
    ["no_barrier_before_reading", "no_barrier_before_writing_again", "no_wait_for_a_copy", "no_barrier_after_a_copy",
     "unwritten_result"],
)  # fmt: skip
def test_a_wrong_value_shows(kernel, every_seed):
    wrong = []
    for seed in every_seed:
        emulated.set_seed(seed)
        wrong.append(not np.array_equal(run(kernel), expected(kernel)))
    assert any(wrong), "right in every order: the mistake was not seen"


@pytest.mark.parametrize(
    "kernel, report",
    [
        ("return_before_a_barrier", "not reached by all threads: 1 of them have returned"),
        ("two_barriers", "different __syncthreads"),
        ("shuffle_of_half_a_warp", "deadlock|a warp collective of lanes"),
        ("mask_of_half_a_warp", "a warp collective of lanes 0000ffff"),
        ("copy_never_awaited", "returned before waiting for its asynchronous copies"),
        ("block_too_large", "64 threads in a block, the kernel is made for 32"),
    ],
)
def test_the_scheduler_reports(kernel, report, every_seed):
    for seed in every_seed:
        emulated.set_seed(seed)
        with pytest.raises(emulated.LaunchError, match=report):
            run(kernel)
    emulated.set_seed(0)
    np.testing.assert_array_equal(run("sound"), expected("sound"))  # a report leaves nothing behind


def test_arguments_are_checked():
    kernel, x = emulated.Library(PLANTED)["sound"], np.zeros(64, np.float32)
    with pytest.raises(emulated.LaunchError, match="takes 2 arguments, got 1"):
        kernel((1,), (64,), (x,))
    with pytest.raises(emulated.LaunchError, match="argument 2 should be an array of float32, got float64"):
        kernel((1,), (64,), (x, np.zeros(64)))


# ---------------------------------------------------------------- sanitizers, in a process each

needs_sanitizers = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("g++"), reason="g++ on x86-64 only"
)
PRELOAD = {"address": ["libasan.so", "libubsan.so"], "thread": ["libtsan.so"]}


def sanitized(mode: str, *arguments: str, timeout: int = 600) -> subprocess.CompletedProcess:
    """`python arguments...` with kernels compiled for a sanitizer, which is loaded before all else."""
    paths = [subprocess.run(["g++", f"-print-file-name={n}"], capture_output=True, text=True).stdout.strip()
             for n in PRELOAD[mode]]  # fmt: skip
    env = {
        **os.environ,
        "TINYGEN_EMULATED": mode,
        "LD_PRELOAD": " ".join(paths),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1",
        "PYTHONPATH": os.pathsep.join([str(PLANTED.parent), *sys.path]),
        "PYTHONMALLOC": "malloc",  # arrays get blocks of their own size
        "OPENBLAS_NUM_THREADS": "1",
    }
    # ThreadSanitizer maps memory at fixed places: without address randomisation
    prefix = ["setarch", platform.machine(), "-R"] if mode == "thread" else []
    return subprocess.run(
        [*prefix, sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=timeout
    )


@needs_sanitizers
@pytest.mark.parametrize(
    "mode, kernel, report",
    [
        ("address", "past_shared_memory", "index 63 out of bounds|heap-buffer-overflow"),
        ("address", "past_a_global_array", "heap-buffer-overflow"),
        ("address", "misaligned_vector", "misaligned address"),
        ("thread", "no_barrier_before_reading", "data race"),
        ("thread", "no_barrier_before_writing_again", "data race"),
        ("thread", "no_barrier_after_a_copy", "data race"),
        ("thread", "threads_share_a_counter", "data race"),
        ("thread", "blocks_share_a_cell", "data race"),
        ("address", "sound", ""),
        ("address", "sound_copy", ""),
        ("thread", "sound", ""),
        ("thread", "sound_copy", ""),
    ],
)
def test_a_sanitizer_reports(mode, kernel, report):
    blocks = 2 if kernel == "blocks_share_a_cell" else 1
    program = f"import test_cuda_emulator as t; t.emulated.set_seed(1); t.run({kernel!r}, blocks={blocks})"
    done = sanitized(mode, "-c", program)
    if not report:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode != 0
    assert any(text in done.stderr for text in report.split("|")), done.stderr[-3000:]
    assert "planted.cu" in done.stderr
