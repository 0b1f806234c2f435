"""Laws that hold for every recipe, whatever it trains, at the preset `tiny`. No recipe is named here."""

from __future__ import annotations

import inspect
import os
import re

import numpy as np
import pytest
from toys import Pressing, Watched, assert_equal, contents

import tinygen as tg
from tinygen import data, training
from tinygen.data import Dataset
from tinygen.data.points import Points
from tinygen.data.unpaired import Unpaired
from tinygen.errors import UserError
from tinygen.metrics import NAMES
from tinygen.recipes import RECIPES, RunError, find, load_run, open_run, samples, score, start
from tinygen.recipes import run as runs
from tinygen.recipes.settings import annotation
from tinygen.step import Captioned, Sheet
from tinygen.training import Tensors, aside, evaluate
from tinygen.training.log import read_log

LIMIT, BATCH = 48, 16  # three steps an epoch


def tiny(recipe, folder, place=None, **options):
    """A run at the preset tiny of few images; `place`: data instead of the recipe's."""
    options = {"epochs": 2, "limit": LIMIT, "batch_size": BATCH} | options
    return start(recipe, place, folder=folder, preset="tiny", **options)


@pytest.fixture(scope="module", autouse=True)
def one_place(tmp_path_factory):
    """All work in one folder, where a run that others stand on is found again."""
    here = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("here"))
    yield
    os.chdir(here)


