"""Clips that benchmarks make."""

import numpy as np
import pytest

from w2v2.benchmarks import synthetic_clips
from w2v2.config.data import DataConfig, FoldsConfig
from w2v2.data import folds, manifest


def test_lengths_are_ravdess_like_or_heavy_tailed():
    ravdess, heavy = (
        f(4000, seed=1) for f in (synthetic_clips.ravdess_lengths_s, synthetic_clips.heavy_lengths_s)
    )
    assert (ravdess.min(), ravdess.max()) == (2.94, pytest.approx(5.27, abs=0.5))
    assert ravdess.mean() == pytest.approx(3.7, abs=0.03)
    assert 2 <= heavy.min() < 2.1 and 25 < heavy.max() <= 30
    assert np.mean(heavy == 2) == 0  # drawn again, not cut
    assert np.array_equal(heavy, synthetic_clips.heavy_lengths_s(4000, seed=1))


@pytest.mark.parametrize("length_s", [0.1, 3.7, 6.3])
def test_speech_has_its_length_and_no_clipping(length_s):
    waveform = synthetic_clips.speech(length_s, actor=7, emotion=4, seed=0)
    assert waveform.dtype == np.float32 and len(waveform) == round(16_000 * length_s)
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1
    # Speech, not only the noise around it, wherever there is room for some.
    assert length_s < 0.3 or np.abs(waveform).max() > 0.05


@pytest.mark.parametrize(("num_clips", "num_folds"), [(12, 6), (31, 5), (60, 6)])
def test_the_corpus_can_be_divided_into_folds(tmp_path, num_clips, num_folds):
    lengths_s = np.full(num_clips, 0.3)
    synthetic_clips.write_corpus(tmp_path, lengths_s, seed=0)
    corpus = manifest.read(DataConfig(uri=str(tmp_path)))
    assert (len(corpus.clips), len(corpus.rejects)) == (num_clips, 0)
    assigned = folds.assign(corpus.clips, FoldsConfig(kind="consecutive", num_folds=num_folds))
    assert set(assigned["fold"].to_pylist()) == set(range(num_folds))
    assert set(assigned["label"].to_pylist()) == {"sad", "angry"}


def test_short_clips_are_all_different(tmp_path):
    synthetic_clips.write_short_clips(tmp_path / "clips", num_clips=7, clip_s=0.1, seed=0)
    contents = {path.read_bytes() for path in (tmp_path / "clips").rglob("*.wav")}
    assert len(contents) == 7
