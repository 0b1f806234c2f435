"""The studies of `game_theory` and `game_signals`: each number is what it says, each argument reaches what it names."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import games
from tinygen.recipes import RunError, find_study, run_study
from tinygen.recipes import game_signals as signals
from tinygen.recipes import game_theory as chapter
from tinygen.recipes.study import Film
from tinygen.studies import transport
from tinygen.training import Display

draw_value, draw_gradients = chapter._draw_value, signals._draw_gradients


@pytest.fixture(autouse=True)
def nothing_is_drawn(monkeypatch):
    """Every figure is drawn once, by the test of every study; here it would take most of the time."""
    from PIL import Image

    drawn = {chapter: ("optimal", "value"), signals: ("wasserstein", "diracs", "gradients")}
    for module, names in drawn.items():
        for name in names:
            monkeypatch.setattr(module, f"_draw_{name}", lambda *given: Image.new("L", (2, 2)))


def told(name, **arguments):
    tg.manual_seed(0)
    return find_study(name).run(**arguments)


def watched(monkeypatch, module, name):
    """(arguments, result) of each call of a function of `module`, which does its work as before."""
    calls, inner = [], getattr(module, name)

    def outer(*given, **named):
        result = inner(*given, **named)
        calls.append((given, named, result))
        return result

    monkeypatch.setattr(module, name, outer)
    return calls


def axes_of(monkeypatch, module, draw, *given):
    """The axes that a function of `module` draws into."""
    canvases, figure = [], module.figure
    finish = lambda: None  # to draw takes long
    monkeypatch.setattr(module, "figure", lambda *a, **b: (canvases.append(figure(*a, **b)[0]) or canvases[-1], finish))
    draw(*given)
    return canvases[0].axes


def line_of(axes, label):
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return np.asarray(line.get_ydata(), float)


def widths(network):
    return [layer.weight.shape[0] for layer in network.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize(("name", "argument", "value", "words"), [
    ("one-d-gan", "frames", 1, "at least 2"), ("minimax-value", "looks", 1, "at least 2"),
    ("minimax-value", "lr", 0, "above 0"), ("optimal-discriminator", "points", 1, "at least 2"),
    ("wasserstein", "penalty", 0, "above 0"), ("wasserstein", "clip", -1, "above 0"),
    ("wasserstein", "points", 3, "at least 4"), ("non-saturating", "batch", 1, "at least 2"),
])  # fmt: skip
def test_arguments_out_of_range_are_refused(name, argument, value, words):
    with pytest.raises(RunError, match=f"study {name}: {argument} must be {words}, it is {value}"):
        run_study(name, arguments={argument: value}, display=Display(io.StringIO(), live=False))


@pytest.mark.parametrize(("value", "near"), [(0.0004, "0.001"), (1 / 3, "0.333")])
def test_a_coin_that_a_batch_cannot_show_exactly_is_refused(value, near):
    for name, argument in (("optimal-discriminator", "p"), ("minimax-value", "q")):
        with pytest.raises(RunError, match=f"{argument} is counted in thousandths, it is .*; {near} is near"):
            find_study(name).run(**{argument: value})


# ---------------------------------------------------------------------------------- the best D


def test_two_outcomes_are_judged_by_p_over_p_plus_q(monkeypatch):
    trained = watched(monkeypatch, chapter, "best")
    found = told("optimal-discriminator", p=0.3, q=0.6, hidden=(4,), updates=200, points=32)
    first, second, _ = found.table
    assert (first["D*"], second["D*"]) == pytest.approx((0.3 / 0.9, 0.7 / 1.1))
    assert found.metrics["outcome_error"] == max(first["|D - D*|"], second["|D - D*|"]) < 1e-3
    assert [(row["p"], row["q"]) for row in (first, second)] == [(0.3, 0.6), (0.7, 0.4)]
    (_, _, real, fake, _), _, table = trained[0]
    np.testing.assert_allclose(real.numpy().mean(0), [0.3, 0.7], atol=1e-6)
    np.testing.assert_allclose(fake.numpy().mean(0), [0.6, 0.4], atol=1e-6)
    with tg.no_grad():
        logits = table(tg.eye(2)).numpy()[:, 0]
    assert [first["D"], second["D"]] == pytest.approx((1 / (1 + np.exp(-logits))).tolist(), abs=1e-6)
    for wrong in ({"p": 1.0}, {"q": 0.0}):
        with pytest.raises(RunError, match=f"{next(iter(wrong))} is a probability above 0 and below 1"):
            told("optimal-discriminator", **wrong)


def test_d_of_two_gaussians_is_compared_where_both_have_their_mass(monkeypatch):
    trained = watched(monkeypatch, chapter, "best")
    found = told("optimal-discriminator", hidden=(6, 5), updates=30, points=40, lr=0.02)
    (network, _, real, fake, updates), named, _ = trained[1]
    assert widths(network) == [6, 5, 1] and updates == 30 and named["lr"] == 0.02
    p, q = stats.norm(-1, 1), stats.norm(1, 1.5)
    np.testing.assert_allclose(np.sort(real.numpy()[:, 0]), p.ppf((np.arange(40) + 0.5) / 40), atol=1e-5)
    np.testing.assert_allclose(np.sort(fake.numpy()[:, 0]), q.ppf((np.arange(40) + 0.5) / 40), atol=1e-5)
    below = lambda x: (p.cdf(x) + q.cdf(x)) / 2
    ends = [optimize.brentq(lambda x, s=share: below(x) - s, -9, 9) for share in (0.005, 0.995)]
    x = np.linspace(*ends, 4001)
    with tg.no_grad():
        d = network(tg.tensor(x[:, None].astype(np.float32))).sigmoid().numpy()[:, 0]
    d_star = p.pdf(x) / (p.pdf(x) + q.pdf(x))
    distance = abs(d - d_star)
    assert found.metrics["density_error"] == pytest.approx(distance.max(), abs=5e-3)
    worst = found.table[2]
    assert worst["|D - D*|"] == pytest.approx(found.metrics["density_error"])
    at, *between = (float(word) for word in worst["at"].replace(", the worst of ", " ").replace(" to ", " ").split())
    assert between == pytest.approx(ends, abs=0.03)
    assert np.interp(at, x, distance) == pytest.approx(distance.max(), abs=5e-3)
    assert (worst["p"], worst["q"]) == pytest.approx((p.pdf(at), q.pdf(at)), rel=0.03)
    assert (worst["D*"], worst["D"]) == pytest.approx((np.interp(at, x, d_star), np.interp(at, x, d)), abs=0.01)


def test_the_best_d_learns_alone_and_its_rate_falls(monkeypatch):
    rates = []
    monkeypatch.setattr(chapter, "FALLING", lambda one, n: rates.append((one, n)) or schedule(one, n))
    schedule = tg.optim.lr_scheduler.CosineAnnealingLR
    network = nn.Linear(1, 1)
    with tg.no_grad():
        network.weight.zero_()
    found = chapter.best(network, games.minimax(), tg.ones(4, 1), -tg.ones(4, 1), 10, lr=0.1)
    assert found is network and found.weight.item() > 0.3  # D is large on real points
    assert rates[0][1] == 10 and rates[0][0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_the_best_d_has_its_penalty_and_its_optimizer_and_meets_other_pairs():
    """At w = 0 the slope of softplus(-w) + mean softplus(w y) + 3 w is -1/2 + mean(y) / 2 + 3."""
    pairs = []

    def penalty(critic, real, fake):
        pairs.append(tuple(fake.flatten().tolist()))
        return 3 * critic.weight.sum()

    tg.manual_seed(0)
    given = games.minimax(), tg.ones(8, 1), tg.arange(8).float()[:, None]
    for updates in (1, 3):
        network = nn.Linear(1, 1, bias=False)
        with tg.no_grad():
            network.weight.zero_()
        chapter.best(network, *given, updates, lr=0.1, penalty=penalty, optimizer=optim.SGD)
        if updates == 1:
            assert network.weight.item() == pytest.approx(-0.1 * (-0.5 + 3.5 / 2 + 3))
    assert len(set(pairs)) == 4 and all(sorted(order) == list(range(8)) for order in pairs)


# ---------------------------------------------------------------------------------- the game on the line


def test_a_look_says_what_the_game_is_worth():
    affine, network = nn.Linear(1, 1), nn.Linear(1, 1)
    with tg.no_grad():
        affine.weight.fill_(-0.9)
        affine.bias.fill_(1.1)
        network.weight.fill_(0.4)
        network.bias.fill_(-0.3)
    look = chapter._look(7, affine, network)
    p, q = stats.norm(1.5, 0.75), stats.norm(1.1, 0.9)
    d = lambda x: 1 / (1 + np.exp(0.3 - 0.4 * x))
    best = lambda x: p.pdf(x) / (p.pdf(x) + q.pdf(x))
    worth = lambda d: integrate.quad(lambda x: p.pdf(x) * np.log(d(x)) + q.pdf(x) * np.log(1 - d(x)), -5, 6)[0]
    assert (look.update, look.mean, look.sd) == (7, pytest.approx(1.1), pytest.approx(0.9))
    assert look.value == pytest.approx(worth(d), abs=1e-5) and look.best_value == pytest.approx(worth(best), abs=1e-5)
    below = lambda x: (p.cdf(x) + q.cdf(x)) / 2
    x = np.linspace(*[optimize.brentq(lambda x, s=s: below(x) - s, -9, 9) for s in (0.005, 0.995)], 2001)
    assert look.half() == pytest.approx(abs(d(x) - 0.5).max(), abs=0.01)
    assert look.error() == pytest.approx(abs(d(x) - best(x)).max(), abs=0.02)
    ends = chapter._ends(look)
    assert ends == {"game_value": look.value, "half_error": look.half(), "density_error": look.error()}


def test_a_game_is_played_from_its_start_for_all_updates(monkeypatch):
    played = watched(monkeypatch, chapter.GANStep, "__call__")
    tg.manual_seed(0)
    course = chapter.play(6, 50, (5, 3), 0.01, 4)
    assert [look.update for look in course] == [0, 2, 4, 6] and len(played) == 6
    assert (course[0].mean, course[0].sd) == (-1.5, 1.0)
    (step, (real, _)), _, _ = played[0]
    assert widths(step.discriminator) == [5, 3, 1] and step.discriminator_optimizer.param_groups[0]["lr"] == 0.01
    assert step.generator_optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    for optimizer in (step.generator_optimizer, step.discriminator_optimizer):
        assert type(optimizer) is optim.Adam and optimizer.param_groups[0]["betas"] == (0.5, 0.99)
    np.testing.assert_allclose(
        np.sort(real.numpy()[:, 0]), stats.norm.ppf((np.arange(50) + 0.5) / 50, 1.5, 0.75), atol=1e-5
    )
    assert course[-1].mean != -1.5
    assert step.noise(50).shape == (50, 1) and abs(step.noise(50).mean().item()) < 1e-6


def test_a_game_ends_near_the_data():
    """Not a third of the study's updates: V is near -log 4 already, and p_G near p_data."""
    tg.manual_seed(0)
    first, last = chapter.play(300, 64, (16,), 0.02, 2)
    assert last.mean == pytest.approx(1.5, abs=0.3) and last.sd == pytest.approx(0.75, abs=0.3)
    assert last.value == pytest.approx(-math.log(4), abs=0.1) and first.best_value > -0.5