@pytest.fixture(scope="module", params=RECIPES)
def trained(request, one_place, tmp_path_factory):
    """A finished run of each recipe, for the laws that only look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.run, "draw_curves", lambda *arguments: None)
        run = tiny(request.param, tmp_path_factory.mktemp(request.param) / "run")
        run.fit()
    return run


def optimizers(step):
    return {name: part for name, part in step.parts().items() if isinstance(part, tg.optim.Optimizer)}


def parameters(step):
    return [p for network in step.networks().values() for p in network.parameters()]


def values(tensors):
    """Copies that do not move on."""
    return [p.detach().clone() for p in tensors]


def arrays(content):
    """The arrays of images or points in what a Step shows."""
    if isinstance(content, Captioned | Sheet):
        return [content.images]
    return list(content) if isinstance(content, tuple) else [content]


# ---------------------------------------------------------------------------------- stopping, saving, loading


@pytest.mark.parametrize("at", [2, 3], ids=["in mid-epoch", "at an epoch's end"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(trained, at, tmp_path):
    name = trained.settings.recipe
    stopped = tiny(name, tmp_path / "stopped")
    stopped.step = Pressing(stopped.step, at)
    with pytest.raises(training.Interrupted):
        stopped.fit()
    tg.manual_seed(99)  # another process would not be where this one is
    again = open_run(tmp_path / "stopped")
    assert again.position.epoch * len(again.batches) + again.position.index == at
    again.fit()
    assert_equal(contents(trained), contents(again))
    for file in [p.name for p in trained.folder.iterdir() if p.suffix in (".png", ".gif", ".jsonl")]:
        if file != "times.jsonl":
            assert (trained.folder / file).read_bytes() == (again.folder / file).read_bytes(), file


def test_the_trained_model_is_loaded_back(trained):
    state = tg.get_rng_state()
    step = load_run(trained.folder)
    assert tg.get_rng_state() == state
    assert_equal(trained.step.state_dict(), step.state_dict())
    assert not any(module.training for network in step.networks().values() for module in network.modules())
    batch = next(iter(trained.test))
    with aside(step, 1):
        here = step.measure(batch)
    with aside(trained.step, 1):
        there = trained.step.measure(batch)
    assert_equal(here, there)
    if step.offers("sample"):
        a, b, c = samples(step, 5, 3), samples(trained.step, 5, 3), samples(step, 5, 4)
        assert np.array_equal(a.numpy(), b.numpy()) and not np.array_equal(a.numpy(), c.numpy())


def test_samples_are_like_the_data_and_no_piece_repeats(trained):
    step, shape = trained.step, trained.dataset.shape
    if not step.offers("sample"):
        with pytest.raises(UserError):
            step.sample(2)
        return
    drawn = samples(step, 1000, 0).numpy()
    assert drawn.shape == (1000, *shape) and np.isfinite(drawn).all()
    assert not np.array_equal(drawn[:500], drawn[500:])
    if len(shape) == 3:
        assert drawn.min() >= 0 and drawn.max() <= 1


def test_images_become_images(trained):
    step, shape = trained.step, trained.dataset.shape
    images = tg.tensor(trained.dataset.floats("test", slice(3)))
    with aside(step, 0):
        if step.offers("apply") and step.any_size:  # what it takes need not be like what it learns from
            limits = step.any_size
            made = step.apply(images[:, : limits.channels])
            assert made.shape == (3, shape[0], *(limits.scale * side for side in shape[1:]))
            assert made.min() >= 0 and made.max() <= 1
        elif step.offers("apply"):
            assert step.apply(images).shape == (3, *shape)
        else:
            with pytest.raises(UserError):
                step.apply(images)


def test_pixels_have_scores(trained):
    step, shape = trained.step, trained.dataset.shape
    images = tg.tensor(trained.dataset.floats("test", slice(3)))
    with aside(step, 0):
        if step.offers("scores"):
            scores = step.scores(images).numpy()
            assert scores.shape == (3, 1, *shape[1:]) and np.isfinite(scores).all() and scores.std() > 0
            assert step.any_size and step.any_size.channels == shape[0]
        else:
            with pytest.raises(UserError):
                step.scores(images)


# ---------------------------------------------------------------------------------- what is shown and said


def test_pictures_can_be_looked_at(trained):
    with aside(trained.step, 0):
        pictures = trained.step.pictures(next(iter(trained.test)))
    assert pictures
    for name, content in pictures.items():
        assert (trained.folder / f"{name}.png").stat().st_size > 100
        for batch in arrays(content):
            values = batch.numpy()
            assert np.isfinite(values).all()
            if values.ndim == 2:
                assert values.shape[1] == 2, name
            else:
                assert values.ndim == 4 and values.shape[1] in (1, 3), name
                assert values.min() >= 0 and values.max() <= 1, f"{name} lies in {values.min()}..{values.max()}"


def test_every_figure_has_a_title_and_a_unit(trained):
    lines = read_log(trained.folder / "log.jsonl")
    logged = {name for line in lines for split in ("train", "test") for name in line.get(split, {})}
    scored = set(score(trained.step, trained.dataset, 0, 200))
    assert logged and logged | scored <= set(NAMES), (logged | scored) - set(NAMES)


def test_every_argument_says_what_it_means(trained):
    recipe = find(trained.settings.recipe)
    assert set(recipe.arguments()) <= set(recipe.meanings)
    assert not set(recipe.meanings) - set(recipe.arguments()) or recipe.root != recipe.name
    for name, parameter in recipe.arguments().items():
        kind = str(parameter.annotation).removesuffix(" | None")
        assert kind in runs.prepare.__globals__["KINDS"], f"{name}: nothing checks a {kind}"
    assert recipe.summary and recipe.lectures and recipe.tiny is not None
    presets = [set(recipe.small), set(recipe.gpu), set(recipe.tiny)]
    own = presets if recipe.root == recipe.name else []  # a variant may inherit values for what it lacks
    assert all(keys <= {"epochs", "batch_size", *recipe.arguments()} for keys in own)


# ---------------------------------------------------------------------------------- who learns what


def test_every_optimizer_moves_its_own_weights_alone(trained, tmp_path, monkeypatch):
    step = tiny(trained.settings.recipe, tmp_path / "fresh").step
    owned = {name: {id(p) for g in o.param_groups for p in g["params"]} for name, o in optimizers(step).items()}
    everything = parameters(step)
    for name, others in owned.items():
        assert others and not any(others & owned[o] for o in owned if o != name), "two optimizers share a weight"
    stepped = set()
    for name, optimizer in optimizers(step).items():
        def watched(*given, name=name, update=optimizer.step, **options):
            before = values(everything)
            result = update(*given, **options)
            after = values(everything)
            moved = {
                id(p) for p, old, new in zip(everything, before, after, strict=True) if (old != new).any().item()
            }
            assert moved and moved <= owned[name], f"{name} moves what is not its own"
            stepped.add(name)
            return result

        monkeypatch.setattr(optimizer, "step", watched)
    free = [p for p in everything if not any(id(p) in own for own in owned.values())]
    before = values(free)
    step(training.to_tensors(trained.batches.at(0, 0)))
    assert stepped == set(owned)
    assert_equal(before, values(free))  # what nobody trains does not move


# ---------------------------------------------------------------------------------- which split


def marked(recipe):
    """Data like the recipe's whose every item tells where it is from: training below 1/2, test above."""
    shape = data.load(find(recipe).data).shape
    level = lambda low, n: np.linspace(low, low + 0.4, n, dtype=np.float32).reshape(n, *[1] * len(shape))
    train, test = level(0.05, 40) * np.ones(shape, np.float32), level(0.55, 20) * np.ones(shape, np.float32)
    kind = Dataset if len(shape) == 3 else Points
    made = kind("marked", train, np.arange(40) % 10, test, np.arange(20) % 10, tuple("0123456789"))
    return Unpaired(made, made) if isinstance(data.load(find(recipe).data), Unpaired) else made


