"""Pretrained weights: the ways they are saved, and the files that do not fit."""

import argparse
import os
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from aihwkit.simulator.parameters import MappingParameter
from safetensors.torch import save_file
from torch import Tensor, nn

from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training.checkpoint import Checkpoint, save_checkpoint
from cnet_aihw.zoo import MLP, ResNet20, load_pretrained


def network() -> ResNet20:
    return ResNet20((1, 8, 8), 3, width=0.5)


def weights() -> dict[str, Tensor]:
    model = network()
    model(torch.randn(4, 1, 8, 8))  # so that the buffers of BatchNorm are others than at the start
    return model.state_dict()


def prefixed(state: dict[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


def beside(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network in a module of Lightning, beside a loss with weights."""
    return {"loss.weight": torch.ones(3), **prefixed(state, "net.")}


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.safetensors", lambda s, p: save_file(s, p)),
        ("b.safetensors", lambda s, p: save_file(prefixed(s), p)),
        ("a.pt", torch.save),
        ("b.pth", lambda s, p: torch.save({"state_dict": s, "epoch": 3}, p)),
        ("c.pt", lambda s, p: torch.save({"state_dict": prefixed(s)}, p)),
        ("d.pt", lambda s, p: torch.save(OrderedDict(prefixed(s)), p)),
        ("e.pt", lambda s, p: torch.save(prefixed(s, "_orig_mod."), p)),
        ("f.pt", lambda s, p: torch.save(prefixed(s, "module._orig_mod."), p)),
        ("g.pt", lambda s, p: torch.save({"model": s, "epoch": 3}, p)),
        ("h.pt", lambda s, p: torch.save({"model_state_dict": s, "optimizer": {}}, p)),
        ("i.ckpt", lambda s, p: torch.save({"state_dict": beside(s), "loops": {}}, p)),
        (
            "k.pth",
            lambda s, p: torch.save({"model": s, "args": argparse.Namespace(lr=1)}, p),
        ),
        ("j.pt", lambda s, p: torch.save({"n_averaged": torch.tensor(3), **prefixed(s)}, p)),
    ],
)
def test_every_way_of_saving(name: str, save: Callable[[Any, Path], None], tmp_path: Path) -> None:
    state = weights()
    save(state, tmp_path / name)
    model = network()
    assert load_pretrained(model, tmp_path / name) is model
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


def trained(config: RRAMRPUConfig) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Files that a training leaves of a network, and that network's own state."""
    state = weights()
    digital = network()
    digital.load_state_dict(state)
    return Checkpoint(snapshot(convert_to_analog(digital, config)), {}), state


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight


def test_tied_weights_have_one_value(tmp_path: Path) -> None:
    network, path = Tied(), tmp_path / "net.pt"
    wanted = torch.ones(2, 2)
    state = {**network.state_dict(), "first.weight": wanted, "second.weight": wanted.clone()}
    torch.save(state, path)
    assert torch.equal(load_pretrained(network, path).first.weight, wanted)
    torch.save({**state, "second.weight": wanted + 1}, path)
    with pytest.raises(CnetError, check=lambda e: e.key == "second.weight"):
        load_pretrained(network, path)
    assert torch.equal(network.first.weight, wanted)


def test_what_a_training_left(tmp_path: Path) -> None:
    checkpoint, state = trained(RRAMRPUConfig())
    save_checkpoint(tmp_path / "best.safetensors", checkpoint)
    model = load_pretrained(network(), tmp_path / "best.safetensors")
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


class Conv1D(nn.Module):
    """Linear layer as Hugging Face has it, with as many inputs as outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.nf = 4
        self.weight, self.bias = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.ConvTranspose2d(4, 4, 2),
        lambda: nn.ConvTranspose1d(4, 6, 3, groups=2),
        lambda: nn.Conv3d(4, 4, 2, groups=2),
        lambda: Conv1D(),
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5, bias=False),
        lambda: nn.LSTM(4, 6, 2, bidirectional=True, proj_size=2),
        lambda: nn.GRU(4, 4, bias=False),
    ],
)
def test_what_a_training_left_of_layers_of_other_kinds(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    left, other = nn.Sequential(make()), nn.Sequential(make())
    tensors = snapshot(convert_to_analog(left, RRAMRPUConfig()))
    save_checkpoint(tmp_path / "best.safetensors", Checkpoint(tensors, {}))
    load_pretrained(other, tmp_path / "best.safetensors")
    for key, value in other.state_dict().items():
        assert torch.equal(value, left.state_dict()[key]), key


@pytest.mark.parametrize(
    "mapping",
    [
        {"max_input_size": 16},
        {"weight_scaling_omega": 1.0, "weight_scaling_columnwise": True},
    ],
)
def test_what_a_training_left_of_split_or_scaled_layers_is_refused(
    mapping: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint, _ = trained(RRAMRPUConfig(mapping=MappingParameter(**mapping)))
    save_checkpoint(tmp_path / "best.safetensors", checkpoint)
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("best.safetensors")):
        load_pretrained(network(), tmp_path / "best.safetensors")


def changed(drop: int = 0, add: int = 0, reshape: bool = False) -> dict[str, Tensor]:
    state = dict(weights())
    for name in list(state)[:drop]:
        del state[name]
    state |= {f"head.{number}": torch.zeros(1) for number in range(add)}
    if reshape:
        state["fc.weight"] = torch.zeros(10, 32)
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(drop=1), r"the file lacks conv1\.weight;"),
        (changed(drop=5), r"lacks conv1\.weight, bn1\.weight, bn1\.bias and 2 more;"),
        (changed(add=1), r"has the unknown head\.0;"),
        (changed(reshape=True), r"another shape for fc\.weight \(\(10, 32\), not \(3, 32\)\)"),
        (changed(1, 1, True), r"lacks conv1\.weight, has the unknown head\.0, has another shape"),
    ],
)
def test_weights_of_another_network(state: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pt")
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CnetError, match=message):
        load_pretrained(model, tmp_path / "a.pt")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


class Trap:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    torch.save({"state_dict": weights(), "trap": Trap(tmp_path / "made")}, tmp_path / "a.pt")
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("a.pt")):
        load_pretrained(network(), tmp_path / "a.pt")
    assert not (tmp_path / "made").exists()


def test_files_that_are_something_else(tmp_path: Path) -> None:
    model = MLP((1, 2, 2), 2)
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("none.pt")):
        load_pretrained(model, tmp_path / "none.pt")
    texts = [b"", b"no weights at all", b"epoch,loss\n1,2\n", b"hello world\n", b"# text\n", b"}"]
    texts += [random.Random(seed).randbytes(100) for seed in range(20)]
    files = {"a.safetensors": b"no weights at all"} | {f"{n}.pt": t for n, t in enumerate(texts)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CnetError, check=lambda e, n=name: e.key.endswith(n)):
            load_pretrained(model, tmp_path / name)
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    torch.save({"state_dict": {"a": 3}}, tmp_path / "number.pt")
    for name in ("list.pt", "number.pt"):
        with pytest.raises(CnetError, check=lambda e, n=name: e.key.endswith(n)):
            load_pretrained(model, tmp_path / name)
    save_file({"a": torch.zeros(3)}, tmp_path / "cut.safetensors")
    content = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-4])
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("cut.safetensors")):
        load_pretrained(model, tmp_path / "cut.safetensors")


def test_two_sets_of_weights_that_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for both in ({"model": weights(), "ema": weights()}, prefixed(weights()) | weights()):
        torch.save(both, path)
        with pytest.raises(CnetError, check=lambda e: e.value == 2):
            load_pretrained(network(), path)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(float("nan"), torch.float32), (float("inf"), torch.float32), (1e300, torch.float64)],
)
def test_weights_that_are_not_finite_are_refused(
    value: float, kind: torch.dtype, tmp_path: Path
) -> None:
    state = weights()
    state["fc.weight"] = state["fc.weight"].to(kind)
    state["fc.weight"][0, 0] = value
    torch.save(state, tmp_path / "a.pt")
    model = network()
    before = model.fc.weight.clone()
    with pytest.raises(CnetError, check=lambda e: e.key == "fc.weight"):
        load_pretrained(model, tmp_path / "a.pt")
    assert torch.equal(model.fc.weight, before)


def test_a_buffer_may_hold_infinity_but_not_nan(tmp_path: Path) -> None:
    for value, refused in ((float("inf"), False), (float("nan"), True)):
        state = weights()
        state["bn1.running_var"][0] = value
        torch.save(state, tmp_path / "a.pt")
        if refused:
            with pytest.raises(CnetError, check=lambda e: e.key == "bn1.running_var"):
                load_pretrained(network(), tmp_path / "a.pt")
        else:
            assert load_pretrained(network(), tmp_path / "a.pt").bn1.running_var[0] == value


def test_whole_numbers_are_not_weights(tmp_path: Path) -> None:
    torch.save({name: value.to(torch.int8) for name, value in weights().items()}, tmp_path / "a.pt")
    with pytest.raises(CnetError, check=lambda e: e.value == "torch.int8"):
        load_pretrained(network(), tmp_path / "a.pt")


def test_objects_beside_the_weights_are_named_and_not_unpickled(tmp_path: Path) -> None:
    content = {"model": weights(), "rng": random.Random(1)}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CnetError, match=r"random\.Random"):
        load_pretrained(network(), tmp_path / "a.pt")


def test_a_compiled_network_takes_the_weights_of_the_plain_one(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a.pt")
    model = torch.compile(network())
    assert load_pretrained(model, tmp_path / "a.pt") is model
