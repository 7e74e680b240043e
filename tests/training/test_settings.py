"""Settings: checked in one sentence, free of torch, usable as structured configuration."""

import subprocess
import sys
from dataclasses import fields

import pytest
from omegaconf import OmegaConf

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training import (
    LipschitzSettings,
    TrainingSettings,
    VariationSettings,
    validate_training_settings,
)


def test_defaults_are_valid() -> None:
    validate_training_settings(TrainingSettings())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "training.epochs is 0; give a whole number of at least 1"),
        ({"epochs": 2.5}, "training.epochs is 2.5"),
        ({"epochs": None}, "training.epochs is None"),
        ({"epochs": True}, "training.epochs is True"),
        ({"batch_size": 10.0}, "training.batch_size is 10.0; give a whole number"),
        ({"seed": None}, "training.seed is None; give a whole number"),
        ({"lr": "0.1"}, "training.lr is '0.1'; give a number above 0"),
        ({"momentum": None}, "training.momentum is None"),
        ({"batch_size": -3}, "training.batch_size is -3"),
        ({"patience": 0}, "training.patience is 0"),
        ({"validate_every": 0}, "training.validate_every is 0"),
        ({"lr": 0.0}, "training.lr is 0.0; give a number above 0"),
        ({"lr": float("nan")}, "training.lr is nan"),
        ({"grad_clip": 0.0}, "training.grad_clip is 0.0"),
        ({"momentum": 1.0}, r"training.momentum is 1.0; give a number in \[0, 1\)"),
        ({"label_smoothing": 1.5}, "training.label_smoothing is 1.5"),
        ({"weight_decay": -1.0}, "training.weight_decay is -1.0"),
        ({"checkpoint_seconds": -1.0}, "training.checkpoint_seconds is -1.0"),
        ({"optimizer": "adan"}, r"give one of sgd, adam, adamw \(did you mean 'adam'\?\)"),
        ({"optimizer": "SGD"}, "did you mean 'sgd'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"select": "chip"}, "did you mean 'chips'"),
        ({"epochs": 3, "warmup_epochs": 3.0}, "training.warmup_epochs is 3.0"),
        ({"schedule": "onecycle", "warmup_epochs": 1.0}, "0 with the schedule onecycle"),
        ({"validation_chips": 0}, "training.select is 'chips' but"),
        ({"lipschitz": LipschitzSettings(beta=-1.0)}, "training.lipschitz.beta is -1.0"),
        ({"lipschitz": LipschitzSettings(k=0.0)}, "training.lipschitz.k is 0.0"),
        ({"lipschitz": LipschitzSettings(lambda_=0.0)}, "training.lipschitz.lambda_ is 0.0"),
        (
            {"variation": VariationSettings(steps_per_chip=-1)},
            "training.variation.steps_per_chip is -1",
        ),
        ({"variation": VariationSettings(ramp_epochs=-1.0)}, "variation.ramp_epochs is -1.0"),
        (
            {"epochs": 3, "variation": VariationSettings(ramp_epochs=3.5)},
            "variation.ramp_epochs is 3.5; give at most the 3 epochs",
        ),
        (
            {"variation": VariationSettings(gradient="reparameterized")},
            "did you mean 'reparametrized'",
        ),
    ],
)
def test_mistakes(changes: dict, message: str) -> None:
    with pytest.raises(CnetError, match=message) as caught:
        validate_training_settings(TrainingSettings(**changes))
    assert "\n" not in str(caught.value)


def test_a_structured_configuration_and_back() -> None:
    config = OmegaConf.structured(TrainingSettings)
    config = OmegaConf.merge(
        config,
        {"epochs": 3, "patience": 2, "lipschitz": {"exclude": ["a.*"]}, "grad_clip": 1.0},
    )
    settings = OmegaConf.to_object(config)
    assert settings == TrainingSettings(
        epochs=3, patience=2, grad_clip=1.0, lipschitz=LipschitzSettings(exclude=["a.*"])
    )
    with pytest.raises(Exception, match="epoch"):
        OmegaConf.merge(config, {"epoch": 3})


@pytest.mark.parametrize("kind", [TrainingSettings, LipschitzSettings, VariationSettings])
def test_no_two_settings_share_a_mutable_default(kind: type) -> None:
    first, second = kind(), kind()
    for field in fields(kind):
        value = getattr(first, field.name)
        if isinstance(value, list | LipschitzSettings | VariationSettings):
            assert value is not getattr(second, field.name)


def test_settings_need_no_torch() -> None:
    code = (
        "import sys\n"
        "from cnet_aihw.training import TrainingSettings, validate_training_settings\n"
        "from cnet_aihw.evaluation import EvaluationSettings\n"
        "validate_training_settings(TrainingSettings())\n"
        "loaded = {'torch', 'aihwkit', 'tensorboard', 'rich', 'scipy'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