def look(update, value=-1.3, answers=0.5):
    line = chapter.LINE.numpy()
    d = np.full(len(line), answers)
    return chapter.Look(update, 1.4, 0.8, d, d + 0.25, value, value + 0.1, abs(line - 1.5) < 2)


def test_the_value_of_two_outcomes_and_of_the_last_look(monkeypatch):
    asked = []
    monkeypatch.setattr(chapter, "play", lambda *given: asked.append(given) or [look(0, -0.5), look(9, -1.3, 0.4)])
    found = told("minimax-value", p=0.5, q=0.25, hidden=(7,), updates=9, points=33, lr=0.05, looks=2)
    assert asked == [(9, 33, (7,), 0.05, 2)]
    assert found.metrics == pytest.approx({
        "js_outcomes": 0.0338221, "value_outcomes": -1.3186502, "value_equal": -math.log(4),
        "game_value": -1.3, "half_error": 0.1, "density_error": 0.25,
    }, abs=1e-7)  # fmt: skip
    assert [(row["q"], row["JS"]) for row in found.table] == [
        ("0.25, 0.75", pytest.approx(0.0338221, abs=1e-7)), ("q = p", pytest.approx(0, abs=1e-9))]  # fmt: skip
    assert [row["V at D*"] for row in found.table] == pytest.approx([row["2 JS - 2 log 2"] for row in found.table])
    other = told("minimax-value", p=0.1, q=0.8).metrics
    p, q = np.array([0.1, 0.9]), np.array([0.8, 0.2])
    worth = (p * np.log(p / (p + q)) + q * np.log(q / (p + q))).sum()
    assert other["value_outcomes"] == pytest.approx(worth)
    assert other["js_outcomes"] == pytest.approx(worth / 2 + math.log(2))
    with pytest.raises(RunError, match="q is a probability"):
        told("minimax-value", q=1.0)


