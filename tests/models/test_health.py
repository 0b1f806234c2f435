"""What the numbers of a game and of codes mean, in plain words."""

from __future__ import annotations

import math

import pytest

from tinygen.models import games
from tinygen.models.health import coverage, of_a_game, of_classes, of_codes

FINE = {"d_loss": 1.0, "d_accuracy": 0.8, "d_grad": 1.0, "g_grad": 1.0}


def test_health_in_plain_words():
    assert "balanced" in of_a_game(FINE) and "80%" in of_a_game(FINE)
    assert "D has won" in of_a_game(FINE | {"d_accuracy": 1.0, "d_loss": 0.001})
    assert "guessing" in of_a_game(FINE | {"d_accuracy": 0.5})
    assert "explode" in of_a_game(FINE | {"g_grad": 2000.0})
    assert "explode" in of_a_game(FINE | {"d_grad": 2000.0})
    assert "well ahead" in of_a_game(FINE | {"d_accuracy": 0.97})


def test_a_d_that_is_never_wrong_has_won_only_where_its_loss_is_at_its_floor():
    sure = FINE | {"d_accuracy": 1.0, "d_loss": 0.34}
    assert "well ahead" in of_a_game(sure)
    assert "D has won" in of_a_game(sure, games.minimax(0.1).floor)  # -0.1 log 0.1 - 0.9 log 0.9 = 0.325
    assert "lower D's learning rate, or smooth its labels" in of_a_game(sure, 0.325)


def test_gradient_norms_are_told():
    assert "gradient norms D 0.25, G 3" in of_a_game(FINE | {"d_grad": 0.25, "g_grad": 3.0})


def test_a_critic_has_no_accuracy():
    told = of_a_game({"critic_estimate": 1.2345, "d_loss": -1.2, "d_grad": 1.0, "g_grad": 2.0}, -math.inf)
    assert told == "the critic tells 1.23 between real and fake (gradient norms D 1, G 2)"


@pytest.mark.parametrize(("covered", "told"), [(3, True), (7, True), (8, False), (10, False)])
def test_a_collapse_is_named(covered, told):
    found = of_a_game(FINE | {"classes_covered": float(covered), "classes_there": 10})
    assert (f"; G makes {covered} of 10 classes" in found) is told
    assert "of 10 digits" not in found


def test_a_share_of_the_classes_that_are_there_is_a_collapse_and_modes_are_always_told():
    assert coverage({"classes_covered": 3, "classes_there": 4}, "G") == "; G makes 3 of 4 classes"
    assert coverage({"classes_covered": 4, "classes_there": 5}, "G") == coverage({}, "G") == ""
    for found in (1, 8):
        assert of_a_game(FINE | {"modes": found, "modes_there": 8}).endswith(f"; G finds {found} of 8 modes")


@pytest.mark.parametrize(
    ("kl", "active", "verdict"),
    [(0.09, 20, "the KL is near 0"), (5.0, 0, "the KL is near 0"), (5.0, 9, "few latent dimensions are in use"),
     (5.0, 10, "the codes are in use"), (0.11, 20, "the codes are in use")],
)  # fmt: skip
def test_codes_in_plain_words(kl, active, verdict):
    found = of_codes({"kl": kl, "active": active}, 20)
    assert found.startswith(verdict) and found.endswith(f"(KL {kl:.3g} nats, {active} of 20 dimensions active)")
    assert ("lower beta" in found) == (verdict != "the codes are in use")
    covered = {"kl": kl, "active": active, "classes_covered": 1, "classes_there": 10}
    assert of_codes(covered, 20) == found + "; the decoder makes 1 of 10 classes"


def test_codes_without_a_count_of_the_active_dimensions():
    assert of_codes({"kl": 5.0}, 20) == "the codes are in use (KL 5 nats)"


def test_the_worst_class_is_told_where_a_fifth_is_lost():
    names = ("shirt", "shoe")
    assert of_classes({"gan_test_worst": 0.79, "worst_class": 1}, names) == (
        "; 21% of the samples of class shoe are drawn as others"
    )
    assert of_classes({"gan_test_worst": 0.8, "worst_class": 1}, names) == of_classes({}, names) == ""


@pytest.mark.parametrize(("norm", "told"), [(99.0, False), (101.0, True)])
def test_a_gradient_norm_above_100_is_an_explosion_of_either_player_and_of_a_critic(norm, told):
    critic = {"critic_estimate": 1.0, "d_loss": -1.0, "d_grad": 1.0, "g_grad": 1.0}
    for metrics, floor in ((FINE, 0.0), (critic, -math.inf)):
        for player in ("d_grad", "g_grad"):
            found = of_a_game(metrics | {player: norm}, floor)
            assert found.startswith("gradients explode") is told


@pytest.mark.parametrize(("loss", "won"), [(0.049, True), (0.051, False)])
def test_d_has_won_where_its_loss_nears_0(loss, won):
    assert of_a_game(FINE | {"d_accuracy": 1.0, "d_loss": loss}).startswith("D has won") is won


def test_a_collapse_and_a_victory_are_told_in_one_line():
    found = of_a_game({"d_loss": 0.01, "d_accuracy": 1.0, "d_grad": 0.1, "g_grad": 9.0, "classes_covered": 3.0,
                       "classes_there": 10})  # fmt: skip
    assert found.startswith("D has won: it is never wrong") and found.endswith("; G makes 3 of 10 classes")
    assert "(D right 100%, gradient norms D 0.1, G 9)" in found
