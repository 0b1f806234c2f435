"""tg.save and tg.load: round trips, exchange with PyTorch through safetensors, whole files or none, damage noticed."""

from __future__ import annotations

import os
import stat

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, optim, serialization

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")


def assert_equal(a, b):
    assert type(a) is type(b), (type(a), type(b))
    if isinstance(a, dict):
        assert list(a) == list(b) and [type(k) for k in a] == [type(k) for k in b]
        for k in a:
            assert_equal(a[k], b[k])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, tg.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a.numpy(), b.numpy())
    else:
        assert a == b


def test_nested_structures_come_back_as_they_were(tmp_path):
    state = {
        "model": {"a.weight": tg.randn(3, 2), "a.bias": tg.zeros(0), "scalar": tg.tensor(2.5, dtype=tg.float64)},
        "list": [tg.arange(3), {"x": tg.tensor([True, False])}, (), (1, (2.0, "three")), []],
        "numbers": {0: {"step": 7}, 1: None, (2, 3): True},
        "$odd": {"$tensor": "not one"},
        "exact": [0.1, 1e-300, float("inf"), 2**70, -0.0, "ü\n"],
        "empty": {},
        "half": tg.ones(2).to(tg.float16),
        "bytes": tg.tensor([1, 255], dtype=tg.uint8),
    }
    path = tmp_path / "deep" / "state.safetensors"
    tg.save(state, path)
    assert_equal(tg.load(path), state)
    tg.save(tg.ones(3), path)
    assert_equal(tg.load(path), tg.ones(3))
    tg.save(5, str(path))
    assert tg.load(str(path)) == 5


def test_arrays_scalars_views_and_parameters_are_saved_by_value(tmp_path):
    path = tmp_path / "x.safetensors"
    base = np.arange(12.0).reshape(3, 4)
    weight = nn.Parameter(tg.tensor(base))
    tg.save(
        {"t": weight.T, "slice": tg.tensor(base)[:, ::2], "np": base[::-1], "n": np.float32(0.5), "i": np.int64(3)},
        path,
    )
    state = tg.load(path)
    assert np.array_equal(state["t"].numpy(), base.T) and np.array_equal(state["slice"].numpy(), base[:, ::2])
    assert np.array_equal(state["np"].numpy(), base[::-1]) and state["n"] == 0.5 and state["i"] == 3
    assert not state["t"].requires_grad and state["t"].numpy().flags.writeable


def test_a_training_run_resumes_exactly(tmp_path):
    def build():
        tg.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = optim.Adam(net.parameters(), lr=0.05, betas=(0.5, 0.99))
        return net, optimizer, optim.lr_scheduler.CosineAnnealingLR(optimizer, 10), optim.EMA(net, 0.9)

    def train(parts, steps):
        net, optimizer, schedule, ema = parts
        for _ in range(steps):
            x = tg.randn(6, 4)
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
            schedule.step()
            ema.update()

    whole = build()
    train(whole, 8)
    first = build()
    train(first, 4)
    rng = tg.get_rng_state()
    tg.save({"parts": [p.state_dict() for p in first], "rng": rng}, tmp_path / "c.safetensors")
    second = build()
    state = tg.load(tmp_path / "c.safetensors")
    for part, saved in zip(second, state["parts"], strict=True):
        part.load_state_dict(saved)
    assert state["rng"] == rng
    tg.set_rng_state(state["rng"])
    train(second, 4)
    assert_equal(second[0].state_dict(), whole[0].state_dict())
    assert_equal(second[3].state_dict(), whole[3].state_dict())
    assert second[2].get_last_lr() == whole[2].get_last_lr()


# ---------------------------------------------------------------- PyTorch and back


