"""Modules, containers and layers: the attribute walk, state, display; values and gradients against torch."""

from __future__ import annotations

import copy
import functools
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, observe, tape
from tinygen.nn import functional as F
from tinygen.nn.fusion import fused
from tinygen.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("scale", tg.ones(1))
        self.register_buffer("scratch", tg.zeros(2), persistent=False)
        self.last = nn.Linear(4, 2, bias=False)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).relu()) * self.scale


# ---------------------------------------------------------------- the walk over attributes


def test_names_come_in_the_order_of_assignment():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "first.weight", "first.bias", "norm.weight", "norm.bias", "last.weight"
    ]  # fmt: skip
    assert [n for n, _ in net.named_modules()] == ["", "first", "norm", "last"]
    assert [n for n, _ in net.named_children()] == ["first", "norm", "last"]
    assert list(net.children()) == [net.first, net.norm, net.last] and next(iter(net.modules())) is net
    assert [n for n, _ in net.named_buffers()] == [
        "scale", "scratch", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"
    ]  # fmt: skip
    assert len(list(net.buffers())) == 5 and len(list(net.parameters(recurse=False))) == 0
    assert net.get_submodule("norm") is net.norm and net.get_parameter("first.bias") is net.first.bias
    with pytest.raises(AttributeError, match="did you mean 'first'"):
        net.get_submodule("fisrt")


def test_shared_parameters_and_modules_appear_once():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert len(list(net.modules())) == 3 and len(list(net.children())) == 2
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert [n for n, _ in tied.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert set(tied.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}  # both names are saved, as in torch
    twice = copy.deepcopy(tied)
    assert twice[1].weight is twice[0].weight and twice[0].weight is not tied[0].weight


def test_parameters_know_their_full_name():
    net = nn.Sequential(OrderedDict(encoder=nn.Sequential(nn.Linear(2, 2)), decoder=nn.Linear(2, 2)))
    list(net[0].parameters())
    assert net[0][0].weight.name == "0.weight"
    list(net.parameters())
    assert net[0][0].weight.name == "encoder.0.weight"
    list(net[0].parameters())
    assert net[0][0].weight.name == "encoder.0.weight"


def test_a_parameter_shares_memory_and_is_a_leaf():
    data = tg.ones(3)
    p = nn.Parameter(data)
    assert (
        p.requires_grad
        and p.is_leaf
        and p.array is data.array
        and not nn.Parameter(data, requires_grad=False).requires_grad
    )
    assert repr(p).startswith("Parameter containing:\ntensor(")
    with pytest.raises(TypeError, match="float"):
        nn.Parameter(tg.tensor([1, 2]))
    (p * 2).sum().backward()
    assert p.grad.tolist() == [2, 2, 2]


def test_registration_says_what_is_wrong():
    class Early(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"'layer' was assigned before super\(\).__init__\(\)"):
        Early()

    class Without(nn.Module):
        def __init__(self):
            self.size = 3

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\) was not called"):
        Without().weight
    net = Net()
    with pytest.raises(AttributeError, match=r"Net has no attribute 'frist'; did you mean 'first'"):
        net.frist
    with pytest.raises(TypeError, match="'weight' is a Parameter and cannot become a Tensor"):
        net.first.weight = tg.zeros(4, 3)
    with pytest.raises(TypeError, match="'scale' is a buffer and cannot become a float"):
        net.scale = 2.0
    net.scale = tg.full((1,), 2.0)
    assert net.state_dict()["scale"].item() == 2.0
    net.scratch = nn.Parameter(tg.zeros(2))  # a buffer that becomes a parameter is one thing, not two
    assert "scratch" in dict(net.named_parameters()) and "scratch" not in dict(net.named_buffers())
    assert list(net.state_dict()).count("scratch") == 1
    for name, match in (("a.b", "without dots"), ("", "non-empty"), ("forward", "already exists")):
        with pytest.raises(KeyError, match=match):
            net.register_buffer(name, tg.zeros(1))
    with pytest.raises(TypeError, match="should be a tensor"):
        net.register_buffer("other", 3)
    with pytest.raises(TypeError, match=r"nn\.Parameter or None"):
        net.register_parameter("other", tg.zeros(1))
    with pytest.raises(TypeError, match=r"nn\.Module or None"):
        net.add_module("other", tg.zeros(1))
    with pytest.raises(NotImplementedError, match="define forward"):
        nn.Module()(1)
    del net.scale
    assert "scale" not in net.state_dict() and not hasattr(net, "scale")


