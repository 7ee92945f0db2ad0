"""Fine-tuning on transcripts in one process: resume, the saved folder in transformers, windows, and whether it learns."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from transformers import AutoModel, AutoModelForCTC, AutoProcessor, pipeline

from tests.made.corpora import sentences_csv
from w2v2.audio.decoding import load_waveform
from w2v2.audio.waveforms import normalized
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig, OptimConfig, TaskConfig, TrainingConfig
from w2v2.config.text import TextConfig
from w2v2.data import manifest, splits, transcripts, usable_clips
from w2v2.data.text import vocabulary_of
from w2v2.errors import UserError
from w2v2.evaluation import recognition
from w2v2.features.cache import FeatureCache
from w2v2.features.preparation import prepare
from w2v2.features.requests import AudioIndex
from w2v2.features.trunk_features import TrunkFeatures, trunk_key
from w2v2.inference.prediction import predict_clips
from w2v2.inference.prediction_records import in_order, read_predictions, write_predictions
from w2v2.models.ctc_checkpoint import read_vocabulary
from w2v2.models.model_info import read_info
from w2v2.models.pretrained import loaded_encoder
from w2v2.models.saved_model import load_model, save_model
from w2v2.training.finetune_plan import FinetunePlan
from w2v2.training.finetuning import finetune


def make_config(corpus: Path, run: Path, **changes) -> FinetuneConfig:
    config = FinetuneConfig(
        run=str(run),
        task=TaskConfig(kind="transcript"),
        data=DataConfig(uri=str(corpus)),
        cache=CacheConfig(uri=str(run.parent / "cache")),
        encoder=EncoderConfig(pooling="none"),
        optim=OptimConfig(learning_rate=4e-3, batch_size=4, clip_norm=1.0),
        training=TrainingConfig(num_epochs=2),
    )
    return replace(config, **changes)


def make_plan(config: FinetuneConfig, vocabulary=None) -> FinetunePlan:
    """Read the clips, compute what is frozen in this process, and split them."""
    corpus = transcripts.with_references(manifest.read(config.data, task="transcript"), config.text)
    encoder, digest = loaded_encoder(config.encoder, config.seed)
    key = trunk_key(encoder, digest, cache=config.cache, precision="float32")
    requests = AudioIndex(config.data, config.audio, config.cache).requests(corpus.clips)
    trunk = TrunkFeatures(encoder=encoder, cache=FeatureCache(config.cache, key))
    prepared = prepare(requests, kinds=[trunk], audio=config.audio, num_readers=4)
    corpus = usable_clips.with_usable_audio(config.run, corpus, prepared, max_reject_fraction=0.0)
    clips = splits.assign(corpus.clips, config.split, config.folds, need_val=config.needs_val)
    vocabulary = vocabulary or vocabulary_of(transcripts.references_of(clips, "train"), config.text)
    return FinetunePlan(
        config=config, groups=(vocabulary.tokens,), key=key, clips=clips, vocabulary=vocabulary, card={}
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return sentences_csv(tmp_path_factory.mktemp("sentences"))


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A plan and what its fine-tuning returned."""
    plan = make_plan(make_config(corpus, tmp_path_factory.mktemp("run") / "run"))
    return plan, finetune(plan)


def test_resumed_from_any_step_it_ends_with_the_same_weights_and_transcripts(trained, corpus, tmp_path):
    _, whole = trained
    config = make_config(corpus, tmp_path / "stopped")
    stopped = make_plan(replace(config, checkpoint=replace(config.checkpoint, every_steps=1)))

    def stop(done, total, point):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        finetune(stopped, on_epoch=stop)
    for path in sorted(Path(config.run, "checkpoints").iterdir())[-2:]:
        path.unlink()  # resume within the first epoch
    resumed = finetune(stopped)
    assert (resumed.digest, resumed.curve, resumed.values) == (whole.digest, whole.curve, whole.values)
    assert resumed.curve[-1].train_loss < resumed.curve[0].train_loss


