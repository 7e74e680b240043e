"""Scenes of digits with a class for each pixel."""

import pytest
import torch

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import digit_scenes


def test_pixels_of_digits_have_their_class() -> None:
    data = digit_scenes(train=30, val=5, test=10, noise=0.0)
    x, y = data.train.x, data.train.y
    assert (x.shape, y.shape, data.classes) == ((30, 1, 48, 48), (30, 48, 48), 11)
    assert set(y.unique().tolist()) == set(range(11))
    assert (float(x.mean()), float(x.std())) == pytest.approx((0.0, 1.0), abs=1e-5)
    dark = x.min()
    assert ((x[:, 0] > dark) | (y == 0)).all()  # without noise, what has a class has ink
    assert 0.02 < (y > 0).float().mean() < 0.2
    again = digit_scenes(train=30, val=5, test=10, noise=0.0)
    assert torch.equal(again.train.x, x) and again.fingerprint == data.fingerprint
    other = digit_scenes(train=30, val=5, test=10, noise=0.0, seed=1)
    assert other.fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"digit": 30}, "digit"),
        ({"val": 0}, "val"),
        ({"noise": -1.0}, "noise"),
        ({"seed": -1}, "seed"),
    ],
)
def test_sizes_that_do_not_fit(changes: dict, key: str) -> None:
    with pytest.raises(CnetError) as error:
        digit_scenes(**changes)
    assert error.value.key == key
