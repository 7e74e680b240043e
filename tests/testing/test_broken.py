"""Classes of strangers that each break one promise: the contracts say which."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.attacks import PGD, Attack
from cnet_aihw.compensation import Affine, Corrector, CorrectorCost, LayerShape, LowRank
from cnet_aihw.rram import (
    CompositeNoiseModel,
    DeviceNoiseModel,
    RRAMRPUConfig,
    StuckAtNoiseModel,
    convert_to_analog,
    programmed,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tasks import Classification, LanguageModelling
from cnet_aihw.testing import (
    check_attack,
    check_corrector,
    check_device,
    check_searcher,
    check_task,
)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


# -- devices


class Window(DeviceNoiseModel):
    """Keeps all promises."""

    def __init__(self, window: float = 1.0, **others: Any) -> None:
        super().__init__(**others)
        self.window = window

    def label(self) -> str:
        return f"window {self.window:g}"

    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        programmed = g + self.window * torch.rand_like(g)
        return programmed, programmed

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        return memory


class SameChips(Window):
    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        programmed = g * torch.rand(g.shape, generator=torch.Generator().manual_seed(0))
        return programmed, programmed


class Forgetful(Window):
    """Draws from a generator of its own, so that a seed means nothing."""

    draws = 0

    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        Forgetful.draws += 1
        generator = torch.Generator().manual_seed(Forgetful.draws)
        programmed = g + torch.rand(g.shape, generator=generator)
        return programmed, programmed


class InPlace(Window):
    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        programmed = g.add_(torch.rand_like(g))
        return programmed, programmed


class Flat(Window):
    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        programmed = (g + torch.rand_like(g)).mean(0, keepdim=True)
        return programmed, programmed


class Double(Window):
    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        programmed = g.double() + torch.rand(g.shape).double()
        return programmed, programmed


class Locked(Window):
    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()


class FirstChipStays(Window):
    """Draws a part that is common to a chip once for all chips."""

    def __init__(self) -> None:
        super().__init__()
        self._common: Tensor | None = None

    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        drawn = torch.rand(1)
        self._common = drawn if self._common is None else self._common
        programmed = g + self._common + torch.rand_like(g)
        return programmed, programmed


class SilentDrift(Window):
    """Forgets to say that it drifts, so that it never does."""

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        return memory * (1.0 + t_inference) ** -0.1


class EatsItsMemory(SilentDrift):
    drifts = True

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        return memory.mul_((1.0 + t_inference) ** -0.1)


class NoDrift(Window):
    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        raise NotImplementedError


class DriftsFromTheStart(SilentDrift):
    """Its error of programming is not seen, as a drift has none."""

    stage, drifts = "drift", True


class NegativeReading(Window):
    stage = "read noise"

    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        return g, g

    def read_std_of_device(self, g: Tensor, scale: Any) -> Tensor:
        return torch.full_like(g, -self.window)


class NotOff(Window):
    is_off = True  # type: ignore[assignment]


class DoesNothing(Window):
    stage = "levels"

    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        return g, g


class HasLaw(Window):
    """Its text is an address, which is another one in each process."""

    def __init__(self) -> None:
        super().__init__()
        self.law = object()


class Hidden(Window):
    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self._width = width


DEVICES: dict[type[DeviceNoiseModel], str] = {
    Forgetful: "the same seed gives the same chip",
    SameChips: "other seeds give other chips",
    InPlace: "leaves the conductances that it is given",
    Flat: "shape and type",
    Double: "shape and type",
    Locked: "can be copied",
    FirstChipStays: "the same seed gives the same chip|does not depend on those",
    SilentDrift: "drifts = True",
    EatsItsMemory: "leaves its memory",
    NoDrift: "those programmed",
    DriftsFromTheStart: "take the stage 'variation'",
    NegativeReading: "0 or more",
    NotOff: "is_off means",
    DoesNothing: "changes weights",
    HasLaw: "the setting 'law'",
    Hidden: "the setting 'width'",
}


@pytest.mark.parametrize("kind", DEVICES, ids=lambda kind: kind.__name__)
def test_a_device_that_breaks_a_promise(kind: Any) -> None:
    check_device(Window())
    with pytest.raises(AssertionError, match=DEVICES[kind]):
        check_device(kind())


def test_a_device_whose_chips_are_all_alike_is_asked_for() -> None:
    check_device(SameChips(), alike=True)


@pytest.mark.parametrize("kind", [Flat, Double])
@pytest.mark.parametrize("composed", [False, True])
def test_a_chip_of_another_shape_or_type_is_not_programmed(kind: Any, composed: bool) -> None:
    """It would be broadcast over the outputs of the layer, or cast, without a word."""
    device = CompositeNoiseModel([kind(), StuckAtNoiseModel()]) if composed else kind()
    network = convert_to_analog(nn.Linear(4, 3), RRAMRPUConfig(noise_model=device))
    with pytest.raises(CnetError) as found, programmed(network, 1):
        pass
    assert found.value.key == kind.__name__
    assert found.value.expected == "torch.float32 (3, 4)"


def test_a_stage_that_there_is_not_is_refused() -> None:
    """A reading of such a stage would never be read."""

    class Misspelt(Window):
        stage = "read-noise"  # type: ignore[assignment]

    with pytest.raises(CnetError) as found:
        Misspelt()
    assert found.value.key == "stage"


# -- correctors


class Shifted(nn.Module):
    """An offset for each channel."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.offset, self.dims = nn.Parameter(torch.zeros(shape.out_channels)), shape.dims

    def shift(self) -> Tensor:
        return self.offset.view(-1, *[1] * self.dims)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.shift()


