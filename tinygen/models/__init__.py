"""Models: one algorithm of the lectures a file. The equation, then its Step, one training update.

    step = VAEStep(encoder, decoder, Bernoulli(), latent=20)     # networks first, then the rule, then numbers
    for x, y in ...: metrics = step((x, y))                      # one update; 0-d tensors
    step.pictures((x, y))                                        # what to look at

A Step receives networks and rules and chooses neither: a game (games.py), a likelihood, a penalty is a function handed
in. Nothing here knows of files, epochs or progress bars: that is `tinygen.training`.
"""

from .autoencoder import AutoencoderStep
from .bigan import AnomalyMapStep, BiGANStep
from .classifier import ClassifierStep
from .conditional_gan import ConditionalGANStep
from .cyclegan import CycleGANStep
from .gan import GANStep
from .inpainting import InpaintingStep
from .iwae import IWAEStep
from .likelihoods import Bernoulli, Gaussian
from .pix2pix import Pix2PixStep
from .progressive_gan import ProgressiveGANStep
from .refiner import RefinerStep
from .restoration import RestorationStep
from .semi_supervised_gan import SemiSupervisedGANStep
from .texture_gan import TextureGANStep
from .vae import VAEStep

__all__ = [
    "AnomalyMapStep",
    "AutoencoderStep",
    "Bernoulli",
    "BiGANStep",
    "ClassifierStep",
    "ConditionalGANStep",
    "CycleGANStep",
    "GANStep",
    "Gaussian",
    "IWAEStep",
    "InpaintingStep",
    "Pix2PixStep",
    "ProgressiveGANStep",
    "RefinerStep",
    "RestorationStep",
    "SemiSupervisedGANStep",
    "TextureGANStep",
    "VAEStep",
]
