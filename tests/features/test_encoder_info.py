"""What is known of encoders without loading them, until their files change."""

from dataclasses import replace

import pytest

from w2v2.config.data import CacheConfig
from w2v2.config.model import EncoderConfig
from w2v2.features.encoder_info import EncoderInfo, RecordedEncoders

INFO = EncoderInfo(
    digest="d", cut="pooled", key="pooled-1", num_layers=2, num_parameters=9, kernels=(10, 3), strides=(5, 2),
    vector_size=48,
)  # fmt: skip


@pytest.fixture
def records(tmp_path):
    return RecordedEncoders(CacheConfig(uri=str(tmp_path / "cache")), precision="float32", seed=0)


def test_an_encoder_is_identified_by_its_settings(records):
    encoder = EncoderConfig(train="head")
    assert records.find(encoder) is None
    records.add(encoder, INFO)
    assert records.find(encoder) == INFO
    for other in (replace(encoder, pooling="max"), replace(encoder, layer=1), replace(encoder, train="all")):
        assert records.find(other) is None


def test_other_seeds_and_arithmetic_are_other_encoders(records, tmp_path):
    records.add(EncoderConfig(), INFO)
    cache = CacheConfig(uri=str(tmp_path / "cache"))
    assert RecordedEncoders(cache, precision="float32", seed=1).find(EncoderConfig()) is None
    assert RecordedEncoders(cache, precision="bf16", seed=0).find(EncoderConfig()) is None
    other = replace(cache, dtype="float16")
    assert RecordedEncoders(other, precision="float32", seed=0).find(EncoderConfig()) is None


def test_new_weights_in_a_folder_are_not_taken_for_the_old(records, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    encoder = EncoderConfig(name=str(folder))
    records.add(encoder, INFO)
    assert records.find(encoder) == INFO
    (folder / "model.safetensors").write_bytes(b"three")
    assert records.find(encoder) is None


def test_encoders_that_cannot_be_looked_up_have_no_record(records, tmp_path):
    for name in (str(tmp_path / "nowhere"), "no/such-model", "no name at all!"):
        records.add(EncoderConfig(name=name), INFO)
        assert records.find(EncoderConfig(name=name)) is None


def test_damage_is_not_trusted(records, tmp_path, caplog):
    records.add(EncoderConfig(), INFO)
    (file,) = (tmp_path / "cache" / "encoders").iterdir()
    text = file.read_text()
    for damaged in (text[:-9], text.replace('"num_layers": 2', '"num_layers": 3'), "[]", ""):
        file.write_text(damaged)
        assert records.find(EncoderConfig()) is None
        assert "is damaged: the encoder is loaded again" in caplog.text
        caplog.clear()
