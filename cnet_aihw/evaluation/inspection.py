"""Check of a device and its crossbar: errors of weights and outputs, before a long run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from aihwkit.simulator.configs import InferenceRPUConfig
from torch import Tensor, nn

from cnet_aihw.evaluation.adc import before_adcs, calibrate_adc, lacks_adc_range
from cnet_aihw.evaluation.device_report import DeviceReport, DeviceRow, looks_wrong
from cnet_aihw.evaluation.settings import EvaluationSettings, times_of, validate_evaluation_settings
from cnet_aihw.rram import chips as walk_over_chips
from cnet_aihw.rram import convert_to_analog, effective_weights, label_of
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.typed import checked

ROWS, COLUMNS, INPUTS = 128, 64, 500
_POINTS = 1000  # of a scatter plot
_EXACT_DB = 100.0  # what is nearer is the rounding of 32-bit numbers
_SMALL = 0.05  # weights below this share of the largest have no meaningful relative error


@checked
def inspect_device(
    rpu_config: InferenceRPUConfig,
    weight: Tensor | None = None,
    *,
    chips: int = 10,
    seed: int = 0,
    t_inference: float | Sequence[float] | None = None,
) -> DeviceReport:
    """Program a linear layer onto chips, and compare weights and outputs with what was meant.

    Inputs are normal with the negative ones set to 0, as behind a ReLU, and clipped at 1 for charge
    read-out. An ADC without a range is calibrated on them.

    Args:
        rpu_config: device and crossbar: ours, or one of aihwkit's inference configurations.
        weight: weights to program, [out, in]; by default 64 x 128 normal ones, a sixteenth of them
            0.
        chips: how many chips.
        seed: seed of the chips' seeds.
        t_inference: seconds since programming; a sequence: at each of these times.

    Returns:
        The numbers, with warnings where they look like a wrong unit.

    Raises:
        CnetError: for impossible arguments, and for weights that are not finite on a chip.
    """
    settings = EvaluationSettings(chips=chips, seed=seed, t_inference=t_inference)
    validate_evaluation_settings(settings)
    nominal = _default_weight() if weight is None else _checked(weight)
    x = _default_inputs(nominal.shape[1])
    if getattr(rpu_config, "readout", None) is not None:
        x = x.clamp(max=1.0)  # times of spikes
    ideal = x @ nominal.T
    cpu = torch.device("cpu")
    with forked_random_state(cpu), torch.no_grad():
        model = _layer(nominal, rpu_config)
        seed_random_state(derive_seed(seed, "clean"), cpu)
        clipped, reach = _adc_fit(model, x)
        periphery_db = _snr_db([model(x)], ideal)
        measured = {t: _on_chips(model, x, settings, t) for t in times_of(t_inference)}
    rows = tuple(_row(t, nominal, ideal, x, *found, periphery_db) for t, found in measured.items())
    first_weights, first_outputs = (found[0] for found in next(iter(measured.values())))
    return DeviceReport(
        device=label_of(rpu_config.noise_model),
        weights=nominal.numel(),
        chips=chips,
        seed=seed,
        rows=rows,
        clipped=clipped,
        reach=reach,
        warnings=looks_wrong(rows, clipped, reach),
        weight_points=_points(nominal=nominal, programmed=first_weights),
        output_points=_points(ideal=ideal, chip=first_outputs),
    )


def _default_weight() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(COLUMNS, ROWS, generator=generator) / math.sqrt(ROWS)
    return weight.masked_fill(torch.rand(COLUMNS, ROWS, generator=generator) < 1 / 16, 0.0)


def _default_inputs(rows: int) -> Tensor:
    return torch.randn(INPUTS, rows, generator=torch.Generator().manual_seed(1)).relu()


def _checked(weight: Tensor) -> Tensor:
    weight = weight.detach().float()
    if weight.dim() != 2 or not torch.isfinite(weight).all() or not weight.any():
        raise bad_value(
            "weight", tuple(weight.shape), "a matrix [out, in] of finite numbers, not all 0"
        )
    return weight


def _layer(weight: Tensor, rpu_config: InferenceRPUConfig) -> nn.Module:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight)
    return convert_to_analog(nn.Sequential(linear), rpu_config).eval()


def _adc_fit(model: nn.Module, x: Tensor) -> tuple[float | None, float | None]:
    """Return the share of outputs beyond the ADCs' ranges, and the largest output / its range."""
    relative: list[Tensor] = []

    def see(tile: RRAMInferenceTile, outputs: Tensor) -> None:
        relative.append(outputs.abs() / tile.rpu_config.forward.out_bound)

    if lacks_adc_range(model):
        calibrate_adc(model, x, device=x.device)
    with before_adcs(model, see, x.device):
        model(x)
    if not relative:
        return None, None
    everything = torch.cat([y.flatten() for y in relative])
    return (everything > 1.0).double().mean().item(), everything.max().item()


