"""The tests that every file of ops which only move numbers has in common.

A test file imports these and names MODULE, CASES = {name: [(call, shapes of its float inputs)]} and, where needed,
ERRORS = {name: (call, exception, words)}, WITHOUT_GRADIENT, ONLY_TORCH, ONLY_DERIVATIVES. In a call, L is tinygen or
torch. So the same calls in tinygen and torch give the same values and gradients, and pass checks of both orders.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen import observe
from tinygen.tape import Op
from tinygen.testing import gradcheck, gradgradcheck


def table(module, *extras):
    """The cases of a test file, with those of its lists named here."""
    named = [
        pytest.param(call, shapes, id=f"{name}{i}")
        for name, cases in module.CASES.items()
        for i, (call, shapes) in enumerate(cases)
    ]
    return named + [case for extra in extras for case in getattr(module, extra, [])]


def pytest_generate_tests(metafunc):
    extras = {
        "test_derivatives_of_both_orders": ["ONLY_DERIVATIVES"],
        "test_values_and_gradients_are_torchs": ["ONLY_TORCH"],
    }
    if "shapes" in metafunc.fixturenames:
        cases = table(metafunc.module, *extras.get(metafunc.function.__name__, []))
        metafunc.parametrize("call, shapes", cases)
    if "error" in metafunc.fixturenames:
        metafunc.parametrize("error", metafunc.module.ERRORS)


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


def test_every_function_has_a_case(request):
    module = request.module
    assert set(module.MODULE.__all__) - getattr(module, "WITHOUT_GRADIENT", set()) == set(module.CASES)


def test_the_cases_reach_every_op_of_the_module(request):
    """Private ops too: those that are somebody's adjoint run in a first derivative."""
    module = request.module.MODULE
    declared = {f for f in vars(module).values() if isinstance(f, Op) and f.forward.__module__ == module.__name__}
    reached = set()
    with observe.observing(lambda op, inputs, output, node: reached.add(op)):
        for case in table(request.module):
            call, shapes = case.values
            xs = [tg.tensor(x, requires_grad=True) for x in inputs_for(shapes)]
            outputs = listed(call(tg, *xs))
            tg.grad(outputs, xs, [tg.ones_like(y) for y in outputs])
    assert not {f.name for f in declared - reached}


def test_derivatives_of_both_orders(call, shapes):
    inputs = inputs_for(shapes)
    gradcheck(lambda *xs: call(tg, *xs), inputs, directions=2)
    gradgradcheck(lambda *xs: call(tg, *xs), inputs, directions=1)


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


def test_single_precision_stays_single(call, shapes):
    xs = [tg.tensor(x.astype(np.float32), requires_grad=True) for x in inputs_for(shapes)]
    outputs = listed(call(tg, *xs))
    assert {str(y.dtype) for y in outputs} == {"float32"}
    gradients = tg.grad(outputs, xs, [tg.ones_like(y) for y in outputs])
    assert {str(g.dtype) for g in gradients} == {"float32"}


def test_errors_name_the_op_and_what_was_wrong(request, error):
    call, kind, words = request.module.ERRORS[error]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert str(caught.value).startswith(error.split("_")[0])
