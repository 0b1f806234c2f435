"""`grad` and `backward`, where code written for torch looks for them; `functional` has whole Jacobians."""

from ..tape import backward as backward
from ..tape import grad as grad
from . import functional as functional
