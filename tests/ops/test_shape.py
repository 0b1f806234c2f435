"""Shape ops: the same calls in tinygen and torch give the same values and gradients, and pass checks of both orders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinygen as tg
from tinygen import observe
from tinygen.ops import shape
from tinygen.tape import Op
from tinygen.testing import adjoint_check, gradcheck, gradgradcheck

# One table for everything: `name: [(call, shapes of its float inputs)]`. In a call, L is tinygen or torch.
MASK = [[True, False, True], [False, False, True]]
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
    "cat": [
        (lambda L, x, y: L.cat([x, y]), [(2, 3), (1, 3)]),
        (lambda L, x, y: L.cat((x, y, x), -1), [(2, 3), (2, 0)]),
        (lambda L, x: L.cat([L.zeros(0, dtype=x.dtype), x], 1), [(2, 3)]),
        (lambda L, x: L.cat([x]), [(2, 3)]),
    ],
    "concat": [(lambda L, x, y: L.concat([x, y], dim=1), [(2, 3), (2, 1)])],
    "concatenate": [(lambda L, x, y: L.concatenate([x, y], dim=1), [(2, 3), (2, 1)])],
    "stack": [
        (lambda L, x, y: L.stack([x, y]), [(2, 3), (2, 3)]),
        (lambda L, x, y: L.stack([x, y, x], -1), [(2, 3), (2, 3)]),
        (lambda L, x, y: L.stack([x, y]), [(), ()]),
    ],
    "split": [
        (lambda L, x: L.split(x, 2), [(5, 2)]),
        (lambda L, x: x.split([1, 0, 3], 1), [(2, 4)]),
        (lambda L, x: x.split(2, -1)[1], [(2, 5)]),
        (lambda L, x: x.split(2, 1)[0] * x.split(2, 1)[1], [(2, 4)]),
    ],
    "chunk": [(lambda L, x: L.chunk(x, 3), [(7, 2)]), (lambda L, x: x.chunk(4, 1), [(2, 3)])],
    "unbind": [(lambda L, x: L.unbind(x), [(3, 2)]), (lambda L, x: x.unbind(-1)[1], [(3, 2)])],
    "narrow": [(lambda L, x: L.narrow(x, 1, 1, 2), [(2, 4)]), (lambda L, x: L.narrow(x, -1, -3, 2), [(2, 4)])],
    "select": [(lambda L, x: L.select(x, 1, -1), [(2, 4)])],
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
    ],
    "gather": [
        (lambda L, x: L.gather(x, 1, L.tensor([[0, 3, 3], [1, 1, 0]])), [(2, 4)]),
        (lambda L, x: x.gather(0, L.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 0]])), [(2, 4)]),
        (lambda L, x: x.gather(-1, L.tensor([[[2], [0]]])), [(2, 3, 4)]),
    ],
    "take_along_dim": [
        (lambda L, x: L.take_along_dim(x, L.tensor([[2], [0]]), 1), [(2, 4)]),
        (lambda L, x: L.take_along_dim(x, L.tensor([[2, 0]]), 1), [(2, 4)]),
        (lambda L, x: L.take_along_dim(x, L.tensor([5, 0])), [(2, 4)]),
        (lambda L, x: L.take_along_dim(x, L.tensor([[-1], [-4]]), -1), [(2, 4)]),
    ],
    "scatter": [
        (lambda L, x: L.scatter(x, 1, L.tensor([[0, 3], [1, 2]]), 7.0), [(2, 4)]),
        (lambda L, x, y: L.scatter(x, 1, L.tensor([[0, 3], [1, 2]]), y), [(2, 4), (2, 2)]),
    ],
    "scatter_add": [
        (lambda L, x, y: L.scatter_add(x, 1, L.tensor([[0, 3, 3], [1, 1, 0]]), y), [(2, 4), (2, 3)]),
        (lambda L, x, y: x.scatter_add(0, L.tensor([[2, 0], [2, 2]]), y), [(3, 4), (2, 2)]),
    ],
    "index_select": [
        (lambda L, x: L.index_select(x, 1, L.tensor([3, 0, 3])), [(2, 4)]),
        (lambda L, x: x.index_select(0, L.tensor([1])), [(2, 4)]),
    ],
    "index_add": [
        (lambda L, x, y: L.index_add(x, 1, L.tensor([3, 0, 3]), y), [(2, 4), (2, 3)]),
        (lambda L, x, y: L.index_add(x, 0, L.tensor([1]), y, alpha=2.5), [(2, 4), (1, 4)]),
    ],
    "masked_fill": [
        (lambda L, x: L.masked_fill(x, L.tensor(MASK), -2.0), [(2, 3)]),
        (lambda L, x: x.masked_fill(L.tensor([True, False, True]), 0), [(2, 3)]),
        (lambda L, x: x.masked_fill(x > 0, float("-inf")).exp(), [(2, 3)]),
    ],
    "masked_select": [(lambda L, x: L.masked_select(x, L.tensor([True, False, True])), [(2, 3)])],
    "embedding": [
        (lambda L, w: L.embedding(L.tensor([[0, 2, 2], [3, 0, 2]]), w), [(4, 3)]),
        (lambda L, w: L.embedding(L.tensor(1), w), [(4, 3)]),
    ],
    "pad": [
        (lambda L, x: L.pad(x, (1, 2)), [(2, 3)]),
        (lambda L, x: L.pad(x, (1, 2, 0, 3), value=1.5), [(2, 3)]),
        (lambda L, x: L.pad(x, (-1, 2, 1, -1), value=2.0), [(2, 3)]),
        (lambda L, x: L.pad(x, (-1, -1)), [(2, 3)]),
        (lambda L, x: L.pad(x, (2, 1), mode="reflect"), [(1, 2, 3)]),
        (lambda L, x: L.pad(x, (1, 3, 2, 0), mode="reflect"), [(2, 1, 3, 4)]),
        (lambda L, x: L.pad(x, (1, 3, 2, 0), mode="replicate"), [(2, 1, 3, 4)]),
        (lambda L, x: L.pad(x, (1, 3, 2, 0), mode="circular"), [(2, 1, 3, 4)]),
        (lambda L, x: L.pad(x, (0, 0, 5, 0), mode="replicate"), [(2, 1, 3, 4)]),
        (lambda L, x: L.pad(x, (-1, 1), mode="reflect"), [(1, 2, 4)]),
    ],
    "flip": [(lambda L, x: L.flip(x, dims=[0, 2]), [(2, 3, 4)]), (lambda L, x: x.flip(-1), [(2, 3)])],
    "roll": [
        (lambda L, x: L.roll(x, 1, 0), [(3, 4)]),
        (lambda L, x: x.roll((5, -2), (0, 1)), [(3, 4)]),
        (lambda L, x: x.roll(2), [(3, 4)]),
    ],
    "tile": [(lambda L, x: L.tile(x, (2,)), [(2, 3)]), (lambda L, x: x.tile(2, 1, 3), [(2, 3)])],
    "repeat": [
        (lambda L, x: x.repeat(2, 3), [(2, 3)]),
        (lambda L, x: x.repeat(3, 1, 2), [(2, 3)]),
        (lambda L, x: x.repeat(0, 1), [(2, 3)]),
    ],
    "repeat_interleave": [
        (lambda L, x: L.repeat_interleave(x, 3, 1), [(2, 3)]),
        (lambda L, x: L.repeat_interleave(x, 2), [(2, 3)]),
        (lambda L, x: L.repeat_interleave(x, L.tensor([0, 3]), 0), [(2, 3)]),
    ],
    "pixel_shuffle": [
        (lambda L, x: L.pixel_shuffle(x, 2), [(2, 8, 3, 2)]),
        (lambda L, x: L.pixel_shuffle(x, 3), [(9, 1, 2)]),
    ],
    "pixel_unshuffle": [(lambda L, x: L.pixel_unshuffle(x, 2), [(2, 3, 4, 6)])],
    "tril": [(lambda L, x: L.tril(x), [(3, 4)]), (lambda L, x: x.tril(-1), [(2, 3, 3)])],
    "triu": [(lambda L, x: L.triu(x), [(3, 4)]), (lambda L, x: x.triu(2), [(2, 3, 3)])],
    "diagonal": [
        (lambda L, x: L.diagonal(x), [(3, 4)]),
        (lambda L, x: L.diagonal(x, -1, 2, 0), [(3, 2, 4)]),
        (lambda L, x: L.diagonal(x, 2, -2, -1), [(2, 3, 4)]),
    ],
    "diag": [(lambda L, x: L.diag(x, 1), [(3,)]), (lambda L, x: L.diag(x, -1), [(3, 4)])],
    "sort": [
        (lambda L, x: L.sort(x)[0], [(3, 5)]),
        (lambda L, x: x.sort(0, descending=True).values, [(3, 5)]),
        (lambda L, x: x.sort()[0], [()]),
    ],
    "topk": [
        (lambda L, x: L.topk(x, 2)[0], [(3, 5)]),
        (lambda L, x: x.topk(3, 0, largest=False).values, [(4, 2)]),
        (lambda L, x: x.topk(0)[0], [(4, 2)]),
    ],
    "meshgrid": [
        (lambda L, x, y: L.meshgrid(x, y, indexing="ij"), [(2,), (3,)]),
        (lambda L, x, y: L.meshgrid([x, y], indexing="xy"), [(2,), (3,)]),
    ],
}  # fmt: skip
# A row whose gradient is left out on purpose: compared with torch, but no derivative.
PADDED = [
    (lambda L, w: L.embedding(L.tensor([0, 2, 2, 1]), w, padding_idx=2), [(4, 3)]),
    (lambda L, w: L.embedding(L.tensor([[0, 2], [2, 1]]), w, padding_idx=-2), [(4, 3)]),
]
# torch has the values, but cannot differentiate where src is larger than the index.
CROPPED = [
    (lambda L, x, y: x.scatter_add(0, L.tensor([[2, 0], [2, 2]]), y), [(3, 4), (2, 3)]),
    (lambda L, x, y: L.scatter(x, 1, L.tensor([[0, 3], [1, 2]]), y), [(2, 4), (3, 3)]),
]
WITHOUT_GRADIENT = {"one_hot", "argsort", "nonzero"}
FLAT = [
    pytest.param(call, shapes, id=f"{name}{i}")
    for name, cases in CASES.items()
    for i, (call, shapes) in enumerate(cases)
]


def inputs_for(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s) for s in shapes]


def listed(result):
    return list(result) if isinstance(result, tuple | list) else [result]


@pytest.fixture(scope="module")
def T():
    """torch with what it keeps in torch.nn.functional."""
    torch = pytest.importorskip("torch")

    class Both:
        def __getattr__(self, name):
            return getattr(torch.nn.functional, name) if name in ("pad", "embedding") else getattr(torch, name)

    return Both()


def test_every_differentiable_function_has_a_case():
    assert set(shape.__all__) - WITHOUT_GRADIENT == set(CASES)


def test_the_cases_reach_every_op_of_the_module():
    """Private ops too: those that are somebody's adjoint run in a first derivative."""
    declared = {f for f in vars(shape).values() if isinstance(f, Op) and f.forward.__module__ == shape.__name__}
    reached = set()
    with observe.observing(lambda op, inputs, output, node: reached.add(op)):
        for case in FLAT:
            call, shapes = case.values
            xs = [tg.tensor(x, requires_grad=True) for x in inputs_for(shapes)]
            outputs = call(tg, *xs)
            outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
            tg.grad(outputs, xs, [tg.ones_like(y) for y in outputs])
    assert not {f.name for f in declared - reached}


