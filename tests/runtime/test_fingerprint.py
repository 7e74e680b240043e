"""Fingerprints: they stay what they were, and every type of number has one."""

import pytest
import torch

from cnet_aihw.runtime.fingerprint import tensors_fingerprint


def test_the_fingerprint_of_a_record_is_found_again_by_later_versions():
    tensors = {
        "a": torch.arange(12.0).view(3, 4).t(),
        "b": torch.tensor(3),
        "c": torch.zeros(0, 2),
        "d": torch.tensor([True, False]),
        "e": torch.tensor(2.5),
    }
    assert tensors_fingerprint(tensors) == (
        "9cb723dbda0961d4a6913feda086592fddb931c7ecb7db11e44b69463b1d1772"
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8])
def test_every_type_has_one_that_content_type_and_shape_decide(dtype):
    x = torch.arange(4).to(dtype)
    found = tensors_fingerprint({"x": x})
    assert found == tensors_fingerprint({"x": x.clone()})
    others = [x.flip(0), x.float(), x.view(2, 2)]
    assert found not in [tensors_fingerprint({"x": other}) for other in others]
