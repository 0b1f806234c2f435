"""From an encoder to a classifier: which labels are drawn, what learns and for how long, against plain NumPy."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.studies import transfer


def rng(seed=0):
    return np.random.default_rng(seed)


def clouds(n=60, classes=3, width=4, seed=0, apart=5.0):
    """Points around the corners of a simplex, and which."""
    labels = np.arange(n) % classes
    x = rng(seed).normal(size=(n, width)) + apart * np.eye(width)[labels]
    return x.astype(np.float32), labels


@pytest.mark.parametrize("count", [10, 23, 40])
def test_a_draw_has_as_many_of_each_class_as_of_any_other(count):
    labels = rng(1).permutation(np.repeat([0, 1, 2, 3], [50, 12, 30, 40]))
    chosen = transfer.balanced(labels, count, rng())
    assert len(set(chosen.tolist())) == count
    sizes = np.bincount(labels[chosen], minlength=4)
    assert sizes.max() - sizes.min() <= 1
    assert set(chosen.tolist()) != set(transfer.balanced(labels, count, rng(5)).tolist())
    assert (chosen == transfer.balanced(labels, count, rng())).all()


def test_a_class_that_runs_out_is_made_up_for():
    labels = np.repeat([0, 1, 7], [2, 20, 20])
    found = labels[transfer.balanced(labels, 20, rng())]
    assert [int((found == k).sum()) for k in (0, 1, 7)] == [2, 9, 9]


class Seen(nn.Module):
    """Logits of no matter, and the rows it was shown."""

    def __init__(self):
        super().__init__()
        self.layer, self.rows = nn.Linear(1, 3), []

    def forward(self, x):
        self.rows.append(x.numpy()[:, 0].tolist())
        return self.layer(x)


def test_every_pass_shows_every_row_once_in_a_new_order():
    network, asked = Seen(), []
    x = np.arange(7, dtype=np.float32)[:, None]
    optimizer = tg.optim.Adam(network.parameters(), lr=0.0)
    transfer.fit(network, optimizer, x, np.arange(7) % 3, 7, rng(), size=3, after=asked.append)
    assert [len(rows) for rows in network.rows] == [3, 3, 1, 3, 3, 1, 3] and asked == [1, 2, 3, 4, 5, 6, 7]
    passes = [[*chain(*network.rows[:3])], [*chain(*network.rows[3:6])]]
    assert all(sorted(one) == list(range(7)) for one in passes) and passes[0] != passes[1]


def test_an_update_is_one_of_softmax_regression():
    """Plain gradient descent: W' = W - lr mean over rows of (p - onehot) x^T."""
    x, labels = clouds(12)
    layer = nn.Linear(4, 3)
    before = layer.weight.detach().numpy().astype(float), layer.bias.detach().numpy().astype(float)
    transfer.fit(layer, tg.optim.SGD(layer.parameters(), lr=0.1), x, labels, 1, rng(), size=12)
    logits = x @ before[0].T + before[1]
    p = np.exp(logits - logits.max(1, keepdims=True))
    slope = p / p.sum(1, keepdims=True) - np.eye(3)[labels]
    np.testing.assert_allclose(layer.weight.detach().numpy(), before[0] - 0.1 * slope.T @ x / 12, atol=1e-5)
    np.testing.assert_allclose(layer.bias.detach().numpy(), before[1] - 0.1 * slope.mean(0), atol=1e-6)


def test_the_share_that_is_right_in_pieces():
    layer = nn.Linear(4, 3)
    x, labels = clouds(50, apart=1.0)
    expected = np.mean((x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()).argmax(1) == labels)
    assert 0 < expected < 1 and transfer.judged(layer, x, labels, size=7) == pytest.approx(expected)


def test_the_network_and_its_optimizer_have_a_rate_for_each_part():
    encoder = nn.Linear(5, 4)
    network, optimizer = transfer.joined(encoder, (4, 6, 3), lr=0.25, head_lr=0.5)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rate[id(p)] for p in encoder.parameters()] == [0.25, 0.25]
    assert [rate[id(p)] for p in network[1].parameters()] == [0.5] * 4 and network[0] is encoder
    assert network(tg.zeros(2, 5)).shape == (2, 3)


