"""jobs/pretrain.py --per_fold true, whole, and the search that takes each fold's own encoder."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from tests.jobs.test_pretrain import config_of
from tests.made.pictures import no_pictures
from w2v2.config import command_line
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.jobs import finetune, pretrain, tune_folds
from w2v2.models import provenance

FOLDS = ["--folds.kind", "grouped", "--folds.num_folds", "2"]
SHORT = ["--training.num_epochs", "1", "--optim.batch_s", "10"]


def weights(model: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(model / "model.safetensors")


def assert_equal(first: Path, second: Path) -> None:
    expected = weights(second)
    for name, value in weights(first).items():
        assert torch.equal(value, expected[name]), name


@pytest.fixture(scope="module")
def trained(tmp_path_factory, two_emotions, ray_session):
    """The folder of a finished run with an encoder for each of two folds, its config and its metrics."""
    folder = tmp_path_factory.mktemp("folds")
    config = config_of(folder, two_emotions, "--per_fold", "true", *FOLDS, *SHORT)
    with no_pictures():
        return folder, config, pretrain.main(config)


def search_of(folder: Path, two_emotions: Path, name: str, encoder: Path, *flags: str) -> TuneFoldsConfig:
    settings = [
        "--run",
        str(folder / name),
        "--data.uri",
        str(two_emotions),
        "--cache.uri",
        str(folder / "cache"),
    ]
    settings += ["--encoder.name", str(encoder), "--search.num_trials", "1", "--training.num_epochs", "2"]
    settings += ["--local", "true"]
    return command_line.parse(TuneFoldsConfig, [*settings, "--search.pruning", "none", *FOLDS, *flags])


def fold_scores(run: Path) -> dict[int, float]:
    return {row["fold"]: row["loss"] for row in pq.read_table(run / "folds.parquet").to_pylist()}


def test_no_encoder_has_seen_the_speakers_of_its_fold(trained):
    folder, _, metrics = trained
    clips = pq.read_table(folder / "run" / "manifest.parquet")
    assert len(clips) == 48 and set(clips["fold"].to_pylist()) == {0, 1}
    for fold in range(2):
        model = str(folder / "run" / f"fold-{fold}" / "model")
        held_out = clips.filter(pc.equal(clips["fold"], fold))
        assert sorted(set(held_out["speaker"].to_pylist())) == metrics["per_fold"][fold]["held_out"]
        assert not provenance.overlap(model, held_out)
        others = clips.filter(pc.not_equal(clips["fold"], fold))
        assert provenance.overlap(model, others).num_audio_clips == len(others) > 0
    page = (folder / "run" / "report.html").read_text()
    assert "without the audio of the speakers that its fold holds out" in page
    assert (folder / "run" / "fold-1" / "report.html").exists()


@pytest.mark.slow
def test_an_encoder_is_that_of_a_run_without_these_speakers(trained, two_emotions, tmp_path):
    folder, config, metrics = trained
    fold_config = command_line.parse(
        type(config),
        ["--config", str(folder / "run" / "fold-1" / "config.yaml"), "--run", str(tmp_path / "run")],
    )
    assert (
        list(fold_config.data.exclude_speakers) == metrics["per_fold"][1]["held_out"]
        and not fold_config.per_fold
    )
    pretrain.main(fold_config)
    assert_equal(tmp_path / "run" / "model", folder / "run" / "fold-1" / "model")


@pytest.mark.slow
def test_killed_and_run_again_it_makes_what_is_missing(trained, tmp_path):
    folder, config, metrics = trained
    kept = tmp_path / "kept"
    shutil.copytree(folder / "run", kept)
    shutil.rmtree(folder / "run" / "fold-1" / "checkpoints")
    shutil.rmtree(folder / "run" / "fold-1" / "model")
    again = pretrain.main(config)
    assert [fold["last"] for fold in again["per_fold"]] == [fold["last"] for fold in metrics["per_fold"]]
    for fold in range(2):
        assert_equal(folder / "run" / f"fold-{fold}" / "model", kept / f"fold-{fold}" / "model")


@pytest.mark.parametrize("train", ["head", pytest.param("last", marks=pytest.mark.slow)])
def test_a_search_scores_each_fold_with_its_own_encoder(train, trained, two_emotions, tmp_path):
    """Fold by fold the numbers are those of a search with that fold's encoder alone."""
    folder, _, _ = trained
    run = folder / "run"
    flags = ["--encoder.train", train, "--encoder.num_last_layers", "1"]
    metrics = tune_folds.main(search_of(tmp_path, two_emotions, "together", run, *flags))
    together = fold_scores(tmp_path / "together")
    digests = metrics["encoder"]["of_fold"]
    assert len(set(digests)) == 2
    for fold in range(2):
        alone = f"alone-{fold}"
        metrics_alone = tune_folds.main(
            search_of(tmp_path, two_emotions, alone, run / f"fold-{fold}" / "model", *flags)
        )
        scores = fold_scores(tmp_path / alone)
        assert scores[fold] == pytest.approx(together[fold], rel=1e-5)
        assert scores[1 - fold] != pytest.approx(together[1 - fold], rel=1e-5)
        assert metrics_alone["encoder"]["digest"] == digests[fold]
        assert "TRAINED THE ENCODER" in metrics_alone["computed_on"]
    assert "TRAINED THE ENCODER" not in metrics["computed_on"]
    page = (tmp_path / "together" / "report.html").read_text()
    assert "Each of the 2 folds had an encoder of its own" in page


