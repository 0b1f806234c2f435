"""Model code written for PyTorch, executed twice: as it stands, and with nothing but its imports changed.

Weights are copied once from PyTorch's side, random numbers come from one table, and then outputs, losses, gradients and
a few steps of training must agree. What a program here uses (views, in-place `.data`, `apply`, BCE on sigmoids,
`fill_` on labels, `super(Class, self)`) is what tutorials use.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import tinygen

torch = pytest.importorskip("torch")

MLP_AUTOENCODER = """
import torch
from torch import nn
import torch.nn.functional as F


class Autoencoder(nn.Module):
    def __init__(self, n_hidden=32, n_code=4):
        super(Autoencoder, self).__init__()
        self.encoder = nn.Sequential(
            nn.Linear(8 * 8, n_hidden),
            nn.ReLU(True),
            nn.Linear(n_hidden, n_code))
        self.decoder = nn.Sequential(
            nn.Linear(n_code, n_hidden),
            nn.ReLU(inplace=True),
            nn.Linear(n_hidden, 8 * 8),
            nn.Sigmoid())

    def forward(self, x):
        x = x.view(x.size(0), -1)
        code = self.encoder(x)
        return self.decoder(code), code


def build():
    device = torch.device("cpu")
    return {"model": Autoencoder().to(device)}


def train(model, batches):
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    losses = []
    model.train()
    for img in batches:
        output, code = model(img)
        loss = criterion(output, img.view(img.size(0), -1)) + 1e-3 * code.abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
"""

CONV_AUTOENCODER = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR


class ConvAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(8, 4, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.drop = nn.Dropout(p=0.0)
        self.fc = nn.Linear(4 * 2 * 2, 6)
        self.fc2 = nn.Linear(6, 4 * 2 * 2)
        self.t_conv1 = nn.ConvTranspose2d(4, 8, 2, stride=2)
        self.t_conv2 = nn.ConvTranspose2d(8, 1, 3, 2, 1, 1)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = F.leaky_relu(self.conv2(x), 0.1)
        x = torch.flatten(x, 1)
        z = torch.tanh(self.fc(self.drop(x)))
        x = F.relu(self.fc2(z)).reshape(-1, 4, 2, 2)
        x = F.relu(self.t_conv1(x))
        return torch.sigmoid(self.t_conv2(x)), z


def build():
    return {"model": ConvAutoencoder()}


def train(model, batches):
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    scheduler = StepLR(optimizer, step_size=2, gamma=0.5)
    losses = []
    for step, images in enumerate(batches):
        optimizer.zero_grad()
        outputs, _ = model(images)
        loss = F.binary_cross_entropy(outputs, images)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.1)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses
"""

VAE = """
import torch
import torch.utils
from torch import nn, optim
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(64, 40)
        self.fc21 = nn.Linear(40, 5)
        self.fc22 = nn.Linear(40, 5)
        self.fc3 = nn.Linear(5, 40)
        self.fc4 = nn.Linear(40, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


def build():
    return {"model": VAE()}


def train(model, batches):
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    model.train()
    for data in batches:
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        losses.append(loss.item() / len(data))
        optimizer.step()
    model.eval()
    with torch.no_grad():
        sample = torch.randn(3, 5)
        sample = model.decode(sample).cpu()
        losses.append(sample.view(3, 1, 8, 8).mean().item())
    return losses
"""

