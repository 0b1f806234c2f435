"""A captured step computes what the eager step computes, replay after replay; what cannot be captured is refused.

The emulator records what is done to device arrays, addresses and numbers as they are, and does it again: as a CUDA
graph would. So a number that changes from step to step, if it lives on the host, or memory that is replaced, shows.
"""

from __future__ import annotations

import copy
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from test_cuda_device import PLACE, SHAPE, STEPS, XP

import tinygen as tg
from tinygen import nn, optim
from tinygen.backends.cuda.device_array import DeviceArray
from tinygen.backends.cuda.launcher import CupyLauncher
from tinygen.graph import CaptureFailed
from tinygen.models import ClassifierStep
from tinygen.step import Step
from tinygen.training import checkpoint

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")


def batches(count, n=6):
    draw = np.random.default_rng(1)
    return [
        tuple(tg.tensor(a, device=PLACE) for a in (draw.random((n, *SHAPE), np.float32), draw.integers(0, 10, n)))
        for _ in range(count)
    ]


def build(make):
    tg.manual_seed(3)
    step = make().to(PLACE)
    tg.manual_seed(4)
    return step


def numbers(metrics):
    return {name: value.item() for name, value in metrics.items()}


def optimizers(step):
    return [part for part in step.parts().values() if isinstance(part, optim.Optimizer)]


def states(step):
    return {f"{m}.{n}": v.cpu().array for m, module in step.networks().items() for n, v in module.state_dict().items()}


@pytest.mark.parametrize("name", STEPS)
def test_a_captured_step_equals_the_eager_one(name):
    eager, want = build(STEPS[name]), []
    for batch in batches(6):
        want.append(numbers(eager(batch)))
    place = tg.get_rng_state()
    step = tg.capture(build(STEPS[name]))
    got = [numbers(step(batch)) for batch in batches(6)]
    assert step.graphs and all(step.graphs.values())
    assert got == want
    for key, value in states(eager).items():
        np.testing.assert_array_equal(states(step)[key], value, err_msg=key)
    assert tg.get_rng_state() == place
    for mine, theirs in zip(optimizers(step), optimizers(eager), strict=True):
        assert [f.counts for g in mine._flats for f in g] == [f.counts for g in theirs._flats for f in g]


def test_a_replay_runs_no_python_of_the_step():
    calls = []

    class Counting(Step):
        def __init__(self):
            self.model = nn.Linear(3, 1)
            self.optimizer = optim.SGD(self.model.parameters(), lr=0.1)

        def __call__(self, batch):
            calls.append(1)
            loss = self.model(batch).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return {"loss": loss.detach()}

    step = tg.capture(build(Counting))
    for _ in range(5):
        step(tg.ones(2, 3, device=PLACE))
    assert len(calls) == 3  # warm-up, the eager step that is compared, the recording
    step(tg.ones(4, 3, device=PLACE))  # another shape: from the start
    assert len(calls) == 4


def test_a_changed_learning_rate_reaches_the_graph():
    eager, step = build(STEPS["ae"]), tg.capture(build(STEPS["ae"]))
    for i, batch in enumerate(batches(6)):
        for s in (eager, step):
            s.optimizer.param_groups[0]["lr"] = 1e-3 / (i + 1)
        assert numbers(eager(batch)) == numbers(step(batch))
    for key, value in states(eager).items():
        np.testing.assert_array_equal(states(step)[key], value)


def test_a_network_that_grows_has_a_graph_for_each_size_and_each_fade():
    """Captured, alpha rises from replay to replay; the eager step goes the same way, past the last fade."""
    eager = build(STEPS["progressive gan"])
    want = [numbers(eager(batch)) for batch in batches(15)]
    step = tg.capture(build(STEPS["progressive gan"]))
    got = [numbers(step(batch)) for batch in batches(15)]
    assert got == want
    assert [m["alpha"] for m in got[:8]] == [1, 1, 0, 0.25, 0.5, 0.75, 1, 1]
    assert len(step.graphs) == 5 and all(step.graphs.values())
    for key, value in states(eager).items():
        np.testing.assert_array_equal(states(step)[key], value, err_msg=key)


def test_another_precision_of_products_is_another_graph():
    step = tg.capture(build(STEPS["ae"]))
    for precision in ("highest", "medium") * 3:
        tg.set_float32_matmul_precision(precision)
        step(batches(1)[0])
    tg.set_float32_matmul_precision("highest")
    assert len(step.graphs) == 2 and all(step.graphs.values())


