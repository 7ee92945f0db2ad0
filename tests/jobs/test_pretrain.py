"""jobs/pretrain.py, whole: its files, its model in the other jobs, what it reports of who was in it, and its errors."""

import json
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from transformers import (
    AutoModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
)

from tests.made.accounting import check_accounts
from w2v2.config import command_line
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.config.resources import ExtractionResources
from w2v2.errors import UserError
from w2v2.jobs import evaluate, finetune, pretrain

KEPT_OUT = ["21", "22", "23", "24"]
LOCAL = ("--local", "true")


def config_of(folder: Path, corpus: Path, *flags: str) -> PretrainConfig:
    settings = ["--data.uri", str(corpus), "--run", str(folder / "run"), "--cache.uri", str(folder / "cache")]
    settings += ["--training.num_epochs", "2", "--resources.cpus_per_worker", "1"]
    return command_line.parse(PretrainConfig, [*settings, *flags])


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, corpus, ray_session):
    """A finished run on actors 1 to 20: its folder, config and metrics."""
    folder = tmp_path_factory.mktemp("pretrain")
    config = config_of(folder, corpus, "--data.exclude_speakers", json.dumps(KEPT_OUT))
    return folder, config, pretrain.main(config)


def test_the_run_directory_is_whole(trained):
    folder, _, metrics = trained
    run = folder / "run"
    clips = pq.read_table(run / "manifest.parquet").to_pandas()
    assert len(clips) == 160 and not set(clips["speaker"]) & set(KEPT_OUT)
    assert clips.groupby("speaker")["split"].nunique().max() == 1
    assert metrics["num_clips"] == clips["split"].value_counts().to_dict() == {"train": 144, "val": 16}
    curves = pq.read_table(run / "curves.parquet").to_pandas()
    assert curves[["epoch", "split"]].values.tolist() == [[e, s] for e in (1, 2) for s in ("train", "val")]
    assert curves["chance_loss"].unique() == pytest.approx(np.log(101))
    usage = pq.read_table(run / "code_usage.parquet").to_pandas()
    assert usage.groupby("group")["fraction"].sum().tolist() == pytest.approx([1, 1])
    assert metrics["state"] in ("healthy", "not learning")  # two epochs are few
    page = (run / "report.html").read_text()
    assert metrics["sentence"].split(":")[0] in page and "guessing" in page
    assert list((run / "tensorboard").rglob("events*"))


def test_transformers_opens_the_model(trained):
    folder, _, _ = trained
    model = str(folder / "run" / "model")
    whole = Wav2Vec2ForPreTraining.from_pretrained(model)
    encoder = AutoModel.from_pretrained(model)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, whole.wav2vec2.state_dict()[name]), name
    assert torch.equal(whole.quantizer.codevectors, weights(folder / "run")["quantizer.codevectors"])


def test_run_again_it_trains_nothing_and_resumed_it_ends_the_same(trained, corpus):
    folder, config, metrics = trained
    expected = weights(folder / "run")
    again = folder / "again"
    shutil.copytree(folder / "run", again)
    newest = sorted((again / "checkpoints").glob("*.json"))[-1]
    newest.unlink()  # as of a run that was killed in its second epoch
    shutil.rmtree(again / "model")
    settings = (folder / "run" / "config.yaml").read_text()
    (again / "config.yaml").write_text(settings.replace(str(folder / "run"), str(again)))
    resumed = pretrain.main(replace(config, run=str(again)))
    assert resumed["last"] == metrics["last"]
    for name, value in weights(again).items():
        assert torch.equal(value, expected[name]), name
    assert pretrain.main(config)["last"] == metrics["last"]


def test_other_jobs_report_who_was_in_it_by_audio_alone(trained, two_emotions, tmp_path, caplog):
    folder, _, _ = trained
    flags = ["--data.uri", str(two_emotions), "--run", str(tmp_path / "run")]
    flags += ["--cache.uri", str(folder / "cache")]
    flags += ["--encoder.name", str(folder / "run" / "model"), "--encoder.train", "head"]
    config = command_line.parse(
        FinetuneConfig, [*flags, "--split.kind", "fold", "--training.num_epochs", "1"]
    )
    metrics = finetune.main(config)
    clips = pq.read_table(tmp_path / "run" / "manifest.parquet").to_pandas()
    test = set(clips[clips["split"] == "test"]["speaker"])
    seen = sorted(test - set(KEPT_OUT))
    assert seen
    assert (
        f"{2 * len(seen)} of the clips (audio only, without labels) TRAINED THE ENCODER"
        in metrics["computed_on"]
    )
    assert f"{len(seen)} of the speakers have the name of one in its training" in metrics["computed_on"]
    unseen = evaluate.main(
        EvaluateConfig(
            model=str(tmp_path / "run" / "model"),
            run=str(tmp_path / "evaluated"),
            data=config.data,
            resources=ExtractionResources(num_workers=1),
        )
    )
    num_known = len(set(clips["speaker"])) - len(test) + len(seen)
    assert f"{num_known} of the speakers have the name of one in its training" in unseen["computed_on"]
    assert f"{2 * len(seen)} of the clips (audio only, without labels)" in unseen["computed_on"]