def test_train_eval_apply_and_gradients():
    net = Net()
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "BatchNorm1d", "Linear", "Net"]
    assert not net.eval().norm.training and net.train().norm.training
    net(tg.randn(5, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all((p.grad.array == 0).all() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert not net.requires_grad_(False)(tg.randn(5, 3)).requires_grad


def test_to_converts_floating_tensors_only():
    net = Net()
    net(tg.randn(5, 3)).sum().backward()
    weight = net.first.weight
    assert net.double() is net and net.first.weight is weight and weight.dtype == np.float64
    assert weight.grad.dtype == np.float64 and net.norm.running_mean.dtype == np.float64
    assert net.norm.num_batches_tracked.dtype == np.int64
    assert net(tg.randn(5, 3, dtype=tg.float64)).dtype == np.float64
    assert net.to(tg.zeros(1)).first.weight.dtype == np.float32
    assert net.to("cpu", tg.float64).scale.dtype == np.float64 and net.float().cpu().scale.dtype == np.float32
    with pytest.raises(TypeError, match="floating"):
        net.to(tg.int64)


def test_converting_a_module_invalidates_recorded_graphs():
    layer = nn.Linear(2, 2)
    loss = (layer(tg.ones(1, 2).requires_grad_()) ** 2).sum()
    layer.double()
    with pytest.raises(RuntimeError, match="weight"):
        loss.backward()


def test_hooks_see_and_change_arguments_and_results():
    layer = nn.Linear(2, 2)
    calls = []
    before = layer.register_forward_pre_hook(lambda m, args: (args[0] * 0,))
    after = layer.register_forward_hook(lambda m, args, out: calls.append(args[0].tolist()))
    assert np.allclose(layer(tg.ones(1, 2)).detach().numpy(), layer.bias.detach().numpy()) and calls == [[[0, 0]]]
    before.remove()
    after.remove()
    layer(tg.ones(1, 2))
    assert len(calls) == 1


# ---------------------------------------------------------------- state


def test_state_dict_round_trip_and_memory():
    a, b = Net(), Net()
    a(tg.randn(6, 3))
    state = a.state_dict()
    assert list(state) == [
        "scale", "first.weight", "first.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
        "norm.num_batches_tracked", "last.weight",
    ]  # fmt: skip
    assert not any(t.requires_grad for t in state.values()) and state["first.weight"].array is a.first.weight.array
    assert a.state_dict(keep_vars=True)["first.weight"] is a.first.weight
    assert repr(b.load_state_dict(state)) == "<All keys matched successfully>"
    a.eval(), b.eval()
    x = tg.randn(4, 3)
    assert np.array_equal(a(x).detach().numpy(), b(x).detach().numpy()) and b.norm.num_batches_tracked.item() == 1
    b.load_state_dict({n: t.numpy().astype(np.float64) for n, t in state.items()})  # arrays are converted
    assert b.first.weight.dtype == np.float32


def test_load_state_dict_lists_everything_and_changes_nothing():
    net = Net()
    before = {n: t.numpy().copy() for n, t in net.state_dict().items()}
    state = {n: t + 1 for n, t in net.state_dict().items()}
    state["first.wieght"] = state.pop("first.weight")
    state["last.weight"] = tg.zeros(4, 2)
    del state["scale"]
    state["junk"] = tg.zeros(7)
    with pytest.raises(RuntimeError) as error:
        net.load_state_dict(state)
    text = str(error.value)
    assert "missing (2)" in text and "first.weight 4x3 (is it 'first.wieght' 4x3?)" in text and "scale 1" in text
    assert "unexpected (2)" in text and "junk 7" in text
    assert "last.weight: the module has 2x4, the state 4x2" in text and "nothing was changed" in text
    assert all(np.array_equal(before[n], t.numpy()) for n, t in net.state_dict().items())
    with pytest.raises(RuntimeError, match="another shape"):
        net.load_state_dict(state, strict=False)  # a shape is never ignored
    state["last.weight"] = tg.zeros(2, 4)
    with pytest.raises(RuntimeError, match="strict=False would ignore"):
        net.load_state_dict(state)
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["scale", "first.weight"] and sorted(result.unexpected_keys) == [
        "first.wieght",
        "junk",
    ]
    assert (
        np.array_equal(net.first.weight.detach().numpy(), before["first.weight"]) and (net.last.weight.array == 0).all()
    )


def test_loading_invalidates_recorded_graphs():
    layer = nn.Linear(2, 2)
    loss = (layer(tg.ones(1, 2).requires_grad_()) ** 2).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="changed"):
        loss.backward()


def test_pickle_and_deepcopy():
    net = Net()
    x = tg.randn(4, 3)
    net(x)
    net.cache = net.first(x)  # a computed tensor left as an attribute must not break copying
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(twin.eval()(x).detach().numpy(), net.eval()(x).detach().numpy())
        assert isinstance(twin.first.weight, nn.Parameter) and twin.first.weight.requires_grad
        twin.first.weight.data.zero_()
        assert (net.first.weight.array != 0).any() and not twin.cache.requires_grad


def test_repr_counts_parameters():
    net = nn.Sequential(
        OrderedDict(body=nn.Sequential(nn.Linear(999, 10), nn.ReLU(True)), head=nn.Linear(10, 2, bias=False))
    )
    assert repr(net) == (
        "Sequential(\n"
        "  (body): Sequential(\n"
        "    (0): Linear(in_features=999, out_features=10, bias=True) (params: 10,000)\n"
        "    (1): ReLU()\n"
        "  ) (params: 10,000)\n"
        "  (head): Linear(in_features=10, out_features=2, bias=False) (params: 20)\n"
        ") (params: 10,020)"
    )
    html = net._repr_html_()
    assert html.count("<tr>") == 6 and "10,020" in html and "weight 10x999" in html


# ---------------------------------------------------------------- containers


def test_sequential_is_a_list():
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)]
    net = nn.Sequential(*layers)
    assert net[0] is layers[0] and net[-1] is layers[2] and len(net) == 3 and list(net) == layers
    assert isinstance(net[:2], nn.Sequential) and list(net[1:]) == layers[1:]
    net.append(nn.Sigmoid())
    net.insert(1, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Linear", "Identity", "ReLU", "Linear", "Sigmoid"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    del net[1]
    net[1] = nn.Tanh()
    net.extend([nn.Identity()])
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "Linear", "Sigmoid", "Identity"]
    with pytest.raises(IndexError, match="out of range for 5 modules"):
        net[5]
    with pytest.raises(TypeError, match=r"nn\.Module"):
        nn.Sequential(tg.relu)


