"""The synthetic corpus is shaped like RAVDESS, is made once, and its emotions and voices differ as in speech."""

import functools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from w2v2.audio.synthesis import EMOTIONS, NUM_ACTORS, SAMPLE_RATE_HZ, synthesize
from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.data.corpora.demo import VERSION, clip_names, make_corpus

ACTORS = range(1, NUM_ACTORS + 1)


@functools.cache
def clip(actor: int, emotion: str, **kwargs: int) -> np.ndarray:
    return synthesize(actor, emotion, **kwargs)


@functools.cache
def pitch_st(actor: int, emotion: str) -> np.ndarray:
    """F0 of the loud frames in semitones above 1 Hz, by the peak of the autocorrelation at 8 kHz."""
    waveform = clip(actor, emotion)[::6]
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::80]
    level = frames.std(axis=1)
    frames = frames[level > 0.4 * np.quantile(level, 0.95)] * np.hanning(400)
    lags = np.arange(14, 120)  # 571 to 67 Hz
    # The window's own autocorrelation is divided out, so that long periods are not put down.
    curve = autocorrelation(frames - frames.mean(axis=1, keepdims=True))[:, lags]
    return 12 * np.log2(8000 / lags[(curve / autocorrelation(np.hanning(400))[lags]).argmax(axis=1)])


def autocorrelation(frames: np.ndarray) -> np.ndarray:
    return np.fft.irfft(np.abs(np.fft.rfft(frames, 1024)) ** 2)


def final_st(actor: int, emotion: str) -> float:
    return float(np.median(pitch_st(actor, emotion)[-8:]) - np.median(pitch_st(actor, emotion)))


def level_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(waveform**2)))


