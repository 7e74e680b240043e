"""Tune a network on one chip, and measure a network there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from cnet_aihw.evaluation.chip_identity import (
    describe_network,
    describe_noise_models,
    describe_periphery,
)
from cnet_aihw.evaluation.first_batch import check_first_batch
from cnet_aihw.evaluation.metrics import evaluation_mode, pass_over
from cnet_aihw.rram import RRAMLayer, clear_chip, load_snapshot, snapshot
from cnet_aihw.runtime.determinism import deterministic
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint, text_fingerprint
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.parts import Part, as_part
from cnet_aihw.runtime.provenance import check_provenance, default_values
from cnet_aihw.runtime.random_state import (
    derive_seed,
    forked_random_state,
    seed_random_state,
)
from cnet_aihw.runtime.records import read_json, read_records, write_json_atomic, write_records
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_seed
from cnet_aihw.tasks import Classification, Task, describe_task
from cnet_aihw.training.checkpoint import check_kept, load_checkpoint
from cnet_aihw.training.run_identity import TrainingData
from cnet_aihw.tuning.chip import Chip, rram_layers
from cnet_aihw.tuning.on_chip import NetworkOnChip, finite_score
from cnet_aihw.tuning.parameters import trained_names
from cnet_aihw.tuning.result import TuningResult, result_of
from cnet_aihw.tuning.run import CHECKPOINT, EPOCHS, TuningRun
from cnet_aihw.tuning.settings import TuningSettings, validate_tuning_settings

FORMAT = 1
_RUN, _RESULT = "tuning.json", "result.json"


@checked
def tune_on_chip(
    model: nn.Module,
    chip: Chip,
    data: TrainingData,
    settings: TuningSettings,
    folder: str | Path,
    *,
    task: Task | None = None,
) -> TuningResult:
    """Tune a network on one chip; afterwards it holds the tuned weights, and the chip is written.

    The network stays in evaluation mode (BatchNorm keeps its statistics), on its device; data are
    not augmented, since a chip's activations are to be those of the samples. Layers are written and
    read by the chip's methods alone: its weights are read for ``backward=exact`` and ``angles``
    only. A run that was killed resumes when it is called again in the same way on the same folder;
    with a simulated chip it ends with the same weights and writes, bit for bit, as if it had not
    been killed. A real chip is written with the weights of the last checkpoint again, and its cells
    count as if all writes of the interrupted epoch had been done. On a folder whose run is complete
    the result is loaded.

    "progressive" writes layer by layer, and tunes after each write what is not on the chip yet, as
    Wan et al., *A compute-in-memory chip based on resistive random-access memory*, Nature 608
    (2022); ours also tunes digital parts of layers that are written.

    The folder gets ``tuning.json`` (what the run is made from), ``epochs.jsonl`` (one line an
    epoch: score on the chip, writes of a cell, samples of forwards, angle),
    ``checkpoint.safetensors`` and ``result.json``.

    Args:
        model: a network of RRAM layers; with correctors they can be tuned.
        chip: the chip: simulated (:class:`SimulatedChip`) or the driver of a real one.
        data: its parts ``train`` and ``val``; the test part is not looked at.
        settings: how to tune.
        folder: where the run is kept; made when missing.
        task: loss and score; None: classification.

    Returns:
        The result.

    Raises:
        CnetError: for impossible settings or data, a network that the rule cannot tune, more writes
            than a cell endures (before any work), and a folder that holds another run or in which
            one runs.
    """
    validate_tuning_settings(settings, "")
    task = task or Classification()
    if settings.backward == "random_target" and task.name != "classification":
        raise bad_value("backward", "random_target", "another rule, as it projects classes")
    for key, wanted in (("backward", settings.backward == "exact"), ("angles", settings.angles)):
        if wanted and not hasattr(chip, "weight"):
            value = getattr(settings, key)
            raise bad_value(key, value, "a rule that need not read the chip's weights")
    _check_gradients(rram_layers(model), settings)
    clear_chip(model)
    folder, device = Path(folder), device_of(model)
    train = placed(as_part(data.train).first(settings.samples), device)
    val = placed(as_part(data.val).first(settings.validation_samples), device)
    for part in (train, val):
        with evaluation_mode(model):
            labelled = part is val or settings.target != "clean"
            check_first_batch(model, part, task, labelled=labelled)
    provenance = _provenance(model, chip, train, val, settings, task)
    if folder.is_file():
        raise bad_value("folder", str(folder), "a folder for the run; there is a file")
    with (
        evaluation_mode(model),
        forked_random_state(device),
        deterministic(device),
    ):
        seed_random_state(derive_seed(settings.seed, "feedback"), device)
        run = TuningRun(model, chip, train, val, settings, task, folder)
        known = _known(folder, provenance)
        if known is not None:
            check_kept(folder / CHECKPOINT, "the tuned weights")
            kept = load_checkpoint(folder / CHECKPOINT)
            load_snapshot(model, kept.model)
            _mend_course(folder / EPOCHS, kept.meta["records"])
            if hasattr(chip, "load"):
                begins = "chip:"
                chip.load({n[5:]: t for n, t in kept.held.items() if n.startswith(begins)})
            return known
        if not (folder / CHECKPOINT).exists():
            run.check_endurance()
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder, "tuning", "a tuning"):
            write_json_atomic(folder / _RUN, {"format": FORMAT, "provenance": provenance})
            found = run.run()
            write_json_atomic(folder / _RESULT, {"format": FORMAT, **found.as_record()})
    return found


@checked
def score_on_chip(
    model: nn.Module,
    chip: Chip,
    data: Any,
    batch_size: int = 250,
    task: Task | None = None,
    seed: int = 0,
) -> float:
    """Measure a network all of whose layers were written to a chip.

    Args:
        model: the network, whose digital parts count; its nominal weights do not.
        chip: the chip.
        data: inputs and targets, as :func:`~cnet_aihw.runtime.parts.as_part` takes them.
        batch_size: samples a forward pass takes at once.
        task: the score; None: classification.
        seed: seed of the noise of the periphery; torch's random state is as before afterwards.

    Returns:
        The score.

    Raises:
        CnetError: where outputs are not finite.
    """
    check_seed("seed", seed)
    device = device_of(model)
    part = placed(as_part(data), device)
    network = NetworkOnChip(model, chip)
    network.written = set(network.layers)
    with forked_random_state(device), evaluation_mode(model), network.computing():
        seed_random_state(seed, device)
        return finite_score(*pass_over(model, part, batch_size, task or Classification()))


@checked
def write_all(model: nn.Module, chip: Chip) -> None:
    """Write all layers of a network to a chip, with its nominal weights."""
    for name, layer in rram_layers(model).items():
        chip.write(name, layer.nominal_weight().detach().clone())


def _check_gradients(layers: dict[str, RRAMLayer], settings: TuningSettings) -> None:
    """Check that gradients of layers on the chip can be computed, where the rule needs them."""
    for name, layer in layers.items():
        charged = any(tile.rpu_config.readout is not None for tile in layer.tiles())
        if not charged:
            continue
        for key, wanted in (("backward", settings.backward != "perturbation"), ("angles", True)):
            value = getattr(settings, key)
            if wanted and value:
                expected = "perturbation" if key == "backward" else "false"
                reason = f"as {name} has charge read-out, whose gradients are not those of weights"
                raise bad_value(key, value, f"{expected}, {reason}")


def _mend_course(path: Path, records: list[dict[str, Any]]) -> None:
    """Write the course of a tuning again where it is damaged; a whole one may be read-only."""
    try:
        whole = read_records(path) == records
    except CnetError:
        whole = False
    if not whole:
        write_records(path, records)


def _provenance(
    model: nn.Module, chip: Chip, train: Part, val: Part, settings: TuningSettings, task: Task
) -> dict[str, Any]:
    names = [*TuningSettings.__dataclass_fields__]
    described = getattr(chip, "fingerprint", None)
    return {
        "settings": {n: v for n, v in asdict(settings).items() if n in names},
        "network": text_fingerprint(describe_network(model)),
        "software": text_fingerprint(  # of layers that are not written yet
            [*describe_noise_models(model, None), *describe_periphery(model)]
        ),
        "trained": trained_names(model),
        "weights": tensors_fingerprint(snapshot(model)),
        "chip": described() if callable(described) else type(chip).__name__,
        "data": {"train": train.fingerprint, "val": val.fingerprint},
        "task": describe_task(task),
        "device": device_of(model).type,
    }


def _known(folder: Path, provenance: dict[str, Any]) -> TuningResult | None:
    """Return the result of a run that is complete; None where it is to be run, or resumed."""
    path = folder / _RUN
    if not path.exists():
        return None
    made = read_json(path)
    if made["format"] != FORMAT:
        raise CnetError(
            f"{path} has format {made['format']} and this version reads {FORMAT}; use the version "
            "of cnet_aihw that wrote it.",
            key="format",
            value=made["format"],
            expected=FORMAT,
        )
    absent = {"settings": default_values(TuningSettings)}
    check_provenance(made["provenance"], provenance, path, "give another folder", absent)
    result = folder / _RESULT
    return result_of(read_json(result)) if result.exists() else None
