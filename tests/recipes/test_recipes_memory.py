"""A training that does not fit is refused before it begins; what fits is the same run as without the question."""

from __future__ import annotations

import numpy as np
import pytest
from toys import assert_equal

from tinygen import cli, free_memory
from tinygen.errors import UserError
from tinygen.recipes import load_run, memory, open_run, samples, start

TINY = {"limit": 40, "batch_size": 16, "threads": 1, "preset": "tiny"}


def free(monkeypatch, count):
    monkeypatch.setattr(free_memory, "available", lambda: count)


def refused(capsys, *command):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in command])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "vae", "--size", 100_000], ["images (1500, 1, 100000, 100000)", "60.0 TB", "smaller --size"]),
        (["train", "vae", "--set", "latent=100000000000"], ["vae on data of shape 1x8x8", "100000000000", "are free"]),
        (["check-data", "digits", "--size", 100_000], ["images (1500, 1, 100000, 100000)"]),
    ],
)
def test_what_never_fits_is_refused_in_one_line(command, words, capsys):
    error = refused(capsys, *command)
    assert all(word in error for word in words), error


def test_a_layer_that_is_too_large_is_named_before_the_first_step(monkeypatch):
    free(monkeypatch, 400_000_000)
    options = TINY | {"arguments": {"hidden": [300_000]}}
    with pytest.raises(UserError, match=r"needs about .* MB of memory, 400\.0 MB are free; the largest array is [\w.]+"
                                        r"\.weight \(300000, 64\), 76\.8 MB; give a smaller --batch-size"):  # fmt: skip
        start("vae", folder="run", **options)


def test_results_that_are_too_large_are_measured_on_a_few_and_scaled(monkeypatch):
    free(monkeypatch, 4_000_000)
    small = {"channels": [4, 6], "hidden": [8]}
    options = {"size": 64, "limit": 40, "threads": 1, "preset": "tiny", "arguments": small}
    words = r"with batches of 40 needs about .* MB .* a result of shape \(40, 4, 32, 32\)"
    with pytest.raises(UserError, match=words):
        start("conv-vae", folder="run", batch_size=40, **options)
    start("conv-vae", folder="run", batch_size=1, **options)


@pytest.mark.parametrize("recipe", ["vae", "dcgan", "lenet"])
def test_a_run_that_was_measured_first_is_the_same_run(recipe, monkeypatch):
    made = []
    real = memory.attached
    monkeypatch.setattr(memory, "attached", lambda observer: (made.append(observer), real(observer))[1])
    plain = start(recipe, folder="plain", epochs=2, **TINY)
    plain.fit()
    assert not made
    monkeypatch.setattr(memory, "PER_VALUE", 10**12)
    asked = start(recipe, folder="asked", epochs=2, **TINY)
    asked.fit(1)
    asked = open_run("asked")
    asked.fit()
    assert len(made) == 4  # twice when it began, twice when it went on
    assert_equal(asked.step.state_dict(), plain.step.state_dict())


@pytest.mark.parametrize(("recipe", "size"), [("conv-vae", 32), ("vae", 8), ("dcgan", 16), ("lenet", 16)])
def test_the_estimate_is_what_a_whole_batch_takes(recipe, size):
    """Measured on as few examples as can be and on twice as many, against the whole batch of 32, measured."""
    run = start(recipe, folder="run", **(TINY | {"size": size, "batch_size": 32, "limit": 64}))
    peak, largest, shape = memory._measured(run.step, run.settings, run.batches)
    with memory.attached(memory._Results()) as seen:
        run.step(memory.to_tensors(run.batches.at(0, 0)))
    assert peak == pytest.approx(seen.peak, rel=0.1)
    assert (largest, shape) == max(seen.made)


def test_samples_that_do_not_fit_are_refused_after_the_first(monkeypatch, capsys):
    run = start("vae", folder="run", epochs=1, **TINY)
    run.fit()
    whole = samples(load_run("run"), 1200, 3).numpy()
    assert whole.shape == (1200, 1, 8, 8) and np.array_equal(whole[:500], samples(load_run("run"), 500, 3).numpy())
    for n in (10**12, 10**30):
        error = refused(capsys, "sample", "run", "-n", n)
        assert f"{n:,} samples ({n}, 1, 8, 8): " in error and "give a smaller -n" in error


def test_a_sheet_that_does_not_fit_says_so(monkeypatch):
    from tinygen.training import save_picture

    free(monkeypatch, 1_000_000)
    with pytest.raises(UserError, match=r"a sheet of 1,000 images: .* a name that ends in \.npy"):
        save_picture(np.zeros((1000, 1, 8, 8), "f4"), "x.png", most=1000)
