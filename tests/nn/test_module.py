"""Modules: the walk over attributes, conversion, hooks, state and display."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn

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


@pytest.mark.parametrize("make", [lambda: tg.ones(2), lambda: tg.nn.Linear(2, 2)])
def test_places_and_dtypes_are_told_apart_by_name(make):
    for place in ("cpu", "cpu:0", tg.device("cpu")):
        moved = make().to(place)
        assert getattr(moved, "weight", moved).device.name == "cpu"
    for wrong in ("mps", "flaot32", "cuda7"):
        with pytest.raises(ValueError, match=f"to: '{wrong}' is neither a device nor a dtype; known devices are 'cpu'"):
            make().to(wrong)
    for call in (lambda: make().to("cuda:1"), lambda: make().cuda(1), lambda: make().cuda("cuda:1")):
        with pytest.raises(ValueError, match="device: 'cuda:1': tinygen uses one GPU"):
            call()
