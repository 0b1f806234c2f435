"""`erfinv`, the inverse of erf: sqrt(2) erfinv(2 u - 1) is the normal quantile of u.

Wichura's AS 241 (1988): a quotient of two polynomials of degree 7 in the middle, two others towards the ends, all
right to 1e-16. Its derivative needs the result alone: d erfinv(x) = sqrt(pi) / 2 * e^(erfinv(x)^2) dx.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

from ..tape import op
from .pointwise import _real, exp, square

__all__ = ["erfinv"]

# Coefficients (numerator, denominator), the highest power first; of erf's quantile at 0.425^2 - q^2, r - 1.6 and r - 5.
_MIDDLE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_NEAR = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def _quotient(x: Any, coefficients: tuple) -> Any:
    above, below = (reduce(lambda sum, c: sum * x + c, polynomial) for polynomial in coefficients)
    return above / below


@op
def erfinv(k, x):
    """The y with erf(y) = x: infinite at -1 and 1, NaN outside; integers give float32."""
    xp, real = k.xp, _real(x)
    wide = real.astype("float64", copy=False)
    q = wide / 2
    middle = q * _quotient(0.180625 - q * q, _MIDDLE)
    tail = xp.clip((1 - xp.absolute(wide)) / 2, 1e-300, 0.5)
    r = xp.sqrt(-xp.log(tail))
    end = xp.copysign(xp.where(r <= 5, _quotient(r - 1.6, _NEAR), _quotient(r - 5, _FAR)), wide)
    y = xp.where(xp.absolute(q) <= 0.425, middle, end) / math.sqrt(2)
    size = xp.absolute(wide)
    y = xp.where(size < 1, y, xp.where(size == 1, xp.copysign(math.inf, wide), math.nan))
    return y.astype(real.dtype)


erfinv.vjp("x")(lambda g, out: g * (exp(square(out)) * (math.sqrt(math.pi) / 2)))
