"""Creation: torch's dtypes and values, what is shared and what is copied, and clear refusals."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen.ops import creation

# Calls that mean the same in tinygen (L = tg) and torch.
SAME = {
    "tensor": [
        lambda L: L.tensor(3),
        lambda L: L.tensor(2.5),
        lambda L: L.tensor(True),
        lambda L: L.tensor([1, 2]),
        lambda L: L.tensor([1, 2.5]),
        lambda L: L.tensor([[True, False]]),
        lambda L: L.tensor([]),
        lambda L: L.tensor([[], []]),
        lambda L: L.tensor([[1, 2], [3, 4]], dtype=L.float64),
        lambda L: L.tensor(((1.5,), (2,))),
        lambda L: L.tensor(np.float64(1.5)),
        lambda L: L.tensor(np.arange(3.0)),
        lambda L: L.tensor(np.arange(3, dtype=np.int32)),
        lambda L: L.tensor(np.ones((2, 3), np.float32).T),
        lambda L: L.tensor([L.tensor(1.0), L.tensor(2.0)]),
        lambda L: L.tensor(range(4)),
        lambda L: L.tensor([2**40]),
        lambda L: L.tensor(float("nan")),
    ],
    "as_tensor": [lambda L: L.as_tensor([1.0, 2.0]), lambda L: L.as_tensor(np.arange(3), dtype=L.float32)],
    "asarray": [lambda L: L.asarray([1, 2], dtype=L.float32), lambda L: L.asarray(np.arange(3.0), copy=True)],
    "from_numpy": [lambda L: L.from_numpy(np.arange(6.0).reshape(2, 3)[:, ::2])],
    "from_dlpack": [lambda L: L.from_dlpack(np.arange(6, dtype=np.float32))],
    "zeros": [
        lambda L: L.zeros(2, 3),
        lambda L: L.zeros((2, 3)),
        lambda L: L.zeros([0, 2]),
        lambda L: L.zeros(size=(2,)),
        lambda L: L.zeros(()),
    ],
    "ones": [lambda L: L.ones(2, 3), lambda L: L.ones(4, dtype=L.int64), lambda L: L.ones(2, dtype=L.bool)],
    "full": [
        lambda L: L.full((2, 3), 7),
        lambda L: L.full((2,), 1.5),
        lambda L: L.full([2], True),
        lambda L: L.full((), 2, dtype=L.float32),
    ],
    "empty": [lambda L: L.empty(0, 3), lambda L: L.empty((3, 0), dtype=L.int64)],
    "zeros_like": [
        lambda L: L.zeros_like(L.ones(2, 3, dtype=L.float64)),
        lambda L: L.zeros_like(L.ones(2), dtype=L.int32),
    ],
    "ones_like": [lambda L: L.ones_like(L.zeros(2, 3))],
    "full_like": [lambda L: L.full_like(L.zeros(2, 3), 4), lambda L: L.full_like(L.zeros(2), 4, dtype=L.int64)],
    "empty_like": [lambda L: L.empty_like(L.zeros(0, 3))],
    "arange": [
        lambda L: L.arange(5),
        lambda L: L.arange(5.0),
        lambda L: L.arange(2, 9, 3),
        lambda L: L.arange(9, 2, -3),
        lambda L: L.arange(0, 1, 0.1),
        lambda L: L.arange(1.0, -1.0, -0.3),
        lambda L: L.arange(3, dtype=L.float32),
        lambda L: L.arange(0.0, 2.0, 0.5, dtype=L.float64),
        lambda L: L.arange(4, 4),
        lambda L: L.arange(0),
    ],
    "linspace": [
        lambda L: L.linspace(0, 1, 11),
        lambda L: L.linspace(-3.0, 3.0, 7, dtype=L.float64),
        lambda L: L.linspace(1, 5, 1),
        lambda L: L.linspace(1, 5, 0),
        lambda L: L.linspace(5, 1, 4),
    ],
    "eye": [lambda L: L.eye(3), lambda L: L.eye(2, 4, dtype=L.float64), lambda L: L.eye(3, 2)],
}
FLAT = [pytest.param(call, id=f"{name}{i}") for name, calls in SAME.items() for i, call in enumerate(calls)]


def test_every_function_has_a_case():
    assert set(creation.__all__) == set(SAME)


@pytest.mark.parametrize("call", FLAT)
def test_values_and_dtypes_are_torchs(call):
    torch = pytest.importorskip("torch")
    ours, theirs = call(tg), call(torch)
    assert ours.shape == tuple(theirs.shape)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-7, atol=1e-7)
    assert not ours.requires_grad and str(ours.device) == "cpu"


def test_tensor_copies_and_the_others_share():
    a = np.zeros(3, np.float32)
    copied, shared, wrapped = tg.tensor(a), tg.from_numpy(a), tg.as_tensor(a)
    a[0] = 1
    assert copied.tolist() == [0, 0, 0]
    assert shared.tolist() == wrapped.tolist() == [1, 0, 0]
    shared[1] = 2.0
    assert a.tolist() == [1, 2, 0]
    assert not np.shares_memory(tg.as_tensor(a, dtype="float64").numpy(), a)
    assert not np.shares_memory(tg.asarray(a, copy=True).numpy(), a)


def test_a_tensor_made_of_a_tensor_leaves_the_history_behind():
    x = tg.ones(3, requires_grad=True)
    y = tg.tensor(x * 2)
    assert not y.requires_grad and y.tolist() == [2, 2, 2]
    assert tg.as_tensor(x) is x
    assert tg.as_tensor(x, dtype="float64").requires_grad  # a conversion, so part of the graph


def test_leaves():
    for t in (tg.tensor([1.0], requires_grad=True), tg.zeros(2, requires_grad=True), tg.eye(2, requires_grad=True),
              tg.linspace(0, 1, 3, requires_grad=True), tg.full((2,), 1.0, requires_grad=True),
              tg.ones_like(tg.zeros(3), requires_grad=True), tg.arange(3.0, requires_grad=True)):  # fmt: skip
        assert t.requires_grad and t.is_leaf
        (t * t).sum().backward()
        assert np.array_equal(t.grad.numpy(), 2 * t.detach().numpy())


def test_torch_tensors_come_in_and_go_out_without_a_copy():
    torch = pytest.importorskip("torch")
    theirs = torch.zeros(2, 3)
    ours = tg.from_dlpack(theirs)
    theirs[0, 1] = 5
    assert ours.tolist() == [[0, 5, 0], [0, 0, 0]]
    ours.fill_(2.0)
    assert theirs.tolist() == [[2, 2, 2], [2, 2, 2]]
    back = torch.from_dlpack(ours)
    back[1, 2] = 7
    assert ours[1, 2].item() == 7
    assert tg.from_dlpack(ours) is ours


def test_torch_data_is_copied_by_tensor():
    torch = pytest.importorskip("torch")
    theirs = torch.arange(3)
    ours = tg.tensor(theirs)
    theirs[0] = 9
    assert ours.dtype == np.int64 and ours.tolist() == [0, 1, 2]


def test_linspace_hits_its_ends_exactly():
    for a, b, n in ((0, 1, 3), (-0.1, 0.3, 7), (1e-3, 1e3, 50)):
        x = tg.linspace(a, b, n).numpy()
        assert x[0] == np.float32(a) and x[-1] == np.float32(b)


def test_results_are_row_major():
    assert tg.tensor(np.ones((3, 4)).T).is_contiguous()
    assert not tg.from_numpy(np.ones((3, 4)).T).is_contiguous()


BAD = {
    "tensor": (lambda: tg.tensor([[1, 2], [3]]), ValueError, "rectangular"),
    "tensor ": (lambda: tg.tensor("abc"), TypeError, "str"),
    "tensor  ": (lambda: tg.tensor([1, 2], requires_grad=True), RuntimeError, "float32"),
    "tensor   ": (lambda: tg.tensor(1j), TypeError, "complex"),
    "tensor    ": (lambda: tg.tensor(None), TypeError, "NoneType"),
    "from_numpy": (lambda: tg.from_numpy([1, 2]), TypeError, "list"),
    "from_numpy ": (lambda: tg.from_numpy(np.array(["a"])), TypeError, "from_numpy"),
    "zeros": (lambda: tg.zeros(2, -1), ValueError, "negative"),
    "ones": (lambda: tg.ones(2.5), TypeError, "integers"),
    "arange": (lambda: tg.arange(0, 5, -1), ValueError, "positive"),
    "arange ": (lambda: tg.arange(0, 5, 0), ValueError, "step"),
    "linspace": (lambda: tg.linspace(0, 1, -1), ValueError, "negative"),
    "device": (lambda: tg.zeros(2, device="tpu"), ValueError, "unknown device"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_function_and_what_was_wrong(name):
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert str(caught.value).startswith(name.strip())


@pytest.mark.parametrize("make", [
    lambda v, d: tg.tensor([0, v], dtype=d), lambda v, d: tg.as_tensor([0, v], dtype=d),
    lambda v, d: tg.tensor(np.array([0, v]), dtype=d), lambda v, d: tg.full((2,), v, dtype=d),
    lambda v, d: tg.full_like(tg.zeros(2, dtype=d), v), lambda v, d: tg.linspace(0, v, 3, dtype=d),
])  # fmt: skip
def test_an_integer_dtype_refuses_what_it_cannot_hold(make):
    """Naming value and dtype; nothing wraps around."""
    for value, dtype in ((300, "uint8"), (-1, "uint8"), (2**40, "int32"), (1e20, "int64")):
        with pytest.raises(OverflowError, match=f"does not fit {dtype}"):
            make(value, dtype)
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match=f"{value} is no int64"):
            make(value, "int64")
    assert make(255, "uint8")[-1].item() == 255 and make(2.75, "int64")[-1].item() == 2
    with pytest.raises(OverflowError, match="arange: 400 does not fit uint8"):
        tg.arange(0, 500, 100, dtype="uint8")


def test_python_numbers_reach_a_given_dtype_without_a_detour():
    assert tg.tensor([0.1], dtype="float64").item() == tg.as_tensor(0.1, dtype="float64").item() == 0.1
    assert tg.tensor([16777217.0], dtype="int64").item() == 16777217


@pytest.mark.parametrize("door", [tg.from_numpy, tg.as_tensor, tg.asarray, tg.tensor, tg.Tensor,
                                  lambda m: tg.ones(2, 2, dtype=m.dtype) * m, lambda m: tg.tensor(list(map(list, m.A))),
                                  ])  # fmt: skip
def test_a_matrix_becomes_an_array(door):
    with pytest.warns(PendingDeprecationWarning):
        a = door(np.matrix([[1.0, 2.0], [3.0, 4.0]]))
    assert type(a.array) is np.ndarray and (a * a).tolist() == [[1, 4], [9, 16]]


def test_a_matrix_still_shares_its_memory():
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0]])
    tg.from_numpy(matrix)[0, 1] = 7
    assert matrix[0, 1] == 7


def test_the_class_takes_arrays_of_numbers_alone():
    with pytest.raises(TypeError, match="Tensor: expected an array, got Tensor; write tensor"):
        tg.Tensor(tg.ones(2))
    with pytest.raises(TypeError, match="Tensor: expected an array, got list; write tensor"):
        tg.Tensor([1.0])
    for wrong in (np.array([None]), np.ones(2, complex), np.array(["a"]), np.zeros(2, "M8[s]")):
        with pytest.raises(TypeError, match="Tensor: tensors hold real numbers, integers or booleans, not"):
            tg.Tensor(wrong)
    assert tg.Tensor(np.float32(2)).shape == () and type(tg.Tensor(np.float32(2)).array) is np.ndarray


@pytest.mark.parametrize("data", [2**63, [2**63], [[2**64]], -(2**63) - 1, [2**63, 1], [[1], [2**63]], [True, 2**63]])
def test_integers_beyond_int64_are_refused_as_by_torch(data):
    with pytest.raises(ValueError, match="Overflow"):
        pytest.importorskip("torch").tensor(data)
    with pytest.raises(OverflowError, match="tensor: an integer leaves the range of int64"):
        tg.tensor(data)
    assert tg.tensor(2**63, dtype="float32").item() == 2.0**63


def test_large_integers_beside_floats_are_floats():
    assert tg.tensor([2**63, 1.5]).tolist() == [2.0**63, 1.5] and tg.tensor([2**63, 1], dtype="float64")[1].item() == 1
    with pytest.raises(OverflowError, match="tensor: an integer leaves the range"):
        tg.tensor([1.0, 10**400])
