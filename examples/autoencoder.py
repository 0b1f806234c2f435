"""An autoencoder in one file: convolution down, transposed convolution up, the picture in 32 numbers.

    min over E, D of the mean of (x - D(E(x)))^2

    python examples/autoencoder.py                  # scikit-learn's 8x8 digits, half a minute
    python examples/autoencoder.py --data mnist     # 10 epochs: test MSE about 0.0048 (PCA with 32 numbers: 0.0168)

Lectures 0, 1 and 4. `output_size=` returns the decoder to exactly the encoder's sizes, odd ones included.
"""

import argparse

import tinygen as tg
from tinygen import data, nn, optim
from tinygen.nn import functional as F
from tinygen.training import save_picture


class Autoencoder(nn.Module):
    def __init__(self, shape: tuple[int, int, int], width: int = 16, code: int = 32) -> None:
        super().__init__()
        channels, height, self.columns = shape
        self.size = (height, self.columns)
        self.half = tuple(n // 2 for n in self.size)
        self.quarter = tuple(n // 2 for n in self.half)
        features = 2 * width * self.quarter[0] * self.quarter[1]
        self.down1 = nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1)
        self.down2 = nn.Conv2d(width, 2 * width, kernel_size=4, stride=2, padding=1)
        self.to_code = nn.Linear(features, code)
        self.from_code = nn.Linear(code, features)
        self.up2 = nn.ConvTranspose2d(2 * width, width, kernel_size=4, stride=2, padding=1)
        self.up1 = nn.ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1)

    def encode(self, x):
        return self.to_code(F.relu(self.down2(F.relu(self.down1(x)))).flatten(1))

    def decode(self, code):
        h = F.relu(self.from_code(code)).reshape(len(code), -1, *self.quarter)
        h = F.relu(self.up2(h, output_size=self.half))
        return self.up1(h, output_size=self.size).sigmoid()

    def forward(self, x):
        return self.decode(self.encode(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, a folder of images or an .npz")
    parser.add_argument("--epochs", type=int, default=None, help="default: 60 on digits, 10 elsewhere")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="autoencoder.png")
    parser.add_argument("--tiny", action="store_true", help="one epoch of a few batches, for a quick check")
    options = parser.parse_args()

    tg.manual_seed(options.seed)
    dataset = data.load(options.data, limit=256 if options.tiny else None)
    small = dataset.train_images.shape[0] < 10_000
    epochs = options.epochs or (1 if options.tiny else 60 if small else 10)
    batches = dataset.batches(64 if small else 128, seed=options.seed)
    model = Autoencoder(dataset.shape)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    print(model)

    test = tg.tensor(dataset.floats("test"))
    mean_image = tg.tensor(dataset.floats("train")).mean(0)
    print(f"the mean image alone: test MSE {(test - mean_image).square().mean().item():.5f}")
    for epoch in range(epochs):
        for images, _ in batches.epoch(epoch):
            x = tg.tensor(images)
            loss = F.mse_loss(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with tg.no_grad():
            error = F.mse_loss(model(test), test).item()
        print(f"epoch {epoch + 1:3d}: train {loss.item():.5f}   test MSE {error:.5f}")

    with tg.no_grad():
        pairs = tg.stack([test[:32], model(test[:32])], 1).flatten(0, 1)  # each image beside its reconstruction
    save_picture(pairs, options.out, nrow=8)
    print(f"32 test images, each beside its reconstruction: {options.out}")


if __name__ == "__main__":
    main()
