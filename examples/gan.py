"""A DCGAN in one file: two networks, two losses, the alternation in plain sight.

    D: max E[log D(x)] + E[log(1 - D(G(z)))]        G: max E[log D(G(z))]   (non-saturating)

    python examples/gan.py                    # scikit-learn's 8x8 digits, a minute
    python examples/gan.py --data mnist       # G 100-32x7x7-16-1, D 1-16-32, 10 epochs

Goodfellow 2014, Radford 2015; lectures 0 to 4. The discriminator is frozen in the generator's step: gradients flow
through it, none are computed for its weights.
"""

import argparse

import tinygen as tg
from tinygen import data, nn, optim
from tinygen.nn import functional as F
from tinygen.training import save_picture


class Generator(nn.Module):
    def __init__(self, shape: tuple[int, int, int], width: int, latent: int) -> None:
        super().__init__()
        channels, height, columns = shape
        self.size, self.half = (height, columns), (height // 2, columns // 2)
        self.quarter = (2 * width, height // 4, columns // 4)
        self.project = nn.Linear(latent, self.quarter[0] * self.quarter[1] * self.quarter[2], bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, kernel_size=4, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.up1 = nn.ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1)

    def forward(self, z):
        h = F.relu(self.norm2(self.project(z).reshape(len(z), *self.quarter)))
        h = F.relu(self.norm1(self.up2(h, output_size=self.half)))
        return self.up1(h, output_size=self.size).tanh()


def discriminator(shape: tuple[int, int, int], width: int) -> nn.Module:
    channels, height, columns = shape
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(2 * width * (height // 4) * (columns // 4), 1),
    )  # fmt: skip


def weights_init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        module.weight.data.normal_(0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        module.weight.data.normal_(1.0, 0.02)
        module.bias.data.fill_(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, a folder of images or an .npz")
    parser.add_argument("--epochs", type=int, default=None, help="default: 100 on digits, 10 elsewhere")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="gan.png")
    parser.add_argument("--tiny", action="store_true", help="one epoch of a few batches, for a quick check")
    options = parser.parse_args()

    tg.manual_seed(options.seed)
    dataset = data.load(options.data, limit=256 if options.tiny else None)
    small = dataset.train_images.shape[0] < 10_000
    epochs = options.epochs or (1 if options.tiny else 100 if small else 10)
    batches = dataset.batches(64, seed=options.seed)
    G, D, latent = Generator(dataset.shape, 16, 100), discriminator(dataset.shape, 16), 100
    for network in (G, D):
        network.apply(weights_init)
    optimizer_g = optim.Adam(G.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_d = optim.Adam(D.parameters(), lr=2e-4, betas=(0.5, 0.999))
    print(G, D, sep="\n")

    fixed = tg.randn(64, latent)
    for epoch in range(epochs):
        for images, _ in batches.epoch(epoch):
            real = tg.tensor(images) * 2 - 1  # the generator ends in tanh
            n = len(real)

            fake = G(tg.randn(n, latent))
            on_real, on_fake = D(real), D(fake.detach())
            loss_d = F.binary_cross_entropy_with_logits(on_real, tg.ones(n, 1))
            loss_d = loss_d + F.binary_cross_entropy_with_logits(on_fake, tg.zeros(n, 1))
            optimizer_d.zero_grad()
            loss_d.backward()
            optimizer_d.step()

            with tg.frozen(D):
                loss_g = F.binary_cross_entropy_with_logits(D(fake), tg.ones(n, 1))
            optimizer_g.zero_grad()
            loss_g.backward()
            optimizer_g.step()
        judged = f"D(x) {on_real.sigmoid().mean().item():.2f}, D(G(z)) {on_fake.sigmoid().mean().item():.2f}"
        print(f"epoch {epoch + 1:3d}: loss D {loss_d.item():.3f}   loss G {loss_g.item():.3f}   {judged}")

    with tg.no_grad():
        save_picture((G(fixed) + 1) / 2, options.out, nrow=8)
    print(f"64 samples: {options.out}")


if __name__ == "__main__":
    main()
