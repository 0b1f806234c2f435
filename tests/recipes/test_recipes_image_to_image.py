"""The recipes of image_to_image: what their arguments may be. What they learn, the models' and lectures' tests say."""

from __future__ import annotations

import pytest

from tinygen.recipes import RunError, start

PAIRS = {"cyclegan": "digits+slanted", "refiner": "rendered-digits+digits", "colourise": "two-hues-digits"}


@pytest.mark.parametrize(("recipe", "argument"), [
    ("pix2pix", "weight"), ("pix2pix-z", "weight"), ("inpaint", "adversarial"), ("cyclegan", "cycle"),
    ("cyclegan", "identity"), ("refiner", "weight"), ("colourise", "weight"),
])  # fmt: skip
def test_a_weight_below_0_is_refused(recipe, argument, tmp_path):
    options = {"folder": tmp_path / "run", "preset": "tiny"}
    with pytest.raises(RunError, match=f"{argument} is a weight of the loss, at least 0; it is -1"):
        start(recipe, PAIRS.get(recipe), arguments={argument: -1.0}, **options)
    assert not (tmp_path / "run").exists()
    start(recipe, PAIRS.get(recipe), arguments={argument: 0.0}, **options)


def test_the_weights_of_a_game_on_a_trained_network_are_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argument in ("seen", "adversarial"):
        with pytest.raises(RunError, match=f"{argument} is a weight of the loss, at least 0; it is -0.5"):
            start("srgan", folder="run", preset="tiny", arguments={argument: -0.5})


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_share_that_drops_everything_is_refused(dropout, tmp_path):
    with pytest.raises(RunError, match="dropout is the share of values that is dropped, at least 0 and below 1"):
        start("pix2pix", folder=tmp_path / "run", preset="tiny", arguments={"dropout": dropout})


@pytest.mark.parametrize(("recipe", "falls"), [
    ("colourise", True), ("colourise-unconditional", True), ("colourise-z", True), ("pix2pix", False),
])  # fmt: skip
def test_a_game_that_no_error_holds_ends_at_a_rate_of_0(recipe, falls, tmp_path):
    """Without L1 a player can run away in the last updates; 4 epochs of 32 images in batches of 16 are 8 updates."""
    run = start(recipe, PAIRS.get(recipe, "two-hues-digits" if falls else "digits"), folder=tmp_path / "run",
                preset="tiny", limit=32, epochs=4, batch_size=16)  # fmt: skip
    run.fit()
    step = run.step
    rates = [o.param_groups[0]["lr"] for o in (step.generator_optimizer, step.discriminator_optimizer)]
    assert rates == ([0.0, 0.0] if falls else [2e-4, 2e-4])