def _net(kind):
    layers = {
        "norm": [nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.LeakyReLU(0.2)],
        "rows": [nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5), nn.ReLU(True)],
        "plain": [
            nn.ConvTranspose2d(1, 2, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4), nn.LeakyReLU()
        ],
        "nothing": [nn.Conv2d(1, 2, 3), nn.LeakyReLU(-0.1), nn.LeakyReLU(1.5), nn.Sigmoid(), nn.ReLU()],
    }  # fmt: skip
    return layers[kind]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kind", ["norm", "rows", "plain", "nothing"])
def test_sequential_saves_passes_over_memory_where_nobody_sees(kind, mode, rng):
    """The same values, gradients, buffers and names as calling the modules one after another."""
    tg.manual_seed(1)
    net = getattr(nn.Sequential(*_net(kind)), mode)()
    apart = copy.deepcopy(net)
    values = rng.standard_normal((4, 1, 6, 6)).astype(np.float32)
    found = []
    for run, modules in ((net, net), (lambda x: functools.reduce(lambda v, m: m(v), apart, x), apart)):
        x = tg.tensor(values).requires_grad_()
        y = run(x)
        (y * y).sum().backward()
        found.append([y.detach(), x.grad, *(p.grad for p in modules.parameters()), *modules.buffers()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
    assert list(net.state_dict()) == list(apart.state_dict())


@pytest.mark.parametrize("net", [nn.Conv2d(1, 2, 3), nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())])
def test_a_convolution_of_what_is_no_tensor_says_so(net):
    for x in ([[1.0]], np.zeros((1, 1, 4, 4), np.float32)):
        with pytest.raises(TypeError, match=r"conv2d: expected tensors, got (list|ndarray) and Parameter; wrap them"):
            net(x)


def test_sequential_fuses_nothing_that_is_watched():
    """Hooks, a class or a forward of one's own: then each module is called, with what it would see anyway."""
    x = tg.randn(2, 1, 6, 6)
    seen = []
    conv, act = nn.Conv2d(1, 2, 3), nn.ReLU()
    net = nn.Sequential(conv, act)
    ran = lambda net: [n.op.name for n in _nodes(net(x))]
    assert ran(net) == ["conv_leaky_relu"]
    handle = conv.register_forward_hook(lambda m, args, out: seen.append(out))
    assert ran(net) == ["conv", "relu"]
    assert (seen[0].detach().numpy() < 0).any()  # what the hook saw was not overwritten
    handle.remove()
    handle = act.register_forward_pre_hook(lambda m, args: seen.append(args))
    assert ran(net) == ["conv", "relu"]
    handle.remove()
    conv.forward = lambda x: F.conv2d(x, conv.weight, conv.bias)
    assert ran(net) == ["conv", "relu"]

    class Own(nn.BatchNorm2d):
        def forward(self, input):
            return super().forward(input)

    assert [n.op.name for n in _nodes(nn.Sequential(Own(1), nn.ReLU())(x))] == ["batch_norm", "relu"]
    assert [n.op.name for n in _nodes(nn.Sequential(nn.BatchNorm2d(1), nn.ReLU())(x))] == ["batch_norm"]
    linear = nn.Linear(6, 3)
    assert ran(nn.Sequential(linear, nn.LeakyReLU(0.1))) == ["linear_leaky_relu"]
    linear.register_forward_hook(lambda m, args, out: seen.append(out))
    assert ran(nn.Sequential(linear, nn.LeakyReLU(0.1))) == ["linear", "leaky_relu"]
    pooled, places = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2, return_indices=True))(x)
    assert (pooled.detach().numpy() >= 0).all() and places.shape == pooled.shape


