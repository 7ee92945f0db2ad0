"""Vectors of clips against transformers' forward on each clip alone, and what is read, cut and refused."""

import base64
import functools
import io
import math
import struct
from dataclasses import replace

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from w2v2.audio.waveforms import windows
from w2v2.config.data import AudioConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.errors import UserError
from w2v2.inference import embedding, outcomes, reading
from w2v2.inference.embedding import pooled_vectors
from w2v2.models.pretrained import load_encoder
from w2v2.tables.spec import embeddings_spec

NUM_LAYERS = 3
LENGTHS = (16_007, 5_003, 31_001, 9_001, 11_003)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A small wav2vec2 with group normalisation, whose stock forward depends on padding."""
    torch.manual_seed(5)
    model = Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=24, num_hidden_layers=NUM_LAYERS, num_attention_heads=2, intermediate_size=29,
            conv_dim=(13, 16), conv_kernel=(10, 8), conv_stride=(20, 16), num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2, feat_extract_norm="group",
        )
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [(0.1 * rng.standard_normal(n) + 0.03).astype(np.float32) for n in LENGTHS]


def encoder_of(vector: VectorConfig):
    return load_encoder(embedding.encoder_config(vector), seed=0)


@functools.cache
def stock(folder: str):
    return Wav2Vec2Model.from_pretrained(folder).eval(), Wav2Vec2FeatureExtractor.from_pretrained(folder)


def reference(folder: str, waveform: np.ndarray, pooling: str) -> np.ndarray:
    """Every hidden state pooled, by transformers on the one clip."""
    model, extractor = stock(folder)
    inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        states = np.stack([s[0].numpy() for s in model(**inputs, output_hidden_states=True).hidden_states])
    match pooling:
        case "mean+std":
            return np.concatenate([states.mean(1), states.std(1)], axis=-1)
        case _:
            return getattr(states, pooling)(1)


@pytest.mark.parametrize("pooling", ["mean", "sum", "max", "mean+std"])
@pytest.mark.parametrize("layers", ["last", 1, (0, 2), (3,), "all"], ids=str)
def test_vectors_are_those_of_transformers_on_the_clip_alone(folder, waveforms, layers, pooling):
    vector = VectorConfig(name=folder, layers=layers, pooling=pooling)
    encoder = encoder_of(vector)
    numbers = vector.layer_numbers(NUM_LAYERS)
    expected = [reference(folder, w, pooling)[numbers] for w in waveforms]
    for batch_s in (0.1, 2.5, 100.0):
        vectors = pooled_vectors(encoder, waveforms, pooling=pooling, batch_s=batch_s)
        for one, other in zip(vectors, expected, strict=True):
            scale = max(1.0, np.abs(other).max())
            assert one.shape == other.shape and np.abs(one - other).max() < 1e-5 * scale


def test_no_waveform_no_vector(folder):
    assert pooled_vectors(encoder_of(VectorConfig(name=folder)), [], pooling="mean") == []


def test_layers():
    def numbers(layers):
        return VectorConfig(layers=layers).layer_numbers(5)

    assert [numbers(x) for x in ("last", "all", 2, (4, 1))] == [[5], [0, 1, 2, 3, 4, 5], [2], [1, 4]]
    assert [embedding.layer_name(n, 5) for n in (0, 4, 5)] == ["0", "4", "last"]
    with pytest.raises(UserError, match=r"encoder.layers must be at most 5, the layers of tiny, got 7"):
        numbers((1, 7))
    for bad in (-1, (2, 2), ()):
        with pytest.raises(
            UserError, match=r"encoder.layers must be last, all, or different numbers from 0 up"
        ):
            VectorConfig(layers=bad)


# -- reading


def wav(waveform: np.ndarray, rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def clips_table(rows: list[dict]) -> pa.Table:
    base = {"start_s": 0.0, "end_s": math.inf, "checksum_in_table": ""}
    return pa.Table.from_pylist([base | row for row in rows])


def read(rows: list[dict], **audio) -> pa.Table:
    clips = reading.read_clips(
        clips_table(rows), audio=AudioConfig(**audio), num_readers=3, min_samples=2_000
    )
    return pa.concat_tables(clips)


def crc(data: bytes) -> str:
    return "crc32c=" + base64.b64encode(struct.pack(">I", google_crc32c.value(data))).decode()


def test_reading_tells_what_became_of_every_clip(tmp_path, waveforms):
    files = {
        "good.wav": wav(waveforms[0]), "fast.wav": wav(waveforms[1], 8_000), "text.wav": b"no audio at all",
        "nan.wav": wav(np.full(9_000, np.nan, np.float32)), "brief.wav": wav(waveforms[0][:1_700]),
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    names = [*files, "missing.wav"]
    rows = read([{"clip_id": name, "uri": str(tmp_path / name)} for name in names]).to_pylist()
    status = {row["clip_id"]: (row["status"], row["reject_kind"]) for row in rows}
    assert status == {
        "good.wav": ("embedded", ""), "fast.wav": ("embedded", ""), "text.wav": ("rejected", "not audio"),
        "nan.wav": ("rejected", "not finite"), "brief.wav": ("rejected", "too short"),
        "missing.wav": ("unreadable", "missing"),
    }  # fmt: skip
    assert [row["checksum"] for row in rows] == [*map(crc, files.values()), ""]
    assert [row["sample_rate"] for row in rows[:2]] == [16_000, 8_000]
    assert np.array_equal(np.array(rows[0]["waveform"], np.float32), waveforms[0])
    assert len(rows[1]["waveform"]) == pytest.approx(2 * LENGTHS[1], abs=1)


def test_known_audio_is_not_decoded_and_segments_read_their_file_once(tmp_path, waveforms, monkeypatch):
    path = tmp_path / "long.wav"
    path.write_bytes(wav(waveforms[2]))
    asked = []
    real = reading.storage.read_many
    monkeypatch.setattr(
        reading.storage, "read_many", lambda uris, **k: (asked.extend(uris), real(uris, **k))[1]
    )
    rows = [
        {"clip_id": "a", "uri": str(path), "start_s": 0.5, "end_s": 1.0},
        {"clip_id": "b", "uri": str(path), "start_s": 1.0},
        {"clip_id": "c", "uri": str(path), "checksum_in_table": crc(path.read_bytes())},
        {"clip_id": "d", "uri": str(path), "checksum_in_table": "crc32c=other"},
    ]
    decoded = read(rows).to_pylist()
    assert asked == [str(path)]
    assert [row["status"] for row in decoded] == ["embedded", "embedded", "in_table", "embedded"]
    assert [len(row["waveform"]) for row in decoded] == [8_000, LENGTHS[2] - 16_000, 0, LENGTHS[2]]


# -- embedding and rows


def embedded(tmp_path, waveforms, folder, **settings) -> tuple[pa.Table, ExtractConfig]:
    rows = []
    for index, waveform in enumerate(waveforms):
        path = tmp_path / f"{index}.wav"
        path.write_bytes(wav(waveform))
        rows.append({"clip_id": f"clip{index}", "uri": str(path), "start_s": 0.0})
    rows.insert(2, {"clip_id": "missing", "uri": str(tmp_path / "missing.wav")})
    config = ExtractConfig(**{"encoder": VectorConfig(name=folder)} | settings)
    return embedding.embed_clips(read(rows), encoder_of(config.encoder), config), config


def rows_of(clips: pa.Table) -> list[dict]:
    schema = embeddings_spec(extra_columns=["settings"]).schema
    constants = {
        "model": "m", "model_digest": "d", "pooling": "mean", "run_id": "r", "code_version": "1", "settings": "s",
    }  # fmt: skip
    return outcomes.table_rows(clips, schema=schema, constants=constants).to_pylist()


def test_a_row_for_each_clip_layer_and_window(tmp_path, waveforms, folder):
    vector = VectorConfig(name=folder, layers=(1, 3))
    clips, _ = embedded(tmp_path, waveforms, folder, encoder=vector, window_s=0.5, hop_s=0.25)
    rows = rows_of(clips)
    assert len({(r["clip_id"], r["layer"], r["start_s"]) for r in rows}) == len(rows)
    for index, waveform in enumerate(waveforms):
        clip_rows = [r for r in rows if r["clip_id"] == f"clip{index}"]
        spans = windows(len(waveform), window_s=0.5, hop_s=0.25, min_samples=1_600)
        assert len(clip_rows) == 2 * len(spans)
        for row in clip_rows:
            first, last = round(row["start_s"] * 16_000), round(row["end_s"] * 16_000)
            assert (first, last) in spans
            expected = reference(folder, waveform[first:last], "mean")[3 if row["layer"] == "last" else 1]
            assert row["layer"] in ("1", "last") and row["dim"] == len(row["embedding"]) == 24
            assert np.abs(np.array(row["embedding"]) - expected).max() < 1e-5
            assert row["duration_s"] == len(waveform) / 16_000 and row["sample_rate"] == 16_000
            assert row["checksum"] == crc((tmp_path / f"{index}.wav").read_bytes())
    assert "missing" not in {row["clip_id"] for row in rows}


def test_start_and_end_are_those_of_the_segment_in_its_file(tmp_path, waveforms, folder):
    path = tmp_path / "long.wav"
    path.write_bytes(wav(waveforms[2]))
    clips_read = read([{"clip_id": "a", "uri": str(path), "start_s": 0.5, "end_s": 1.25}])
    config = ExtractConfig(encoder=VectorConfig(name=folder))
    (row,) = rows_of(embedding.embed_clips(clips_read, encoder_of(config.encoder), config))
    assert (row["start_s"], row["end_s"], row["duration_s"]) == (0.5, 1.25, 0.75)
    expected = reference(folder, waveforms[2][8_000:20_000], "mean")[3]
    assert np.abs(np.array(row["embedding"]) - expected).max() < 1e-5


def test_vectors_that_are_not_finite_reject_their_clip(tmp_path, waveforms, folder):
    clips, config = embedded(tmp_path, waveforms, folder)
    assert clips["status"].to_pylist().count("embedded") == len(waveforms)
    clips_read = read([{"clip_id": "clip0", "uri": str(tmp_path / "0.wav")}])
    encoder = encoder_of(config.encoder)
    with torch.no_grad():
        encoder.model.encoder.layers[1].final_layer_norm.bias[3] = torch.nan
    broken = embedding.embed_clips(clips_read, encoder, config)
    assert broken["status"].to_pylist() == ["rejected"]
    assert broken["reason"].to_pylist() == ["not finite: the encoder gave NaN or infinite numbers"]
    assert rows_of(broken) == []


def test_settings_of_windows_are_checked():
    with pytest.raises(UserError, match=r"hop_s must be in \(0, window_s=2\], got 3"):
        ExtractConfig(window_s=2, hop_s=3)
    with pytest.raises(UserError, match=r"hop_s is for windows, got 1 without window_s"):
        ExtractConfig(hop_s=1)
    with pytest.raises(UserError, match=r"window_s must be 0 or at least audio.min_s=0.1, got 0.05"):
        ExtractConfig(window_s=0.05)
    assert replace(ExtractConfig(), labels=True).extra_columns == ("label", "speaker")
