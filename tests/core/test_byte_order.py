"""Arrays of foreign byte order: turned once, where they come in. No tensor holds one, so no op meets one."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
import tinygen.nn.functional as F
from tinygen import nn, optim

FOREIGN = {np.dtype(d): np.dtype(d).newbyteorder("S") for d in ("f2", "f4", "f8", "i2", "i4", "i8")}
VALUES = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


@pytest.mark.parametrize("dtype", FOREIGN, ids=str)
def test_every_door_turns_the_bytes(dtype, tmp_path):
    array, plain = np.array(VALUES, FOREIGN[dtype]), np.array(VALUES, dtype)
    with pytest.raises(ValueError, match=r"from_numpy: .* is not this machine's byte order.*use tensor"):
        tg.from_numpy(array)
    tg.save({"a": array, "b": [array.T]}, tmp_path / "file.safetensors")
    loaded = tg.load(tmp_path / "file.safetensors")
    doors = {
        "tensor": tg.tensor(array),
        "tensor of a list": tg.tensor([*array]),
        "tensor, dtype": tg.tensor(VALUES, dtype=FOREIGN[dtype]),
        "as_tensor": tg.as_tensor(array),
        "asarray": tg.asarray(array, copy=True),
        "zeros": tg.zeros(2, 3, dtype=FOREIGN[dtype]) + tg.tensor(plain),
        "to": tg.tensor(VALUES).to(FOREIGN[dtype]),
        "operator": tg.zeros(2, 3, dtype=dtype) + array,
        "reflected": array * tg.ones(2, 3, dtype=dtype),
        "load": loaded["a"],
        "load, transposed": loaded["b"][0].T,
        "setitem": assigned(tg.zeros(2, 3, dtype=dtype), array),
        "fill": tg.zeros(2, 3, dtype=dtype).copy_(tg.tensor(array)),
    }
    for door, t in doors.items():
        assert t.dtype is np.dtype(dtype) and np.array_equal(t.numpy(), plain), door  # the tape asks for identity


def assigned(x, value):
    x[...] = value
    return x


def test_weights_and_optimizer_state_of_foreign_bytes():
    layer = nn.Linear(3, 2)
    state = {n: np.asarray(t.numpy()).astype(">f4") for n, t in layer.state_dict().items()}
    other = nn.Linear(3, 2)
    other.load_state_dict(state)
    x = tg.tensor(np.array(VALUES, ">f4"))
    assert np.array_equal(layer(x).detach().numpy(), other(x).detach().numpy())
    first, second = optim.Adam(layer.parameters()), optim.Adam(other.parameters())
    for model, optimizer in ((layer, first), (other, second)):
        (model(x) ** 2).sum().backward()
        optimizer.step()
    saved = first.state_dict()
    for held in saved["state"].values():
        held.update({k: held[k].numpy().astype(held[k].dtype.newbyteorder("S")) for k in ("exp_avg", "exp_avg_sq")})
    second.load_state_dict(saved)
    first.step()
    second.step()
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(state_of(layer), state_of(other), strict=True))


def state_of(module):
    return [t for _, t in sorted(module.state_dict().items())]


def test_ops_take_what_was_foreign():
    image = tg.tensor(np.arange(32, dtype=">f4").reshape(1, 2, 4, 4))
    native = tg.tensor(np.arange(32, dtype="f4").reshape(1, 2, 4, 4))
    w = np.ones((3, 2, 3, 3), ">f4")
    for f in (F.relu, lambda x: x.sum(0), lambda x: F.max_pool2d(x, 2), lambda x: F.conv2d(x, tg.tensor(w)),
              lambda x: F.linear(x, tg.ones(2, 4)), lambda x: x[0, np.array([1], ">i8")]):  # fmt: skip
        assert np.array_equal(f(image).numpy(), f(native).numpy())


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8"])
@pytest.mark.parametrize("name", ["rand", "randn", "normal", "randint", "randperm", "rand_like", "randn_like",
                                  "randint_like"])  # fmt: skip
def test_random_numbers_of_a_foreign_dtype_are_those_of_its_native_one(name, dtype):
    like = tg.zeros(3, 4)
    draw = {
        "rand": lambda d: tg.rand(3, 4, dtype=d),
        "randn": lambda d: tg.randn(3, 4, dtype=d),
        "normal": lambda d: tg.normal(1.0, 2.0, (3, 4), dtype=d),
        "randint": lambda d: tg.randint(0, 9, (3, 4), dtype=d),
        "randperm": lambda d: tg.randperm(9, dtype=d),
        "rand_like": lambda d: tg.rand_like(like, dtype=d),
        "randn_like": lambda d: tg.randn_like(like, dtype=d),
        "randint_like": lambda d: tg.randint_like(like, 9, dtype=d),
    }[name]
    results = []
    for d in (dtype, np.dtype(dtype).newbyteorder("=")):
        tg.manual_seed(3)
        results.append(draw(d))
    assert results[0].dtype == results[1].dtype and results[0].dtype.isnative
    assert np.array_equal(results[0].numpy(), results[1].numpy())


def test_the_class_itself_turns_the_bytes():
    t = tg.Tensor(np.array(VALUES, ">f4"))
    assert t.dtype == np.float32 and t.dtype.isnative and t.tolist() == VALUES


def test_results_have_the_one_dtype_object_that_numpy_has():
    """A dtype that is equal, and not the same, sends every op on the long way of mixed dtypes."""
    x = tg.randn(2, 3)
    equal = np.dtype("f4").newbyteorder("=")
    made = [
        x, tg.rand(2), tg.normal(x, 1.0), tg.ones(2).to("float32"), (x > 0).to(equal), x.double().float(), x * 2,
        tg.tensor(np.ones(2, equal)), tg.from_numpy(np.ones(2, equal)), x.to("float64").to(equal), F.dropout(x, 0.5),
        x.to("float16").float(), tg.bernoulli(tg.rand(3)), tg.zeros(2, dtype=equal), tg.linspace(0, 1, 3),
        x + np.ones(3, equal),
    ]  # fmt: skip
    for t in made:
        assert t.array.dtype is np.dtype("float32")
