"""Networks that train with perfect periphery, for crossbars with a real one."""

from aihwkit.inference import GlobalDriftCompensation

from cnet_aihw.evaluation import perfect_periphery
from cnet_aihw.rram import CrossbarMapping, LogNormalNoiseModel, RRAMRPUConfig, periphery


def test_training_has_device_time_and_drift_compensation_of_the_crossbars_alone() -> None:
    config = RRAMRPUConfig(
        noise_model=LogNormalNoiseModel(0.3),
        forward=periphery(out_noise=0.1),
        mapping=CrossbarMapping(max_rows=4).as_parameter(perfect_periphery=False),
        drift_compensation=GlobalDriftCompensation(),
    )
    found = perfect_periphery(config, t_inference=60.0)
    assert (found.noise_model, found.variation.t_inference) == (config.noise_model, 60.0)
    assert found.drift_compensation is config.drift_compensation is not None
    assert found.forward.is_perfect and found.mapping == RRAMRPUConfig().mapping
