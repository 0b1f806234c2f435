"""What one thread does is no other thread's: recording, scratch memory, observers, random numbers."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import tinygen as tg
from tinygen import memory, nn, observe, optim, tape
from tinygen.tape import op

TURNS = 100


def together(*functions):
    """The results of functions that start at the same moment, a thread each; the first error is raised."""
    results, errors = [None] * len(functions), []
    barrier = threading.Barrier(len(functions))

    def run(at):
        try:
            barrier.wait()
            results[at] = functions[at]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(functions))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive()
    if errors:
        raise errors[0]
    return results


def test_no_grad_in_one_thread_leaves_the_others_recording():
    inside, seen = threading.Event(), threading.Event()

    def silent():
        with tg.no_grad():
            inside.set()
            assert seen.wait(30)
            return tg.is_grad_enabled()

    def recording():
        assert inside.wait(30)
        x = tg.tensor([2.0], requires_grad=True)
        y = x * x
        seen.set()
        return tg.is_grad_enabled(), y.requires_grad

    assert together(silent, recording) == [False, (True, True)]
    assert tg.is_grad_enabled()


def test_exits_in_another_order_than_the_entries_leave_each_thread_as_it_was():
    first, second = threading.Event(), threading.Event()

    def early():
        with tg.no_grad():
            first.set()
            assert second.wait(30)
        return tg.is_grad_enabled()

    def late():
        assert first.wait(30)
        with tg.no_grad():
            second.set()
        return tg.is_grad_enabled()

    assert together(early, late) == [True, True]


def test_a_new_thread_records():
    with tg.no_grad():
        assert together(tg.is_grad_enabled) == [True]


def trained(seed):
    """The weights after a few steps of a model with every kind of layer: alone and among others they are the same."""
    generator = tg.Generator().manual_seed(seed)
    draw = lambda *size: tg.randn(size, generator=generator)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(),
        nn.Flatten(),
        nn.Linear(4 * 36, 8),
        nn.Tanh(),
        nn.Linear(8, 1),
    )
    with tg.no_grad():
        for p in model.parameters():
            p.copy_(0.2 * draw(*p.shape))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        x = draw(4, 1, 8, 8).requires_grad_()
        out = model(x)
        (slope,) = tg.grad(out.sum(), x, create_graph=True)
        loss = (out**2).mean() + (slope**2).sum()
        optimizer.zero_grad()
        loss.backward()
        with tg.no_grad():
            model(x)
        optimizer.step()
    return [p.detach().numpy().copy() for p in model.parameters()]


def test_eight_threads_that_train_eight_models_equal_each_alone():
    alone = [trained(seed) for seed in range(8)]
    for _ in range(TURNS // 10):  # each of eight threads trains ten models on end: 800 in all
        every = together(*[lambda s=s: [trained((s + i) % 8) for i in range(10)] for s in range(8)])
        for s, found in enumerate(every):
            for i, weights in enumerate(found):
                assert all(np.array_equal(a, b) for a, b in zip(weights, alone[(s + i) % 8], strict=True))


def test_threads_never_draw_the_same_numbers():
    tg.manual_seed(0)
    every = together(*[lambda: [tg.randn(4).numpy() for _ in range(500)]] * 4)
    rows = np.concatenate([np.stack(rows) for rows in every])
    assert len(np.unique(rows[:, 0])) == len(rows) == 2000
    tg.manual_seed(0)
    straight = np.stack([tg.randn(4).numpy() for _ in range(2000)])
    assert np.array_equal(np.sort(rows[:, 0]), np.sort(straight[:, 0]))  # nor leave any out


def test_a_place_in_the_sequence_is_given_away_once():
    """Also where a thread stops between reading the place and moving it, which in most interpreters is rare."""

    class Slow(tg.Generator):
        place = 0

        @property
        def _offset(self):
            found = self.place
            time.sleep(1e-3)
            return found

        @_offset.setter
        def _offset(self, place):
            self.place = place

    generator = Slow()
    every = together(*[lambda: [generator.advance(8) for _ in range(5)]] * 4)
    assert sorted(place for places in every for place in places) == list(range(0, 40, 2))


def test_what_a_vjp_may_write_over_is_its_thread_s():
    mine = memory.scratch.spare[0] = np.ones(1)
    try:
        assert memory.may_overwrite(mine) and together(lambda: memory.may_overwrite(mine)) == [False]
    finally:
        memory.scratch.spare[0] = None


def test_a_decorated_function_in_two_threads_leaves_each_as_it_was():
    first, second, left = threading.Event(), threading.Event(), threading.Event()

    @tg.no_grad()
    def inside(entered, may_leave):
        entered.set()
        assert may_leave.wait(30)

    def recording():
        inside(first, second)
        left.set()
        return tg.is_grad_enabled()

    def silent():
        assert first.wait(30)
        with tg.no_grad():
            inside(second, left)
            return tg.is_grad_enabled()

    assert together(recording, silent) == [True, False]


def test_an_observer_is_told_of_its_own_thread_alone():
    def watched():
        with observe.attached(observe.Observer()) as observer:
            observer.after = lambda call: seen.append(threading.get_ident())
            for _ in range(200):
                tg.ones(2) + 1
        return threading.get_ident()

    def other():
        for _ in range(200):
            tg.ones(2) + 1

    seen = []
    thread, _ = together(watched, other)
    assert set(seen) == {thread} and len(seen) == 200 and not tape.observers


# ---------------------------------------------------------------------------------- modes in one thread


def test_no_grad_on_a_generator_function_holds_inside_it_and_not_between_its_steps():
    @tg.no_grad()
    def steps(count):
        """How many."""
        try:
            for _ in range(count):
                got = yield tg.is_grad_enabled()
                assert got in (None, "sent")
        except KeyError:
            yield "caught", tg.is_grad_enabled()
        finally:
            closed.append(tg.is_grad_enabled())
        return "the end"

    closed = []
    generator = steps(3)
    assert next(generator) is False and tg.is_grad_enabled()
    assert generator.send("sent") is False and tg.is_grad_enabled()
    assert generator.throw(KeyError()) == ("caught", False) and tg.is_grad_enabled()
    generator.close()
    assert closed == [False] and steps.__doc__ == "How many."
    with tg.no_grad():
        generator = tg.enable_grad()(lambda: (yield tg.is_grad_enabled()))()
        assert list(generator) == [True] and not tg.is_grad_enabled()

    def outer():
        return (yield from steps(1))

    result = outer()
    next(result)
    with pytest.raises(StopIteration, match="the end"):
        next(result)


def test_set_grad_enabled_acts_as_a_statement_a_context_and_a_decorator():
    try:
        tg.set_grad_enabled(False)
        assert not tg.is_grad_enabled()
        assert not (tg.ones(1, requires_grad=True) * 2).requires_grad
    finally:
        tg.set_grad_enabled(True)
    with tg.set_grad_enabled(False):
        assert not tg.is_grad_enabled()
        with tg.set_grad_enabled(True):
            assert tg.is_grad_enabled()
        assert not tg.is_grad_enabled()
    assert tg.is_grad_enabled()

    @tg.set_grad_enabled(False)
    def inside():
        return tg.is_grad_enabled()

    assert tg.is_grad_enabled() and inside() is False and tg.is_grad_enabled()


def test_a_count_of_threads_may_be_a_numpy_integer():
    before = tg.get_num_threads()
    try:
        tg.set_num_threads(np.int64(1))
        assert tg.get_num_threads() == 1
    finally:
        tg.set_num_threads(before)
    for wrong in (True, np.True_, 2.0, np.float64(2), np.int64(0), "2"):
        with pytest.raises(ValueError, match="expected an integer of at least 1"):
            tg.set_num_threads(wrong)


def test_one_context_can_be_entered_twice():
    quiet = tg.no_grad()
    with quiet:
        with tg.enable_grad(), quiet:
            assert not tg.is_grad_enabled()
        assert not tg.is_grad_enabled()
        with quiet:
            pass
        assert not tg.is_grad_enabled()
    assert tg.is_grad_enabled()
    function = quiet(tg.is_grad_enabled)
    assert together(function, function) == [False, False] and tg.is_grad_enabled()


def test_an_error_in_backward_leaves_nothing_behind():
    @op
    def broken(k, x):
        return x * 1.0

    broken.vjp("x")(lambda g: 1 / 0)
    x, w = tg.tensor([2.0], requires_grad=True), tg.tensor([3.0], requires_grad=True)
    with pytest.raises(ZeroDivisionError):
        (broken(x * w) * 2.0).backward()
    assert tg.is_grad_enabled() and memory.scratch.spare == [None] and x.grad is None and w.grad is None
    (x * w).backward()
    assert x.grad.item() == 3.0
