"""Neural networks under torch's names: Module, layers, losses, `functional`, `init`, `utils`."""

# ruff: noqa: F403

import sys as _sys
from types import ModuleType as _ModuleType

from . import functional as functional
from . import init as init
from .activation import *
from .clipping import clip_grad_norm_ as _clip_grad_norm_
from .clipping import clip_grad_value_ as _clip_grad_value_
from .containers import *
from .conv import *
from .convert_parameters import parameters_to_vector as _parameters_to_vector
from .convert_parameters import vector_to_parameters as _vector_to_parameters
from .dropout import *
from .embedding import *
from .flatten import *
from .fold import *
from .linear import *
from .loss import *
from .module import *
from .normalization import *
from .normalization import spectral_norm as _spectral_norm
from .padding import *
from .pixelshuffle import *
from .pooling import *
from .rescaling import *
from .upsampling import *

# `from tinygen.nn.utils import clip_grad_norm_`, as model code for torch has it
utils = _ModuleType(__name__ + ".utils", "Functions on gradients and weights, under torch's name.")
for _function in (
    _clip_grad_norm_, _clip_grad_value_, _spectral_norm, _parameters_to_vector, _vector_to_parameters,
):  # fmt: skip
    setattr(utils, _function.__name__, _function)
_sys.modules[utils.__name__] = utils
