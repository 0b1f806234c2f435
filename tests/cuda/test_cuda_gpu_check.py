"""benchmarks.gpu_check, rehearsed on CuPy's stand-in: all sections run, write their files, and are not run again."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from on_device import upload

from benchmarks import gpu_check, gpu_report
from benchmarks.libraries import Tinygen
from tinygen.backends.cuda.device_array import DeviceArray, Namespace

ROOT = Path(__file__).resolve().parents[2]


def check(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.gpu_check", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)


@pytest.mark.emulated
def test_rehearsal(tmp_path):
    pytest.importorskip("torch")
    done = check("--rehearse", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu_check.json").read_text())
    for name in gpu_check.LIMITS:
        assert results[name]["passed"] is True, (name, results[name])
        assert f"{name}: passed" in done.stdout
    records = results["figures"]["contractions"]
    assert len(records) == 2 * 3 * 4 and all(r["deviation"] < 0.04 and r["share"] > 0 for r in records)
    assert (tmp_path / "gpu_contractions.png").exists() and (tmp_path / "gpu_steps.png").exists()
    summary = (tmp_path / "gpu_summary.txt").read_text()
    assert "failed: nothing\nmissing or incomplete: nothing" in summary
    assert "rehearsal_t, weight_grad, bfloat16: " in summary and "% of the ceiling" in summary
    assert "A REHEARSAL" in summary
    assert len(list(tmp_path.iterdir())) == 4  # few enough to carry away
    again = check("--rehearse", "--out", str(tmp_path), "--only", "primitives,ceilings")
    assert "primitives: passed, 1 of 1, 0 s" in again.stdout


BASE = np.arange(120.0).reshape(4, 5, 6)
VIEWS = {
    "whole": BASE,
    "strided": BASE[::2, 1:, ::3],
    "reversed": BASE[::-1, :, ::-2],
    "transposed": BASE.T,
    "partly reversed": BASE[1:3, ::-1].transpose(2, 0, 1),
    "broadcast": np.broadcast_to(BASE[1, :, 2:3], (3, 5, 6)),
    "a number, broadcast": np.broadcast_to(7.0, (2, 3)),
    "no dimension": BASE[1, 2, 3],
    "empty": BASE[:, 2:2, ::-1],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_reach_the_device_as_views(name):
    view = np.asarray(VIEWS[name])
    there = upload(view, Namespace())
    assert isinstance(there, DeviceArray) and there.shape == view.shape and there.dtype == view.dtype
    np.testing.assert_array_equal(there.get(), view)
    if view.size:
        assert there.strides == view.strides


PLANTED = """
    import os, sys, time
    from benchmarks import gpu_check

    class Check:
        def __init__(self, rehearse, seconds):
            self.end, self.broken = time.monotonic() + seconds, False
        left = property(lambda self: self.end - time.monotonic())
        def is_broken(self):
            return self.broken

    def primitives(check):
        def breaks():
            check.broken = True
            raise RuntimeError("an illegal memory access")
        def wants_a_working_gpu():
            return {"passed": not check.broken}
        return {"good": lambda: {"passed": True}, "raises": lambda: 1 / 0, "breaks": breaks,
                "next": wants_a_working_gpu, "dies": lambda: os._exit(7), "skipped": lambda: {"passed": None},
                "hangs": lambda: time.sleep(60), "late": lambda: {"passed": True}}

    gpu_check.Check, gpu_check.primitives = Check, primitives
    sys.exit(gpu_check.main())
