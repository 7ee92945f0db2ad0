"""`w2v2 finetune` with settings of its own: ensembles, remapped classes, augmentation, several workers; and its mistakes."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import recall_score

from tests.made.corpora import labelled_csv
from tests.made.run_tables import frame
from w2v2.config import command_line
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.resources import TrainingResources
from w2v2.errors import UserError
from w2v2.jobs import evaluate, finetune, predict


def test_an_ensemble_is_one_model_for_evaluate_and_predict(tmp_path):
    uri = labelled_csv(tmp_path / "data")
    flags = ["--local", "true", "--data.uri", str(uri), "--run", str(tmp_path / "run")]
    config = command_line.parse(FinetuneConfig, flags)
    config = replace(
        config,
        ensemble="folds",
        ensemble_size=2,
        encoder=replace(config.encoder, train="head"),
        training=replace(config.training, num_epochs=2),
        cache=replace(config.cache, uri=str(tmp_path / "cache")),
    )
    metrics = finetune.main(config)
    run = tmp_path / "run"
    members, held_out = metrics["ensemble"]["members"], metrics["ensemble"]["out_of_fold"]
    assert len(members) == 2 and "by the average of 2 models" in metrics["computed_on"]
    rows = frame(run, "out_of_fold")
    present = sorted(set(rows["target"]))
    uar = recall_score(rows["target"], rows["predicted"], average="macro", labels=present)
    assert held_out["pooled"]["uar"] == pytest.approx(uar)
    clips = frame(run, "manifest")
    assert sorted(rows["clip_id"]) == sorted(clips["clip_id"][clips["split"] == "train"])
    page = (run / "report.html").read_text()
    assert "The members, each trained without one fold" in page and "average of 2" in page
    card = (run / "model" / "README.md").read_text()
    assert "An ensemble of 2 classes models" in card and "such as member-00" in card
    again = evaluate.main(
        EvaluateConfig(model=str(run / "model"), run=str(tmp_path / "other"), data=config.data, local=True)
    )
    assert again["model"]["digest"] == metrics["model"]["digest"]
    before, now = (frame(place, "predictions").set_index("clip_id") for place in (run, tmp_path / "other"))
    columns = [name for name in before.columns if name.startswith("prob_")]
    np.testing.assert_allclose(now.loc[before.index, columns], before[columns], atol=1e-5)
    counts = predict.main(
        PredictConfig(model=str(run / "model"), run=str(tmp_path / "all"), data=config.data, local=True)
    )
    assert counts["num_rows"] == len(clips)


def test_scores_before_and_after_remapping_are_both_reported(tmp_path):
    uri = labelled_csv(tmp_path / "data")
    with open(uri, newline="") as file:
        names = sorted({row["label"] for row in csv.DictReader(file)})
    flags = ["--local", "true", "--data.uri", str(uri), "--run", str(tmp_path / "run")]
    config = command_line.parse(FinetuneConfig, flags)
    config = replace(
        config,
        before_remapping=True,
        data=replace(config.data, classes={names[0]: "joined", names[1]: "joined"}),
        encoder=replace(config.encoder, train="head"),
        training=replace(config.training, num_epochs=1),
        cache=replace(config.cache, uri=str(tmp_path / "cache")),
    )
    metrics = finetune.main(config)
    assert set(metrics["before_remapping"]["recall"]) == set(names)
    assert set(metrics["pooled"]["recall"]) == {"joined", *names[2:]}


def test_mistakes_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"is no model of ours"):
        evaluate.main(EvaluateConfig(model=str(tmp_path), run=str(tmp_path / "run")))
    with pytest.raises(UserError, match=r"is no model of ours"):
        predict.main(PredictConfig(model=str(tmp_path), run=str(tmp_path / "run")))
    base = FinetuneConfig()
    with pytest.raises(UserError, match=r"augment.kinds needs encoder.train=all, got head"):
        replace(
            base, encoder=replace(base.encoder, train="head"), augment=replace(base.augment, kinds=("noise",))
        )
    with pytest.raises(UserError, match=r"before_remapping needs data.classes"):
        replace(base, before_remapping=True)
    with pytest.raises(UserError, match=r"accumulation_steps must be 1 with task.loss=ccc or a penalty"):
        replace(
            base,
            task=replace(base.task, kind="regression", loss="ccc"),
            optim=replace(base.optim, accumulation_steps=2),
        )
    with pytest.raises(UserError, match=r"workers must be at least 1, got 0"):
        TrainingResources(num_workers=0)


def test_a_training_that_diverges_is_one_sentence(tmp_path):
    flags = ["--data.uri", str(labelled_csv(tmp_path / "data")), "--run", str(tmp_path / "run")]
    flags += ["--cache.uri", str(tmp_path / "c"), "--encoder.train", "head", "--training.num_epochs", "2"]
    config = command_line.parse(FinetuneConfig, [*flags, "--local", "true", "--optim.learning_rate", "1e15"])
    with pytest.raises(
        UserError, match=r"^the training diverged: the training loss is .*; lower --optim.learning_rate"
    ):
        finetune.main(config)


@pytest.mark.slow
def test_two_workers_train_as_one(tmp_path, ray_session):
    """Two workers with half of each batch each, under Ray Train, against one with all of it."""
    uri = labelled_csv(tmp_path / "data")
    flags = ["--data.uri", str(uri), "--cache.uri", str(tmp_path / "cache"), "--encoder.train", "last"]
    flags += ["--head.dropout", "0", "--training.num_epochs", "2"]
    for workers in ("1", "2"):
        config = command_line.parse(
            FinetuneConfig, [*flags, "--run", str(tmp_path / workers), "--resources.num_workers", workers]
        )
        finetune.main(config)
    one, two = (frame(tmp_path / workers, "predictions") for workers in ("1", "2"))
    columns = [name for name in one.columns if name.startswith("prob_")]
    np.testing.assert_allclose(two[columns], one[columns], atol=1e-4)
    curves = [frame(tmp_path / workers, "curves")["train_loss"] for workers in ("1", "2")]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)


@pytest.mark.slow
def test_clips_of_one_length_changed_anew_each_epoch(tmp_path, ray_session):
    flags = ["--data.uri", str(labelled_csv(tmp_path / "data")), "--run", str(tmp_path / "run")]
    flags += ["--cache.uri", str(tmp_path / "cache"), "--encoder.train", "all", "--audio.fixed_s", "0.8"]
    flags += ["--training.num_epochs", "2", "--head.dropout", "0"]
    kinds = [
        "--augment.kinds",
        "[noise, gain, shift, time_mask, frequency_mask]",
        "--augment.probability",
        "1",
    ]
    metrics = finetune.main(command_line.parse(FinetuneConfig, [*flags, *kinds]))
    assert set(frame(tmp_path / "run", "manifest")["duration_s"]) == {0.8}
    assert metrics["pooled"]["uar"] is not None
    plain = finetune.main(command_line.parse(FinetuneConfig, [*flags, "--run", str(tmp_path / "plain")]))
    assert plain["model"]["digest"] != metrics["model"]["digest"]