@pytest.mark.parametrize("call, shapes", FLAT + CROPPED)
def test_derivatives_of_both_orders(call, shapes):
    inputs = inputs_for(shapes)
    gradcheck(lambda *xs: call(tg, *xs), inputs, directions=2)
    gradgradcheck(lambda *xs: call(tg, *xs), inputs, directions=1)


@pytest.mark.parametrize("call, shapes", FLAT + PADDED)
def test_values_and_gradients_are_torchs(T, call, shapes):
    inputs = inputs_for(shapes, 1)
    ours = [tg.tensor(x, requires_grad=True) for x in inputs]
    theirs = [T.tensor(x, requires_grad=True) for x in inputs]
    a, b = listed(call(tg, *ours)), listed(call(T, *theirs))
    assert len(a) == len(b)
    for y, z in zip(a, b, strict=True):
        assert y.shape == tuple(z.shape)
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-14)
    weights = [np.random.default_rng(2).standard_normal(y.shape) for y in a]
    found = tg.grad(a, ours, [tg.tensor(w) for w in weights])
    expected = T.autograd.grad(b, theirs, [T.tensor(w) for w in weights])
    for g, h in zip(found, expected, strict=True):
        np.testing.assert_allclose(g.numpy(), h.numpy(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("call, shapes", FLAT)
def test_single_precision_stays_single(call, shapes):
    xs = [tg.tensor(x.astype(np.float32), requires_grad=True) for x in inputs_for(shapes)]
    outputs = listed(call(tg, *xs))
    assert {str(y.dtype) for y in outputs} == {"float32"}
    gradients = tg.grad(outputs, xs, [tg.ones_like(y) for y in outputs])
    assert {str(g.dtype) for g in gradients} == {"float32"}


# ---------------------------------------------------------------- facts of their own


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
        tg.diagonal(x),
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


def test_split_with_unused_pieces():
    x = tg.ones(6, requires_grad=True)
    a, _, c = x.split(2)
    (a.sum() + 3 * c.sum()).backward()
    assert x.grad.tolist() == [1, 1, 0, 0, 3, 3]


def test_repeated_indices_add_up():
    x = tg.zeros(3, requires_grad=True)
    x[[1, 1, 1, 0]].sum().backward()
    assert x.grad.tolist() == [1, 3, 0]


def test_sort_is_stable_and_puts_nan_last():
    x = tg.tensor([2.0, float("nan"), 1.0, 2.0, 1.0])
    up, order = x.sort()
    assert order.tolist() == [2, 4, 0, 3, 1]
    assert np.isnan(up.numpy()[-1])
    down, order = x.sort(descending=True)
    assert order.tolist() == [1, 0, 3, 2, 4]
    assert np.isnan(down.numpy()[0])
    assert x.topk(2).indices.tolist() == [1, 0]
    assert x.argsort().tolist() == [2, 4, 0, 3, 1]
    assert tg.tensor([True, False]).sort().values.tolist() == [False, True]


def test_sort_indices_equal_torchs_with_ties(T):
    x = np.random.default_rng(0).integers(0, 4, (5, 30)).astype(np.float32)
    for dim, descending in itertools.product((0, 1, -1), (False, True)):
        values, order = tg.tensor(x).sort(dim, descending)
        expected = T.sort(T.tensor(x), dim=dim, descending=descending, stable=True)
        assert np.array_equal(order.numpy(), expected.indices.numpy())
        assert np.array_equal(values.numpy(), expected.values.numpy())


def test_gradient_of_sort_at_ties_goes_to_one_element():
    x = tg.tensor([1.0, 1.0, 0.0], requires_grad=True)
    x.topk(1).values.sum().backward()
    assert x.grad.tolist() == [1, 0, 0]


def test_one_hot():
    y = tg.one_hot(tg.tensor([[0, 2], [1, 1]]))
    assert y.dtype == np.int64 and y.shape == (2, 2, 3)
    assert y.tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]]]
    assert tg.one_hot(tg.tensor(1), 4).tolist() == [0, 1, 0, 0]
    assert tg.one_hot(tg.zeros(0, dtype="int64"), 4).shape == (0, 4)
    with pytest.raises(IndexError, match="one_hot"):
        tg.one_hot(tg.tensor([0, 3]), 3)
    with pytest.raises(IndexError, match="one_hot"):
        tg.one_hot(tg.tensor([-2, 1]), 3)