def _on_chips(
    model: nn.Module, x: Tensor, settings: EvaluationSettings, t_inference: float | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and outputs of each chip."""
    weights, outputs = [], []
    for _, chip_seed in walk_over_chips(
        model, settings.chips, settings.seed, t_inference=t_inference
    ):
        seed_random_state(derive_seed(chip_seed, "read noise"), x.device)
        weights.append(effective_weights(model)["0"])
        outputs.append(model(x))
    if not all(torch.isfinite(t).all() for t in (*weights, *outputs)):
        raise CnetError(
            "the device gives weights or outputs that are not finite; check the units of its "
            "settings.",
            key="device",
            fix="check the units of its settings",
        )
    return weights, outputs


def _row(
    t_inference: float | None,
    nominal: Tensor,
    ideal: Tensor,
    x: Tensor,
    weights: list[Tensor],
    outputs: list[Tensor],
    periphery_db: float | None,
) -> DeviceRow:
    chips = torch.stack(weights).double()  # [chips, out, in]
    target = nominal.double()
    largest = target.abs().max()
    error = chips - target
    relative = (error / target)[:, target.abs() > _SMALL * largest]
    isnt_zero = target != 0.0
    reached = chips.abs().amax(dim=(1, 2), keepdim=True)
    at_end = (chips.abs() >= reached * (1 - 1e-4)) & (target.abs() < 0.9 * largest)
    moved = (chips[:, ~isnt_zero] != 0.0).double().mean().item() if not isnt_zero.all() else None
    return DeviceRow(
        t_inference=t_inference,
        gain=((chips * target).sum() / (len(chips) * target.square().sum())).item(),
        error_std=(error.std(correction=0) / largest).item(),
        relative_mean=relative.mean().item(),
        relative_std=relative.std(correction=0).item(),
        sign_flips=(chips.sign() * target.sign() < 0.0).double().mean().item(),
        zeros=(chips[:, isnt_zero] == 0.0).double().mean().item(),
        zeros_moved=moved,
        saturated=at_end.double().mean().item(),
        values=(chips[0] / largest * 1e5).round().unique().numel(),
        snr_weights_db=_snr_db([x @ w.T for w in weights], ideal),
        snr_periphery_db=periphery_db,
        snr_db=_snr_db(outputs, ideal),
    )


def _snr_db(outputs: list[Tensor], ideal: Tensor) -> float | None:
    """Return the power of ideal outputs over that of the error in dB; None: rounding alone."""
    error = sum((y - ideal).double().square().mean().item() for y in outputs) / len(outputs)
    signal = ideal.double().square().mean().item()
    if error <= signal * 10 ** (-_EXACT_DB / 10):
        return None
    return 10.0 * math.log10(signal / error)


def _points(**tensors: Tensor) -> dict[str, list[float]]:
    """Return the same evenly spaced entries of tensors of one shape."""
    count = next(iter(tensors.values())).numel()
    step = max(1, count // _POINTS)
    return {
        name: [float(f"{value:.5g}") for value in tensor.flatten()[::step].tolist()]
        for name, tensor in tensors.items()
    }
