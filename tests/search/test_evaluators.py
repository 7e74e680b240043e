"""Evaluators: what they measure, and that it is always the same."""

import copy
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.compensation import (
    Affine,
    Corrector,
    CorrectorCost,
    FitSettings,
    LayerShape,
    LowRank,
    Placement,
    compensate,
    fit_compensation,
)
from cnet_aihw.compensation.modules import pointwise, pooled
from cnet_aihw.evaluation import AffineCorrection, measure
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    analog_layers,
    effective_weights,
    nominal_weight,
    program,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.search import (
    CompensationSupernet,
    SupernetEvaluator,
)
from cnet_aihw.search.evaluators.supernet_layers import draw_encoding
from cnet_aihw.tasks import Regression

from .evaluator_cases import (
    CORRECTORS,
    DATA,
    FIT,
    FULL,
    PLACEMENTS,
    RESIDUAL,
    dataset,
    fit_evaluator,
    on_chips,
    problem_of,
    samples,
    supernet_evaluator,
)

# -- what is measured


@pytest.mark.parametrize("placement", [{}, {"0": 0.0}, {"0": "digital", "4": "digital"}])
def test_without_compensation_it_is_the_network_on_its_chips(make, trained, placement):
    evaluator = make(trained, steps=10**6)  # no fit: it would take an hour
    expected = on_chips(compensate(copy.deepcopy(trained), Placement(placement)))
    assert evaluator.evaluate(Placement(placement)) == expected


@pytest.mark.parametrize(
    "how",
    [
        {"noise_model": LogNormalNoiseModel(0.2)},
        {"seed": 5},
        {"calibration": AffineCorrection(DATA.train.x[:50])},
        {"batch_size": 7},
    ],
)
def test_chips_are_measured_as_by_evaluate_chips(make, trained, how):
    assert make(trained, **how).evaluate(Placement({})) == on_chips(trained, **how)


def test_a_fit_is_that_of_fit_compensation(trained, tmp_path):
    """With as many steps as two passes over the training part take."""
    placement, fit = PLACEMENTS[1], replace(FIT, seed=3)
    model = compensate(copy.deepcopy(trained), placement, RESIDUAL, seed=3)
    before = on_chips(model)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(derive_seed(3, "samples")))
    data = dataset(train=SimpleNamespace(x=DATA.train.x[order], y=DATA.train.y[order]))
    settings = replace(fit, epochs=2, validation_chips=0, select="last")
    fit_compensation(model, data, settings, tmp_path, device="cpu", progress=False)
    assert (
        fit_evaluator(trained, steps=40, fit=fit).evaluate(placement) == on_chips(model) != before
    )


@pytest.mark.parametrize(
    ("steps", "taken", "used"), [(1, 1, 20), (20, 20, 400), (21, 22, 220), (50, 51, 340)]
)
def test_steps_are_taken_as_stated_or_rounded_up_to_equal_passes(trained, steps, taken, used):
    described = fit_evaluator(trained, steps=steps).describe()["fit"]
    assert (described["steps"], described["samples"]) == (taken, used)


def _plain_logits(tensors: dict[str, Tensor], placed: dict[str, int], model: nn.Module) -> Any:
    """The network on the chip that is programmed, in plain torch, with parts of the tensors."""
    weights = effective_weights(model)

    def corrected(name: str, x: Tensor, y: Tensor, form: str) -> Tensor:
        if name not in placed:
            return y
        m = placed[name]
        dims = y.dim() - 2
        if dims:
            x = F.adaptive_avg_pool2d(x, y.shape[2:])

        def pointwise(weight: Tensor, bias: Tensor, inputs: Tensor) -> Tensor:
            result = torch.einsum("oi,bi...->bo...", weight.flatten(1), inputs)
            return result + bias.view(-1, *[1] * dims)

        part = {n: tensors[f"{name}.{n}"] for n in _NAMES}
        g = pointwise(
            part["generator.weight"][:m], part["generator.bias"][:m], torch.cat([x, y], 1)
        )
        if form == "residual":
            return y + pointwise(
                part["compensator.weight"][:, :m], part["compensator.bias"], F.relu(g)
            )
        columns = part["compensator.weight"][:, : y.shape[1] + m]
        return pointwise(columns, part["compensator.bias"], torch.cat([y, torch.tanh(g)], 1))

    def logits(x: Tensor, form: str) -> Tensor:
        biases = {name: layer.get_weights()[1] for name, layer in analog_layers(model).items()}
        y = F.conv2d(x, weights["0"].view(6, 1, 3, 3), biases["0"], padding=1)
        x = F.relu(corrected("0", x, y, form))
        y = F.conv2d(x, weights["2"].view(6, 6, 3, 3), biases["2"], stride=2)
        x = corrected("2", x, y, form).flatten(1)
        return corrected("4", x, F.linear(x, weights["4"], biases["4"]), form)

    return logits


