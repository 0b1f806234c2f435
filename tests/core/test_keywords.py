"""Arguments by torch's names, and errors that say which argument is no tensor."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F
from tinygen.tape import Op

FUNCTIONS = {
    f"{module.__name__}.{name}": value
    for module in (F, tg)
    for name, value in sorted(vars(module).items())
    if inspect.isfunction(value) and not name.startswith("_") and hasattr(value, "__wrapped__")
}


def required(f):
    """The arguments without which f cannot be called."""
    every = inspect.signature(f).parameters.values()
    return [p for p in every if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]


def takes_a_tensor_first(name):
    """Of `normal` the mean may be a number."""
    arguments = required(FUNCTIONS[name])
    return bool(arguments) and arguments[0].annotation == "Tensor" and name != "tinygen.normal"


@pytest.mark.parametrize("name", [*filter(takes_a_tensor_first, FUNCTIONS)])
def test_a_list_in_the_place_of_a_tensor_is_named(name):
    f = FUNCTIONS[name]
    arguments = [[1.0, 2.0] if p.annotation == "Tensor" else 1 for p in required(f)]
    words = f"{required(f)[0].name} should be a tensor, got list; write tensor|tensor.*list|list.*tensor"
    with pytest.raises(TypeError, match=words):
        f(*arguments)


def test_there_are_many_of_them():
    assert len([*filter(takes_a_tensor_first, FUNCTIONS)]) > 100


X, W, B = tg.randn(2, 3), tg.randn(4, 3), tg.randn(4)
CALLS = {
    "linear": (lambda: F.linear(input=X, weight=W), lambda: F.linear(X, W)),
    "linear bias": (lambda: F.linear(X, weight=W, bias=B), lambda: F.linear(X, W, B)),
    "mul": (lambda: tg.mul(input=X, other=2.0), lambda: X * 2.0),
    "mul other": (lambda: X.mul(other=X), lambda: X * X),
    "pow": (lambda: tg.pow(X, exponent=2), lambda: X**2),
    "add": (lambda: tg.add(input=X, other=X, alpha=2), lambda: X + X * 2),
    "div": (lambda: tg.div(input=X, other=X, rounding_mode="floor"), lambda: tg.div(X, X, rounding_mode="floor")),
    "eq": (lambda: tg.eq(input=X, other=X), lambda: X == X),
    "maximum": (lambda: tg.maximum(input=X, other=-X), lambda: tg.maximum(X, -X)),
    **{
        name: (lambda name=name: getattr(tg, name)(input=X), lambda name=name: getattr(tg, name)(X))
        for name, op in sorted(vars(tg).items())
        if isinstance(op, Op) and len(op.args) == 1 and not op.variadic and not op.attributes
    },
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [n for n in CALLS if n != "bitwise_not"])
def test_ops_by_keyword(name):
    by_keyword, by_position = CALLS[name]
    np.testing.assert_array_equal(by_keyword().numpy(), by_position().numpy())


def test_keywords_carry_gradients():
    w = tg.ones(4, 3, requires_grad=True)
    F.linear(input=X, weight=w).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), np.tile(X.numpy().sum(0), (4, 1)), rtol=1e-5)


def test_wrong_keywords_are_named():
    with pytest.raises(TypeError, match="exp: argument 'foo' is not known; there are x"):
        tg.exp(foo=X)
    with pytest.raises(TypeError, match="mul: argument 'other' is given twice"):
        tg.mul(X, X, other=X)
    with pytest.raises(TypeError, match="linear: argument 'input' is missing"):
        F.linear(weight=W)


def test_a_tensor_is_not_made_of_a_list_by_its_class():
    for data in ([1.0, 2.0], (1, 2), 3):
        with pytest.raises(TypeError, match=r"Tensor: expected an array, got .*; write tensor"):
            tg.Tensor(data)


def test_devices_by_number():
    x = tg.ones(2)
    with pytest.raises(RuntimeError, match="cuda"):
        x.to("cuda:0") if not tg.cuda.is_available() else pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="'cuda:1': tinygen uses one GPU"):
        x.to("cuda:1")
    assert x.to("cpu") is x and x.to("float64").dtype == x.to(float).dtype == tg.float64


def test_a_module_by_its_number():
    model = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    assert model.__getattr__("1") is model[1]
    assert copy.deepcopy(model).__getattr__("0").extra_repr() == model[0].extra_repr()
    with pytest.raises(AttributeError, match="Sequential has no attribute '2'"):
        model.__getattr__("2")


ALONG = {  # name: (L, F of L, x, the axis by name) -> result; torch has most of them
    "softmax": lambda L, N, x, **a: L.softmax(x, **a),
    "cat": lambda L, N, x, **a: L.cat([x, x], **a),
    "stack": lambda L, N, x, **a: L.stack([x, x], **a),
    "sort": lambda L, N, x, **a: x.sort(**a).values,
    "argsort": lambda L, N, x, **a: x.argsort(**a),
    "topk": lambda L, N, x, **a: x.topk(2, **a).indices,
    "squeeze": lambda L, N, x, **a: x[:, :1].squeeze(**a),
    "unsqueeze": lambda L, N, x, **a: x.unsqueeze(**a),
    "unbind": lambda L, N, x, **a: x.unbind(**a)[1],
    "chunk": lambda L, N, x, **a: x.chunk(2, **a)[1],
    "narrow": lambda L, N, x, **a: x.narrow(**a, start=1, length=1),
    "repeat_interleave": lambda L, N, x, **a: x.repeat_interleave(2, **a),
    "linalg.norm": lambda L, N, x, **a: L.linalg.norm(x, **a),
}
OUR_OWN = {
    "F.softmax": lambda L, N, x, **a: N.softmax(x, **a),
    "F.log_softmax": lambda L, N, x, **a: N.log_softmax(x, **a),
    "F.softmin": lambda L, N, x, **a: N.softmin(x, **a),
    "F.normalize": lambda L, N, x, **a: N.normalize(x, **a),
    "flip": lambda L, N, x, **a: x.flip(**{key: (dim,) for key, dim in a.items()}),
    "roll": lambda L, N, x, **a: x.roll(1, **a),
    "split": lambda L, N, x, **a: x.split(1, **a)[1],
    "norm": lambda L, N, x, **a: x.norm(**a),
}


@pytest.mark.parametrize("name", [*ALONG, *OUR_OWN])
def test_an_axis_may_have_numpys_name(name):
    torch = pytest.importorskip("torch")
    call, key = {**ALONG, **OUR_OWN}[name], "dims" if name in ("flip", "roll") else "dim"
    values = np.array([[3.0, 1.0, 2.0], [5.0, 7.0, 6.0]])
    expected = call(torch, torch.nn.functional, torch.tensor(values), **{"axis" if name in ALONG else key: 1})
    for option in ("axis", key):
        np.testing.assert_allclose(call(tg, F, tg.tensor(values), **{option: 1}).numpy(), expected.numpy())
    with pytest.raises(TypeError, match=f"axis and {key} are one option"):
        call(tg, F, tg.tensor(values), axis=1, **{key: 1})


@pytest.mark.parametrize("dim", [1.0, "1", (0, 1.0)])
def test_an_axis_that_is_no_integer_is_named(dim):
    for name in ("sum", "mean", "amax", "squeeze"):
        with pytest.raises(TypeError, match=rf"{name}: dim=.*1.* should be an integer"):
            getattr(X, name)(dim)
