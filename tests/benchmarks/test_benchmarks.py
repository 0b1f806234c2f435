"""The benchmarks measure what they say: same results on both sides, complete records, honest tables."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
_cpu = pytest.importorskip("tinygen._cpu", reason="built without a compiler")

from benchmarks import (  # noqa: E402
    cases,
    conv,
    lockstep,
    machine,
    networks,
    options,
    overhead,
    records,
    report,
    scaling,
    step,
    tour,
)
from tinygen.backends.geometry import Geometry  # noqa: E402

TORCH = importlib.util.find_spec("torch") is not None


def check_records(rows, variants):
    """Every record has every field, is finite, and agrees with torch."""
    assert rows
    for r in rows:
        assert set(records.FIELDS) <= set(r)
        assert r["tinygen_ms"] > 0 and math.isfinite(r["tinygen_ms"])
        assert {"processor", "cores", "memory_gib"} <= set(r["machine"])
        assert r["versions"]["numpy"] == np.__version__
        if TORCH and variants:
            assert r["torch_variant"] in variants
            assert r["deviation"] < 1e-4, (r["case"], r["pass"])
            assert r["ratio"] == pytest.approx(r["torch_ms"] / r["tinygen_ms"])
        else:
            assert r["torch_variant"] is r["torch_ms"] is r["ratio"] is None
    json.dumps(rows)


@pytest.fixture(scope="module")
def conv_run(tmp_path_factory):
    """One quick run of the convolutions, saved where the report looks."""
    folder = tmp_path_factory.mktemp("results")
    before, machine.RESULTS = machine.RESULTS, folder
    try:
        argv = [
            "--quick",
            "--threads",
            "1",
            "--variants",
            "nchw-default,channels_last-tuned",
            "--shape",
            "1,2,6,6,3,3,2,1,T",
            "--cases",
            "tiny*",
            "--json",
            str(folder / "out.json"),
            "--save",
        ]
        rows = conv.main(argv)
    finally:
        machine.RESULTS = before
    return SimpleNamespace(rows=rows, folder=folder, variants=["nchw-default", "channels_last-tuned"])


# ---------------------------------------------------------------------------------- the commands


def test_conv_measures_every_pass_of_every_case(conv_run):
    check_records(conv_run.rows, conv_run.variants)
    every = records.cells(conv_run.rows)
    names = [layer.name for layer in cases.QUICK] + ["1,2,6,6,3,3,2,1,T"]
    assert list(every) == [(name, what, 1) for name in names for what in cases.PASSES]
    assert all(list(cell) == (conv_run.variants if TORCH else [""]) for cell in every.values())
    for r in conv_run.rows:
        layer = cases.parse(r["shape"])
        assert r["mflop"] == layer.flops / 1e6 and r["intensity"] == layer.flops / layer.bytes
        assert r["percent_of_peak"] == pytest.approx(100 * r["gflops"] / r["peak_gflops"])
        assert r["percent_of_bandwidth"] == pytest.approx(100 * r["gbs"] / r["bandwidth_gbs"])
        assert r["benchmark"] == "conv" and r["threads"] == 1 and r["quick"]


def test_conv_writes_what_it_returns(conv_run):
    assert records.load(conv_run.folder / "out.json") == conv_run.rows
    assert records.load(conv_run.folder / machine.slug() / "conv.json") == conv_run.rows


def test_step_trains_the_same_model_on_both_sides(capsys):
    variants = ["nchw-default", "nchw-tuned-fused"]
    rows = step.main(["--quick", "--threads", "1", "--variants", ",".join(variants)])
    check_records(rows, variants)
    assert {r["case"] for r in rows} == set(networks.STEPS)
    assert {r["pass"] for r in rows} == {"step"}
    assert all(r["images_per_second"] > 0 and r["tinygen_peak_rss_mb"] > 1 and r["mflop"] > 0 for r in rows)
    assert all(r["torch_peak_rss_mb"] > 1 for r in rows if r["torch_variant"])
    # 20-12-5-12-20 on 4 images: 600 products each forward, twice that backward less the gradient of the input, 20 x 12
    assert rows[0]["case"] == "mlp_ae" and rows[0]["mflop"] == pytest.approx(2 * 4 * (3 * 600 - 240) / 1e6)
    shown = capsys.readouterr().out
    assert "dcgan64" in shown and "images/s" in shown and "these times mean nothing" in shown


def test_overhead_is_per_op(capsys):
    rows = overhead.main(["--quick", "--threads", "1", "--cases", "add,conv2d"])
    check_records(rows, ["nchw-default"])
    assert [(r["case"], r["pass"]) for r in rows] == [(c, w) for c in ("add", "conv2d") for w in overhead.AIMS]
    assert "tinygen us" in capsys.readouterr().out


def test_scaling_gives_growth_per_doubling(capsys):
    rows = scaling.main(["--quick", "--threads", "1", "--variants", "none", "--cases", "conv_*"])
    check_records(rows, [])
    pairs = records.cells(rows)
    small, large = (pairs[f"conv_pixels_{side}", "forward", 1][""] for side in (4, 8))
    assert small["growth"] is None
    assert large["growth"] == pytest.approx(math.sqrt(large["tinygen_ms"] / small["tinygen_ms"]) / 2)  # two doublings
    assert "conv_batch" in capsys.readouterr().out


def test_scaling_says_how_many_doublings_meet_the_aim():
    rows = [
        made(f"conv_batch_{n}", series="conv_batch", size=n, growth=g)[0] for n, g in ((16, None), (32, 1.0), (64, 1.2))
    ]
    text = scaling.growths(rows)
    assert "1.20+" in text and "1.00+" not in text
    assert text.endswith("at most 1.15 per doubling: 1 of 2; missed: conv_batch forward to 64: 1.20")


def test_without_torch_tinygen_is_measured_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rows = conv.main(
        ["--quick", "--threads", "1", "--cases", "tiny", "--passes", "forward", "--variants", "nchw-default"]
    )
    assert [(r["case"], r["torch_variant"], r["ratio"]) for r in rows] == [("tiny", None, None)]
    shown = capsys.readouterr().out
    assert "torch is not installed" in shown and "pip install -e '.[torch]'" in shown


# ---------------------------------------------------------------------------------- the comparison


def saved(folder, **sides):
    field = lockstep.Contenders(None, 1, [])
    field.folder = SimpleNamespace(name=str(folder))
    for name, arrays in sides.items():
        np.savez(folder / f"{name}.npz", **arrays)
    return field


def test_a_wrong_result_is_seen(tmp_path):
    a = np.linspace(-2, 1, 12, dtype=np.float32).reshape(3, 4)
    b = a.copy()
    b[1, 2] += 0.01
    field = saved(
        tmp_path,
        tinygen={"f": b, "g": a},
        same={"f": b, "g": a},
        other={"f": a, "g": a.T},
        bad={"f": a * np.nan, "g": a},
    )
    assert field.deviation("same", "f") == 0
    assert field.deviation("other", "f") == pytest.approx(0.005, rel=1e-3)
    assert field.deviation("other", "g") == math.inf  # another shape
    assert field.deviation("bad", "f") == math.inf


def test_the_gradients_of_a_step_share_one_scale(tmp_path):
    losses, gradient, noise = np.array([0.5, 0.25]), np.full((2, 2), 10.0), np.full(3, 1e-8)
    ours = {"0": losses, "1": gradient, "2": -noise}
    field = saved(
        tmp_path,
        tinygen=ours,
        same={"0": losses, "1": gradient, "2": noise},
        off={"0": losses * 1.01, "1": gradient, "2": noise},
    )
    assert field.deviation("same") == pytest.approx(2e-9)
    assert field.deviation("off") == pytest.approx(0.01, rel=0.02)


CALM, LOUD = lockstep.Round(0.001, 0.2), lockstep.Round(0.06, 0.2)


def test_other_programs_are_what_the_cores_did_beside_idling_and_us():
    usage = lockstep.Usage
    spent = lockstep.Round.between(usage(10.0, 3.0, 1.0), usage(11.0, 3.5, 2.25), cores=2)
    assert spent == lockstep.Round(pytest.approx(0.25), pytest.approx(2.0)) and not spent.calm
    # our own threads that wait for each other leave no core idle, and are no other program
    assert lockstep.Round.between(usage(0.0, 0.0, 0.0), usage(1.0, 0.0, 2.0), cores=2).calm
    # the system counts idle time in hundredths of a second: one of them too few is no program
    assert lockstep.Round.between(usage(0.0, 0.0, 0.0), usage(0.1, 0.09, 0.1), cores=2).calm
    # where idle time is unknown nothing is claimed
    assert lockstep.Round.between(usage(0.0, None, 0.0), usage(1.0, None, 0.0), cores=2) == lockstep.Round(0.0, 2.0)


def test_idle_time_is_that_of_the_cores_we_may_use(monkeypatch):
    stat = "cpu  9 9 9 9999 9 9\ncpu0 1 2 3 400 20 6\ncpu1 1 2 3 70 5 6\ncpu12 1 2 3 1000 0 6\nintr 5 5 5 5 5 5\n"
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: {0, 12}, raising=False)
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    assert machine.idle_seconds(stat) == 14.2
    assert machine.idle_seconds("intr 1 2 3 4 5 6\n") is None


def test_disturbed_rounds_are_set_aside_where_enough_remain():
    times = lockstep.Times([1.0, 9.0, 1.1, 1.2], [CALM, LOUD, CALM, CALM], [0.0] * 4)
    assert times.clean == [1.0, 1.1, 1.2] and times.median == 1.1 and not times.disturbed
    times = lockstep.Times([1.0, 9.0, 8.0], [CALM, LOUD, LOUD], [0.0] * 3)
    assert times.median == 8.0 and times.disturbed and not times.steady


def test_a_little_in_every_round_is_a_disturbance_too():
    each = lockstep.Round(0.012, 0.2)  # within what the clock cannot tell from nothing
    assert each.calm and not lockstep.Times([1.0], [each], [0.0]).disturbed
    assert lockstep.Times([1.0] * 8, [each] * 8, [0.0] * 8).disturbed


def test_samples_that_waited_are_set_aside_but_disturb_nothing():
    times = lockstep.Times([1.0, 2.0, 1.1, 1.2], [CALM] * 4, [0.0, 0.9, 0.0, 0.0])
    assert times.clean == [1.0, 1.1, 1.2] and times.steady is False and not times.disturbed
    crowded = lockstep.Times([1.0, 2.0, 1.1, 1.2], [CALM] * 4, [0.0, 0.9, 0.9, 0.9])  # more threads than cores
    assert crowded.clean == crowded.samples and not crowded.disturbed


class Answers:
    """A worker that takes no time: `seconds` a call, as it says."""

    def __init__(self, seconds):
        self.seconds, self.cpu, self.samples = seconds, 0.0, 0

    def ask(self, do, **message):
        self.samples += do == "sample"
        return {"repeats": 1, "seconds": self.seconds * (1 + self.samples % 2), "waited": 0.0, "gflops": 100.0}


def test_contenders_that_take_long_are_sampled_three_times():
    field = lockstep.Contenders(SimpleNamespace(quick=False, seconds=4.0), 1, [])
    field.workers = {"tinygen": Answers(0.01), "naive": Answers(2.0)}
    times, peak = field.measure("forward")
    assert len(times["naive"].samples) == len(times["naive"].rounds) == len(times["naive"].waited) == 3
    assert len(times["tinygen"].samples) == 25 and peak == 100.0  # never steady, and quick to ask


def test_layers_have_the_shapes_of_the_library():
    for layer in [*cases.LAYERS, *cases.QUICK]:
        law = (layer.stride, layer.pad)
        if layer.transposed:
            geo = Geometry.of_transposed("test", layer.x_shape, layer.weight_shape, 1, *law, 1, 0, None)
            assert (geo.y_shape, geo.x_shape) == (layer.x_shape, layer.y_shape), layer
        else:
            geo = Geometry.of_convolution("test", layer.x_shape, layer.weight_shape, 1, *law, 1)
            assert (geo.x_shape, geo.y_shape) == (layer.x_shape, layer.y_shape), layer
        assert geo.flops == layer.flops
        assert cases.parse(layer.text).y_shape == layer.y_shape


# ---------------------------------------------------------------------------------- environment and probes


def test_contenders_get_a_clean_environment(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    assert machine.removed_environment()["OPENBLAS_CORETYPE"] == "Haswell"
    env = machine.environment(2)
    assert "OPENBLAS_CORETYPE" not in env and "GLIBC_TUNABLES" not in env
    assert env["OMP_NUM_THREADS"] == env["OPENBLAS_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "2"
    assert "mmap_threshold=4294967296" in machine.environment(1, tuned_malloc=True)["GLIBC_TUNABLES"]


def test_an_instruction_set_holds_both_sides():
    assert machine.environment(1, "avx2")["TINYGEN_CPU"] == "avx2"
    assert machine.environment(1, "avx2")["OPENBLAS_CORETYPE"] == "Haswell"
    theirs = machine.environment(1, "avx2", library="torch")
    assert (
        theirs["ATEN_CPU_CAPABILITY"] == "avx2"
        and theirs["ONEDNN_MAX_CPU_ISA"] == "AVX2"
        and "TINYGEN_CPU" not in theirs
    )


def test_probes_give_rates():
    assert _cpu.fma_peak(0.2) > 0 and _cpu.fma_peak(0.2, float64=True) > 0
    assert _cpu.bandwidth(0.5, "copy") > 0 and _cpu.bandwidth(0.5) > 0
    with pytest.raises(ValueError, match="'copy' or 'triad', got 'scale'"):
        _cpu.bandwidth(1, "scale")


# ---------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("text", ["1,2,3", "a,1,1,1,1,1,1,1", "1,2,3,4,5,6,7,8,9"])
def test_a_malformed_shape_is_explained(text):
    with pytest.raises(SystemExit, match="eight integers N,C,H,W,K,k,stride,pad"):
        cases.parse(text)


def test_a_shape_without_output_is_refused():
    with pytest.raises(SystemExit, match="no output"):
        cases.parse("1,1,2,2,1,5,1,0")


def test_an_unknown_case_lists_the_known():
    with pytest.raises(SystemExit, match=r"no case is called 'vgg99'; there are lenet1, .*dc64_g5"):
        conv.main(["--cases", "vgg99"])
    assert cases.choose(["a1", "a2", "b1"], "b*,a1") == ["b1", "a1"]


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--threads", "0"], "positive integers"),
        (["--threads", "two"], "positive integers"),
        (["--variants", "nhwc-default"], "'nhwc-default' is unknown"),
        (["--isa", "sse9"], "'sse9' is unknown; use baseline, avx2 or avx512"),
        (["--compare", "nowhere.json"], "there is no file nowhere.json"),
        (["--seconds", "0"], "--seconds should be positive"),
        (["--json", "/dev/null/x.json"], "nothing can be written in"),
        (["--json", "."], "is a folder; name a file in it"),
    ],
)
def test_wrong_options_are_explained(argv, message, capsys):
    with pytest.raises(SystemExit):
        conv.main(argv)
    assert message in capsys.readouterr().err


def test_the_reference_backend_is_never_timed(monkeypatch):
    monkeypatch.setenv("TINYGEN_CPU", "reference")
    with pytest.raises(
        SystemExit, match="reference backend is an oracle in plain NumPy and is never timed: unset TINYGEN_CPU"
    ):
        conv.main(["--quick"])
    monkeypatch.delenv("TINYGEN_CPU")
    import tinygen

    monkeypatch.setattr(tinygen, "device", lambda name: SimpleNamespace(kernels=SimpleNamespace(name="reference")))
    with pytest.raises(SystemExit, match=r"never timed: tinygen\._cpu is not built"):
        conv.main(["--quick"])


def test_an_unknown_device_is_refused():
    with pytest.raises(SystemExit, match="'tpu' mean nothing"):
        conv.main(["--device", "tpu"])


def test_a_worker_that_fails_says_why():
    arguments = options.parse(options.parser("conv", "", ()), ["--threads", "1", "--quick", "--variants", "none"])
    with lockstep.Contenders(arguments, 1, []) as field:
        with pytest.raises(lockstep.WorkerFailed, match="never prepared"):
            field.workers["tinygen"].ask("sample", **{"pass": "never prepared"})
        field.workers["tinygen"].process.kill()
        with pytest.raises(lockstep.WorkerFailed, match="tinygen: the process died"):
            field.workers["tinygen"].ask("memory")


# ---------------------------------------------------------------------------------- tables


def made(case="dc64_d2", what="forward", ours=2.0, mflop=4295.0, variants=None, threads=1, **more):
    """Records of one cell, as if measured: torch's times by variant."""
    base = dict.fromkeys(records.FIELDS) | {
        "benchmark": "conv",
        "case": case,
        "pass": what,
        "threads": threads,
        "tinygen_ms": ours,
        "tinygen_iqr_ms": 0.02 * ours,
        "percent_of_peak": 80.0,
        "peak_gflops": 270.0,
        "bandwidth_gbs": 40.0,
        "mflop": mflop,
        "gflops": (mflop or 0) / ours,
        "gbs": 10.0,
        "percent_of_bandwidth": 25.0,
        "intensity": 100.0,
        "deviation": 1e-6,
        "disturbed": False,
        "machine": machine.machine(),
        "versions": machine.versions(),
        "commit": "abc1234",
        "isa": "avx512",
        "time": "2026-01-01T00:00:00Z",
        "command": None,
        **more,
    }
    return [base | {"torch_variant": n, "torch_ms": ms, "ratio": ms / ours} for n, ms in (variants or {}).items()] or [
        base
    ]