def test_short_clips_are_rejects_and_a_folder_needs_no_names(tmp_path, corpus):
    audio = tmp_path / "audio"
    audio.mkdir()
    for number, path in enumerate(sorted(corpus.rglob("*.wav"))[:12]):
        shutil.copy(path, audio / f"recording {number}.wav")
    with wave.open(str(audio / "short.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
        file.writeframes(np.random.default_rng(0).integers(-9000, 9000, 3000, dtype=np.int16).tobytes())
    flags = ["--data.layout", "files", "--data.max_reject_fraction", "0.2"]
    config = config_of(tmp_path, audio, *LOCAL, *flags)
    config = replace(config, training=replace(config.training, num_epochs=1))
    metrics = pretrain.main(config)
    assert metrics["num_clips"] == {"train": 11, "val": 1}
    assert check_accounts(tmp_path / "run")["rejected"] == {"too short": 1}
    rejects = pq.read_table(tmp_path / "run" / "rejects.parquet").to_pylist()
    assert [(row["clip_id"], row["reason"]) for row in rejects] == [
        ("short.wav", "too short: 0.188 s < 0.251 s, 11 frames: a masked span and a frame to predict it from")
    ]
    marks = pq.read_table(tmp_path / "run" / "model" / "trained_on.parquet")
    assert marks["speaker"].null_count == 12 and set(marks["how"].to_pylist()) == {"audio"}


def test_codes_that_collapse_stop_the_job_with_what_to_change(tmp_path, corpus):
    config = config_of(
        tmp_path,
        corpus,
        *LOCAL,
        "--loss.diversity_weight",
        "0",
        "--training.num_epochs",
        "4",
        "--checkpoint.every_steps",
        "5",
    )
    with pytest.raises(
        UserError, match=r"the codes collapsed.*raise --loss.diversity_weight.*checkpoints of before it"
    ):
        pretrain.main(config)
    kept = sorted((tmp_path / "run" / "checkpoints").glob("*.json"))
    assert kept and not (tmp_path / "run" / "model").exists()
    alarms = json.loads(kept[-1].read_text())["state"]["positions"][0]["alarms"]
    assert alarms == {"few_codes": 0, "stuck": 0}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--encoder.train", "head"], "encoder.train: got head, wanted one of all, no_conv"),
        (["--encoder.train", "no_conv"], "keeps the convolutions as they are, and here they are random"),
        (["--data.exclude_speakers", '["99"]'], "data.exclude_speakers names 99, of whom there is no clip"),
        (["--resources.precision", "bf16"], "bf16 but there is no GPU"),
        (["--training.val_fraction", "0.99"], "leaves no clip to train on"),
    ],
)
def test_mistakes_are_one_sentence(flags, words, tmp_path, corpus, ray_session):
    with pytest.raises(UserError, match=words):
        pretrain.main(config_of(tmp_path, corpus, *flags))


@pytest.fixture(scope="module")
def hubert(tmp_path_factory) -> Path:
    """A small HuBERT with random weights, as its folder."""
    folder = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(0)
    HubertModel(
        HubertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
                     conv_kernel=(10, 8), conv_stride=(20, 16), num_feat_extract_layers=2, num_conv_pos_embedding_groups=2)
    ).save_pretrained(folder)  # fmt: skip
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def test_another_family_has_no_contrastive_objective(hubert, tmp_path, corpus):
    with pytest.raises(
        UserError, match=r"is a hubert model, which has no quantizer: use --pretrain\.objective clusters"
    ):
        pretrain.main(config_of(tmp_path, corpus, *LOCAL, "--encoder.name", str(hubert)))


def test_hubert_is_continued_by_clusters_of_a_layer_without_its_convolutions(hubert, tmp_path, corpus):
    flags = ["--encoder.name", str(hubert), "--encoder.train", "no_conv", "--training.num_epochs", "1"]
    flags += [
        "--pretrain.objective",
        "clusters",
        "--pretrain.cluster_features",
        "1",
        "--pretrain.num_clusters",
        "7",
    ]
    metrics = pretrain.main(config_of(tmp_path, corpus, *LOCAL, *flags, "--optim.batch_s", "10"))
    assert (metrics["objective"], metrics["num_codes"]) == ("clusters", 7)
    assert (tmp_path / "run" / "clusters.npz").exists()
    before, after = (AutoModel.from_pretrained(folder) for folder in (hubert, tmp_path / "run" / "model"))
    assert isinstance(after, HubertModel)
    changed = {
        name
        for name, value in before.state_dict().items()
        if not torch.equal(value, after.state_dict()[name])
    }
    assert "encoder.layers.0.attention.k_proj.weight" in changed
    assert not any(name.startswith("feature_extractor") for name in changed)
    assert "Clusters" in (tmp_path / "run" / "report.html").read_text()


def test_one_clip_is_refused(tmp_path, corpus, ray_session):
    audio = tmp_path / "audio"
    audio.mkdir()
    shutil.copy(sorted(corpus.rglob("*.wav"))[0], audio / "one.wav")
    with pytest.raises(UserError, match="1 clip left to pre-train on, wanted at least 2"):
        pretrain.main(config_of(tmp_path, audio, "--data.layout", "files"))
