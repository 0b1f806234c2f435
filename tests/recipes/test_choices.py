"""The rules that recipes choose: an unknown name is refused, and each recipe hands in those of its paper."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, observe, optim, training
from tinygen.data import Dataset
from tinygen.models import Bernoulli, Gaussian, penalties
from tinygen.networks.noisy import GaussianNoise
from tinygen.recipes import RECIPES, RunError, autoencoders, classifiers, find, gans, semi_supervised, start, vaes
from tinygen.recipes.recipe import Given

GIVEN = Given((1, 8, 8), tuple("0123456789"), 10)


@pytest.mark.parametrize("recipe", [vaes.vae, vaes.conv_vae, vaes.vae_d2])
def test_an_unknown_likelihood_is_refused(recipe):
    with pytest.raises(ValueError, match=r"poisson.*bernoulli.*gaussian"):
        recipe(GIVEN, likelihood="poisson")


@pytest.mark.parametrize("recipe", [gans.gan, gans.dcgan, gans.gan_ring])
def test_an_unknown_objective_is_refused(recipe):
    with pytest.raises(ValueError, match=r"hinge.*non-saturating.*minimax"):
        recipe(GIVEN, objective="hinge")


# ---------------------------------------------------------------------------------- what a recipe hands in

REAL, FAKE = np.array([0.5, -2.0], np.float32), np.array([1.5, -0.25], np.float32)
POINTS = Given((2,), tuple("01234567"), 10)


def softplus(a):
    return np.log1p(np.exp(a))


LOSSES = {  # of D and of G, in NumPy
    "non-saturating": (softplus(-REAL).mean() + softplus(FAKE).mean(), softplus(-FAKE).mean()),
    "minimax": (softplus(-REAL).mean() + softplus(FAKE).mean(), -softplus(FAKE).mean()),
    "least squares": (((REAL - 1) ** 2).mean() + (FAKE**2).mean(), ((FAKE - 1) ** 2).mean()),
    "wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
    "hinge": (np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean(), -FAKE.mean()),
    "smoothed": ((0.9 * softplus(-REAL) + 0.1 * softplus(REAL)).mean() + softplus(FAKE).mean(), softplus(-FAKE).mean()),
}
SMOOTHED = {"smoothing": 0.1}


@pytest.mark.parametrize(
    ("recipe", "given", "options", "losses", "optimizer", "betas"),
    [(gans.gan, GIVEN, {}, "non-saturating", optim.Adam, (0.5, 0.999)),
     (gans.gan, GIVEN, {"objective": "minimax"}, "minimax", optim.Adam, (0.5, 0.999)),
     (gans.dcgan, GIVEN, {}, "non-saturating", optim.Adam, (0.5, 0.999)),
     (gans.lsgan, GIVEN, {}, "least squares", optim.Adam, (0.5, 0.999)),
     (gans.wgan, GIVEN, {}, "wasserstein", optim.RMSprop, None),
     (gans.wgan_gp, GIVEN, {}, "wasserstein", optim.Adam, (0.5, 0.9)),
     (gans.hinge_gan, GIVEN, {}, "hinge", optim.Adam, (0.5, 0.999)),
     (gans.cgan, GIVEN, {}, "non-saturating", optim.Adam, (0.5, 0.999)),
     (gans.progressive_gan, GIVEN, {}, "non-saturating", optim.Adam, (0.5, 0.999)),
     *((one, GIVEN, SMOOTHED, "smoothed", optim.Adam, (0.5, 0.999)) for one in
       (gans.gan, gans.dcgan, gans.dcgan_averaged, gans.tinted_dcgan, gans.cgan, gans.progressive_gan)),
     (gans.gan_ring, POINTS, {}, "non-saturating", optim.Adam, (0.5, 0.999)),
     (gans.wgan_gp_ring, POINTS, {}, "wasserstein", optim.Adam, (0.5, 0.9))],
)  # fmt: skip
def test_a_game_is_that_of_its_paper(recipe, given, options, losses, optimizer, betas):
    step = recipe(given, **options)
    for_d = step.game.discriminator(tg.tensor(REAL), tg.tensor(FAKE)).item()
    assert (for_d, step.game.generator(tg.tensor(FAKE)).item()) == pytest.approx(LOSSES[losses], rel=1e-5)
    for player in (step.discriminator_optimizer, step.generator_optimizer):
        assert type(player) is optimizer and (betas is None or player.param_groups[0]["betas"] == betas)
    assert bool(getattr(step, "constrain", None)) is (recipe is gans.wgan)
    assert bool(getattr(step, "penalty", None)) is (recipe in (gans.wgan_gp, gans.wgan_gp_ring))


@pytest.mark.parametrize(
    ("recipe", "norms", "spectral"),
    [(gans.dcgan, 1, 0), (gans.lsgan, 1, 0), (gans.cgan, 1, 0), (gans.hinge_gan, 0, 3), (gans.wgan, 0, 0),
     (gans.wgan_gp, 0, 0)],
)  # fmt: skip
def test_batch_norm_and_spectral_norm_are_in_the_discriminators_of_their_papers(recipe, norms, spectral):
    """A penalty speaks of one image's gradient, and batch norm mixes images; spectral norm is on every weight."""
    layers = list(recipe(GIVEN).discriminator.modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in layers) == norms
    weighted = [m for m in layers if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 3 and sum(hasattr(m, "weight_orig") for m in weighted) == spectral


@pytest.mark.parametrize("recipe", ["wgan", "wgan-gp", "wgan-gp-ring"])
def test_a_critic_is_held_as_in_its_paper_and_has_a_whole_batch_for_each_of_five_updates(recipe):
    """Weights are cut to [-0.01, 0.01]; of a flat critic (|grad D| - 1)^2 is 1, and its weight 10."""
    step = find(recipe).build(POINTS if recipe.endswith("ring") else GIVEN)
    if recipe == "wgan":
        step.constrain(step.discriminator)
        assert max(abs(p.numpy()).max() for p in step.discriminator.state_dict().values()) == np.float32(0.01)
    else:
        assert step.penalty(lambda x: 0 * x.flatten(1).sum(1), *2 * [tg.rand(4, 2)]).item() == 10
    whole = find("gan-ring" if recipe.endswith("ring") else "dcgan").batch_size
    assert step.rounds == 5 and find(recipe).batch_size == 5 * whole


def test_the_averaged_gan_alone_keeps_an_average_where_none_is_asked_for():
    assert gans.dcgan_averaged(GIVEN).average.decay == 0.999
    assert gans.dcgan(GIVEN).average is None and gans.gan(GIVEN).average is None


@pytest.mark.parametrize("upsample", ["transposed", "resized"])
def test_planes_are_doubled_as_the_option_says(upsample):
    kinds = [type(m).__name__ for m in gans.dcgan(GIVEN, upsample=upsample).generator.up]
    assert kinds == [{"transposed": "ConvTranspose2d", "resized": "Resized"}[upsample]] * 2


@pytest.mark.parametrize("recipe", [gans.gan, semi_supervised.ssgan])
def test_one_player_s_widths_are_the_other_s_in_reverse(recipe):
    """A generator widens towards the image, a discriminator narrows from it; `hidden` is in the documented order."""
    step = recipe(GIVEN, hidden=(7, 5))
    of = lambda network: [m.out_features for m in network.modules() if isinstance(m, nn.Linear)]
    named, other = (step.generator, step.discriminator)[:: 1 if recipe is gans.gan else -1]
    assert of(named)[:2] == [7, 5] and of(other)[:2] == [5, 7]


@pytest.mark.parametrize(
    ("recipe", "least", "options"),
    [("wgan", 10, {}), ("gan", 6, {"rounds": 3}), ("gan", 2, {}), ("cgan", 2, {}), ("ssgan", 2, {}),
     ("progressive-gan", 2, {})],
)  # fmt: skip
def test_every_update_of_a_game_needs_two_images_to_normalise_by(recipe, least, options, tmp_path):
    given = {"preset": "tiny", "limit": 40, "arguments": options}
    with pytest.raises(RunError, match=f"batch of {least - 1}, and one update needs {least} examples: give"):
        start(recipe, folder=tmp_path / "refused", batch_size=least - 1, **given)
    run = start(recipe, folder=tmp_path / "run", batch_size=least, **given)
    metrics = run.step(training.to_tensors(run.batches.at(0, 0)))
    assert all(np.isfinite(value.item()) for value in metrics.values())


# ---------------------------------------------------------------------------------- the semi-supervised game


def test_the_semi_supervised_game_hands_in_what_it_is_told():
    noises = lambda step: [m.deviation for m in step.discriminator.modules() if isinstance(m, GaussianNoise)]
    assert noises(semi_supervised.ssgan(GIVEN, hidden=(7, 5), noise=0.1, hidden_noise=0.2)) == [0.1, 0.2, 0.2]
    step, rates = semi_supervised.ssgan(GIVEN, hidden=(7, 5), lr=0.5), []
    for _ in range(GIVEN.steps + 1):
        players = step.generator_optimizer, step.discriminator_optimizer
        rates.append([player.param_groups[0]["lr"] for player in players])
        step.generator_schedule.step(), step.discriminator_schedule.step()
    assert rates == pytest.approx(np.array([[0.5 * (1 - t / 10)] * 2 for t in range(11)]))


@pytest.mark.parametrize("objective", [None, "feature-matching", "judged-real"])
def test_the_semi_supervised_generator_s_objective_is_that_of_its_name(objective):
    step = semi_supervised.ssgan(GIVEN, hidden=(7, 5), **({"objective": objective} if objective else {}))
    real, fake = tg.rand(6, 1, 8, 8), tg.rand(4, 1, 8, 8)
    step.discriminator.eval()
    with tg.no_grad():
        found = step.objective(step.discriminator, real, fake).item()
        logits = step.discriminator(fake).numpy().astype(float)
        means = [step.discriminator.features(x).numpy().mean(0) for x in (real, fake)]
    z = np.exp(logits).sum(1)
    judged, matched = -np.log(z / (z + 1)).mean(), ((means[0] - means[1]) ** 2).mean()
    assert found == pytest.approx(judged if objective == "judged-real" else matched, rel=1e-4)


def test_the_learning_rate_of_lenet_falls_to_0():
    step = classifiers.lenet(GIVEN, lr=0.5)
    rates = []
    for _ in range(GIVEN.steps + 1):
        rates.append(step.optimizer.param_groups[0]["lr"])
        step.schedule.step()
    assert rates == pytest.approx([0.5 * (1 - t / 10) for t in range(11)])


def test_the_default_likelihood_is_bernoulli():
    for recipe in (vaes.vae, vaes.conv_vae, vaes.vae_d2):
        assert isinstance(recipe(GIVEN).likelihood, Bernoulli)
        assert isinstance(recipe(GIVEN, likelihood="gaussian").likelihood, Gaussian)


MNIST = Given((1, 28, 28), tuple("0123456789"), 10)
WIDTHS = {  # of the linear layers: the encoder's, the two heads', the decoder's
    vaes.vae: ([(784, 400)], (400, 20), [(20, 400), (400, 784)]),
    vaes.vae_d2: ([(784, 512), (512, 256)], (256, 2), [(2, 256), (256, 512), (512, 784)]),
    vaes.vae_binarised: ([(784, 400)], (400, 20), [(20, 400), (400, 784)]),
    vaes.iwae: ([(784, 400)], (400, 20), [(20, 400), (400, 784)]),
    vaes.conv_vae: ([(64 * 7 * 7, 256)], (256, 20), [(20, 256), (256, 64 * 7 * 7)]),
}


@pytest.mark.parametrize("recipe", WIDTHS, ids=lambda r: r.__name__)
def test_a_vae_has_the_widths_that_its_figures_are_known_for(recipe):
    step, (encoder, head, decoder) = recipe(MNIST), WIDTHS[recipe]
    sizes = lambda network: [p.shape[::-1] for p in network.parameters() if p.ndim == 2]
    assert sizes(step.encoder) == [*encoder, head, head] and sizes(step.decoder) == decoder
    assert step.latent == head[1] and getattr(step, "beta", 1.0) == 1.0


@pytest.mark.parametrize("recipe", WIDTHS, ids=lambda r: r.__name__)
def test_the_decoder_of_a_vae_mirrors_its_encoder(recipe):
    step = recipe(MNIST, hidden=(7, 5))
    widths = lambda network: [m.out_features for m in network.modules() if isinstance(m, nn.Linear)]
    assert widths(step.encoder)[:2] == [7, 5] and widths(step.decoder)[:2] == [5, 7]


@pytest.mark.parametrize("recipe", [vaes.vae_binarised, vaes.iwae])
def test_images_in_black_and_white_are_so_in_training_and_in_the_test(recipe):
    """On above 1/2, not at it: an update and a measurement of grey images are those of the black and white ones."""
    grey = np.random.default_rng(0).random((6, 1, 8, 8)).astype("f4")
    grey[0, 0, 0] = 0.5
    found = []
    for images in (grey, (grey > 0.5).astype("f4"), grey):
        tg.manual_seed(0)
        step = recipe(GIVEN)
        if len(found) == 2:
            step.prepare = None
        batch = (tg.tensor(images), None)
        found.append([step(batch)["loss"].item(), *(value.item() for value in step.measure(batch).values())])
    assert found[0] == found[1] and all(abs(a - b) > 1e-3 for a, b in zip(found[0][:2], found[2][:2]))


def test_an_iwae_draws_five_codes():
    assert vaes.iwae(GIVEN).samples == 5 and vaes.iwae(GIVEN, samples=2).samples == 2


# ---------------------------------------------------------------------------------- autoencoders

IMAGES = tg.tensor(np.random.default_rng(0).random((200, 1, 8, 8), np.float32))
SPOILT = {  # the corruption and its strength
    "denoising-gauss30": ("noise", 0.3), "denoising-mask30": ("holes", 0.3), "denoising-mask50": ("holes", 0.5),
    "conv-denoising-gauss30": ("noise", 0.3), "conv-denoising-mask30": ("holes", 0.3),
    "conv-denoising-mask50": ("holes", 0.5), "overcomplete-denoising": ("noise", 0.3),
}  # fmt: skip
PENALTIES = {"l1-autoencoder": "weights_l1", "l2-autoencoder": "weights_l2", "sparse-autoencoder": "code_l1",
             "contractive-autoencoder": "contractive",
             "deep-contractive-autoencoder": "contractive", "smooth-autoencoder": "total_variation"}  # fmt: skip
AUTOENCODERS = [name for name, found in RECIPES.items() if found.chapter == autoencoders.__name__]
LINEAR = ["overcomplete-autoencoder", "overcomplete-denoising"]


@pytest.mark.parametrize("name", [name for name in AUTOENCODERS if name not in LINEAR])
def test_an_autoencoder_s_images_lie_in_0_to_1(name):
    step = find(name).build(GIVEN)
    codes = 1e5 * tg.randn(*step.encode(IMAGES[:4]).shape)
    images = step.decoder(codes).detach().numpy()
    assert 0 <= images.min() < 0.01 and 0.99 < images.max() <= 1


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_denoiser_sees_the_corruption_of_its_name_and_no_other_one_sees_any(name):
    corrupt = find(name).build(GIVEN).corrupt
    kind, strength = SPOILT.get(name, (None, 0))
    if kind is None:
        assert corrupt is None
        return
    seen, x = corrupt(IMAGES).numpy(), IMAGES.numpy()
    if kind == "noise":
        assert (seen - x).std() == pytest.approx(strength, rel=0.03) and abs((seen - x).mean()) < 0.01
    else:
        black = seen == 0
        assert black.mean() == pytest.approx(strength, abs=3 * np.sqrt(0.25 / x.size))  # p +- 3 sigma
        assert (seen[~black] == x[~black]).all()
    assert not np.array_equal(corrupt(IMAGES).numpy(), seen)  # drawn anew


@pytest.mark.parametrize("name", SPOILT)
def test_a_denoiser_stands_beside_the_linear_one_of_its_corruption(name):
    """On pixels without a relation the best map shrinks each: an error of v r / (v + r), r the corruption's own."""
    kind, strength = SPOILT[name]
    draw = np.random.default_rng(1)
    train, test = (draw.random((n, 1, 8, 8), np.float32) for n in (6000, 500))
    dataset = Dataset("drawn", train, None, test, None, ())
    recipe = find(name)
    found = {b.what: b.value for b in (f(dataset, recipe.defaults()) for f in recipe.baselines)}
    variance, mean = 1 / 12, 1 / 2
    shared = variance  # the covariance of clean and corrupted
    spread = variance + strength**2
    if kind == "holes":
        shared = (1 - strength) * variance
        spread = shared + strength * (1 - strength) * mean**2
    assert found["the best linear denoiser"] == pytest.approx(variance - shared**2 / spread, rel=0.04)


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_is_that_of_its_name(name):
    step = find(name).build(GIVEN, strength=0.5)
    x = IMAGES[:5]
    code = step.encode(x)
    networks = step.encoder, step.decoder, x, code, step.decode(code)
    assert step.penalty(*networks).item() == pytest.approx(
        getattr(penalties, PENALTIES[name])(0.5)(*networks).item(), rel=1e-4
    )
    assert (step.constrain is penalties.unit_columns) == (name == "sparse-autoencoder")


@pytest.mark.parametrize(
    ("name", "widths"),
    [("autoencoder", (512, 256, 32, 256, 512, 64)), ("autoencoder-d2", (512, 256, 2, 256, 512, 64)),
     ("autoencoder-d5", (512, 256, 5, 256, 512, 64)), ("shallow-autoencoder", (678, 2, 678, 64)),
     ("sparse-autoencoder", (512, 256, 512, 64)), ("denoising-gauss30", (512, 256, 512, 64)),
     ("denoising-mask30", (512, 256, 512, 64)), ("denoising-mask50", (512, 256, 512, 64)),
     ("overcomplete-autoencoder", (800, 64)), ("contractive-autoencoder", (120,)),
     ("deep-contractive-autoencoder", (256, 10, 256, 64))],
)  # fmt: skip
def test_layers_are_those_of_the_lecture(name, widths):
    """A long code is behind a ReLU, a short one is not."""
    step = find(name).build(GIVEN)
    layers = [m for network in (step.encoder, step.decoder) for m in network.modules()]
    assert tuple(m.out_features for m in layers if isinstance(m, nn.Linear)) == widths
    code = step.encode(IMAGES).detach().numpy()
    cut = name.startswith(("sparse", "denoising"))
    assert (code.min() == 0) == cut and (code.max() > 0)
    if "contractive" in name:
        assert code.min() > 0 and code.max() < 1


def test_a_sparse_encoder_starts_with_he_s_weights():
    """From torch's, a third of its units would be 0 for every image and stay so."""
    w, b, v, c = (p.detach().numpy() for p in find("sparse-autoencoder").build(GIVEN).encoder.parameters())
    assert (b == 0).all() and (c == 0).all()
    assert w.std() == pytest.approx((2 / 64) ** 0.5, rel=0.03) and v.std() == pytest.approx((2 / 512) ** 0.5, rel=0.03)


@pytest.mark.parametrize("name", [name for name in SPOILT if name.startswith("conv")])
def test_a_convolutional_denoiser_has_no_linear_layer(name):
    step = find(name).build(GIVEN)
    kinds = [type(m) for network in (step.encoder, step.decoder) for m in network.modules()]
    assert nn.Linear not in kinds and kinds.count(nn.Conv2d) == kinds.count(nn.ConvTranspose2d) == 2
    assert step.encode(IMAGES).shape == (200, 64, 2, 2)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_the_learning_rate_of_an_autoencoder_falls_at_the_end_of_the_training(name):
    step = find(name).build(GIVEN, lr=0.5)
    for _ in range(8):
        step.schedule.step()
    assert step.optimizer.param_groups[0]["lr"] == pytest.approx(0.3)  # .6 of it after 8 of GIVEN's 10 updates


def test_deep_and_shallow_have_as_many_parameters():
    for shape in ((1, 28, 28), (1, 8, 8)):
        counts = []
        for name in ("autoencoder-d2", "shallow-autoencoder"):
            widths = find(name).preset("small")[1] if shape[1] == 8 else {}
            step = find(name).build(Given(shape, (), 1), **widths)
            counts.append(sum(p.numel() for network in step.networks().values() for p in network.parameters()))
        assert counts[1] == pytest.approx(counts[0], rel=1e-3)


@pytest.mark.parametrize("name", SPOILT)
def test_a_denoiser_needs_a_corruption(name):
    argument = next(a for a in ("sd", "p", "noise") if a in find(name).arguments())
    for value in (0, 1) if argument == "p" else (0,):
        refused = f"^{argument} of {name} must be above 0.*, it is {value}; .* is its own.*tinygen train autoencoder"
        with pytest.raises(RunError, match=refused):
            start(name, preset="tiny", arguments={argument: value})
    with pytest.raises(RunError, match=rf"^{name} cannot be built .*'{argument}': -1"):
        start(name, preset="tiny", arguments={argument: -1})


def test_an_overcomplete_autoencoder_sees_noise_or_none_but_not_less():
    for noise in (0, 0.2):
        assert start("overcomplete-autoencoder", preset="tiny", arguments={"noise": noise}).step is not None
    with pytest.raises(RunError, match=r"'noise': -0\.1.*: gaussian: sd is a standard deviation, at least 0; it is -0"):
        start("overcomplete-autoencoder", preset="tiny", arguments={"noise": -0.1})


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_may_be_left_out_but_is_no_reward(name):
    start(name, preset="tiny", arguments={"strength": 0})
    refused = f"^{name} cannot be built .*'strength': -1.*: a penalty's strength must be at least 0, it is -1"
    with pytest.raises(RunError, match=refused):
        start(name, preset="tiny", arguments={"strength": -1})


def flops_of_an_update(step):
    x = tg.rand(2, *MNIST.shape)
    step((x, None))
    with observe.count_flops() as counted:
        step((x, None))
    return counted.total


def test_growing_multiplies_as_often_as_ten_epochs_of_dcgan():
    """Its bar is dcgan's figure, at equal multiplications: each phase's, times its updates."""
    epoch = 60_000 // 64
    plan = find("progressive-gan")
    step = gans.progressive_gan(MNIST._replace(steps=plan.epochs * epoch))
    assert (step.plan.stay, step.plan.fade) == (round(1.1 * epoch), round(0.55 * epoch))
    updates, found = Counter(), 0
    for i in range(plan.epochs * epoch):
        step.schedule.last_epoch = i
        updates[step.phase] += 1
    first = 0
    for count in updates.values():
        step.schedule.last_epoch = first
        found += count * flops_of_an_update(step)
        first += count
    assert len(updates) == 5 and find("dcgan").epochs == 10
    assert 0.97 < found / (10 * epoch * flops_of_an_update(gans.dcgan(MNIST))) <= 1
