"""The training steps that are measured, written once: `lib` is tinygen or torch, with the few words that differ.

    step = STEPS["dcgan28"](lib, small=False)       step.update(batch) trains once and returns the losses

`lib` (see `libraries`) gives T (the module itself: T.nn, T.no_grad ...), adam(...), randn(...), grad(...), frozen(...)
and compiled(f). Both sides start from the same weights, `fill`, and are fed the same batches. The sizes are those of
the papers and lectures; `small` keeps the structure and shrinks everything, to test the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np


@dataclass
class Step:
    """A training step: `update(*batch)` returns its losses; `batches` are NumPy arrays, one tuple for each batch.

    `updated` is the module whose gradients are compared. Of a GAN it is the generator: where the discriminator is not
    frozen, its gradients are overwritten by those of the generator's update, which nobody uses.
    """

    modules: list[Any]
    batches: list[tuple[np.ndarray, ...]]
    update: Callable[..., list[Any]]
    updated: Any

    @property
    def images(self) -> int:
        return len(self.batches[0][0])


def fill(modules: list[Any], lib: Any) -> None:
    """The same weights on both sides: N(0, 1 / fan in) for matrices and kernels, 1 for scales, 0 for biases."""
    rng = np.random.default_rng(7)
    for module in modules:
        for name, p in module.named_parameters():
            shape = tuple(p.shape)
            if len(shape) > 1:
                value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
            else:
                value = np.ones(shape) if name.endswith("weight") else np.zeros(shape)
            with lib.T.no_grad():
                p.copy_(lib.T.tensor(value.astype(np.float32)))


def images(count: int, *shape: int, low: float = 0.0) -> list[tuple[np.ndarray, ...]]:
    """Four batches of uniform noise in [low, 1]: times do not depend on what is in the pictures."""
    rng = np.random.default_rng(3)
    return [((1 - low) * rng.random((count, *shape), np.float32) + low,) for _ in range(4)]


def trained(lib: Any, net: Any, batches: list, loss_fn: Callable, noise: tuple[int, ...] = ()) -> Step:
    """A step of one network with one loss, loss_fn(*batch) or loss_fn(*batch, eps), eps ~ N(0, 1) of shape `noise`."""
    optimizer = lib.adam(net.parameters(), lr=1e-3)
    loss_fn = lib.compiled(loss_fn)

    def update(*batch: Any) -> list[Any]:
        loss = loss_fn(*batch, *([lib.randn(*noise)] if noise else []))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return [loss]

    return Step([net], batches, update, net)


def mlp_ae(lib: Any, small: bool) -> Step:
    """784-512-256-32 and back, ReLU, sigmoid at the end; squared error."""
    nn: Any = lib.T.nn
    F = nn.functional
    count, sizes = (4, [20, 12, 5]) if small else (128, [784, 512, 256, 32])
    sizes = sizes + sizes[-2::-1]
    layers: list[Any] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    net = nn.Sequential(*layers[:-1], nn.Sigmoid())
    return trained(lib, net, images(count, sizes[0]), lambda x: F.mse_loss(net(x), x))


def mlp_vae(lib: Any, small: bool) -> Step:
    """784-400-20-400-784; binary cross entropy plus KL, summed over the batch."""
    nn: Any = lib.T.nn
    F = nn.functional
    count, pixels, hidden, latent = (4, 20, 12, 3) if small else (128, 784, 400, 20)

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Linear(pixels, hidden)
            self.mu, self.logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
            self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels))

        def forward(self, x: Any, eps: Any) -> tuple:
            h = F.relu(self.trunk(x))
            mu, logvar = self.mu(h), self.logvar(h)
            return self.decoder(mu + eps * (0.5 * logvar).exp()), mu, logvar

    net = VAE()

    def loss_fn(x: Any, eps: Any) -> Any:
        logits, mu, logvar = net(x, eps)
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum()
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl

    return trained(lib, net, images(count, pixels), loss_fn, (count, latent))


def conv_vae(lib: Any, small: bool) -> Step:
    """Convolutions 1-32-64 (k3 s2), 3136-128-16, and the mirror image; binary cross entropy plus KL, per image."""
    nn: Any = lib.T.nn
    F = nn.functional
    count, side, a, b, hidden, latent = (4, 8, 3, 4, 6, 2) if small else (128, 28, 32, 64, 128, 16)
    flat = b * (side // 4) ** 2

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.c2 = nn.Conv2d(1, a, 3, 2, 1), nn.Conv2d(a, b, 3, 2, 1)
            self.f1, self.mu, self.logvar = (
                nn.Linear(flat, hidden),
                nn.Linear(hidden, latent),
                nn.Linear(hidden, latent),
            )
            self.f2, self.f3 = nn.Linear(latent, hidden), nn.Linear(hidden, flat)
            self.t1, self.t2 = nn.ConvTranspose2d(b, a, 3, 2, 1, 1), nn.ConvTranspose2d(a, 1, 3, 2, 1, 1)

        def forward(self, x: Any, eps: Any) -> tuple:
            h = F.relu(self.c2(F.relu(self.c1(x)))).flatten(1)
            h = F.relu(self.f1(h))
            mu, logvar = self.mu(h), self.logvar(h)
            h = F.relu(self.f2(mu + eps * (0.5 * logvar).exp()))
            h = F.relu(self.f3(h)).view(-1, b, side // 4, side // 4)
            return self.t2(F.relu(self.t1(h))), mu, logvar

    net = VAE()

    def loss_fn(x: Any, eps: Any) -> Any:
        logits, mu, logvar = net(x, eps)
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum()
        return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / count

    return trained(lib, net, images(count, 1, side, side), loss_fn, (count, latent))


def lenet(lib: Any, small: bool) -> Step:
    """LeNet-5 with ReLU and max pooling, 64 images of 28x28; cross entropy."""
    nn: Any = lib.T.nn
    F = nn.functional
    count, side = (4, 16) if small else (64, 28)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (side // 4 - 2) ** 2, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    labels = np.random.default_rng(5).integers(0, 10, count)
    batches = [(x, labels) for (x,) in images(count, 1, side, side)]
    return trained(lib, net, batches, lambda x, label: F.cross_entropy(net(x), label))


def gan28(nn: Any, side: int, a: int, b: int, latent: int, norm: bool) -> tuple[Any, Any]:
    """Generator latent - b x 7 x 7 - a - 1 with batch norm, critic 1 - a - b - 1 with batch norm if `norm`."""
    planes = (b, side // 4, side // 4)
    flat = int(np.prod(planes))
    generator = nn.Sequential(
        nn.Linear(latent, flat, bias=False),
        nn.BatchNorm1d(flat),
        nn.ReLU(),
        nn.Unflatten(1, planes),
        nn.ConvTranspose2d(b, a, 4, 2, 1, bias=False),
        nn.BatchNorm2d(a),
        nn.ReLU(),
        nn.ConvTranspose2d(a, 1, 4, 2, 1),
        nn.Tanh(),
    )
    between = [nn.BatchNorm2d(b)] if norm else []
    critic = nn.Sequential(
        nn.Conv2d(1, a, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(a, b, 4, 2, 1, bias=not norm),
        *between,
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(flat, 1),
    )
    return generator, critic


def gan_step(lib: Any, G: Any, D: Any, batches: list, noise: tuple[int, ...]) -> Step:
    """One update of D on real and fake images, one of G against it, with binary cross entropy (non-saturating)."""
    F = lib.T.nn.functional
    betas = (0.5, 0.999)
    g_optimizer, d_optimizer = lib.adam(G.parameters(), 2e-4, betas), lib.adam(D.parameters(), 2e-4, betas)
    one, zero = (lib.tensor(np.full((noise[0], 1), v, np.float32)) for v in (1.0, 0.0))
    bce = F.binary_cross_entropy_with_logits
    generate = lib.compiled(lambda z: G(z))
    d_loss = lib.compiled(lambda real, fake: bce(D(real), one) + bce(D(fake), zero))
    g_loss = lib.compiled(lambda fake: bce(D(fake), one))

    def update(real: Any) -> list[Any]:
        fake = generate(lib.randn(*noise))
        first = d_loss(real, fake.detach())
        d_optimizer.zero_grad()
        first.backward()
        d_optimizer.step()
        with lib.frozen(D):
            second = g_loss(fake)
        g_optimizer.zero_grad()
        second.backward()
        g_optimizer.step()
        return [first, second]

    return Step([G, D], batches, update, G)


def dcgan28(lib: Any, small: bool) -> Step:
    """DCGAN on 64 images of 28x28, 64 and 128 channels."""
    count, side, a, b, latent = (4, 8, 3, 4, 5) if small else (64, 28, 64, 128, 100)
    G, D = gan28(lib.T.nn, side, a, b, latent, norm=True)
    return gan_step(lib, G, D, images(count, 1, side, side, low=-1.0), (count, latent))


def dcgan64(lib: Any, small: bool) -> Step:
    """The DCGAN of the paper on 64 images of 3x64x64: 64 to 512 channels, four doublings."""
    nn = lib.T.nn
    count, f, latent = (2, 2, 5) if small else (64, 64, 100)
    up = lambda a, b, s, p: [nn.ConvTranspose2d(a, b, 4, s, p, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
    down = lambda a, b: [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, True)]
    G = nn.Sequential(
        *up(latent, 8 * f, 1, 0),
        *up(8 * f, 4 * f, 2, 1),
        *up(4 * f, 2 * f, 2, 1),
        *up(2 * f, f, 2, 1),
        nn.ConvTranspose2d(f, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    D = nn.Sequential(
        nn.Conv2d(3, f, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, True),
        *down(f, 2 * f),
        *down(2 * f, 4 * f),
        *down(4 * f, 8 * f),
        nn.Conv2d(8 * f, 1, 4, 1, 0, bias=False),
        nn.Flatten(),
    )
    return gan_step(lib, G, D, images(count, 3, 64, 64, low=-1.0), (count, latent, 1, 1))


def wgan_gp28(lib: Any, small: bool) -> Step:
    """The critic's update of WGAN-GP: the norm of its gradient at mixed images is pulled to 1: nested backward."""
    T = lib.T
    count, side, a, b, latent = (4, 8, 3, 4, 5) if small else (64, 28, 64, 128, 100)
    G, D = gan28(T.nn, side, a, b, latent, norm=False)
    optimizer = lib.adam(D.parameters(), 1e-4, (0.5, 0.9))

    def update(real: Any) -> list[Any]:
        with T.no_grad():
            fake = G(lib.randn(count, latent))
            e = lib.rand(count, 1, 1, 1)
            mixed = e * real + (1 - e) * fake
        mixed.requires_grad_(True)
        (g,) = lib.grad(D(mixed).sum(), mixed, create_graph=True)
        penalty = ((g.flatten(1).norm(2, 1) - 1) ** 2).mean()
        loss = D(fake).mean() - D(real).mean() + 10 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return [loss]

    return Step([G, D], images(count, 1, side, side, low=-1.0), update, D)


