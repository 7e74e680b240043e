"""The attacks of one call: each source attacks once a budget, and every chip that is due judges."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnet_aihw.attacks.base import Attack
from cnet_aihw.attacks.checks import Check, first_inputs, gradient_check, strength_checks
from cnet_aihw.attacks.judging import Judge
from cnet_aihw.attacks.networks import Networks, PixelNetwork, are_equal, is_random
from cnet_aihw.attacks.pixels import PixelData, random_noise
from cnet_aihw.evaluation.chip_run import measuring
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.torch_device import resolve_device

_CHECKED = 50
"""Inputs on which an attack checks itself."""

Record = dict[str, Any]
Source = int | str
Pair = tuple[str, Source, int, float]
"""Threat, source, target chip and budget: what a record is of."""


def pairs_of(
    threats: Sequence[str], budgets: Sequence[float], chips: int, sources: int
) -> Iterator[Pair]:
    """Yield what is to be recorded; the same images serve all pairs of a source and budget."""
    for threat in threats:
        for target in range(chips):
            named: dict[str, list[Source]] = {
                "nominal": ["nominal"],
                "other_chip": [source for source in range(sources) if source != target],
                "other_chips_eot": ["other chips"],
                "this_chip": [target],
                "this_chip_eot": [f"readings of {target}"],
            }
            for source in named[threat]:
                for eps in budgets:
                    yield threat, source, target, eps


def shared_attacks(todo: Sequence[Pair], one_run: bool) -> list[list[Pair]]:
    """Return pairs in groups that the same changed inputs, or the same run, serve.

    Args:
        todo: the pairs.
        one_run: whether one run serves all budgets.
    """
    groups: dict[tuple[Source, float], list[Pair]] = {}
    for pair in todo:
        groups.setdefault((pair[1], 0.0 if one_run else pair[3]), []).append(pair)
    return list(groups.values())


@dataclass
class _Judged:
    """Answers of a chip for the inputs without an attack; the chip itself may be made again."""

    correct: Any
    flips: int
    noise: dict[float, int]


class AttackRun:
    """Everything that the attacks of one call share.

    Args:
        attack: the attack.
        data: the inputs.
        networks: networks on chips, and without.
        readings: readings of an input by a judge, where reading is random.
        eot_chips: chips in the mean of ``other_chips_eot``.
        eot_readings: readings in the mean of ``this_chip_eot``.
        seed: seed of the attack's draws.
    """

    def __init__(
        self,
        attack: Attack,
        data: PixelData,
        networks: Networks,
        readings: int,
        eot_chips: int,
        eot_readings: int,
        seed: int,
    ) -> None:
        self.attack, self.data, self.networks, self.seed = attack, data, networks, seed
        self.eot_chips, self.eot_readings = eot_chips, eot_readings
        self.random = is_random(networks.chip(0), data)
        self.readings = readings if self.random else 1
        self._judged: dict[int, _Judged] = {}
        self._attacker: tuple[Source, PixelNetwork] | None = None  # the last one

    def check_threats(self, threats: Sequence[str]) -> None:
        """Refuse a mean over what does not differ."""
        if "this_chip_eot" in threats and not self.random:
            raise _nothing_random("this_chip_eot", "readings", "this_chip")
        if "other_chips_eot" in threats and are_equal(self.networks.others(2), self.data):
            raise _nothing_random("other_chips_eot", "chips", "nominal")

    def records(self, pairs: Sequence[Pair]) -> Iterator[Record]:
        """Attack with the one source of some pairs, and judge; one record a pair."""
        for eps, changed, cost in self._attacked(pairs[0][1], pairs):
            for pair in pairs:
                if pair[3] == eps:
                    yield self._record(pair, changed, cost)

    def checks(self, eps: float) -> list[Check]:
        """Check the attack on chip 0, on few inputs."""
        network = self.networks.chip(0)
        judge, few = first_inputs(self._judge(0), self.data, _CHECKED)
        seed = derive_seed(self.seed, "checks")
        found = [gradient_check(network, few, seed)] if self.attack.white_box else []
        return found + (strength_checks(self.attack, network, judge, few, eps, seed) if eps else [])

    def _attacked(
        self, source: Source, pairs: Sequence[Pair]
    ) -> Iterator[tuple[float, Any, dict[str, float]]]:
        """Yield each budget, the changed inputs, and what they cost."""
        budgets = list(dict.fromkeys(pair[3] for pair in pairs))
        if 0.0 in budgets:
            yield 0.0, self.data.x, {"queries": 0.0, "seconds": 0.0}
        above = [eps for eps in budgets if eps > 0]
        if not above:
            return
        if self._attacker is None or self._attacker[0] != source:
            self._attacker = source, self._network_of(source)
        network = self._attacker[1]
        seed = derive_seed(self.seed, self.attack.name, str(source))
        start = time.perf_counter()
        cost: dict[str, float] = {}
        for eps, changed in self.attack.perturb(network, self.data.x, self.data.y, above, seed):
            if not (self.attack.one_run and cost):
                seconds = time.perf_counter() - start
                cost = {"queries": network.passes / len(self.data), "seconds": seconds}
            yield eps, changed, cost
            network.passes, start = 0, time.perf_counter()

    def _network_of(self, source: Source) -> PixelNetwork:
        if source == "nominal":
            return self.networks.nominal()
        if source == "other chips":
            return self.networks.others(self.eot_chips)
        if isinstance(source, int):
            return self.networks.chip(source)
        return self.networks.chip(int(source.rpartition(" ")[2]), self.eot_readings)

    def _record(self, pair: Pair, changed: Any, cost: dict[str, float]) -> Record:
        threat, source, target, eps = pair
        judge = self._judge(target)
        judged = self._judged_by(target, judge)
        if eps not in judged.noise:
            seed = derive_seed(self.seed, "random noise", repr(eps))
            noise = random_noise(self.data.x, eps, self.attack.norm, seed)
            wrong = judge.wrong(noise, f"random noise {eps!r}")
            judged.noise[eps] = int((wrong & judged.correct).sum())
        wrong = judge.wrong(changed, f"{threat} {source} {eps!r}")
        return {
            "threat": threat,
            "source": source,
            "target": target,
            "eps": eps,
            "seed": self.networks.seed_of(target),
            "inputs": len(self.data),
            "clean_correct": int(judged.correct.sum()),
            "fooled": int((wrong & judged.correct).sum()),
            "flips": judged.flips,
            "noise_fooled": judged.noise[eps],
            **cost,
        }

    def _judge(self, chip: int) -> Judge:
        return Judge(
            self.networks.chip(chip),
            self.data.y,
            derive_seed(self.networks.seed_of(chip), "attacked"),
            self.readings,
            self.attack.batch_size,
        )

    def _judged_by(self, chip: int, judge: Judge) -> _Judged:
        if chip not in self._judged:
            correct = ~judge.wrong(self.data.x, "clean")
            flips = int((judge.wrong(self.data.x, "flips") & correct).sum())
            self._judged[chip] = _Judged(correct, flips, {})
        return self._judged[chip]


def _nothing_random(threat: str, what: str, instead: str) -> CnetError:
    fix = f"choose {instead}, which is the same"
    return bad_value("threat", threat, f"another threat, as all {what} give the same outputs", fix)


class AttackWork:
    """Attacks and judges for pairs that share an attack, here or in a worker.

    Args:
        model: the analog network, on the device.
        device: the device; in another process it is the first one of its kind there.
        attack: the attack.
        data: the inputs.
        networks: arguments of :class:`Networks` after the data.
        others: arguments of :class:`AttackRun` after the networks.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        attack: Attack,
        data: PixelData,
        networks: Sequence[Any],
        others: Sequence[int],
    ) -> None:
        self.model, self.device = model, device
        self._attack, self._data = attack, data
        self._networks, self._others = networks, others
        self._run: AttackRun | None = None

    def run(self) -> AttackRun:
        """Return the attacks of this process; inside ``measuring``."""
        if self._run is None:
            networks = Networks(self.model, self._data, *self._networks)
            self._run = AttackRun(self._attack, self._data, networks, *self._others)
        return self._run

    def __call__(self, pairs: Sequence[Pair]) -> list[Record]:
        """Return the records of some pairs."""
        self.device = resolve_device(self.device)
        # the toolbox computes on the current device
        current = torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
        with measuring(self.model, self.device), current:
            return list(self.run().records(pairs))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the networks of this process."""
        return {**self.__dict__, "_run": None, "device": torch.device(self.device.type)}