class Scripted(nn.Module):
    """Right on the first so many rows that it is asked about without a record, as told, one look after another."""

    def __init__(self, script):
        super().__init__()
        self.layer, self.script, self.learned = nn.Linear(1, 2), list(script), []
        self.judged: list = []

    def forward(self, x):
        if tg.is_grad_enabled():
            self.learned += x.numpy()[:, 0].tolist()
            return self.layer(x)
        self.judged += x.numpy()[:, 0].tolist()
        good = self.script.pop(0)
        return tg.tensor([[1.0, 0.0] if i < good else [0.0, 1.0] for i in range(len(x))])


def test_updates_are_chosen_on_the_held_out_and_a_new_network_learns_from_all():
    """Of five looks at four images the second and the fourth are best: the later counts."""
    made = []

    def make():
        made.append(Scripted([1, 3, 2, 3, 0]))
        return made[-1], tg.optim.Adam(made[-1].parameters(), lr=0.0)

    x, held = np.arange(12, dtype=np.float32)[:, None], np.array([1, 4, 5, 9])
    network, steps = transfer.learned(make, x, np.zeros(12, int), held, rng(), most=10, every=2, size=4)
    assert steps == 8 and network is made[1] and len(made) == 2
    assert set(made[0].learned) == set(range(12)) - {1, 4, 5, 9}
    assert len(made[0].learned) == 10 * 4 and not made[0].script
    assert made[0].judged == 5 * [1, 4, 5, 9]
    assert set(made[1].learned) == set(range(12)) and len(made[1].learned) == 8 * 4
    assert len(made[1].script) == 5  # the held out are not looked at again


def test_a_head_learns_clouds_apart():
    x, labels = clouds()
    make = lambda: transfer.head_alone((4, 3), 0.05)
    network, steps = transfer.learned(make, x, labels, np.arange(12), rng(), most=60)
    assert transfer.judged(network, *clouds(seed=3)) == 1.0 and 1 <= steps <= 60


@pytest.mark.parametrize("rule", [transfer.logistic_regression, transfer.support_vectors])
def test_classic_rules_know_clouds_apart_whatever_their_scale(rule):
    x, labels = clouds()
    y, answers = clouds(seed=1)
    scale = np.float32([1, 1e-4, 1, 1e4])
    assert rule(x * scale, labels, y * scale, answers) == 1.0
    assert rule(x * scale, labels, y * scale, (answers + 1) % 3) == 0.0


def test_a_straight_line_does_not_part_a_ring_from_its_centre_and_a_kernel_does():
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) * 4
    x = np.concatenate([ring, rng().normal(size=(60, 2)) * 0.5])
    labels = np.repeat([0, 1], 60)
    assert transfer.support_vectors(x, labels, x, labels) == 1.0
    assert transfer.logistic_regression(x, labels, x, labels) < 0.8


def test_a_head_has_relu_between_its_layers_and_none_behind():
    network, optimizer = transfer.head_alone((4, 7, 3), 0.5)
    w, b, v, c = (p.detach().numpy() for p in network.parameters())
    x, _ = clouds(9)
    expected = np.maximum(x @ w.T + b, 0) @ v.T + c
    np.testing.assert_allclose(network(tg.tensor(x)).detach().numpy(), expected, atol=1e-5)
    assert optimizer.param_groups[0]["lr"] == 0.5 and len(optimizer.param_groups[0]["params"]) == 4


def test_rows_keep_their_labels_in_both_trainings(monkeypatch):
    seen = []
    monkeypatch.setattr(transfer, "fit", lambda network, optimizer, x, labels, steps, draw, *, size, after=None:
                        seen.append((x, labels)) or (after and after(steps)))  # fmt: skip
    x = np.arange(12, dtype=np.float32)[:, None]
    transfer.learned(lambda: transfer.head_alone((1, 3), 0.1), x, np.arange(12) % 3, np.array([2, 7]), rng(), most=4)
    assert [len(rows) for rows, _ in seen] == [10, 12]
    assert all((rows[:, 0] % 3 == labels).all() for rows, labels in seen)
