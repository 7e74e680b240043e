"""Architectures of torchvision, timm and transformers: exact on perfect chips, or refused."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    analog_layers,
    clear_chip,
    convert_to_analog,
    program,
)
from cnet_aihw.rram.called import called_layers
from cnet_aihw.runtime.errors import CnetError

Made = tuple[nn.Module, dict[str, Any]]
"""A network and its inputs by name."""

SIDE = 64


def image(side: int = SIDE, name: str = "x", *more: int) -> dict[str, Tensor]:
    shape = (1, 3, *more, side, side)
    return {name: torch.randn(shape, generator=torch.Generator().manual_seed(1))}


def words(length: int = 7, name: str = "input_ids") -> dict[str, Tensor]:
    return {name: torch.arange(1, length + 1).unsqueeze(0)}


# -- torchvision

VISION: dict[str, dict[str, Any]] = {
    **{
        key: {}
        for key in (
            *("resnet18", "squeezenet1_0", "squeezenet1_1", "densenet121", "mobilenet_v2"),
            *("mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "efficientnet_b0"),
            *("regnet_y_400mf", "regnet_x_400mf", "resnext50_32x4d", "convnext_tiny"),
        )
    },
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False, "side": 80},
    "segmentation.lraspp_mobilenet_v3_large": {"weights_backbone": None, "name": "input"},
    "segmentation.deeplabv3_mobilenet_v3_large": {"weights_backbone": None},
    "video.r3d_18": {"frames": 4, "side": 32},
    "detection.ssdlite320_mobilenet_v3_large": {"weights_backbone": None, "name": "images"},
}


def torchvision(name: str) -> Made:
    from torchvision import models

    options = {"name": "x", "side": SIDE, "frames": None} | VISION[name]
    side, frames, key = (options.pop(k) for k in ("side", "frames", "name"))
    module, _, kind = name.rpartition(".")
    home = importlib.import_module(f"torchvision.models.{module}") if module else models
    net = getattr(home, kind)(weights=None, **options)
    inputs = image(side, key, *(() if frames is None else (frames,)))
    return net, {key: list(inputs[key])} if module == "detection" else inputs


def small_torchvision(name: str) -> Made:
    from torchvision.models import maxvit, swin_transformer, vision_transformer

    if name == "vit":
        net = vision_transformer.VisionTransformer(32, 8, 2, 2, 16, 32)
    elif name == "maxvit":
        net = maxvit.MaxVit((32, 32), 8, 4, [8, 16], [1, 1], 8, 0.0)
    else:
        block = swin_transformer.SwinTransformerBlockV2 if name == "swin_v2" else None
        merging = swin_transformer.PatchMergingV2 if name == "swin_v2" else None
        options = {"block": block, "downsample_layer": merging} if name == "swin_v2" else {}
        net = swin_transformer.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], **options)
    return net, image(32)


# -- timm

TIMM: dict[str, dict[str, Any]] = {
    **{
        key: {}
        for key in (
            *("resnet10t", "mobilenetv3_small_050", "ghostnet_050", "lcnet_035", "tinynet_e"),
            *("mnasnet_small", "regnety_002", "repvgg_a0", "convnext_atto", "convnextv2_atto"),
            *("hrnet_w18_small", "edgenext_xx_small", "poolformer_s12", "mobilevit_xxs"),
            *("mobilevitv2_050", "pvt_v2_b0", "fastvit_t8", "efficientvit_b0", "rexnet_100"),
            *("eca_nfnet_l0", "repghostnet_050", "inception_next_atto"),
        )
    },
    **{
        key: {"img_size": SIDE, "depth": 2}
        for key in ("vit_tiny_patch16_224", "deit_tiny_patch16_224")
    },
    "mixer_s32_224": {"img_size": SIDE},
    "resmlp_12_224": {"img_size": SIDE},
    "gmlp_ti16_224": {"img_size": SIDE},
    "beit_base_patch16_224": {"img_size": SIDE, "depth": 2, "embed_dim": 96, "num_heads": 3},
    "eva02_tiny_patch14_224": {"img_size": 56, "depth": 2, "side": 56},
    "swinv2_tiny_window8_256": {
        **{"img_size": SIDE, "window_size": 4, "depths": (1, 1), "num_heads": (2, 4)},
        "embed_dim": 16,
    },
    "xcit_nano_12_p16_224": {"depth": 2},
    "cait_xxs24_224": {"img_size": SIDE, "depth": 2},
    "levit_128s": {"side": 224},
    "tiny_vit_5m_224": {"side": 224},
}


def timm(name: str) -> Made:
    from timm import create_model

    options = {"side": SIDE} | TIMM[name]
    side = options.pop("side")
    return create_model(name, pretrained=False, **options), image(side)


# -- transformers

TEXT = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32}
DEEP = {"num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {**TEXT, **DEEP, "num_key_value_heads": 1}
PICTURES = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32, **DEEP}
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], Callable[[], dict[str, Tensor]]]] = {
    "Bert": ("BertModel", {**TEXT, **DEEP}, words),
    "Roberta": ("RobertaModel", {**TEXT, **DEEP}, words),
    "Electra": ("ElectraModel", {**TEXT, **DEEP, "embedding_size": 16}, words),
    "Albert": ("AlbertModel", {**TEXT, **DEEP, "embedding_size": 16}, words),
    "DebertaV2": ("DebertaV2Model", {**TEXT, **DEEP}, words),
    "DistilBert": (
        "DistilBertModel",
        {"vocab_size": 50, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
        words,
    ),
    "GPT2": ("GPT2LMHeadModel", {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2}, words),
    "GPTNeoX": ("GPTNeoXForCausalLM", {**TEXT, **DEEP}, words),
    "OPT": (
        "OPTForCausalLM",
        {**TEXT, **DEEP, "ffn_dim": 32, "word_embed_proj_dim": 16},
        words,
    ),
    "Llama": ("LlamaForCausalLM", GROUPED, words),
    "Mistral": ("MistralForCausalLM", GROUPED, words),
    "Qwen2": ("Qwen2ForCausalLM", GROUPED, words),
    "Bloom": (
        "BloomForCausalLM",
        {"vocab_size": 50, "hidden_size": 16, "n_layer": 2, "n_head": 2},
        words,
    ),
    "Mamba": (
        "MambaForCausalLM",
        {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
        words,
    ),
    "T5": (
        "T5EncoderModel",
        {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
        words,
    ),
    "ViT": ("ViTForImageClassification", PICTURES, lambda: image(32, "pixel_values")),
    "DeiT": ("DeiTModel", PICTURES, lambda: image(32, "pixel_values")),
    "Beit": ("BeitModel", PICTURES, lambda: image(32, "pixel_values")),
    "Swin": (
        "SwinModel",
        {
            **{"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1]},
            **{"num_heads": [1, 2], "window_size": 4},
        },
        lambda: image(32, "pixel_values"),
    ),
    "ConvNext": (
        "ConvNextModel",
        {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]},
        lambda: image(32, "pixel_values"),
    ),
    "CLIPVision": ("CLIPVisionModel", PICTURES, lambda: image(32, "pixel_values")),
}


def transformers(name: str) -> Made:
    import transformers as library

    kind, options, inputs = TRANSFORMERS[name]
    config = getattr(library, f"{name}Config")(**options)
    return getattr(library, kind)(config), inputs()


ALL: list[tuple[str, Callable[[str], Made], str]] = [
    *(("torchvision", torchvision, name) for name in VISION),
    *(("torchvision", small_torchvision, name) for name in ("vit", "swin", "swin_v2", "maxvit")),
    *(("timm", timm, name) for name in TIMM),
    *(("transformers", transformers, name) for name in TRANSFORMERS),
]
REFUSED: dict[str, tuple[str, list[str]]] = {
    "beit_base_patch16_224": ("weight", ["*.qkv"]),
    "eva02_tiny_patch14_224": ("weight", ["*.qkv"]),
    "swinv2_tiny_window8_256": ("weight", ["*.qkv"]),
    "Mamba": ("weight", ["*.conv1d", "*.dt_proj"]),
}
"""Architectures that are refused: key of the error, and what to exclude."""


def tensors(outputs: Any) -> Iterator[Tensor]:
    """Tensors of outputs of any structure; nothing else of them counts."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from tensors(value)
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from tensors(value)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def fill(net: nn.Module) -> None:
    """Give parameters that begin as zeros other values, since no chip changes a zero."""
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)


