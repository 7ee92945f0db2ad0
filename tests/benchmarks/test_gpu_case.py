"""The case gpu on a CPU, in small: every part is measured, and its operations are counted."""

import math
import re

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, Wav2Vec2Model

from w2v2.benchmarks.config import BenchmarkConfig, GpuSizes
from w2v2.benchmarks.device_profile import COMPUTING, IDLE, DeviceProfile, profiled
from w2v2.benchmarks.encoders import clip_flops
from w2v2.benchmarks.gpu_case import PARTS, gpu, trained_flops
from w2v2.benchmarks.result import OURS, joined, lines_of
from w2v2.errors import UserError


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    config = BenchmarkConfig(
        cases=("gpu",), encoder="tiny", rounds=1, num_threads=1,
        gpu=GpuSizes(num_clips=4, batch_size=2, num_last_layers=1, num_processes=2),
    )  # fmt: skip
    return joined(list(gpu(config, tmp_path_factory.mktemp("gpu"))))


@pytest.mark.slow
def test_every_part_is_measured(result):
    parts = {comparison.part for comparison in result.comparisons}
    assert parts >= {"extraction, RAVDESS's lengths", "extraction, heavy-tailed lengths", *PARTS.values()}
    assert all(comparison.median(OURS) > 0 for comparison in result.comparisons)
    reached = [row for row in result.agreements if row.what == "fraction of the ceiling"]
    assert len(reached) == 5 and all(0 < row.value < 2 for row in reached)
    gain = [row.value for row in result.agreements if row.what.startswith("work done per second")]
    assert len(gain) == 1 and gain[0] > 0


@pytest.mark.slow
def test_shares_of_the_seconds_add_up_to_one(result):
    for part in {row.part for row in result.agreements if row.what.startswith("share")}:
        shares = [row.value for row in result.agreements if row.part == part and row.what.startswith("share")]
        assert math.fsum(shares) == pytest.approx(1) and min(shares) >= 0


@pytest.mark.slow
def test_the_largest_loss_is_named(result):
    text = "\n".join(lines_of(result))
    for part in ("extraction, RAVDESS's lengths", *PARTS.values()):
        assert re.search(rf"gpu: {part}: \d+% of the ceiling, wanted \d\d%: \w+; largest loss: [a-z]", text)
    assert re.search(r"the program takes -?[\d,]+ us to start a layer and [\d.]+ ms for a batch", text)
    assert re.search(r"one core decodes [\d,]+ s of audio a second", text)
    assert re.search(r"extraction, heavy-tailed lengths: \d+\.\d% of \d batches is padding", text)


def test_losses_are_what_is_beyond_the_ideal():
    shares = {"convolutions": 0.3, "matrix products": 0.3, "copies": 0.15, IDLE: 0.25}
    losses = DeviceProfile(seconds=2.0, shares=shares).losses(ideal_s=0.8)
    below = f"{', '.join(COMPUTING)} below the ceiling"
    assert losses == pytest.approx({below: 0.2, "copies": 0.15, IDLE: 0.25})


def test_seconds_go_to_the_kind_of_their_operation():
    left, device = torch.randn(400, 400), torch.device("cpu")
    profile = profiled(lambda: [left @ left for _ in range(50)], device=device, seconds=1.0)
    assert max(profile.shares, key=lambda kind: profile.shares[kind]) == "matrix products"


@pytest.mark.parametrize("geometry", ["group", "layer"])
def test_operations_are_those_that_torch_counts(geometry, tmp_path):
    config = AutoConfig.for_model(
        "wav2vec2", hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
        conv_dim=(8, 16), conv_kernel=(10, 8), conv_stride=(5, 8), num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4, feat_extract_norm=geometry, attn_implementation="eager",
    )  # fmt: skip
    model = Wav2Vec2Model(config).eval()
    flops = clip_flops(config, 1.0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, 16_000))
    # Positions of an even kernel are computed for one frame more, which is cut off.
    assert counter.get_total_flops() == pytest.approx(flops.total, rel=2e-3)


def test_a_backward_pass_has_twice_the_operations():
    flops = clip_flops(AutoConfig.for_model("wav2vec2"), 3.7)
    layer = nn.Linear(30, 20)
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(7, 30, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 7 * 30 * 20
    assert trained_flops(flops, "all", 1.0) == 3 * flops.total
    assert trained_flops(flops, "no_conv", 1.0) == pytest.approx(3 * (flops.total - flops.convolutions))
    assert trained_flops(flops, "last", 1 / 6) == pytest.approx((flops.linear + flops.attention) / 2)


def test_sizes_are_checked():
    with pytest.raises(UserError, match=r"gpu\.num_processes must be at least 2, got 1"):
        GpuSizes(num_processes=1)