def test_draws_between_replays_and_a_new_seed_give_what_eager_steps_give():
    results = []
    for wrap in (lambda step: step, tg.capture):
        step, history = wrap(build(STEPS["vae"])), []
        for i, batch in enumerate(batches(7)):
            if i == 4:
                tg.randn(37, device=PLACE)
            if i == 5:
                tg.manual_seed(99)
            history.append(numbers(step(batch)))
        results.append(history)
    assert results[0] == results[1]


class Looking(Step):
    """A step that does something forbidden."""

    def __init__(self, what):
        self.model, self.what = nn.Linear(3, 1), what
        self.optimizer = optim.SGD(self.model.parameters(), lr=0.1)

    def __call__(self, batch):
        return {"loss": self.what(self.model(batch).detach())}


@pytest.mark.parametrize(
    "what, message",
    [
        (lambda y: y * y.mean().item(), "item: item"),
        (lambda y: y if y.sum() > 0 else -y, "(item|__bool__): "),
        (lambda y: (str(y), y)[1], "__repr__|__str__|numpy|tolist"),
        (lambda y: y + tg.tensor([1.0], device=PLACE), "tensor: copying an array to the device"),
        (lambda y: tg.tensor(y.cpu().array, device=PLACE), "copying an array to the host"),
        (lambda y: y + tg.randn(1, generator=tg.Generator(seed=1), device=PLACE), "default generator"),
        (lambda y: y[y > 0], "index: the length of what an index of true and false picks"),
        pytest.param(
            lambda y: tg.sort(y, 0)[0],
            "argsort, which CuPy leaves to Thrust",
            marks=pytest.mark.skipif(PLACE == "cuda", reason="whether Thrust waits depends on CuPy's version"),
        ),
        (lambda y: tg.einsum("ij,ij,ij->j", y, y, y), "einsum: .*cuBLAS"),
    ],
)
def test_what_cannot_be_captured_is_refused(what, message):
    step = tg.capture(build(lambda: Looking(what)))
    step(tg.ones(4, 3, device=PLACE))
    with pytest.raises(CaptureFailed, match=message if issubclass(XP.ndarray, DeviceArray) else r"capture: \w+: "):
        step(tg.ones(4, 3, device=PLACE))


@pytest.mark.parametrize(
    "what",
    [
        lambda y: tg.stack([y.sum() for _ in range(20)]).sum(),
        lambda y: tg.cat([y] * 9 + [tg.zeros_like(y)[:1]]),
        lambda y: tg.einsum("ij,kj->ik", y, y),
    ],
)
def test_what_cupy_alone_could_not_capture(what):
    """Joining many arrays and products are done so that CuPy needs no copies from the host, and no cuBLAS."""
    step = tg.capture(build(lambda: Looking(what)))
    x = tg.ones(4, 3, device=PLACE)
    want = what(step.model(x).detach()).numpy()
    for _ in range(4):
        np.testing.assert_allclose(step(x)["loss"].numpy(), want, rtol=1e-6)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, np.inf])
def test_clipped_gradients_can_be_captured(norm_type):
    class Clipped(Looking):
        def __call__(self, batch):
            loss = self.model(batch).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), 0.1, norm_type)
            self.optimizer.step()
            return {"loss": loss.detach(), "norm": norm}

    step, eager = tg.capture(build(lambda: Clipped(None))), build(lambda: Clipped(None))
    for _ in range(4):
        x = tg.ones(4, 3, device=PLACE)
        assert numbers(step(x)) == numbers(eager(x))


class Critic(Step):
    """The critic's update of WGAN alone: a Step of its own, with its own graph."""

    def __init__(self, D, G):
        self.D, self.G = D, G  # G too: its batch norm counts along
        self.optimizer = optim.RMSprop(D.parameters(), lr=1e-2)

    def __call__(self, x):
        with tg.no_grad():
            fake = self.G(tg.randn(len(x), 3, device=PLACE))
        loss = self.D(fake).mean() - self.D(x).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class Generator(Critic):
    """The generator's update, against the critic as it is when the graph is launched."""

    def __init__(self, D, G):
        self.D, self.G = D, G
        self.optimizer = optim.Adam(G.parameters(), lr=1e-2)

    def __call__(self, x):
        with tg.frozen(self.D):
            loss = -self.D(self.G(tg.randn(len(x), 3, device=PLACE))).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class Game:
    """Five updates of the critic for one of the generator, players that take turns at different rates."""

    def __init__(self, capture):
        tg.manual_seed(3)
        self.D, self.G = nn.Linear(4, 1).to(PLACE), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(PLACE)
        self.critic, self.generator = capture(Critic(self.D, self.G)), capture(Generator(self.D, self.G))
        self.updates = 0

    def __call__(self, x):
        self.updates += 1
        losses = [self.critic(x)]
        return losses + ([self.generator(x)] if self.updates % 5 == 0 else [])