def test_what_runs_as_one_kernel():
    conv, norm, act, pool = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2)
    flat, linear, leaky = nn.Flatten(), nn.Linear(8, 2), nn.LeakyReLU(0.2)
    count = lambda *modules: len(list(fused(modules)))
    assert count(conv, norm, act, flat, linear, leaky) == 3
    assert count(conv, act, norm, leaky) == count(conv, norm) == count(linear, act) == count(norm, leaky) == 1
    assert count(conv, nn.LeakyReLU(-0.1)) == count(conv, nn.Tanh()) == count(flat, act) == 2
    assert list(fused([conv, act, pool])) == [conv, pool, act]
    norm.eval()
    assert count(conv, norm, act) == 2  # the running statistics need no sums
    x = tg.randn(3, 1, 6, 6)
    for modules in ([conv, norm.train(), act], [conv, leaky, norm, leaky], [conv, act, pool]):
        apart, together = x, x
        state = [b.array.copy() for b in norm.buffers()]
        for module in modules:
            apart = module(apart)
        for b, before in zip(norm.buffers(), state, strict=True):
            b.array[...] = before
        for layer in fused(modules):
            together = layer(together)
        np.testing.assert_array_equal(together.detach().numpy(), apart.detach().numpy())
        parameters = list(nn.ModuleList(modules).parameters())
        for a, b in zip(tg.grad(together.sum(), parameters), tg.grad(apart.sum(), parameters), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_recorded_backward_through_a_fused_layer_computes_nothing_again():
    """As in a gradient penalty: no composite, so no convolution beside the forward one."""
    x = tg.randn(2, 1, 6, 6, requires_grad=True)
    net, ran = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LeakyReLU(0.2)), []
    with observe.observing(lambda op, *_: ran.append(op.name)):
        (g,) = tg.grad(net(x).sum(), x, create_graph=True)
    assert ran[0] == "conv_leaky_relu" and ran[-2:] == ["leaky_relu_backward", "conv_transpose"] and "conv" not in ran
    assert tg.grad(g.square().sum(), net[0].weight)[0].shape == net[0].weight.shape


def _nodes(tensor):
    """The nodes from the first op to the last, along first parents."""
    found, node = [], tensor.node
    while node is not None and not isinstance(node, tape.Leaf):
        if isinstance(node, tape.Node):
            found.append(node)
        node = node.parents[0]
    return found[::-1]


def test_module_list_dict_and_parameter_list():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.items = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
            self.named = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.ReLU()})
            self.free = nn.ParameterList([tg.zeros(2), nn.Parameter(tg.ones(1))])

    net = Many()
    assert [n for n, _ in net.named_parameters()] == [
        *(f"items.{i}.{w}" for i in range(3) for w in ("weight", "bias")),
        "named.a.weight", "named.a.bias", "free.0", "free.1",
    ]  # fmt: skip
    assert len(net.items) == 3 and len(net.items[1:]) == 2 and "a" in net.named and list(net.named) == ["a", "b"]
    assert list(net.named.keys()) == ["a", "b"] and len(list(net.named.items())) == len(list(net.named.values())) == 2
    net.named["c"] = nn.Identity()
    del net.named["b"]
    assert list(net.named) == ["a", "c"] and len(net.free) == 2 and net.free[1].item() == 1 and len(list(net.free)) == 2
    with pytest.raises(KeyError, match="no module 'z'"):
        net.named["z"]
    with pytest.raises(KeyError, match="already exists"):
        net.named["train"] = nn.Identity()


# ---------------------------------------------------------------- layers against torch