def test_integers_and_booleans_move_too():
    x = tg.arange(6).reshape(2, 3)
    assert tg.cat([x, x]).dtype == np.int64
    assert x.flip(0)[:, [0, 0]].tolist() == [[3, 3], [0, 0]]
    assert tg.scatter_add(tg.zeros(3, dtype="int64"), 0, tg.tensor([0, 2, 2]), tg.tensor([1, 2, 3])).tolist() == [
        1,
        0,
        5,
    ]
    assert tg.scatter(tg.zeros(2, 3), 1, tg.tensor([[2], [0]]), 1).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert tg.pad(x, (1, 0), value=9)[0].tolist() == [9, 0, 1, 2]
    assert (x > 2).tril().tolist() == [[False, False, False], [True, True, False]]


def test_pairs_are_adjoint():
    index = np.random.default_rng(0).integers(0, 7, (3, 5))
    adjoint_check(
        lambda x: shape._take(x, dim=1, index=index), lambda y: shape._untake(y, dim=1, index=index, length=7),
        (2, 7, 4), (2, 3, 5, 4),
    )  # fmt: skip
    adjoint_check(
        lambda x: shape._gather(x, dim=1, index=index), lambda y: shape._scatter(y, dim=1, index=index, shape=(4, 7)),
        (4, 7), (3, 5),
    )  # fmt: skip
    adjoint_check(lambda x: tg.pixel_shuffle(x, 2), lambda y: tg.pixel_unshuffle(y, 2), (2, 8, 3, 5), (2, 2, 6, 10))