_NAMES = ("generator.weight", "generator.bias", "compensator.weight", "compensator.bias")


@pytest.mark.parametrize("form", CORRECTORS)
@pytest.mark.parametrize(
    ("placement", "filters"),
    [
        ({"0": 0.34}, {"0": 2}),
        ({"2": 1.0}, {"2": 6}),
        ({"0": 0.5, "2": 0.34, "4": 1.0}, {"0": 3, "2": 2, "4": 4}),
    ],
)
def test_supernet_sub_placements_equal_hand_sliced_modules(
    trained, tmp_path, form, placement, filters
):
    """The saved tensors, sliced by hand, in plain torch on the chips' weights."""
    evaluator = supernet_evaluator(
        trained,
        corrector=CORRECTORS[form],
        problem=problem_of(trained, CORRECTORS[form], limit=10.0),
        folder=tmp_path,
        steps=40,
        seed=3,
    )
    found = evaluator.evaluate(Placement(placement))
    (file,) = tmp_path.glob("supernet-*.safetensors")
    tensors = load_file(file)
    for chip, accuracy in enumerate(found):
        with programmed(trained, derive_seed(3, chip)), torch.no_grad():
            logits = _plain_logits(tensors, filters, trained)(DATA.val.x[:120], form)
        assert (logits.argmax(1) == DATA.val.y[:120]).double().mean().item() == accuracy
    assert found != evaluator.evaluate(Placement({}))


def test_supernet_compensation_raises_the_accuracy_wherever_it_is(trained):
    """One layer or all of them, few filters or all."""
    evaluator = supernet_evaluator(trained, steps=200, chips=10)
    without = sum(evaluator.evaluate(Placement({}))) / 10
    for placement in ({"0": 0.34}, {"4": 1.0}, {"0": 1.0, "2": 0.5, "4": 1.0}):
        assert sum(evaluator.evaluate(Placement(placement))) / 10 > without + 0.02


@pytest.mark.parametrize("corrector", [RESIDUAL, LowRank()])
def test_a_fit_can_start_from_a_supernet(trained, corrector):
    """Also with a corrector that would start in closed form otherwise."""
    problem = problem_of(trained, corrector)
    shared = CompensationSupernet(
        trained, DATA, problem, corrector=corrector, fit=FIT, steps=30, device="cpu"
    )
    tiny = {"steps": 1, "fit": replace(FIT, lr=1e-12), "corrector": corrector}
    shared_alone = supernet_evaluator(trained, steps=30, corrector=corrector)
    started = fit_evaluator(trained, start=shared, **tiny)
    assert started.evaluate(PLACEMENTS[1]) == shared_alone.evaluate(PLACEMENTS[1])
    tiny["fit"] = replace(tiny["fit"], start="identity")
    assert fit_evaluator(trained, **tiny).evaluate(PLACEMENTS[1]) == on_chips(trained)


# -- always the same


def test_values_depend_on_the_placement_alone(make, trained):
    """Twice, in another order, by another evaluator, at other random states: the same."""
    first = make(trained)
    values = [first.evaluate(placement) for placement in PLACEMENTS]
    assert [first.evaluate(placement) for placement in PLACEMENTS[::-1]] == values[::-1]
    assert len(set(values)) > 3
    torch.manual_seed(123)
    assert [make(trained).evaluate(placement) for placement in PLACEMENTS[:2]] == values[:2]