@pytest.fixture(scope="module")
def writer(trained):
    """The folder of a model that writes much: so early in training the blank is all that is likely."""
    plan, result = trained
    saved = load_model(f"{plan.config.run}/model")
    line = saved.model.head.layers[-1]
    waveform = torch.from_numpy(normalized(waveforms_of(plan, result.rows[:1])[0]))
    with torch.no_grad():
        states, _ = saved.model.encoder(waveform[None], torch.tensor([len(waveform)]))
        torch.manual_seed(0)
        line.weight.normal_().mul_(4 / states[0].std(0).mean())
        line.bias.copy_(-line.weight @ states[0].mean(0))
    folder = f"{plan.config.run}/writer"
    save_model(folder, saved.model, saved.info, card={}, made_from=plan.clips)
    return folder


@pytest.fixture(scope="module")
def predicted(trained, writer):
    """What that model writes of the clips of the test split."""
    plan, result = trained
    clips = [
        {"clip_id": row["clip_id"], "uri": row["uri"], "start_s": 0.0, "end_s": float("inf")}
        for row in plan.clips.take(result.rows).to_pylist()
    ]
    return predict_clips(clips, load_model(writer), num_readers=2)


def waveforms_of(plan, rows):
    uris = plan.clips["uri"].take(rows).to_pylist()
    return [load_waveform(Path(uri).read_bytes(), AudioConfig()) for uri in uris]