"""


@pytest.mark.emulated  # it waits for one that hangs
def test_nothing_that_fails_loses_the_rest(tmp_path, capsys):
    program = tmp_path / "planted.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + textwrap.dedent(PLANTED))
    results = gpu_check.Results(tmp_path, "primitives", {"sources": gpu_check.sources(), "rehearsal": False})
    results.save()
    gpu_check.run_section(results, [sys.executable, str(program), "--worker", "primitives", "--out", str(tmp_path)], 15)
    content = json.loads((tmp_path / "gpu_check.json").read_text())["primitives"]
    assert {name: r["passed"] for name, r in content["items"].items()} == {
        "good": True, "raises": False, "breaks": False, "next": True, "dies": False, "skipped": None, "hangs": False,
    }  # fmt: skip
    assert content["passed"] is False and "late" in content["wanted"]
    assert "ended with 7" in content["items"]["dies"]["error"] and "out of time" in content["items"]["hangs"]["error"]
    gpu_report.tell(content, 1)
    gpu_report.conclude(tmp_path, ["primitives", "steps"])
    said = capsys.readouterr().out
    assert "primitives: FAILED, 2 of 8" in said and "raises: ZeroDivisionError: division by zero" in said
    assert "failed: primitives: raises, primitives: breaks, primitives: dies, primitives: hangs" in said
    assert "missing or incomplete: steps" in said
    results = gpu_check.Results(tmp_path, "primitives", {"sources": gpu_check.sources(), "rehearsal": False})
    results.forget_failures()
    assert list(results.items) == ["good", "next"]


def test_a_section_that_cannot_start_has_failed(tmp_path):
    results = gpu_check.Results(tmp_path, "steps", {"sources": None})
    results.save()
    gpu_check.run_section(results, [sys.executable, "-c", "raise SystemExit(1)"], 12)
    assert results.content["passed"] is False and "ended with 1" in results.items["start"]["error"]


def test_tests_that_were_all_skipped_have_not_passed(tmp_path):
    file = tmp_path / "test_nothing.py"
    file.write_text("import pytest\n\n@pytest.mark.skip\ndef test_it(): pass\n")
    check = object.__new__(gpu_check.Check)
    check.end = time.monotonic() + 60
    result = check.pytest(str(file))
    assert result["passed"] is False and "0 tests passed, at least 1 must" in result["error"]
    assert "1 skipped" in result["error"]


def test_the_kernel_tests_that_matter_most_are_among_those_selected():
    """'not reference' once left out every test whose own name ends in "reference"."""
    command = [sys.executable, "-m", "pytest", *gpu_check.TABLE_TESTS, "-o", "addopts=", "--collect-only", "-q"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100).stdout.splitlines()
    tests = [line for line in found if "::" in line]
    assert len(tests) >= gpu_check.TABLE_LEAST and all("cuda" in line.partition("::")[2] for line in tests)
    for name in ("test_against_reference", "test_three_steps_equal_the_reference"):
        assert any(f"::{name}[" in line for line in tests), name


def test_a_rival_hears_of_every_step():
    """PyTorch's CUDA graphs may write over what the last step returned, once they are told that another begins."""

    class Counting(Tinygen):
        begun = 0

        def begin_step(self):
            self.begun += 1

        def compiled(self, function):
            return lambda *inputs: (at.append(self.begun), function(*inputs))[1]

    at: list[int] = []
    Counting(1).step("mlp_ae", small=True)
    assert at == [1, 2, 3]


def test_shares_of_the_ceilings_and_the_faster_engine():
    record = lambda engine, seconds: {"pass": "forward", "engine": engine, "seconds": seconds, "torch_seconds": 2.0}
    layer = {"flops": 1e12, "bytes": 1e9, "records": [record("float32", 4.0), record("float32 by 3 x tf32", 2.0)]}
    ceilings = {n: {"passed": True, "per_second": v} for n, v in (("float32", 5e11), ("tf32", 3e12), ("bytes", 1e9))}
    contents = {"ceilings": {"items": ceilings}, "contractions": {"items": {"layer": layer}}}
    simt, triple = gpu_report.contractions_of(contents)
    assert (simt["ratio"], triple["ratio"]) == (0.5, 1.0)
    assert math.isclose(simt["share"], 0.5) and math.isclose(triple["share"], 0.5)  # 2 s of 4, 1 s of 2
    assert "TINYGEN_CUDA_FLOAT32=tf32x3" in gpu_report.fastest_single([simt, triple])[0]


@pytest.mark.emulated
def test_without_a_gpu_it_says_what_is_missing():
    done = check("--only", "primitives")
    assert done.returncode != 0
    assert "tinygen[cuda13]" in done.stderr or "passed" in done.stdout
