"""What is known of encoders without loading them, until their files change."""

from dataclasses import replace

import pytest

from w2v2.config.data import CacheConfig
from w2v2.config.model import EncoderConfig
from w2v2.features.encoder_info import EncoderInfo, KnownEncoders

INFO = EncoderInfo(
    digest="d", cut="pooled", key="pooled-1", num_layers=2, num_parameters=9, kernels=(10, 3), strides=(5, 2),
    vector_size=48,
)  # fmt: skip


@pytest.fixture
def known(tmp_path):
    return KnownEncoders(CacheConfig(uri=str(tmp_path / "cache")), precision="float32", seed=0)


def test_an_encoder_is_known_by_its_settings(known):
    encoder = EncoderConfig(train="head")
    assert known.find(encoder) is None
    known.add(encoder, INFO)
    assert known.find(encoder) == INFO
    for other in (replace(encoder, pooling="max"), replace(encoder, layer=1), replace(encoder, train="all")):
        assert known.find(other) is None


def test_other_seeds_and_arithmetic_are_other_encoders(known, tmp_path):
    known.add(EncoderConfig(), INFO)
    cache = CacheConfig(uri=str(tmp_path / "cache"))
    assert KnownEncoders(cache, precision="float32", seed=1).find(EncoderConfig()) is None
    assert KnownEncoders(cache, precision="bf16", seed=0).find(EncoderConfig()) is None
    other = replace(cache, dtype="float16")
    assert KnownEncoders(other, precision="float32", seed=0).find(EncoderConfig()) is None


def test_new_weights_in_a_folder_are_not_taken_for_the_old(known, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    encoder = EncoderConfig(name=str(folder))
    known.add(encoder, INFO)
    assert known.find(encoder) == INFO
    (folder / "model.safetensors").write_bytes(b"three")
    assert known.find(encoder) is None


def test_what_cannot_be_looked_up_is_not_known(known, tmp_path):
    for name in (str(tmp_path / "nowhere"), "no/such-model", "no name at all!"):
        known.add(EncoderConfig(name=name), INFO)
        assert known.find(EncoderConfig(name=name)) is None


def test_damage_is_not_trusted(known, tmp_path, caplog):
    known.add(EncoderConfig(), INFO)
    (file,) = (tmp_path / "cache" / "encoders").iterdir()
    text = file.read_text()
    for damaged in (text[:-9], text.replace('"num_layers": 2', '"num_layers": 3'), "[]", ""):
        file.write_text(damaged)
        assert known.find(EncoderConfig()) is None
        assert "is damaged: the encoder is loaded again" in caplog.text
        caplog.clear()
