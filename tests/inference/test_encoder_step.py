"""Blocks of clips in threads: one is prepared while another is computed, and none is computed with another."""

import itertools
import math
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from w2v2.cluster.embedding import BLOCKS_PER_GPU
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.inference import embedding, extraction_steps
from w2v2.inference.extraction import ExtractionJob
from w2v2.models.device import in_threads
from w2v2.models.encoder import Encoder

PREPARE_S, COMPUTE_S, NUM_BLOCKS = 0.1, 0.1, 6


class Slow(Encoder):
    """An encoder that sleeps, and whose vectors are the means of waveforms; remembers when it computed what."""

    min_samples, normalize, several, num_layers = 1, False, False, 1
    cut = SimpleNamespace(stage="pooled")

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.spans = {"prepare": {}, "compute": {}}

    def to(self, device):
        return self

    def eval(self):
        return self

    def during(self, what, block, seconds):
        started = time.monotonic()
        time.sleep(seconds)
        self.spans[what][block] = (started, time.monotonic())

    def trunk(self, padded, num_samples):
        self.during("compute", round(float(padded[0, 0])), COMPUTE_S)
        return padded.mean(1, keepdim=True), torch.ones_like(num_samples)


def block_of(number):
    """Two clips full of the block's number."""
    waveform = pa.array([[float(number)] * 4_000] * 2, pa.list_(pa.float32()))
    texts = {name: [""] * 2 for name in ("reject_kind", "reject_detail", "reason")}
    return pa.table({"clip_id": [f"{number}a", f"{number}b"], "start_s": [0.0] * 2, "status": ["embedded"] * 2, "waveform": waveform, **texts})  # fmt: skip


@pytest.fixture
def step(monkeypatch):
    encoder, collate = Slow(), embedding.collate

    def slowly(arrays):
        encoder.during("prepare", round(float(arrays[0][0])), PREPARE_S)
        return collate(arrays)

    monkeypatch.setattr(extraction_steps, "load", lambda config: (encoder, "d"))
    monkeypatch.setattr(embedding, "collate", slowly)
    job = ExtractionJob(
        config=ExtractConfig(), digest="d", num_layers=1, dim=1, min_samples=1, max_s=math.inf, layers=("last",),
        run_id="r", code_version="0",
    )  # fmt: skip
    made = extraction_steps.EncoderStep(job, 1)
    made.encoder = encoder
    return made


def embedded(step, num_threads):
    started = time.monotonic()
    tables = list(
        in_threads(step, (block_of(number) for number in range(NUM_BLOCKS)), num_threads=num_threads)
    )
    vectors = [[row["vectors"][0]["embedding"] for row in table.to_pylist()] for table in tables]
    assert vectors == [[[float(number)]] * 2 for number in range(NUM_BLOCKS)], "order or vectors"
    return time.monotonic() - started


def overlap(one, other):
    return min(one[1], other[1]) - max(one[0], other[0]) > 0


def num_hidden(spans):
    """Blocks that were prepared while another one was computed."""
    others = [
        [span for other, span in spans["compute"].items() if other != block] for block in spans["prepare"]
    ]
    pairs = zip(spans["prepare"].values(), others, strict=True)
    return sum(any(overlap(prepared, span) for span in computed) for prepared, computed in pairs)


def test_a_block_is_prepared_while_another_is_computed(step):
    alone_s = embedded(step, 1)
    assert num_hidden(step.encoder.spans) == 0
    together_s = embedded(step, BLOCKS_PER_GPU)
    assert num_hidden(step.encoder.spans) >= NUM_BLOCKS - BLOCKS_PER_GPU - 1
    for one, other in itertools.combinations(step.encoder.spans["compute"].values(), 2):
        assert not overlap(one, other)
    assert together_s < alone_s


def test_an_error_in_a_thread_is_raised_and_frees_the_turn(step):
    number = itertools.count()
    trunk = step.encoder.trunk

    def broken(padded, num_samples):
        if next(number) == 1:
            raise RuntimeError("no memory")
        return trunk(padded, num_samples)

    step.encoder.trunk = broken
    with pytest.raises(RuntimeError, match="no memory"):
        embedded(step, BLOCKS_PER_GPU)
    assert np.isclose(step(block_of(3)).to_pylist()[0]["vectors"][0]["embedding"][0], 3.0)
