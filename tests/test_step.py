"""What every Step answers: its parts, found by walking them, and defaults that say why."""

from __future__ import annotations

import pytest

import tinygen as tg
from tinygen import nn, optim
from tinygen.errors import UserError
from tinygen.models import AutoencoderStep, Bernoulli, ClassifierStep, GANStep, ProgressiveGANStep, VAEStep, games
from tinygen.networks.growing import GrowingDiscriminator, GrowingGenerator
from tinygen.networks.lenet import LeNet5
from tinygen.networks.mlp import MLPDecoder, MLPDiscriminator, MLPEncoder, MLPGenerator, gaussian
from tinygen.step import Captioned, Step, Unsupported

DIGIT = (1, 8, 8)
MADE = {
    "autoencoder": lambda: AutoencoderStep(MLPEncoder(DIGIT, (6,), 3), MLPDecoder(DIGIT, (6,), 3)),
    "vae": lambda: VAEStep(gaussian(MLPEncoder(DIGIT, (), 6), 6, 3), MLPDecoder(DIGIT, (6,), 3), Bernoulli(), latent=3),
    "gan": lambda: GANStep(MLPGenerator(DIGIT, (6,), 3), MLPDiscriminator(DIGIT, (6,)), games.minimax(), latent=3),
    "progressive gan": lambda: ProgressiveGANStep(
        GrowingGenerator(DIGIT, (3, 4), 3), GrowingDiscriminator(DIGIT, (3, 4)), games.minimax(), latent=3,
        stay=1, fade=1,
    ),
    "classifier": lambda: ClassifierStep(LeNet5(DIGIT), "0123456789", steps=4),
}
PARTS = {
    "autoencoder": ["encoder", "decoder", "optimizer"],
    "vae": ["encoder", "decoder", "likelihood", "optimizer"],
    "gan": ["generator", "discriminator", "generator_optimizer", "discriminator_optimizer"],
    "progressive gan": [
        "generator", "discriminator", "generator_optimizer", "discriminator_optimizer", "plan", "count", "schedule",
    ],
    "classifier": ["classifier", "optimizer", "schedule"],
}


