"""What all tests share: repeatable random numbers, no state carried from test to test, and no silent skip in CI.

With CI=true a skipped test is a failed one: what continuous integration does not run, nobody runs.
"""

from __future__ import annotations

import os
import signal
import sys

if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests under nohup: what they start hears of closed terminals

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib: pictures are drawn without a screen

import numpy as np
import pytest

import tinygen as tg
from tinygen import tape

IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

if os.environ.get("TINYGEN_TEST_KERNELS") == "cuda-emulated":  # every test on the CUDA kernels, run by the emulator
    from tinygen.backends.cuda import emulated

    tg.device("cpu").kernels = emulated.on_numpy()

try:
    import hypothesis

    hypothesis.settings.register_profile("tinygen", deadline=None, derandomize=True, print_blob=True)
    hypothesis.settings.load_profile("tinygen")
except ImportError:  # where pytest is all there is (benchmarks.gpu_check): a test that needs it is skipped
    from types import ModuleType

    class Anything(ModuleType):
        def __getattr__(self, name):
            return lambda *args, **options: pytest.mark.skip(reason="hypothesis is not installed")

    for _name in ("hypothesis", "hypothesis.strategies"):
        sys.modules[_name] = Anything(_name)
    sys.modules["hypothesis"].strategies = sys.modules["hypothesis.strategies"]


def pytest_report_header(config: pytest.Config) -> str:
    kernels = tg.device("cpu").kernels
    isa = f" ({kernels.isa()})" if hasattr(kernels, "isa") else ""
    return (
        f"tinygen {tg.__version__}, numpy {np.__version__}, backend {kernels.name}{isa}, {tg.get_num_threads()} threads"
    )


def _no_skips(report: pytest.TestReport | pytest.CollectReport) -> None:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed when CI=true: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _no_skips(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _no_skips(report)
    return report


@pytest.fixture(autouse=True)
def same_start_for_every_test():
    """Fixed seeds before each test; afterwards nothing may still be switched off, watching or frozen."""
    np.random.seed(0)
    tg.manual_seed(0)
    yield
    assert tg.is_grad_enabled(), "the test left recording switched off"
    assert not tape.observers, "the test left observers behind"


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)
