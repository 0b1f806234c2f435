"""Views: values and gradients are torch's, memory is shared, and what only a copy can give is refused."""

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
from tinygen.ops import view as MODULE  # noqa: F401

CASES = {
    "reshape": [
        (lambda L, x: L.reshape(x, (3, -1)), [(2, 6)]),
        (lambda L, x: x.reshape(4, 3), [(2, 6)]),
        (lambda L, x: x.t().reshape(-1), [(2, 3)]),
        (lambda L, x: x.reshape(()), [(1, 1)]),
        (lambda L, x: x.reshape(0, 7), [(0, 3)]),
    ],
    "view": [(lambda L, x: x.view(3, 2, -1), [(2, 6)])],
    "transpose": [
        (lambda L, x: L.transpose(x, 0, -1), [(2, 3, 4)]),
        (lambda L, x: x.transpose(-2, 0), [(2, 3, 4)]),
        (lambda L, x: x.transpose(0, -1), [()]),
    ],
    "swapaxes": [(lambda L, x: L.swapaxes(x, 1, 2), [(2, 3, 4)])],
    "swapdims": [(lambda L, x: L.swapdims(x, 1, 0), [(2, 3, 4)])],
    "permute": [
        (lambda L, x: L.permute(x, dims=(2, 0, -2)), [(2, 3, 4)]),
        (lambda L, x: x.permute(1, 3, 0, 2), [(2, 3, 4, 1)]),
    ],
    "movedim": [
        (lambda L, x: L.movedim(x, 0, -1), [(2, 3, 4)]),
        (lambda L, x: L.movedim(x, (0, 3), (2, 0)), [(2, 3, 4, 5)]),
    ],
    "flatten": [
        (lambda L, x: L.flatten(x), [(2, 3, 4)]),
        (lambda L, x: x.flatten(1), [(2, 3, 4)]),
        (lambda L, x: x.flatten(0, -2), [(2, 3, 4)]),
        (lambda L, x: x.flatten(), [()]),
    ],
    "unflatten": [
        (lambda L, x: L.unflatten(x, 1, (2, -1)), [(2, 6, 2)]),
        (lambda L, x: x.unflatten(-1, (3, 2)), [(6,)]),
    ],
    "squeeze": [
        (lambda L, x: L.squeeze(x), [(1, 3, 1)]),
        (lambda L, x: x.squeeze(-1), [(1, 3, 1)]),
        (lambda L, x: x.squeeze(1), [(1, 3, 1)]),
        (lambda L, x: L.squeeze(x, (0, 2)), [(1, 3, 1)]),
    ],
    "unsqueeze": [
        (lambda L, x: L.unsqueeze(x, 1), [(2, 3)]),
        (lambda L, x: x.unsqueeze(-1), [(2, 3)]),
        (lambda L, x: x.unsqueeze(0), [()]),
    ],
    "expand": [
        (lambda L, x: x.expand(4, 2, 3), [(2, 1)]),
        (lambda L, x: x.expand(-1, 3), [(2, 1)]),
        (lambda L, x: x.expand((2, 0)), [(2, 1)]),
    ],
    "expand_as": [(lambda L, x: x.expand_as(L.zeros(2, 3)), [(2, 1)])],
    "broadcast_to": [(lambda L, x: L.broadcast_to(x, (5, 2, 3)), [(2, 3)])],
    "clone": [(lambda L, x: L.clone(x), [(2, 3)]), (lambda L, x: x.t().clone(), [(2, 3)])],
    "contiguous": [(lambda L, x: x.t().contiguous().view(6), [(2, 3)])],
    "meshgrid": [
        (lambda L, x, y: L.meshgrid(x, y, indexing="ij"), [(2,), (3,)]),
        (lambda L, x, y: L.meshgrid([x, y], indexing="xy"), [(2,), (3,)]),
    ],
}  # fmt: skip

X = tg.zeros(2, 3)
ERRORS = {
    "reshape": (lambda: X.reshape(4, 2), ValueError, "6 elements"),
    "reshape_two": (lambda: X.reshape(-1, -1), ValueError, "-1"),
    "reshape_float": (lambda: X.reshape(2.0, 3), TypeError, "integers"),
    "transpose": (lambda: X.transpose(0, 2), IndexError, r"-2 to 1"),
    "permute": (lambda: X.permute(0, 0), ValueError, "once"),
    "movedim": (lambda: X.movedim((0, 0), (0, 1)), ValueError, "once"),
    "flatten": (lambda: X.flatten(1, 0), ValueError, "end_dim"),
    "unflatten": (lambda: X.unflatten(1, (2, 2)), ValueError, "multiply"),
    "squeeze": (lambda: X.squeeze(2), IndexError, "squeeze"),
    "unsqueeze": (lambda: X.unsqueeze(4), IndexError, "-3 to 2"),
    "expand": (lambda: X.expand(4, 3), ValueError, "size 1"),
    "expand_fewer": (lambda: X.expand(3), ValueError, "expand"),
}  # fmt: skip


def test_views_share_memory_and_copies_do_not():
    x = tg.zeros(4, 6)
    views = [x.reshape(24), x.view(2, 12), x.t(), x.permute(1, 0), x[1:], x[2], x[1, 1], x.unsqueeze(0), x.squeeze()]
    for view in (*views, x.chunk(2)[1], x.expand(2, 4, 6), x.flatten(), x.unbind(1)[0]):
        assert np.shares_memory(view.numpy(), x.numpy())
        assert view._version is x._version
    for copy in (x.clone(), x[[0, 1]], x.flip(0), x.roll(1), x.repeat(1, 1), x.tril(), tg.cat([x]), x[x > -1]):
        assert not np.shares_memory(copy.numpy(), x.numpy())
    assert x.contiguous() is x
    assert x.t().contiguous().is_contiguous()


def test_copies_are_row_major():
    x = tg.randn(4, 6)
    for y in (
        x.t().clone(),
        x[:, [0, 1]],
        x.index_select(1, tg.tensor([1, 0])),
        x.t().tril(),
        x.flip(1),
        tg.diag(x),
    ):
        assert y.is_contiguous()


def test_writing_into_a_view_changes_the_original():
    x = tg.zeros(3, 2)
    x.view(6)[4] = 7.0
    x[0, 1].fill_(3.0)
    x.split(1)[1].add_(1.0)
    assert x.tolist() == [[0, 3], [1, 1], [7, 0]]


def test_view_refuses_to_copy():
    with pytest.raises(ValueError, match="use reshape"):
        tg.zeros(2, 3).t().view(6)
