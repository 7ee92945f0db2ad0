"""The device of forward passes, and that float32 means float32 on each."""

import pytest
import torch

from w2v2.models.device import padded_budget, select_device, to_device


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_convolutions_are_as_exact_on_a_gpu(monkeypatch, gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert select_device().type == device
    assert torch.backends.cudnn.allow_tf32 != gpu
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("device", "batch_s", "seconds"),
    [("cpu", 0.0, 8), ("cuda", 0.0, 240), ("cpu", 2.5, 2.5), ("cuda", 1.0, 1)],
)
def test_seconds_of_audio_in_a_pass(device, batch_s, seconds):
    assert padded_budget(torch.device(device), batch_s) == 16_000 * seconds


def test_on_a_cpu_nothing_is_copied():
    tensor = torch.ones(3)
    assert to_device(tensor, torch.device("cpu")) is tensor