def test_players_at_different_rates_have_a_graph_each():
    histories = []
    for capture in (lambda step: step, tg.capture):
        game, draw = Game(capture), np.random.default_rng(2)
        tg.manual_seed(4)
        xs = [tg.tensor(draw.random((6, 4), np.float32), device=PLACE) for _ in range(25)]
        history = [[loss.item() for loss in game(x)] for x in xs]
        weights = [t.cpu().array for m in (game.D, game.G) for t in m.state_dict().values()]
        histories.append((history, [w.tolist() for w in weights], tg.get_rng_state()))
    assert all(game.generator.graphs.values())  # replayed: the generator was called five times
    assert histories[0] == histories[1]


class Learner(Step):
    """Batch norm, dropout, an optimizer with two groups: all that a graph contains as it was."""

    def __init__(self, rule=optim.Adam, **options):
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.25), nn.Linear(4, 1))
        groups = [
            {"params": self.model[0].parameters()},
            {"params": [*self.model[1].parameters(), *self.model[4].parameters()]},
        ]
        self.optimizer = rule(groups, lr=0.05, **options)

    def __call__(self, x):
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}


def option(**changed):
    return lambda step, saved: step.optimizer.param_groups[1].update(changed)


def replace_parameter(step, saved):
    step.model[4].weight = nn.Parameter(step.model[4].weight.detach() * 2)
    step.optimizer.param_groups[1]["params"][2] = step.model[4].weight


