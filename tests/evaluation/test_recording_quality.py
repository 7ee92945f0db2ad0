"""Classes that differ in the channel are found, classes that do not are not, and speakers are not taken for clips."""

import json

import numpy as np
import pyarrow as pa
import pytest

from w2v2.evaluation import recording_quality
from w2v2.evaluation.recording_quality import (
    channel_warning,
    class_differences,
    class_warnings,
    clipping_warning,
    recording_details,
    recording_warnings,
)
from w2v2.reports.blocks import Paragraph, Table
from w2v2.reports.recording_quality_section import recording_quality as section

CLASSES = ["angry", "calm", "sad"]


def corpus(rng, *, num_speakers=24, clips_each=20, is_within=True):
    """Speaker and class of every clip: each speaker has all classes, or one."""
    speaker = np.repeat(np.arange(num_speakers), clips_each)
    clip = np.tile(np.arange(clips_each), num_speakers)
    return speaker, (clip if is_within else speaker) % 3


def differences(values, label, speaker, **options):
    return class_differences(values, label, speaker, classes=CLASSES, **options)


@pytest.mark.parametrize("is_within", [True, False])
def test_a_difference_is_detected_with_its_size(is_within):
    rng = np.random.default_rng(0)
    speaker, label = corpus(rng, is_within=is_within)
    values = rng.normal(0, 3, 24)[speaker] + rng.normal(0, 3, len(label)) + 10.0 * (label == 0)
    compared = differences(values, label, speaker)
    assert compared["highest"] == "angry" and compared["is_within"] == is_within and compared["p"] < 0.01
    assert compared["difference"] == pytest.approx(10, abs=1.5 if is_within else 5)
    if is_within:  # every speaker has as many clips of each class: the means of all clips
        means = [values[label == c].mean() for c in range(3)]
        assert list(compared["means"].values()) == pytest.approx(means, abs=0.5)
    assert json.loads(json.dumps(compared, allow_nan=False)) == compared


@pytest.mark.parametrize("is_within", [True, False])
def test_without_a_difference_p_is_uniform_though_speakers_and_their_sessions_differ(is_within, monkeypatch):
    monkeypatch.setattr(recording_quality, "NUM_PERMUTATIONS", 99)
    rng, p_values = np.random.default_rng(1), []
    for seed in range(300):
        speaker, label = corpus(rng, is_within=is_within)
        session = rng.normal(0, 5, (24, 3))  # each speaker's clips of a class were made on one day
        values = rng.normal(0, 5, 24)[speaker] + session[speaker, label] + rng.normal(0, 1, len(label))
        p_values.append(differences(values, label, speaker, seed=seed)["p"])
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.085 and 0.45 < np.mean(p_values) < 0.55


def test_clips_of_a_few_speakers_are_no_evidence():
    rng = np.random.default_rng(2)
    speaker, label = corpus(rng, num_speakers=6, clips_each=200, is_within=False)
    values = rng.normal(0, 5, 6)[speaker] + rng.normal(0, 1, len(label))
    assert differences(values, label, speaker)["p"] > 0.05
    assert differences(values[:800], label[:800], speaker[:800]) == {"undefined": "4 speakers"}


def test_constant_and_missing_values():
    rng = np.random.default_rng(3)
    speaker, label = corpus(rng)
    same = differences(np.full(len(label), 8000.1), label, speaker)
    assert same["p"] == 1 and same["difference"] == pytest.approx(0)
    values = rng.normal(size=len(label)) + 5.0 * (label == 1)
    values[label == 2] = np.nan
    compared = differences(values, label, speaker)
    assert compared["means"]["sad"] is None and compared["p"] < 0.01
    assert differences(np.full(len(label), np.nan), label, speaker) == {"undefined": "0 speakers"}


def clips(bandwidth, label, speaker, *, snr_db=None, clipping=0.0):
    rng = np.random.default_rng(4)
    num = len(label)
    return pa.table(
        {
            "clip_id": [f"{n}" for n in range(num)],
            "speaker": speaker.astype(str).tolist(),
            "label": [CLASSES[c] for c in label],
            "level_db": rng.normal(-25, 3, num) + 8.0 * (label == 0),  # anger is loud
            "snr_db": rng.normal(30, 3, num) + 8.0 * (label == 0) if snr_db is None else snr_db,
            "bandwidth_hz": np.broadcast_to(np.asarray(bandwidth, float), num).tolist(),
            "silence_fraction": rng.uniform(0.1, 0.3, num),
            "clipping_fraction": np.full(num, clipping),
            "duration_s": rng.uniform(2, 4, num),
        }
    )


