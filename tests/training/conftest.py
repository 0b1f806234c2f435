"""Matplotlib would take most of the time of these tests; those named after curves look at what it draws."""

import pytest

from tinygen import training


@pytest.fixture(autouse=True)
def curves_are_drawn_by_few(request, monkeypatch):
    if "curves" not in request.node.name and "promised" not in request.node.name:
        monkeypatch.setattr(training.run, "draw_curves", lambda *arguments: None)