def test_a_wrong_assignment_is_refused(trained, two_emotions, tmp_path):
    folder, _, _ = trained
    wrong = search_of(tmp_path, two_emotions, "wrong", folder / "run", "--folds.kind", "consecutive")
    with pytest.raises(
        UserError, match=r"among the clips that fold 0 holds out, \d+ of the speakers.*trained its encoder"
    ):
        tune_folds.main(wrong)
    assert not (tmp_path / "cache" / "features").exists()  # before anything is computed
    three = search_of(tmp_path, two_emotions, "three", folder / "run", "--folds.num_folds", "3")
    with pytest.raises(UserError, match=r"has encoders for 2 folds and folds\.num_folds is 3"):
        tune_folds.main(three)


def test_the_same_audio_under_another_name_is_refused(trained, tmp_path):
    """Marks are of recordings as well as of names."""
    from w2v2.config.model import EncoderConfig
    from w2v2.models import fold_encoders

    folder, _, _ = trained
    clips = pq.read_table(folder / "run" / "manifest.parquet")
    of_fold = fold_encoders.by_fold([EncoderConfig(name=str(folder / "run"))], num_folds=2)
    names = pa.array([f"renamed {speaker}" for speaker in clips["speaker"].to_pylist()])
    renamed = clips.set_column(clips.column_names.index("speaker"), "speaker", names)
    fold_encoders.refuse_seen(of_fold, renamed)
    other = pa.array([1 - fold for fold in clips["fold"].to_pylist()])
    exchanged = renamed.set_column(clips.column_names.index("fold"), "fold", other)
    with pytest.raises(
        UserError, match=r"among the clips that fold 0 holds out, \d+ of the clips \(audio only"
    ):
        fold_encoders.refuse_seen(of_fold, exchanged)


def test_a_fold_without_its_model_is_named(trained, two_emotions, tmp_path):
    folder, _, _ = trained
    copied = tmp_path / "copied"
    shutil.copytree(folder / "run", copied)
    shutil.rmtree(copied / "fold-1" / "model")
    with pytest.raises(
        UserError, match=r"fold-1/model is missing, so its pre-training has not come to its end"
    ):
        tune_folds.main(search_of(tmp_path, two_emotions, "run", copied))


def test_a_job_that_takes_one_encoder_names_them(trained, two_emotions, tmp_path):
    folder, _, _ = trained
    flags = ["--run", str(tmp_path / "run"), "--data.uri", str(two_emotions)]
    config = command_line.parse(FinetuneConfig, [*flags, "--encoder.name", str(folder / "run")])
    with pytest.raises(
        UserError, match=r"has an encoder for each of 2 folds.*give one of them, such as .*fold-0/model"
    ):
        finetune.main(config)