def test_the_film_has_a_frame_a_look_and_is_kept_as_a_gif(monkeypatch):
    from PIL import Image

    monkeypatch.setattr(chapter, "_draw_look", lambda look: Image.new("L", (20, 10), 30 * look.update))
    arguments = {"frames": 4, "updates": 6, "hidden": [3]}
    findings, folder = run_study("one-d-gan", arguments=arguments, display=Display(io.StringIO(), live=False))
    film = findings.pictures["film"]
    assert isinstance(film, Film) and len(film.frames) == 4
    with Image.open(folder / "film.gif") as picture:
        assert picture.n_frames == 4 and picture.size == (20, 10)
        for i, update in enumerate((0, 2, 4, 6)):
            picture.seek(i)
            assert picture.convert("L").getpixel((3, 3)) == 30 * update
    assert film.frames[-1] is findings.pictures["last_frame"] and (folder / "last_frame.png").exists()


def test_the_film_shows_the_game_that_is_measured(monkeypatch):
    asked, drawn = [], []
    course = [look(0), look(4), look(8, -1.2, 0.3)]
    monkeypatch.setattr(chapter, "play", lambda *given: asked.append(given) or course)
    monkeypatch.setattr(chapter, "_draw_look", drawn.append)
    found = told("one-d-gan", hidden=(7,), updates=8, points=33, lr=0.05, frames=3)
    assert asked == [(8, 33, (7,), 0.05, 3)] and all(a is b for a, b in zip(drawn, course, strict=True))
    assert found.metrics == pytest.approx({"game_value": -1.2, "half_error": 0.2, "density_error": 0.25})
    assert found.table == [{"of": "p_data", "mean": 1.5, "sd": 0.75}, {"of": "p_G", "mean": 1.4, "sd": 0.8}]