def srresnet(lib: Any, small: bool) -> Step:
    """SRResNet from 24x24 to 96x96, 8 images in colour: kernel 9, 4 blocks of 64, pixel shuffle; squared error."""
    nn: Any = lib.T.nn
    count, side, width, blocks = (2, 6, 3, 1) if small else (8, 24, 64, 4)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv = lambda: nn.Conv2d(width, width, 3, padding=1)
            self.layers = nn.Sequential(
                conv(), nn.BatchNorm2d(width), nn.PReLU(), conv(), nn.BatchNorm2d(width)
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return x + self.layers(x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
            self.body = nn.Sequential(
                *[Block() for _ in range(blocks)], nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
            )
            up = lambda: [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
            self.tail = nn.Sequential(*up(), *up(), nn.Conv2d(width, 3, 9, padding=4))

        def forward(self, x: Any) -> Any:
            h = self.head(x)
            return self.tail(h + self.body(h))

    net = Net()
    large = images(count, 3, 4 * side, 4 * side)
    batches = [(y.reshape(count, 3, side, 4, side, 4).mean((3, 5), dtype=np.float32), y) for (y,) in large]
    return trained(lib, net, batches, lambda x, y: lib.T.nn.functional.mse_loss(net(x), y))


def unet(lib: Any, small: bool) -> Step:
    """pix2pix's U-Net on 16 images of 3x64x64: 32 to 256 planes in four halvings, skips, batch norm; absolute error."""
    T, nn = lib.T, lib.T.nn
    count, side, widths = (2, 8, (3, 4)) if small else (16, 64, (32, 64, 128, 256))

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            down = [nn.Conv2d(3, widths[0], 4, 2, 1)]
            for a, b in pairwise(widths):
                down.append(
                    nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b))
                )
            up = []
            for i in range(len(widths) - 1, 0, -1):
                inner = widths[i] * (1 if i == len(widths) - 1 else 2)
                outer = widths[i - 1]
                up.append(
                    nn.Sequential(
                        nn.ReLU(), nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False), nn.BatchNorm2d(outer)
                    )
                )
            up.append(nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * widths[0], 3, 4, 2, 1), nn.Tanh()))
            self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)

        def forward(self, x: Any) -> Any:
            planes = []
            for layer in self.down:
                x = layer(x)
                planes.append(x)
            x = planes.pop()
            for i, layer in enumerate(self.up):
                x = layer(x if i == 0 else T.cat([x, planes.pop()], 1))
            return x

    net = UNet()
    batches = [(x[:, ::-1].copy(), x) for (x,) in images(count, 3, side, side, low=-1.0)]
    return trained(lib, net, batches, lambda x, y: nn.functional.l1_loss(net(x), y))


