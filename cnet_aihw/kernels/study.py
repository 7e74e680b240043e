"""Kernels x features x sizes x projections on chips, with baselines; resumable records."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aihwkit.simulator.parameters.base import RPUConfigBase
from torch import Tensor

from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.evaluation import calibrate_adc, evaluate_chips
from cnet_aihw.evaluation.adc import lacks_adc_range
from cnet_aihw.evaluation.chip_run import measuring
from cnet_aihw.kernels.baselines import baselines, run_baseline
from cnet_aihw.kernels.classifier import KernelClassifier, kernel_classifier
from cnet_aihw.kernels.expected import check_reach, expected_kernel, predicted_error
from cnet_aihw.kernels.functions import exact_kernel, kernel_error
from cnet_aihw.kernels.numbers import over_seeds, spread_of
from cnet_aihw.kernels.on_chip import KernelScore, ReadoutFit
from cnet_aihw.kernels.settings import KernelSettings, validate_kernel_settings
from cnet_aihw.rram import chips as walk
from cnet_aihw.rram import convert_to_analog, label_of
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.parts import as_part, gathered
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.runtime.records import RecordsFile, read_records
from cnet_aihw.runtime.torch_device import device_of, resolve_device
from cnet_aihw.runtime.typed import checked

log = logging.getLogger(__name__)

_PAIRS, _PAIR_CHIPS = 60, 5
_ADC_SAMPLES = 1000


@checked
def measure_kernels(
    train: Any,
    test: Any,
    classes: int,
    settings: KernelSettings,
    rpu_config: RPUConfigBase,
    folder: str | Path,
    *,
    chips: int = 10,
    chips_seed: int = 0,
    batch_size: int = 500,
    t_inference: float | None = None,
    exclude: Sequence[str] = (),
    device: str | torch.device = "auto",
    progress: bool = False,
    ray: RaySettings | None = None,
) -> dict[str, Any]:
    """Measure kernel classifiers over projections and chips, and baselines beside them.

    Each projection on its chips is one records file of
    :func:`~cnet_aihw.evaluation.evaluate_chips`; what is there is not measured again.

    Args:
        train: inputs and classes of the read-outs.
        test: inputs and classes of the measurement.
        classes: number of classes.
        settings: kernels, features, sizes.
        rpu_config: configuration of the crossbars, with the noise model of the chips.
        folder: folder of the records.
        chips: chips of each projection.
        chips_seed: seed of their seeds.
        batch_size: samples a forward pass takes at once.
        t_inference: seconds between programming and measuring; None: just programmed.
        exclude: further layers that stay digital.
        device: "auto", "cpu" or a CUDA device.
        progress: whether to show progress bars.
        ray: where Ray runs; None: this process alone.

    Returns:
        ``rows`` (one for each kernel, features and size, over projections and chips),
        ``baselines``, ``pairs`` (values of exact, expected and measured kernels), and sizes, as
        plain values.

    Raises:
        CnetError: for impossible settings, targets that are not classes, a device without a match
            where one is asked for, and records of something else.
    """
    validate_kernel_settings(settings)
    folder = Path(folder)
    parts = (
        gathered(as_part(train), settings.samples),
        gathered(as_part(test), settings.test_samples),
    )
    kinds = [part.x.dtype for part in parts if isinstance(part.x, Tensor)]
    if len(kinds) < len(parts):
        raise bad_value("data", type(parts[0].x).__name__, "inputs as one tensor [N, ...]")
    if kinds[0] not in (torch.float32, torch.float64) or kinds[0] != kinds[1]:
        raise bad_value("data", str(kinds), "float32 or float64 inputs, the same in both parts")
    if any(part.y.ndim != 1 or part.y.is_floating_point() for part in parts):
        raise bad_value("data", str(parts[0].y.dtype), "class numbers [N] as targets")
    study = _Study(
        *parts, classes, settings, rpu_config, folder,
        {"chips": chips, "seed": chips_seed, "batch_size": batch_size, "t_inference": t_inference,
         "device": device, "progress": progress, "ray": ray}, tuple(exclude),
    )  # fmt: skip
    rows = [
        study.row(kernel, features, ratio)
        for kernel in settings.kernel
        for features in settings.features
        for ratio in settings.log2_ratio
    ]
    return {
        "rows": rows,
        "baselines": study.baselines(rows) if settings.baselines else [],
        "pairs": [pair for kernel in settings.kernel for pair in study.pairs(kernel)],
        "device": label_of(rpu_config.noise_model),
        "train_samples": len(parts[0]),
        "test_samples": len(parts[1]),
        "kernel_samples": min(settings.kernel_samples, len(parts[1])),
        "chips": chips,
        "seeds": settings.seeds,
        "match": settings.match,
        "readout": settings.readout,
    }


class _Study:
    """All that the cells of one call share."""

    def __init__(
        self,
        train: Any,
        test: Any,
        classes: int,
        settings: KernelSettings,
        rpu_config: RPUConfigBase,
        folder: Path,
        evaluation: Mapping[str, Any],
        exclude: Sequence[str],
    ) -> None:
        self.train, self.test, self.classes, self.settings = train, test, classes, settings
        self.rpu_config, self.folder, self.evaluation = rpu_config, folder, dict(evaluation)
        own = () if settings.readout_on_crossbar else ("readout",)
        self.exclude = list(dict.fromkeys([*exclude, *own]))
        self.probe = test.x[: settings.kernel_samples]

    def digital(self, kernel: str, features: str, ratio: float, seed: int) -> KernelClassifier:
        """Return a classifier before it is fitted."""
        settings = self.settings
        match = self.rpu_config.noise_model if settings.match else None
        made = kernel_classifier(
            self.train.x, self.classes, kernel, features, log2_ratio=ratio, gamma=settings.gamma,
            seed=settings.seed + seed, match=match, dtype=self.train.x.dtype,
        )  # fmt: skip
        if match is not None and kernel != "arc_cosine":
            self._check_reach("match", made)
        return made

    def on_crossbars(self, made: KernelClassifier) -> Any:
        """Return a classifier on crossbars, ADC ranges calibrated where they are to be found."""
        model = convert_to_analog(made, self.rpu_config, exclude=self.exclude).eval()
        if lacks_adc_range(model):
            calibrate_adc(model, self.train.x[:_ADC_SAMPLES])
        return model

    def row(self, kernel: str, features: str, ratio: float) -> dict[str, Any]:
        """Return the statistics of one kernel, kind of features and size."""
        settings, cells = self.settings, []
        for seed in range(settings.seeds):
            made = self.digital(kernel, features, ratio, seed)
            made.fit(self.train.x, self.train.y, settings.alpha)
            cells.append((made, self._records(made, ratio)))
        made = cells[0][0]
        random = made.features
        clean = [self._clean(one) for one, _ in cells]
        records = [record for _, found in cells for record in found]
        row = {
            "kernel": kernel,
            "features": features,
            "log2_ratio": ratio,
            "s": random.s,
            "columns": random.projection.in_features,
            "gamma": random.gamma,
            "scale": float(np.mean([one.features.scale for one, _ in cells])),
            **spread_of("clean", [score for score, _ in clean]),
            **spread_of("clean_error", [error for _, error in clean]),
            **spread_of("score", [r["score"] for r in records]),
            **spread_of("kernel_error", [r.get("kernel_error") for r in records]),
            "predicted_error": self._predicted(made),
            "failed": sum(r["score"] is None for r in records),
        }
        log.info(
            "%s %s, s %d: %.2f %% clean, %s on chips; error of the kernel %.3f, %s on chips",
            *(kernel, features, random.s, 100.0 * row["clean_mean"]),
            _or_none(row["score_mean"], "{:.2%}"),
            *(row["clean_error_mean"], _or_none(row["kernel_error_mean"], "{:.3f}")),
        )
        return row

    def baselines(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return records of scikit-learn's methods, over the same seeds."""
        settings, first = self.settings, self.digital(self.settings.kernel[0], "rff", 0.0, 0)
        columns = first.features.columns
        rows_of = [
            (part.x.flatten(1) if columns is None else part.x.flatten(1)[:, columns], part.y)
            for part in (self.train, self.test)
        ]
        gammas = {row["kernel"]: row["gamma"] for row in rows}
        file = RecordsFile(
            self.folder / "baselines.jsonl",
            {
                "train": self.train.fingerprint,
                "test": self.test.fingerprint,
                "alpha": settings.alpha,
                "exact_samples": settings.exact_samples,
            },
        )
        known = {record["key"]: record for record in file.records()}
        wanted = []
        todo = baselines(
            list(gammas),
            list(gammas.values()),
            sorted({row["s"] for row in rows}),
            train=rows_of[0],
            test=rows_of[1],
            classes=self.classes,
            alpha=settings.alpha,
            exact_samples=settings.exact_samples,
            seeds=[settings.seed + seed for seed in range(settings.seeds)],
        )
        for key, given in todo:
            full = f"{key} {given.get('gamma')!r}"
            if full not in known:
                known[full] = {"key": full, **run_baseline(given)}
                file.append(known[full])
            wanted.append(known[full])
        return over_seeds(wanted)

    def pairs(self, kernel: str) -> list[dict[str, Any]]:
        """Return values of the kernel between samples: exact, expected, and means over chips."""
        settings = self.settings
        made = self.digital(kernel, settings.features[0], max(settings.log2_ratio), 0)
        model, x = self.on_crossbars(made), self.probe[: 2 * _PAIRS]
        half = len(x) // 2
        with torch.no_grad(), measuring(model, resolve_device(self.evaluation["device"])):
            device, total = device_of(model), torch.zeros(half, dtype=torch.float64)
            for _, seed in walk(
                model, _PAIR_CHIPS, self.evaluation["seed"], None, self.evaluation["t_inference"]
            ):
                seed_random_state(derive_seed(seed, "read noise"), device)
                z = model.features(x.to(device)).double().cpu()
                total += (z[:half] * z[half : 2 * half]).sum(1) / _PAIR_CHIPS
        rows = self._columns(made, x)
        first, second = rows[:half], rows[half : 2 * half]
        gamma = made.features.gamma
        exact = exact_kernel(kernel, first, second, gamma).diagonal()
        expected = None
        with suppress(CnetError):
            self._check_reach("expected", made)
            expected = expected_kernel(
                kernel, first, second, self.rpu_config.noise_model, *self._programmed(made)
            ).diagonal()
        return [
            {
                "kernel": kernel,
                "features": settings.features[0],
                "s": made.features.s,
                "exact": float(exact[n]),
                "expected": None if expected is None else float(expected[n]),
                "measured": float(total[n]),
            }
            for n in range(half)
        ]

    def _records(self, made: KernelClassifier, ratio: float) -> list[dict[str, Any]]:
        random, settings = made.features, self.settings
        name = f"{random.kernel}-{random.kind}-{ratio:g}-seed{random.seed}"
        name += f"{'-matched' if settings.match else ''}-{settings.readout}"
        path = self.folder / f"{name}.jsonl"
        fit = None
        if settings.readout == "chip":
            fit = ReadoutFit(self.train.x, self.train.y, settings.alpha)
        score = KernelScore(self.probe, random.kernel, random.gamma, random.columns)
        evaluation = dict(self.evaluation)
        evaluate_chips(
            self.on_crossbars(made),
            self.test,
            measurement=score,
            calibration=fit,
            records=path,
            **evaluation,
        )
        t = evaluation["t_inference"]
        found = [r for r in read_records(path) if r.get("t_inference") == t]
        return sorted(found, key=lambda r: int(r["chip"]))[: evaluation["chips"]]

    @torch.no_grad()
    def _clean(self, made: KernelClassifier) -> tuple[float, float]:
        """Return accuracy and error of the wanted kernel, in software."""
        random = made.features
        right = made.readout(random.intended(self.test.x)).argmax(1) == self.test.y
        rows = self._columns(made, self.probe)
        exact = exact_kernel(random.kernel, rows, rows, random.gamma)
        return float(right.double().mean()), kernel_error(exact, random.intended(self.probe))

    def _predicted(self, made: KernelClassifier) -> float | None:
        """Return the closed form of the error, for independent rows and devices that have one."""
        if made.features.kind != "rff":
            return None
        try:
            self._check_reach("predicted_error", made)
            return _finite(
                predicted_error(
                    made.features.kernel,
                    self._columns(made, self.probe),
                    made.features.s,
                    self.rpu_config.noise_model,
                    *self._programmed(made),
                )
            )
        except CnetError:
            return None

    def _check_reach(self, key: str, made: KernelClassifier) -> None:
        random, config = made.features, self.rpu_config
        check_reach(key, random.kernel, config.noise_model, config, random.projection.weight)

    def _programmed(self, made: KernelClassifier) -> tuple[float, float, float]:
        random = made.features
        return random.gamma, random.scale, float(random.projection.weight.abs().max())

    def _columns(self, made: KernelClassifier, x: Tensor) -> Tensor:
        columns = made.features.columns
        return x.flatten(1) if columns is None else x.flatten(1)[:, columns]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _or_none(value: float | None, text: str) -> str:
    return "-" if value is None else text.format(value)
