"""A saved model: what transformers and our loader make of the folder equals the model that was saved."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    pipeline,
)  # fmt: skip

from w2v2.audio.waveforms import normalized
from w2v2.config.data import AudioConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.errors import UserError
from w2v2.models import provenance
from w2v2.models.classifier import Classifier
from w2v2.models.encoder import Encoder
from w2v2.models.model_card import extend_card
from w2v2.models.model_info import ModelInfo, read_card, read_info
from w2v2.models.saved_model import has_counterpart, load_model, save_model
from w2v2.storage.seals import seal_json

SMALL = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20, conv_dim=(11, 13),
    conv_kernel=(10, 8), conv_stride=(5, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=2,
)  # fmt: skip
FAMILIES = {
    "wav2vec2-group": (Wav2Vec2Model, Wav2Vec2Config, dict(feat_extract_norm="group")),
    "wav2vec2-layer": (Wav2Vec2Model, Wav2Vec2Config, dict(feat_extract_norm="layer", do_stable_layer_norm=True)),
    "hubert": (HubertModel, HubertConfig, dict(feat_extract_norm="group")),
    "wavlm": (WavLMModel, WavLMConfig, dict(feat_extract_norm="group")),
    "data2vec": (Data2VecAudioModel, Data2VecAudioConfig, dict(conv_pos_kernel_size=5, num_conv_pos_embeddings=2)),
}  # fmt: skip
CLASSES = ("calm", "angry", "sad")
CLIPS = pa.table({"speaker": ["ann", "bob", "ann"], "audio_digest": ["d1", "d2", "d3"]})
CARD = {"data": {"num_clips": 7}, "scores": {"uar": 0.5}}


def make(
    family: str = "wav2vec2-group",
    kind: str = "classes",
    groups=(CLASSES,),
    widths=(),
    num_descriptors=0,
    **settings,
) -> tuple[Classifier, ModelInfo]:
    torch.manual_seed(3)
    model_class, config_class, extra = FAMILIES[family]
    encoder = Encoder(
        model_class(config_class(**{**SMALL, **extra})), EncoderConfig(**settings), normalize=True
    )
    head = HeadConfig(widths=widths, joined=("energy",) if num_descriptors else ())
    model = Classifier(
        encoder,
        head,
        groups=[len(group) for group in groups],
        num_descriptors=num_descriptors,
        denormalize=kind == "regression",
    )
    if model.mix is not None:
        torch.nn.init.normal_(model.mix.logits)
    if model.target_scaler is not None:
        model.target_scaler.fit(np.array([[1.0, 5.0], [3.0, 9.0]]))
    if model.descriptor_scaler is not None:
        model.descriptor_scaler.fit(np.random.default_rng(0).normal(3, 2, size=(9, num_descriptors)))
    info = ModelInfo(
        kind=kind, groups=groups, audio=AudioConfig(trim_db=30.0), encoder=encoder.config, head=head, normalize=True,
        num_descriptors=num_descriptors,
    )  # fmt: skip
    return model.eval(), info


def outputs(model: Classifier, waveforms: list[np.ndarray], descriptors=None) -> np.ndarray:
    prepared = [normalized(w) for w in waveforms]
    lengths = torch.tensor([len(w) for w in prepared])
    rows = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(w) for w in prepared], batch_first=True)
    with torch.no_grad():
        return model(
            *model.encoder.trunk(rows, lengths), *([] if descriptors is None else [descriptors])
        ).numpy()


@pytest.fixture
def waveforms():
    rng = np.random.default_rng(4)
    return [rng.normal(0.1, 0.3, size=n).astype(np.float32) for n in (801, 1607, 1203)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [dict(train="last"), dict(train="head", layer="mix")], ids=str)
def test_transformers_gives_our_logits(family, settings, waveforms, tmp_path):
    model, info = make(family, **settings)
    if not has_counterpart(model, info):
        assert family == "wav2vec2-layer" and settings["layer"] == "mix"
        return
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    stock = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
    ours = outputs(model, waveforms)
    assert np.abs(ours - ours[:1]).max() > 1e-3
    for waveform, row in zip(waveforms, ours, strict=True):
        with torch.no_grad():
            theirs = stock(torch.from_numpy(normalized(waveform))[None]).logits[0].numpy()
        np.testing.assert_allclose(theirs, row, atol=1e-5)
    assert stock.config.id2label == dict(enumerate(CLASSES))


def test_the_pipeline_gives_our_probabilities(waveforms, tmp_path):
    model, info = make()
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    classify = pipeline("audio-classification", model=str(tmp_path))
    ours = torch.from_numpy(outputs(model, waveforms)).softmax(1).numpy()
    for waveform, row in zip(waveforms, ours, strict=True):
        theirs = {answer["label"]: answer["score"] for answer in classify(waveform, top_k=None)}
        assert list(theirs) == [CLASSES[n] for n in np.argsort(-row)]
        np.testing.assert_allclose([theirs[name] for name in CLASSES], row, atol=1e-5)


@pytest.mark.parametrize(
    "kind, groups", [("multi_label", (("a", "b"), ("c",))), ("regression", (("v",), ("w",)))]
)
def test_several_heads_in_one_of_transformers(kind, groups, waveforms, tmp_path):
    model, info = make(kind=kind, groups=groups)
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    stock = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        theirs = stock(torch.from_numpy(normalized(waveforms[0]))[None]).logits
    np.testing.assert_allclose(theirs.numpy()[0], outputs(model, waveforms)[0], atol=1e-5)


SETTINGS = [
    dict(), dict(widths=(7, 5)), dict(layer=1), dict(layer="mix"), dict(pooling="attention"), dict(pooling="mean+std"),
    dict(pooling="attentive_statistics"), dict(layer="concat", layers=(0, 2), pooling="attentive_statistics"),
    dict(layer="concat", layers=(0, 2)), dict(num_descriptors=3), dict(kind="regression", groups=(("v",), ("w",))),
    dict(kind="multi_label", groups=(("a", "b"), ("c",)), widths=(4,)),
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_our_loader_gives_the_whole_model_back(settings, waveforms, tmp_path):
    model, info = make(**settings)
    digest = save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    saved = load_model(str(tmp_path))
    assert saved.info == info and saved.digest == digest
    num = settings.get("num_descriptors", 0)
    descriptors = torch.randn(len(waveforms), num) if num else None
    np.testing.assert_allclose(
        outputs(saved.model, waveforms, descriptors), outputs(model, waveforms, descriptors), atol=1e-6
    )
    encoder = AutoModel.from_pretrained(tmp_path)
    for name, value in model.encoder.model.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name]), name


def test_what_transformers_cannot_open_whole_is_not_offered_as_such(tmp_path):
    model, info = make(widths=(7,))
    assert not has_counterpart(model, info)
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["Wav2Vec2Model"]
    card = (tmp_path / "README.md").read_text()
    assert (
        "load_model gives the whole model" in card and '"num_clips": 7' in card and "calm, angry, sad" in card
    )


def test_later_entries_are_in_the_card_too(tmp_path, waveforms):
    model, info = make()
    digest = save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    extend_card(str(tmp_path), {"pooled": {"uar": 0.625}})
    assert read_card(str(tmp_path)) == json.loads(json.dumps(CARD)) | {"pooled": {"uar": 0.625}}
    assert "| UAR | 0.625 | undefined | this model, test split |" in (tmp_path / "README.md").read_text()
    assert load_model(str(tmp_path)).digest == digest


def test_a_folder_in_a_bucket(bucket, waveforms):
    model, info = make()
    uri = "gs://speech/model"
    digest = save_model(uri, model, info, card=CARD, made_from=CLIPS)
    saved = load_model(uri)
    assert saved.digest == digest
    np.testing.assert_allclose(outputs(saved.model, waveforms), outputs(model, waveforms), atol=1e-6)


def test_mistakes_are_one_sentence(tmp_path):
    with pytest.raises(
        UserError,
        match=r"is no model of ours: there is no w2v2.json in a folder of that name; give the model folder of a finetune run",
    ):
        load_model(str(tmp_path))
    model, info = make()
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    about = tmp_path / "w2v2.json"
    text = about.read_text()
    other = {name: value for name, value in json.loads(text).items() if name != "seal"}
    about.write_text(json.dumps(other | {"format": 99}))
    with pytest.raises(UserError, match=r"has format 99, this version reads 2"):
        read_info(str(tmp_path))
    about.write_text(text[:-20])
    with pytest.raises(UserError, match=r"w2v2.json cannot be read \(.*\): save the model again"):
        read_info(str(tmp_path))
    about.write_text(text)
    state = safetensors.torch.load_file(tmp_path / "head.safetensors")
    safetensors.torch.save_file(
        {name: value + 1 for name, value in state.items()}, tmp_path / "head.safetensors"
    )
    with pytest.raises(UserError, match=r"is damaged: head.safetensors is not as it was saved"):
        read_info(str(tmp_path))  # before anything is started


FILES = (
    "config.json",
    "head.safetensors",
    "model.safetensors",
    "preprocessor_config.json",
    "trained_on.parquet",
    "w2v2.json",
)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_of_any_file_is_one_sentence_or_changes_nothing(name: str, tmp_path, caplog) -> None:
    model, info = make()
    folder = tmp_path / "model"
    digest = save_model(str(folder), model, info, card=CARD, made_from=CLIPS)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "README.md"])
    rng, body = random.Random(name), (folder / name).read_bytes()
    seen = set()
    for _ in range(6):
        bit = rng.randrange(8 * len(body))
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(changed)
        try:
            assert load_model(str(folder)).digest == digest
            provenance.overlap(str(folder), CLIPS)
            seen.add("same")
        except UserError as error:
            assert "\n" not in str(error) and str(folder) in str(error)
            seen.add("refused")
    assert "refused" in seen or name == "trained_on.parquet"
    (folder / name).unlink()
    if name not in ("w2v2.json", "trained_on.parquet"):
        with pytest.raises(UserError, match=f"is damaged: {name} is missing; copy the whole folder again"):
            read_info(str(folder))


def test_folders_of_before_have_no_list_of_files(tmp_path) -> None:
    model, info = make()
    digest = save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    about = json.loads((tmp_path / "w2v2.json").read_text())
    del about["files"], about["seal"]
    (tmp_path / "w2v2.json").write_text(seal_json(about))
    assert load_model(str(tmp_path)).digest == digest
    state = safetensors.torch.load_file(tmp_path / "head.safetensors")
    safetensors.torch.save_file({k: v + 1 for k, v in state.items()}, tmp_path / "head.safetensors")
    with pytest.raises(UserError, match=r"is damaged: its weights are not those it was saved with"):
        load_model(str(tmp_path))
    safetensors.torch.save_file(
        {k: v[..., :1].contiguous() for k, v in state.items()}, tmp_path / "head.safetensors"
    )
    with pytest.raises(UserError, match=r"is damaged: head.safetensors belongs to another model"):
        load_model(str(tmp_path))
    (tmp_path / "head.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"is damaged: head.safetensors belongs to another model"):
        load_model(str(tmp_path))