CELLS = [
    *made(ours=2.0, variants={"nchw-default": 4.0, "nchw-tuned": 3.0, "channels_last-tuned": 1.0}),
    *made("lenet1", "input_grad", 1.0, 15.0, {"nchw-default": 8.0, "nchw-tuned": 8.0, "channels_last-tuned": 4.0}),
]


def test_means_are_geometric_and_best_is_the_smallest_ratio():
    every = records.cells(CELLS)
    assert [records.best(cell) for cell in every.values()] == [0.5, 4.0]
    assert records.best(every["dc64_d2", "forward", 1], "default") == 2.0
    assert records.geometric_mean([2.0, 8.0]) == pytest.approx(4)
    groups = dict(records.groups_of(every))
    assert len(groups["all"]) == 2
    assert groups["all that training computes"] == [
        ("dc64_d2", "forward", 1)
    ]  # nobody asks for lenet1's input gradient


def test_summary_names_the_slow_cells():
    text = records.summary(CELLS)
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["all"][2:7] == ["4.00", "3.46", "1.41", "1.41", "1.41"]  # each variant, the best tuned, the best
    assert "cells below 1.0 against the best torch: 1 of 2: dc64_d2 forward 0.500" in text


def test_table_shows_times_ratios_and_deviation():
    head, _, first, second = records.table(CELLS).splitlines()
    assert head.split()[:5] == ["case", "pass", "tinygen", "ms", "+-"]
    assert first.split() == [
        "dc64_d2",
        "forward",
        "2.00",
        "1%",
        "4.00",
        "3.00",
        "1.00",
        "2.00",
        "0.500",
        "80",
        "25",
        "1e-06",
    ]
    assert second.split()[:3] == ["lenet1", "input_grad", "1.00"]
    assert "2.00*" in records.table(made(disturbed=True))
    assert "above 100 fewer are done" in records.table(made(percent_of_peak=150.0))
    assert "above 100" not in records.table(CELLS)


