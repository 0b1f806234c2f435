"""What is free is told, what needs more is refused in words, and an array that does not fit raises at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tinygen import free_memory
from tinygen.errors import UserError


def test_what_is_free_is_at_most_what_the_machine_has():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    free = free_memory.available()
    assert free is not None and 0 < free <= total + 2**40


def test_a_container_may_have_less(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("3000000\n")
    (tmp_path / "current").write_text("1000000\n")
    monkeypatch.setattr(free_memory, "CGROUPS", ((str(tmp_path / "max"), str(tmp_path / "current")), ("no", "file")))
    assert free_memory.available() == 2_000_000
    (tmp_path / "max").write_text("max\n")
    assert free_memory.available() > 2_000_000


def test_what_needs_more_is_refused_with_all_numbers(monkeypatch):
    monkeypatch.setattr(free_memory, "available", lambda: 5_000_000)
    free_memory.require(5_000_000, "x", "y")
    words = r"images \(9, 1\): 7\.2 GB of memory are needed, 5\.0 MB are free; less"
    with pytest.raises(UserError, match=words) as error:
        free_memory.require(7.2e9, "images (9, 1)", "less")
    assert isinstance(error.value, MemoryError)
    monkeypatch.setattr(free_memory, "available", lambda: None)
    free_memory.require(1e30, "x", "y")


def test_within_the_limit_an_array_that_does_not_fit_raises_at_once():
    code = """
import resource
import numpy as np
from tinygen import free_memory
before = resource.getrlimit(resource.RLIMIT_DATA)
free_memory.available = lambda: 50 << 20
try:
    with free_memory.limited():
        np.ones(2 << 20)
        arrays = [np.ones(8 << 20) for _ in range(9)]
except MemoryError as error:
    assert "(8388608,)" in str(error)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    np.ones(30 << 20)
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr
