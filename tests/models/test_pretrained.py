"""Encoders by name: the built-in one, and folders as transformers saves them."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
    Wav2Vec2Processor,
    WavLMConfig,
    WavLMModel,
)

from tests.made.encoders import change_config, load, random_model
from w2v2.errors import UserError
from w2v2.models.pretrained import tiny_config, weights_digest

# -- the built-in encoder


def test_tiny_depends_on_the_seed_alone():
    first = weights_digest(load("tiny", seed=5).model)
    torch.randn(3)
    assert weights_digest(load("tiny", seed=5).model) == first
    assert weights_digest(load("tiny", seed=6).model) != first


def test_tiny_is_small_and_makes_50_frames_a_second():
    encoder = load("tiny")
    assert 50_000 < sum(p.numel() for p in encoder.parameters()) < 150_000
    one_second, three = encoder.num_frames(torch.tensor([16_000, 48_000])).tolist()
    assert three - one_second == 100
    assert encoder.num_layers == tiny_config().num_hidden_layers == 2
    assert encoder.normalize


# -- folders


@pytest.mark.parametrize(
    "model_class, config_class",
    [(Wav2Vec2Model, Wav2Vec2Config), (HubertModel, HubertConfig), (WavLMModel, WavLMConfig)],
)
def test_a_saved_model_comes_back_bit_for_bit(model_class, config_class, tmp_path):
    model = random_model(model_class, config_class)
    model.save_pretrained(tmp_path)
    encoder = load(tmp_path, seed=99)
    assert type(encoder.model) is model_class
    assert weights_digest(encoder.model) == weights_digest(model)
    waveform = torch.randn(1, 2003)
    with torch.no_grad():
        states, _ = encoder.eval()(waveform, torch.tensor([2003]))
        torch.testing.assert_close(states, model.eval()(waveform).last_hidden_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_class", [Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification])
def test_the_encoder_of_a_fine_tuned_checkpoint_is_taken(model_class, tmp_path):
    model = random_model(model_class)
    model.save_pretrained(tmp_path)
    assert weights_digest(load(tmp_path).model) == weights_digest(model.wav2vec2)


def test_half_precision_weights_are_loaded_as_float32(tmp_path):
    random_model().half().save_pretrained(tmp_path)
    assert {p.dtype for p in load(tmp_path).parameters()} == {torch.float32}


def test_a_checkpoint_without_spec_augments_vector_is_whole(tmp_path):
    model = random_model(mask_time_prob=0.0)
    model.save_pretrained(tmp_path)
    change_config(tmp_path, mask_time_prob=0.05)
    loaded = load(tmp_path).model.state_dict()
    assert "masked_spec_embed" in loaded.keys() - model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("normalize", [True, False])
def test_preprocessor_config_says_whether_waveforms_are_normalised(folder, normalize):
    Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
    assert load(folder).normalize is normalize


def test_processor_config_says_it_too(folder, tmp_path):
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "<s>": 3, "</s>": 4}))
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(do_normalize=False), tokenizer).save_pretrained(folder)
    assert load(folder).normalize is False


def test_without_preprocessor_config_waveforms_are_normalised_with_a_warning(folder, caplog):
    with caplog.at_level(logging.WARNING, logger="w2v2.models.pretrained"):
        assert load(folder).normalize
    assert f"encoder.name {folder} has no preprocessor_config.json: waveforms are normalised" in caplog.text


def test_a_processor_that_says_nothing_of_audio_is_none(folder, caplog):
    (folder / "processor_config.json").write_text('{"processor_class": "Wav2Vec2Processor"}')
    with caplog.at_level(logging.WARNING, logger="w2v2.models.pretrained"):
        assert load(folder).normalize
    assert f"encoder.name {folder} has no preprocessor_config.json" in caplog.text


# -- what cannot be loaded


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), r"cannot open it \(.*config\.json.*\); wanted a folder as save_pre"),
    "bad config": (lambda f: (f / "config.json").write_text("{"), r"cannot open it \(.*not a valid JSON file.*\); wanted a"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"cannot open it \(.*no file named model\.safetensors.*\);"),
    "cut weights": (cut_weights, r"cannot open it \(.*not fully covered.*\); wanted a folder as save_pretrained writes it"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), r"cannot open it \(.*header too small.*\)"),
    "missing layer": (lambda f: change_config(f, num_hidden_layers=3), r"16 weights .* missing or of another shape, such as encoder\.layers\.2\."),
    "other shape": (lambda f: change_config(f, intermediate_size=41), r"6 weights .* missing or of another shape, such as encoder\.layers\.0\."),
    "bad processor": (lambda f: (f / "processor_config.json").write_text("{"), r"its processor_config\.json cannot be read; fix it, or remove it"),
    "odd processor": (lambda f: (f / "processor_config.json").write_text('{"feature_extractor": 3}'), r"its processor_config\.json cannot be read; fix"),
    "bad preprocessor": (lambda f: (f / "preprocessor_config.json").write_text("{"), r"preprocessor_config\.json cannot be read; fix"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_named_with_what_is_wrong(kind, folder):
    damage, message = BROKEN[kind]
    damage(folder)
    with pytest.raises(UserError, match=message) as raised:
        load(folder)
    assert str(raised.value).startswith(f"encoder.name '{folder}'")
    assert "\n" not in str(raised.value)


def test_a_folder_is_never_taken_for_the_hub(folder):
    """Words that the hub's errors have may be part of a path."""
    place = folder.parent / "offline" / "connect"
    shutil.copytree(folder, place)
    (place / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"transformers cannot open it"):
        load(place)


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "../nowhere", "~/nowhere/at/all"])
def test_a_missing_folder_is_named(name):
    with pytest.raises(
        UserError, match=rf"encoder\.name '{name}': no such folder; wanted one with config\.json"
    ):
        load(name)


def test_another_kind_of_model_is_refused(tmp_path):
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    ).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(UserError, match=r"is a bert model; wanted one of wav2vec2, hubert, wavlm"):
        load(tmp_path)