def test_the_command_that_is_recorded_names_no_files():
    arguments = ["--threads", "1,2", "--json", "/tmp/x y.json", "--cases", "dc64_*", "--compare=old.json", "--save"]
    assert records.command("conv", arguments) == "python -m benchmarks.conv --threads 1,2 --cases 'dc64_*' --save"


def test_comparison_is_old_over_new():
    new = made(ours=1.0) + made("cae3", ours=4.0) + made("vgg14", ours=1.0)
    old = made(ours=2.0) + made("cae3", ours=2.0)
    new += made("cae3", ours=1.0, threads=2, variants={"nchw-default": 3.0})
    old += made("cae3", ours=3.0, threads=2, variants={"nchw-default": 3.0}, isa="avx2")
    lines = records.comparison(old, new).splitlines()
    assert lines[0].split("  ")[-1].strip() == "new vs best"
    assert [line.split() for line in lines[2:5]] == [
        ["cae3", "forward", "1", "2.00", "4.00", "0.500", "-", "-"],
        ["dc64_d2", "forward", "1", "2.00", "1.00", "2.00", "-", "-"],
        ["cae3", "forward", "2", "3.00", "1.00", "3.00", "1.00", "3.00"],
    ]
    assert lines[5].endswith(
        "1 thread, geometric mean of 2 cells: 1.00; from 0.500 (cae3 forward) to 2.00 (dc64_d2 forward)"
    )
    assert "2 threads, geometric mean of 1 cells: 3.00" in lines[6]
    assert "instruction set was another" in records.comparison(made(isa="avx2"), made(isa="avx512"))
    assert "no cell in common" in records.comparison(made("lenet2"), new)


