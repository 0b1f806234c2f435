"""Losses: values and gradients against torch for every reduction and option; two orders of derivatives; errors."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
import tinygen.nn.functional as F
from tinygen import nn
from tinygen.nn import loss as loss_modules
from tinygen.nn import losses
from tinygen.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")
TF = torch.nn.functional

R = np.random.default_rng(7)


def normal(*shape):
    return R.standard_normal(shape)


def uniform(*shape):
    return R.uniform(0.05, 0.95, shape)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def softmax(x):
    return np.exp(log_softmax(x))


SIGNS = np.array([1.0, -1.0, 1.0, 1.0, -1.0])
LABELS = np.array([2, 0, 1, 2, 2])
IGNORED = np.array([2, -100, 1, -100, 0])
W3 = np.array([0.5, 2.0, 1.5])
MAPS = R.integers(0, 3, (2, 4, 2))
NAMES = {"gaussian_nll_loss": ("mean", "sum", "none")}

CASES = {  # name: (loss, tensors that vary, constants that follow, options)
    "mse_loss": ("mse_loss", [normal(3, 4), normal(3, 4)], [], {}),
    "mse_loss scalar": ("mse_loss", [normal(), normal()], [], {}),
    "l1_loss": ("l1_loss", [normal(3, 4), normal(3, 4)], [], {}),
    "smooth_l1_loss": ("smooth_l1_loss", [normal(3, 4), normal(3, 4)], [], {}),
    "smooth_l1_loss beta": ("smooth_l1_loss", [normal(3, 4), normal(3, 4)], [], {"beta": 0.3}),
    "smooth_l1_loss beta 0": ("smooth_l1_loss", [normal(3, 4), normal(3, 4)], [], {"beta": 0.0}),
    "huber_loss": ("huber_loss", [normal(3, 4) * 2, normal(3, 4)], [], {"delta": 1.3}),
    "gaussian_nll_loss": ("gaussian_nll_loss", [normal(3, 4), normal(3, 4), uniform(3, 4)], [], {"full": True}),
    "poisson_nll_loss": ("poisson_nll_loss", [normal(3, 4), uniform(3, 4) * 4], [], {"full": True}),
    "poisson_nll_loss rate": (
        "poisson_nll_loss", [uniform(3, 4), uniform(3, 4) * 4], [], {"log_input": False, "eps": 0.1},
    ),
    "gaussian_nll_loss per row": ("gaussian_nll_loss", [normal(3, 4), normal(3, 4), uniform(3)], [], {}),
    "gaussian_nll_loss column": ("gaussian_nll_loss", [normal(3, 4), normal(3, 1), uniform(3, 1)], [], {}),
    "gaussian_nll_loss last": ("gaussian_nll_loss", [normal(3, 4), normal(4), uniform(1, 4)], [], {}),
    "binary_cross_entropy": ("binary_cross_entropy", [uniform(3, 4), uniform(3, 4)], [], {}),
    "binary_cross_entropy weight": ("binary_cross_entropy", [uniform(3, 4), uniform(3, 4)], [uniform(4)], {}),
    "binary_cross_entropy_with_logits": ("binary_cross_entropy_with_logits", [normal(3, 4) * 4, uniform(3, 4)], [], {}),
    "binary_cross_entropy_with_logits weights": (
        "binary_cross_entropy_with_logits", [normal(3, 4), uniform(3, 4)], [uniform(3, 1)],
        {"pos_weight": uniform(4) * 3},
    ),
    "cross_entropy": ("cross_entropy", [normal(5, 3)], [LABELS], {}),
    "cross_entropy one": ("cross_entropy", [normal(3)], [np.array(1)], {}),
    "cross_entropy weight": ("cross_entropy", [normal(5, 3)], [LABELS, W3], {}),
    "cross_entropy ignored": ("cross_entropy", [normal(5, 3)], [IGNORED], {}),
    "cross_entropy smooth": ("cross_entropy", [normal(5, 3)], [LABELS], {"label_smoothing": 0.1}),
    "cross_entropy smooth weight": ("cross_entropy", [normal(5, 3)], [LABELS, W3], {"label_smoothing": 0.2}),
    "cross_entropy smooth ignored": ("cross_entropy", [normal(5, 3)], [IGNORED], {"label_smoothing": 0.2}),
    "cross_entropy smooth all": ("cross_entropy", [normal(5, 3)], [IGNORED, W3], {"label_smoothing": 0.2}),
    "cross_entropy ignore_index": ("cross_entropy", [normal(5, 3)], [LABELS, W3], {"ignore_index": 2}),
    "cross_entropy maps": ("cross_entropy", [normal(2, 3, 4, 2)], [MAPS, W3], {"label_smoothing": 0.1}),
    "cross_entropy probabilities": ("cross_entropy", [normal(5, 3), softmax(normal(5, 3))], [], {}),
    "cross_entropy probabilities all": (
        "cross_entropy", [normal(2, 3, 4), softmax(normal(2, 3, 4))], [W3], {"label_smoothing": 0.1},
    ),
    "nll_loss": ("nll_loss", [log_softmax(normal(5, 3))], [LABELS], {}),
    "nll_loss all": ("nll_loss", [log_softmax(normal(5, 3))], [IGNORED, W3], {}),
    "nll_loss maps": ("nll_loss", [normal(2, 3, 4, 2)], [MAPS], {"ignore_index": 0}),
    "kl_div": ("kl_div", [log_softmax(normal(4, 3)), softmax(normal(4, 3))], [], {}),
    "kl_div log": ("kl_div", [log_softmax(normal(4, 3)), log_softmax(normal(4, 3))], [], {"log_target": True}),
    "hinge_embedding_loss": ("hinge_embedding_loss", [normal(5)], [SIGNS], {"margin": 0.7}),
    "hinge_embedding_loss other targets": ("hinge_embedding_loss", [normal(5)], [np.arange(5.0) - 2], {}),
    "margin_ranking_loss": ("margin_ranking_loss", [normal(5), normal(5)], [SIGNS], {"margin": 0.2}),
    "triplet_margin_loss": ("triplet_margin_loss", [normal(5, 4), normal(5, 4), normal(5, 4)], [], {"margin": 0.8}),
    "triplet_margin_loss swap": (
        "triplet_margin_loss", [normal(5, 4), normal(5, 4), normal(5, 4)], [], {"p": 3, "swap": True, "eps": 1e-3},
    ),
    "cosine_embedding_loss": ("cosine_embedding_loss", [normal(5, 4), normal(5, 4)], [SIGNS], {"margin": -0.3}),
    "cosine_embedding_loss one": ("cosine_embedding_loss", [normal(4), normal(4)], [np.array(1.0)], {}),
}  # fmt: skip


def reductions(name):
    return ("mean", "sum", "none", "batchmean") if name.startswith("kl_div") else ("mean", "sum", "none")


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("name, reduction", [(n, r) for n in CASES for r in reductions(n)])
def test_equals_torch(name, reduction):
    loss, varying, constant, options = CASES[name]
    xs, hs = [tg.tensor(v).requires_grad_() for v in varying], [torch.tensor(v, requires_grad=True) for v in varying]

    def tensors(make, values):
        return {k: make(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}

    y = getattr(F, loss)(*xs, *map(tg.tensor, constant), reduction=reduction, **tensors(tg.tensor, options))
    h = getattr(TF, loss)(*hs, *map(torch.tensor, constant), reduction=reduction, **tensors(torch.tensor, options))
    np.testing.assert_allclose(y.detach().numpy(), h.detach().numpy(), rtol=1e-9, atol=1e-12)
    g = np.random.default_rng(0).standard_normal(tuple(h.shape))
    y.backward(tg.tensor(g))
    h.backward(torch.tensor(g))
    for x, r in zip(xs, hs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), r.grad.numpy(), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_has_two_orders_of_derivatives(name):
    loss, varying, constant, options = CASES[name]
    fixed = [tg.tensor(v) for v in constant]
    given = {k: tg.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}

    def f(*xs):
        return getattr(F, loss)(*xs, *fixed, **given)

    assert gradcheck(f, [tg.tensor(v) for v in varying], directions=2)
    assert gradgradcheck(f, [tg.tensor(v) for v in varying], directions=2)


def test_every_loss_is_covered():
    tested = {case[0] for case in CASES.values()} | {"hinge_loss", "cosine_similarity", "pairwise_distance"}
    assert tested == set(losses.__all__)
    modules = {n for n in loss_modules.__all__ if n.endswith("Loss")}
    assert {type(m).__name__ for m, *_ in MODULES} == modules


def test_hinge_loss():
    scores, target = (
        tg.tensor([2.0, 0.5, -1.0, -3.0], dtype=tg.float64),
        tg.tensor([1.0, 1.0, 1.0, -1.0], dtype=tg.float64),
    )
    assert F.hinge_loss(scores, target, reduction="none").tolist() == [0, 0.5, 2, 0]
    assert F.hinge_loss(scores, target, margin=2.0).item() == (0 + 1.5 + 3 + 0) / 4
    assert gradcheck(lambda x: F.hinge_loss(x, target), [scores]) and gradgradcheck(
        lambda x: F.hinge_loss(x, target), [scores]
    )


MODULES = [  # module, the function with the same options, arguments
    (nn.MSELoss(reduction="sum"), lambda *a: F.mse_loss(*a, reduction="sum"), (normal(3), normal(3))),
    (nn.L1Loss(), F.l1_loss, (normal(3), normal(3))),
    (nn.SmoothL1Loss(beta=0.5), lambda *a: F.smooth_l1_loss(*a, beta=0.5), (normal(3), normal(3))),
    (nn.HuberLoss(delta=0.5), lambda *a: F.huber_loss(*a, delta=0.5), (normal(3), normal(3))),
    (nn.BCELoss(tg.tensor(W3)), lambda *a: F.binary_cross_entropy(*a, tg.tensor(W3)), (uniform(3), uniform(3))),
    (
        nn.BCEWithLogitsLoss(pos_weight=tg.tensor(W3)),
        lambda *a: F.binary_cross_entropy_with_logits(*a, pos_weight=tg.tensor(W3)),
        (normal(3), uniform(3)),
    ),
    (
        nn.CrossEntropyLoss(tg.tensor(W3), label_smoothing=0.1),
        lambda *a: F.cross_entropy(*a, tg.tensor(W3), label_smoothing=0.1),
        (normal(5, 3), LABELS),
    ),
    (nn.NLLLoss(ignore_index=2), lambda *a: F.nll_loss(*a, ignore_index=2), (normal(5, 3), LABELS)),
    (
        nn.KLDivLoss(reduction="batchmean", log_target=True),
        lambda *a: F.kl_div(*a, reduction="batchmean", log_target=True),
        (normal(3, 2), normal(3, 2)),
    ),
    (nn.HingeEmbeddingLoss(0.5), lambda *a: F.hinge_embedding_loss(*a, 0.5), (normal(5), SIGNS)),
    (nn.MarginRankingLoss(0.5), lambda *a: F.margin_ranking_loss(*a, 0.5), (normal(5), normal(5), SIGNS)),
    (
        nn.TripletMarginLoss(0.5, swap=True),
        lambda *a: F.triplet_margin_loss(*a, 0.5, swap=True),
        (normal(5, 2), normal(5, 2), normal(5, 2)),
    ),
    (nn.CosineEmbeddingLoss(0.1), lambda *a: F.cosine_embedding_loss(*a, 0.1), (normal(5, 2), normal(5, 2), SIGNS)),
    (nn.PoissonNLLLoss(full=True), lambda *a: F.poisson_nll_loss(*a, full=True), (normal(3), uniform(3) * 4)),
    (nn.GaussianNLLLoss(full=True), lambda *a: F.gaussian_nll_loss(*a, full=True), (normal(3), normal(3), uniform(3))),
]


@pytest.mark.parametrize("module, function, values", MODULES, ids=[type(m).__name__ for m, *_ in MODULES])
def test_modules_call_their_function_with_their_options(module, function, values):
    tensors = [tg.tensor(v) for v in values]
    assert np.array_equal(module(*tensors).numpy(), function(*tensors).numpy())
    assert repr(module).startswith(type(module).__name__ + "(") and "reduction=" in repr(module)


def test_a_loss_weight_moves_with_its_module():
    loss = nn.CrossEntropyLoss(tg.tensor(W3)).float()
    assert loss(tg.zeros(2, 3), tg.tensor([0, 1])).dtype == np.float32 and list(loss.state_dict()) == ["weight"]


# ---------------------------------------------------------------- the ends of the range


def test_binary_cross_entropy_is_bounded_where_the_probability_is_0_or_1():
    values, target = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    x, h = tg.tensor(values).requires_grad_(), torch.tensor(values, requires_grad=True)
    y = F.binary_cross_entropy(x, tg.tensor(target), reduction="none")
    r = TF.binary_cross_entropy(h, torch.tensor(target), reduction="none")
    assert y.tolist() == [0, 100, 100, 0] == r.tolist()
    y.sum().backward()
    r.sum().backward()
    assert np.allclose(x.grad.numpy(), h.grad.numpy(), rtol=1e-6) and np.isfinite(x.grad.numpy()).all()
    t = tg.tensor(target).requires_grad_()
    F.binary_cross_entropy(x.detach(), t).backward()
    assert np.isfinite(t.grad.numpy()).all()


def test_gradients_at_floors_and_kinks_equal_torch():
    """A variance below eps, and hinges exactly at 0, which equal inputs are with margin 0."""
    a, b = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([[0.0, 3.0], [2.0, 4.0]])
    ones, signs = np.ones(2), np.array([-1.0, -1.0])
    cases = [
        ("gaussian_nll_loss", (a, b, np.array([[0.0, 1e-9], [0.5, 1e-6]]))),
        ("hinge_embedding_loss", (ones, signs)),
        ("margin_ranking_loss", (ones, ones, signs)),
        ("triplet_margin_loss", (a, b, b - 0.0), {"margin": 1e-300}),
        ("cosine_embedding_loss", (a, np.array([[-2.0, 1.0], [1.0, 0.5]]), signs)),
    ]
    for name, arrays, *options in cases:
        gradients = []
        for L, lib in ((tg, F), (torch, TF)):
            inputs = [L.tensor(x, requires_grad=True) for x in arrays[:2]]
            inputs += [L.tensor(x, requires_grad=name[0] == "g") for x in arrays[2:]]
            getattr(lib, name)(*inputs, **dict(*options)).backward()
            gradients.append([None if x.grad is None else np.asarray(x.grad) for x in inputs])
        for mine, his in zip(*gradients, strict=True):
            if his is not None:
                np.testing.assert_allclose(mine, his, rtol=1e-12, err_msg=name)


def test_losses_from_logits_stay_finite():
    x = tg.tensor([-1e4, 1e4, 0.0]).requires_grad_()
    F.binary_cross_entropy_with_logits(x, tg.tensor([1.0, 1.0, 0.5]), reduction="sum").backward()
    assert x.grad.tolist() == [-1.0, 0.0, 0.0]
    z = tg.tensor([[1e4, -1e4], [0.0, 0.0]]).requires_grad_()
    loss = F.cross_entropy(z, tg.tensor([1, 0]), reduction="none")
    assert loss.tolist() == [2e4, pytest.approx(np.log(2), rel=1e-6)]
    loss.sum().backward()
    assert np.isfinite(z.grad.numpy()).all()


def test_kl_div_takes_a_target_of_zero_as_zero():
    p, q = tg.tensor([[0.0, 1.0]]).requires_grad_(), tg.tensor([[0.5, 0.5]])
    loss = F.kl_div(q.log(), p, reduction="batchmean")
    assert loss.item() == pytest.approx(np.log(2))
    loss.backward()
    assert np.isfinite(p.grad.numpy()).all()


def test_an_ignored_infinity_stays_out_of_the_loss():
    x = tg.tensor([[-np.inf, 0.0], [-0.5, -1.0]]).requires_grad_()
    loss = F.nll_loss(x, tg.tensor([-100, 0]))
    assert loss.item() == 0.5
    loss.backward()
    assert x.grad.tolist() == [[0, 0], [-1, 0]]


def test_a_loss_over_nothing_is_torch_s_nan():
    with np.errstate(all="ignore"):
        assert np.isnan(F.cross_entropy(tg.zeros(2, 3), tg.tensor([-100, -100])).item())


def test_float32_stays_float32():
    for name, (loss, varying, constant, options) in CASES.items():
        cast = lambda v: tg.tensor(v.astype(np.float32) if v.dtype.kind == "f" else v)
        xs = [cast(v).requires_grad_() for v in varying]
        given = {k: cast(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        y = getattr(F, loss)(*xs, *map(cast, constant), **given)
        y.backward()
        assert y.dtype == np.float32 and all(x.grad.dtype == np.float32 for x in xs), name


# ---------------------------------------------------------------- errors

E = {
    "broadcast": (
        lambda: F.mse_loss(tg.zeros(4, 1), tg.zeros(4)),
        ValueError,
        r"mse_loss: input \(4, 1\) and target \(4,\)",
    ),
    "bce shape": (lambda: F.binary_cross_entropy(tg.zeros(4), tg.zeros(2)), ValueError, "one shape"),
    "logits shape": (lambda: F.binary_cross_entropy_with_logits(tg.zeros(4), tg.zeros(2)), ValueError, "one shape"),
    "no tensor": (lambda: F.mse_loss(tg.zeros(4), 0.0), TypeError, "target should be a tensor, got float"),
    "logits": (lambda: F.binary_cross_entropy(tg.tensor([2.0]), tg.ones(1)), ValueError, "with_logits"),
    "nan": (lambda: F.binary_cross_entropy(tg.tensor([np.nan]), tg.ones(1)), ValueError, "contains NaN"),
    "reduction": (lambda: F.l1_loss(tg.zeros(1), tg.zeros(1), reduction="avg"), ValueError, "'mean', 'sum' or 'none'"),
    "class": (lambda: F.cross_entropy(tg.zeros(2, 3), tg.tensor([0, 3])), IndexError, r"class 3 .* 0\.\.2"),
    "negative class": (lambda: F.nll_loss(tg.zeros(2, 3), tg.tensor([0, -1])), IndexError, "class -1"),
    "target shape": (lambda: F.cross_entropy(tg.zeros(2, 3), tg.tensor([[0], [1]])), ValueError, r"shape \(2,\)"),
    "probability shape": (lambda: F.cross_entropy(tg.zeros(2, 3), tg.zeros(2, 2)), ValueError, "one shape"),
    "class weight": (
        lambda: F.cross_entropy(tg.zeros(2, 3), tg.tensor([0, 1]), tg.ones(2)),
        ValueError,
        r"weight .* \(3,\)",
    ),
    "smoothing": (
        lambda: F.cross_entropy(tg.zeros(2, 3), tg.tensor([0, 1]), label_smoothing=2.0),
        ValueError,
        r"\[0, 1\]",
    ),
    "scalar": (lambda: F.cross_entropy(tg.tensor(1.0), tg.tensor(0)), ValueError, "scalar"),
    "triplet": (lambda: F.triplet_margin_loss(tg.zeros(2, 3), tg.zeros(2, 3), tg.zeros(1, 3)), ValueError, "negative"),
    "margin": (lambda: F.triplet_margin_loss(*[tg.zeros(2, 3)] * 3, margin=-1), ValueError, "margin"),
    "cosine": (lambda: F.cosine_embedding_loss(tg.zeros(2, 3), tg.zeros(2, 3), tg.ones(3)), ValueError, r"\(2,\)"),
    "beta": (lambda: F.smooth_l1_loss(tg.zeros(1), tg.zeros(1), beta=-1.0), ValueError, "beta"),
    "delta": (lambda: F.huber_loss(tg.zeros(1), tg.zeros(1), delta=0.0), ValueError, "delta"),
    "positional": (lambda: F.mse_loss(tg.zeros(1), tg.zeros(1), "sum"), TypeError, "positional"),
}


@pytest.mark.parametrize("call, kind, match", E.values(), ids=E)
def test_errors_name_shapes_and_remedy(call, kind, match):
    with pytest.raises(kind, match=match):
        call()
