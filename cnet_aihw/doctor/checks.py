"""Checks of `cnet-aihw doctor`, each run in its own process as a module with its name.

Each prints its findings as a line of JSON; a library that cannot be imported, or that crashes, ends
this process alone.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OK, WARNING, FAULT = "ok", "warning", "fault"
FOUND = "found: "
"""Beginning of the line with the findings; libraries may print lines of their own."""
GIB = 2**30
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    what: str
    """Subject of the check."""

    state: str
    """"ok", "warning" (something is missing that not every job needs) or "fault"."""

    found: str
    """Finding in words."""

    advice: str = ""
    """Remedy, if any."""


def torch_and_cuda() -> list[Finding]:
    """Multiply on the CPU, and on the GPU where there is one."""
    import torch

    from cnet_aihw.runtime.torch_device import has_bf16

    torch.ones(2, 2) @ torch.ones(2, 2)
    found = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if not has_bf16(torch.device("cpu")):
        found += ", bfloat16 (training.bf16) is slow here"
    return [Finding("torch", OK, found), cuda_of(torch)]


def cuda_of(torch: Any) -> Finding:
    """Check torch on the GPU, where there is one."""
    name, built = "CUDA", torch.version.cuda
    if torch.cuda.is_available():
        gpu = "there is a GPU"
        try:  # one that another process holds for itself fails at the first question
            free, total = torch.cuda.mem_get_info()
            gpu = f"{torch.cuda.get_device_name()}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
            (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).cpu()
        except RuntimeError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            return Finding(name, FAULT, f"{gpu}, but it cannot compute: {reason}", "set device=cpu")
        return Finding(name, OK, f"{gpu}, CUDA {built}")
    if not _DRIVER.exists():
        return Finding(name, OK, "no NVIDIA driver; everything runs on the CPU")
    if built is None:
        found, advice = "torch is built without it", "install a torch built with CUDA"
    else:
        found, advice = f"torch cannot use it (built for CUDA {built})", "check with nvidia-smi"
    return Finding(
        name, WARNING, f"there is an NVIDIA driver, but {found}", f"for the GPU {advice}"
    )


def torch_tile() -> list[Finding]:
    """Program a chip of this package's crossbars and read it."""
    import torch

    from cnet_aihw.rram import convert_to_analog, programmed

    model = convert_to_analog(torch.nn.Sequential(torch.nn.Linear(3, 2))).eval()
    with programmed(model, seed=0), torch.no_grad():
        _check_finite(model(torch.ones(1, 3)).tolist()[0])
    return [Finding("torch tile", OK, "a chip was programmed and read")]


def cpp_tile() -> list[Finding]:
    """Read a tile of aihwkit's compiled extension."""
    import torch
    from aihwkit.nn import AnalogLinear
    from aihwkit.simulator.configs import InferenceRPUConfig
    from aihwkit.simulator.rpu_base import cuda

    layer = AnalogLinear(3, 2, rpu_config=InferenceRPUConfig()).eval()
    with torch.no_grad():
        _check_finite(layer(torch.ones(1, 3)).tolist()[0])
    cuda_too = "on CPU and CUDA" if cuda.is_compiled() else "on the CPU; built without CUDA"
    return [Finding("C++ tile", OK, f"works {cuda_too}")]


def ray_import() -> list[Finding]:
    """Import Ray and RLlib."""
    import ray
    import ray.rllib.algorithms.ppo

    return [Finding("Ray", OK, f"{ray.__version__} with RLlib"), ray_here()]


def ray_here() -> Finding:
    """Check what Ray needs of this machine and this user, without starting it."""
    from cnet_aihw.cluster.machine import check_start, private_cpus
    from cnet_aihw.cluster.settings import RaySettings
    from cnet_aihw.runtime.errors import CnetError

    try:
        check_start(processes=1)
    except CnetError as error:
        found, _, advice = str(error).rstrip(".").partition("; ")
        return Finding("Ray here", WARNING, found, f"for search=ppo and ray.workers {advice}")
    return Finding("Ray here", OK, f"can start with {private_cpus(RaySettings())} CPUs")


def ray_start() -> list[Finding]:
    """Start a private Ray and have it answer."""
    from cnet_aihw.cluster.session import start_ray
    from cnet_aihw.cluster.settings import RaySettings

    session = start_ray(RaySettings(num_cpus=1, dashboard=False))
    import ray

    answer = ray.get(ray.remote(lambda: 1).remote(), timeout=60)
    ray.shutdown()
    return [Finding("Ray start", OK if answer == 1 else FAULT, f"a task ran at {session.address}")]


def _check_finite(values: list[float]) -> None:
    if not all(abs(value) < 1e6 for value in values):
        raise ArithmeticError(f"a tiny forward pass gives {values}")


PROBES = {
    probe.__name__: probe for probe in (torch_and_cuda, torch_tile, cpp_tile, ray_import, ray_start)
}

if __name__ == "__main__":
    print(FOUND + json.dumps([asdict(finding) for finding in PROBES[sys.argv[1]]()]))
