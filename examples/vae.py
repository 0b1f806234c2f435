"""A variational autoencoder in one file: the loss of the slide, the loop in plain sight.

    -ELBO(x) = E_q(z|x)[-log p(x|z)] + KL(q(z|x) || N(0, I)),   z = mu + sigma * eps,   eps ~ N(0, I)

    python examples/vae.py                    # scikit-learn's 8x8 digits, half a minute
    python examples/vae.py --data mnist       # 784-400-20, 10 epochs: about 105.5 nats on the test images

Kingma and Welling 2013, lecture 4 (whose slide has the sign of the KL term reversed).
"""

import argparse

import tinygen as tg
from tinygen import data, nn, optim
from tinygen.nn import functional as F
from tinygen.training import save_picture


class VAE(nn.Module):
    def __init__(self, pixels: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU())
        self.mean = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels))

    def forward(self, x):
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + (0.5 * log_variance).exp() * tg.randn_like(mean)
        return self.decoder(z), mean, log_variance


def loss(model, x):
    """Reconstruction and KL in nats: summed over pixels and latents, averaged over the batch."""
    logits, mean, log_variance = model(x)
    reconstruction = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
    kl = -0.5 * (1 + log_variance - mean * mean - log_variance.exp()).sum()
    return reconstruction / len(x), kl / len(x)


def evaluate(model, images) -> tuple[float, float]:
    with tg.no_grad():
        reconstruction, kl = loss(model, tg.tensor(images))
    return reconstruction.item(), kl.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, a folder of images or an .npz")
    parser.add_argument("--epochs", type=int, default=None, help="default: 60 on digits, 10 elsewhere")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="vae.png")
    parser.add_argument("--tiny", action="store_true", help="one epoch of a few batches, for a quick check")
    options = parser.parse_args()

    tg.manual_seed(options.seed)
    dataset = data.load(options.data, limit=256 if options.tiny else None)
    small = dataset.train_images.shape[0] < 10_000
    epochs = options.epochs or (1 if options.tiny else 60 if small else 10)
    batches = dataset.batches(64 if small else 128, seed=options.seed)
    channels, height, width = dataset.shape
    model = VAE(channels * height * width, hidden=400, latent=20)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    print(model)

    for epoch in range(epochs):
        total = 0.0
        for images, _ in batches.epoch(epoch):
            reconstruction, kl = loss(model, tg.tensor(images))
            optimizer.zero_grad()
            (reconstruction + kl).backward()
            optimizer.step()
            total += (reconstruction + kl).item()
        reconstruction, kl = evaluate(model, dataset.floats("test"))
        print(
            f"epoch {epoch + 1:3d}: train {total / len(batches):7.2f}   test {reconstruction + kl:7.2f} nats"
            f" = reconstruction {reconstruction:6.2f} + KL {kl:5.2f}"
        )

    with tg.no_grad():
        samples = model.decoder(tg.randn(64, 20)).sigmoid().reshape(64, channels, height, width)
    save_picture(samples, options.out, nrow=8)
    print(f"64 samples: {options.out}")


if __name__ == "__main__":
    main()