H = torch.nn
LAYERS = {  # name: (the layer, of nn or of torch.nn; input shape)
    "linear": (lambda N: N.Linear(5, 3), (2, 4, 5)),
    "conv2d": (lambda N: N.Conv2d(2, 4, 3, 2, 1), (2, 2, 7, 6)),
    "conv2d groups": (lambda N: N.Conv2d(4, 6, (3, 2), padding=(1, 0), dilation=2, groups=2, bias=False), (2, 4, 7, 6)),
    "conv2d same": (lambda N: N.Conv2d(2, 3, 4, padding="same"), (2, 2, 6, 5)),
    "conv2d valid": (lambda N: N.Conv2d(2, 3, 2, padding="valid"), (2, 6, 5)),
    **{
        f"conv2d {mode}": (lambda N, mode=mode: N.Conv2d(2, 3, 3, 2, (2, 1), padding_mode=mode), (2, 2, 6, 5))
        for mode in ("reflect", "replicate", "circular")
    },
    "conv2d same circular": (lambda N: N.Conv2d(2, 3, 4, padding="same", padding_mode="circular"), (2, 2, 6, 5)),
    "conv1d": (lambda N: N.Conv1d(2, 4, 3, 2, 1), (2, 2, 9)),
    "conv1d reflect": (lambda N: N.Conv1d(2, 4, 3, 1, 2, padding_mode="reflect"), (2, 2, 9)),
    "conv_transpose2d": (lambda N: N.ConvTranspose2d(4, 2, 3, 2, 1, 1), (2, 4, 4, 3)),
    "transposed groups": (lambda N: N.ConvTranspose2d(4, 6, 3, 2, groups=2, bias=False, dilation=2), (2, 4, 4, 3)),
    "conv_transpose1d": (lambda N: N.ConvTranspose1d(4, 2, 4, 2, 1), (2, 4, 5)),
    "batch_norm1d": (lambda N: N.BatchNorm1d(3), (6, 3)),
    "batch_norm1d 3d": (lambda N: N.BatchNorm1d(3), (4, 3, 5)),
    "batch_norm2d": (lambda N: N.BatchNorm2d(3), (4, 3, 5, 2)),
    "batch_norm2d average": (lambda N: N.BatchNorm2d(3, momentum=None, eps=0.1), (4, 3, 5, 2)),
    "batch_norm2d plain": (lambda N: N.BatchNorm2d(3, affine=False, track_running_stats=False), (4, 3, 5, 2)),
    "layer_norm": (lambda N: N.LayerNorm((3, 4)), (2, 3, 4)),
    "layer_norm no bias": (lambda N: N.LayerNorm(4, bias=False), (2, 3, 4)),
    "group_norm": (lambda N: N.GroupNorm(2, 4), (3, 4, 5)),
    "instance_norm2d": (lambda N: N.InstanceNorm2d(3), (2, 3, 4, 5)),
    "instance_norm2d full": (lambda N: N.InstanceNorm2d(3, affine=True, track_running_stats=True), (2, 3, 4, 5)),
    "instance_norm2d image": (lambda N: N.InstanceNorm2d(3), (3, 4, 5)),
    "instance_norm1d": (lambda N: N.InstanceNorm1d(3, affine=True), (2, 3, 6)),
    "max_pool2d": (lambda N: N.MaxPool2d(3, 2, 1), (2, 3, 7, 6)),
    "max_pool1d": (lambda N: N.MaxPool1d(2, ceil_mode=True), (2, 3, 7)),
    "avg_pool2d": (lambda N: N.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 7, 6)),
    "avg_pool1d": (lambda N: N.AvgPool1d(3, 1, 1), (2, 3, 7)),
    "adaptive_avg_pool2d": (lambda N: N.AdaptiveAvgPool2d((2, 3)), (2, 3, 7, 5)),
    "adaptive_avg_pool1d": (lambda N: N.AdaptiveAvgPool1d(3), (2, 3, 7)),
    "adaptive_max_pool2d": (lambda N: N.AdaptiveMaxPool2d(2), (2, 3, 7, 5)),
    "upsample": (lambda N: N.Upsample(scale_factor=2), (2, 3, 4, 3)),
    "upsample bilinear": (lambda N: N.Upsample(size=(7, 5), mode="bilinear", align_corners=True), (2, 3, 4, 3)),
    "upsampling_nearest2d": (lambda N: N.UpsamplingNearest2d(scale_factor=2), (1, 2, 3, 3)),
    "upsampling_bilinear2d": (lambda N: N.UpsamplingBilinear2d(scale_factor=2), (1, 2, 3, 3)),
    "pixel_shuffle": (lambda N: N.PixelShuffle(2), (2, 8, 3, 4)),
    "pixel_unshuffle": (lambda N: N.PixelUnshuffle(2), (2, 2, 6, 4)),
    "zero_pad2d": (lambda N: N.ZeroPad2d((1, 2, 0, 3)), (2, 2, 3, 4)),
    "zero_pad1d": (lambda N: N.ZeroPad1d(2), (2, 2, 3)),
    "constant_pad2d": (lambda N: N.ConstantPad2d(1, 3.5), (2, 2, 3, 4)),
    "reflection_pad2d": (lambda N: N.ReflectionPad2d((1, 2, 2, 1)), (2, 2, 3, 4)),
    "reflection_pad1d": (lambda N: N.ReflectionPad1d(2), (2, 2, 4)),
    "replication_pad2d": (lambda N: N.ReplicationPad2d(3), (2, 2, 3, 4)),
    "circular_pad2d": (lambda N: N.CircularPad2d(1), (2, 2, 3, 4)),
    "flatten": (lambda N: N.Flatten(), (2, 3, 4)),
    "unflatten": (lambda N: N.Unflatten(1, (2, 3)), (2, 6, 4)),
    "identity": (lambda N: N.Identity(54, unused=True), (2, 3)),
    "relu": (lambda N: N.ReLU(), (2, 3)),
    "relu6": (lambda N: N.ReLU6(), (2, 30)),
    "leaky_relu": (lambda N: N.LeakyReLU(0.2), (2, 3)),
    "prelu": (lambda N: N.PReLU(3), (2, 3, 4)),
    "prelu one": (lambda N: N.PReLU(), (2, 3)),
    "elu": (lambda N: N.ELU(0.7), (2, 3)),
    "selu": (lambda N: N.SELU(), (2, 3)),
    "gelu": (lambda N: N.GELU(), (2, 3)),
    "gelu tanh": (lambda N: N.GELU("tanh"), (2, 3)),
    "silu": (lambda N: N.SiLU(), (2, 3)),
    "mish": (lambda N: N.Mish(), (2, 3)),
    "sigmoid": (lambda N: N.Sigmoid(), (2, 3)),
    "tanh": (lambda N: N.Tanh(), (2, 3)),
    "softsign": (lambda N: N.Softsign(), (2, 3)),
    "softplus": (lambda N: N.Softplus(2.0, 1.0), (2, 9)),
    "softmax": (lambda N: N.Softmax(1), (2, 3, 4)),
    "softmin": (lambda N: N.Softmin(1), (2, 3, 4)),
    "log_softmax": (lambda N: N.LogSoftmax(dim=-1), (2, 3)),
    "log_sigmoid": (lambda N: N.LogSigmoid(), (2, 3)),
    "hardtanh": (lambda N: N.Hardtanh(-0.5, 0.7), (2, 9)),
    "threshold": (lambda N: N.Threshold(0.1, 20), (2, 9)),
    "cosine_similarity": (lambda N: N.CosineSimilarity(), (2, 3, 4)),
    "pairwise_distance": (lambda N: N.PairwiseDistance(), (2, 3)),
}  # fmt: skip


