"""The check that the class of a noise model has the methods that it needs."""

from __future__ import annotations

from cnet_aihw.rram.devices.conductances import STAGES
from cnet_aihw.runtime.errors import CnetError, bad_value

_PROGRAM = ("program_device", "program_devices", "apply_programming_noise", "chain")


def check_class(model: object, base: type) -> None:
    """Refuse a noise model that could not act, such as one whose method has another name.

    Args:
        model: the noise model.
        base: the class whose methods say that they are to be overridden.

    Raises:
        CnetError: names the stage that there is not, or the method that is missing.
    """
    kind = type(model)
    stage: str = getattr(kind, "stage")  # noqa: B009
    if stage not in STAGES:
        raise bad_value("stage", stage, f"one of {', '.join(STAGES)}")
    needed: list[tuple[str, ...]] = [("label",)]
    if getattr(kind, "drifts"):  # noqa: B009
        needed.append(("drift_device", "apply_drift_noise", "chain"))
    elif stage != "read noise":
        needed.append(_PROGRAM)
    if stage == "read noise":
        needed.append(("read_std_of_device", "read_stds", "chain"))
    for names in needed:
        if all(getattr(kind, name) is getattr(base, name) for name in names):
            raise CnetError(
                f"{kind.__name__} has no method {names[0]}, so that it cannot act as a device; "
                f"give it one, or mend its name.",
                key=names[0],
                value=kind.__name__,
                expected=f"a method {names[0]}",
            )