def test_pixel_shuffle_is_a_permutation():
    x = tg.randn(2, 12, 3, 5)
    y = tg.pixel_shuffle(x, 2)
    assert y.shape == (2, 3, 6, 10)
    assert sorted(y.flatten().tolist()) == sorted(x.flatten().tolist())
    assert tg.pixel_unshuffle(y, 2).tolist() == x.tolist()


def test_long_split_backpropagates_in_one_piece():
    x = tg.ones(1000, requires_grad=True)
    sum(tg.unbind(x * 2)[10:990:7], tg.zeros(())).backward()
    expected = np.zeros(1000)
    expected[10:990:7] = 2
    assert np.array_equal(x.grad.numpy(), expected)


# ---------------------------------------------------------------- hypothesis


def test_indexing_any_array_like_torch(T):
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
        b = T.tensor(x, requires_grad=True)
        index = tuple(items)
        y = a[tuple([tg.tensor(i) if isinstance(i, np.ndarray) else i for i in index])]
        z = b[tuple([T.tensor(i) if isinstance(i, np.ndarray) else i for i in index])]
        assert y.shape == tuple(z.shape)
        assert np.array_equal(y.detach().numpy(), z.detach().numpy())
        if y.array.size:
            (y * y).sum().backward()
            (z * z).sum().backward()
            assert np.array_equal(a.grad.numpy(), b.grad.numpy())

    check()