def same(ours, theirs, **tolerance):
    np.testing.assert_allclose(
        ours.detach().numpy(), theirs.detach().numpy(), **{"rtol": 1e-9, "atol": 1e-10, **tolerance}
    )


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_torch_in_training_and_eval(name, rng):
    make, shape = LAYERS[name]
    ours, theirs = make(nn).double(), make(H).double()
    with torch.no_grad():  # weights away from their special values, the same on both sides
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape))))
    ours.load_state_dict(theirs.state_dict())
    count = 2 if name.startswith(("cosine", "pairwise")) else 1
    for mode in (True, True, False):
        ours.train(mode), theirs.train(mode)
        values = [rng.standard_normal(shape) for _ in range(count)]
        xs, hs = [tg.tensor(v).requires_grad_() for v in values], [torch.tensor(v, requires_grad=True) for v in values]
        y, h = ours(*xs), theirs(*hs)
        assert tuple(y.shape) == tuple(h.shape)
        same(y, h)
        g = rng.standard_normal(tuple(h.shape))
        y.backward(tg.tensor(g))
        h.backward(torch.tensor(g))
        for x, r in zip(xs, hs, strict=True):
            same(x.grad, r.grad)
        for (n, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            same(p.grad, q.grad, err_msg=n)
        for (n, b), c in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            same(b, c, err_msg=n)
    assert repr(ours).startswith(type(ours).__name__ + "(")


SMOOTH = [n for n in LAYERS if n not in ("identity", "threshold", "relu6", "hardtanh", "softplus")]


@pytest.mark.parametrize("name", SMOOTH)
def test_layers_have_two_orders_of_derivatives(name, rng):
    make, shape = LAYERS[name]
    layer = make(nn).double()
    names = [n for n, _ in layer.named_parameters()]
    values = [tg.tensor(rng.standard_normal(p.shape)) for p in layer.parameters()]
    inputs = [tg.tensor(rng.standard_normal(shape)) for _ in range(2 if name.startswith(("cosine", "pairwise")) else 1)]

    def f(*tensors):
        count = len(inputs)
        for n, t in zip(names, tensors[count:], strict=True):
            layer.__dict__[n] = t
        return layer(*tensors[:count])

    assert gradcheck(f, [*inputs, *values], directions=1)
    assert gradgradcheck(f, [*inputs, *values], directions=1)


def test_float32_layers_equal_torch():
    theirs = H.Sequential(H.Conv2d(1, 4, 3, 2, 1), H.BatchNorm2d(4), H.ReLU(), H.Flatten(), H.Linear(64, 5))
    ours = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(1).standard_normal((3, 1, 8, 8)).astype(np.float32)
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        y = ours(tg.tensor(x))
        assert y.dtype == np.float32
        same(y, theirs(torch.tensor(x)), rtol=1e-4, atol=1e-5)


def test_embedding_equals_torch():
    ours, theirs = nn.Embedding(6, 3, padding_idx=2), H.Embedding(6, 3, padding_idx=2)
    assert (ours.weight.array[2] == 0).all() and (ours.weight.array[1] != 0).all()
    ours.load_state_dict(theirs.state_dict())
    index = np.array([[1, 2, 1], [5, 0, 2]])
    y, h = ours(tg.tensor(index)), theirs(torch.tensor(index))
    same(y, h)
    (y * y).sum().backward()
    (h * h).sum().backward()
    same(ours.weight.grad, theirs.weight.grad, rtol=1e-6)
    assert repr(ours) == "Embedding(6, 3, padding_idx=2) (params: 18)"


def test_transposed_convolution_returns_to_the_size_asked_for():
    down, up = nn.Conv2d(1, 2, 3, 2, 1), nn.ConvTranspose2d(2, 1, 3, 2, 1)
    for size in (7, 8):
        x = tg.randn(1, 1, size, size)
        assert tuple(up(down(x), output_size=x.size()).shape) == tuple(x.shape)
    assert tuple(nn.ConvTranspose1d(2, 1, 3, 2)(tg.randn(1, 2, 4), output_size=[10]).shape) == (1, 1, 10)
    with pytest.raises(ValueError, match="legal sizes"):
        up(down(x), output_size=(11, 11))


def test_asymmetric_padding():
    x = tg.randn(1, 1, 5, 5)
    layer = nn.Conv2d(1, 1, 3, padding=((2, 0), (1, 3)))
    expected = nn.functional.conv2d(nn.functional.pad(x, (1, 3, 2, 0)), layer.weight, layer.bias)
    same(layer(x), expected)
    assert tuple(nn.Conv2d(1, 1, 3, 2, "same")(x).shape) == (1, 1, 3, 3)  # strided 'same': ceil(size / stride)
    mirrored = nn.Conv2d(1, 1, 3, 2, "same", padding_mode="reflect")
    same(
        mirrored(x),
        nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), "reflect"), mirrored.weight, mirrored.bias, 2),
    )


