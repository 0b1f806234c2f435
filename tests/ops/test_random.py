"""Random numbers: where in the sequence each call reads, what the numbers are, how they are distributed."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygen as tg
from tinygen.backends import reference
from tinygen.ops import random
from tinygen.testing import adjoint_check, gradcheck, gradgradcheck

DRAWS = {
    "rand": lambda g: tg.rand(50, generator=g),
    "randn": lambda g: tg.randn(50, generator=g),
    "randint": lambda g: tg.randint(10, (50,), generator=g),
    "randperm": lambda g: tg.randperm(50, generator=g),
    "normal": lambda g: tg.normal(1.0, 2.0, (50,), generator=g),
    "bernoulli": lambda g: tg.bernoulli(tg.full((50,), 0.5), generator=g),
    "multinomial": lambda g: tg.multinomial(tg.ones(50), 30, generator=g),
    "rand_like": lambda g: tg.rand_like(tg.zeros(50), generator=g),
    "randn_like": lambda g: tg.randn_like(tg.zeros(50), generator=g),
    "randint_like": lambda g: tg.randint_like(tg.zeros(50), 10, generator=g),
    "dropout": lambda g: tg.dropout(tg.ones(50), generator=g),
    "dropout1d": lambda g: tg.dropout1d(tg.ones(2, 20, 3), generator=g),
    "dropout2d": lambda g: tg.dropout2d(tg.ones(2, 20, 3, 3), generator=g),
}


def test_every_function_that_draws_is_in_the_table():
    others = {"Generator", "default_generator", "manual_seed", "initial_seed", "get_rng_state", "set_rng_state"}
    assert set(random.__all__) - others == set(DRAWS)


@pytest.mark.parametrize("name", DRAWS)
def test_state_alone_decides_the_numbers(name):
    draw = DRAWS[name]
    g = tg.Generator().manual_seed(7)
    first, state, second = draw(g).tolist(), g.get_state(), draw(g).tolist()
    assert g.get_state() != state, "drawing must move the offset"
    assert first != second
    assert draw(tg.Generator(seed=7)).tolist() == first
    assert draw(g.set_state(state)).tolist() == second
    assert draw(tg.Generator(seed=8)).tolist() != first
    tg.manual_seed(7)  # without a generator, the default one
    default = tg.get_rng_state()
    draw(None)
    assert tg.get_rng_state() != default
    tg.set_rng_state(default)
    assert draw(None).tolist() == first


def test_a_seed_decides_all_whatever_state_was_set_before():
    tg.manual_seed(3)
    first = tg.rand(5).tolist()
    tg.set_rng_state((9, 1, 40))  # another stream
    tg.manual_seed(3)
    assert tg.rand(5).tolist() == first and tg.get_rng_state()[1] == 0
    own = tg.Generator(seed=3, stream=7)
    mine = tg.rand(5, generator=own).tolist()
    own.set_state((3, 0, 0))
    assert tg.rand(5, generator=own.manual_seed(3)).tolist() == mine != first


def test_generator_state():
    g = tg.Generator()
    assert g.get_state() == (0, 0, 0)
    tg.rand(5, generator=g)  # 5 words, 2 blocks
    assert g.get_state() == (0, 0, 2)
    tg.rand(3, dtype="float64", generator=g)  # 6 words, 2 blocks
    assert g.get_state() == (0, 0, 4)
    tg.randn(3, generator=g)  # two pairs, 1 block
    assert g.get_state() == (0, 0, 5)
    tg.randn(5, dtype="float64", generator=g)  # three pairs of two words, 3 blocks
    assert g.get_state() == (0, 0, 8)
    tg.rand(0, generator=g)
    assert g.get_state() == (0, 0, 8)
    assert g.manual_seed(-1).initial_seed() == 2**64 - 1
    assert g.get_state() == (2**64 - 1, 0, 0)
    other = g.fork(3)
    assert other.get_state() == (2**64 - 1, 3, 0)
    assert tg.rand(4, generator=other).tolist() != tg.rand(4, generator=g).tolist()
    assert tg.Generator().seed() != tg.Generator().seed()
    assert "seed=5" in repr(tg.Generator(seed=5))
    assert tg.manual_seed(11) is tg.default_generator and tg.initial_seed() == 11


def test_consecutive_draws_read_consecutive_blocks():
    """Nothing is drawn twice and, in whole blocks, nothing is left out."""
    g = tg.Generator(seed=3)
    parts = np.concatenate([tg.rand(n, generator=g).numpy() for n in (4, 8, 12)])
    assert np.array_equal(parts, reference.random_uniform(3, 0, 0, (24,), np.float32))


def test_numbers_are_those_of_the_definition():
    g = tg.Generator(seed=2**40 + 5)
    words = reference.random_bits(2**40 + 5, 0, 0, 40).astype(object)
    values = [words[2 * i] << 32 | words[2 * i + 1] for i in range(20)]
    for low, high in ((0, 10), (-5, 3), (0, 2**32), (-(2**40), 2**62), (-(2**63), 2**63), (7, 8), (0, 2**63 - 1)):
        drawn = tg.randint(low, high, (20,), generator=g.manual_seed(2**40 + 5))
        assert drawn.dtype == np.int64
        assert drawn.tolist() == [low + (r * (high - low) >> 64) for r in values]
    assert tg.randperm(20, generator=g.manual_seed(2**40 + 5)).tolist() == np.argsort(np.array(values, float)).tolist()
    uniform = tg.rand(20, generator=g.manual_seed(2**40 + 5)).numpy()
    assert np.array_equal(uniform, np.array([w >> 8 for w in words[:20]], np.float32) / 2**24)
    coins = tg.bernoulli(tg.full((20,), 0.3), generator=g.manual_seed(2**40 + 5))
    assert coins.tolist() == (uniform < np.float32(0.3)).astype(float).tolist()


def test_shapes_dtypes_and_spellings():
    assert tg.rand(2, 3).shape == tg.rand((2, 3)).shape == (2, 3)
    assert tg.rand(()).shape == () and tg.rand().shape == () and tg.randn(0, 2).shape == (0, 2)
    assert tg.rand(2).dtype == np.float32 and tg.randn(2, dtype="float64").dtype == np.float64
    assert tg.randn(2, dtype="float16").dtype == np.float16
    assert tg.randn_like(tg.zeros(2, 3, dtype="float64")).dtype == np.float64
    assert tg.rand(2, requires_grad=True).requires_grad and tg.rand(2, requires_grad=True).is_leaf
    assert (
        tg.randint(5, (2, 3)).shape
        == tg.randint(0, 5, size=(2, 3)).shape
        == tg.randint(high=5, low=0, size=(2, 3)).shape
    )
    assert tg.randint(5, size=(2,)).shape == (2,)
    assert tg.randint(0, 5, (2,), dtype="int32").dtype == np.int32
    assert tg.normal(tg.zeros(2, 1), tg.ones(3)).shape == (2, 3)
    assert tg.normal(5.0, tg.zeros(3)).tolist() == [5, 5, 5]
    assert tg.randint_like(tg.zeros(4), 3, 4).tolist() == [3, 3, 3, 3]


def test_in_place_methods_draw_the_same_numbers():
    t = tg.zeros(6)
    tg.manual_seed(1)
    expected = tg.randn(6).numpy()
    tg.manual_seed(1)
    assert np.allclose(t.normal_(2.0, 0.5).numpy(), 2 + 0.5 * expected)
    tg.manual_seed(1)
    expected = tg.rand(6).numpy()
    tg.manual_seed(1)
    assert np.allclose(t.uniform_(-1, 3).numpy(), 4 * expected - 1)
    tg.manual_seed(1)
    assert t.bernoulli_(0.7).tolist() == (expected < np.float32(0.7)).tolist()


# ---------------------------------------------------------------- distributions, within five standard errors


def test_uniform_and_normal_moments():
    n = 100_000
    for dtype in ("float32", "float64"):
        u, z = tg.rand(n, dtype=dtype).numpy(), tg.randn(n, dtype=dtype).numpy()
        assert u.min() >= 0 and u.max() < 1
        assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n)
        assert abs(np.histogram(u, 10, (0, 1))[0] - n / 10).max() < 5 * math.sqrt(n * 0.09)
        assert abs(z.mean()) < 5 / math.sqrt(n)
        assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
        assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n)
        assert abs((z[::2] * z[1::2]).mean()) < 5 / math.sqrt(n / 2)


def share_beyond(limit):
    """Of standard normal numbers, in absolute value."""
    return math.erfc(limit / math.sqrt(2))


NORMAL = {
    "randn": lambda n, dtype: tg.randn(n, dtype=dtype),
    "normal": lambda n, dtype: (tg.normal(3.0, 2.0, (n,), dtype=dtype) - 3) / 2,
    "normal of tensors": lambda n, dtype: tg.normal(tg.zeros(n, dtype=dtype), tg.ones(n, dtype=dtype)),
    "randn_like": lambda n, dtype: tg.randn_like(tg.zeros(n, dtype=dtype)),
    "normal_": lambda n, dtype: tg.zeros(n, dtype=dtype).normal_(),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NORMAL)
def test_tails_and_frequencies_of_normal_numbers(name, dtype):
    """A cut tail or a thinned one changes no moment that a test would see: count what lies beyond, on both sides."""
    n = 1 << 23 if name == "randn" else 1 << 20
    z = np.concatenate([NORMAL[name](1 << 20, dtype).numpy() for _ in range(n >> 20)]).astype(np.float64)
    if n == 1 << 23:
        assert 5 < z.max() < 6.7 and -6.7 < z.min() < -5
    for limit in (0.01, 0.5, 1, 2, 3, 3.5, 4, 4.5):
        for side in (z, -z):
            expected = n * share_beyond(limit) / 2
            assert abs((side > limit).sum() - expected) < 5 * math.sqrt(expected) + 5, (limit, expected)


def test_frequencies_of_derived_draws():
    """Each value of a coin, an integer, a place of a permutation and a choice is as frequent as it should be."""
    n = 200_000
    near = lambda count, share: abs(count - n * share) < 5 * math.sqrt(n * share * (1 - share)) + 1
    assert all(near(c, 1 / 11) for c in np.bincount(tg.randint(-5, 6, (n,)).numpy() + 5, minlength=11))
    large = tg.randint(0, 3 << 40, (n,)).numpy()
    assert near((large < 1 << 40).sum(), 1 / 3) and near((large >= 2 << 40).sum(), 1 / 3)
    for p in (0.001, 0.3, 0.999):
        assert near(tg.bernoulli(tg.full((n,), p)).numpy().sum(), p)
        assert near((tg.dropout(tg.ones(n), p).numpy() == 0).sum(), p)
    chosen = tg.multinomial(tg.tensor([1.0, 0.002, 3.0, 5.0]), n, replacement=True).numpy()
    assert all(near(c, w / 9.002) for c, w in zip(np.bincount(chosen, minlength=4), (1, 0.002, 3, 5)))
    places = tg.randperm(n).numpy()
    assert near((places[: n // 4] < n // 2).sum() * 4, 0.5) and abs(np.corrcoef(places, np.arange(n))[0, 1]) < 0.012
    u = tg.zeros(n).uniform_(-3, 1).numpy()
    assert u.min() >= -3 and u.max() < 1 and u.min() < -2.999 and u.max() > 0.999
    assert all(near(c, 0.01) for c in np.histogram(u, 100, (-3, 1))[0])


def test_integers_are_uniform_and_permutations_complete():
    counts = np.bincount(tg.randint(7, (70_000,)).numpy(), minlength=7)
    assert len(counts) == 7 and abs(counts - 10_000).max() < 5 * math.sqrt(10_000 * 6 / 7)
    for n in (0, 1, 2, 1000):
        assert sorted(tg.randperm(n).tolist()) == list(range(n))
    firsts = np.bincount([tg.randperm(5)[0].item() for _ in range(2000)], minlength=5)
    assert abs(firsts - 400).max() < 5 * math.sqrt(2000 * 0.16)


def test_bernoulli():
    p = tg.tensor([0.0, 0.25, 1.0]).expand(20_000, 3)
    means = tg.bernoulli(p).numpy().mean(0)
    assert means[0] == 0 and means[2] == 1 and abs(means[1] - 0.25) < 5 * math.sqrt(0.1875 / 20_000)
    assert tg.bernoulli(tg.zeros(3), 1.0).tolist() == [1, 1, 1]


def test_multinomial():
    weights = tg.tensor([[0.0, 1.0, 3.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
    drawn = tg.multinomial(weights, 20_000, replacement=True).numpy()
    assert drawn.shape == (2, 20_000) and set(drawn[0]) == {1, 2} and set(drawn[1]) == {0, 3}
    assert abs((drawn[0] == 2).mean() - 0.75) < 5 * math.sqrt(0.1875 / 20_000)
    pairs = tg.multinomial(tg.tensor([1.0, 1.0, 8.0]).expand(20_000, 3), 2).numpy()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert abs((pairs[:, 0] == 2).mean() - 0.8) < 5 * math.sqrt(0.16 / 20_000)
    assert sorted(tg.multinomial(tg.ones(4), 4).tolist()) == [0, 1, 2, 3]


# ---------------------------------------------------------------- dropout


def test_dropout_keeps_the_mean_and_drops_the_right_share():
    x = tg.ones(100_000, requires_grad=True)
    y = tg.dropout(x, 0.2)
    values = y.detach().numpy()
    assert set(np.unique(values)) == {0, np.float32(1.25)}
    assert abs((values == 0).mean() - 0.2) < 5 * math.sqrt(0.16 / 100_000)
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), values)


def test_dropout2d_drops_whole_channels():
    y = tg.dropout2d(tg.ones(50, 20, 3, 2), 0.5).numpy().reshape(1000, 6)
    assert (y == y[:, :1]).all()
    assert abs((y[:, 0] == 0).mean() - 0.5) < 5 * math.sqrt(0.25 / 1000)


def test_dropout_is_nothing_without_training():
    x = tg.randn(3)
    assert tg.dropout(x, 0.5, False) is x and tg.dropout(x, 0.0) is x
    state = tg.get_rng_state()
    tg.dropout(x, 0.5, training=False)
    assert tg.get_rng_state() == state
    assert tg.dropout(x, 1.0).tolist() == [0, 0, 0]


def test_dropout_mask_does_not_depend_on_the_dtype():
    kinds = ("float32", "float64")
    masks = [tg.dropout(tg.ones(100, dtype=d), generator=tg.Generator(seed=4)).tolist() for d in kinds]
    assert masks[0] == masks[1]


@pytest.mark.parametrize("f", [tg.dropout, tg.dropout2d])
def test_dropout_derivatives(f):
    x = np.random.default_rng(0).standard_normal((2, 5, 3))
    fixed = lambda x: f(x, 0.4, generator=tg.Generator(seed=2))
    gradcheck(fixed, x)
    gradgradcheck(fixed, x)
    adjoint_check(fixed, fixed, x.shape, x.shape)


# ---------------------------------------------------------------- errors

BAD = {
    "rand": (lambda: tg.rand(2, -1), ValueError, "negative"),
    "rand ": (lambda: tg.rand(2.5), TypeError, "integers"),
    "rand  ": (lambda: tg.rand(2, dtype="int64"), TypeError, "randint"),
    "randint": (lambda: tg.randint(5, 5, (2,)), ValueError, r"\[5, 5\)"),
    "randint ": (lambda: tg.randint(0, 2**64, (2,)), ValueError, "int64"),
    "randint  ": (lambda: tg.randint(5, 7), TypeError, "tuple"),
    "normal": (lambda: tg.normal(0.0, -1.0, (2,)), ValueError, "negative"),
    "normal ": (lambda: tg.normal(0.0, 1.0), ValueError, "size"),
    "bernoulli": (lambda: tg.bernoulli(tg.tensor([1.5])), ValueError, "between 0 and 1"),
    "multinomial": (lambda: tg.multinomial(tg.tensor([1.0, 0.0]), 2), ValueError, "replacement"),
    "multinomial ": (lambda: tg.multinomial(tg.tensor([-1.0, 2.0]), 1), ValueError, "negative"),
    "dropout": (lambda: tg.dropout(tg.ones(3), 1.5), ValueError, "p=1.5"),
    "dropout ": (lambda: tg.dropout(tg.arange(3)), TypeError, "float"),
    "dropout2d": (lambda: tg.dropout2d(tg.ones(3)), ValueError, "N, C"),
    "set_state": (lambda: tg.Generator().set_state((1, 2)), ValueError, "seed, stream, offset"),
    "requires_grad": (lambda: tg.randperm(3, requires_grad=True), RuntimeError, "int64"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_op_and_what_was_wrong(name):
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert str(caught.value).startswith(name.strip())


def test_integers_beyond_their_dtype_are_refused():
    with pytest.raises(OverflowError, match="randint: 299 does not fit uint8"):
        tg.randint(0, 300, (3,), dtype="uint8")
    assert tg.randint(0, 256, (3,), dtype="uint8").dtype == np.uint8