def test_transformers_opens_the_saved_folder_and_writes_the_same_text(trained, writer, predicted):
    plan, result = trained
    waveforms = waveforms_of(plan, result.rows)
    written = pipeline("automatic-speech-recognition", model=writer, device="cpu")
    texts = [" ".join(written(waveform)["text"].split()) for waveform in waveforms]
    assert texts == [one.transcript.text for one in predicted]
    assert all(texts) and any(" " in text for text in texts)
    processor = AutoProcessor.from_pretrained(writer)
    assert type(processor).__name__ == "Wav2Vec2Processor"
    assert json.loads(Path(writer, "vocab.json").read_text()) == {
        token: number for number, token in enumerate(plan.vocabulary.tokens)
    }
    saved = load_model(writer)
    stock = AutoModelForCTC.from_pretrained(writer).eval()
    assert stock.config.pad_token_id == plan.vocabulary.blank
    features = processor(waveforms[0], sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        ours = saved.model(features.input_values, torch.tensor([len(waveforms[0])])).logits
        theirs = stock(features.input_values).logits
    # The rounding of float32 grows with what the training has made of the weights.
    scale = theirs.abs().max()
    torch.testing.assert_close(ours / scale, theirs / scale, atol=2e-5, rtol=0)
    encoder = AutoModel.from_pretrained(writer).state_dict()
    assert all(
        torch.equal(value, encoder[name]) for name, value in saved.model.encoder.model.state_dict().items()
    )


def test_a_saved_model_says_how_its_text_was_read_and_words_lie_within_their_clip(trained, writer, predicted):
    plan, _ = trained
    info, _ = read_info(writer)
    assert (info.text, info.vocabulary) == (plan.config.text, plan.vocabulary)
    for one in predicted:
        assert one.values is None and one.spans == ((0.0, pytest.approx(one.duration_s)),)
        assert 0 < one.transcript.confidence <= 1
        ends = [0.0]
        for word in one.transcript.words:
            assert ends[-1] <= word.start_s < word.end_s <= one.duration_s
            ends.append(word.end_s)
        assert one.transcript.text == " ".join(word.text for word in one.transcript.words)


def test_records_of_an_earlier_attempt_give_the_same_transcripts(predicted, tmp_path):
    inputs = pa.array([one.clip_id for one in predicted])
    write_predictions(str(tmp_path), predicted, inputs.to_pylist())
    rows = read_predictions(str(tmp_path), num_at_once=2)
    assert list(in_order([rows], inputs)) == list(predicted)
    assert list(in_order([rows], inputs[::-1])) == list(predicted)[::-1]


def test_windows_of_a_long_recording_are_joined_to_one_transcript(trained, writer, tmp_path):
    plan, result = trained
    waveforms = waveforms_of(plan, result.rows)
    soundfile.write(tmp_path / "long.wav", np.concatenate(3 * waveforms), 16_000)
    saved = load_model(writer)
    clip = {"clip_id": "long", "uri": str(tmp_path / "long.wav"), "start_s": 0.0, "end_s": float("inf")}
    whole, windowed = (
        predict_clips([clip], saved, num_readers=1, window_s=window_s)[0] for window_s in (0.0, 6.0)
    )
    assert windowed.duration_s > 12 and windowed.spans == whole.spans
    first, second = (one.transcript.text.replace(" ", "") for one in (whole, windowed))
    assert abs(len(first) - len(second)) <= 0.1 * len(first)
    starts = [word.start_s for word in windowed.transcript.words]
    assert starts == sorted(starts)
    with pytest.raises(UserError, match="windows of a transcript must overlap"):
        predict_clips([clip], saved, num_readers=1, window_s=6.0, hop_s=6.0)


def test_a_ctc_checkpoint_keeps_its_vocabulary_and_output_layer(trained, corpus, tmp_path):
    plan, _ = trained
    folder = f"{plan.config.run}/model"
    vocabulary = read_vocabulary(folder)
    assert vocabulary == plan.vocabulary
    config = make_config(
        corpus,
        tmp_path / "run",
        encoder=EncoderConfig(name=folder, pooling="none"),
        text=TextConfig(vocab="model"),
        optim=OptimConfig(learning_rate=1e-12),
        training=TrainingConfig(num_epochs=1),
    )
    again = finetune(make_plan(config, vocabulary))
    before = load_model(folder).model.head.layers[-1].weight
    torch.testing.assert_close(load_model(f"{config.run}/model").model.head.layers[-1].weight, before)
    assert [one.text for one in again.values] == [one.text for one in trained[1].values]
    with pytest.raises(UserError, match=r"characters are not in the model's vocabulary: 'Z' U\+005A \(2\)"):
        transcripts.refuse_unknown(["kids ZZ"], vocabulary, max_fraction=0.0)
    transcripts.refuse_unknown(["kids ZZ"], vocabulary, max_fraction=0.5)
    with pytest.raises(UserError, match="'tiny' has no vocabulary"):
        read_vocabulary("tiny")


def test_val_loss_is_per_character_and_patience_looks_at_it(corpus, tmp_path):
    training = TrainingConfig(num_epochs=3, patience_epochs=2)
    trained = finetune(make_plan(make_config(corpus, tmp_path / "run", training=training)))
    assert all(np.isfinite(point.val_loss) for point in trained.curve)
    assert 1 <= trained.best_epoch <= 3


@pytest.mark.slow
def test_it_learns_to_write_what_voices_say_that_it_never_had(tmp_path):
    corpus = sentences_csv(tmp_path / "data", num_speakers=24, num_sentences=24)
    config = make_config(
        corpus,
        tmp_path / "run",
        optim=OptimConfig(learning_rate=4e-3, clip_norm=1.0),
        training=TrainingConfig(num_epochs=12),
    )
    plan = make_plan(config)
    trained = finetune(plan)
    clips = plan.clips.take(trained.rows)
    references, hypotheses = clips["reference"].to_pylist(), [one.text for one in trained.values]
    scores = recognition.scores(
        clips["clip_id"].to_pylist(), references, hypotheses, clips["speaker"].to_pylist()
    )
    assert scores["cer"] < 0.3
    # A recording of all of them, in windows: as many words, none twice.
    uris = clips["uri"].to_pylist()[:12]
    alone = " ".join(hypotheses[:12])
    sounds = [load_waveform(Path(uri).read_bytes(), AudioConfig()) for uri in uris]
    soundfile.write(tmp_path / "long.wav", np.concatenate(sounds), 16_000)
    clip = {"clip_id": "long", "uri": str(tmp_path / "long.wav"), "start_s": 0.0, "end_s": float("inf")}
    saved = load_model(f"{config.run}/model")
    long = predict_clips([clip], saved, num_readers=1, window_s=4.0)[0].transcript.text
    assert recognition.edits(alone, long).errors < 0.2 * len(alone)
