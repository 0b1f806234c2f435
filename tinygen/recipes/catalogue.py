"""The experiments that have a name. MNIST ranges are over three seeds on two CPU cores; `tinygen evaluate` prints
them."""

from __future__ import annotations

from ..models import AutoencoderStep, ClassifierStep, GANStep, VAEStep
from .recipe import Recipe, RunError


def _classes(dataset, steps):
    if dataset.train_labels is None:
        raise RunError(f"lenet needs labels, and {dataset.name} has none; put the images in one folder per class")
    return {"classes": len(dataset.classes), "decay_steps": steps}


_ALL = [
    Recipe(
        "autoencoder", "fully connected autoencoder, 32 numbers an image", AutoencoderStep,
        {"conv": False, "hidden": [512, 256], "latent": 32},
        small={"epochs": 60, "batch_size": 32, "model": {"hidden": [256, 128], "latent": 16}},
    ),
    Recipe(
        "conv-autoencoder", "convolutional autoencoder, 32 numbers an image", AutoencoderStep,
        {"conv": True, "channels": [16, 32], "latent": 32},
        small={"epochs": 60, "batch_size": 32, "model": {"channels": [16, 32], "latent": 16}},
        gpu={"model": {"channels": [32, 64]}},
    ),
    Recipe(
        "vae", "variational autoencoder, fully connected", VAEStep,
        {"conv": False, "hidden": [400], "latent": 20},
        small={
            "epochs": 100,
            "batch_size": 32,
            "model": {"hidden": [512, 256, 128], "latent": 6, "likelihood": "gaussian"},
        },
    ),
    Recipe(
        "conv-vae", "variational autoencoder with convolutions", VAEStep,
        {"conv": True, "channels": [32, 64], "hidden": [256], "latent": 20},
        small={"epochs": 80, "batch_size": 32, "model": {"hidden": [256, 128], "latent": 6, "likelihood": "gaussian"}},
    ),
    Recipe(
        "gan", "fully connected generative adversarial network", GANStep,
        {"conv": False, "hidden": [256, 512], "latent": 64},
        epochs=20, batch_size=64, drop_last=True,
        small={"epochs": 100, "batch_size": 32, "model": {"latent": 16, "smoothing": 0.1}},
    ),
    Recipe(
        "dcgan", "deep convolutional GAN, f = 16", GANStep,
        {"conv": True, "channels": [16, 32], "latent": 100},
        batch_size=64, drop_last=True,
        small={"epochs": 150, "batch_size": 32, "model": {"channels": [32, 64], "latent": 16, "smoothing": 0.1}},
        gpu={"model": {"channels": [64, 128]}},
    ),
    Recipe(
        "lenet", "LeNet-5 digit classifier, learning rate falling to 0", ClassifierStep,
        batch_size=64, from_data=_classes,
        small={"epochs": 40, "batch_size": 32},
    ),
]  # fmt: skip

RECIPES = {recipe.name: recipe for recipe in _ALL}
