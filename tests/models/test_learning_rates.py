"""The learning rate that suits what is trained, where the settings leave it open."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, LoraConfig, OptimConfig, TaskConfig
from w2v2.models.learning_rates import is_tiny, log_learning_rate, with_learning_rate
from w2v2.models.pretrained_name import START_FOLDER

BASE = FinetuneConfig(encoder=EncoderConfig(name="facebook/wav2vec2-base"))


def rate_of(**encoder: str) -> float:
    return with_learning_rate(replace(BASE, encoder=replace(BASE.encoder, **encoder))).optim.learning_rate


@pytest.mark.parametrize("name", ["facebook/wav2vec2-base", "openai/whisper-base", "gs://"])
def test_layers_of_a_checkpoint_get_a_hundredth_of_what_a_head_gets(name: str, tmp_path: Path) -> None:
    name = str(tmp_path) if name == "gs://" else name
    assert {rate_of(name=name, train=train) for train in ("all", "no_conv", "last")} == {3e-5}
    assert rate_of(name=name, train="head") == 1.5e-3
    lora = replace(BASE, encoder=replace(BASE.encoder, name=name, train="last"), lora=LoraConfig(rank=8))
    assert with_learning_rate(lora).optim.learning_rate == 3e-4


def test_the_built_in_encoder_keeps_the_rate_that_it_had() -> None:
    """Run directories of versions whose default was 1.5e-3 for every encoder continue."""
    assert {rate_of(name="tiny", train=train) for train in ("all", "no_conv", "last", "head")} == {1.5e-3}
    sentences = replace(
        BASE,
        encoder=EncoderConfig(pooling="none"),
        task=TaskConfig(kind="transcript"),
        training=replace(BASE.training, num_epochs=16),
    )
    assert with_learning_rate(sentences).optim.learning_rate == 4e-3  # that of jobs/recipes/transcript.yaml


def test_a_rate_that_is_given_stays() -> None:
    given = replace(BASE, optim=OptimConfig(learning_rate=0.25))
    assert with_learning_rate(given) is given


@pytest.mark.parametrize(
    "file, content",
    [
        ("model/pretraining.json", {"encoder": {"name": "tiny"}}),
        ("model/w2v2.json", {"info": {"encoder": {"name": "tiny"}}}),
        ("model/fold-0/model/pretraining.json", {"encoder": {"name": "tiny"}}),
    ],
)
def test_what_was_trained_from_the_built_in_encoder_is_small_too(
    file: str, content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / file
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(START_FOLDER, raising=False)  # a job of an earlier test may have begun elsewhere
    assert is_tiny(str(tmp_path / "model")) and is_tiny("./model") and is_tiny("model")
    place.write_text(json.dumps(content).replace("tiny", "facebook/hubert-base-ls960"))
    assert not is_tiny("model")
    for damaged in ("", "[]", '{"encoder": 3, "info": null}'):
        place.write_text(damaged)
        assert not is_tiny("model")


def test_a_rate_far_too_high_for_a_checkpoint_is_warned_of_and_one_filled_in_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    given = replace(BASE, optim=OptimConfig(learning_rate=1.5e-3))
    log_learning_rate(given, given)
    assert "optim.learning_rate is 0.0015, and pretrained encoders want 1e-5 to 1e-4" in caplog.text
    assert "leave it out for 3e-05" in caplog.text
    caplog.clear()
    head = replace(given, encoder=replace(BASE.encoder, train="head"))
    low_rank = replace(given, lora=LoraConfig(rank=4))
    for good in (head, low_rank, replace(given, encoder=EncoderConfig()), replace(given, optim=OptimConfig(learning_rate=1e-4))):  # fmt: skip
        log_learning_rate(good, good)
    assert caplog.text == ""
    log_learning_rate(BASE, with_learning_rate(BASE))
    assert caplog.messages == [
        "learning rate: 3e-05, which suits layers of a pretrained encoder; --optim.learning_rate sets another"
    ]
