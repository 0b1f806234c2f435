"""Generative adversarial network: G turns noise into images, D tells them from real ones (Goodfellow 2014, lectures
0-4).

    min_G max_D  V = E log D(x) + E log(1 - D(G(z)))             "minimax"
    D as above;  max_G  E log D(G(z))                            "non-saturating": G learns while D still wins

D gives logits a, so log D = -softplus(-a) stays finite. Images live in [-1, 1], the range of tanh, inside this file
only. The fakes of D's update are detached; in G's update D is frozen, so neither player computes the other's gradients.

Networks: fully connected, and DCGAN (Radford 2016): strided convolutions, batch norm, N(0, 0.02) weights.
Absent on purpose: other divergences, gradient penalties, labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F

from .autoencoder import halved
from .display import ShowsModules


def weights_init(m: nn.Module) -> None:
    """DCGAN's initialisation, for `module.apply`: weights N(0, 0.02), scales of batch norm N(1, 0.02), biases 0."""
    if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        m.weight.data.normal_(0.0, 0.02)
        if m.bias is not None:
            m.bias.data.zero_()
    elif isinstance(m, nn.BatchNorm2d):
        m.weight.data.normal_(1.0, 0.02)
        m.bias.data.zero_()


class DCGenerator(nn.Module):
    """Noise (N, latent) to images in [-1, 1]: project to channels[-1] planes, double their size layer by layer."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int] = (16, 32), latent: int = 100) -> None:
        super().__init__()
        *self.sizes, (h, w) = halved(shape, len(channels))
        self.project = nn.Sequential(
            nn.Linear(latent, channels[-1] * h * w, bias=False), nn.Unflatten(1, (channels[-1], h, w))
        )
        widths = (shape[0], *channels)[::-1]
        self.norms = nn.ModuleList([nn.BatchNorm2d(a) for a in widths[:-1]])
        # Batch norm subtracts the mean, so only the last layer needs a bias.
        self.up = nn.ModuleList([nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths[:-1])])
        self.up.append(nn.ConvTranspose2d(channels[0], shape[0], 4, 2, 1))

    def forward(self, z: tg.Tensor) -> tg.Tensor:
        y = self.project(z)
        for norm, up, size in zip(self.norms, self.up, reversed(self.sizes)):
            y = up(norm(y).relu(), output_size=size)
        return y.tanh()


class DCDiscriminator(nn.Sequential):
    """Images in [-1, 1] to one logit each: k4 s2 p1 convolutions, LeakyReLU 0.2, batch norm except on the first."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int] = (16, 32)) -> None:
        h, w = halved(shape, len(channels))[-1]
        layers = [nn.Conv2d(shape[0], channels[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for a, b in pairwise(channels):
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels[-1] * h * w, 1))


class MLPGenerator(nn.Sequential):
    """Noise (N, latent) to images in [-1, 1] through linear layers with batch norm and ReLU."""

    def __init__(self, shape: Sequence[int], hidden: Sequence[int] = (256, 512), latent: int = 100) -> None:
        layers = [f for a, b in pairwise((latent, *hidden)) for f in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
        super().__init__(*layers, nn.Linear(hidden[-1], math.prod(shape)), nn.Tanh(), nn.Unflatten(1, tuple(shape)))


class MLPDiscriminator(nn.Sequential):
    """Images to one logit each through linear layers with LeakyReLU 0.2 and dropout."""

    def __init__(self, shape: Sequence[int], hidden: Sequence[int] = (512, 256), dropout: float = 0.3) -> None:
        sizes = (math.prod(shape), *hidden)
        layers = [f for a, b in pairwise(sizes) for f in (nn.Linear(a, b), nn.LeakyReLU(0.2), nn.Dropout(dropout))]
        super().__init__(nn.Flatten(), *layers, nn.Linear(hidden[-1], 1))


def bce(logits: tg.Tensor, label: float) -> tg.Tensor:
    """-mean(label log D + (1 - label) log(1 - D)) with D = sigmoid(logits)."""
    return F.binary_cross_entropy_with_logits(logits, tg.full_like(logits, label))


class GANStep(ShowsModules):
    """One round of the game: `discriminator_steps` updates of D, each on its own share of the batch, then one of G.

    `objective`: "non-saturating" or "minimax". `smoothing`: real labels are 1 - smoothing (one-sided, Salimans 2016).
    """

    units = {"d_loss": "nats", "g_loss": "nats", "d_real": "D(x), probability", "d_fake": "D(G(z)), probability",
             "d_accuracy": "share judged right", "d_grad": "gradient norm", "g_grad": "gradient norm"}  # fmt: skip

    def __init__(
        self, shape: Sequence[int], conv: bool = False, hidden: Sequence[int] = (256, 512),
        channels: Sequence[int] = (16, 32), latent: int = 100, objective: str = "non-saturating",
        discriminator_steps: int = 1, smoothing: float = 0.0, lr: float = 2e-4, d_lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:  # fmt: skip
        if objective not in ("non-saturating", "minimax"):
            raise ValueError(f"GANStep: objective must be 'non-saturating' or 'minimax', it is {objective!r}")
        if conv:
            self.G = DCGenerator(shape, channels, latent).apply(weights_init)
            self.D = DCDiscriminator(shape, channels).apply(weights_init)
        else:
            self.G, self.D = MLPGenerator(shape, hidden, latent), MLPDiscriminator(shape, hidden[::-1])
        self.latent, self.objective = latent, objective
        betas = (betas[0], betas[1])  # a list, where it comes from JSON
        self.discriminator_steps, self.smoothing = discriminator_steps, smoothing
        self.G_optimizer = optim.Adam(self.G.parameters(), lr=lr, betas=betas)
        self.D_optimizer = optim.Adam(self.D.parameters(), lr=d_lr or lr, betas=betas)
        self.modules = {"generator": self.G, "discriminator": self.D}
        self.optimizers = {"generator": self.G_optimizer, "discriminator": self.D_optimizer}

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        images, _ = batch
        for real in (2 * images - 1).chunk(self.discriminator_steps):
            fake = self.G(self.noise(len(real)))
            metrics = self.update_discriminator(real, fake.detach())
        return metrics | self.update_generator(fake)

    def update_discriminator(self, real: tg.Tensor, fake: tg.Tensor) -> dict[str, tg.Tensor]:
        """One ascent of V in D's weights."""
        on_real, on_fake = self.D(real), self.D(fake)
        loss = bce(on_real, 1 - self.smoothing) + bce(on_fake, 0)
        self.D_optimizer.zero_grad()
        loss.backward()
        self.D_optimizer.step()
        with tg.no_grad():
            right = 0.5 * ((on_real > 0).float().mean() + (on_fake < 0).float().mean())
            return {"d_loss": loss.detach(), "d_real": on_real.sigmoid().mean(), "d_fake": on_fake.sigmoid().mean(),
                    "d_accuracy": right, "d_grad": gradient_norm(self.D)}  # fmt: skip

    def update_generator(self, fake: tg.Tensor) -> dict[str, tg.Tensor]:
        """One step of G against the D that was just updated, on the images D was shown."""
        with tg.frozen(self.D):
            judged = self.D(fake)
        loss = bce(judged, 1) if self.objective == "non-saturating" else -bce(judged, 0)
        self.G_optimizer.zero_grad()
        loss.backward()
        self.G_optimizer.step()
        return {"g_loss": loss.detach(), "g_grad": gradient_norm(self.G)}

    def noise(self, n: int) -> tg.Tensor:
        """z ~ N(0, I), (n, latent)."""
        return tg.randn(n, self.latent, device=next(self.G.parameters()).device)

    def sample(self, n: int) -> tg.Tensor:
        """n images in [0, 1]."""
        return 0.5 * (self.G(self.noise(n)) + 1)

    def pictures(self, batch: tuple) -> dict[str, tg.Tensor]:
        """64 samples."""
        return {"samples": self.sample(64)}

    def health(self, metrics: Mapping[str, float]) -> str:
        """What these means over an epoch say about the game, in plain words."""
        accuracy, d_grad, g_grad = metrics["d_accuracy"], metrics["d_grad"], metrics["g_grad"]
        if accuracy > 0.99 and metrics["d_loss"] < 0.05:
            verdict = "D has won: it is never wrong, so G learns little; lower D's learning rate (--set d_lr=...)"
        elif accuracy < 0.52:
            verdict = "D is guessing: G fools it, or D has stopped learning"
        elif max(d_grad, g_grad) > 1000:
            verdict = "gradients explode: lower the learning rate"
        elif accuracy > 0.95:
            verdict = "D is well ahead; G still learns"
        else:
            verdict = "the game is balanced"
        return f"{verdict} (D right {accuracy:.0%}, gradient norms D {d_grad:.2g}, G {g_grad:.2g})"


def gradient_norm(module: nn.Module) -> tg.Tensor:
    """The Euclidean norm of all gradients of a module, 0-d."""
    with tg.no_grad():
        return tg.stack([p.grad.square().sum() for p in module.parameters() if p.grad is not None]).sum().sqrt()