def test_a_frame_shows_where_g_sends_its_noise(monkeypatch):
    axes, below = axes_of(monkeypatch, chapter, chapter._draw_look, look(0, answers=0.3))
    (arrows,) = below.collections
    z = arrows.get_offsets()[:, 0]
    np.testing.assert_allclose(z, stats.norm.ppf((np.arange(15) + 0.5) / 15), atol=1e-5)
    np.testing.assert_allclose(z + arrows.U, 1.4 + 0.8 * z, atol=1e-5)
    assert np.nanmax(line_of(axes, "D")) == 0.3 and np.nanmax(line_of(axes, "D* = p_data / (p_data + p_G)")) == 0.55
    np.testing.assert_allclose(line_of(axes, "p_G"), stats.norm.pdf(chapter.LINE.numpy(), 1.4, 0.8), atol=1e-9)


def test_the_value_is_drawn_beside_that_of_the_best_d_and_the_least_of_all(monkeypatch):
    course = [look(0, -0.5), look(9, -1.3, 0.4)]
    left, middle, right = axes_of(monkeypatch, chapter, draw_value, (0.5, 0.25), course)
    for axes in (left, middle):
        assert line_of(axes, "-log 4") == pytest.approx([-math.log(4)] * 2)
    assert line_of(middle, "V(G, D)").tolist() == [-0.5, -1.3]
    assert line_of(middle, "V(G, D*), the best D's") == pytest.approx([-0.4, -1.2])
    assert line_of(right, "|D - D*|").tolist() == [0.25] * 2 and line_of(right, "|D - 1/2|") == pytest.approx([0, 0.1])
    curve = left.lines[0].get_xydata()
    js = np.array([np.mean([special.rel_entr(a, (a + b) / 2) for a, b in ((c, s), (s, c))], 0).sum()
                   for s in (np.array([q, 1 - q]) for q in curve[:, 0]) for c in [np.full(2, 0.5)]])  # fmt: skip
    np.testing.assert_allclose(curve[:, 1], 2 * js - math.log(4))