class Drawing(Shifted):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.shift() * torch.rand(())


class Widening(Shifted):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y.double() + self.shift().double()


class Mixing(Shifted):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.shift() * y.mean(0, keepdim=True)


class Overwriting(Shifted):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.shift() + 0.0 * x.mul_(2.0).sum()


class Idle(Shifted):
    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.more = nn.Parameter(torch.zeros(shape.out_channels))


class OnCrossbars(Shifted):
    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.map = nn.Linear(1, 1)


@dataclass(frozen=True)
class Shift(Corrector):
    module: ClassVar[type[Shifted]] = Shifted
    sized: ClassVar[bool] = False

    def build(self, shape: LayerShape, size: int) -> nn.Module:
        return self.module(shape)

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        return CorrectorCost(sum(p.numel() for p in self.module(shape).parameters()), 0)


class Draws(Shift):
    module = Drawing


class Widens(Shift):
    module = Widening


class Mixes(Shift):
    module = Mixing


class Overwrites(Shift):
    module = Overwriting


class HasIdle(Shift):
    module = Idle


class IsPlain(Shift):
    module = OnCrossbars


@dataclass(frozen=True)
class FreeOfMacs(LowRank):
    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        return CorrectorCost(super().cost(shape, size).weights, 0)


@dataclass(frozen=True)
class Cheap(LowRank):
    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        return CorrectorCost(1, super().cost(shape, size).macs)


@dataclass(frozen=True)
class Copies(LowRank):
    def shrink(self, module: nn.Module, size: int) -> dict[str, Tensor]:
        return {name: p.clone() for name, p in super().shrink(module, size).items()}


@dataclass(frozen=True)
class OneLabel(LowRank):
    gain: float = 1.0


CORRECTORS: dict[type[Corrector], str] = {
    Draws: "gives the same output again",
    Widens: "shape and type",
    Mixes: "each sample by itself",
    Overwrites: "leaves the layer's input",
    HasIdle: "not so more",
    IsPlain: "put on crossbars",
    FreeOfMacs: r"MACs .*\(0 and 64 a sample\)",  # of 2 filters: 2 (12 + 10) + 2 * 10
    Cheap: r"weights .*\(1 and 20\)",  # scale and offset of 10 channels
    Copies: "views",
    OneLabel: "another gain",
}


@pytest.mark.parametrize("kind", CORRECTORS, ids=lambda kind: kind.__name__)
def test_a_corrector_that_breaks_a_promise(kind: Any) -> None:
    with pytest.raises(AssertionError, match=CORRECTORS[kind]):
        check_corrector(kind())


def test_a_corrector_of_ones_own_keeps_its_promises() -> None:
    check_corrector(Shift())
    check_corrector(Affine())


# -- tasks


class MeanOfBatches:
    """Adds up means, whatever the sizes of the batches."""

    def __init__(self) -> None:
        self.scores: list[float] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.scores.append(float((outputs.argmax(-1) == targets).float().mean()))

    def compute(self) -> float:
        return float(np.mean(self.scores))


class UnweightedScore(Classification):
    def new_metric(self) -> Any:
        return MeanOfBatches()


class OneMetric(Classification):
    def __init__(self) -> None:
        super().__init__()
        self._only = super().new_metric()

    def new_metric(self) -> Any:
        return self._only


class SummedLoss(Classification):
    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets) * len(targets)


class Padded(LanguageModelling):
    """Means over words that are not padded, without saying how many there are."""

    counted = None  # type: ignore[assignment]


class HiddenSmoothing(Classification):
    def __init__(self, strength: float = 0.5) -> None:
        super().__init__()
        self._strength = strength


class OverwritesTargets(Classification):
    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets.clamp_(max=0))


class Inverted(Classification):
    def recovery(self, score: float, reference: float) -> float | None:
        return reference / score


class TooConstant(Classification):
    def constant_loss(self, targets: Tensor) -> float:
        return 100.0


