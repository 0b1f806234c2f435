"""Indexing: values and gradients are torch's, for integers, slices, arrays and masks in any mixture."""

from __future__ import annotations

import numpy as np
import pytest
from moving_cases import (  # noqa: F401
    T,
    pytest_generate_tests,
    test_derivatives_of_both_orders,
    test_errors_name_the_op_and_what_was_wrong,
    test_every_function_has_a_case,
    test_single_precision_stays_single,
    test_the_cases_reach_every_op_of_the_module,
    test_values_and_gradients_are_torchs,
)

import tinygen as tg
from tinygen.ops import indexing as MODULE
from tinygen.testing import adjoint_check


def assigned(x, index, value):
    """A copy of x with value at an index."""
    y = x * 1
    y[index] = value
    return y


MASK = [[True, False, True], [False, False, True]]
CASES = {
    "getitem": [
        (lambda L, x: x[1], [(3, 4)]),
        (lambda L, x: x[-1, 2], [(3, 4)]),
        (lambda L, x: x[1:, ::2], [(3, 4)]),
        (lambda L, x: x[..., None, 1:2], [(3, 4)]),
        (lambda L, x: x[None, :, None, 1:9], [(3, 4)]),
        (lambda L, x: x[2:1], [(3, 4)]),
        (lambda L, x: x[...], [()]),
        (lambda L, x: x[[0, 2, 0]], [(3, 4)]),
        (lambda L, x: x[L.tensor([[0, 2], [2, -1]])], [(3, 4)]),
        (lambda L, x: x[:, L.tensor([3, 3, 3])], [(3, 4)]),
        (lambda L, x: x[L.tensor(1)], [(3, 4)]),
        (lambda L, x: x[[0, 2, 2], [1, 1, 1]], [(3, 4)]),
        (lambda L, x: x[L.tensor([[0], [2]]), L.tensor([1, 3])], [(3, 4)]),
        (lambda L, x: x[0, :, L.tensor([0, 3, 3])], [(2, 3, 4)]),
        (lambda L, x: x[L.tensor([0, 1]), :, L.tensor([0, 3])], [(2, 3, 4)]),
        (lambda L, x: x[:, L.tensor([0, 2]), L.tensor([0, -3])], [(2, 3, 4)]),
        (lambda L, x: x[L.tensor([0, 1]), None, 1:, L.tensor([0, 3])], [(2, 3, 4)]),
        (lambda L, x: x[..., L.tensor([0, 0])], [(2, 3, 4)]),
        (lambda L, x: x[L.tensor([1]), ..., 2], [(2, 3, 4)]),
        (lambda L, x: x[L.tensor(MASK)], [(2, 3)]),
        (lambda L, x: x[L.tensor(MASK)], [(2, 3, 2)]),
        (lambda L, x: x[:, L.tensor([True, False, True])], [(2, 3, 2)]),
        (lambda L, x: x[L.tensor([False, True]), L.tensor([2])], [(2, 3, 2)]),
        (lambda L, x: x[1, L.tensor(MASK), None], [(2, 2, 3)]),
        (lambda L, x: x[L.zeros(2, 3).bool()], [(2, 3)]),
        (lambda L, x: x[[]], [(2, 3)]),
        (lambda L, x: x[L.tensor(True)], [(2, 3)]),
        (lambda L, x: x[x > 0] * 2, [(3, 4)]),
        (lambda L, x: x[np.array([1, 0])], [(3, 4)]),
        # x[index] = value
        (lambda L, x, v: assigned(x, 1, v), [(3, 4), (4,)]),
        (lambda L, x, v: assigned(x, (slice(None), 2), v), [(3, 4), (1,)]),
        (lambda L, x, v: assigned(x, (L.tensor([2, 0]), slice(1, 3)), v), [(3, 4), (2, 2)]),
        (lambda L, x, v: assigned(x, L.tensor([[True, False], [True, True]]), v), [(2, 2), (3,)]),
        (lambda L, x, v: assigned(x, ..., v), [(2, 3), ()]),
        (lambda L, x: assigned(x, 0, 2.5), [(2, 3)]),
        (lambda L, x: assigned(x * 1, (0, 1), x[1, 1]), [(2, 3)]),
    ],
    "select": [(lambda L, x: L.select(x, 1, -1), [(2, 4)])],
    "index_select": [
        (lambda L, x: L.index_select(x, 1, L.tensor([3, 0, 3])), [(2, 4)]),
        (lambda L, x: x.index_select(0, L.tensor([1])), [(2, 4)]),
    ],
    "index_add": [
        (lambda L, x, y: L.index_add(x, 1, L.tensor([3, 0, 3]), y), [(2, 4), (2, 3)]),
        (lambda L, x, y: L.index_add(x, 0, L.tensor([1]), y, alpha=2.5), [(2, 4), (1, 4)]),
    ],
}  # fmt: skip