def check(net: nn.Module, inputs: dict[str, Any], exclude: Sequence[str] = ()) -> None:
    def compute(model: nn.Module) -> list[Tensor]:
        torch.manual_seed(2)
        return [tensor.clone() for tensor in tensors(model(**inputs))]

    wanted = compute(net)
    assert wanted and same(compute(net), wanted)  # otherwise nothing could be compared
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3))
    model = convert_to_analog(net, config, exclude=exclude)
    with called_layers(model) as called:
        nominal = compute(model)
    for one, other in zip(nominal, wanted, strict=True):  # attention by parts rounds otherwise
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert called <= set(analog_layers(model))
    program(model, 1)
    chip = compute(model)
    assert not same(chip, nominal)
    program(model, 2)
    assert not same(compute(model), chip)
    program(model, 1)
    assert same(compute(model), chip)
    clear_chip(model)
    assert same(compute(model), nominal)
    program(model, 1, LogNormalNoiseModel(0.0))
    assert same(compute(model), nominal)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "make", "name"), ALL, ids=[f"{package}-{name}" for package, _, name in ALL]
)
@pytest.mark.filterwarnings("ignore")
def test_an_architecture_is_exact_on_a_perfect_chip_or_refused(
    package: str, make: Callable[[str], Made], name: str
) -> None:
    pytest.importorskip(package)
    torch.manual_seed(0)
    net, inputs = make(name)
    with torch.no_grad():
        fill(net.eval())
        if name not in REFUSED:
            check(net, inputs)
            return
        key, exclude = REFUSED[name]
        with pytest.raises(CnetError) as error:
            check(net, inputs)
        assert error.value.key == key and "\n" not in str(error.value)
        check(net, inputs, exclude)