class TakesAll(Classification):
    def check(self, outputs: Any, targets: Tensor) -> None:
        pass


class OneTargetEach(Classification):
    def check(self, outputs: Any, targets: Tensor) -> None:
        if len(outputs) != len(targets):
            raise CnetError("not as many targets as outputs.")
        super().check(outputs, targets)


class Upside(Classification):
    higher_is_better = False


class Uphill(Classification):
    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        return -super().loss(outputs, targets)


TASKS: dict[type[Any], str] = {
    UnweightedScore: "of different sizes",
    OneMetric: "new_metric",
    SummedLoss: "counted",
    HiddenSmoothing: "the setting 'strength'",
    OverwritesTargets: "leaves outputs and targets",
    Inverted: "recovery",
    TooConstant: "constant_loss",
    TakesAll: "refuses outputs",
    OneTargetEach: "all targets of a part",
    Upside: "perfect outputs score better",
    Uphill: "perfect outputs is lower",
}
LABELS = drawn(20).gt(0).long()


@pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.__name__)
def test_a_task_that_breaks_a_promise(kind: Any) -> None:
    perfect = 9.0 * nn.functional.one_hot(LABELS).float()
    with pytest.raises(AssertionError, match=TASKS[kind]):
        check_task(kind(), drawn(20, 2), LABELS.clone(), perfect)


def test_a_mean_over_what_is_not_padded_says_how_many_that_are() -> None:
    """Batches would count alike, whatever padding they have."""
    words = drawn(20, 4).gt(0).long()
    perfect = 9.0 * nn.functional.one_hot(words).float()
    words[:5, 1:], words[7] = -100, -100
    check_task(LanguageModelling(), drawn(20, 4, 2), words, perfect)
    with pytest.raises(AssertionError, match="counted"):
        check_task(Padded(), drawn(20, 4, 2), words, perfect)


# -- searchers


@dataclass
class Shuffled:
    """Keeps all promises."""

    name: ClassVar[str] = "shuffled"

    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        every = list(problem.encodings())
        for number in rng.permutation(len(every)):
            evaluations(every[number])


