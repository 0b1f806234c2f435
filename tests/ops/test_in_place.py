"""Changes in place: what they mean is torch's, or they are refused with words."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
import tinygen.nn.functional as F
from tinygen import nn

torch = pytest.importorskip("torch")
ROWS = np.random.default_rng(0).uniform(0.2, 2.0, (3, 4)).astype(np.float32)
OTHER = np.random.default_rng(1).uniform(0.2, 2.0, (3, 4)).astype(np.float32)


def of(library):
    """(the library, its F, its nn)."""
    return (tg, F, nn) if library is tg else (torch, torch.nn.functional, torch.nn)


def values(t):
    return t.detach().numpy()


CHANGES = {
    "add_": lambda L, h, y: h.add_(y),
    "sub_": lambda L, h, y: h.sub_(y),
    "mul_": lambda L, h, y: h.mul_(y),
    "div_": lambda L, h, y: h.div_(y),
    "pow_": lambda L, h, y: h.pow_(y),
    "remainder_": lambda L, h, y: h.remainder_(0.5),
    "neg_": lambda L, h, y: h.neg_(),
    "exp_": lambda L, h, y: h.exp_(),
    "log_": lambda L, h, y: h.log_(),
    "sqrt_": lambda L, h, y: h.sqrt_(),
    "abs_": lambda L, h, y: h.abs_(),
    "clamp_": lambda L, h, y: h.clamp_(0.5, 1.5),
    "tanh_": lambda L, h, y: h.tanh_(),
    "sigmoid_": lambda L, h, y: h.sigmoid_(),
    "relu_": lambda L, h, y: h.relu_(),
    "floor_": lambda L, h, y: h.floor_(),
    "lerp_": lambda L, h, y: h.lerp_(y, 0.3),
    "masked_fill_": lambda L, h, y: h.masked_fill_(h > 1, 7.0),
    "copy_": lambda L, h, y: h.copy_(y),
    "copy_ row": lambda L, h, y: h.copy_(y[0]),
    "fill_": lambda L, h, y: h.fill_(3.0),
    "zero_": lambda L, h, y: h.zero_(),
    "+=": lambda L, h, y: h.__iadd__(y),
    "+= row": lambda L, h, y: h.__iadd__(y[1]),
    "-= 2": lambda L, h, y: h.__isub__(2),
    "*=": lambda L, h, y: h.__imul__(y),
    "/=": lambda L, h, y: h.__itruediv__(y),
    "**=": lambda L, h, y: h.__ipow__(3),
    "setitem": lambda L, h, y: h.__setitem__((slice(None), 1), y[:, 0]),
    "F.relu": lambda L, h, y: of(L)[1].relu(h, inplace=True),
    "F.relu_": lambda L, h, y: of(L)[1].relu_(h),
    "F.leaky_relu": lambda L, h, y: of(L)[1].leaky_relu(h, 0.1, True),
    "nn.ELU": lambda L, h, y: of(L)[2].ELU(0.7, inplace=True)(h),
    "nn.ReLU(True)": lambda L, h, y: of(L)[2].ReLU(True)(h),
    "nn.Hardtanh": lambda L, h, y: of(L)[2].Hardtanh(-0.5, 0.8, inplace=True)(h),
    "nn.Threshold": lambda L, h, y: of(L)[2].Threshold(0.9, 3.0, inplace=True)(h),
    "Sequential": lambda L, h, y: of(L)[2].Sequential(of(L)[2].ReLU(True), of(L)[2].Tanh())(h),
    "dropout of nothing": lambda L, h, y: of(L)[1].dropout(h, 0.0, True, True),
}


@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("joins", [False, True], ids=["constant", "recorded"])
def test_a_recorded_tensor_stands_for_the_result_as_torchs_does(case, joins):
    shift = 0.9 if case.startswith(("F.", "nn.", "Seq")) else 0  # to have negative numbers

    def run(L):
        x, y = L.tensor(ROWS - shift, requires_grad=True), L.tensor(OTHER, requires_grad=joins)
        h = x * 1
        before = h.clone() if L is torch else h  # torch refuses to differentiate what it has overwritten
        keep = (before * before).sum()
        r = h
        CHANGES[case](L, h, y)
        (keep + (r * L.tensor(OTHER + 1)).sum() + (h**2).sum()).backward()
        return values(h), values(x.grad), None if y.grad is None else values(y.grad)

    for ours, theirs in zip(run(tg), run(torch), strict=True):
        if theirs is None:
            assert ours is None
        else:
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("case", CHANGES)
def test_data_are_changed_where_they_lie(case):
    def run(L):
        h, y = L.tensor(ROWS.copy()), L.tensor(OTHER)
        view, alias = h.reshape(-1), h.detach()
        CHANGES[case](L, h, y)
        return values(h), values(view), values(alias)

    for ours, theirs in zip(run(tg), run(torch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


def test_an_activation_in_place_changes_what_others_hold():
    for library in (tg, torch):
        x = library.tensor([-1.0, 2.0, -3.0, 4.0], requires_grad=True)
        h = x * 1.0
        a = of(library)[2].ReLU(inplace=True)(h)
        y = a + h
        y.sum().backward()
        assert a is h or library is torch
        assert values(y).tolist() == [0, 4, 0, 8] and values(x.grad).tolist() == [0, 2, 0, 2]


def test_plain_data_become_recorded_when_a_parameter_joins():
    for library in (tg, torch):
        w = library.tensor([2.0, 3.0], requires_grad=True)
        total = library.zeros(2)
        for _ in range(3):
            total += w * w
        out = library.zeros(3, 2)
        for i in range(3):
            out[i] = w * i
        (total.sum() + (out * out).sum()).backward()
        assert values(total).tolist() == [12.0, 27.0]
        assert values(w.grad).tolist() == [12.0 + 20.0, 18.0 + 30.0]


VIEWS = [lambda h: h[0], lambda h: h.reshape(-1), lambda h: h.detach(), lambda h: h.split(1)[0]]


@pytest.mark.parametrize("view", VIEWS)
def test_views_that_could_not_follow_are_refused(view):
    x = tg.tensor(ROWS, requires_grad=True)
    h = x * 1
    v = view(h)
    with pytest.raises(RuntimeError, match=r"add_: this tensor \(3, 4\) shares its memory with a view of it"):
        h.add_(1.0)
    if v.node is not None:
        with pytest.raises(RuntimeError, match="or is one, and operations are recorded; compute a new one"):
            v += 1.0
    assert np.array_equal(values(h), ROWS)  # nothing has changed
    del v
    h += 1.0
    assert np.array_equal(values(h), ROWS + 1)


def test_a_view_of_a_leaf_is_refused():
    weight = tg.ones(2, 3, requires_grad=True)
    for view in (weight.reshape(3, 2), weight[0], weight.T):
        before = view.tolist()
        with pytest.raises(RuntimeError, match="shares its memory with a view of it, or is one"):
            view += 1
        assert view.tolist() == before and weight.tolist() == [[1, 1, 1]] * 2


def test_a_view_whose_base_is_gone_may_change():
    x = tg.tensor(ROWS, requires_grad=True)
    h = (x * 1).reshape(-1)
    F.relu(h, inplace=True)
    h.sum().backward()
    assert (values(x.grad) == 1).all()
    data = tg.tensor(ROWS)
    row = data[0]
    with pytest.raises(RuntimeError, match="shares its memory"):
        row += x[0]
    few = tg.tensor(ROWS).reshape(-1)
    few += x.reshape(-1)
    assert np.array_equal(values(few), 2 * ROWS.reshape(-1))


def test_many_views_cost_no_memory():
    data = tg.tensor(ROWS)
    for i in range(100):
        data[i % 3]
    assert len(data._version) <= 10
    rows = [data[i % 3] for i in range(100)]
    assert len(data._version) == 2 and data._version[1] is None and len(rows) == 100
    w = tg.tensor(ROWS, requires_grad=True)
    for _ in range(100):
        w.reshape(-1)
    assert len(w._version) == 2


def test_leaves_and_what_was_computed_are_guarded():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    changes = (lambda: w.add_(1.0), lambda: w.zero_(), lambda: F.relu(w, inplace=True), lambda: w.__setitem__(0, 1.0))
    for change in changes:
        with pytest.raises(RuntimeError, match=r"a leaf that requires grad .* cannot change while operations are"):
            change()
    y = w.sigmoid()
    with tg.no_grad(), pytest.raises(RuntimeError, match="was computed by a recorded operation"):
        y.mul_(2.0)
    assert values(w).tolist() == [1.0, 2.0]


def test_shapes_and_dtypes_that_do_not_fit_are_refused():
    h = tg.tensor(ROWS[0], requires_grad=True) * 1
    with pytest.raises(ValueError, match=r"add_: the result \(3, 4\) does not fit into \(4,\)"):
        h += tg.tensor(ROWS)
    with pytest.raises(ValueError, match=r"add_: a value \(3, 4\) does not fit into \(4,\)"):
        tg.tensor(ROWS[0]).add_(tg.tensor(ROWS))
    for library in (tg, torch):
        n = library.tensor([1, 2])
        r = n
        n += 2
        assert r.tolist() == [3, 4]
        for change in (lambda n=n: n.__iadd__(0.5), lambda n=n: n.__itruediv__(2), lambda n=n: n.mul_(0.5)):
            with pytest.raises((TypeError, RuntimeError)):
                change()
        assert n.tolist() == [3, 4]
        n[0] = 2.7  # an assignment converts
        n.fill_(9.9)
        assert n.tolist() == [9, 9]


def test_a_value_that_was_rebound_is_still_differentiated_twice():
    for library in (tg, torch):
        grad = tg.grad if library is tg else torch.autograd.grad
        x = library.tensor([0.5, 2.0], requires_grad=True)
        h = x * 1
        s = (h.clone() if library is torch else h) ** 3
        h.mul_(x)
        (g,) = grad((s * h).sum(), x, create_graph=True)  # x^5
        (second,) = grad(g.sum(), x)
        np.testing.assert_allclose(values(g), 5 * np.array([0.5, 2.0]) ** 4, rtol=1e-6)
        np.testing.assert_allclose(values(second), 20 * np.array([0.5, 2.0]) ** 3, rtol=1e-6)


def test_operators_leave_what_they_do_not_know_to_python():
    x = tg.tensor(ROWS)
    x += OTHER
    assert np.array_equal(values(x), ROWS + OTHER)
    with pytest.raises(TypeError):
        x += "words"
    y = tg.tensor(ROWS, requires_grad=True)
    z = y @ tg.ones(4, 2)
    before = z
    z @= tg.ones(2, 2)
    assert before is not z and z.shape == (3, 2)


def test_a_relu_in_place_stays_in_front_of_the_pooling_when_others_hold_its_input():
    x = tg.tensor(ROWS.reshape(1, 1, 3, 4) - 1, requires_grad=True)
    h = x * 1
    nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2))(h)
    assert (values(h) >= 0).all()


@pytest.mark.parametrize("method", ["add_", "mul_", "div_", "sqrt_", "sigmoid_", "__iand__", "__ior__", "__ilshift__"])
def test_a_dtype_takes_what_torch_s_takes(method):
    """Each combination of dtypes: the value, or a refusal; integers refuse floats, booleans refuse integers."""
    for mine in ("bool", "uint8", "int64", "float32"):
        for operand in (True, 3, 0.5, "bool", "uint8", "int64", "float32"):
            results = []
            for L in (tg, torch):
                x = L.tensor([1, 0, 1]).to(getattr(L, mine))
                y = L.tensor([1, 1, 2]).to(getattr(L, operand)) if isinstance(operand, str) else operand
                try:
                    getattr(x, method)(*(() if method in ("sqrt_", "sigmoid_") else (y,)))
                    results.append((str(x.dtype).split(".")[-1], x.tolist()))
                except (TypeError, RuntimeError):
                    results.append("refused")
            assert results[0] == results[1], (mine, operand)


def test_numbers_that_a_dtype_cannot_hold_are_refused():
    x, mask = tg.zeros(2, dtype="uint8"), tg.tensor([True, False])
    for value, kind in ((300, OverflowError), (-1, OverflowError), (float("nan"), ValueError)):
        for write in (x.fill_, lambda v: x.masked_fill_(mask, v), lambda v: x.__setitem__(0, v)):
            with pytest.raises(kind, match=f"{value}.*uint8"):
                write(value)
    x[0] = 2.7
    assert x.fill_(1.5).tolist() == [1, 1]  # the fraction goes, as in torch


@pytest.mark.parametrize("value", [[300, 3], np.array([300, 3]), np.array([3, -1.0]), tg.tensor([3, 256])], ids=repr)
def test_what_integers_cannot_hold_is_not_assigned(value):
    x = tg.tensor([5, 6], dtype="uint8")
    with pytest.raises(OverflowError, match=r"x\[\.\.\.\] = y: .* does not fit uint8 \(0 to 255\); widen the dtype"):
        x[:] = value
    with pytest.raises(OverflowError, match=r"copy_: .* does not fit uint8"):
        x.copy_(value if isinstance(value, tg.Tensor) else tg.tensor(value))
    with pytest.raises(ValueError, match=r"x\[\.\.\.\] = y: nan is no uint8"):
        x[:] = np.array([np.nan, 300.0])
    assert x.tolist() == [5, 6]
    x[:] = np.array([255.9, 0])
    assert x.tolist() == [255, 0]


@pytest.mark.parametrize("change", [lambda x: x.add_(300), lambda x: x.__iand__(300), lambda x: x.clamp_(-1, 2)])
def test_a_number_beyond_the_dtype_names_the_operation(change):
    x = tg.tensor([5], dtype="uint8")
    with pytest.raises(OverflowError, match=r"(add|bitwise_and|clamp): .*(300|-1).* uint8; .*widen"):
        change(x)
    assert x.tolist() == [5]