X = tg.zeros(2, 3)
ERRORS = {
    "getitem": (lambda: X[2], IndexError, r"\(2, 3\)"),
    "getitem_many": (lambda: X[0, 0, tg.tensor([0])], IndexError, "3 indices"),
    "getitem_array": (lambda: X[tg.tensor([2])], IndexError, r"\(2, 3\)"),
    "getitem_mask": (lambda: X[tg.tensor([True, False, True])], IndexError, r"\(2, 3\)"),
    "getitem_float": (lambda: X[tg.tensor([0.0])], IndexError, "long"),
    "index_select": (lambda: X.index_select(0, tg.tensor([-1])), IndexError, "0 to 1"),
    "index_add": (lambda: tg.index_add(X, 0, tg.tensor([1]), tg.zeros(1, 2)), ValueError, "source"),
}  # fmt: skip


def test_repeated_indices_add_up():
    x = tg.zeros(3, requires_grad=True)
    x[[1, 1, 1, 0]].sum().backward()
    assert x.grad.tolist() == [1, 3, 0]


def test_indexing_any_array_like_torch():
    torch = pytest.importorskip("torch")
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies

    @hypothesis.settings(max_examples=150, deadline=None)
    @hypothesis.given(st.data())
    def check(data):
        dims = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
        items, left = [], list(dims)
        while left and data.draw(st.integers(0, 5)):
            kind = data.draw(st.sampled_from(["int", "slice", "array", "mask", "none"]))
            n = left[0]
            if kind == "none":
                items.append(None)
                continue
            left.pop(0)
            if kind == "int":
                items.append(data.draw(st.integers(-n, n - 1)))
            elif kind == "slice":
                start, stop = data.draw(st.integers(-n, n)), data.draw(st.integers(-n, n))
                items.append(slice(start, stop, data.draw(st.integers(1, 3))))
            elif kind == "array":
                items.append(np.array(data.draw(st.lists(st.integers(-n, n - 1), min_size=2, max_size=2))))
            else:
                mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
                items.append(mask if mask.sum() == 2 else slice(None))
        x = np.arange(float(np.prod(dims))).reshape(dims)
        a = tg.tensor(x, requires_grad=True)
        b = torch.tensor(x, requires_grad=True)
        index = tuple(items)
        y = a[tuple([tg.tensor(i) if isinstance(i, np.ndarray) else i for i in index])]
        z = b[tuple([torch.tensor(i) if isinstance(i, np.ndarray) else i for i in index])]
        assert y.shape == tuple(z.shape)
        assert np.array_equal(y.detach().numpy(), z.detach().numpy())
        if y.array.size:
            (y * y).sum().backward()
            (z * z).sum().backward()
            assert np.array_equal(a.grad.numpy(), b.grad.numpy())

    check()


def test_take_and_untake_are_adjoint():
    index = np.random.default_rng(0).integers(0, 7, (3, 5))
    adjoint_check(
        lambda x: MODULE._take(x, dim=1, index=index), lambda y: MODULE._untake(y, dim=1, index=index, length=7),
        (2, 7, 4), (2, 3, 5, 4),
    )  # fmt: skip


def test_an_index_of_uint8_is_refused_since_torch_takes_it_for_a_mask():
    x = tg.zeros(2, 2)
    for index in (tg.tensor([0, 1], dtype="uint8"), np.array([0, 1], np.uint8), tg.tensor(1, dtype="uint8")):
        with pytest.raises(IndexError, match=r"uint8.*\.bool\(\) or \.long\(\)"):
            x[index]
        with pytest.raises(IndexError, match=r"uint8.*\.bool\(\) or \.long\(\)"):
            x[index] = 1.0
    assert x[np.uint8(1)].shape == (2,)
    with pytest.raises(TypeError, match="masked_select: the mask should be boolean, got uint8"):
        x.masked_select(tg.tensor([0, 1], dtype="uint8"))
