"""What observers report, against counts and bytes worked out by hand."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, observe, tape
from tinygen.nn import functional as F
from tinygen.observe import anomaly
from tinygen.ops.fused import linear_leaky_relu

ROOT = Path(tg.__file__).parent.parent


def leaf(values, name=None, dtype=np.float64):
    t = tg.tensor(np.array(values, dtype)).requires_grad_()
    t.name = name
    return t


def extension():
    from tinygen import _cpu

    return _cpu.__file__


def explained(loss, **options):
    text = io.StringIO()
    tg.explain(loss, file=text, **options)
    return text.getvalue().splitlines()


# ---------------------------------------------------------------------------------- explain


def test_explain_lists_every_node_with_what_it_keeps():
    w = leaf(np.ones((4, 2, 3, 3)), "layer.weight")
    x = tg.tensor(np.ones((1, 2, 8, 8)))
    h = tg.conv2d(x, w)  # 1x4x6x6
    loss = (h * h).exp().sum()
    lines = explained(loss)
    assert lines[0] == "leaf layer.weight: 4x2x3x3 float64"
    rows = {line.split()[0]: line for line in lines[2:-1]}
    assert list(rows) == ["conv", "mul", "exp", "sum"], "from the inputs to the loss"
    assert "1x4x6x6 <- 4x2x3x3" in rows["conv"] and "x 1x2x8x8" in rows["conv"]
    assert (
        "1x4x6x6 <- 1x4x6x6, 1x4x6x6" in rows["mul"] and "1.2 kB" in rows["mul"]
    )  # 144 float64, kept twice, counted once
    assert "out 1x4x6x6" in rows["exp"] and "1.2 kB" in rows["exp"]
    assert "scalar <- 1x4x6x6" in rows["sum"] and "x_shape" in rows["sum"]
    assert lines[-1].startswith("4 nodes keep 2.3 kB in 2 arrays") and "1.0 kB of parameters and data" in lines[-1]


def test_explain_names_a_kernel_and_a_line_that_defines_it():
    w, x = leaf(np.ones((4, 2, 3, 3))), tg.tensor(np.ones((1, 2, 8, 8)))
    row = next(line for line in explained(tg.conv2d(x, w).sum()) if line.startswith("conv"))
    path, number = re.search(r"\bconv  +(\S+):(\d+)$", row).groups()
    source = ROOT / path
    here = source.read_text().splitlines()[int(number) - 1]
    edited_since_the_build = path.startswith("csrc") and source.stat().st_mtime > Path(extension()).stat().st_mtime
    assert edited_since_the_build or re.search(r"\bconv\(|KERNEL\(conv,", here), here
    row = next(line for line in explained((w * w).sum()) if line.startswith("mul"))
    path, number = re.search(r"(\S+):(\d+)$", row).groups()
    assert "mul" in "".join((ROOT / path).read_text().splitlines()[int(number) - 1 : int(number) + 1])


def test_explain_counts_masks_and_indices():
    x = leaf(np.ones((4, 5)))
    lines = explained(tg.where(x > 2.0, x, 0.0).sum())
    row = next(line for line in lines if line.startswith("where"))
    assert "condition 4x5" in row and "20 B" in row


def test_explain_shortens_long_graphs_and_still_counts_all():
    x = leaf([1.0, 2.0])
    y = x
    for _ in range(1000):
        y = y.exp() * 0.1
    lines = explained(y.sum(), max_nodes=10)
    assert "... 1991 more ..." in lines
    assert len(lines) == 1 + 1 + 5 + 1 + 5 + 1
    assert lines[-1].startswith("2001 nodes keep 16.0 kB in 1000 arrays")


def test_explain_says_when_the_graph_was_freed_and_refuses_constants():
    x = leaf([1.0])
    loss = (x * x).sum()
    loss.backward()
    assert any("freed" in line for line in explained(loss))
    with pytest.raises(RuntimeError, match="not recorded"):
        tg.explain(tg.zeros(2))


def test_explain_shows_lists_outputs_and_leaves(capsys):
    a, b = leaf([1.0, 2.0], "a"), leaf([3.0], "b")
    top, _ = tg.cat([a, b], 0).topk(2)
    tg.explain(top.sum())
    text = capsys.readouterr().out
    assert "leaf a: 2 float64" in text and "leaf b: 1 float64" in text and "3 <- 2, 1" in text


def test_explain_shows_what_the_user_wrote_and_the_fused_kernel_beside_it():
    x = tg.randn(2, 1, 8, 8)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(2, 3, 3), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(108, 4), nn.ReLU(), nn.Linear(4, 1),
    )  # fmt: skip
    rows = [re.split("  +", line) for line in explained((net(x) + tg.relu(net(x))).sum())]
    ops = {row[0]: row[-2] for row in rows if len(row) > 4}
    assert ops["conv+relu"] == "conv" and "linear" in ops["linear+relu"] and ops["relu"] == "leaky_relu"
    assert ops["conv"] == "conv_moments" and ops["batch_norm+leaky_relu"] == "channel_norm"
    assert ops["conv_transpose+leaky_relu"] == "conv_transpose"
    assert not any("leaky_relu_over" in name or "moments" in name for name in ops)
    rows = [line.split()[0] for line in explained(tg.leaky_relu(leaf([1.0]), 0.0).sum())]
    assert rows[-3:] == ["relu", "sum", "2"]


@pytest.mark.parametrize(
    ("loss", "kernel"),
    [("mse_loss", "squared_error"), ("binary_cross_entropy_with_logits", "bernoulli_loss"),
     ("cross_entropy", "class_loss"), ("binary_cross_entropy", None)],
)  # fmt: skip
def test_explain_names_a_loss_as_it_was_called(loss, kernel):
    """The last line but one; its columns stand under the head's, and a place is named once."""
    x = leaf(np.full((2, 3), 0.5))
    target = tg.tensor([0, 2]) if loss == "cross_entropy" else tg.zeros(2, 3, dtype=np.float64)
    head, *rows = explained(getattr(F, loss)(F.linear(x, leaf(np.full((3, 3), 0.1))), target))[2:-1]
    row = next(row for row in rows if row.startswith(loss))
    assert row.split()[0] == loss and (kernel is None or row.split()[-2] == kernel)
    assert kernel is None or row.index(kernel, len(loss)) == head.index("kernel")
    places = re.findall(r"\S+:\d+", next(row for row in rows if row.startswith("linear")))
    assert len(places) == len(set(places)) >= 1
    if loss.endswith("logits"):  # elementwise, by another kernel
        single = explained(F.binary_cross_entropy_with_logits(x, target, reduction="none"))[-2].split()
        assert single[0] == loss and single[-2] == "bce_with_logits"