def details(table):
    return recording_details(table, classes=CLASSES)


def test_acted_emotions_over_one_channel_are_not_warned_of():
    speaker, label = corpus(None)
    recordings = details(clips(8000, label, speaker))
    assert recording_warnings(recordings) == []
    assert (
        recordings["by_class"]["level_db"]["p"] < 0.01
        and recordings["by_class"]["level_db"]["difference"] > 6
    )
    assert recordings["spread"]["bandwidth_hz"] == [8000, 8000, 8000]


def test_telephone_speech_clipped_recordings_and_a_channel_for_a_class_are():
    speaker, label = corpus(None)
    assert channel_warning(details(clips(3500, label, speaker))).startswith(
        "480 of 480 clips are telephone speech"
    )
    assert clipping_warning(details(clips(8000, label, speaker, clipping=0.01))).startswith(
        "480 of 480 clips are clipped"
    )
    [leak] = class_warnings(details(clips(np.where(label == 2, 3500.0, 8000.0), label, speaker)))
    assert (
        leak.startswith("The classes differ in bandwidth: ")
        and "sad 3.50 kHz (p 0.001, permuting the classes within each of 24 speakers)" in leak
    )


def test_noise_is_a_leak_where_the_classes_are_of_different_speakers():
    speaker, label = corpus(None, is_within=False)
    noise = np.where(label == 0, 15.0, 35.0) + np.random.default_rng(5).normal(0, 2, len(label))
    [leak] = class_warnings(details(clips(8000, label, speaker, snr_db=noise)))
    assert "The classes differ in signal-to-noise ratio: " in leak and "permuting 24 speakers" in leak


def test_false_alarms_are_rare(monkeypatch):
    """Channels that differ between speakers at random: no more warnings than one in a hundred for each of two measures."""
    monkeypatch.setattr(recording_quality, "NUM_PERMUTATIONS", 199)
    rng, num = np.random.default_rng(6), 0
    for seed in range(150):
        speaker, label = corpus(rng, is_within=False)
        measures = {
            "bandwidth_hz": rng.choice([3500.0, 8000.0], 24)[speaker],
            "snr_db": rng.normal(25, 8, 24)[speaker] + rng.normal(0, 2, len(label)),
        }
        by_name = {name: differences(values, label, speaker, seed=seed) for name, values in measures.items()}
        num += len(class_warnings({"by_class": by_name}))
    assert num <= 8  # 3 expected of 300; more than 8 have a probability of one in 250


def test_what_was_not_measured_is_reported_and_not_tested():
    speaker, label = corpus(None)
    table = clips(8000, label, speaker)
    before = table.select(["clip_id", "speaker", "label", "duration_s"])
    recordings = details(before)
    assert (
        recordings["num_measured"] == 0
        and recordings["by_class"] == {}
        and recording_warnings(recordings) == []
    )
    text = " ".join(
        block.text for block in section({"recordings": recordings}) if isinstance(block, Paragraph)
    )
    assert "The quality of 480 of 480 clips is unknown" in text
    assert section({}) == [] and recording_warnings(None) == []


def test_scores_by_quality_and_the_section():
    rng = np.random.default_rng(7)
    speaker, label = corpus(rng)
    table = clips(8000, label, speaker, snr_db=rng.uniform(0, 40, len(label)))
    clean = np.asarray(table["snr_db"]) > 20
    right = rng.random(len(label)) < np.where(clean, 0.9, 0.5)
    predicted = np.where(right, label, (label + 1) % 3)
    predictions = pa.table(
        {
            "clip_id": table["clip_id"],
            "speaker": table["speaker"],
            "fold": (speaker // 4),
            "target": table["label"],
            "predicted": [CLASSES[c] for c in predicted],
        }
    ).take(rng.permutation(len(label)))
    recordings = recording_details(table, predictions=predictions, classes=CLASSES)
    by_noise = recordings["slices"]["signal-to-noise ratio"]
    values = [row["value"] for row in by_noise["values"].values()]
    assert values[0] < 0.6 and values[2] > 0.8 and by_noise["p"] < 0.01
    assert recordings["slices"]["duration"]["p"] > 0.01
    assert json.loads(json.dumps(recordings, allow_nan=False)) == recordings
    tables = [block for block in section({"recordings": recordings}) if isinstance(block, Table)]
    assert [block.name for block in tables] == ["recordings", "recordings_by_class", "recording_slices"]
    assert tables[1].rows[-1][0] == "p" and len(tables[1].rows) == 4