def cyclegan_generator(lib: Any, small: bool) -> Step:
    """CycleGAN's generator on 4 images of 3x64x64: mirrored borders, instance norm, 3 blocks of 128; absolute error."""
    nn: Any = lib.T.nn
    count, side, f, blocks = (2, 8, 2, 1) if small else (4, 64, 32, 3)
    norm = lambda width: [nn.InstanceNorm2d(width), nn.ReLU()]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv = lambda: [nn.ReflectionPad2d(1), nn.Conv2d(4 * f, 4 * f, 3)]
            self.layers = nn.Sequential(*conv(), *norm(4 * f), *conv(), nn.InstanceNorm2d(4 * f))

        def forward(self, x: Any) -> Any:
            return x + self.layers(x)

    net = nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(3, f, 7),
        *norm(f),
        nn.Conv2d(f, 2 * f, 3, 2, 1),
        *norm(2 * f),
        nn.Conv2d(2 * f, 4 * f, 3, 2, 1),
        *norm(4 * f),
        *[Block() for _ in range(blocks)],
        nn.ConvTranspose2d(4 * f, 2 * f, 3, 2, 1, 1),
        *norm(2 * f),
        nn.ConvTranspose2d(2 * f, f, 3, 2, 1, 1),
        *norm(f),
        nn.ReflectionPad2d(3),
        nn.Conv2d(f, 3, 7),
        nn.Tanh(),
    )
    batches = [(x[:, ::-1].copy(), x) for (x,) in images(count, 3, side, side, low=-1.0)]
    return trained(lib, net, batches, lambda x, y: nn.functional.l1_loss(net(x), y))


STEPS: dict[str, Callable[[Any, bool], Step]] = {
    f.__name__: f
    for f in (mlp_ae, mlp_vae, conv_vae, lenet, dcgan28, dcgan64, wgan_gp28, srresnet, unet, cyclegan_generator)
}
NO_COMPILE = {  # model: why torch.compile is not measured
    "wgan_gp28": "torch.compile cannot differentiate twice",
    "dcgan64": "its graphs take minutes to compile, and compiled DCGANs were slower than eager ones",
}
CONVOLUTIONAL = tuple(name for name in STEPS if not name.startswith("mlp_"))  # where channels_last means something
