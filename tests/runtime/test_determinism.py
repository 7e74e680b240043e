"""Settings of torch for repeatable results: on CUDA alone, and put back afterwards."""

import os

import pytest
import torch

from cnet_aihw.runtime.determinism import deterministic, uses_tf32

CUDA = torch.device("cuda", 0)


def settings() -> tuple:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.backends.cuda.matmul.fp32_precision,
        cudnn.conv.fp32_precision,
        cudnn.rnn.fp32_precision,
    )


@pytest.mark.parametrize("tf32", [None, False, True])
def test_cuda_is_set_inside_the_block_alone(
    tf32: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    with pytest.raises(KeyboardInterrupt), deterministic(CUDA, tf32=tf32):
        assert settings()[:5] == (True, True, False, False, True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        if tf32 is not None:
            assert settings()[5:] == ("tf32" if tf32 else "ieee",) * 3
            assert uses_tf32(CUDA) is tf32
        raise KeyboardInterrupt
    assert settings() == before


def test_a_stricter_setting_of_the_user_stays() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        with deterministic(CUDA):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_cpu_is_left_alone() -> None:
    before = settings()
    with deterministic(torch.device("cpu"), tf32=False):
        assert settings() == before
    assert not uses_tf32(torch.device("cpu"))
