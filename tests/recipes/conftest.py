"""Recipes are trained in a folder of their own; matplotlib would take most of the time, so curves are drawn by few."""

import pytest

from tinygen import training


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if "curves" not in request.node.name:
        monkeypatch.setattr(training.run, "draw_curves", lambda *arguments: None)


@pytest.fixture(autouse=True)
def no_recipe_or_study_stays_behind():
    from toys import known

    with known():
        yield
