"""The small corpora of the tests: labels can be decoded from the audio, formats are mixed, and all is deterministic."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.metrics import roc_auc_score

from tests.made.corpora import FORMATS, LABELS, RATES_HZ, clinic_corpus, deam_corpus, labelled_csv
from w2v2.audio.decoding import load_waveform
from w2v2.config.data import AudioConfig, DataConfig, FoldsConfig, SplitConfig
from w2v2.data import manifest, splits


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    return clinic_corpus(tmp_path_factory.mktemp("clinic"), val=True)


def waveforms(clips):
    return [load_waveform(Path(uri).read_bytes(), AudioConfig()) for uri in clips["uri"].to_pylist()]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def level(waveform, *, hop=320):
    """The level of each 20 ms."""
    return np.sqrt((waveform[: len(waveform) // hop * hop].reshape(-1, hop) ** 2).mean(axis=1))


def flatness(waveform):
    """Geometric by arithmetic mean of the power spectrum below 3.5 kHz: near 0 for tones, more for noise."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    power = power[: int(len(power) * 3500 / 8000)] + 1e-12
    return float(np.exp(np.log(power).mean()) / power.mean())


def test_clinic_has_mixed_audio_and_three_splits(clinic):
    corpus = manifest.read(DataConfig(uri=str(clinic), layout="clinic"), task="multi_label")
    assert Counter(corpus.clips["split"].to_pylist()) == {"train": 15, "val": 5, "test": 4}
    splits.audit(splits.assign(corpus.clips, SplitConfig(), FoldsConfig(), need_val=True))
    infos = [soundfile.info(uri) for uri in corpus.clips["uri"].to_pylist()]
    assert {info.samplerate for info in infos} == set(RATES_HZ)
    assert {info.channels for info in infos} == {1, 2}
    assert {Path(uri).suffix[1:] for uri in corpus.clips["uri"].to_pylist()} == set(FORMATS)
    assert max(Counter(corpus.clips["speaker"].to_pylist()).values()) == 3
    for name in LABELS:
        for split in ("train", "test"):
            split_clips = corpus.clips.filter(np.array(corpus.clips["split"].to_pylist()) == split)
            assert {0.0, 1.0} <= set(split_clips[f"target_{name}"].to_pylist())


def test_clinic_can_be_decoded(clinic):
    clips = manifest.read(DataConfig(uri=str(clinic), layout="clinic"), task="multi_label").clips
    measured = {
        "tremor": [level(w).std() / level(w).mean() for w in waveforms(clips)],
        "breathy": [flatness(w) for w in waveforms(clips)],
    }
    for name, values in measured.items():
        target = clips[f"target_{name}"].to_numpy()
        labelled = ~np.isnan(target)
        assert roc_auc_score(target[labelled], np.array(values)[labelled]) > 0.9, name


def test_deam_can_be_decoded(tmp_path):
    clips = manifest.read(DataConfig(uri=str(deam_corpus(tmp_path)), layout="deam"), task="regression").clips
    loud = [np.log(level(w).mean()) for w in waveforms(clips)]
    bright = []
    for waveform in waveforms(clips):
        power = np.abs(np.fft.rfft(waveform)) ** 2
        bright.append((power * np.arange(len(power))).sum() / power.sum())
    assert np.corrcoef(loud, clips["target_arousal"].to_numpy())[0, 1] > 0.9
    assert np.corrcoef(bright, clips["target_valence"].to_numpy())[0, 1] > 0.7
    assert {Path(uri).suffix for uri in clips["uri"].to_pylist()} == {".mp3"}


def test_csv_serves_every_task(tmp_path):
    uri = str(labelled_csv(tmp_path))
    assert manifest.classes_of(manifest.read(DataConfig(uri=uri)).clips) == ["breathy", "plain", "tremor"]
    labels = manifest.read(DataConfig(uri=uri, target_columns=("tremor", "breathy")), task="multi_label")
    values = manifest.read(DataConfig(uri=uri, target_columns=("pitch_hz",)), task="regression")
    for corpus in (labels, values):
        assert len(corpus.clips) == 24 and not len(corpus.rejects)
        splits.audit(splits.assign(corpus.clips, SplitConfig(), FoldsConfig(), need_val=True))


@pytest.mark.parametrize(
    "make", [clinic_corpus, deam_corpus, lambda folder, seed=0: labelled_csv(folder, seed=seed).parent]
)
def test_corpora_are_the_same_each_time(tmp_path, make):
    first, second, other = (make(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert contents(first) == contents(second) != contents(other)