def nets(N):
    mlp = N.Sequential(N.Linear(8, 16), N.ReLU(), N.LayerNorm(16), N.Linear(16, 3))
    conv = N.Sequential(
        N.Conv2d(1, 4, 4, 2, 1, bias=False), N.BatchNorm2d(4), N.LeakyReLU(0.2),
        N.Conv2d(4, 6, 3, padding=1), N.GroupNorm(2, 6),
        N.ConvTranspose2d(6, 2, 4, 2, 1), N.BatchNorm2d(2), N.Tanh(),
    )  # fmt: skip
    return {"mlp": (mlp, (5, 8)), "conv": (conv, (3, 1, 8, 8))}


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_weights_go_both_ways_with_equal_outputs(name, tmp_path, rng):
    (ours, shape), (theirs, _) = nets(nn)[name], nets(torch.nn)[name]
    x = rng.standard_normal(shape).astype(np.float32)
    theirs.train()(torch.tensor(x))  # running statistics away from their start
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "torch.safetensors")
    ours.load_state_dict(tg.load(tmp_path / "torch.safetensors"))
    same = lambda: np.testing.assert_allclose(
        ours.eval()(tg.tensor(x)).detach().numpy(), theirs.eval()(torch.tensor(x)).detach().numpy(), atol=1e-5
    )
    same()
    for p in ours.parameters():
        p.data.normal_(0, 0.3)
    ours.train()(tg.tensor(x * 2))
    tg.save(ours.state_dict(), tmp_path / "ours.safetensors")
    theirs.load_state_dict(safetensors_torch.load_file(tmp_path / "ours.safetensors"))
    same()
    assert set(tg.load(tmp_path / "ours.safetensors")) == set(theirs.state_dict())


def test_nested_names_are_readable_elsewhere(tmp_path):
    tg.save({"model": nn.Linear(2, 3).state_dict(), "epoch": 4}, tmp_path / "c.safetensors")
    assert {n: tuple(t.shape) for n, t in safetensors_torch.load_file(tmp_path / "c.safetensors").items()} == {
        "model.weight": (3, 2), "model.bias": (3,),
    }  # fmt: skip


def test_names_that_meet_are_kept_apart(tmp_path):
    state = {"a": {"b": tg.zeros(1)}, "a.b": tg.ones(1)}
    tg.save(state, tmp_path / "x.safetensors")
    assert_equal(tg.load(tmp_path / "x.safetensors"), state)