class Pool:
    """A part that is no module: it has a state, and that is all."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Parts(Step):
    def __init__(self):
        self.rate, self.names, self.rule, self.nothing = 0.1, ("a", "b"), abs, None
        self.second = nn.Linear(2, 3)
        self.optimizer = optim.SGD(self.second.parameters(), lr=0.1)
        self.first = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
        self.pool = Pool()


def test_parts_are_the_attributes_with_a_state_in_their_order():
    step = Parts()
    assert list(step.parts()) == ["second", "optimizer", "first", "pool"]
    assert all(part is getattr(step, name) for name, part in step.parts().items())
    assert list(step.networks()) == ["second", "first"]
    step.average = nn.Linear(1, 1)
    assert list(step.parts())[-1] == "average" and step.networks()["average"] is step.average


def test_what_can_only_be_read_or_only_be_written_is_no_part():
    step = Parts()
    step.read = type("Read", (), {"state_dict": lambda self: {}})()
    step.written = type("Written", (), {"load_state_dict": lambda self, state: None})()
    assert not {"read", "written"} & set(step.parts())


@pytest.mark.parametrize("name", MADE)
def test_each_model_saves_its_networks_optimizers_and_schedules(name):
    assert list(MADE[name]().parts()) == PARTS[name]


@pytest.mark.parametrize("name", MADE)
def test_a_step_shows_its_class_and_its_modules(name):
    step = MADE[name]()
    assert repr(step).startswith(f"{type(step).__name__}(\n  (") and repr(step).endswith("\n)")
    assert step.networks()
    for part, module in step.networks().items():
        assert f"({part}): {type(module).__name__}(" in repr(step)
        assert f"<p>{part}</p>" in step._repr_html_() and module._repr_html_() in step._repr_html_()
    assert f"<b>{type(step).__name__}</b>" in step._repr_html_()


def test_the_lines_of_a_network_are_indented_in_the_step_that_shows_it():
    lines = repr(Parts()).splitlines()
    assert lines[0] == "Parts(" and lines[-1] == ")"
    assert lines[1].startswith("  (second): Linear(")
    assert lines[2].startswith("  (first): Sequential(") and lines[3].startswith("    (0): Linear(")


def test_defaults_are_empty_or_say_why():
    class Dreamer(Step):
        pass

    step = Dreamer()
    assert step.measure(()) == step.summary([]) == step.pictures(()) == {}
    assert step.health({"loss": 1.0}) is None
    with pytest.raises(NotImplementedError, match="Dreamer does not define __call__"):
        step(())
    with pytest.raises(Unsupported, match="Dreamer has learned no distribution to sample from"):
        step.sample(3)
    with pytest.raises(Unsupported, match="Dreamer does not turn images into images"):
        step.apply(tg.zeros(1, 1, 8, 8))
    assert issubclass(Unsupported, UserError) and issubclass(Unsupported, LookupError)


def test_a_step_offers_what_it_or_a_class_above_it_answers():
    class Sampler(Step):
        def sample(self, n):
            return tg.zeros(n)

    class Child(Sampler):
        def health(self, metrics):
            return "fine"

    names = ("measure", "summary", "pictures", "sample", "apply", "health")
    offered = lambda step: [name for name in names if step.offers(name)]
    assert offered(Step()) == []
    assert offered(Sampler()) == ["sample"]
    assert offered(Child()) == ["sample", "health"]


def test_models_offer_what_their_lecture_says():
    offered = {name: {n for n in ("sample", "apply", "summary", "health") if MADE[name]().offers(n)} for name in MADE}
    assert offered == {
        "autoencoder": {"apply"},
        "vae": {"apply", "sample", "summary", "health"},
        "gan": {"sample", "summary", "health"},
        "progressive gan": {"sample", "summary", "health"},
        "classifier": set(),
    }


def test_an_autoencoder_has_nothing_to_sample():
    with pytest.raises(Unsupported, match="AutoencoderStep has learned no distribution"):
        MADE["autoencoder"]().sample(2)


def test_all_networks_are_put_in_evaluation_mode():
    step = Parts()
    assert step.eval() is step
    assert not any(m.training for network in step.networks().values() for m in network.modules())


def test_all_networks_move_and_the_first_parameter_says_where_they_are():
    class Noted(nn.Linear):
        def to(self, *where):
            moved.append((self, *where))
            return self

    moved = []
    step = Parts()
    step.second, step.third = Noted(1, 1), Noted(1, 1)
    assert step.to("cpu") is step
    assert moved == [(step.second, "cpu"), (step.third, "cpu")]
    assert step.device == next(step.second.parameters()).device
    assert Step().device == "cpu"


def test_captions_come_with_their_images():
    images, captions = Captioned(tg.zeros(2, 1, 8, 8), ["a", "b"])
    assert images.shape == (2, 1, 8, 8) and captions == ["a", "b"]


def test_averaged_weights_are_those_of_every_average_and_the_last_ones_come_back():
    class Two(Step):
        def __init__(self):
            self.a, self.b, self.c = (nn.Linear(1, 1, bias=False) for _ in range(3))
            self.of_a, self.of_b = optim.EMA(self.a, 0.5), optim.EMA(self.b, 0.5)

    step = Two()
    first = {name: network.weight.item() for name, network in step.networks().items()}
    for network in step.networks().values():
        network.weight.data.fill_(9.0)
    assert list(step.averages()) == ["of_a", "of_b"]
    with pytest.raises(ZeroDivisionError), step.averaged():
        inside = {name: network.weight.item() for name, network in step.networks().items()}
        _ = 1 / 0
    assert inside == {"a": first["a"], "b": first["b"], "c": 9.0}
    assert [network.weight.item() for network in step.networks().values()] == [9.0] * 3


def test_a_step_without_an_average_says_so():
    step = MADE["gan"]()
    assert step.averages() == {}
    with pytest.raises(Unsupported, match="GANStep keeps no average"), step.averaged():
        pass
