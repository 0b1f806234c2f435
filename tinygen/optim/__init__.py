"""Optimizers under torch's names, learning-rate schedules, averages of weights, limits on gradients.

    optimizer = optim.Adam(model.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer.zero_grad(); loss.backward(); optimizer.step()

Files: optimizer (what all share), algorithms, lbfgs, lr_scheduler, ema.
"""

from ..nn.clipping import clip_grad_norm_, clip_grad_value_
from . import lr_scheduler
from .algorithms import SGD, Adagrad, Adam, AdamW, RMSprop
from .ema import EMA
from .lbfgs import LBFGS
from .lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
    StepLR,
)
from .optimizer import Optimizer

__all__ = [
    "Optimizer", "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "LBFGS", "lr_scheduler",
    "LRScheduler", "LambdaLR", "StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "CosineAnnealingLR",
    "SequentialLR", "clip_grad_norm_", "clip_grad_value_", "EMA",
]  # fmt: skip