CHANGES = {  # what happens between two replays: (step, its checkpoint of two steps before) -> None
    "optimizer.load_state_dict": lambda step, saved: step.optimizer.load_state_dict(saved["parts"]["optimizer"]),
    "betas": option(betas=(0.3, 0.6)),
    "weight_decay": option(weight_decay=0.3),
    "eps": option(eps=0.1),
    "maximize": option(maximize=True),
    "module.eval": lambda step, saved: step.model.eval(),
    "a layer's mode": lambda step, saved: step.model[3].eval(),
    "requires_grad": lambda step, saved: step.model[0].weight.requires_grad_(False),
    "restore": lambda step, saved: checkpoint.restore(step, saved),
    "p.data": lambda step, saved: setattr(step.model[0].weight, "data", step.model[0].weight.data * 0.5),
    "another parameter": replace_parameter,
    "a buffer": lambda step, saved: setattr(step.model[1], "running_mean", tg.ones(4, device=PLACE)),
    "a layer": lambda step, saved: step.model.__setitem__(2, nn.ReLU()),
    "one layer more": lambda step, saved: step.model.append(nn.Tanh()),
    "another optimizer": lambda step, saved: setattr(step, "optimizer", optim.SGD(step.model.parameters(), lr=0.1)),
    "a group": lambda step, saved: step.optimizer.add_param_group(
        {"params": step.optimizer.param_groups[1]["params"].pop()}
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_between_replays_is_recorded_anew(name):
    results = []
    for wrap in (lambda step: step, tg.capture):
        tg.manual_seed(3)
        step, history, draw = wrap(Learner().to(PLACE)), [], np.random.default_rng(0)
        for i in range(10):
            if i == 3:
                saved = copy.deepcopy(checkpoint.state_of(step))
            if i == 5:
                before = dict(getattr(step, "graphs", {}))
                CHANGES[name](step.step if before else step, saved)
            history.append(numbers(step(tg.tensor(draw.random((6, 3), np.float32), device=PLACE))))
        results.append((history, {k: v.tolist() for k, v in states(step).items()}))
    assert all(before.values()) and all(step.graphs.values()) and step.graphs != before
    assert results[0] == results[1]


def test_momentum_that_sets_in_later_begins_as_in_an_eager_step():
    results = []
    for wrap in (lambda step: step, tg.capture):
        step, history = wrap(build(lambda: Learner(optim.SGD))), []
        for i in range(8):
            if i == 4:
                option(momentum=0.9)(step, None)
            history.append(numbers(step(tg.ones(6, 3, device=PLACE))))
        results.append(history)
    assert results[0] == results[1]


class Scheduled(Learner):
    """A schedule that advances before the optimizer reads the rate, and one that does so after it."""

    def __init__(self, before, after):
        super().__init__(optim.SGD)
        self.before, self.after = before, after
        self.schedule = optim.lr_scheduler.LambdaLR(self.optimizer, lambda t: 1 / (1 + t))

    def __call__(self, x):
        for _ in range(self.before):
            self.schedule.step()
        result = super().__call__(x)
        for _ in range(self.after):
            self.schedule.step()
        return result


@pytest.mark.parametrize("before, after", [(0, 1), (1, 0), (1, 2), (0, 0)])
def test_a_schedule_inside_a_step_advances_as_it_does_eagerly(before, after):
    results = []
    for wrap in (lambda step: step, tg.capture):
        step, history = wrap(build(lambda: Scheduled(before, after))), []
        for _ in range(7):
            loss = numbers(step(tg.ones(6, 3, device=PLACE)))
            history.append((loss, step.schedule.last_epoch, step.schedule.get_last_lr()))
        results.append((history, {k: v.tolist() for k, v in states(step).items()}))
    assert all(step.graphs.values())
    assert results[0] == results[1]


def test_the_classifiers_schedule_reaches_zero_in_a_graph_too():
    results = []
    for wrap in (lambda step: step, tg.capture):
        step = wrap(build(lambda: ClassifierStep(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), range(10), steps=6)))
        history = [(numbers(step(batch)), step.schedule.get_last_lr()) for batch in batches(7)]
        results.append((history, {k: v.tolist() for k, v in states(step).items()}))
    assert results[0] == results[1]
    assert history[5][1] == [0.0]


def test_a_schedule_between_two_steps_of_its_optimizer_is_refused():
    class Twice(Scheduled):
        def __call__(self, x):
            super().__call__(x)
            return super().__call__(x)

    step = tg.capture(build(lambda: Twice(0, 1)))
    step(tg.ones(6, 3, device=PLACE))
    with pytest.raises(CaptureFailed, match="schedule advances between two steps"):
        step(tg.ones(6, 3, device=PLACE))


@pytest.mark.parametrize("warmup", [False, True])
def test_averages_of_weights_move_once_a_step(warmup):
    class Averaged(Learner):
        def __init__(self):
            super().__init__()
            self.ema = optim.EMA(self.model, 0.45, warmup=warmup)  # reached at update 7

        def __call__(self, x):
            result = super().__call__(x)
            self.ema.update()
            return result

    results = []
    for wrap in (lambda step: step, tg.capture):
        tg.manual_seed(3)
        step = wrap(Averaged().to(PLACE))
        for _ in range(10):
            step(tg.ones(6, 3, device=PLACE))
        results.append({k: v.tolist() for k, v in step.ema.averages.items()} | {"updates": step.ema.updates})
    assert results[0] == results[1] and results[0]["updates"] == 10


def test_a_number_on_the_host_that_changes_is_noticed():
    class Stale(Looking):
        count = 0

        def __call__(self, batch):
            self.count += 1
            return {"loss": self.model(batch).detach() * self.count}

    step = tg.capture(build(lambda: Stale(None)))
    step(tg.ones(4, 3, device=PLACE))
    with pytest.raises(CaptureFailed, match="differs from the eager step"):
        step(tg.ones(4, 3, device=PLACE))


@pytest.fixture
def cupy():
    """tests/cuda/stand_in/cupy.py, under another name."""
    spec = spec_from_file_location("stand_in_for_cupy", Path(__file__).parent / "stand_in" / "cupy.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_memory_of_a_graph_goes_back_when_the_next_is_captured(cupy):
    """CuPy does not free the blocks of a pool that nobody refers to any more."""
    launcher, pool = CupyLauncher(cupy), cupy.cuda.MemoryPool
    first, second = (launcher.capture(lambda: None)[1] for _ in range(2))
    assert pool.kept == 2 * 512  # both can be launched
    del first
    with pytest.raises(ZeroDivisionError):
        launcher.capture(lambda: 1 / 0)
    assert pool.kept == 2 * 512
    third = launcher.capture(lambda: None)[1]
    assert pool.kept == 2 * 512
    second(), third()


def test_on_the_cpu_the_step_is_returned_as_it_is():
    step = STEPS["ae"]()
    assert tg.capture(step) is step
