"""Attack chips: each source of knowledge attacks, each chip judges; each pair is a record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.attacks.base import Attack, evasion
from cnet_aihw.attacks.checks import Check
from cnet_aihw.attacks.comparisons import noise_checks
from cnet_aihw.attacks.pixels import check_budget, pixel_data
from cnet_aihw.attacks.run import AttackWork, Pair, pairs_of, shared_attacks
from cnet_aihw.attacks.settings import eps_of, threats_of
from cnet_aihw.attacks.statistics import AttackStatistics, matrix_of, success_of
from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.evaluation import ChipCalibration, Score
from cnet_aihw.evaluation.chip_identity import chip_provenance
from cnet_aihw.evaluation.chip_run import check_times_known, measuring, writing
from cnet_aihw.evaluation.first_batch import check_first_batch
from cnet_aihw.evaluation.spread import check_workers, spread
from cnet_aihw.rram.training_variation import check_rram_layers
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.runtime.records import RecordsFile
from cnet_aihw.runtime.torch_device import resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count
from cnet_aihw.tasks import Classification


@checked
def attack_chips(
    model: nn.Module,
    data: Any,
    attack: Attack,
    threat: str | Sequence[str] = ("nominal", "other_chip", "this_chip"),
    eps: Any = ("1/255", "2/255", "4/255", "8/255"),
    chips: int = 5,
    seed: int = 0,
    records: str | Path | None = None,
    *,
    samples: int | None = None,
    sources: int | None = None,
    readings: int = 5,
    eot_chips: int = 8,
    eot_readings: int = 8,
    attack_seed: int = 0,
    checks: bool = True,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    calibration: ChipCalibration | None = None,
    device: str | torch.device = "auto",
    progress: bool = False,
    ray: RaySettings | None = None,
) -> AttackStatistics:
    """Attack a network on a number of chips.

    Chip i is chip i of ``evaluate_chips`` with the same seed. Every draw belongs to a seed and a
    name, so that neither order nor interruption changes a result: more chips, threats and budgets
    extend fewer. Where reading is random (read noise, noise of the periphery), a judge reads an
    input ``readings`` times, each with noise that no attacker saw, and the majority counts.
    Afterwards the model and torch's random state are as before.

    Args:
        model: a network of RRAM layers, which gives logits.
        data: a data set whose ``test`` part is normalised by its ``mean`` and ``std``
            (``zoo.Dataset``), or :class:`PixelData`.
        attack: the attack, such as ``PGD()``; its norm is that of the budgets.
        threat: what the attacker has, one or more of ``nominal`` (the nominal weights),
            ``other_chip`` (one other chip), ``other_chips_eot`` (the mean over several other
            chips), ``this_chip`` (the chip itself) and ``this_chip_eot`` (the mean over several
            readings of it).
        eps: one budget or several, in pixel units, where pixels are 0 to 1: a number, or a fraction
            as text; a number of pixels for the norm "0".
        chips: how many chips are attacked.
        seed: seed of the chips' seeds.
        records: JSON lines file that gets one line for each threat, source, chip and budget; what
            is there already is not measured again.
        samples: inputs that are attacked, the first ones; None: all.
        sources: how many chips ``other_chip`` attacks from, the first ones; None: as many as are
            attacked, at least 2.
        readings: readings of each input by a judge, where reading is random.
        eot_chips: chips in the mean of ``other_chips_eot``, none of which is attacked.
        eot_readings: readings in the mean of ``this_chip_eot``.
        attack_seed: seed of the attack's draws.
        checks: whether the attack checks itself.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and reading; None: just programmed.
        calibration: what is calibrated on each chip, for attacker and judge; the nominal weights
            are without it.
        device: "auto" (CUDA where available), "cpu" or a CUDA device.
        progress: whether to show a progress bar, where stderr is a terminal.
        ray: where Ray runs, and how many workers attack and judge; None: this process alone.

    Returns:
        The statistics over chips.

    Raises:
        CnetError: without the Adversarial Robustness Toolbox; for impossible arguments, budgets
            that are not in pixel units, data without a range of pixels, tiles other than RRAM
            layers', a mean over readings or chips that do not differ, and a records file that
            belongs to something else.
    """
    evasion()
    threats, budgets = threats_of(threat), eps_of(eps)
    for key, value, least in (
        *(("chips", chips, 1), ("readings", readings, 1), ("eot_chips", eot_chips, 2)),
        *(("eot_readings", eot_readings, 2), ("sources", 2 if sources is None else sources, 2)),
        ("samples", 1 if samples is None else samples, 1),
    ):
        check_count(key, value, least)
    check_rram_layers(model)  # aihwkit's own hold one chip and no gradients
    check_times_known(model, noise_model, [t_inference])
    pixels = pixel_data(data, samples)
    for budget in budgets:
        check_budget(pixels, budget, attack.norm)
    where = resolve_device(device)
    check_workers(ray, where)
    file = None
    if records is not None:
        provenance = {
            **chip_provenance(
                model,
                pixels.part,
                Score(),
                noise_model=noise_model,
                calibration=calibration,
                seed=seed,
                batch_size=attack.batch_size,
                device=where,
            ),
            "attack": attack.describe(),
            "pixels": {"mean": list(pixels.mean), "std": list(pixels.std)},
            "attack_seed": attack_seed,
            "readings": readings,
            "eot": {"chips": eot_chips, "readings": eot_readings},
            "t_inference": t_inference,
        }
        file = RecordsFile(records, provenance)
    kept = file.records() if file is not None else []
    known = {_pair_of(record): record for record in kept if "threat" in record}
    pairs = list(pairs_of(threats, budgets, chips, sources or max(chips, 2)))
    todo = [pair for pair in pairs if pair not in known]
    found: list[Check] = []
    wants_checks = checks
    for record in kept:
        if "checks" in record and record["eps"] == max(budgets):
            found = [Check(**check) for check in record["checks"]] if checks else []
            wants_checks = False
    work = AttackWork(
        *(model, where, attack, pixels),
        (seed, noise_model, t_inference, calibration),
        (readings, eot_chips, eot_readings, attack_seed),
    )
    groups = shared_attacks(todo, attack.one_run)
    with (
        writing(records, len(todo) + wants_checks),
        measuring(model, where),
        torch.cuda.device(where) if where.type == "cuda" else nullcontext(),
        progress_bar("attacks", len(pairs), len(pairs) - len(todo), progress) as advance,
    ):
        check_first_batch(model, pixels.part, Classification())
        run = work.run()
        run.check_threats(threats)
        with spread(work, groups, ray, f"attack-{attack.name}") as attacked:
            if wants_checks:  # while workers attack
                found = run.checks(max(budgets))
                if file is not None:  # one line, which a kill leaves whole or not at all
                    made = [check.as_record() for check in found]
                    file.append({"eps": max(budgets), "checks": made})
            for _, records_of in attacked:
                for record in records_of:
                    known[_pair_of(record)] = record
                    if file is not None:
                        file.append(record)
                    advance(1, f"{record['threat']} {record['fooled']}/{record['clean_correct']}")
    asked = [known[pair] for pair in pairs]
    successes = [success_of(asked, name, budget, chips) for name in threats for budget in budgets]
    matrices = {budget: matrix_of(asked, budget, chips) for budget in budgets}
    return AttackStatistics(
        attack=attack.describe(),
        white_box=attack.white_box,
        norm=attack.norm,
        inputs=len(pixels),
        chips=chips,
        readings=run.readings,
        successes=tuple(successes),
        matrices={budget: matrix for budget, matrix in matrices.items() if matrix},
        checks=(*found, *noise_checks(successes, len(pixels))) if checks else (),
    )


def _pair_of(record: dict[str, Any]) -> Pair:
    return record["threat"], record["source"], record["target"], record["eps"]