@pytest.mark.parametrize(
    "value, text", [(0.1234, "0.123"), (12.34, "12.3"), (1234.5, "1234"), (1.0, "1.00"), (0, "0"), (None, "-")]
)
def test_numbers_have_three_digits(value, text):
    assert records.number(value) == text


def test_a_file_that_is_no_result_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{}")
    with pytest.raises(SystemExit, match="is not a list of benchmark records"):
        records.load(path)
    path.write_text("[")
    with pytest.raises(SystemExit, match="cannot be read"):
        records.load(path)


# ---------------------------------------------------------------------------------- the report


def test_report_writes_table_and_pictures(tmp_path, conv_run, capsys):
    folder = tmp_path / "results" / "some-machine"
    folder.mkdir(parents=True)
    steps = made(
        "dcgan28",
        "step",
        20.0,
        None,
        {"nchw-default": 50.0, "nchw-tuned-fused": 30.0},
        benchmark="step",
        images_per_second=3200.0,
        tinygen_peak_rss_mb=100.0,
        torch_peak_rss_mb=400.0,
        threads=2,
    )
    stairs = [
        *made("dc64_d2", "1_naive", 2000.0, own_threads=1, title="1  seven loops", gain=None, shape="64,1", threads=2),
        *made("dc64_d2", "2_order", 500.0, own_threads=1, title="2  a row", gain=4.0, shape="64,1", threads=2),
    ]
    own = {
        "own_threads": 2,
        "title": "tinygen's own kernel",
        "gain": None,
        "torch_percent_of_peak": 90.0,
        "torch_deviation": 1e-6,
    }
    stairs += made("dc64_d2", "tinygen", 10.0, variants={"nchw-tuned": 8.0}, shape="64,1", threads=2, **own)
    stairs = [{**r, "benchmark": "tour"} for r in stairs]
    grown = made("conv_batch_32", benchmark="scaling", series="conv_batch", size=32, growth=1.04)
    tiny = made("add", "recorded", 0.003, None, {"nchw-default": 0.0015}, benchmark="overhead")
    for name, rows in {
        "conv": CELLS,
        "step": steps,
        "scaling": grown,
        "overhead": tiny,
        "tour": stairs,
        "conv-avx2": conv_run.rows,
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    readme = tmp_path / "README.md"
    marks = "\n\n".join(f"{begin}\nold\n{end}" for begin, end in report.MARKS.values())
    readme.write_text(f"# Title\n\n{marks}\n\nThe end.\n")
    other = tmp_path / "results" / "older-machine"
    other.mkdir()
    (other / "conv.json").write_text(json.dumps([{**r, "time": "2025-01-01T00:00:00Z"} for r in CELLS]))
    text = report.main(["--results", str(folder.parent), "--write", str(readme)])
    assert "Other machines: [older-machine](../older-machine/README.md)" in text
    written = readme.read_text()
    assert written.startswith("# Title\n\n<!-- recipes: begin -->\n| recipe |") and written.endswith("\n\nThe end.\n")
    assert report.recipes_table(variants=False) in written and "\nold\n" not in written
    assert "| dcgan28, 2 threads | 3200 | 2.50 | 1.50 | 25 % |\n| geometric mean |  | 2.50 | 1.50 |  |" in written
    assert "[All results](results/some-machine/README.md)" in written
    assert "| PyTorch's best / tinygen | peak memory / PyTorch's least |\n" in written  # what 25 % is a share of
    assert text in (folder / "README.md").read_text()
    assert "| all, 1 thread | 2 | 4.00 | 3.46 | 1.41 | 1.41 | 1.41 | 0.500 | 80 | 80 |" in text
    assert "| dcgan28 | 2 | 20.0 | 3200 | 50.0 | 30.0 (nchw-tuned-fused) | 2.50 | 1.50 | 100 | 400 |" in text
    assert "| add | 3.00 / 1.50 |" in text
    assert "| conv_batch forward | 1 | 1.04 | 1.04 |" in text
    assert "commit abc1234" in text and machine.machine()["processor"] in text
    assert "| 2  a row | 1 | 500 | 8.59 | 80.0 | x 4.00 |" in text
    assert "| PyTorch nchw-tuned | 2 | 8.00 | 537 | 90.0 |  |" in text
    for picture in ("roofline.png", "conv.png", "step.png", "tour.png"):
        assert f"]({picture})" in text
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert "dc64_d2" in (folder / "README.md").read_text()


def test_a_share_of_the_peak_is_explained_where_it_is_shown():
    """Convolutions have such a column, training steps have none; the command before it ends with a full stop."""
    above = {"percent_of_peak": 150.0, "command": "python -m benchmarks.x --save"}
    steps = made("lenet", "step", benchmark="step", images_per_second=1.0, tinygen_peak_rss_mb=1.0,
                 torch_peak_rss_mb=4.0, **above)  # fmt: skip
    found = {"conv": made(**above), "step": steps}
    conv, step = (report.markdown({name: rows}, [], Path()) for name, rows in found.items())
    assert f"`python -m benchmarks.x --save`. % of peak: {records.NOMINAL}.\n\n| torch's time" in conv
    assert "`python -m benchmarks.x --save`.\n\n| training step" in step and "of peak" not in step
    short = report.short(found, Path("there"), Path())
    assert "`python -m benchmarks.x --save`.\n\n| training step" in short and "of peak" not in short
    stairs = made("dc64_d2", "1_naive", own_threads=1, title="1", gain=None, shape="64,1", **above)
    details = report.details({"tour": [{**r, "benchmark": "tour"} for r in stairs]})
    assert f": % of peak: {records.NOMINAL}.\n\n```" in details
    assert records.NOMINAL not in report.markdown({"conv": made()}, [], Path())  # none above 100


def test_report_says_what_is_missing(tmp_path):
    with pytest.raises(SystemExit, match=r"there are no results in .* --save"):
        report.main(["--results", str(tmp_path)])
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conv.json").write_text(json.dumps(CELLS))
    with pytest.raises(SystemExit, match="no results of machine 'three'; there are one, two"):
        report.main(["--results", str(tmp_path), "--machine", "three"])
    readme = tmp_path / "README.md"
    readme.write_text("no markers")
    with pytest.raises(SystemExit, match="lacks the lines <!-- benchmarks: begin -->"):
        report.write_between(readme, "benchmarks", "text")
    assert readme.read_text() == "no markers"


def test_the_commands_run_as_modules():
    for name in ("conv", "step", "overhead", "scaling", "tour", "report"):
        assert importlib.util.find_spec(f"benchmarks.{name}") is not None
    done = subprocess.run([sys.executable, "-m", "benchmarks.conv", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--shape N,C,H,W,K,k,stride,pad[,T]" in done.stdout


# ---------------------------------------------------------------------------------- the tour

STEPS = [path.stem for path in sorted(tour.SOURCES.glob("[0-9]*.cpp"))]
compiler = pytest.mark.skipif(not any(map(tour.shutil.which, ("g++", "c++", "clang++"))), reason="no compiler")


@compiler
@pytest.mark.parametrize("isa", _cpu.isas())
def test_every_step_of_the_tour_computes_a_convolution(isa):
    libraries = tour.build(STEPS, isa)
    for name, path in libraries.items():
        tour.check(name, path)
    layer = cases.parse("33,5,9,8,9,3,1,1")
    x, w, _ = tour.operands(layer)
    for name in ("7_threads", "8_winograd"):  # shares of threads change nothing
        one, three = (tour.TourStep(n, str(libraries[name])).job(layer, x, w)() for n in (1, 3))
        assert (one == three).all()


@compiler
def test_a_wrong_step_is_refused(tmp_path, monkeypatch):
    source = (tour.SOURCES / "1_naive.cpp").read_text()
    assert "sum = 0" in source
    (tmp_path / "1_naive.cpp").write_text(source.replace("sum = 0", "sum = 0.01f"))
    (tmp_path / "tour.h").write_text((tour.SOURCES / "tour.h").read_text())
    (tmp_path.parent / "vector.h").touch()
    monkeypatch.setattr(tour, "SOURCES", tmp_path)
    monkeypatch.setattr(tour, "BUILT", tmp_path / "built")
    with pytest.raises(SystemExit, match=r"step 1_naive is wrong: .* off the reference backend"):
        tour.check("1_naive", tour.build(["1_naive"])["1_naive"])
    (tmp_path / "1_naive.cpp").write_text("nonsense")
    with pytest.raises(SystemExit, match="does not compile"):
        tour.build(["1_naive"])


@compiler
def test_the_tour_prints_its_staircase(capsys):
    rows = tour.main(["--quick", "--threads", "2", "--cases", "1*,7*,8*", "--variants", "nchw-tuned"])
    check = [(r["case"], r["pass"], r["own_threads"]) for r in rows]
    first = [
        ("ragged0", "1_naive", 1),
        ("ragged0", "7_threads", 2),
        ("ragged0", "8_winograd", 2),
        ("ragged0", "tinygen", 2),
    ]
    assert check == [
        *first,
        *(("ragged1", name, n) for _, name, n in first if name != "8_winograd"),
    ]  # its kernel is 4 x 4
    assert all(r["deviation"] < tour.TOLERANCE for r in rows)
    assert all(r["torch_deviation"] < tour.TOLERANCE for r in rows if r["torch_variant"])
    assert rows[1]["gain"] == pytest.approx(rows[0]["tinygen_ms"] / rows[1]["tinygen_ms"])
    shown = capsys.readouterr().out
    assert "1  the definition, seven loops" in shown and "tinygen's own kernel" in shown


def test_the_tour_refuses_what_it_does_not_compute():
    with pytest.raises(SystemExit, match="not transposed ones; leave ,T out"):
        tour.main(["--shape", "1,2,6,6,3,3,2,1,T"])
    with pytest.raises(SystemExit, match="no step is called '9'; there are 1_naive, 2_order"):
        tour.main(["--cases", "9"])


def test_every_step_of_the_tour_says_what_changed():
    for name in STEPS:
        lines = (tour.SOURCES / f"{name}.cpp").read_text().splitlines()
        assert lines[0].startswith(f"// Step {name[0]}: ") and len(lines) <= 150
        head = "\n".join(lines[: lines.index(next(line for line in lines if not line.startswith("//")))])
        assert "Zen 4" in head and (name == "1_naive" or ("Before:" in head and "Why:" in head and "Gained" in head))
