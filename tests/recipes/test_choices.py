"""Names that stand for a rule: an unknown one is refused, and told what is known."""

from __future__ import annotations

import pytest

from tinygen.recipes import gans, vaes
from tinygen.recipes.recipe import Given

GIVEN = Given((1, 8, 8), tuple("0123456789"), 10)


@pytest.mark.parametrize("recipe", [vaes.vae, vaes.conv_vae])
def test_an_unknown_likelihood_is_refused(recipe):
    with pytest.raises(ValueError, match=r"poisson.*bernoulli.*gaussian"):
        recipe(GIVEN, likelihood="poisson")


@pytest.mark.parametrize("recipe", [gans.gan, gans.dcgan, gans.gan_ring])
def test_an_unknown_objective_is_refused(recipe):
    with pytest.raises(ValueError, match=r"hinge.*non-saturating.*minimax"):
        recipe(GIVEN, objective="hinge")