def test_dropout_drops_in_training_only():
    x = tg.ones(100, 200)
    layer = nn.Dropout(0.25)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)} and abs((y == 0).mean() - 0.25) < 0.02
    assert layer.eval()(x) is x or np.array_equal(layer(x).numpy(), x.numpy())
    planes = nn.Dropout2d(0.5)(tg.ones(20, 10, 3, 3)).numpy().reshape(200, 9)
    assert (planes == planes[:, :1]).all() and 0.3 < (planes[:, 0] == 0).mean() < 0.7
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(1.5)


def test_options_after_the_leading_ones_are_keyword_only():
    for make, hint in (
        (lambda: nn.BatchNorm2d(8, 0.8), r"eps=0\.8"),
        (lambda: nn.BatchNorm1d(8, 0.8), "BatchNorm1d: the options eps, momentum"),
        (lambda: nn.InstanceNorm2d(8, 0.8), "InstanceNorm2d"),
        (lambda: nn.GroupNorm(2, 8, 1e-3), "GroupNorm"),
        (lambda: nn.LayerNorm(8, 1e-3), "LayerNorm"),
        (lambda: nn.Conv2d(1, 1, 3, 1, 1, 2), "dilation=2"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, 1, 1, 0, 1), "groups=1"),
        (lambda: nn.MaxPool2d(2, 2, 0, 2), "dilation=2"),
        (lambda: nn.Embedding(3, 2, 0), "padding_idx=0"),
        (lambda: nn.Upsample(None, 2), "scale_factor=2"),
    ):
        with pytest.raises(TypeError, match=hint):
            make()