DCGAN = """
import torch
import torch.nn as nn
import torch.optim as optim

nz, ngf, ndf, nc = 6, 4, 4, 1


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        m.weight.data.normal_(0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        nn.init.constant_(m.bias.data, 0)


class Generator(nn.Module):
    def __init__(self):
        super(Generator, self).__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, nc, 4, 2, 1, bias=False),
            nn.Tanh()
        )

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    def __init__(self):
        super(Discriminator, self).__init__()
        self.main = nn.Sequential(
            nn.Conv2d(nc, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 3, 1, 1, bias=False),
            nn.BatchNorm2d(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, 1, 4, 1, 0, bias=False),
            nn.Sigmoid()
        )

    def forward(self, input):
        return self.main(input).view(-1, 1).squeeze(1)


def build():
    netG, netD = Generator(), Discriminator()
    netG.apply(weights_init)
    netD.apply(weights_init)
    return {"netG": netG, "netD": netD}


def train(netG, netD, batches):
    device = torch.device("cpu")
    criterion = nn.BCELoss()
    real_label, fake_label = 1.0, 0.0
    optimizerD = optim.Adam(netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizerG = optim.Adam(netG.parameters(), lr=2e-4, betas=(0.5, 0.999))
    losses = []
    for real in batches:
        netD.zero_grad()
        b_size = real.size(0)
        label = torch.full((b_size,), real_label, dtype=torch.float, device=device)
        output = netD(real.to(device)).view(-1)
        errD_real = criterion(output, label)
        errD_real.backward()
        D_x = output.mean().item()

        noise = torch.randn(b_size, nz, 1, 1, device=device)
        fake = netG(noise)
        label.fill_(fake_label)
        output = netD(fake.detach()).view(-1)
        errD_fake = criterion(output, label)
        errD_fake.backward()
        errD = errD_real + errD_fake
        optimizerD.step()

        netG.zero_grad()
        label.fill_(real_label)
        output = netD(fake).view(-1)
        errG = criterion(output, label)
        errG.backward()
        optimizerG.step()
        losses += [errD.item(), errG.item(), D_x]
    return losses
"""

WGAN = """
import torch
import torch.nn as nn
from torch.autograd import grad


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList([nn.Linear(64, 16), nn.Linear(16, 16)])
        self.head = nn.Linear(16, 1)
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        x = torch.flatten(x, 1)
        for layer in self.body:
            x = nn.functional.softplus(layer(x))
        return self.head(x) * self.scale


def gradient_penalty(critic, real, fake):
    alpha = torch.rand(real.size(0), 1, 1, 1)
    mixed = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
    out = critic(mixed)
    slope = grad(outputs=out, inputs=mixed, grad_outputs=torch.ones_like(out), create_graph=True, retain_graph=True)[0]
    return ((slope.view(slope.size(0), -1).norm(2, dim=1) - 1) ** 2).mean()


def build():
    return {"critic": Critic()}


def train(critic, batches):
    optimizer = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
    losses = []
    for real in batches:
        fake = torch.rand(*real.shape)
        optimizer.zero_grad()
        loss = critic(fake).mean() - critic(real).mean() + 10 * gradient_penalty(critic, real, fake)
        loss.backward()
        optimizer.step()
        for p in critic.head.parameters():
            p.data.clamp_(-0.2, 0.2)
        losses.append(loss.item())
    return losses
"""

PROGRAMS = {
    "mlp_autoencoder": MLP_AUTOENCODER,
    "conv_autoencoder": CONV_AUTOENCODER,
    "vae": VAE,
    "dcgan": DCGAN,
    "wgan_gp": WGAN,
}


def port(source):
    """The source with its import lines, and nothing else, changed."""

    def change(line):
        if not re.match(r"(import|from) torch", line):
            return line
        if line in (
            "import torch.utils",
            "from torch.autograd import grad",
        ):  # what has no counterpart, or another place
            return {"import torch.utils": "", "from torch.autograd import grad": "from tinygen import grad"}[line]
        changed = re.sub(r"\btorch\b", "tinygen", line)
        return "import tinygen as torch" if changed == "import tinygen" else changed

    return "\n".join(map(change, source.split("\n")))


def execute(source):
    namespace = {"__name__": "ported"}
    exec(compile(source, "<program>", "exec"), namespace)
    return namespace


class Table:
    """Random numbers that both sides draw: the same values in the same order."""

    def __init__(self, monkeypatch):
        self.rng = {}
        for library in (torch, tinygen):
            draw = lambda kind, library: lambda *shape, device=None: self.draw(library, kind, shape)
            monkeypatch.setattr(library, "randn", draw("standard_normal", library))
            monkeypatch.setattr(library, "rand", draw("random", library))
            like = lambda library: lambda t: self.draw(library, "standard_normal", tuple(t.shape))
            monkeypatch.setattr(library, "randn_like", like(library))

    def restart(self):
        self.rng = {library: np.random.default_rng(11) for library in (torch, tinygen)}

    def draw(self, library, kind, shape):
        return library.tensor(getattr(self.rng[library], kind)(shape).astype(np.float32))


