"""Several formulas in one kernel: normalisations, activations behind layers, losses.

A file a family. Each fused op is a fast forward, a fast VJP and a composite of plain ops that defines it.
"""

# ruff: noqa: F403

from .activated import *
from .activated import __all__ as _activated
from .activated import leaky_relu_over as leaky_relu_over
from .channel_norm import *
from .channel_norm import __all__ as _channel_norm
from .gaussians import *
from .gaussians import __all__ as _gaussians
from .losses import *
from .losses import __all__ as _losses
from .row_norms import *
from .row_norms import __all__ as _row_norms

__all__ = [*_activated, *_channel_norm, *_gaussians, *_losses, *_row_norms]
