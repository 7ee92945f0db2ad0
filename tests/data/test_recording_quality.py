"""Recording quality as columns: kept by the index, null for what earlier versions read, and parts of the clips by it."""

import numpy as np
import pyarrow as pa

from w2v2.audio.quality import Quality
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.data.recording_quality import QUALITY, measured, recorded_quality, with_quality
from w2v2.data.slices import quality_slices
from w2v2.features.requests import AudioIndex, ClipFeatures
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import parse_parquet

CLIPS = pa.table({"clip_id": ["a"], "uri": ["/data/a.wav"], "start_s": [0.0], "end_s": [float("inf")]})
GOOD = Quality(level_db=-20.5, snr_db=30.0, bandwidth_hz=8000.0, silence_fraction=0.25, clipping_fraction=0.0)


def slices_of(clips: pa.Table) -> dict[str, tuple[list[str], list[str]]]:
    return {name: (labels, values) for name, labels, values in quality_slices(clips)}


def test_what_was_measured_is_a_column_and_what_was_not_is_null():
    clips = with_quality(pa.table({"clip_id": ["a", "b"]}), [GOOD, None])
    assert clips.schema.field("snr_db").type == pa.float64()
    assert clips["snr_db"].to_pylist() == [30.0, None]
    assert [recorded_quality(row) for row in clips.to_pylist()] == [GOOD, None]
    assert recorded_quality({"clip_id": "of an earlier manifest"}) is None
    np.testing.assert_array_equal(measured(clips, "level_db"), [-20.5, np.nan])
    assert np.isnan(measured(CLIPS, "level_db")).all()


def test_the_index_keeps_it_and_one_without_it_is_read(tmp_path):
    def index():
        return AudioIndex(DataConfig(uri="/data/clips.csv"), AudioConfig(), CacheConfig(uri=str(tmp_path)))

    features = ClipFeatures(clip_id="a", fingerprint="f", audio_digest="d", num_samples=7, quality=GOOD)
    index().save(index().requests(CLIPS), [features])
    [request] = index().requests(CLIPS)
    assert request.quality == GOOD
    [path] = (tmp_path / "index").iterdir()
    table = parse_parquet(str(path), path.read_bytes()).drop_columns(list(QUALITY))
    path.write_bytes(to_parquet(table, sealed=True))
    [request] = index().requests(CLIPS)
    assert request.audio_digest == "d" and request.quality is None


def table(**columns: list) -> pa.Table:
    rows = len(next(iter(columns.values())))
    plain = {"level_db": [-20.0] * rows, "snr_db": [30.0] * rows, "bandwidth_hz": [8000.0] * rows}
    plain |= {"silence_fraction": [0.2] * rows, "clipping_fraction": [0.0] * rows}
    return pa.table({"clip_id": [str(row) for row in range(rows)], **plain, **columns})


def test_parts_are_thirds_from_the_lowest_to_the_highest():
    slices = slices_of(table(snr_db=[10.0, 40.0, 20.0, 12.0, 43.0, 21.0]))
    assert list(slices) == ["signal-to-noise ratio"]
    labels, values = slices["signal-to-noise ratio"]
    assert [values.index(label) for label in labels] == [0, 2, 1]
    assert values[0] == values[3] and values[1] == values[4] and values[2] == values[5]
    assert labels[0].startswith("lowest third (to ") and labels[2].startswith("highest third (from ")
    assert labels[1].startswith("middle third (") and labels[1].endswith(" dB)")


def test_bandwidth_has_named_parts_and_a_part_of_too_few_clips_has_none():
    slices = slices_of(table(bandwidth_hz=[3500.0] * 30 + [8000.0] * 30, clipping_fraction=[0.0] * 60))
    labels, values = slices["bandwidth"]
    assert labels == ["narrow (to 4.25 kHz)", "wide (from 7.00 kHz)"]
    assert values == [labels[0]] * 30 + [labels[1]] * 30
    rare = slices_of(table(bandwidth_hz=[3500.0] * 2 + [8000.0] * 58))
    assert "bandwidth" not in rare
    clipped = slices_of(table(clipping_fraction=[0.0] * 20 + [0.002] * 10))["clipping"]
    assert clipped == (["none", "some"], ["none"] * 20 + ["some"] * 10)


def test_clips_that_were_not_measured_are_in_no_part():
    unknown = with_quality(pa.table({"clip_id": [str(n) for n in range(9)]}), [None] * 9)
    assert slices_of(unknown) == {} and slices_of(CLIPS) == {}
    _, values = slices_of(table(snr_db=[10.0, None, 20.0, 40.0] * 3))["signal-to-noise ratio"]
    assert values.count("") == 3
