"""The loop: every batch once an epoch, callbacks told, one step after the other."""

from __future__ import annotations

import numpy as np
from toys import Counting

from tinygen import data, training


def test_fit_visits_every_batch_once_an_epoch_and_tells_the_callbacks():
    images = np.arange(10, dtype="f4").reshape(10, 1, 1, 1) / 10
    batches = data.Batches(images, np.arange(10), 4, seed=3)
    events = []

    class Listener(training.Callback):
        def after_step(self, step, position, metrics):
            events.append((position.epoch, position.index, round(metrics["mean"].item(), 4)))

        def after_epoch(self, step, position):
            events.append(position.epoch)

    step = Counting()
    end = training.fit(step, batches, 2, [Listener()], training.Position(0, 1))
    assert (end.epoch, end.index) == (2, 0)
    assert [e if isinstance(e, int) else e[:2] for e in events] == [(0, 2), (0, 3), 1, (1, 1), (1, 2), (1, 3), 2]
    for given, (epoch, index) in zip(step.seen, [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)], strict=True):
        x, labels = batches.at(epoch, index)
        assert np.array_equal(given[0].numpy(), x) and np.array_equal(given[1].numpy(), labels)
    assert training.fit(step, batches, 2, position=end) == end and len(step.seen) == 5


def test_batches_without_labels_and_of_several_arrays_arrive_as_they_are():
    images = np.ones((4, 1, 8, 8), "f4")
    step = Counting()
    training.fit(step, data.Batches(images, None, 4), 1)
    assert step.seen[0][1] is None
    pairs = data.unpaired.UnpairedBatches(images, 2 * images, 4)
    training.fit(step, pairs, 1)
    a, b = step.seen[1]
    assert a.numpy().max() == 1 and b.numpy().min() == 2
