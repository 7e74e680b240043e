"""The state as plain tensors: exact, small, and loadable into plain torch."""

import pytest
import torch
from aihwkit.simulator.parameters import MappingParameter
from safetensors.torch import load_file, save_file

from cnet_aihw.compensation import network_cost
from cnet_aihw.rram import (
    RRAMRPUConfig,
    chip_model,
    convert_to_analog,
    count_weights,
    digital_state_dict,
    freeze_analog,
    is_programmed,
    load_digital_state_dict,
    load_snapshot,
    periphery,
    program,
    snapshot,
    trainable_parameters,
)
from cnet_aihw.runtime.errors import CnetError

MAPPINGS = {
    "one tile": MappingParameter(max_input_size=0, max_output_size=0),
    "tile array": MappingParameter(max_input_size=20, max_output_size=4),
    "scaled": MappingParameter(weight_scaling_omega=0.8, learn_out_scaling=True),
}


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_snapshot_survives_a_file_and_training_bit_for_bit(conv_net, images, mapping, tmp_path):
    model = convert_to_analog(conv_net, RRAMRPUConfig(mapping=MAPPINGS[mapping]))
    save_file(snapshot(model), tmp_path / "model.safetensors")
    expected = model.eval()(images)
    optimizer = torch.optim.SGD(trainable_parameters(model), lr=0.1)
    model.train()(images).sum().backward()
    optimizer.step()
    assert not torch.equal(model.eval()(images), expected)
    load_snapshot(model, load_file(tmp_path / "model.safetensors"))
    assert torch.equal(model.eval()(images), expected)  # weights, biases and BatchNorm statistics


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_network_loads_its_own_state_in_place(conv_net, images, mapping):
    model = convert_to_analog(conv_net, RRAMRPUConfig(mapping=MAPPINGS[mapping])).eval()
    expected, state = model(images), model.state_dict()
    model.load_state_dict(state)
    assert torch.equal(model(images), expected)
    other = convert_to_analog(type(conv_net)(), RRAMRPUConfig(mapping=MAPPINGS[mapping])).eval()
    other.load_state_dict(state)  # loading it before has not changed it
    assert torch.equal(other(images), expected)


@pytest.mark.parametrize("mapping", ["one tile", "tile array", "scaled"])
def test_a_state_kept_while_training_goes_on_has_the_weights_of_then(conv_net, mapping):
    """As with aihwkit's tiles. What else a state holds are torch's live tensors."""
    model = convert_to_analog(conv_net, RRAMRPUConfig(mapping=MAPPINGS[mapping]))
    then, state = digital_state_dict(model), model.state_dict()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("tile.weight"):
                parameter.add_(0.5)
    model.load_state_dict(state)
    for name, weight in digital_state_dict(model).items():
        torch.testing.assert_close(weight, then[name])


def test_snapshot_has_the_names_of_the_digital_network(conv_net):
    assert set(snapshot(convert_to_analog(conv_net))) == set(conv_net.state_dict())


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_export_loads_into_the_plain_network(conv_net, images, mapping):
    model = convert_to_analog(conv_net, RRAMRPUConfig(mapping=MAPPINGS[mapping])).eval()
    plain = type(conv_net)()
    plain.load_state_dict(digital_state_dict(model))
    torch.testing.assert_close(plain.eval()(images), conv_net.eval()(images), rtol=1e-4, atol=1e-5)


def test_tensors_of_another_network_are_refused(conv_net):
    model = convert_to_analog(conv_net)
    tensors = snapshot(model)
    missing = {k: v for k, v in tensors.items() if k != "fc.bias"}
    with pytest.raises(CnetError, check=lambda e: e.key == "fc.bias"):
        load_snapshot(model, missing)
    with pytest.raises(CnetError, check=lambda e: e.key == "extra"):
        load_snapshot(model, tensors | {"extra": torch.ones(1)})
    with pytest.raises(CnetError, check=lambda e: e.key == "fc.bias"):
        load_snapshot(model, tensors | {"fc.bias": torch.ones(2)})


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_what_is_kept_of_a_programmed_model_is_nominal(conv_net, mapping):
    model = convert_to_analog(conv_net, RRAMRPUConfig(mapping=MAPPINGS[mapping]))
    tensors, exported = snapshot(model), digital_state_dict(model)
    program(model, 1)
    for name, tensor in snapshot(model).items():
        assert torch.equal(tensor, tensors[name])
    for name, tensor in digital_state_dict(model).items():
        assert torch.equal(tensor, exported[name])
    assert is_programmed(model)
    load_snapshot(model, tensors)
    assert not is_programmed(model)


def test_every_weight_is_counted_once(conv_net):
    model = convert_to_analog(conv_net)
    assert count_weights(model) == sum(p.numel() for p in conv_net.parameters())
    assert sum(p.numel() for p in trainable_parameters(model)) == count_weights(model)
    freeze_analog(model)
    assert sum(p.numel() for p in trainable_parameters(model)) == 16  # gamma and beta of the norm


@pytest.mark.parametrize(
    "use",
    [
        lambda model, x: digital_state_dict(model),
        lambda model, x: load_digital_state_dict(model, digital_state_dict(model)),
        lambda model, x: snapshot(model),
        lambda model, x: model.state_dict(),
        lambda model, x: chip_model(model, [1]),
        lambda model, x: network_cost(model, x[:1]),
    ],
)
def test_what_only_reads_a_network_draws_no_random_numbers(conv_net, images, use):
    """Else saving a network in between would change the training that goes on."""
    config = RRAMRPUConfig(forward=periphery(adc_bits=8, out_noise=0.1))
    model = convert_to_analog(conv_net, config)
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    use(model, images)
    assert torch.equal(torch.rand(4), expected)