def test_values_are_the_same_in_another_process(trained, tmp_path):
    """Sent there by cloudpickle, as Ray does, and with another number of threads set."""
    evaluators = [fit_evaluator(trained), supernet_evaluator(trained)]
    (tmp_path / "evaluators.pkl").write_bytes(cloudpickle.dumps(evaluators))
    script = f"""
import cloudpickle, torch
torch.set_num_threads(2)
evaluators = cloudpickle.load(open({str(tmp_path / "evaluators.pkl")!r}, "rb"))
from cnet_aihw.compensation import Placement
placements = [Placement(p) for p in {list(map(dict, PLACEMENTS[:3]))}]
print([[evaluator.key(), *map(evaluator.evaluate, placements)] for evaluator in evaluators])
"""
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == str([[e.key(), *map(e.evaluate, PLACEMENTS[:3])] for e in evaluators])


def test_it_leaves_no_trace(make, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before, mode, threads = snapshot(trained), trained.training, torch.get_num_threads()
    evaluator, random = make(trained), torch.get_rng_state()
    evaluator.evaluate(PLACEMENTS[1])
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == threads and trained.training == mode
    after = snapshot(trained)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not list(tmp_path.iterdir())


def test_later_changes_of_the_model_do_not_count(make, trained):
    model, evaluator = copy.deepcopy(trained), make(trained)
    other = make(model)
    with torch.no_grad():
        for layer in analog_layers(model).values():
            nominal_weight(layer).zero_()
    assert other.key() == evaluator.key()
    assert other.evaluate(PLACEMENTS[1]) == evaluator.evaluate(PLACEMENTS[1])


def test_a_pickled_supernet_evaluator_brings_no_training_data(trained):
    big = dataset(train=samples(20_000, 1))
    evaluator = supernet_evaluator(trained, data=big, steps=10, fit=replace(FIT, batch_size=2000))
    assert len(cloudpickle.dumps(evaluator)) < 400_000 < evaluator.supernet._fit.train.x.nbytes


# -- the supernet on disk


def test_it_is_fitted_once_for_all_runs(trained, tmp_path, monkeypatch):
    values = supernet_evaluator(trained, folder=tmp_path).evaluate(PLACEMENTS[0])
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != ".locks")
    key = supernet_evaluator(trained).supernet.key()
    assert left == [f"supernet-{key}.json", f"supernet-{key}.safetensors"]
    monkeypatch.setattr(
        "cnet_aihw.search.evaluators.short_fit.fit_compensation",
        lambda *_, **__: pytest.fail("fitted again"),
    )
    other = supernet_evaluator(trained, folder=tmp_path, chips=4)  # other chips, same compensation
    assert other.evaluate(PLACEMENTS[0])[:3] == values
    assert other.supernet.seconds() > 0


class Killed(BaseException):
    """Stands for a kill in the middle of a step."""


def test_a_killed_fit_of_a_supernet_ends_as_if_it_had_not_been_killed(trained, tmp_path):
    kills = 0

    def killing_every(steps: int) -> Callable[[Tensor, torch.Generator], Tensor]:
        left = steps + 1  # once for the key

        def augment(x: Tensor, generator: torch.Generator) -> Tensor:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return x

        return augment

    files = []
    for folder, steps in ((tmp_path / "whole", 1000), (tmp_path / "killed", 5)):
        while not list(folder.glob("*.safetensors")):
            data = dataset(augment=killing_every(steps))
            fit = replace(FIT, checkpoint_seconds=0.0)
            evaluator = supernet_evaluator(trained, data, folder=folder, fit=fit)
            try:
                evaluator.evaluate(PLACEMENTS[0])
            except Killed:
                kills += 1
        (file,) = folder.glob("*.safetensors")
        files.append(file.read_bytes())
    assert kills == 2
    assert files[0] == files[1]


def _evaluate_one(evaluator: SupernetEvaluator, results: Path) -> None:
    results.write_text(str(evaluator.evaluate(PLACEMENTS[0])))


