"""The device "cuda-emulated" as users meet it: tensors move, whole training steps equal the CPU's, errors help.

Its arrays refuse what CuPy's refuse (tinygen/backends/cuda/device_array.py), so a NumPy array that slips in, or a value
that is looked at in passing, shows here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from on_device import PLACE

import tinygen as tg
from tinygen import nn, observe, optim
from tinygen.backends.cuda.device_array import DeviceArray
from tinygen.cli import main
from tinygen.models import (
    AutoencoderStep,
    Bernoulli,
    ClassifierStep,
    ConditionalGANStep,
    GANStep,
    Gaussian,
    ProgressiveGANStep,
    VAEStep,
    games,
)
from tinygen.models.critics import gradient_penalty
from tinygen.networks.conditional import ConditionalDiscriminator, ConditionalGenerator
from tinygen.networks.convolutional import ConvDecoder, ConvEncoder
from tinygen.networks.dcgan import DCCritic, DCDiscriminator, DCGenerator
from tinygen.networks.growing import GrowingDiscriminator, GrowingGenerator
from tinygen.networks.lenet import LeNet5
from tinygen.networks.mlp import MLPDecoder, MLPDiscriminator, MLPEncoder, MLPGenerator, gaussian
from tinygen.nn import functional as F
from tinygen.step import Step

XP = tg.device(PLACE).kernels.xp
pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")



# ---------------------------------------------------------------- moving


def test_tensors_move_and_keep_their_values(rng):
    values = rng.standard_normal((3, 4)).astype(np.float32)
    x = tg.tensor(values)
    there = x.to(PLACE)
    assert isinstance(there.array, XP.ndarray)
    assert str(there.device) == PLACE
    assert there.to(PLACE) is there
    np.testing.assert_array_equal(there.numpy(), values)
    np.testing.assert_array_equal(there.cpu().array, values)
    np.testing.assert_array_equal(tg.tensor(values, device=PLACE).cpu().array, values)
    np.testing.assert_allclose((there @ there.T).cpu().array, (x @ x.T).array, rtol=1e-6)
    assert there.to("float64").dtype == np.float64
    assert x.to(there).device is there.device
    assert f"device='{PLACE}'" in repr(there)
    assert tg.zeros(2, 3, device=PLACE).sum().item() == 0


def test_a_module_moves_with_its_buffers_and_gradients():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).to(PLACE)
    assert all(isinstance(t.array, XP.ndarray) for t in [*model.parameters(), *model.buffers()])
    model(tg.randn(3, 1, 4, 4, device=PLACE)).sum().backward()
    assert all(isinstance(p.grad.array, XP.ndarray) for p in model.parameters())
    model.cpu()
    assert all(isinstance(t.array, np.ndarray) for t in [*model.parameters(), *model.buffers()])


def test_devices_do_not_mix():
    with pytest.raises(RuntimeError, match=f"mul: mixed devices .* on cpu, .* on {PLACE}"):
        tg.ones(2) * tg.ones(2, device=PLACE)


def test_a_profile_counts_ops_and_kernels_there():
    with observe.profile(PLACE) as p:
        tg.ones(3, device=PLACE).tanh()
    assert p.ops["tanh"][0] == p.kernels["tanh"][0] == 1


def test_random_numbers_are_those_of_the_cpu():
    draws = []
    for place in ("cpu", PLACE):
        tg.manual_seed(7)
        z = [tg.rand(5, device=place), tg.randn(4, 3, device=place), tg.randint(0, 9, (6,), device=place),
             tg.randperm(8, device=place), F.dropout(tg.ones(40, device=place), 0.5, True)]  # fmt: skip
        draws.append([t.cpu().array for t in z])
    for a, b in zip(*draws, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- whole training steps


class WGANGP(Step):
    """One critic update and one generator update with a gradient penalty: backward through backward (lecture 3)."""

    def __init__(self) -> None:
        self.critic = nn.Sequential(nn.Conv2d(1, 6, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(96, 1))
        self.generator = nn.Sequential(nn.Linear(5, 96), nn.Unflatten(1, (6, 4, 4)), nn.BatchNorm2d(6), nn.ReLU(),
                                       nn.ConvTranspose2d(6, 1, 4, 2, 1), nn.Tanh())  # fmt: skip
        self.critic_optimizer = optim.Adam(self.critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
        self.generator_optimizer = optim.RMSprop(self.generator.parameters(), lr=1e-3)

    def __call__(self, batch):
        x, _ = batch
        device = x.device
        fake = self.generator(tg.randn(len(x), 5, device=device))
        mix = tg.rand(len(x), 1, 1, 1, device=device)
        between = (mix * x + (1 - mix) * fake.detach()).requires_grad_()
        (slope,) = tg.grad(self.critic(between).sum(), [between], create_graph=True)
        penalty = ((slope.flatten(1).square().sum(1) + 1e-12).sqrt() - 1).square().mean()
        loss = self.critic(fake.detach()).mean() - self.critic(x).mean() + 10 * penalty
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        with tg.frozen(self.critic):
            g_loss = -self.critic(fake).mean()
        self.generator_optimizer.zero_grad()
        g_loss.backward()
        self.generator_optimizer.step()
        return {"loss": loss.detach(), "g_loss": g_loss.detach(), "penalty": penalty.detach()}


SHAPE = (1, 8, 8)
SIGMOID = lambda decoder: nn.Sequential(decoder, nn.Sigmoid())
STEPS = {
    "ae": lambda: AutoencoderStep(MLPEncoder(SHAPE, (20,), 4), SIGMOID(MLPDecoder(SHAPE, (20,), 4))),
    "conv-ae": lambda: AutoencoderStep(
        ConvEncoder(SHAPE, (4, 6), (), 4), SIGMOID(ConvDecoder(SHAPE, (4, 6), (), 4))
    ),
    "vae": lambda: VAEStep(
        gaussian(MLPEncoder(SHAPE, (), 20), 20, 3), MLPDecoder(SHAPE, (20,), 3), Bernoulli(), latent=3
    ),
    "conv-vae": lambda: VAEStep(
        gaussian(ConvEncoder(SHAPE, (4, 6), (), 16), 16, 3), ConvDecoder(SHAPE, (4, 6), (16,), 3), Gaussian(), latent=3
    ),
    "gan": lambda: GANStep(
        MLPGenerator(SHAPE, (12, 20), 6), MLPDiscriminator(SHAPE, (20, 12)), games.non_saturating(), latent=6
    ),
    "dcgan": lambda: GANStep(
        DCGenerator(SHAPE, (4, 8), 6), DCDiscriminator(SHAPE, (4, 8)), games.non_saturating(), latent=6
    ),
    "progressive gan": lambda: ProgressiveGANStep(
        GrowingGenerator(SHAPE, (2, 3), 6), GrowingDiscriminator(SHAPE, (2, 3)), games.non_saturating(), latent=6,
        stay=2, fade=4,
    ),
    "wgan-gp": WGANGP,
    "wgan-gp model": lambda: GANStep(
        DCGenerator(SHAPE, (4, 8), 6), DCCritic(SHAPE, (4, 8)), games.wasserstein(), gradient_penalty(), latent=6,
        rounds=2,
    ),
    "cgan": lambda: ConditionalGANStep(
        ConditionalGenerator(SHAPE, 10, (4, 8), 6), ConditionalDiscriminator(SHAPE, 10, (4, 8)),
        games.non_saturating(), tuple("0123456789"), latent=6,
    ),
    "classifier": lambda: ClassifierStep(LeNet5(SHAPE, 10), tuple("0123456789")),
}  # fmt: skip


def run_on(place: str, make, steps: int = 3):
    """(metrics of every step, all weights after the last), as NumPy arrays."""
    tg.manual_seed(3)
    step, draw = make(), np.random.default_rng(1)
    step.to(place)
    tg.manual_seed(4)
    history = []
    for _ in range(steps):
        arrays = draw.random((6, *SHAPE), np.float32), draw.integers(0, 10, 6)
        batch = tuple(tg.tensor(a, device=place) for a in arrays)
        history.append({name: float(value.item()) for name, value in step(batch).items()})
    states = {name: network.state_dict() for name, network in step.networks().items()}
    return history, {f"{m}.{n}": value.cpu().array for m, state in states.items() for n, value in state.items()}


@pytest.mark.parametrize("name", STEPS)
def test_a_training_step_equals_the_cpus(name):
    (want, weights), (got, moved) = (run_on(place, STEPS[name]) for place in ("cpu", PLACE))
    for a, b in zip(want, got, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(b.values()), list(a.values()), rtol=1e-5, atol=1e-5)
    # A batch norm takes off what a bias before it adds: its gradient is rounding alone, which Adam makes a full step.
    without_gradient = {"gan": {f"generator.{n}" for n in ("0.bias", "1.running_mean", "3.bias", "4.running_mean")}}
    for key in weights.keys() - without_gradient.get(name, set()):
        value = weights[key]
        np.testing.assert_allclose(moved[key], value, rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("axes", [1, 2])
def test_a_convolution_adds_up_its_channels_for_the_batch_norm_behind_it(axes, monkeypatch):
    """Values, gradients and running statistics are the CPU's, and no kernel goes through the output for its sums."""
    launcher, launched = tg.device(PLACE).kernels.launcher, []
    launch = launcher.launch
    monkeypatch.setattr(launcher, "launch", lambda name, *rest: (launched.append(name), launch(name, *rest)))
    Conv, Transposed, Norm = (getattr(nn, f"{name}{axes}d") for name in ("Conv", "ConvTranspose", "BatchNorm"))
    layers = lambda: nn.Sequential(
        Conv(15, 24, 3), nn.ReLU(), Norm(24), nn.LeakyReLU(0.2), Transposed(24, 9, 4, 2, 1), Norm(9), nn.ReLU()
    )
    found = {}
    for place in ("cpu", PLACE):
        tg.manual_seed(5)
        net, x = layers(), tg.randn(4, 15, *(7,) * axes)
        net, x = net.to(place), x.to(place).requires_grad_()
        y = net(x)
        (y * y).sum().backward()
        # The bias before a batch norm has no gradient but rounding.
        tensors = [y.detach(), x.grad, *(p.grad for n, p in net.named_parameters() if n != "4.bias"), *net.buffers()]
        found[place] = [t.cpu().array for t in tensors]
        assert launched.count("channel_normalize") == (0 if place == "cpu" else 2)
        assert "channel_statistics" not in launched
        net.eval()(x)
    for a, b in zip(*found.values(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * max(1, abs(a).max()))


def test_the_channels_of_one_image_are_not_those_of_a_batch():
    """BatchNorm1d takes the (channels, length) of one signal for (batch, channels)."""
    net = nn.Sequential(nn.Conv1d(20, 12, 3), nn.BatchNorm1d(12))
    x = tg.randn(20, 14)
    want = net[1](net[0](x))
    net.to(PLACE)
    np.testing.assert_allclose(net(x.to(PLACE)).detach().cpu().array, want.detach().array, rtol=1e-4, atol=1e-5)


def test_doctor_checks_the_device(capsys):
    assert main(["doctor", "--device", PLACE]) == 0
    assert capsys.readouterr().out.count(f"  ok    {PLACE}: ") == 3


@pytest.mark.parametrize("recipe", ["conv-vae", "lenet"])
def test_the_command_line_trains_resumes_samples_and_evaluates_there(recipe, tmp_path, capsys):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    run = tmp_path / "run"
    assert main(["train", recipe, "--device", PLACE, "--limit", "32", "--epochs", "1", "--out", str(run)]) == 0
    assert PLACE in capsys.readouterr().out
    assert main(["resume", str(run), "--epochs", "2"]) == 0
    figures = {}
    for place in (PLACE, "cpu"):
        capsys.readouterr()
        assert main(["evaluate", str(run), "--device", place]) == 0
        figures[place] = capsys.readouterr().out.splitlines()[1:-1]
    compared = 0
    for here, there in zip(figures["cpu"], figures[PLACE], strict=True):
        if not here.startswith("   ") and "n = " in here:  # a figure, and no baseline
            assert here.split()[0] == there.split()[0]
            np.testing.assert_allclose(float(here.split()[1]), float(there.split()[1]), rtol=1e-3)
            compared += 1
    assert compared > 1
    if recipe == "conv-vae":
        assert main(["sample", str(run), "-n", "4"]) == 0
        assert (run / "sample-1.png").exists()


# ---------------------------------------------------------------- what is refused, and how


def test_without_cupy_the_error_names_the_extra():
    code = "import sys; sys.modules['cupy'] = None; import tinygen as tg; tg.device('cuda')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "tinygen[cuda13]" in done.stderr and "CuPy is not installed" in done.stderr
    code = "import sys; sys.modules['cupy'] = None; import tinygen as tg; print(tg.cuda.is_available())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_gpu_has_one_name():
    with pytest.raises(ValueError, match=r"'cuda:1': tinygen uses one GPU.*CUDA_VISIBLE_DEVICES"):
        tg.device("cuda:1")
    if tg.cuda.is_available():
        assert tg.device("cuda:0") is tg.device("cuda")
    else:
        with pytest.raises(RuntimeError, match="device 'cuda' cannot be used here"):
            tg.device("cuda:0")


def test_the_matrix_of_a_kernel_on_the_device():
    w = tg.tensor([1.0, 2.0, 1.0], device=PLACE)
    np.testing.assert_array_equal(tg.conv_matrix(w, 4), tg.conv_matrix(w.cpu(), 4))


def test_without_a_compiler_the_emulated_device_says_so():
    code = "import os; os.environ['CXX'] = 'no-such-compiler'; import tinygen as tg; tg.device('cuda-emulated')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "no-such-compiler" in done.stderr and "install g++" in done.stderr


def test_device_arrays_refuse_what_cupy_refuses():
    x = tg.ones(3, device="cuda-emulated").array
    with pytest.raises(TypeError, match="NumPy array"):
        x + np.ones(3)
    with pytest.raises(TypeError, match="implicit conversion"):
        np.asarray(x)
    assert x.sum().ndim == 0 and isinstance(x.sum(), DeviceArray)


# ---------------------------------------------------------------- the test suite itself, on these kernels

SUITE = ["tape", "fused", "arithmetic", "pointwise", "comparison", "choosing", "activation", "pool_resize", "matmul",
         "reduce", "random", "losses", "functional", "testing",
         "conv", "models", "ported_from_torch", "view", "joining", "indexing", "masking", "gathering", "embedding",
         "padding", "rearranging", "diagonals", "sorting", "optimizer", "algorithms", "lr_scheduler", "ema", "lbfgs",
         "clipping", "module", "nn", "layers", "normalization", "grid", "attention", "linalg", "distances", "convolve",
         "special", "jacobian"]  # fmt: skip
ABOUT_THE_CPU = ["cpu", "reference", "number_of_threads"]


def on_these_kernels(*modules: str) -> None:
    """Runs test modules with the CPU's kernels exchanged for the CUDA ones (conftest.py)."""
    tests = Path(__file__).parents[1]
    files = [str(next(tests.rglob(f"test_{m}.py"))) for m in modules]
    skipped = " or ".join(ABOUT_THE_CPU)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"not ({skipped})", *files]
    env = {**os.environ, "TINYGEN_TEST_KERNELS": "cuda-emulated"}
    done = subprocess.run(command, cwd=tests.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_tape_and_the_fused_ops_on_the_cuda_kernels():
    on_these_kernels("tape", "fused")


@pytest.mark.emulated
@pytest.mark.parametrize("module", SUITE)
def test_the_suite_on_the_cuda_kernels(module):
    on_these_kernels(module)
