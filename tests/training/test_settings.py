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
    ("changes", "key"),
    [
        ({"epochs": -1}, "epochs"),
        ({"epochs": 2.5}, "epochs"),
        ({"epochs": None}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"batch_size": 10.0}, "batch_size"),
        ({"batch_size": -3}, "batch_size"),
        ({"seed": None}, "seed"),
        ({"lr": "0.1"}, "lr"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"momentum": None}, "momentum"),
        ({"momentum": 1.0}, "momentum"),
        ({"patience": 0}, "patience"),
        ({"validate_every": 0}, "validate_every"),
        ({"grad_clip": 0.0}, "grad_clip"),
        ({"label_smoothing": 1.5}, "label_smoothing"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds"),
        ({"optimizer": "adan"}, "optimizer"),
        ({"schedule": "cosin"}, "schedule"),
        ({"select": "chip"}, "select"),
        ({"epochs": 3, "warmup_epochs": 3.0}, "warmup_epochs"),
        ({"schedule": "onecycle", "warmup_epochs": 1.0}, "warmup_epochs"),
        ({"validation_chips": 0}, "validation_chips"),
        ({"lipschitz": LipschitzSettings(beta=-1.0)}, "lipschitz.beta"),
        ({"lipschitz": LipschitzSettings(k=0.0)}, "lipschitz.k"),
        ({"lipschitz": LipschitzSettings(lambda_=0.0)}, "lipschitz.lambda_"),
        ({"lipschitz": LipschitzSettings(gram="rows")}, "lipschitz.gram"),
        ({"variation": VariationSettings(chips_per_step=0)}, "variation.chips_per_step"),
        ({"variation": VariationSettings(steps_per_chip=-1)}, "variation.steps_per_chip"),
        ({"variation": VariationSettings(ramp_epochs=-1.0)}, "variation.ramp_epochs"),
        ({"epochs": 3, "variation": VariationSettings(ramp_epochs=3.5)}, "variation.ramp_epochs"),
        ({"variation": VariationSettings(least_share=1.5)}, "variation.least_share"),
        ({"variation": VariationSettings(least_share=-0.1)}, "variation.least_share"),
        ({"variation": VariationSettings(gradient="reparameterized")}, "variation.gradient"),
    ],
)
def test_mistakes(changes: dict, key: str) -> None:
    with pytest.raises(CnetError) as caught:
        validate_training_settings(TrainingSettings(**changes))
    assert caught.value.key == f"training.{key}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({"optimizer": "SGD"}, "sgd"),
        ({"schedule": "cosin"}, "cosine"),
        ({"variation": VariationSettings(gradient="reparameterized")}, "reparametrized"),
    ],
)
def test_the_nearest_word_is_offered(changes: dict, near: str) -> None:
    with pytest.raises(CnetError) as caught:
        validate_training_settings(TrainingSettings(**changes))
    assert near in caught.value.expected and near in (caught.value.fix or "")


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