def test_processes_share_one_fit_though_the_first_is_killed(trained, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process cannot use its parent's threads
    try:
        evaluator = supernet_evaluator(
            trained,
            folder=tmp_path / "supernet",
            steps=100,
            fit=replace(FIT, checkpoint_seconds=0.0),
        )
        fork = multiprocessing.get_context("fork")
        children = [
            fork.Process(target=_evaluate_one, args=(evaluator, tmp_path / f"{i}")) for i in "ab"
        ]
        children[0].start()
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("supernet/*/checkpoint.safetensors")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        children[1].start()
        os.kill(children[0].pid, signal.SIGKILL)
        children[0].join()
        assert children[0].exitcode == -signal.SIGKILL
        children[1].join(60)
        assert children[1].exitcode == 0
        assert (tmp_path / "b").read_text() == str(evaluator.evaluate(PLACEMENTS[0]))
    finally:
        torch.set_num_threads(threads)


# -- what is drawn in the fit of a supernet


@pytest.mark.parametrize("limit", [0.2, 10.0])
@pytest.mark.parametrize("within", [True, False])
def test_drawn_plans(trained, limit, within):
    """Within the limit where it counts; all numbers of layers, all choices; never no ratio."""
    problem = problem_of(trained, limit=limit)
    torch.manual_seed(0)
    encodings = [draw_encoding(problem, within) for _ in range(2000)]
    if within:
        assert all(problem.fits(encoding) for encoding in encodings)
    ratios = [[c for c in encoding if 0 < c < len(problem.choices) - 1] for encoding in encodings]
    assert all(ratios)
    seen = {encoding for encoding in encodings if sum(map(bool, encoding)) == 1}
    possible = {
        tuple(choice if i == layer else 0 for i in range(3))
        for layer in range(3)
        for choice in range(1, len(problem.choices) - 1)
        if not within or problem.costs[layer][choice] <= limit
    }
    assert seen == possible
    if not within or limit > 1:
        counts = torch.tensor([sum(map(bool, encoding)) for encoding in encodings]).bincount(
            minlength=4
        )[1:]
        assert (counts > 2000 / 3 * 0.75).all()


def test_draws_come_from_torchs_generator(trained):
    problem, drawn = problem_of(trained), []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append([draw_encoding(problem, True) for _ in range(20)])
    assert drawn[0] == drawn[1]


# -- other correctors, tasks and devices


@dataclass(frozen=True)
class Tilt(Corrector):
    """A stranger's corrector: y + x's channels through a linear map of low rank."""

    def build(self, shape: LayerShape, size: int) -> nn.Module:
        return TiltModule(shape, size)

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        products = sum(shape.channels) * size
        return CorrectorCost(products + size + shape.out_channels, products)

    def shrink(self, module: nn.Module, size: int) -> dict[str, Tensor]:
        p = dict(module.named_parameters())
        return {
            "down.weight": p["down.weight"][:size],
            "down.bias": p["down.bias"][:size],
            "up.weight": p["up.weight"][:, :size],
            "up.bias": p["up.bias"],
        }


class TiltModule(nn.Module):
    def __init__(self, shape: LayerShape, size: int) -> None:
        super().__init__()
        self.dims = shape.dims
        self.down = pointwise(shape.dims, shape.in_channels, size)
        self.up = pointwise(shape.dims, size, shape.out_channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.up(self.down(pooled(x, y, self.dims)))


@pytest.mark.parametrize("corrector", [Tilt(), Affine()], ids=["a stranger's", "affine"])
def test_every_corrector_can_be_searched(make, trained, corrector):
    ratios = (0.0, 0.5, 1.0) if corrector.sized else (0.0, 1.0)
    problem = problem_of(trained, corrector, ratios=ratios)
    more = {"problem": problem} if make is supernet_evaluator else {}
    evaluator = make(trained, corrector=corrector, steps=30, **more)
    placements = [Placement({"0": 1.0, "4": ratios[1]}), Placement({"2": 1.0, "4": "digital"})]
    values = [evaluator.evaluate(placement) for placement in placements]
    again = make(trained, corrector=corrector, steps=30, **more)
    assert [again.evaluate(placement) for placement in placements[::-1]] == values[::-1]
    assert values[0] != evaluator.evaluate(Placement({}))


def test_regression_is_searched_as_classification_is(make, trained):
    """Targets of four numbers; the score is an error, and chips that fail have none."""
    task = Regression()
    data = SimpleNamespace(
        train=(DATA.train.x, F.one_hot(DATA.train.y, 4).float()),
        val=(DATA.val.x, F.one_hot(DATA.val.y, 4).float()),
        augment=None,
        fingerprint="r",
    )
    evaluator = make(trained, data=data, task=task)
    values = evaluator.evaluate(PLACEMENTS[0])
    assert len(values) == 3 and all(value > 0 for value in values)
    assert evaluator.describe()["measurement"]["metric"] == task.metric


def test_a_chip_without_finite_outputs_has_no_score(make, trained):
    class Broken(LogNormalNoiseModel):
        def sample_factor(self, weights: Tensor) -> Tensor:
            return torch.full_like(weights, torch.inf)

    assert make(trained, noise_model=Broken(0.1)).evaluate(Placement({})) == (None,) * 3


def test_the_number_of_a_gpu_is_kept_here_and_left_behind(make, trained, monkeypatch):
    monkeypatch.setattr(
        "cnet_aihw.search.evaluators.chips.resolve_device", lambda _: torch.device("cuda", 1)
    )
    evaluator = make(trained)
    assert evaluator.device == evaluator._measurement.device == "cuda:1"
    sent = cloudpickle.loads(cloudpickle.dumps(evaluator._measurement))
    assert sent.device == "cuda"
    assert sent.describe(trained) == evaluator._measurement.describe(trained)


# -- users' mistakes


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda m: {"steps": 0}, "steps"),
        (lambda m: {"chips": 0}, "evaluation.chips"),
        (lambda m: {"samples": 0}, "samples"),
        (lambda m: {"threads": 0}, "threads"),
        (lambda m: {"fit": FitSettings(lr=-1.0)}, "training.lr"),
        (lambda m: {"t_inference": [1.0, 2.0]}, "t_inference"),
        (lambda m: {"device": "tpu"}, "device"),
        (lambda m: {"model": compensate(copy.deepcopy(m), PLACEMENTS[0])}, "model"),
    ],
)
def test_mistakes_are_refused_when_it_is_made(make, trained, change, key):
    with pytest.raises(CnetError) as error:
        make(**({"model": trained} | change(trained)))
    assert error.value.key == key


