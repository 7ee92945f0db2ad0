"""jobs/tune_folds.py: what a search writes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn import metrics as sklearn_metrics

from tests.jobs.searches import make_config, table
from tests.made.accounting import check_accounts
from w2v2.config.data import CacheConfig, DataConfig, FoldsConfig
from w2v2.config.model import EncoderConfig, OptimConfig, TrainingConfig
from w2v2.config.tune_folds import Dimension, SearchConfig
from w2v2.jobs import tune_folds

RUN_FILES = (
    "config.yaml", "manifest.parquet", "rejects.parquet", "trials.parquet", "folds.parquet", "curves.parquet",
    "predictions.parquet", "metrics.json", "best.yaml", "report.html", "study.db"
)  # fmt: skip


def test_run_directory_has_everything_the_readme_promises(finished):
    run, _, _ = finished
    for name in RUN_FILES:
        assert (run / name).stat().st_size > 0, name
    assert len(list((run / "plots").glob("*.png"))) >= 6
    assert list((run / "tensorboard").rglob("events*"))
    assert not [path for path in run.rglob("*") if path.name.endswith((".tmp", ".part"))]


def test_every_clip_is_predicted_once_by_a_model_not_trained_on_its_speaker(finished):
    run, _, _ = finished
    clips, predictions = table(run, "manifest"), table(run, "predictions")
    assert predictions["clip_id"].to_pylist() == clips["clip_id"].to_pylist()
    assert predictions["fold"].to_pylist() == clips["fold"].to_pylist()
    speakers = {(row["speaker"], row["fold"]) for row in predictions.to_pylist()}
    assert len(speakers) == 24
    probabilities = np.array(
        [
            predictions[f"prob_{name}"].to_pylist()
            for name in json.loads((run / "metrics.json").read_text())["classes"]
        ]
    )
    assert np.allclose(probabilities.sum(0), 1)


def test_metrics_are_what_scikit_learn_computes_from_the_predictions(finished):
    run, _, metrics = finished
    predictions = table(run, "predictions")
    target, predicted = predictions["target"].to_pylist(), predictions["predicted"].to_pylist()
    pooled = json.loads((run / "metrics.json").read_text())["pooled"]
    assert pooled["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(target, predicted))
    assert pooled["uar"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(target, predicted))
    assert pooled["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(target, predicted, average="macro"))
    matrix = sklearn_metrics.confusion_matrix(target, predicted, labels=metrics["classes"])
    assert pooled["confusion"] == matrix.tolist()
    for name, recall in pooled["recall"].items():
        assert recall == pytest.approx(
            sklearn_metrics.recall_score(target, predicted, labels=[name], average="macro")
        )
    low, high = pooled["intervals"]["uar"]
    assert low <= pooled["uar"] <= high


def test_fold_scores_are_those_of_the_predictions(finished):
    run, _, metrics = finished
    predictions = table(run, "predictions").to_pandas()
    folds = table(run, "folds").to_pandas().query(f"trial == {metrics['trial']}").set_index("fold")
    for fold, rows in predictions.groupby("fold"):
        assert folds.loc[fold, "uar"] == pytest.approx(
            sklearn_metrics.balanced_accuracy_score(rows["target"], rows["predicted"])
        )
        names = metrics["classes"]
        loss = sklearn_metrics.log_loss(
            rows["target"], rows[[f"prob_{n}" for n in sorted(names)]].to_numpy(), labels=sorted(names)
        )
        assert folds.loc[fold, "loss"] == pytest.approx(loss, rel=1e-6)
    assert metrics["folds"]["uar"]["mean"] == pytest.approx(folds["uar"].mean())


def test_trunk_ran_once_per_clip_for_all_trials_folds_and_epochs(finished):
    _, _, metrics = finished
    assert metrics["trunk"] == {"clip_forwards": 48, "num_clips": 48, "reused": 0}


def test_study_opens_in_optuna(finished):
    run, _, metrics = finished
    study = optuna.load_study(study_name="tune_folds", storage=f"sqlite:///{run}/study.db")
    assert study.best_trial.number == metrics["trial"]
    assert study.best_value == pytest.approx(metrics["folds"]["uar"]["mean"])


def test_best_yaml_holds_the_best_hyperparameters(finished):
    run, config, metrics = finished
    best = yaml.safe_load((run / "best.yaml").read_text())
    for path, value in metrics["params"].items():
        section, name = path.split(".")
        assert best[section][name] == value
    assert best["encoder"]["num_last_layers"] == config.encoder.num_last_layers


def test_same_run_again_trains_nothing(finished):
    run, config, metrics = finished
    before = {path: path.stat().st_mtime_ns for path in (run / "ledger").iterdir()}
    again = tune_folds.main(config)
    assert {path: path.stat().st_mtime_ns for path in (run / "ledger").iterdir()} == before
    assert again["pooled"] == metrics["pooled"]


def test_new_seeds_are_trained_on_workers_and_the_search_stays_as_it_is(finished, tmp_path):
    run, config, metrics = finished
    shutil.copytree(run, tmp_path / "run")
    before = {path.name for path in (run / "ledger").iterdir()}
    config = replace(config, run=str(tmp_path / "run"), search=replace(config.search, final_seeds=1))
    again = tune_folds.main(config)
    new = {path.name for path in (tmp_path / "run" / "ledger").iterdir()} - before
    assert new == {f"final-00001-fold-{fold:02d}.parquet" for fold in range(6)}
    assert again["pooled"] == metrics["pooled"] and again["made"] == metrics["made"]
    assert again["estimate"]["name"] == "cross-validation with 1 new seed"
    assert again["final"]["spread"]["uar"]["std"] is None


def write_csv(path: Path, corpus: Path, *, labels: list[str] | None = None) -> Path:
    from w2v2.data import manifest

    clips = manifest.read(DataConfig(uri=str(corpus))).clips.to_pylist()
    labels = labels or [clip["label"] for clip in clips]
    lines = ["file,emotion,talker"]
    lines += [f"{clip['uri']},{label},{clip['speaker']}" for clip, label in zip(clips, labels, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


CSV = dict(uri_column="file", label_column="emotion", speaker_column="talker")


def test_csv_with_own_columns_and_merged_classes(corpus, tmp_path):
    path = write_csv(tmp_path / "clips.csv", corpus)
    data = DataConfig(
        uri=str(path),
        **CSV,
        classes={"calm": "neutral", "fearful": "drop", "angry": "arousal", "happy": "arousal"},
    )
    folds = FoldsConfig(kind="grouped", num_folds=3)
    config = make_config(tmp_path, corpus, data=data, folds=folds, local=True)
    config = replace(
        config, encoder=EncoderConfig(train="head", layer="mix"), search=SearchConfig(num_trials=1)
    )
    metrics = tune_folds.main(config)
    assert metrics["classes"] == ["arousal", "disgust", "neutral", "sad", "surprised"]
    assert check_accounts(config.run)["passed_over"] == {"dropped classes": 24}
    assert metrics["pooled"]["num_clips"] == 168 and len(metrics["folds"]["uar"]["values"]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_unseen_actors_are_recognised_far_above_chance_and_shuffled_labels_are_not(
    corpus, tmp_path, ray_session, shuffled
):
    from w2v2.data import manifest

    labels = manifest.read(DataConfig(uri=str(corpus))).clips["label"].to_pylist()
    if shuffled:
        labels = np.random.default_rng(1).permutation(labels).tolist()
    path = write_csv(tmp_path / "clips.csv", corpus, labels=labels)
    config = make_config(tmp_path, corpus, data=DataConfig(uri=str(path), **CSV), encoder=EncoderConfig())
    config = replace(
        config,
        optim=OptimConfig(),
        training=TrainingConfig(num_epochs=20),
        folds=FoldsConfig(kind="grouped", num_folds=3),
    )
    space = {"head.dropout": Dimension(choices=(0.1,))}
    metrics = tune_folds.main(replace(config, search=SearchConfig(num_trials=1, space=space)))
    low, high = metrics["pooled"]["intervals"]["uar"]
    assert low < 0.125 < high if shuffled else low > 0.2


def test_data_cache_and_run_in_a_bucket_computed_again_give_the_same_scores(
    finished, two_emotions, ray_bucket
):
    run, config, near = finished
    bucket = f"gs://{ray_bucket.name}"
    config = replace(config, data=DataConfig(uri=ray_bucket.upload(two_emotions, "ravdess")))
    far = tune_folds.main(replace(config, run=f"{bucket}/runs/a", cache=CacheConfig(uri=f"{bucket}/cache")))
    assert {f"runs/a/{name}" for name in RUN_FILES} <= set(ray_bucket.names())
    assert any(name.startswith("cache/") for name in ray_bucket.names())
    assert far["trunk"]["clip_forwards"] == 48
    assert far["pooled"] == near["pooled"] == json.loads(ray_bucket.get("runs/a/metrics.json"))["pooled"]
    folds = pq.read_table(pa.BufferReader(ray_bucket.get("runs/a/folds.parquet")))
    same = ["trial", "fold", "loss", "uar", "train_loss"]
    assert folds.select(same) == table(run, "folds").select(same)