# ---------------------------------------------------------------------------------- transport


def test_critics_are_compared_with_the_distance_of_their_own_points(monkeypatch):
    monkeypatch.setattr(signals, "PAIRS", {name: signals.PAIRS[name] for name in ("shift 0.5", "shift 1", "two modes")})
    trained = watched(monkeypatch, signals, "best")
    found = told("wasserstein", penalty=7.0, clip=0.2, hidden=(5,), updates=8, points=16, lr=0.03)
    pairs = trained[:6]
    for row, (held, cut) in zip(found.table, zip(pairs[::2], pairs[1::2])):
        (critic, _, x, y, updates), named, _ = held
        assert updates == 8 and widths(critic) == [5, 1] and named["lr"] == 0.03 and "constrain" not in named
        (other, _, _, _, updates), clipping, _ = cut
        assert updates == 8 and widths(other) == [5, 1] and "penalty" not in clipping
        assert max(abs(p.detach().numpy()).max() for p in other.parameters()) <= np.float32(0.2)
        assert row["W"] == pytest.approx(stats.wasserstein_distance(x.numpy()[:, 0], y.numpy()[:, 0]), abs=1e-6)
        for network, name in ((critic, "penalty"), (other, "clipped")):
            with tg.no_grad():
                assert row[name] == pytest.approx((network(x).mean() - network(y).mean()).item(), abs=1e-7)
        assert row["error"] == pytest.approx(row["penalty"] / row["W"] - 1)
        assert row["clipped by W"] == pytest.approx(row["clipped"] / row["W"])
        assert clipping["lr"] == pytest.approx(0.4 * 0.03) and clipping["optimizer"] is optim.RMSprop
        adam = named["optimizer"](critic.parameters(), lr=1.0)
        assert type(adam) is optim.Adam and adam.param_groups[0]["betas"] == (0.0, 0.9)
        steep = nn.Linear(1, 1)
        with tg.no_grad():
            steep.weight.fill_(3.0)
        assert named["penalty"](steep, x, y).item() == pytest.approx(7.0 * (3 - 1) ** 2, rel=1e-5)  # it has grown
    exact, held, cut = (np.array([row[name] for row in found.table]) for name in ("W", "penalty", "clipped"))
    assert exact[:2] == pytest.approx([0.5, 1.0])
    assert found.metrics["critic_r"] == pytest.approx(np.corrcoef(held, exact)[0, 1])
    assert found.metrics["clipped_r"] == pytest.approx(np.corrcoef(cut, exact)[0, 1])
    assert found.metrics["clipped_shift_r"] == pytest.approx(np.corrcoef(cut[:2], exact[:2])[0, 1])
    assert found.metrics["critic_error"] == pytest.approx(abs(held / exact - 1).max())
    assert len(trained) == 6 + len(signals.THETAS)
    with pytest.raises(RunError, match="30 points cannot be cut into quarters; give a multiple of 4"):
        told("wasserstein", points=30)