# ---------------------------------------------------------------- errors

X = tg.zeros(2, 3)
BAD = {
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
    "cat": (lambda: tg.cat([X, tg.zeros(2, 2)], 0), ValueError, r"\(2, 2\)"),
    "cat_empty": (lambda: tg.cat([]), ValueError, "at least one"),
    "cat_scalars": (lambda: tg.cat([tg.zeros(())]), ValueError, "stack"),
    "stack": (lambda: tg.stack([X, tg.zeros(3)]), ValueError, "use cat"),
    "split": (lambda: X.split([1, 1], 1), ValueError, "add up"),
    "split_zero": (lambda: X.split(0), ValueError, "at least 1"),
    "narrow": (lambda: tg.narrow(X, 1, 2, 2), ValueError, "axis 1"),
    "getitem": (lambda: X[2], IndexError, r"\(2, 3\)"),
    "getitem_many": (lambda: X[0, 0, tg.tensor([0])], IndexError, "3 indices"),
    "getitem_array": (lambda: X[tg.tensor([2])], IndexError, r"\(2, 3\)"),
    "getitem_mask": (lambda: X[tg.tensor([True, False, True])], IndexError, r"\(2, 3\)"),
    "getitem_float": (lambda: X[tg.tensor([0.0])], IndexError, "long"),
    "gather": (lambda: X.gather(1, tg.tensor([[3]])), IndexError, "0 to 2"),
    "take_along_dim": (lambda: tg.take_along_dim(X, tg.tensor([[3]]), 1), IndexError, "0 to 2"),
    "gather_shape": (lambda: X.gather(1, tg.tensor([0])), ValueError, "axes"),
    "gather_float": (lambda: X.gather(1, tg.zeros(1, 1)), TypeError, "integers"),
    "scatter_add": (lambda: X.scatter_add(1, tg.tensor([[0, 1]]), tg.zeros(1, 1)), ValueError, "src"),
    "index_select": (lambda: X.index_select(0, tg.tensor([-1])), IndexError, "0 to 1"),
    "index_add": (lambda: tg.index_add(X, 0, tg.tensor([1]), tg.zeros(1, 2)), ValueError, "source"),
    "masked_fill": (lambda: X.masked_fill(tg.tensor([True, False]), 0), ValueError, "mask"),
    "masked_fill_int": (lambda: X.masked_fill(tg.tensor([1, 0, 1]), 0), TypeError, "bool"),
    "embedding": (lambda: tg.embedding(tg.tensor([2]), X), IndexError, "0 to 1"),
    "embedding_float": (lambda: tg.embedding(tg.tensor([1.0]), X), TypeError, "integers"),
    "pad": (lambda: tg.pad(X, (1,)), ValueError, "before, after"),
    "pad_crop": (lambda: tg.pad(X, (-2, -2)), ValueError, "crops"),
    "pad_reflect": (lambda: tg.pad(X, (3, 0), mode="reflect"), ValueError, "at most 2"),
    "pad_mode": (lambda: tg.pad(X, (1, 0), mode="mirror"), ValueError, "'reflect'"),
    "flip": (lambda: X.flip(0, 0), ValueError, "twice"),
    "roll": (lambda: X.roll((1, 2)), ValueError, "dims"),
    "repeat": (lambda: X.repeat(2), ValueError, "repeat"),
    "pixel_shuffle": (lambda: tg.pixel_shuffle(tg.zeros(1, 6, 2, 2), 2), ValueError, r"C \* 2"),
    "tril": (lambda: tg.tril(tg.zeros(3)), ValueError, "2 axes"),
    "diagonal": (lambda: tg.diagonal(X, 0, 1, -1), ValueError, "same axis"),
    "topk": (lambda: X.topk(4), ValueError, "k=4"),
    "sort": (lambda: X.sort(2), IndexError, "sort"),
    "one_hot": (lambda: tg.one_hot(tg.zeros(0, dtype="int64")), ValueError, "num_classes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_op_and_what_was_wrong(name):
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert str(caught.value).startswith(name.split("_")[0])


def test_nonzero():
    x = tg.tensor([[0.0, 2.0], [3.0, 0.0]])
    assert tg.nonzero(x).tolist() == [[0, 1], [1, 0]]
    assert [p.tolist() for p in tg.nonzero(x > 2, as_tuple=True)] == [[1], [0]]
    assert tg.nonzero(x > 5).shape == (0, 2)