class OverTheLimits(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        evaluations((3, 3, 3))
        super().search(problem, evaluations, rng, context)


class Outside(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        evaluations((9, 9, 9))


class PythonsOwnDraws(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        own = np.random.default_rng(random.getrandbits(32))
        super().search(problem, evaluations, own, context)


class SeedsItself(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        super().search(problem, evaluations, np.random.default_rng(0), context)


@dataclass
class MadeWithAGenerator(Shuffled):
    own: Any = field(default_factory=lambda: random.Random(0))

    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        every = list(problem.encodings())
        self.own.shuffle(every)
        for encoding in every:
            evaluations(encoding)


class SeedsPython(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        random.seed(0)
        every = list(problem.encodings())
        random.shuffle(every)
        for encoding in every:
            evaluations(encoding)


class SeedsNumpy(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        np.random.seed(0)
        super().search(problem, evaluations, np.random, context)


class SeedsTorch(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        torch.manual_seed(0)
        every = list(problem.encodings())
        for number in torch.randperm(len(every)).tolist():
            evaluations(every[number])


class TorchGenerator(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        every = list(problem.encodings())
        own = torch.Generator().manual_seed(0)
        for number in torch.randperm(len(every), generator=own).tolist():
            evaluations(every[number])


class Derived(Shuffled):
    """Keeps all promises, with a generator whose seed is drawn."""

    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        every = list(problem.encodings())
        own = torch.Generator().manual_seed(int(rng.integers(2**31)))
        for number in torch.randperm(len(every), generator=own).tolist():
            evaluations(every[number])


class Spawned(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        super().search(problem, evaluations, np.random.default_rng(rng.spawn(1)[0]), context)


class LooksAtTheBudget(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        own = np.random.default_rng(evaluations.budget + rng.integers(9))
        super().search(problem, evaluations, own, context)


class Remembers(Shuffled):
    known: ClassVar[list[int]] = []

    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        self.known.append(1)
        seed = len(self.known) + rng.integers(9)
        super().search(problem, evaluations, np.random.default_rng(seed), context)


class LooksAtTheClock(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        evaluations((0, 0, 0))
        own = np.random.default_rng(int(evaluations.rows[0].seconds + rng.integers(9)))
        super().search(problem, evaluations, own, context)


class LooksAtTheTrace(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        evaluations((0, 0, 0))
        own = np.random.default_rng(evaluations.replayed + rng.integers(9))
        super().search(problem, evaluations, own, context)


class Settingless:
    name = "settingless"
    search = Shuffled.search


class Repeats(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        evaluations.many([(0, 0, 0)] * evaluations.left)


class OnlyOne(Shuffled):
    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        evaluations((1, 0, 0))


SEARCHERS: dict[type[Any], str] = {
    OverTheLimits: "over the limits",
    Outside: "encodings of the problem",
    PythonsOwnDraws: "Python's global random state",
    SeedsItself: "default_rng",
    MadeWithAGenerator: "Random",
    SeedsPython: "Python's global random state",
    SeedsNumpy: "numpy's global random state",
    SeedsTorch: "torch's global random state",
    TorchGenerator: "Generator",
    LooksAtTheBudget: "begins with the smaller",
    Remembers: "the same seed",
    LooksAtTheClock: "the same seed",
    LooksAtTheTrace: "resumes",
    Settingless: "dataclass",
    Repeats: "spends the budget of 5",
    OnlyOne: "ends_early",
}


@pytest.mark.parametrize("kind", SEARCHERS, ids=lambda kind: kind.__name__)
def test_a_searcher_that_breaks_a_promise(kind: Any) -> None:
    for kept in (Shuffled, Derived, Spawned):
        check_searcher(kept)
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    with pytest.raises(AssertionError, match=SEARCHERS[kind]):
        check_searcher(kind)
    assert random.getstate() == states[0] and str(np.random.get_state()) == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_searcher_may_end_by_itself() -> None:
    check_searcher(OnlyOne, ends_early=True)


# -- attacks


@dataclass(frozen=True)
class Signs(Attack):
    """Steps along signs of gradients, each in its budget; keeps all promises."""

    name: ClassVar[str] = "signs"
    white_box: ClassVar[bool] = True
    norms: ClassVar[tuple[str, ...]] = ("inf",)

    steps: int = 5

    def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
        return self.stepped(classifier, x, y, eps)

    def stepped(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
        classes, changed = np.eye(classifier.nb_classes)[y], x
        for _ in range(self.steps):
            gradient = classifier.loss_gradient(changed, classes)
            changed = changed + 2.0 * eps / self.steps * np.sign(gradient)
            changed = np.clip(np.clip(changed, x - eps, x + eps), 0.0, 1.0)
        return changed


class Leaves(Signs):
    def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
        return self.stepped(classifier, x, y, 2.0 * eps)


class NotBlack(Signs):
    white_box = False


class OverwritesImages(Signs):
    def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
        x[:] = self.stepped(classifier, x, y, eps)
        return x


class DrawsAtWill(Signs):
    def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
        noise = np.random.default_rng().uniform(-eps, eps, x.shape)
        return np.clip(self.stepped(classifier, x, y, eps) + noise, x - eps, x + eps).clip(0, 1)


class Backwards(Signs):
    def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
        return np.clip(2.0 * x - self.stepped(classifier, x, y, eps), 0.0, 1.0)


class InBytes(Signs):
    def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
        return 255.0 * self.stepped(classifier, x, y, eps)


class Flattens(Signs):
    def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
        return self.stepped(classifier, x, y, eps).reshape(len(x), -1)


class ChangesWeights(Signs):
    def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
        with torch.no_grad():
            next(classifier.model.parameters()).mul_(0.9)
        return self.stepped(classifier, x, y, eps)


@dataclass(frozen=True)
class HidesItsGain(Signs):
    gain: float = 1.0

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "steps": self.steps}


ATTACKS: dict[type[Attack], str] = {
    Leaves: r"keeps to its budget \(0.1 of 0.05",
    NotBlack: "without gradients",
    OverwritesImages: "leaves images and labels",
    DrawsAtWill: "the same seed",
    Backwards: "fools a linear network",
    InBytes: "from 0 to 1",
    Flattens: "returns floating images",
    ChangesWeights: "leaves the network",
    HidesItsGain: "all settings",
}


@pytest.mark.parametrize("kind", ATTACKS, ids=lambda kind: kind.__name__)
def test_an_attack_that_breaks_a_promise(kind: Any) -> None:
    check_attack(Signs())
    with pytest.raises(AssertionError, match=ATTACKS[kind]):
        check_attack(kind())


@pytest.mark.parametrize("missing", ["name", "white_box", "generate"])
def test_an_attack_that_lacks_a_part_is_refused(missing: str) -> None:
    parts = {"name": "own", "white_box": True, "generate": PGD.generate, "steps": 1}
    del parts[missing]
    hints = {"name": ClassVar[str], "white_box": ClassVar[bool], "steps": int}
    kind: Any = dataclass(frozen=True)(type("Own", (Attack,), {**parts, "__annotations__": hints}))
    with pytest.raises(CnetError) as error:
        kind()
    assert error.value.key == missing


def test_an_attack_without_a_field_of_its_effort_is_refused() -> None:
    @dataclass(frozen=True)
    class Bare(Attack):
        name: ClassVar[str] = "bare"
        white_box: ClassVar[bool] = False

    with pytest.raises(CnetError) as found:
        Bare()
    assert (found.value.key, found.value.value) == ("effort", "steps")