@pytest.fixture(params=PROGRAMS)
def pair(request, monkeypatch):
    """Both sides' namespaces and models (PyTorch's weights on both), the images, the table of random numbers."""
    torch.manual_seed(0)
    source = PROGRAMS[request.param]
    theirs, ours = execute(source), execute(port(source))
    models, ported = theirs["build"](), ours["build"]()
    for name, model in ported.items():
        assert model.load_state_dict(models[name].state_dict()).missing_keys == []
        assert [n for n, _ in model.named_parameters()] == [n for n, _ in models[name].named_parameters()]
    images = np.random.default_rng(5).random((5, 6, 1, 8, 8), np.float32)
    table = Table(monkeypatch)
    table.restart()
    return theirs, ours, models, ported, images, table


def arrays(model):
    return {n: t.detach().numpy().copy() for n, t in model.state_dict().items()}


def test_only_imports_differ():
    for source in PROGRAMS.values():
        changed = [a for a, b in zip(source.split("\n"), port(source).split("\n"), strict=True) if a != b]
        assert changed and all(re.match(r"(import|from) torch", line) for line in changed)
        assert "import torch" not in port(source)


def test_outputs_and_gradients_are_equal(pair):
    _, _, models, ported, images, table = pair
    for name, model in models.items():
        values = (
            images[0] if name != "netG" else np.random.default_rng(1).standard_normal((6, 6, 1, 1)).astype(np.float32)
        )
        table.restart()
        h, y = model(torch.tensor(values)), ported[name](tinygen.tensor(values))
        h, y = (h, y) if isinstance(h, tuple) else ((h,), (y,))
        for a, b in zip(y, h, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-5)
        sum((t**2).sum() for t in h).backward()
        sum((t**2).sum() for t in y).backward()
        for (n, p), q in zip(ported[name].named_parameters(), model.parameters(), strict=True):
            scale = max(1.0, float(q.grad.abs().max()))
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-5 * scale, err_msg=n)
        assert all(np.allclose(v, arrays(model)[n], atol=1e-5) for n, v in arrays(ported[name]).items())


def test_five_steps_of_training_are_equal(pair):
    theirs, ours, models, ported, images, _ = pair
    before = {name: arrays(model) for name, model in ported.items()}
    reference = theirs["train"](**models, batches=[torch.tensor(b) for b in images])
    losses = ours["train"](**ported, batches=[tinygen.tensor(b) for b in images])
    np.testing.assert_allclose(losses, reference, rtol=1e-4, atol=1e-5)
    for name, model in models.items():
        expected, found = arrays(model), arrays(ported[name])
        for n, value in expected.items():
            np.testing.assert_allclose(found[n], value, rtol=1e-3, atol=1e-4, err_msg=f"{name}.{n}")
        moved = [n for n in found if not np.array_equal(found[n], before[name][n])]
        constant = {"head.bias"}  # a critic's last bias cancels in the difference of its means
        assert {*moved} >= {n for n, _ in ported[name].named_parameters()} - constant, name


def test_the_trained_model_goes_back_to_pytorch(pair, tmp_path):
    from safetensors.torch import load_file

    theirs, ours, _, ported, images, table = pair
    ours["train"](**ported, batches=[tinygen.tensor(b) for b in images[:2]])
    fresh = theirs["build"]()
    for name, model in ported.items():
        tinygen.save(model.state_dict(), tmp_path / f"{name}.safetensors")
        fresh[name].load_state_dict(load_file(tmp_path / f"{name}.safetensors"))
        values = (
            images[4] if name != "netG" else np.random.default_rng(2).standard_normal((6, 6, 1, 1)).astype(np.float32)
        )
        table.restart()
        h, y = fresh[name].eval()(torch.tensor(values)), model.eval()(tinygen.tensor(values))
        h, y = (h, y) if isinstance(h, tuple) else ((h,), (y,))
        for a, b in zip(y, h, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_weights_init_draws_its_own_distribution_in_place():
    namespace = execute(port(DCGAN))
    tinygen.manual_seed(3)
    nets = namespace["build"]()
    weights = np.concatenate([p.detach().numpy().ravel() for p in nets["netD"].parameters() if p.ndim == 4])
    assert abs(weights.std() / 0.02 - 1) < 0.15 and abs(weights.mean()) < 0.003
    norm = nets["netG"].main[1]
    assert 0 < abs(norm.weight.detach().numpy() - 1).max() < 0.1 and (norm.bias.detach().numpy() == 0).all()
    tinygen.manual_seed(3)
    again = namespace["build"]()
    for p, q in zip(nets["netG"].parameters(), again["netG"].parameters(), strict=True):
        assert np.array_equal(p.detach().numpy(), q.detach().numpy())