def slope_db(waveform: np.ndarray) -> float:
    """Level at 2 to 4 kHz against 0.1 to 1 kHz."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    hz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE_HZ)
    return float(
        10 * np.log10(power[(hz > 2000) & (hz < 4000)].sum() / power[(hz > 100) & (hz < 1000)].sum())
    )


def regularity(actor: int, emotion: str) -> float:
    """How alike loud speech and itself a period later are: the highest correlation, mean over places."""
    waveform = clip(actor, emotion)[::6]
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 240)
    level = frames[:-120:480].std(axis=1)
    starts = np.flatnonzero(level > 0.5 * level.max()) * 480
    return float(np.mean([np.corrcoef(frames[i], frames[i + 14 : i + 120])[0, 1:].max() for i in starts]))


def test_names_are_read_as_ravdess_is_read(corpus: Path):
    read = manifest.read(DataConfig(uri=str(corpus)))
    assert read.rejects.num_rows == 0
    assert read.clips.num_rows == 24 * 8
    assert set(read.clips["speaker"].to_pylist()) == {f"{actor:02d}" for actor in ACTORS}
    assert manifest.classes_of(read.clips) == list(EMOTIONS)
    assert (corpus / "Actor_12" / "03-01-06-01-01-01-12.wav").exists()


def test_two_of_everything_is_the_whole_of_ravdess():
    names = list(clip_names(2, 2, 2))
    assert len(set(names)) == len(names) == 1440
    assert not any("-01-02-" in name[12:21] for name in names)  # no neutral with strong intensity
    assert len(list(clip_names(2, 1, 1))) == 384


def test_files_are_48_khz_16_bit_mono_and_hold_the_waveform(corpus: Path):
    info = soundfile.info(corpus / "Actor_12" / "03-01-06-01-01-01-12.wav")
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 1, "PCM_16")
    stored, _ = soundfile.read(corpus / "Actor_12" / "03-01-06-01-01-01-12.wav")
    np.testing.assert_allclose(stored, clip(12, "fearful"), atol=1 / 32_000)


def test_clips_last_one_to_two_seconds_and_do_not_clip(corpus: Path):
    infos = [soundfile.info(path) for path in corpus.rglob("*.wav")]
    durations_s = np.array([info.duration for info in infos])
    assert durations_s.min() > 0.6
    assert durations_s.max() < 2.5
    assert 1.1 < durations_s.mean() < 1.6
    assert max(np.abs(clip(actor, "angry")).max() for actor in ACTORS) < 1


def test_a_clip_depends_on_its_name_and_the_seed_alone():
    again = synthesize(5, "happy")
    np.testing.assert_array_equal(again, clip(5, "happy"))
    others = [
        clip(7, "happy"),
        clip(5, "sad"),
        clip(5, "happy", intensity=2),
        clip(5, "happy", statement=2),
        clip(5, "happy", repetition=2),
        clip(5, "happy", seed=1),
    ]
    for other in others:
        num_samples = min(len(other), len(again))
        assert abs(np.corrcoef(other[:num_samples], again[:num_samples])[0, 1]) < 0.5


def test_version_is_raised_when_the_sound_changes():
    # Made by version 1. If this fails, raise VERSION, or corpora made before and after would be mixed.
    assert VERSION == 1
    sounds = [(1, "neutral"), (2, "sad"), (23, "angry"), (24, "surprised")]
    made = [
        (len(clip(*sound)), round(level_db(clip(*sound)), 2), round(slope_db(clip(*sound)), 2))
        for sound in sounds
    ]
    np.testing.assert_allclose(
        made,
        [(71680, -33.5, -14.4), (89600, -38.25, -26.96), (51200, -17.83, -12.3), (54016, -28.45, -13.99)],
        atol=0.02,
    )


# Emotions, by measures that know nothing of the synthesizer.


def test_angry_is_louder_brighter_and_faster_than_sad_for_every_actor():
    for actor in ACTORS:
        angry, sad = clip(actor, "angry"), clip(actor, "sad")
        assert level_db(angry) > level_db(sad) + 3
        assert slope_db(angry) > slope_db(sad) + 3
        assert len(angry) < 0.8 * len(sad)


def test_fearful_and_happy_are_higher_than_sad_and_calm_for_every_actor():
    for actor in ACTORS:
        high = [np.median(pitch_st(actor, emotion)) for emotion in ("fearful", "happy")]
        low = [np.median(pitch_st(actor, emotion)) for emotion in ("sad", "calm")]
        assert min(high) > max(low)


def test_surprise_ends_high_and_anger_low():
    mean_st = {
        emotion: np.mean([final_st(actor, emotion) for actor in ACTORS]) for emotion in ("surprised", "angry")
    }
    assert mean_st["surprised"] > mean_st["angry"] + 2


def test_disgust_is_rougher_than_calm():
    rough, calm = (
        np.mean([regularity(actor, emotion) for actor in ACTORS]) for emotion in ("disgust", "calm")
    )
    assert rough < calm - 0.05


def test_strong_intensity_is_further_from_neutral():
    louder_db = [
        level_db(clip(actor, "angry", intensity=2)) - level_db(clip(actor, "angry")) for actor in ACTORS
    ]
    assert np.mean(louder_db) > 1.5


# Actors.


def test_women_speak_higher_than_men_and_no_two_actors_alike():
    own_st = np.array([np.median(pitch_st(actor, "neutral")) for actor in ACTORS])
    men, women = own_st[::2], own_st[1::2]
    assert men.max() < women.min()
    assert men.std() > 0.8
    assert women.std() > 0.8


def test_actors_show_the_same_emotion_differently():
    for emotion in ("calm", "happy", "angry", "surprised"):
        rise_st = [
            np.median(pitch_st(actor, emotion)) - np.median(pitch_st(actor, "neutral")) for actor in ACTORS
        ]
        assert np.std(rise_st) > 0.8


# The folder.


def test_an_interrupted_corpus_is_continued_and_a_finished_one_left_alone(tmp_path: Path, corpus: Path):
    def interrupt(num_done: int, num_clips: int) -> None:
        assert num_clips == 192
        if num_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_corpus(tmp_path, num_statements=1, on_progress=interrupt)
    early = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert 3 <= len(early) < 100
    seen: list[tuple[int, int]] = []
    root = make_corpus(tmp_path, num_statements=1, on_progress=lambda *counts: seen.append(counts))
    assert seen == [(num_done, 192) for num_done in range(len(early) + 1, 193)]
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in early.items())
    assert {path.relative_to(root): path.read_bytes() for path in root.rglob("*.wav")} == {
        path.relative_to(corpus): path.read_bytes() for path in corpus.rglob("*.wav")
    }
    times_ns = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    seen.clear()
    assert make_corpus(tmp_path, num_statements=1, on_progress=lambda *counts: seen.append(counts)) == root
    assert seen == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times_ns


def test_another_seed_size_or_version_is_another_folder(tmp_path: Path, corpus: Path, monkeypatch):
    roots = [corpus.name]
    # Marked as made, so that none is.
    for name in ("v1-seed1-1x1x1", "v1-seed0-2x1x1", "v2-seed0-1x1x1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".complete").touch()
    roots.append(make_corpus(tmp_path, num_statements=1, seed=1).name)
    roots.append(make_corpus(tmp_path, num_statements=2).name)
    monkeypatch.setattr("w2v2.data.corpora.demo.VERSION", 2)
    roots.append(make_corpus(tmp_path, num_statements=1).name)
    assert len(set(roots)) == 4
