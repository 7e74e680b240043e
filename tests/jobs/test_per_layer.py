"""Values of single layers in the configuration: rram.per_layer."""

from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import DictConfig
from torch import nn

import cnet_aihw
from cnet_aihw.compensation import network_cost
from cnet_aihw.jobs.build import build_analog, build_data, build_task, on_crossbars
from cnet_aihw.jobs.schema import register_schema
from cnet_aihw.jobs.variants import variants_of
from cnet_aihw.rram import analog_layers
from cnet_aihw.runtime.errors import CnetError

CONF = Path(cnet_aihw.__file__).parent.parent / "conf"


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """Compose a small job with these words."""
    register_schema()

    def compose(*words: str) -> DictConfig:
        small = ["training=plain", "model=mlp", "data.size=8", "data.limit_train=20"]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("config", [*small, *words])

    return compose


def built(config: DictConfig) -> nn.Module:
    return build_analog(config, build_data(config), build_task(config))


def values(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Sigma and step of the ADC of each layer."""
    configs = {n: layer.analog_module.rpu_config for n, layer in analog_layers(model).items()}
    return {n[-3:]: (c.noise_model.sigma, c.forward.out_res) for n, c in configs.items()}


def test_the_last_pattern_that_matches_gives_a_layer_its_values(composed):
    words = "rram.per_layer={layers.fc*:{sigma:0.2,adc_bits:4},layers.fc3:{sigma:0.1}}"
    config = composed("rram.adc_bits=6", words)
    variants_of(config)
    six, four = 1 / 62, 1 / 14
    assert values(built(config)) == {
        "fc1": (0.2, pytest.approx(four)),
        "fc2": (0.2, pytest.approx(four)),
        "fc3": (0.1, pytest.approx(six)),
    }


def test_with_perfect_crossbars_in_training_a_layer_keeps_its_device(composed):
    config = composed(
        *("rram.adc_bits=6", "rram.in_training=false"),
        "rram.per_layer={layers.fc3:{sigma:0.1,adc_bits:4}}",
    )
    model = built(config)
    assert [sigma for sigma, _ in values(model).values()] == [0.5, 0.5, 0.1]
    assert {
        layer.analog_module.rpu_config.forward.is_perfect for layer in analog_layers(model).values()
    } == {True}
    moved = values(on_crossbars(config, model))
    assert moved["fc1"] == (0.5, pytest.approx(1 / 62))
    assert moved["fc3"] == (0.1, pytest.approx(1 / 14))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("{layers.fc3:{sigmaa:0.1}}", "rram.per_layer.layers.fc3.sigmaa"),
        ("{layers.fc3:{sigma:-1}}", "rram.per_layer.layers.fc3.sigma"),
        ("{layers.fc3:{exclude:[a]}}", "rram.per_layer.layers.fc3.exclude"),
        ("{layers.fc3:{adc_range:null}}", "rram.per_layer.layers.fc3.adc_range"),
        ("{layers.fc3:0.1}", "rram.per_layer.layers.fc3"),
        ("{head:{sigma:0.1}}", "rram.per_layer"),
    ],
)
def test_values_that_a_layer_cannot_have_are_refused(composed, words, key):
    with pytest.raises(CnetError, check=lambda e: e.key == key):
        built(composed(f"rram.per_layer={words}"))


def test_something_else_than_layers_is_refused_with_the_configuration(composed):
    with pytest.raises(CnetError, check=lambda e: e.key == "rram.per_layer"):
        variants_of(composed("rram.per_layer=[a]"))


@pytest.mark.parametrize(
    ("words", "width", "sizes"),
    [
        ((), 64, [0, 1, 2, 4, 8]),
        ((), 256, [0, 1, 2, 4, 8, 16, 32]),
        (("compensation/corrector=generator",), 256, [1, 2, 4, 8, 16, 32]),
        (("compensation/corrector=affine",), 256, []),
        (("search.sizes=[0,3]",), 256, [0, 3]),
        (("search.ratios=[0,0.5]",), 256, []),
        (("compensation=paper",), 256, []),
    ],
)
def test_a_search_gives_the_layers_of_wide_networks_more_filters(composed, words, width, sizes):
    (variant,) = variants_of(composed(*words))
    network = nn.Sequential(nn.Linear(512, width), nn.Linear(width, 512), nn.Linear(512, 3))
    cost = network_cost(cnet_aihw.convert_to_analog(network), torch.zeros(1, 512))
    assert variant.space(cost).sizes == sizes
