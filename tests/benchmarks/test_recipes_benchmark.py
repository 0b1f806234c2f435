"""Recipes run on PyTorch from the same source files, take the same first steps, and reach the same figures."""

import json
import math
import os
import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("tinygen._cpu", reason="built without a compiler")

import tinygen as tg  # noqa: E402
from benchmarks import machine, on_torch, recipes  # noqa: E402
from benchmarks.lockstep import Contenders  # noqa: E402
from tinygen.nn import functional as F  # noqa: E402
from tinygen.recipes import RECIPES, score, start  # noqa: E402
from tinygen.recipes.recipe import Given  # noqa: E402
from tinygen.recipes.reproduce import keep_torch, kept  # noqa: E402
from tinygen.recipes.settings import given_of  # noqa: E402

AGREE = 1e-3
TORCH = f"nchw-{'tuned' if machine.has_glibc() else 'default'}-fused"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recipes that stand on others put those runs into the working folder."""
    place, before = tmp_path_factory.mktemp("runs"), os.getcwd()
    os.chdir(place)
    yield place
    os.chdir(before)


@pytest.fixture(scope="module")
def field(folder):
    """One process for each engine, for all recipes."""
    fair = SimpleNamespace(isa="", device="cpu", quick=True, seconds=1.0)
    with Contenders(fair, 1, [TORCH]) as field:
        assert field.rivals == [TORCH], field.notes
        yield field


@pytest.fixture(scope="module")
def course(field, folder):
    """A function: (what the workers say, differences of the metrics) of a recipe's first steps."""

    def run(name, **changed_on_torch):
        made = start(name, folder=folder / f"{name}{len(changed_on_torch)}", preset="tiny")
        message = {"settings": asdict(made.settings), "steps": recipes.STEPS,
                   "weights": recipes.save_weights(made.step, folder / "weights.npz")}  # fmt: skip
        answers = field.all("recipe", **message)
        assert set(answers) == {"tinygen", TORCH}, field.notes
        if changed_on_torch:
            message["settings"]["arguments"] |= changed_on_torch
            field.workers[TORCH].ask("recipe", **message, save=f"{field.folder.name}/{TORCH}.npz")
        return answers, recipes.differences(field, TORCH)

    return run


# ---------------------------------------------------------------------------------- the same course


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_the_same_first_steps_on_torch(course, name):
    answers, apart = course(name)
    assert apart and all(math.isfinite(value) for value in apart.values())
    if not answers["tinygen"]["drops"]:
        assert max(apart.values()) < AGREE, apart


@pytest.mark.parametrize("name", ["srresnet", "inpaint", "colourise-z", "pix2pix", "cyclegan", "refiner"])
def test_figures_of_images_made_of_images_are_the_same_on_torch(name, folder):
    """What summaries and the look at test images use, beyond an update, is torch's, too."""
    ours = start(name, folder=folder / f"{name}-scored", preset="tiny", limit=70)
    side = on_torch.load()
    theirs = side.find(name).build(given_of(ours.settings), **ours.settings.arguments)
    for part, network in theirs.networks().items():
        state = ours.step.networks()[part].state_dict()
        network.load_state_dict({key: torch.from_numpy(value.numpy()) for key, value in state.items()})
    expected, found = score(ours.step, ours.dataset), side.score(theirs, ours.dataset)
    assert expected and found.keys() == expected.keys()
    for metric, (value, n) in expected.items():
        assert found[metric] == (pytest.approx(value, rel=AGREE, abs=1e-6), n), metric


def test_a_course_that_differs_is_seen(course):
    _, apart = course("wgan", lr=4e-4)
    assert max(apart.values()) > AGREE


def test_a_run_prints_and_writes_what_both_reach(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recipes, "BURSTS", 2)
    out = tmp_path / "out.json"
    argv = ["conv-vae", "--preset", "tiny", "--time-steps", "4", "--samples", "501", "--json", str(out)]
    (entry,) = recipes.main(argv)
    assert json.loads(out.read_text())[0]["recipe"] == "conv-vae"
    assert entry["course"] < AGREE
    assert entry["torch_variant"] in entry["seconds_per_step"] and len(entry["seconds_per_step"]) == 3
    assert entry["ratio"] == entry["seconds_per_step"][entry["torch_variant"]] / entry["seconds_per_step"]["tinygen"]
    assert entry["training_seconds"]["torch"] == pytest.approx(
        entry["steps"] * entry["seconds_per_step"][entry["torch_variant"]]
    )
    assert all(value > 0 for value in entry["memory_mb"].values())
    for metric in ("loss", "cfid"):  # the same noise: the same figures
        (ours,), (theirs,) = entry["figures"][metric]["tinygen"], entry["figures"][metric]["torch"]
        assert ours == pytest.approx(theirs, rel=1e-3) and math.isfinite(ours)
    assert "ms a step" in capsys.readouterr().out


# ---------------------------------------------------------------------------------- torch in tinygen's place


def test_a_name_that_torch_lacks_fails_by_name(monkeypatch):
    words = on_torch.Words("tinygen.nn", torch.nn, {"Ours": 1})
    assert words.Linear is torch.nn.Linear and words.Ours == 1
    with pytest.raises(on_torch.NotOnTheList, match=r"tinygen\.nn\.Foo: torch has no such name, and it is not on the"):
        _ = words.Foo
    monkeypatch.setitem(sys.modules, "words", words)
    with pytest.raises(on_torch.NotOnTheList, match=r"tinygen\.nn\.Foo"):
        from words import Foo  # noqa: F401


