"""Correctors of one chip, saved and loaded, and refused by any other."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from cnet_aihw.compensation import (
    LowRank,
    PerChipFit,
    Placement,
    compensate,
    compensated_layers,
    load_chip_correctors,
    load_compensation,
    remove_compensation,
    save_chip_correctors,
    save_compensation,
)
from cnet_aihw.rram import (
    CompositeNoiseModel,
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    program,
    set_noise_model,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError

from .test_with_compensation import PLACEMENT, X, network


@pytest.fixture
def saved(tmp_path):
    """A chip with its correctors in a file, and its outputs with them."""
    model = compensate(network().eval(), PLACEMENT, LowRank())
    program(model, 3)
    path = tmp_path / "chip.safetensors"
    with PerChipFit(X, batchnorm=True)(model):
        outputs = model(X)
        save_chip_correctors(model, path)
    return path, outputs


def test_the_same_chip_gets_them_back_bit_for_bit(saved):
    path, outputs = saved
    other = network().eval()
    program(other, 3)
    assert load_chip_correctors(other, path) is other
    assert torch.equal(other(X), outputs)
    assert set(compensated_layers(other)) == set(PLACEMENT)


@pytest.mark.parametrize("case", ["another chip", "no chip", "another network"])
def test_all_others_are_refused_and_left_as_they_were(saved, case):
    path, _ = saved
    model = network().eval()
    if case == "another network":
        with torch.no_grad():
            model[1].weight.mul_(1.5)
    if case != "no chip":
        program(model, 3 if case == "another network" else 4)
    before, state = model(X), snapshot(model)
    with pytest.raises(CnetError) as error:
        load_chip_correctors(model, path)
    keys = {"another chip": "chip", "no chip": "model", "another network": "network"}
    assert error.value.key == keys[case]
    assert str(error.value).count(".") - str(path).count(".") <= 1  # one sentence
    assert not compensated_layers(model)
    assert torch.equal(model(X), before)
    assert all(torch.equal(state[name], tensor) for name, tensor in snapshot(model).items())


def test_a_chip_is_the_same_at_any_time(tmp_path):
    drifting = CompositeNoiseModel([LogNormalNoiseModel(0.3), PowerLawDriftNoiseModel()])
    placement = Placement({"0": 0.5})
    model = network().eval()
    set_noise_model(model, drifting)
    compensate(model, placement, LowRank())
    program(model, 3, t_inference=1.0)
    with PerChipFit(X)(model):
        save_chip_correctors(model, tmp_path / "early")
    remove_compensation(model)
    program(model, 3, t_inference=1e6)
    load_chip_correctors(model, tmp_path / "early")
    assert set(compensated_layers(model)) == {"0"}


def test_files_of_other_kinds_are_refused(saved, tmp_path):
    path, _ = saved
    model = compensate(network().eval(), PLACEMENT, LowRank())
    save_compensation(model, tmp_path / "shared")
    save_file(load_file(path), tmp_path / "bare")
    base = remove_compensation(copy.deepcopy(model))
    for load, file in (
        (load_chip_correctors, tmp_path / "shared"),
        (load_chip_correctors, tmp_path / "bare"),
        (load_chip_correctors, tmp_path / "missing"),
        (load_compensation, path),
    ):
        with pytest.raises(CnetError) as error:
            load(base, file)
        assert error.value.key == str(file)
        assert not compensated_layers(base)


def test_a_model_without_correctors_or_chip_has_nothing_to_save(tmp_path):
    model = network().eval()
    with pytest.raises(CnetError) as error:
        save_chip_correctors(compensate(copy.deepcopy(model), PLACEMENT, LowRank()), tmp_path / "a")
    assert error.value.key == "model" and error.value.value == "not programmed"
    program(model, 3)
    with pytest.raises(CnetError) as error:
        save_chip_correctors(model, tmp_path / "a")
    assert error.value.key == "model"
    assert not (tmp_path / "a").exists()
