"""Vectors, against loops of transformers."""

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Model

from w2v2.audio.waveforms import normalized
from w2v2.benchmarks import extract_case, processes, synthetic_clips
from w2v2.benchmarks.config import (
    BenchmarkConfig,
    ExtractSizes,
)
from w2v2.benchmarks.result import OURS
from w2v2.benchmarks.transformers_loop import Loop, embed_files
from w2v2.jobs import benchmark
from w2v2.storage import run_directory


def test_the_loop_pads_as_its_name_says(group_norm):
    clips = synthetic_clips.waveforms([1.0, 1.0, 2.1], seed=0)
    loop = Loop(group_norm)
    single = loop.vectors(clips, padding="single", batch_size=2)
    longest = loop.vectors(clips, padding="longest", batch_size=2)
    # Two clips of one length need no padding, nor does a batch of one.
    np.testing.assert_allclose(longest, single, atol=1e-5)
    mixed = loop.vectors(clips[1:], padding="longest", batch_size=2)
    assert np.abs(mixed[0] - single[1]).max() > 1e-2
    np.testing.assert_allclose(mixed[1], single[2], atol=1e-5)
    model = Wav2Vec2Model.from_pretrained(group_norm).eval()
    ten = np.zeros(160_000, np.float32)
    ten[: len(clips[0])] = clips[0]
    with torch.no_grad():
        wanted = model(torch.from_numpy(normalized(ten))[None]).last_hidden_state.mean(1)[0].numpy()
    padded = loop.vectors(clips[:1], padding="10 s", batch_size=2)[0]
    np.testing.assert_allclose(padded, wanted, atol=1e-4)


def test_case_extract_writes_its_numbers_and_ours_agree(tmp_path, group_norm, capsys):
    config = BenchmarkConfig(
        cases=("extract",),
        run=str(tmp_path / "run"),
        rounds=2,
        encoder=group_norm,
        num_threads=1,
        extract=ExtractSizes(num_clips=5, batch_size=3),
    )
    (result,) = benchmark.main(config)
    parts = {comparison.part: comparison for comparison in result.comparisons}
    assert list(parts["RAVDESS lengths"].seconds) == [OURS, extract_case.TO_10_S, extract_case.SINGLE]
    assert list(parts["heavy-tailed lengths"].seconds)[1] == extract_case.TO_LONGEST
    apart = {(a.part, a.side): a for a in result.agreements if "max abs difference from" in a.what}
    for part in parts:
        assert apart[part, OURS].holds and apart[part, OURS].value < 1e-5
    assert apart["RAVDESS lengths", extract_case.TO_10_S].value > 1e-2
    assert apart["heavy-tailed lengths", extract_case.TO_LONGEST].value > 1e-2
    table = run_directory.read_table(str(tmp_path / "run"), "benchmark").to_pylist()
    assert sum(row["what"] == "seconds" for row in table) == 2 * 3 * 2
    assert (tmp_path / "run/plots/benchmark-extract.png").exists()


def test_the_loop_reads_files_in_the_order_given(tmp_path, tiny):
    sounds = synthetic_clips.waveforms([0.6, 0.9, 0.7], seed=0)
    paths = synthetic_clips.write_wavs(tmp_path / "audio", sounds)
    made = embed_files(tiny, paths, "single", 2, torch.get_num_threads())
    # The files have 16 bits.
    np.testing.assert_allclose(made, Loop(tiny).vectors(sounds, padding="single", batch_size=2), atol=1e-2)


@pytest.mark.slow
def test_vectors_of_the_whole_job_come_in_the_order_of_the_files(tmp_path, tiny):
    paths = synthetic_clips.write_wavs(tmp_path / "audio", synthetic_clips.waveforms([0.6, 0.9, 0.7], seed=0))
    job = extract_case.extraction_of(tmp_path / "run", tmp_path / "audio", tiny)
    processes.run_job("extract_embeddings", job)
    made = extract_case.table_vectors(tmp_path / "run/embeddings.db")
    wanted = embed_files(tiny, paths, "single", 1, torch.get_num_threads())
    np.testing.assert_allclose(made, wanted, atol=1e-5)
