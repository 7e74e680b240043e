"""The room opens lazily, and its list of names is complete."""

import subprocess
import sys

from cnet_aihw import zoo


def test_every_public_name_is_there() -> None:
    assert all(callable(getattr(zoo, name)) for name in zoo.__all__)
    assert {"Dataset", "arrays", "digits", "LeNet5", "load_pretrained"} <= set(zoo.__all__)


def test_opening_the_room_imports_nothing_heavy() -> None:
    code = (
        "import sys, cnet_aihw.zoo; "
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'aihwkit') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_networks_need_neither_torchvision_nor_the_other_rooms() -> None:
    code = (
        "import sys; from cnet_aihw.zoo import LeNet5, from_tensors, load_pretrained; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torchvision', 'sklearn', 'aihwkit')"
        " or m.startswith(('cnet_aihw.rram', 'cnet_aihw.training', 'cnet_aihw.jobs'))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
