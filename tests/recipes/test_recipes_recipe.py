"""What a recipe is: a signature, a docstring, presets, and what it inherits."""

from __future__ import annotations

import pytest
from toys import Toy

from tinygen import data
from tinygen.errors import SettingError
from tinygen.models import VAEStep
from tinygen.recipes import RECIPES, find, prepare, recipe
from tinygen.recipes.recipe import meanings
from tinygen.step import Step


def build_toy_base(given, width: int = 3, lr: float = 0.1):
    """width: of the layers
    lr: learning rate

    A line: with a colon, of no argument.
    """
    return Toy(lr)


def registered(**plan):
    return recipe("a toy", **plan)(build_toy_base)


def test_a_name_has_dashes_and_a_recipe_knows_its_arguments():
    assert registered(lectures=(2,)) is build_toy_base
    found = find("build-toy-base")
    assert found.chapter == __name__ and found.lectures == (2,) and found.family == "build-toy-base"
    assert list(found.arguments()) == ["width", "lr"] and found.defaults() == {"width": 3, "lr": 0.1}
    assert found.meanings == {"width": "of the layers", "lr": "learning rate"}


def test_a_variant_inherits_the_plan_and_changes_what_it_says():
    registered(lectures=(1, 2), epochs=7, batch_size=9, drop_last=True, labels=True, data="mnist",
               small={"width": 5, "epochs": 2}, tiny={"width": 1})  # fmt: skip

    @recipe("another", like=build_toy_base, epochs=8)
    def another_toy(given, depth: int = 2, lr: float = 0.2):
        """depth: of the net"""

    @recipe("a third", like=another_toy, lectures=(4,))
    def third_toy(given, width: int = 2): ...

    base, found, third = map(find, ("build-toy-base", "another-toy", "third-toy"))
    assert (found.epochs, found.batch_size, found.drop_last, found.labels, found.data) == (8, 9, True, True, "mnist")
    assert found.lectures == (1, 2) and third.lectures == (4,) and third.epochs == 8
    assert base.family == found.family == third.family == "build-toy-base"
    assert found.meanings == {"width": "of the layers", "lr": "learning rate", "depth": "of the net"}
    assert found.preset("small") == ({"epochs": 2}, {})  # it has no width
    assert third.preset("small") == ({"epochs": 2}, {"width": 5}) and third.preset("tiny") == ({}, {"width": 1})
    assert base.preset("gpu") == ({}, {})


def test_runs_of_a_variant_that_stands_apart_are_of_a_family_of_their_own():
    registered(pair=True, epochs=7, data="digits+slanted")

    @recipe("apart", like=build_toy_base, apart=True)
    def apart_toy(given, width: int = 4): ...

    @recipe("like it", like=apart_toy)
    def third_toy(given, width: int = 5): ...

    @recipe("apart from that", like=apart_toy, apart=True, pair=False, data="digits")
    def fourth_toy(given, width: int = 6): ...

    found = [find(name) for name in ("build-toy-base", "apart-toy", "third-toy", "fourth-toy")]
    assert [one.family for one in found] == ["build-toy-base", "apart-toy", "apart-toy", "fourth-toy"]
    assert [one.root for one in found] == ["build-toy-base"] * 4  # in a table all are variants of one
    assert [one.pair for one in found] == [True, True, True, False]
    assert [one.epochs for one in found] == [7] * 4
    assert found[1].meanings == {"width": "of the layers", "lr": "learning rate"}


def test_a_recipe_learns_from_one_data_set_where_it_says_nothing():
    registered()
    assert not find("build-toy-base").pair and find("build-toy-base").root == "build-toy-base"


def test_a_function_that_is_no_recipe_cannot_be_a_base():
    with pytest.raises(ValueError, match=r"like=nobody.*no recipe"):

        def nobody(): ...

        recipe("a toy", like=nobody)(build_toy_base)


def test_two_chapters_cannot_use_one_name():
    registered()

    def build_toy_base(given): ...

    build_toy_base.__module__ = "another.chapter"
    with pytest.raises(ValueError, match=r"two recipes are called 'build-toy-base': in .*another.chapter"):
        recipe("the same name")(build_toy_base)
    registered()  # a chapter that is loaded again


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(SettingError, match=r"no recipe is called 'vea'\. Did you mean vae\? Known: .*dcgan"):
        find("vea")
    with pytest.raises(SettingError, match=r"no recipe is called 'xyzzy'\. Known"):
        find("xyzzy")


def test_a_docstring_without_arguments_means_nothing():
    def plain(): ...

    assert meanings(plain) == {}
    assert "build-toy-base" not in RECIPES  # of the other tests: none stays behind


@pytest.mark.parametrize(
    ("preset", "size", "expected"),
    [
        ("cpu", None, {"width": 5, "lr": 0.1, "epochs": 3, "batch_size": 11}),  # digits are small
        ("cpu", 16, {"width": 3, "lr": 0.1, "epochs": 4, "batch_size": 10}),
        ("gpu", 16, {"width": 7, "lr": 0.1, "epochs": 4, "batch_size": 10}),
        ("gpu", None, {"width": 5, "lr": 0.1, "epochs": 3, "batch_size": 11}),
        ("tiny", None, {"width": 1, "lr": 0.1, "epochs": 2, "batch_size": 16}),
        ("tiny", 16, {"width": 1, "lr": 0.1, "epochs": 2, "batch_size": 16}),
    ],
)
def test_presets_come_over_each_other(preset, size, expected):
    registered(epochs=4, batch_size=10, small={"width": 5, "epochs": 3, "batch_size": 11}, gpu={"width": 7},
               tiny={"width": 1})  # fmt: skip
    dataset = data.load("digits", limit=50, **({"size": size} if size else {}))
    settings = prepare(find("build-toy-base"), dataset, {"name": "digits", "limit": 50}, preset=preset, device="cpu")
    found = settings.arguments | {"epochs": settings.epochs, "batch_size": settings.batch_size}
    assert found == expected


def test_the_kind_of_a_recipe_is_what_its_function_returns():
    @recipe("annotated")
    def annotated(given) -> Toy: ...

    @recipe("of a name that is not there")
    def unknown(given) -> Missing: ...  # noqa: F821

    @recipe("says nothing")
    def silent(given): ...

    assert [find(name).kind for name in ("annotated", "unknown", "silent")] == [Toy, Step, Step]
    assert find("vae").kind is VAEStep