def test_layers_refuse_what_does_not_fit():
    for call, match in (
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups=2 should divide in_channels=3"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="mirror"), "padding_mode='mirror'"),
        (lambda: nn.Conv2d(4, 4, (3, 3, 3)), "one integer or 2"),
        (lambda: nn.ConvTranspose2d(4, 4, 3, padding_mode="reflect"), "no meaning"),
        (lambda: nn.GroupNorm(3, 4), "should divide"),
        (lambda: nn.Upsample(), "either size or scale_factor"),
        (lambda: nn.BatchNorm2d(3)(tg.zeros(2, 4, 5, 5)), r"C=3, got \(2, 4, 5, 5\)"),
        (lambda: nn.BatchNorm2d(3)(tg.zeros(2, 3)), r"\(N, C, H, W\)"),
        (lambda: nn.BatchNorm1d(3)(tg.zeros(1, 3)), "more than one value per channel"),
        (lambda: nn.InstanceNorm2d(3)(tg.zeros(2, 3, 1, 1)), "more than one value"),
        (lambda: nn.InstanceNorm2d(3)(tg.zeros(2, 4, 5, 5)), "C=3"),
        (lambda: nn.PReLU(3)(tg.zeros(2, 4)), "expected 3 channels"),
        (lambda: nn.ZeroPad2d((1, 2)), "one integer or 4"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_running_statistics_can_be_reset():
    norm = nn.BatchNorm2d(2)
    norm(tg.randn(3, 2, 4, 4))
    assert norm.num_batches_tracked.item() == 1 and (norm.running_mean.array != 0).all()
    norm.reset_running_stats()
    assert norm.num_batches_tracked.item() == 0 and norm.running_var.tolist() == [1, 1]


# ---------------------------------------------------------------- spectral normalisation


@pytest.mark.parametrize("kind", ["linear", "conv", "transposed"])
def test_spectral_norm_equals_torch(kind, rng):
    make = {
        "linear": lambda N: (N.Linear(5, 4), (3, 5)),
        "conv": lambda N: (N.Conv2d(2, 3, 3), (2, 2, 5, 5)),
        "transposed": lambda N: (N.ConvTranspose2d(2, 3, 3), (2, 2, 4, 4)),
    }[kind]
    (ours, shape), (theirs, _) = make(nn), make(H)
    ours, theirs = ours.double(), theirs.double()
    assert nn.utils.spectral_norm(ours, n_power_iterations=2) is ours
    torch.nn.utils.spectral_norm(theirs, n_power_iterations=2)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    for mode in (True, True, False):
        ours.train(mode), theirs.train(mode)
        x = rng.standard_normal(shape)
        ours.zero_grad(), theirs.zero_grad()
        y, h = ours(tg.tensor(x)), theirs(torch.tensor(x))
        same(y, h)
        y.square().sum().backward()
        h.square().sum().backward()
        same(ours.weight_orig.grad, theirs.weight_orig.grad)
        same(ours.weight_u, theirs.weight_u)


def test_spectral_norm_bounds_the_largest_singular_value_and_can_be_copied():
    layer = nn.spectral_norm(nn.Linear(6, 4))
    x = tg.randn(5, 6)
    for _ in range(100):
        y = layer(x)
    assert abs(np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)[0] - 1) < 1e-3
    assert [n for n, _ in layer.named_parameters()] == ["bias", "weight_orig"] and y.requires_grad
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert np.allclose(twin.eval()(x).detach().numpy(), layer.eval()(x).detach().numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="not a parameter"):
        nn.spectral_norm(layer)
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        nn.spectral_norm(nn.BatchNorm1d(3))


def test_spectral_norm_survives_two_forwards_before_backward_and_has_two_orders():
    layer = nn.spectral_norm(nn.Linear(3, 2).double())
    x = tg.randn(4, 3, dtype=tg.float64)
    (layer(x).square().sum() + layer(x).square().sum()).backward()  # as a discriminator on real and on generated images
    layer.eval()

    def f(weight, x):
        layer.__dict__["weight_orig"] = weight
        return layer(x)

    assert gradcheck(f, [tg.tensor(layer.weight_orig.detach().numpy()), x])
    assert gradgradcheck(f, [tg.tensor(layer.weight_orig.detach().numpy()), x])