def levels(batches):
    return {round(float(item.flat[0]), 4) for batch in batches for item in batch}


@pytest.mark.parametrize("keep", [None, "best"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_learned_measured_and_shown_comes_from_its_split(recipe, keep, tmp_path, monkeypatch):
    dataset = marked(recipe)
    monkeypatch.setattr(runs, "load", lambda *a, **k: dataset)
    try:
        run = tiny(recipe, tmp_path / "run", keep=keep, limit=None)
    except RunError as error:
        assert keep and "measures nothing" in str(error) and "\n" not in str(error)
        return
    run.step = watched = Watched(run.step)
    run.fit(1)
    train, test = (levels([dataset.split(split)[0]] if not isinstance(dataset, Unpaired) else dataset.split(split))
                   for split in ("train", "test"))  # fmt: skip
    learned, shown = levels(watched.seen["__call__"]), levels(watched.seen["pictures"])
    held = (levels(watched.seen["measure"]) | levels(watched.seen["summary"])) - test
    assert shown and shown <= test
    assert levels(watched.seen["summary"]) - held == test
    if keep:
        assert held and held <= train and not held & learned and len(held) == 4
        assert (run.folder / "best.safetensors").exists()
    else:
        assert not held
    assert learned <= train and (len(learned) >= len(train) - len(held) - BATCH)
    watched.seen["measure"].clear()
    watched.seen["summary"].clear()
    score(watched, dataset, 0, 200)
    assert levels(watched.seen["measure"]) | levels(watched.seen["summary"]) == test


def test_figures_do_not_depend_on_how_the_test_images_are_cut(trained):
    """Sizes are multiples of 4, so that random numbers come in the same order."""
    step, dataset = trained.step, trained.dataset
    names = set(step.measure(next(iter(trained.test))))
    found = []
    for size in (LIMIT, 32, 20):
        with aside(step, 0):
            figures = evaluate(step, Tensors(dataset.batches(size, split="test", shuffle=False)))
        found.append({name: figures[name] for name in names})
    assert found[1] == pytest.approx(found[0], rel=1e-4) and found[2] == pytest.approx(found[0], rel=1e-4)


# ---------------------------------------------------------------------------------- every option reaches what it names


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_seed_is_that_of_weights_and_of_the_order(recipe, tmp_path):
    one, same, other = (tiny(recipe, tmp_path / str(i), seed=seed) for i, seed in enumerate((5, 5, 6)))
    assert_equal(one.step.state_dict(), same.step.state_dict())
    weights = [np.concatenate([v.numpy().ravel() for v in values(parameters(run.step))]) for run in (one, other)]
    assert not np.allclose(*weights)
    first = [run.batches.at(0, 0)[0] for run in (one, same, other)]
    assert np.array_equal(first[0], first[1]) and not np.array_equal(first[0], first[2])


@pytest.mark.parametrize("recipe", RECIPES)
def test_options_reach_the_optimizers(recipe, tmp_path):
    arguments = find(recipe).arguments()
    given = {"d_lr": 0.0321, "betas": [0.25, 0.75]}
    given = {name: value for name, value in given.items() if name in arguments}
    run = tiny(recipe, tmp_path / "run", lr=0.0123, arguments=given)
    groups = [group for o in optimizers(run.step).values() for group in o.param_groups]
    rates = sorted(group["lr"] for group in groups)
    assert rates == sorted([0.0123] * (len(groups) - ("d_lr" in given)) + [0.0321] * ("d_lr" in given))
    if "betas" in given:
        assert all(tuple(group["betas"]) == (0.25, 0.75) for group in groups)


def others(name, argument, value):
    """Other values of an argument: a sequence with one number changed, each in its turn; every other known word."""
    kind = annotation(find(name).arguments()[argument])
    if kind.startswith(("Sequence", "tuple")):
        changed = [v + 1 if isinstance(v, int) else v / 2 for v in value]
        return [[*value[:i], changed[i], *value[i + 1 :]] for i in range(len(value))]
    if kind.startswith("str"):
        with pytest.raises(UserError, match="Known: ") as refused:
            tiny(name, "refused", arguments={argument: "nothing of that name"})
        return [word for word in str(refused.value).partition("Known: ")[2].split(", ") if word != value]
    if kind != "int":
        return [0.2 if not value else value / 2]
    try:
        tiny(name, "next", arguments={argument: value + 1})
        return [value + 1]
    except UserError:  # an odd number alone
        return [value + 2]


def after_two_updates(name, folder, arguments):
    """(shapes of each network's weights, all that two updates leave: metrics, weights, their averages, scores)."""
    run = tiny(name, folder, arguments=arguments)
    tg.manual_seed(0)
    batch = training.to_tensors(run.batches.at(0, 0))
    metrics = [v for _ in range(2) for v in run.step(batch).values()]
    shapes = {key: [p.shape for p in network.parameters()] for key, network in run.step.networks().items()}
    found = values([*metrics, *parameters(run.step)])
    if run.step.averages():
        with run.step.averaged():
            found += values(parameters(run.step))
    if run.step.offers("scores"):
        found += values([run.step.scores(batch[0])])
    return shapes, [v.numpy().tobytes() for v in found]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_argument_reaches_what_it_names(recipe, tmp_path, monkeypatch):
    """Another value gives other weights. Another number of a list of widths gives another shape to the same networks as
    the list's other numbers, and every network that has layers has the shape that some argument gives it.
    """
    monkeypatch.chdir(tmp_path)
    used = tiny(recipe, "used").settings.arguments
    two = {name: [3, 5] for name in used if annotation(find(recipe).arguments()[name]).startswith("Sequence")}
    used |= two  # a preset may have one width alone
    shapes, results = after_two_updates(recipe, "as it is", used)
    assert (shapes, results) == after_two_updates(recipe, "again", used)
    layered = {key for key, found in shapes.items() if any(len(shape) > 1 for shape in found)}
    assert layered
    shaped, of_the_first = set(), set()
    for name, value in used.items():
        alternatives = others(recipe, name, value)
        assert alternatives
        for i, other in enumerate(alternatives):
            new_shapes, new_results = after_two_updates(recipe, f"{name} {i}", used | {name: other})
            assert new_results != results, f"{name}={other} changes nothing"
            changed = {key for key in layered if new_shapes[key] != shapes[key]}
            of_the_first = changed if i == 0 else of_the_first
            if name in two:
                assert changed and changed == of_the_first, f"{name}={other} does not reach {of_the_first - changed}"
            shaped |= changed
    sizes = [name for name in used if annotation(find(recipe).arguments()[name]).endswith(("int", "int]"))]
    assert shaped == layered or find(recipe).on or not sizes, f"no argument reaches {layered - shaped}"


@pytest.mark.parametrize("recipe", RECIPES)
def test_rounds_are_updates_of_one_player(recipe, tmp_path, monkeypatch):
    rounds = {name: 3 for name in ("rounds", "refinements") if name in find(recipe).arguments()}
    run = tiny(recipe, tmp_path / "run", batch_size=12, arguments=rounds)
    counts = dict.fromkeys(optimizers(run.step), 0)
    for name, optimizer in optimizers(run.step).items():
        def counted(name=name, update=optimizer.step):
            counts[name] += 1
            return update()

        monkeypatch.setattr(optimizer, "step", counted)
    run.step(training.to_tensors(run.batches.at(0, 0)))
    assert sorted(counts.values()) == ([1, 3] if rounds else [1] * len(counts))


@pytest.mark.parametrize("recipe", RECIPES)
def test_options_reach_the_plan(recipe, tmp_path):
    run = tiny(recipe, tmp_path / "run", limit=90, epochs=1, batch_size=16, threads=2)
    assert run.dataset.count("train") == 90 and run.dataset.count("test") == 90
    assert len(run.batches) == (5 if find(recipe).drop_last else 6)
    assert len(run.batches.at(0, 0)[0]) == 16
    assert run.settings.given["steps"] == len(run.batches)
    run.step = watched = Watched(run.step)
    before = tg.get_num_threads()
    run.fit()
    assert watched.threads == {2} and tg.get_num_threads() == before
    assert len(watched.seen["__call__"]) == len(run.batches) and run.position.epoch == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_size_reaches_the_model(recipe, tmp_path):
    if len(data.load(find(recipe).data).shape) == 1:
        with pytest.raises(UserError, match="size"):
            tiny(recipe, tmp_path / "run", size=12)
        return
    run = tiny(recipe, tmp_path / "run", size=12)
    assert tuple(run.settings.given["shape"])[1:] == (12, 12)
    if run.step.offers("sample"):
        assert samples(run.step, 2, 0).shape[2:] == (12, 12)


# ---------------------------------------------------------------------------------- any data, or a clear refusal

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 33, 47)]


