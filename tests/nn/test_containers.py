"""Containers: Sequential, ModuleList, ModuleDict, ParameterList, and what Sequential fuses."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, observe, tape
from tinygen.nn import functional as F
from tinygen.nn.fusion import fused


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
