"""Weights that ship: the Step that was kept, to float16; every shipped file is whole, small and of its recipe."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from toys import assert_equal

import tinygen as tg
from tinygen import metrics
from tinygen.errors import UserError
from tinygen.recipes import find, load_run, pretrained, samples, start
from tinygen.recipes.listing import describe_recipe
from tinygen.recipes.pretrained import FOLDER, keep, names
from tinygen.recipes.scores import labelled


@pytest.fixture
def run(tmp_path):
    """A finished run of a recipe whose arguments are not the default ones; a GAN has buffers, too."""
    made = start("gan", folder=tmp_path / "run", preset="tiny", limit=48, batch_size=16, epochs=2, seed=3)
    made.fit()
    return made


def test_what_is_kept_is_what_comes_back(run, tmp_path):
    """Every parameter and buffer, rounded once; the random numbers stay where they are."""
    files = keep(run.folder, tmp_path / "weights")
    assert [path.name for path in files] == ["gan.npz", "gan.json"] and names(tmp_path / "weights") == ["gan"]
    state = tg.get_rng_state()
    step = pretrained("gan", folder=tmp_path / "weights")
    assert tg.get_rng_state() == state
    trained = load_run(run.folder)
    assert type(step) is type(trained)
    for name, network in trained.networks().items():
        for key, value in network.state_dict().items():
            found = step.networks()[name].state_dict()[key].numpy()
            assert found.dtype == value.numpy().dtype, key
            np.testing.assert_array_equal(found, value.numpy().astype("f2").astype(found.dtype))
    assert not any(module.training for network in step.networks().values() for module in network.modules())
    np.testing.assert_allclose(samples(step, 5, 0).numpy(), samples(trained, 5, 0).numpy(), atol=5e-3)


def test_the_note_beside_it_says_how_to_make_it_again(run, tmp_path):
    content, note = keep(run.folder, tmp_path / "weights")
    about = json.loads(note.read_text())
    assert about["sha256"] == hashlib.sha256(content.read_bytes()).hexdigest()
    assert about["bytes"] == content.stat().st_size and about["commit"] and about["machine"]
    assert about["command"] == (
        "tinygen train gan --data digits --seed 3 --epochs 2 --batch-size 16 --threads 1 --limit 48 "
        "--set 'hidden=[8,12]' --set latent=4 --set smoothing=0.1"
    )
    before = content.read_bytes()
    keep(run.folder, tmp_path / "weights")
    assert content.read_bytes() == before  # the same weights give the same file


def test_a_name_without_weights_lists_those_there_are(run, tmp_path):
    keep(run.folder, tmp_path / "weights")
    with pytest.raises(UserError, match=r"no pretrained model is called 'vae'.* Known: gan$"):
        pretrained("vae", folder=tmp_path / "weights")
    with pytest.raises(UserError, match=r"no pretrained model is called 'lenet'.* Known: .*vae-d2"):
        pretrained("lenet")


def test_a_damaged_file_names_its_sha(run, tmp_path):
    content, note = keep(run.folder, tmp_path / "weights")
    whole, sha = bytearray(content.read_bytes()), json.loads(note.read_text())["sha256"]
    whole[100] ^= 1
    content.write_bytes(whole)
    with pytest.raises(UserError, match=rf"gan\.npz is damaged: its SHA-256 is .*, not {sha[:12]}.*; install tinygen"):
        pretrained("gan", folder=tmp_path / "weights")
    content.unlink()
    with pytest.raises(UserError, match=r"gan\.npz cannot be read: No such file"):
        pretrained("gan", folder=tmp_path / "weights")
    for text, said in (("{", "cannot be read"), ("{}", "it lacks recipe"), ("7", "cannot be read")):
        note.write_text(text)
        with pytest.raises(UserError, match=rf"gan\.json .*{said}"):
            pretrained("gan", folder=tmp_path / "weights")


def test_the_list_of_a_recipe_names_its_weights():
    command = "tinygen sample {} --pretrained"
    assert command.format("vae-d2") in describe_recipe("vae-d2") and "--pretrained" not in describe_recipe("vae")


# ---------------------------------------------------------------------------------- what ships


def test_all_files_together_are_below_a_megabyte():
    assert names() and sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000


@pytest.mark.parametrize("name", names())
def test_what_ships_is_float16_of_its_recipe(name):
    about = json.loads((FOLDER / f"{name}.json").read_text())
    recipe = find(about["recipe"])
    assert about["recipe"] == name and set(about["arguments"]) == set(recipe.arguments())
    assert about["command"].startswith(f"tinygen train {name} --data ")
    with np.load(FOLDER / f"{name}.npz") as arrays:
        assert {arrays[key].dtype.name for key in arrays} <= {"float16", "int64"}
    one, again = pretrained(name), pretrained(name)
    assert_equal({k: v.state_dict() for k, v in one.networks().items()},
                 {k: v.state_dict() for k, v in again.networks().items()})  # fmt: skip


def test_the_shipped_vae_makes_digits():
    """Of all ten classes, and recognised far more often than noise; of MNIST's shape, without MNIST."""
    step = pretrained("vae-d2")
    drawn = samples(step, 1000, 0).numpy()
    assert drawn.shape == (1000, 1, 28, 28) and 0 <= drawn.min() < 0.01 and 0.99 < drawn.max() <= 1
    assert metrics.classes_covered(drawn) == 10
    assert metrics.confident(metrics.features(drawn)[1]) > 0.35


def test_the_shipped_encoder_and_decoder_belong_together():
    """The code of a decoded code is near it: without a data set at hand."""
    step = pretrained("vae-d2")
    tg.manual_seed(0)
    z = tg.randn(500, 2)
    with tg.no_grad():
        again = step.encode(step.decode(z)).numpy()
    for one, other in zip(z.numpy().T, again.T):
        assert np.corrcoef(one, other)[0, 1] > 0.8


def test_the_shipped_conditional_gan_draws_the_digits_that_are_asked_for():
    step = pretrained("cgan")
    assert step.learned() == list(range(10))
    images, labels = labelled(step, 1000, 0)
    assert images.shape == (1000, 1, 28, 28) and np.bincount(labels).tolist() == [100] * 10
    right, of_class = metrics.gan_test(images, labels)
    assert right > 0.85 and min(of_class.values()) > 0.6
    sevens = samples(step, 200, 1, label="7").numpy()
    assert (metrics.features(sevens)[1].argmax(1) == 7).mean() > 0.7
