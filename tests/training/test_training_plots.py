"""Curves and scatter plots: what is drawn, and that nothing is hidden."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tinygen.training.pictures import picture_of
from tinygen.training.plots import draw_curves, draw_points, draw_repeats, scatter


def drawn_axes(tmp_path, monkeypatch, lines):
    """The axes of curves.png, as matplotlib holds them."""
    from matplotlib.figure import Figure

    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: kept.append(self))
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    return kept[0].axes


def test_curves_have_titles_units_and_the_way_that_is_good(tmp_path, monkeypatch):
    lines = []
    for epoch in range(1, 6):
        lines.append({"epoch": epoch - 0.5, "train": {"loss": 2 / epoch, "d_loss": 0.7}})
        lines.append({"epoch": epoch, "train": {"loss": 9.0}, "test": {"loss": 3 / epoch, "accuracy": epoch / 10}})
    axes = {a.get_title(): a for a in drawn_axes(tmp_path, monkeypatch, lines)}
    assert set(axes) == {"loss ↓", "accuracy ↑", "loss of D"}
    loss = axes["loss ↓"]
    assert loss.get_ylabel() == "nats per image" and loss.get_xlabel() == "epochs"
    curves = {line.get_label(): line for line in loss.get_lines()}
    assert curves["train"].get_color() == "tab:blue" and curves["test"].get_color() == "tab:orange"
    assert list(curves["train"].get_ydata()) == [2 / e for e in range(1, 6)]  # the epoch's mean is not drawn again
    assert list(curves["test"].get_ydata()) == [3 / e for e in range(1, 6)]
    assert list(curves["test"].get_xdata()) == [1, 2, 3, 4, 5]
    assert all(tick == int(tick) for tick in loss.get_xticks())


def test_what_is_counted_on_samples_is_drawn_with_its_own_colour(tmp_path, monkeypatch):
    lines = [{"epoch": e, "train": {"g_loss": 1.0}, "test": {}, "samples": {"modes": e}} for e in range(1, 6)]
    axes = {a.get_title(): a for a in drawn_axes(tmp_path, monkeypatch, lines)}
    (curve,) = axes["modes covered ↑"].get_lines()
    assert curve.get_label() == "samples" and list(curve.get_ydata()) == [1, 2, 3, 4, 5]
    assert curve.get_color() == "tab:green" and curve.get_marker() == "o"


def test_a_start_far_away_does_not_flatten_the_curves(tmp_path, monkeypatch):
    values = [1e6, *np.linspace(2, 1, 99)]
    lines = [{"epoch": i + 1, "train": {}, "test": {"loss": v}} for i, v in enumerate(values)]
    (axes,) = drawn_axes(tmp_path, monkeypatch, lines)
    assert axes.get_ylim()[1] < 3 and "not shown: 1e+06" in axes.texts[0].get_text()


def drawn_points(monkeypatch, *given, **options):
    """(the axes of each scatter, the image)."""
    from matplotlib.figure import Figure

    made, real = [], Figure.add_axes
    monkeypatch.setattr(Figure, "add_axes", lambda self, *a, **k: made.append(real(self, *a, **k)) or made[-1])
    return made, draw_points(*given, **options)


def test_points_outside_the_axes_are_counted(monkeypatch):
    """Two of five samples lie outside the square around the real ones; the scatter shows the first four of them."""
    real = np.array([[0.0, 0.0], [1.0, 1.0]])
    samples = np.array([[0.5, 0.5], [9.0, 0.5], [0.5, 0.6], [0.1, -0.1], [0.5, -9.0]])
    (left, right), image = drawn_points(monkeypatch, [real, samples], most=4)
    texts = lambda axes: [text.get_text() for text in axes.texts]
    assert texts(left) == ["density of 2"] and left.get_title() == "real"
    assert texts(right) == ["not shown: 1 of 4", "density of 3 of 5"] and right.get_title() == "samples (the first 4)"
    assert left.get_xlim() == right.get_xlim() == pytest.approx((-0.15, 1.15)) == left.get_ylim()
    assert len(right.collections[0].get_offsets()) == 4 and image.size == (820, 752)


def test_a_density_is_dark_where_points_are(monkeypatch):
    """Four points lie high on the left, one low on the right: its square has half the darkness, sqrt(1/4)."""
    points = np.array([[0.0, 1.0]] * 4 + [[1.0, 0.0]])
    _, image = drawn_points(monkeypatch, [points])
    pixels = np.asarray(image.convert("L"))[-336:-16, 50:370]
    at = lambda x, y: pixels[round(320 * (1.15 - y) / 1.3), round(320 * (x + 0.15) / 1.3)]
    assert at(0, 1) == 0 and abs(int(at(1, 0)) - 127) <= 1 and at(0.5, 0.5) == 255 and at(0, 0) == 255
    assert (pixels[[0, -1]] <= 160).all()  # the frame


def test_real_points_are_orange_and_samples_blue(monkeypatch):
    points = np.random.default_rng(0).normal(size=(9, 2))
    colours = lambda made: [axes.collections[0].get_facecolor()[0][:3].tolist() for axes in made]
    orange, blue = pytest.approx([1, 0.498, 0.055], abs=1e-3), pytest.approx([0.122, 0.467, 0.706], abs=1e-3)
    assert colours(drawn_points(monkeypatch, [points, points])[0]) == [orange, blue]
    made, _ = drawn_points(monkeypatch, [points])  # a data set
    assert colours(made) == [orange] and made[0].get_title() == "real"
    assert colours(drawn_points(monkeypatch, [points], ("samples",))[0]) == [blue]
    given_to = []
    monkeypatch.setattr("tinygen.training.pictures.draw_points", lambda *given: given_to.append(given))
    picture_of(points)
    picture_of((points, points))
    assert [titles for _, titles in given_to] == [("samples",), ("real", "samples")]


def test_no_log_no_curves(tmp_path):
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_scatter_has_a_colour_for_every_class(monkeypatch):
    points = np.random.default_rng(0).normal(size=(60, 2))
    picture = scatter(points, np.arange(60) % 3, ("a", "b", "c"), "codes")
    colours = {tuple(c) for c in np.asarray(picture).reshape(-1, 3)}
    assert len(colours) > 50 and picture.width > 500
    from matplotlib.axes import Axes

    aspects, real = [], Axes.set_aspect
    monkeypatch.setattr(Axes, "set_aspect", lambda self, *a, **k: aspects.append((a, k)) or real(self, *a, **k))
    plain = scatter(points * [9, 1], None, (), "codes")
    assert aspects == [(("equal",), {"adjustable": "datalim"})]  # distances are comparable, and the panel is filled
    assert plain.size == picture.size


def test_repeats_have_a_dot_each_their_mean_and_their_deviation(monkeypatch):
    from matplotlib.figure import Figure

    kept = []
    add = Figure.add_subplot
    monkeypatch.setattr(Figure, "add_subplot", lambda self: kept.append(add(self)) or kept[-1])
    draw_repeats({"few": {"a": [0.5, 0.7], "b": [0.6]}, "many": {"a": [0.9, 0.9], "b": [0.8]}}, "accuracy", "two draws")
    axes = kept[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.6, 0.6, 0.9, 0.8])
    dots = [line.get_ydata() for line in axes.get_lines() if line.get_marker() == "."]
    assert [list(y) for y in dots] == [[0.5, 0.7], [0.6], [0.9, 0.9], [0.8]]
    lines = axes.collections[0].get_segments()[0]
    assert lines[:, 1].tolist() == pytest.approx([0.6 - 0.2 / 2**0.5, 0.6 + 0.2 / 2**0.5])
    assert axes.get_ylabel() == "accuracy" and [t.get_text() for t in axes.get_xticklabels()] == ["a", "b"]