# ---------------------------------------------------------------------------------- NaN


@pytest.mark.filterwarnings("error")
def test_detect_anomaly_names_the_op_and_the_range_of_its_inputs():
    x = leaf([1.0, -2.0], "signal")
    with pytest.raises(RuntimeError) as error, tg.detect_anomaly():
        (x * 3.0).log().sum()
    message = str(error.value)
    assert message.startswith("log, in the forward pass: 1 of 2 values of its output 2 are NaN")
    assert "input 0 2: from -6 to 3" in message


@pytest.mark.filterwarnings("error")
def test_detect_anomaly_in_the_backward_pass_shows_the_forward_call():
    x = leaf([0.0, 1.0])
    with pytest.raises(RuntimeError) as error, tg.detect_anomaly():
        (x.sqrt() * 0.0).sum().backward()  # 0 / 0
    message = str(error.value)
    assert "in the backward pass of sqrt" in message
    assert f"the forward call was {__file__}" in message


def test_detect_anomaly_tells_bad_inputs_from_bad_ops():
    x = tg.tensor(np.array([np.nan, 1.0]))
    with pytest.raises(RuntimeError, match=r"input 0 'data' 2: already NaN in 1 places"), tg.detect_anomaly():
        x.name = "data"
        x * 2.0


@pytest.mark.filterwarnings("error")
def test_an_anomaly_is_one_line_that_names_the_op_and_the_line_that_called_it():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    x = tg.tensor(np.array([[np.inf, -np.inf]], np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(observe.AnomalyError) as error, tg.detect_anomaly():
            net(x)  # inf - inf
        caught = error.value
        assert "\n" not in str(caught) and str(caught).startswith("linear+relu, in the forward pass: ")
        assert f"called at {__file__}:" in str(caught) and "net(x)  # inf - inf" in str(caught)
        assert (caught.op, caught.backward, caught.site.file) == ("linear+relu", False, __file__)
        y = leaf([0.0, 1.0])
        with pytest.raises(observe.AnomalyError) as error, tg.detect_anomaly():
            z = y.sqrt() * 0.0
            z.sum().backward()
        assert "\n" not in str(error.value) and error.value.backward and error.value.site.function.startswith("test_")
        assert "z = y.sqrt() * 0.0" in str(error.value)


@pytest.mark.filterwarnings("error")
def test_detect_anomaly_sees_into_a_fused_derivative():
    x, w = leaf([[1.0, 1.0]]), leaf([[0.0, 1.0]])
    with tg.detect_anomaly():
        y = linear_leaky_relu(x, w, None, 0.2)
        with pytest.raises(observe.AnomalyError) as error:
            tg.grad(y, [x], tg.tensor(np.array([[np.inf]])))  # inf * 0
    message = str(error.value)
    assert message.startswith("linear+leaky_relu, in the backward pass of linear+leaky_relu: 1 of 2 values of")
    assert "of the gradient of its input 0 1x2 are NaN" in message
    assert "y = linear_leaky_relu(x, w, None, 0.2)" in message


def test_a_call_in_a_model_is_named_rather_than_the_layer_it_calls():
    assert anomaly._call_site().file == __file__
    names = {}
    for room, source in (("nn", "def forward(f): return f()"), ("models", "\ndef step(forward, f): return forward(f)")):
        exec(compile(source, str(ROOT / "tinygen" / room / "made_up.py"), "exec"), names)
    site = names["step"](names["forward"], anomaly._call_site)
    assert Path(site.file).parts[-2:] == ("models", "made_up.py") and site.function == "step" and site.line == 2


def test_infinities_are_reported_when_asked_for():
    x = leaf([0.0, 1.0])
    with tg.detect_anomaly():
        x.log()
    with pytest.raises(RuntimeError, match="not finite"), tg.detect_anomaly(infinite=True):
        x.log()


def test_observers_leave_nothing_behind():
    x = leaf([1.0])
    call = tape.Op.__call__
    kernels = tg.device("cpu").kernels
    with tg.detect_anomaly(), observe.count_flops(), observe.memory_timeline(), observe.profile():
        (x * x).sum().backward()
        assert len(tape.observers) == 4
    assert not tape.observers and tape.Op.__call__ is call and tg.device("cpu").kernels is kernels
    with pytest.raises(ZeroDivisionError), observe.profile(), observe.count_flops():
        1 / 0
    assert not tape.observers and tape.Op.__call__ is call and tg.device("cpu").kernels is kernels


# ---------------------------------------------------------------------------------- flops


def test_flops_of_convolutions_and_products():
    x, w = leaf(np.ones((2, 3, 8, 8)), dtype=np.float32), leaf(np.ones((4, 3, 3, 3)), dtype=np.float32)
    each = 2 * 2 * 4 * 6 * 6 * 3 * 3 * 3
    with observe.count_flops() as flops:
        y = tg.conv2d(x, w)
    assert flops.total == flops.by_op["conv"] == each
    with observe.count_flops() as flops:
        y.sum().backward()
    assert flops.by_op == {"conv_transpose": each, "conv_weight": each}  # the three contractions cost the same
    with observe.count_flops() as flops:
        tg.conv_transpose2d(tg.ones(2, 4, 6, 6), w)
        tg.conv2d(tg.ones(1, 6, 5, 5), tg.ones(6, 1, 5, 5), groups=6)
        tg.ones(5, 7) @ tg.ones(7, 9)
        tg.linear(tg.ones(5, 7), tg.ones(9, 7), tg.ones(9))
    assert flops.by_op["conv_transpose"] == each and flops.by_op["conv"] == 2 * 6 * 25
    assert flops.total - flops.by_op["conv_transpose"] - flops.by_op["conv"] == 2 * (2 * 5 * 7 * 9)
    assert "total" in str(flops)
    a, b = leaf(np.ones((5, 7))), leaf(np.ones((9, 7)))
    for inputs, products in (([a], 2), ([a, b], 3)):  # the layer, and the derivatives of its fused form
        with observe.count_flops() as flops:
            tg.grad(linear_leaky_relu(a, b, None, 0.0).sum(), inputs)
        assert flops.by_op == {"linear_leaky_relu": products * 2 * 5 * 7 * 9}
    a, b = leaf(np.ones((5, 7))), leaf(np.ones((7, 9)))
    loss = (a @ b).sum()
    with observe.count_flops() as flops:
        tg.grad(loss, [a, b])
    assert flops.by_op == {"matmul_nt": 2 * 5 * 7 * 9, "matmul_tn": 2 * 5 * 7 * 9}


# ---------------------------------------------------------------------------------- profile, memory


def test_profile_counts_ops_and_kernels():
    x, w = leaf(np.ones((2, 3, 8, 8)), dtype=np.float32), leaf(np.ones((4, 3, 3, 3)), dtype=np.float32)
    with observe.profile() as p:
        for _ in range(3):
            tg.conv2d(x, w).tanh().sum().backward()
    assert p.ops["conv"][0] == p.kernels["conv"][0] == 3
    assert p.ops["tanh"][0] == p.kernels["tanh_backward"][0] == 3
    assert p.ops["conv"][2] == 3 * 2 * 2 * 4 * 36 * 27
    assert all(seconds > 0 for _, seconds, _ in p.ops.values())
    assert p.ops["conv"][1] >= p.kernels["conv"][1]  # an op's time includes its kernel's
    assert p.seconds >= sum(seconds for _, seconds, _ in p.ops.values())
    assert "between ops" in str(p) and re.search(r"^conv_weight +3 ", str(p), re.MULTILINE)


def test_profile_times_fused_derivatives_apart():
    x, w = leaf(np.ones((4, 3))), leaf(np.ones((2, 3)))
    with observe.profile() as p:
        linear_leaky_relu(x, w, None, 0.0).sum().backward()
    assert p.ops["linear_leaky_relu"][0] == p.ops["linear_leaky_relu vjp"][0] == 1
    assert p.ops["linear_leaky_relu vjp"][2] == 2 * 2 * 4 * 3 * 2
    assert p.seconds >= sum(seconds for _, seconds, _ in p.ops.values())
    with observe.memory_timeline() as memory:
        y = linear_leaky_relu(x, w, None, 0.0)
        gradients = tg.grad(y, [x, w], tg.ones_like(y))
    assert memory.live == y.array.nbytes + sum(g.array.nbytes for g in gradients)


def test_memory_timeline_counts_live_results_once():
    x = tg.tensor(np.ones(1000))
    with observe.memory_timeline() as memory:
        a = x * 2.0
        assert memory.live == 8000
        b = a.reshape(10, 100)  # a view
        assert memory.live == 8000
        c = b + 1.0
        assert memory.live == 16000
        del a
        assert memory.live == 16000  # b still holds it
        del b
        assert memory.live == 8000
        del c
        assert memory.live == 0
    assert memory.peak == 16000 and memory.peak_op == "add"
    assert [bytes_ for _, bytes_ in memory.events] == [8000, 8000, 16000] and "peak 16.0 kB" in str(memory)
