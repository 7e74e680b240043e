"""Performer attention: its limit, causality, conversion, and chips."""

import pytest
import torch

from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    analog_layers,
    chips,
    convert_to_analog,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import PerformerAttention, ViT
from cnet_aihw.zoo.transformer import Attention


def both(causal: bool, rows: int, features: str = "orf") -> tuple[Attention, PerformerAttention]:
    torch.manual_seed(0)
    exact = Attention(8, 2, causal)
    made = PerformerAttention(8, 2, causal, features, rows)
    made.load_state_dict({**made.state_dict(), **exact.state_dict()})
    return exact, made


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("features", ["rff", "orf"])
def test_many_rows_are_the_softmax(causal: bool, features: str) -> None:
    exact, made = both(causal, 5000, features)
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(made(x / 2), exact(x / 2), atol=0.02, rtol=0.0)
    assert torch.isfinite(made(30.0 * x)).all()  # where exponentials alone would overflow


def test_causal_attention_sees_only_what_is_before() -> None:
    _, made = both(True, 16)
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[0, 4] += 1.0
    before, after = made(x), made(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(-1).all()


def test_a_trained_transformer_becomes_one_on_crossbars() -> None:
    torch.manual_seed(0)
    model = ViT((1, 8, 8), 3, patch=4, width=8, depth=1, heads=2)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.0))
    converters = {Attention: PerformerAttention}
    analog = convert_to_analog(model, config, converters=converters).eval()
    names = [n.removeprefix("blocks.0.attention.") for n in analog_layers(analog) if "atten" in n]
    assert sorted(names) == ["k", "o", "projection", "q", "v"]
    assert not any("projection" in n for n, p in analog.named_parameters() if p.requires_grad)
    x, y = torch.rand(12, 1, 8, 8), torch.arange(12) % 3
    assert isinstance(analog.blocks[0].attention, PerformerAttention)
    torch.testing.assert_close(
        analog.blocks[0].attention.q.get_weights()[0], model.blocks[0].attention.q.weight.detach()
    )
    assert evaluate_chips(analog, (x, y), chips=2, device="cpu").std == 0.0


@torch.no_grad()
def test_variation_of_the_projection_moves_outputs() -> None:
    exact, made = both(False, 64)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3))
    model = convert_to_analog(made, config, exclude=["q", "k", "v", "o"]).eval()
    assert list(analog_layers(model)) == ["projection"]
    x = torch.randn(2, 6, 8)
    clean = model(x)
    torch.testing.assert_close(clean, made(x))
    for _ in chips(model, 2):
        assert (model(x) != clean).any()
    assert float((clean - exact(x)).norm() / exact(x).norm()) < 0.2


def test_impossible_sizes_are_refused() -> None:
    for key, given in (
        ("heads", {"width": 8, "heads": 3}),
        ("outputs", {"width": 8, "heads": 2, "rows": 0}),
        ("features", {"width": 8, "heads": 2, "features": "relu"}),
    ):
        with pytest.raises(CnetError) as caught:
            PerformerAttention(**given)
        assert caught.value.key == key
