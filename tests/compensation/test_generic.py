"""Promises for every network and placement of the table in conftest.py."""

import copy
import io

import cloudpickle
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cnet_aihw.compensation import (
    Placement,
    compensate,
    compensated_layers,
    compensation_cost,
    compensation_disabled,
    compensation_parameters,
    enable_compensation,
    load_compensation,
    network_cost,
    placement_of,
    remove_compensation,
    save_compensation,
)
from cnet_aihw.rram import (
    analog_layers,
    clear_chip,
    convert_to_analog,
    convert_to_digital,
    count_weights,
    effective_weights,
    program,
    programmed,
    set_variation,
    snapshot,
)


@pytest.fixture
def built(row):
    return row.build()


@pytest.fixture
def fitted(row, built, placed, perturb_all):
    model, x = built
    compensate(model, placed, row.corrector)
    perturb_all(model)
    return model, x


@pytest.fixture
def perturb_all():
    def perturb(model):
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in compensation_parameters(model).values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))

    return perturb


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_inserting_changes_no_output_bit_for_bit(row, built, placed):
    model, x = built
    before = model(x)
    compensate(model, placed, row.corrector)
    assert torch.equal(model(x), before)


def test_fitted_compensation_does_something(row, fitted, built):
    model, x = fitted
    if not row.fitted:
        pytest.skip("digital layers alone have nothing to fit")
    with compensation_disabled(model):
        base = model(x)
    assert not torch.allclose(model(x), base, atol=1e-4)


def test_removing_gives_the_base_model_back_bit_for_bit(row, built, placed, perturb_all):
    model, x = built
    names, state, before = list(dict(model.named_modules())), snapshot(model), model(x)
    compensate(model, placed, row.corrector)
    perturb_all(model)
    remove_compensation(model)
    assert list(dict(model.named_modules())) == names
    assert same(snapshot(model), state)
    assert torch.equal(model(x), before)


def test_disabled_it_is_the_base_model_and_enabled_again_itself(row, built, placed, perturb_all):
    model, x = built
    before = model(x)
    compensate(model, placed, row.corrector)
    perturb_all(model)
    corrected = model(x)
    with pytest.raises(RuntimeError, match="inside"), compensation_disabled(model):
        assert torch.equal(model(x), before)
        raise RuntimeError("inside")
    assert torch.equal(model(x), corrected)
    enable_compensation(model, False)
    assert torch.equal(model(x), before)


def test_only_compensation_is_saved_and_it_loads_into_the_base_model(row, fitted, tmp_path):
    model, x = fitted
    path = tmp_path / "compensation.safetensors"
    save_compensation(model, path)
    size = 4 * sum(p.numel() for p in compensation_parameters(model).values())
    assert path.stat().st_size < size + 4000
    other, _ = row.build()
    load_compensation(other, path)
    assert torch.equal(other(x), model(x))
    assert placement_of(other) == placement_of(model)


def test_layers_keep_their_part_of_a_chip(row, built, placed, perturb_all):
    model, _ = built
    with programmed(model, 7):
        before = effective_weights(model)
    compensate(model, placed, row.corrector)
    perturb_all(model)
    with programmed(model, 7):
        after = effective_weights(model)
    assert set(before) - set(after) == row.digital
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_chips_change_the_crossbars_alone(fitted):
    model, x = fitted
    before, parameters = model(x), {n: p.clone() for n, p in compensation_parameters(model).items()}
    program(model, 3)
    assert not torch.allclose(model(x), before, atol=1e-4)
    assert same(dict(compensation_parameters(model)), parameters)
    clear_chip(model)
    assert torch.equal(model(x), before)


def test_a_chip_is_no_obstacle_to_placing_and_removing(row, built, placed, perturb_all):
    """Digital layers compute with the nominal weights, and the chip of the others stays."""
    model, x = built
    program(model, 7)
    varied = model(x)
    compensate(model, placed, row.corrector)
    if not row.digital:
        assert torch.equal(model(x), varied)
    perturb_all(model)
    with compensation_disabled(model):
        assert torch.equal(model(x), varied)
    remove_compensation(model)
    assert torch.equal(model(x), varied)
    clear_chip(model)
    assert torch.equal(model(x), row.build()[0](x))


