"""Networks by name: torchvision here, timm and transformers where they are installed."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import call, main_output
from cnet_aihw.zoo import huggingface_model, timm_model, torchvision_model


def test_a_network_of_torchvision_gets_classes_and_size():
    options = {"dropout": 0.0}
    net = torchvision_model("squeezenet1_1", (3, 64, 64), 7, options=options).eval()
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"name": "resnet81"}, "model.name"),
        ({"name": "resnet18", "input_shape": (1, 28, 28)}, "inputs.shape"),
        ({"name": "resnet18", "options": {"depth": 3}}, "model"),
        ({"name": "vit_b_16", "input_shape": (3, 32, 48)}, "inputs.shape"),
        ({"name": "maxvit_t", "input_shape": (3, 64, 64)}, "model"),
        ({"name": "resnet18", "classes": 10, "pretrained": True}, "classes"),
    ],
)
def test_networks_of_torchvision_that_cannot_be_are_refused(arguments, key):
    with pytest.raises(CnetError, check=lambda e: e.key == key):
        torchvision_model(**arguments)


def test_a_network_of_torchvision_has_no_layers_that_its_output_does_not_need():
    net = torchvision_model("googlenet", (3, 64, 64), 5, options={"init_weights": False})
    net(torch.zeros(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_normalisation_of_pretrained_weights_is_said(monkeypatch, caplog):
    net = nn.Linear(2, 3)
    caplog.set_level("INFO", "cnet_aihw")
    monkeypatch.setattr("torchvision.models.get_model", lambda *_, **__: net)
    said = "data.mean=[0.485,0.456,0.406] data.std=[0.229,0.224,0.225]"
    assert torchvision_model("squeezenet1_1", pretrained=True) is net
    assert said in caplog.text
    caplog.clear()
    assert torchvision_model("squeezenet1_1") is net
    assert not caplog.text
    net.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.25)}
    timm = SimpleNamespace(list_models=lambda: ["tiny"], create_model=lambda *_, **__: net)
    monkeypatch.setitem(sys.modules, "timm", timm)
    assert timm_model("tiny", pretrained=True) is net
    assert "data.mean=[0.5,0.5,0.5] data.std=[0.5,0.5,0.25]" in caplog.text


class Weights(nn.Linear):
    """A network as transformers loads it, of which some weights are absent."""

    def __init__(self, absent: set[str]) -> None:
        super().__init__(2, 3)
        self.absent, self.config = absent, SimpleNamespace(use_cache=True)

    def from_pretrained(self, path: str, output_loading_info: bool, **_: Any) -> Any:
        assert output_loading_info
        return self, {"missing_keys": self.absent}


def as_transformers(weights: Weights) -> Any:
    """Return what is used of transformers, for weights in a folder."""

    def cached_file(path: str, name: str, local_files_only: bool) -> str:
        assert local_files_only
        if not (found := Path(path) / name).exists():
            raise OSError(name)
        return str(found)

    utils = SimpleNamespace(cached_file=cached_file)
    return SimpleNamespace(AutoModelForCausalLM=weights, utils=utils)


def test_weights_that_a_folder_lacks_are_named(tmp_path, monkeypatch, caplog):
    for absent, warnings in ((set(), 0), ({"bias"}, 1)):
        monkeypatch.setitem(sys.modules, "transformers", as_transformers(Weights(absent)))
        huggingface_model(path=str(tmp_path), head="AutoModelForCausalLM")
        assert len(caplog.records) == warnings
    assert "bias" in caplog.text
    both = as_transformers(Weights({"weight", "bias"}))
    monkeypatch.setitem(sys.modules, "transformers", both)
    with pytest.raises(CnetError, check=lambda e: e.key == "model.path"):
        huggingface_model(path=str(tmp_path), head="AutoModelForCausalLM")


@pytest.mark.parametrize("normalised", [True, False])
def test_the_normalisation_beside_weights_of_transformers_is_said(
    normalised, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", "cnet_aihw")
    monkeypatch.setitem(sys.modules, "transformers", as_transformers(Weights(set())))
    about = {"do_normalize": normalised, "image_mean": [0.5, 0.25], "image_std": [0.125, 1]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    huggingface_model(path=str(tmp_path), head="AutoModelForCausalLM")
    said = "data.mean=[0.5,0.25] data.std=[0.125,1.0]"
    assert (said in caplog.text) is normalised


def test_the_nearest_names_are_given():
    with pytest.raises(CnetError, check=lambda e: "resnet18" in e.expected):
        torchvision_model("resnet81")


def test_a_network_of_timm_gets_classes_channels_and_size():
    pytest.importorskip("timm")
    net = timm_model("test_vit", (1, 32, 32), 5, options={"patch_size": 8}).eval()
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 5)
    net = timm_model("test_resnet", (1, 32, 32), 5).eval()
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 5)
    with pytest.raises(CnetError, check=lambda e: e.key == "model.name"):
        timm_model("vit_tinny")
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        timm_model("test_vit", options={"no_such": 1})


GPT2 = {"model_type": "gpt2", "vocab_size": 20, "n_positions": 8, "n_embd": 8, "n_layer": 1}
VIT = {"model_type": "vit", "image_size": 8, "patch_size": 4, "hidden_size": 8}
VIT |= {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def test_networks_of_hugging_face_are_measured_on_chips(tmp_path):
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    net = huggingface_model(VIT, head="AutoModelForImageClassification", classes=3).eval()
    x, y = torch.randn(12, 3, 8, 8), torch.arange(12) % 3
    assert call(net, x).shape == (12, 3)
    model = convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3)))
    torch.testing.assert_close(call(model.eval(), x), call(net, x), rtol=1e-4, atol=1e-5)
    assert len(evaluate_chips(model, (x, y), chips=2).scores) == 2
    net.save_pretrained(tmp_path)
    head = "AutoModelForImageClassification"
    again = huggingface_model(path=str(tmp_path), head=head).eval()
    torch.testing.assert_close(call(again, x), call(net, x))


@pytest.mark.parametrize("tied", ["keep_digital", "untie"])
def test_a_language_model_takes_masks_and_its_head_is_a_choice(tied):
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    net = huggingface_model({**GPT2, "n_head": 2}, head="AutoModelForCausalLM").eval()
    inputs = {"input_ids": torch.randint(0, 20, (2, 6)), "attention_mask": torch.ones(2, 6).long()}
    inputs["attention_mask"][0, 4:] = 0
    analog = convert_to_analog(net, RRAMRPUConfig(), tied=tied).eval()
    report = analog.conversion_report
    assert ("lm_head" in report.analog) is (tied == "untie")
    assert {"transformer.h.0.attn.c_attn", "transformer.h.0.mlp.c_proj"} <= set(report.analog)
    torch.testing.assert_close(call(analog, inputs), call(net, inputs), rtol=1e-4, atol=1e-5)
    kept = analog.lm_head.weight is analog.transformer.wte.weight
    assert kept is (tied == "keep_digital")


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({}, "model.config"),
        ({"config": "gpt2", "path": "here"}, "model.config"),
        ({"config": {"n_layer": 2}}, "model.config"),
        ({"config": "gtp2"}, "model.config"),
        ({"config": {**GPT2, "n_layr": 1}}, "model.config.n_layr"),
        ({"config": "gpt2", "options": {"n_layr": 1}}, "model.options.n_layr"),
        ({"config": "gpt2", "head": "AutoModelForCausalML"}, "model.head"),
        ({"path": "gpt2"}, "model.path"),
    ],
)
def test_networks_of_hugging_face_that_cannot_be_are_refused(arguments, key):
    pytest.importorskip("transformers")
    with pytest.raises(CnetError, check=lambda e: e.key == key):
        huggingface_model(**arguments)


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(CnetError, check=lambda e: "cnet_aihw[zoo]" in e.fix):
        timm_model("resnet18")


def test_what_counts_of_named_outputs_is_taken():
    y = torch.ones(2)
    for outputs in (y, {"logits": y, "loss": 3}, {"out": y, "aux": y + 1}):
        assert main_output(outputs) is y
    assert main_output((y, y)) == (y, y)

    class Named(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"out": x}

    assert call(Named(), y) is y
