"""The model families of the lectures: one file each, with network, loss and `Step` (one training update) in plain
sight.

    step = VAEStep(shape=(1, 28, 28), latent=20)     # sizes come from the data; every argument is plain and JSON-able
    for x, y in ...: metrics = step((x, y))          # one update; 0-d tensors
    step.pictures((x, y))                            # what to look at

Nothing here knows of files, epochs or progress bars: that is `tinygen.training`.
"""

from .autoencoder import AutoencoderStep, ConvAutoencoder, MLPAutoencoder
from .classifier import ClassifierStep, LeNet5
from .gan import DCDiscriminator, DCGenerator, GANStep, MLPDiscriminator, MLPGenerator
from .vae import VAE, VAEStep, conv_vae, mlp_vae

__all__ = [
    "VAE", "AutoencoderStep", "ClassifierStep", "ConvAutoencoder", "DCDiscriminator", "DCGenerator", "GANStep",
    "LeNet5", "MLPAutoencoder", "MLPDiscriminator", "MLPGenerator", "VAEStep", "conv_vae", "mlp_vae",
]  # fmt: skip