def works_or_refuses(recipe, place, folder, limit=None):
    """Trains, samples and resumes on any data; or says in one line what does not fit."""
    try:
        run = tiny(recipe, folder, place, limit=limit, batch_size=12)
    except UserError as error:
        text = str(error)
        assert "\n" not in text and ("labels" in text or "shape" in text or "pixels" in text), text
        assert not folder.exists()
        return
    run.fit(1)
    again = open_run(folder)
    again.fit(2)
    assert again.position.epoch == 2
    if run.step.offers("sample"):
        assert samples(load_run(folder), 3, 0).shape == (3, *run.dataset.shape)


@pytest.mark.parametrize("labels", [True, False], ids=["labels", "no labels"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("recipe", RECIPES)
def test_any_images_train_or_are_refused(recipe, shape, labels, tmp_path):
    draw = np.random.default_rng(0)
    content = {"images": draw.integers(0, 256, (24, *shape), np.uint8)}
    if labels:
        content["labels"] = np.arange(24) % 3
    np.savez(tmp_path / "mine.npz", **content)
    mine = str(tmp_path / "mine.npz")
    works_or_refuses(recipe, f"{mine}+{mine}" if find(recipe).pair else mine, tmp_path / "run")


FEW = [(name, batch, rounds) for name in RECIPES for batch in (1, 2, 3)
       for rounds in (None, 1, 2, 32) if rounds is None or "rounds" in find(name).arguments()]  # fmt: skip


@pytest.mark.parametrize(("recipe", "batch", "rounds"), FEW)
def test_any_batch_trains_or_is_refused(recipe, batch, rounds, tmp_path):
    """Few examples a step, or few in all; a batch is shared by the rounds of a game."""
    for few in ({"batch_size": batch, "limit": 6}, {"limit": batch}):
        folder = tmp_path / f"{len(few)}"
        try:
            run = tiny(recipe, folder, arguments={"rounds": rounds} if rounds else {}, **few)
        except UserError as error:
            asked = few.get("batch_size", BATCH)
            needed = 2 * (rounds or find(recipe).defaults().get("rounds", 1))
            held = tiny(recipe, tmp_path / "twenty", limit=20).batches.count < 20  # not all images are learned from
            size = r"\d" if held else min(asked, few["limit"])
            words = f"batch of {size}, .*needs {needed} .* at least {needed}" + "|at least 2 images" * held
            assert re.search(words, str(error))
            assert "\n" not in str(error) and not folder.exists() and (held or needed > batch)
            continue
        run.fit(1)
        line = next(line for line in read_log(folder / "log.jsonl") if "test" in line)
        assert np.isfinite(list(line["train"].values())).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_points_train_or_are_refused(recipe, tmp_path):
    works_or_refuses(recipe, "ring+ring" if find(recipe).pair else "ring", tmp_path / "run", limit=24)


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_data_sets_are_for_those_that_learn_from_two(recipe, tmp_path):
    pair, place = find(recipe).pair, {True: "digits", False: "digits+slanted"}
    with pytest.raises(RunError, match=f"{recipe} learns from (two|one) data set.*give (both|one of them)"):
        tiny(recipe, tmp_path / "run", place[pair])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_default_is_as_its_annotation_says(recipe):
    from tinygen.recipes.settings import check_arguments

    found = find(recipe)
    check_arguments(recipe, found.arguments(), found.defaults())
    for preset in ("small", "gpu", "tiny"):
        check_arguments(recipe, found.arguments(), found.preset(preset)[1])
    assert next(iter(inspect.signature(found.build).parameters)) == "given"