def test_sources_that_use_such_a_name_do_not_load(monkeypatch):
    monkeypatch.setitem(on_torch.LIST, "tinygen", dict)
    side = on_torch.load.__wrapped__()
    step = side.find("gan-ring").build(Given((2,), (), 1), hidden=(4,), latent=2)
    with pytest.raises(on_torch.NotOnTheList, match=r"tinygen\.frozen"):
        step((torch.zeros(4, 2),))


def test_sources_reach_nothing_of_tinygen_but_what_is_named(monkeypatch):
    words = vars(on_torch)["_put_words"]

    def planted(before):
        words(before)
        assert sys.modules["tinygen.tape"] is None and sys.modules["tinygen.nn.init"] is None
        with pytest.raises(ImportError, match=r"tinygen\.nn\.init"):
            import tinygen.nn.init  # noqa: F401

    monkeypatch.setattr(on_torch, "_put_words", planted)
    on_torch.load.__wrapped__()


def test_loading_leaves_tinygen_as_it_was():
    ours = {name: module for name, module in sys.modules.items() if f"{name}.".startswith("tinygen.")}
    registered = dict(RECIPES)
    side = on_torch.load.__wrapped__()
    assert {name: module for name, module in sys.modules.items() if f"{name}.".startswith("tinygen.")} == ours
    assert registered == RECIPES and side.find("vae") is not RECIPES["vae"]
    step = side.find("vae").build(Given((1, 8, 8), (), 1), hidden=(4,), latent=2)
    assert all(isinstance(network, torch.nn.Module) for network in step.networks().values())
    assert isinstance(step.optimizer, torch.optim.Adam)


def test_supplied_words_compute_what_tinygens_do():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 4), np.float32) for _ in range(3)]
    ours, theirs = [tg.tensor(a) for a in arrays], [torch.from_numpy(a) for a in arrays]
    for mine, other in ((F.reparameterize(*ours), on_torch.reparameterize(*theirs)),
                        (F.gaussian_kl(*ours[:2]), on_torch.gaussian_kl(*theirs[:2]))):  # fmt: skip
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


def test_frozen_parameters_are_constants_and_thaw():
    layer, x = torch.nn.Linear(3, 2), torch.ones(1, 3, requires_grad=True)
    layer.bias.requires_grad_(False)
    with on_torch.frozen(layer):
        y = layer(x).sum()
    y.backward()
    assert layer.weight.grad is None and x.grad is not None
    assert layer.weight.requires_grad and not layer.bias.requires_grad


def test_noise_is_tinygens_until_torch_has_its_own():
    words, state = on_torch.LIST["tinygen"](), (3, 2, 0)
    x = torch.zeros(2, 5, dtype=torch.float64)
    calls = {"randn": (2, 5), "rand": (2, 5), "randperm": (7,), "randint": (0, 9, (4,)), "randn_like": (x,)}
    for name, arguments in calls.items():
        tg.set_rng_state(state)
        mine = [tg.tensor(a.numpy()) if a is x else a for a in arguments]
        expected = getattr(tg, name)(*mine).numpy()
        tg.set_rng_state(state)
        drawn = words[name](*arguments)
        np.testing.assert_array_equal(drawn.numpy(), expected)
        assert drawn.numpy().dtype == expected.dtype
    try:
        on_torch.share_noise(False)
        tg.set_rng_state(state)
        assert words["randn"](2, 5).shape == (2, 5) and tg.get_rng_state() == state
    finally:
        on_torch.share_noise(True)


def test_torchs_figures_are_kept_beside_tinygens(tmp_path):
    file = tmp_path / "expected.json"
    keep_torch("vae", "mnist", "cpu", {"loss": np.float32(2.0)}, 12.345, file)
    entry = kept(file)["recipes"]["vae"]["mnist"]["cpu"]
    assert entry == {"torch": {"metrics": {"loss": 2.0}, "seconds": 12.3}}


@pytest.mark.parametrize("warmup", [False, True])
def test_the_supplied_average_of_weights_is_tinygens(warmup):
    rng = np.random.default_rng(0)
    ours, theirs = tg.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    draw = lambda: rng.standard_normal((2, 3), np.float32)
    first = draw()
    with tg.no_grad(), torch.no_grad():
        ours.weight.copy_(tg.tensor(first))
        theirs.weight.copy_(torch.from_numpy(first))
    averages = tg.optim.EMA(ours, 0.3, warmup=warmup), on_torch.EMA(theirs, 0.3, warmup=warmup)
    for _ in range(6):
        last = draw()
        with tg.no_grad(), torch.no_grad():
            ours.weight.copy_(tg.tensor(last))
            theirs.weight.copy_(torch.from_numpy(last))
        for average in averages:
            average.update()
    with averages[0].average_parameters(), averages[1].average_parameters():
        found = theirs.weight.detach().numpy().copy()
        np.testing.assert_allclose(ours.weight.detach().numpy(), found, rtol=1e-5, atol=1e-6)
    assert np.array_equal(theirs.weight.detach().numpy(), last) and abs(found - last).max() > 0.1