def test_gradient_through_frozen_varied_layers_equals_plain_torch(row, fitted):
    """Frozen analog layers with a chip's weights against plain torch layers with the same."""
    model, x = fitted
    program(model, 5)
    plain = convert_to_digital(copy.deepcopy(model))
    with torch.no_grad():
        for name, weight in effective_weights(model).items():
            layer = plain.get_submodule(name)
            getattr(layer, "base_layer", layer).weight.copy_(weight.view_as(layer.weight))
    gradients = []
    for network in (model, plain):
        parameters = list(compensation_parameters(network).values())
        inputs = x.clone().requires_grad_()
        loss = network(inputs).square().sum()
        gradients.append(torch.autograd.grad(loss, [inputs, *parameters]))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_only_compensation_trains_when_only_it_requires_a_gradient(row, fitted):
    model, x = fitted
    if not row.fitted:
        pytest.skip("digital layers alone have nothing to fit")
    base = {n: t for n, t in snapshot(model).items() if ".corrector_module." not in n}
    before = {n: p.clone() for n, p in compensation_parameters(model).items()}
    chosen = {id(p) for p in compensation_parameters(model).values()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    loss = F.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long))
    loss.backward()
    optimizer.step()
    assert same({n: t for n, t in snapshot(model).items() if ".corrector_module." not in n}, base)
    moved = {n for n, p in compensation_parameters(model).items() if not torch.equal(p, before[n])}
    layers = compensated_layers(model)
    assert {n for n in layers if any(m.startswith(f"{n}.") for m in moved)} == row.fitted


def test_training_forwards_vary_the_layers_that_stay_on_crossbars(fitted):
    model, x = fitted
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    model.train()
    assert not torch.equal(model(x), model(x))
    set_variation(model, enabled=False)
    assert torch.equal(model(x), model(x))


def test_cost_from_shapes_equals_what_is_built_and_run(row, fitted):
    model, x = fitted
    network = network_cost(model, x[:1])
    cost = compensation_cost(network, Placement(row.placement), row.corrector)
    built = sum(p.numel() for p in compensation_parameters(model).values())
    built += sum(network.layers[name].weights for name in row.digital)
    assert sum(cost.weights.values()) == built
    base, _ = row.build()
    assert network.weights == count_weights(base)
    assert cost.overhead_weights == built / network.weights
    with FlopCounterMode(display=False) as counter:
        model(x[:1])
    corrected = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter, compensation_disabled(model):
        model(x[:1])
    # torch counts a multiply-accumulate as two operations and sums each layer's own calls.
    assert network.macs == counter.get_total_flops() / 2
    digital_macs = sum(network.layers[name].macs for name in row.digital)
    assert sum(cost.macs.values()) == (corrected - counter.get_total_flops()) / 2 + digital_macs


def test_deepcopy_is_independent_and_equal(fitted):
    model, x = fitted
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))
    remove_compensation(twin)
    assert len(placement_of(model)) > 0 and not placement_of(twin)
    with compensation_disabled(model):
        assert torch.equal(twin(x), model(x))


def test_cloudpickle_keeps_it(fitted):
    """cloudpickle is how Ray sends objects to its workers."""
    model, x = fitted
    twin = cloudpickle.load(io.BytesIO(cloudpickle.dumps(model)))
    assert torch.equal(twin(x), model(x))
    assert placement_of(twin) == placement_of(model)


def test_it_computes_in_the_type_of_the_layer(fitted):
    model, x = fitted
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), model(x), rtol=0.2, atol=0.2)


def test_compensation_stays_digital_through_conversion(row, fitted):
    model, x = fitted
    again = convert_to_analog(convert_to_digital(copy.deepcopy(model)))
    assert not any(".corrector_module." in f".{name}." for name in analog_layers(again))
    torch.testing.assert_close(again.eval()(x), model(x), rtol=1e-4, atol=1e-4)