# ---------------------------------------------------------------- whole or not at all


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    tg.save({"a": tg.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"'a\.1\.f' is a function"):
        tg.save({"a": [tg.ones(2), {"f": print.__class__ and assert_equal}]}, path)
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        tg.save({"a": tg.zeros(2)}, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x.safetensors"]


def test_the_file_is_as_readable_as_any_other(tmp_path):
    path, plain = tmp_path / "x.safetensors", tmp_path / "plain"
    tg.save({}, path)
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode) and tg.load(path) == {}


def itself():
    value = {"step": 1}
    value["again"] = [value]
    return value


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def test_whatever_is_saved_is_loaded(tmp_path):
    twice = [tg.ones(1)]
    for value in (
        {"__metadata__": tg.ones(2), "x": {"__metadata__": tg.zeros(1)}},
        {"__metadata__": tg.ones(2), "__metadata___": tg.zeros(1)},
        {"": tg.ones(1), "text": "\ud800", "\ud800": 1},
        {"one": twice, "other": [twice, twice]},  # beside, not within, itself
        deep(100),
    ):
        tg.save(value, tmp_path / "x.safetensors")
        assert_equal(tg.load(tmp_path / "x.safetensors"), value)


def test_every_dtype_of_numpy_is_loaded_or_refused(tmp_path):
    codes = np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"
    for code in codes:
        array = np.ones(2, code)
        try:
            tg.save({"a": array}, tmp_path / "x.safetensors")
        except TypeError as error:
            assert code == "g" and "float64" in str(error)
        else:
            found = tg.load(tmp_path / "x.safetensors")["a"]
            assert found.dtype == array.dtype and found.tolist() == array.tolist()


def test_what_cannot_be_saved_is_named(tmp_path):
    net = nn.Linear(1, 1)
    for value, match in (
        (net, "Linear; save its state_dict"),
        ({"model": net}, "'model' is a Linear; save its state_dict"),
        ({"optimizer": optim.SGD(net.parameters())}, "'optimizer' is a SGD"),
        ({"z": np.array([1j])}, "'z' has dtype complex128"),
        ({"o": object()}, "'o' is a object"),
        ({"l": np.ones(2, np.longdouble)}, "'l' has dtype float128; .* at most 64 bits; save it as float64"),
        ({"n": np.longdouble(1)}, "'n' is a longdouble"),
        ({"c": np.complex64(1)}, "'c' is a complex64"),
        ({"t": np.datetime64("2020-01-01")}, "'t' is a datetime64"),
        ({"a": {"\ud800": tg.ones(1)}}, r"'a\.\\ud800' is the name of a tensor, and no text"),
        ({"run": itself()}, r"'run\.again\.0' is a dict that lies in itself"),
        (deep(101), r"'0\.0\..*' lies more than 100 dicts and lists deep"),
    ):
        with pytest.raises(TypeError, match=match):
            tg.save(value, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_truncated_files_name_file_and_reason(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    tg.save({"a": tg.randn(100)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"x\.safetensors' \(\d+ bytes\) cannot be read as safetensors: \w+"):
        tg.load(path)


def test_changed_bytes_are_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    tg.save({"a": tg.randn(100)}, path)
    data = bytearray(path.read_bytes())
    data[-17] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged: its checksum"):
        tg.load(path)


def test_no_byte_can_change_without_a_word(tmp_path):
    """The structure holds numbers too: 1e-8 would become 1e-1, and epoch 3 epoch 1."""
    path = tmp_path / "x.safetensors"
    state = {"w": tg.randn(3), "optimizer": {"eps": 1e-8, "lr": 0.001, "betas": (0.9, 0.999)}, "epoch": 3, 7: None}
    tg.save(state, path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in (0, 4, 6):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            with pytest.raises(ValueError, match=r"x\.safetensors"):
                tg.load(path)
    for more in (whole + b"0", whole[:-1], whole[:8] + b" " + whole[8:]):
        path.write_bytes(more)
        with pytest.raises(ValueError, match=r"x\.safetensors"):
            tg.load(path)


def older(tensors, structure, path):
    """A file of version 1, whose checksum is of the tensors alone."""
    import json
    import zlib

    from safetensors.numpy import save_file

    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].tobytes(), zlib.crc32(name.encode(), total))
    save_file(tensors, path, {"format": "tinygen", "structure": json.dumps(structure), "crc32": f"{total:08x}"})


def test_files_of_the_version_before_are_read(tmp_path):
    path, w = tmp_path / "x.safetensors", np.arange(3.0)
    older({"w": w}, {"w": {"$tensor": "w"}, "epoch": 3}, path)
    assert_equal(tg.load(path), {"w": tg.tensor(w), "epoch": 3})
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match="is damaged: its checksum"):
        tg.load(path)


@pytest.mark.parametrize(
    "structure", [{"$tensor": "v"}, {"$tensor": []}, {"$dict": [1]}, {"$dict": [[[], 1]]}, {"$tuple": 3}]
)
def test_a_structure_that_does_not_fit_is_damage_and_no_key_error(structure, tmp_path):
    older({"w": np.ones(2)}, structure, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors' is damaged: its structure does not fit its tensors"):
        tg.load(tmp_path / "x.safetensors")


def test_a_file_of_a_later_version_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "VERSION", "3")
    tg.save({"a": 1}, tmp_path / "x.safetensors")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has version 3 of the file format, this tinygen reads 2 and before; update"):
        tg.load(tmp_path / "x.safetensors")


def test_other_files_and_missing_ones(tmp_path):
    (tmp_path / "photo.safetensors").write_bytes(b"\x89PNG" * 50)
    with pytest.raises(ValueError, match="photo"):
        tg.load(tmp_path / "photo.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no file '.*foto\.safetensors'; is it '.*photo\.safetensors'"):
        tg.load(tmp_path / "foto.safetensors")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tg.load(tmp_path / "nowhere" / "x")
    safetensors_torch.save_file({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="save it as float32"):
        tg.load(tmp_path / "b.safetensors")


def test_the_module_names_what_it_offers():
    assert serialization.__all__ == ["save", "load"] and tg.save is serialization.save
