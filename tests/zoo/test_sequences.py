"""Transformers, recurrent networks and the U-Net."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import LanguageModel, PerformerAttention, Recurrent, UNet, ViT
from cnet_aihw.zoo.transformer import Attention


def test_attention_is_that_of_the_formula() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    for causal in (False, True):
        attention = Attention(8, 2, causal)
        wanted = torch.empty(2, 5, 8)
        for head in (slice(0, 4), slice(4, 8)):
            q, k, v = (layer(x)[..., head] for layer in (attention.q, attention.k, attention.v))
            scores = q @ k.transpose(1, 2) / 4**0.5
            if causal:
                scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
            wanted[..., head] = scores.softmax(-1) @ v
        torch.testing.assert_close(attention(x), attention.o(wanted))


def test_a_sequence_that_is_too_long_is_named() -> None:
    network = LanguageModel((8,), 10, 8, 1, 2)
    assert network(torch.zeros(2, 3, dtype=torch.int64)).shape == (2, 3, 10)
    with pytest.raises(CnetError, check=lambda e: e.value == (2, 9)):
        network(torch.zeros(2, 9, dtype=torch.int64))


def test_a_performer_has_the_numbers_of_its_attention() -> None:
    attention = Attention(8, 2).double()
    made = PerformerAttention.from_digital(attention)
    assert {p.dtype for p in made.parameters()} == {torch.float64}
    assert made(torch.randn(1, 4, 8, dtype=torch.float64)).dtype == torch.float64


def test_a_language_model_sees_only_what_is_before() -> None:
    torch.manual_seed(0)
    model = LanguageModel((6,), 11, width=8, depth=2, heads=2)
    x = torch.randint(11, (1, 6))
    changed = x.clone()
    changed[0, 4] = (x[0, 4] + 1) % 11
    before, after = model(x), model(changed)
    assert before.shape == (1, 6, 11)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(-1).all()
    torch.testing.assert_close(model(x[:, :3]), before[:, :3])  # shorter than the context


def test_a_vision_transformer_starts_near_equal_odds() -> None:
    torch.manual_seed(0)
    model = ViT((3, 32, 32), 10, width=16, depth=2, heads=2)
    logits = model(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 10)
    assert logits.abs().max() < 1.0
    assert sum(isinstance(m, nn.Linear | nn.Conv2d) for m in model.modules()) == 1 + 2 * 6 + 1


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_images_are_read_row_by_row(cell: str) -> None:
    torch.manual_seed(0)
    model = Recurrent((2, 5, 3), 4, cell=cell, width=7)
    images = torch.randn(6, 2, 5, 3)
    rows = torch.stack([images[:, :, row].flatten(1) for row in range(5)], 1)
    assert torch.equal(model(images), model(rows))
    assert model(images).shape == (6, 4)


def test_a_unet_keeps_the_size_and_joins_levels() -> None:
    torch.manual_seed(0)
    model = UNet((1, 16, 24), 5, width=4, depth=3).eval()
    x = torch.randn(2, 1, 16, 24)
    assert model(x).shape == (2, 5, 16, 24)
    # one pixel that the lowest level does not see any more reaches its own output
    dot = torch.zeros(1, 1, 16, 24)
    dot[0, 0, 3, 3] = 1.0
    change = (model(dot) - model(torch.zeros_like(dot))).abs().sum(1)[0]
    assert change[3, 3] > 0


def test_these_networks_learn() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8) % 2
    networks = [ViT((1, 8, 8), 2, width=16, depth=1, heads=2), Recurrent((1, 8, 8), 2, width=16)]
    for model in networks:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.1


@pytest.mark.parametrize(
    ("network", "settings", "key"),
    [
        (ViT, {"patch": 5}, "ViT"),
        (ViT, {"heads": 3}, "heads"),
        (ViT, {"depth": 0}, "depth"),
        (LanguageModel, {"input_shape": (3, 4)}, "input_shape"),
        (LanguageModel, {"width": 0}, "width"),
        (Recurrent, {"cell": "gate"}, "cell"),
        (Recurrent, {"input_shape": (3,)}, "input_shape"),
        (Recurrent, {"layers": 0}, "layers"),
        (UNet, {"input_shape": (1, 10, 12)}, "UNet"),
        (UNet, {"width": 0}, "width"),
    ],
)
def test_sizes_that_do_not_fit(network: Any, settings: dict[str, Any], key: str) -> None:
    with pytest.raises(CnetError) as error:
        network(**settings)
    assert error.value.key == key