def test_pairs_are_the_laws_that_their_names_say():
    """W = integral |F_p - F_q|; by hand for a shift, and where half of the mass moves by 1."""
    t = np.linspace(-4, 4, 8001)
    normal = lambda mean, sd: stats.norm.cdf(t, mean, sd)
    laws = {"narrower": normal(0, 0.08), "wider": normal(0, 0.6), "shift and narrower": normal(0.4, 0.12),
            "two modes": (normal(-0.5, 0.12) + normal(0.5, 0.12)) / 2}  # fmt: skip
    exact = {name: abs(normal(0, 0.25) - law).sum() * 1e-3 for name, law in laws.items()}
    exact |= {f"shift {theta:g}": theta for theta in (0.1, 0.25, 0.5, 1.0)} | {"unequal modes": 0.5}
    found = {name: transport.wasserstein(*(law.points(2000) for law in pair)) for name, pair in signals.PAIRS.items()}
    assert found == pytest.approx(exact, abs=2e-3)


def test_the_error_of_two_points_is_the_worst_of_all_places(monkeypatch):
    says = {-1.5: 1.4, -0.5: 0.2, 0.0: 0.1, 0.25: 0.25, 1.0: 1.1}
    asked = []
    monkeypatch.setattr(signals, "PAIRS", {name: signals.PAIRS[name] for name in ("shift 0.5", "shift 1", "two modes")})
    monkeypatch.setattr(signals, "_between_diracs", lambda theta, updates: asked.append(updates) or says[theta])
    assert told("wasserstein", hidden=(3,), updates=2, points=8).metrics["dirac_error"] == pytest.approx(0.3)
    assert asked == [2] * 5


@pytest.mark.parametrize("theta", [-1.5, 0.0, 0.25])
def test_the_linear_critic_of_two_points_says_how_far_they_are(theta):
    tg.manual_seed(0)
    assert signals._between_diracs(theta, 20) == pytest.approx(abs(theta))


def test_a_penalty_grows_to_its_weight_over_half_of_the_updates():
    critic = nn.Linear(2, 1)
    with tg.no_grad():
        critic.weight[:] = tg.tensor([[3.0, 0.0]])
    penalty = signals.growing(5.0, 8)
    found = [penalty(critic, tg.ones(4, 2), tg.zeros(4, 2)).item() for _ in range(8)]
    assert found == pytest.approx([5 * 4 * min(1, i / 4) ** 2 for i in range(8)], abs=1e-5)


# ---------------------------------------------------------------------------------- gradients of G


def dark_to_learn(path):
    draw = np.random.default_rng(0)
    x_train, x_test = (draw.integers(low, low + 60, (n, 1, 8, 8), np.uint8) for low, n in ((0, 60), (190, 20)))
    np.savez(path, x_train=x_train, x_test=x_test, y_train=np.arange(60) % 2, y_test=np.arange(20) % 2)


def gradients(seed=0, **arguments):
    dark_to_learn("mine.npz")
    given = {"arguments": arguments, "seed": seed, "data": "mine.npz", "display": Display(io.StringIO(), live=False)}
    return run_study("non-saturating", **given)[0]


def test_ratios_are_means_over_updates_of_the_non_saturating_over_the_minimax_norm(monkeypatch):
    norms = iter([(1.0, 2.0), (3.0, 3.0), (4.0, 24.0), (1.0, 10.0), (5.0, 5.0), (2.0, 8.0)])
    monkeypatch.setattr(signals.theory, "gradient_norms", lambda losses, parameters: next(norms))
    found = gradients(updates=3, batch=4, rounds=1)
    assert found.metrics == pytest.approx({
        "gradient_ratio_minimax": 3.0, "gradient_ratio_non_saturating": 5.0, "slope_minimax": -0.0179862,
        "slope_non_saturating": -0.9820138,
    }, abs=1e-6)  # fmt: skip
    assert [(row["first"], row["last"], row["ratio"]) for row in found.table] == [(2, 6, 3), (10, 4, 5)]
    assert [row["median"] for row in found.table] == [2, 4]


