"""benchmarks.gpu_check, rehearsed on the emulator: all sections run, write their files, and are not run again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.emulated


def check(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.gpu_check", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)


def test_rehearsal(tmp_path):
    pytest.importorskip("torch")
    done = check("--rehearse", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("primitives", "kernels", "models", "sanitizer", "ceilings", "tour", "contractions", "steps"):
        result = json.loads((tmp_path / f"gpu_{name}.json").read_text())
        assert result["passed"] is True, (name, result)
        assert f"{name}: passed" in done.stdout
    records = json.loads((tmp_path / "gpu_contractions.json").read_text())["records"]
    assert len(records) == 2 * 3 * 4 and all(r["deviation"] < 0.04 for r in records)
    assert (tmp_path / "gpu_contractions.png").exists()
    again = check("--rehearse", "--out", str(tmp_path), "--only", "primitives,ceilings")
    assert "primitives: passed before" in again.stdout


def test_without_a_gpu_it_says_what_is_missing():
    done = check("--only", "primitives")
    assert done.returncode != 0
    assert "tinygen[cuda13]" in done.stderr or "passed" in done.stdout
