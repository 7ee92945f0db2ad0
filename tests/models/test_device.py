"""The device of forward passes, and that float32 means float32 on each."""

import pytest
import torch

from w2v2.models.device import NUM_THREADS, on_device, padded_budget, prepared_ahead, select_device, to_device


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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_items_are_prepared_in_order(device):
    taken = []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    prepared = prepared_ahead(lambda item: item**2, items(), torch.device(device))
    assert next(prepared) == 0
    assert len(taken) == (1 if device == "cpu" else 2 + NUM_THREADS)
    assert list(prepared) == [item**2 for item in range(1, 20)]


def test_an_error_of_preparing_is_raised():
    prepared = prepared_ahead(lambda item: 1 / item, [1, 0], torch.device("cuda"))
    assert next(prepared) == 1
    with pytest.raises(ZeroDivisionError):
        next(prepared)


def test_lengths_stay_on_the_cpu():
    features, lengths = torch.ones(2, 3), torch.tensor([3, 2])
    assert on_device(torch.device("meta"), features, lengths, None)[1] is lengths