def test_a_programmed_chip_does_not_count(make, trained):
    model = copy.deepcopy(trained)
    program(model, 0)
    assert make(model).key() == make(trained).key()
    assert make(model).evaluate(PLACEMENTS[3]) == make(trained).evaluate(PLACEMENTS[3])


def test_an_unknown_layer_is_refused(make, trained):
    with pytest.raises(CnetError) as error:
        make(trained).evaluate(Placement({"7": 0.5}))
    assert error.value.key == "placement.7"


@pytest.mark.parametrize("placement", [{"2": 0.5}, {"4": 1.0}])
def test_a_placement_that_the_supernet_lacks_is_refused(trained, placement):
    problem = problem_of(trained, layers=("0", "4"), ratios=(0.0, 0.5))
    with pytest.raises(CnetError) as error:
        supernet_evaluator(trained, problem=problem).evaluate(Placement(placement))
    ((name, ratio),) = placement.items()
    assert (error.value.key, error.value.value) == (f"placement.{name}", ratio)


def test_a_supernet_of_another_corrector_is_refused(trained):
    start = CompensationSupernet(
        trained, DATA, problem_of(trained), corrector=RESIDUAL, fit=FIT, steps=2
    )
    evaluator = fit_evaluator(trained, corrector=FULL, start=start)
    with pytest.raises(CnetError) as error:
        evaluator.evaluate(PLACEMENTS[0])
    assert (error.value.value, error.value.expected) == (FULL.label(), RESIDUAL.label())


def test_a_network_that_is_all_digital_is_the_same_on_every_chip(make, trained):
    everything = Placement(dict.fromkeys(analog_layers(trained), "digital"))
    problem = {"problem": problem_of(trained, limit=2.0)} if make is supernet_evaluator else {}
    evaluator = make(trained, **problem)
    _, clean = measure(trained, (DATA.val.x[:120], DATA.val.y[:120]))
    assert evaluator.evaluate(everything) == (clean,) * len(evaluator.evaluate(Placement({})))