def test_both_gradients_are_of_one_forward_in_the_parameters_of_g(monkeypatch):
    asked = watched(monkeypatch, signals.theory, "gradient_norms")
    built, played = watched(monkeypatch, signals, "build"), watched(monkeypatch, chapter.GANStep, "__call__")
    build, judged = signals.build, []

    def heard(settings):
        step = build(settings)
        step.discriminator.register_forward_hook(lambda module, given, out: judged.append(out.detach().numpy()))
        return step

    monkeypatch.setattr(signals, "build", heard)
    found = gradients(updates=3, batch=10, rounds=3)
    plans = [given[0] for given, _, _ in built]
    assert [plan.arguments["objective"] for plan in plans] == ["minimax", "non-saturating"]
    assert all(plan.recipe == "dcgan" and plan.arguments["smoothing"] == 0 for plan in plans)
    assert all(plan.arguments["rounds"] == 3 and plan.batch_size == 30 for plan in plans)
    assert plans[0].seed == plans[1].seed and len(asked) == len(played) == 6
    for ((losses, parameters), _, norms), ((step, batch), _, _) in zip(asked, played):
        assert all(a is b for a, b in zip(parameters, step.generator.parameters(), strict=True))
        assert len(losses) == 2 and len(norms) == 2
        assert batch[0].shape[0] == 30 and batch[0].numpy().max() < 0.3  # training images
    assert asked[0][2] == pytest.approx(asked[3][2])  # both trainings start alike
    assert asked[1][2] != pytest.approx(asked[4][2])
    images = [batch[0].numpy() for (_, batch), _, _ in played[:3]]
    assert len(np.unique(np.concatenate(images[:2]), axis=0)) == 60  # two batches are all images
    assert len(np.unique(np.concatenate(images[::2]), axis=0)) > 30  # then they come in another order
    # D is asked once by the study, twice in each of three rounds, and once by G.
    assert len(judged) == 6 * 8 and all(len(logits) == 10 for logits in judged)
    for row, logits in zip(found.table, (judged[16], judged[40])):
        assert row["D(G(z)), last"] == pytest.approx(np.mean(1 / (1 + np.exp(-logits))), abs=1e-6)
    first = found.table[0]["first"]
    assert first == pytest.approx(asked[0][2][1] / asked[0][2][0])
    minimax, kept = (loss.item() for loss in asked[0][0][0])
    assert minimax < 0 < kept  # log(1 - D), then -log D


def test_the_seed_of_a_study_of_gradients_is_that_of_its_trainings(monkeypatch):
    built = watched(monkeypatch, signals, "build")
    for seed in (0, 0, 1):
        gradients(seed, updates=1, batch=2, rounds=1)
    first, _, same, _, other, _ = (given[0].seed for given, _, _ in built)
    assert first == same != other


def test_the_curves_of_both_objectives_are_drawn_with_their_slopes(monkeypatch):
    course = signals.Course(np.array([[1.0, 2.0], [3.0, 12.0]]), np.array([0.4, 0.2]))
    *two, right = axes_of(monkeypatch, signals, draw_gradients, {"minimax": course, "non-saturating": course})
    for axes in two:
        assert line_of(axes, "gradient of minimax").tolist() == [1, 3]
        assert line_of(axes, "gradient of non-saturating").tolist() == [2, 12]
        assert line_of(axes, "mean of D(G(z))").tolist() == [0.4, 0.2]
    for loss, slope in (right.lines[:2], right.lines[2:4]):
        a, values = np.asarray(loss.get_xdata()), np.asarray(loss.get_ydata())
        np.testing.assert_allclose(np.gradient(values, a)[1:-1], slope.get_ydata()[1:-1], atol=2e-3)


def test_a_study_of_gradients_needs_enough_images():
    with pytest.raises(RunError, match="3 rounds of 32 need 96 training images, and there are 60"):
        gradients(updates=1)
