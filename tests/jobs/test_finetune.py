"""`w2v2 finetune`, `evaluate` and `predict`, whole, on small corpora of each task's own shape."""

import csv
import functools
import json
import logging
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import mean_squared_error, recall_score, roc_auc_score

from tests.cloud.bigquery import FakeBigQuery, bigquery_environment
from tests.cloud.gcs import FakeGcs
from tests.made.accounting import check_accounts
from tests.made.corpora import clinic_corpus, deam_corpus, labelled_csv
from tests.made.run_tables import frame
from w2v2.config import command_line
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.resources import InferenceResources
from w2v2.data.recording_quality import QUALITY
from w2v2.errors import UserError
from w2v2.jobs import evaluate, finetune, predict
from w2v2.models.model_info import read_card

RECIPES = {
    "classes": {
        "data": {"classes": {}},
        "encoder": {"train": "head"},
        "head": {"widths": [16, 8], "joined": ["energy"]},
        "training": {"class_weights": "balanced", "num_epochs": 2},
    },
    "multi_label": {
        "task": {"kind": "multi_label"},
        "data": {"layout": "clinic"},
        "encoder": {"train": "last", "num_last_layers": 1},
        "training": {"num_epochs": 2},
    },
    "regression": {
        "task": {"kind": "regression", "variance_penalty": 0.05, "correlation_penalty": 0.05},
        "data": {"layout": "deam"},
        "encoder": {"train": "head", "layer": "concat", "layers": [1, 2]},
        "optim": {"schedule": "triangular2"},
        "training": {"num_epochs": 3, "patience_epochs": 2},
    },
}


@pytest.fixture(scope="module", params=RECIPES)
def trained(request, tmp_path_factory, ray_session):
    """A finished run of a recipe's YAML file, of classes on a worker: its kind, config, run directory and metrics."""
    folder = tmp_path_factory.mktemp(request.param)
    make = {
        "classes": labelled_csv,
        "multi_label": functools.partial(clinic_corpus, val=True),
        "regression": deam_corpus,
    }[request.param]
    uri = make(folder / "data")
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPES[request.param]))
    flags = ["--config", str(recipe), "--data.uri", str(uri), "--run", str(folder / "run")]
    flags += ["--cache.uri", str(folder / "cache"), "--data.max_reject_fraction", "0.2"]
    flags += ["--local", str(request.param != "classes").lower()]
    config = command_line.parse(FinetuneConfig, flags)
    return request.param, config, folder / "run", finetune.main(config)


def test_the_run_directory_is_whole_and_no_speaker_is_in_two_splits(trained):
    _, config, run, metrics = trained
    for name in (
        "config.yaml",
        "manifest.parquet",
        "rejects.parquet",
        "predictions.parquet",
        "curves.parquet",
    ):
        assert (run / name).exists(), name
    assert (run / "model" / "w2v2.json").exists() and "report" in (run / "report.html").name
    check_accounts(run)
    clips = frame(run, "manifest")
    assert clips.groupby("speaker")["split"].nunique().max() == 1
    assert metrics["num_clips"] == (clips["split"] == "test").sum() > 0
    assert len(frame(run, "curves")) == metrics["num_epochs"] <= config.training.num_epochs


def test_scores_are_those_of_scikit_learn(trained):
    kind, _, run, metrics = trained
    rows = frame(run, "predictions")
    rows = rows[rows["split"] == "test"]
    pooled = json.loads((run / "metrics.json").read_text())["pooled"]
    assert pooled == metrics["pooled"]
    match kind:
        case "classes":
            present = sorted(set(rows["target"]))
            uar = recall_score(rows["target"], rows["predicted"], average="macro", labels=present)
            assert pooled["uar"] == pytest.approx(uar)
        case "multi_label":
            for name in metrics["names"]:
                labelled = rows[rows[f"target_{name}"].notna()]
                auc = pooled["labels"][name]["auc"]
                if labelled[f"target_{name}"].nunique() < 2:
                    assert auc is None
                else:
                    assert auc == pytest.approx(
                        roc_auc_score(labelled[f"target_{name}"], labelled[f"prob_{name}"])
                    )
        case "regression":
            for name in metrics["names"]:
                expected = mean_squared_error(rows[f"target_{name}"], rows[f"pred_{name}"]) ** 0.5
                assert pooled["targets"][name]["rmse"] == pytest.approx(expected)


def test_evaluating_the_saved_model_on_the_test_clips_gives_the_same_predictions(trained, tmp_path):
    kind, config, run, _ = trained
    data = replace(config.data, max_reject_fraction=0.2)
    metrics = evaluate.main(EvaluateConfig(model=str(run / "model"), run=str(tmp_path), data=data))
    config_again = EvaluateConfig(model=str(run / "model"), run=str(tmp_path), data=data, plan=True)
    assert evaluate.main(config_again)["num_done"] >= metrics["clips"]["used"]
    before, now = (frame(place, "predictions").set_index("clip_id") for place in (run, tmp_path))
    prefix = "pred_" if kind == "regression" else "prob_"
    columns = [name for name in before.columns if name.startswith(prefix)]
    assert columns
    np.testing.assert_allclose(now.loc[before.index, columns], before[columns], atol=1e-5)
    parts = ["train", "val"] if config.training.patience_epochs else ["train"]  # val chose the epoch
    clips = frame(run, "manifest")
    clips = clips[clips["split"].isin(parts)]
    assert (metrics["speakers_seen_in_training"], metrics["clips_seen_in_training"]) == (
        clips["speaker"].nunique(),
        len(clips),
    )
    assert "TRAINED THIS MODEL" in metrics["computed_on"]
    assert read_card(str(run / "model"))["pooled"] == json.loads((run / "metrics.json").read_text())["pooled"]
    qualities = frame(tmp_path, "manifest").set_index("clip_id")[list(QUALITY)]
    assert qualities.notna().all(axis=None)
    assert qualities.loc[before.index].equals(
        frame(run, "manifest").set_index("clip_id").loc[before.index, list(QUALITY)]
    )
    page = (tmp_path / "report.html").read_text()
    assert "Recording quality" in page
    assert "have the name of one seen in training: if they are the same people" in page
    assert f"{len(clips)} of the clips were seen in training, by their samples" in page
    assert "This run used random weights" in page  # of the encoder that the model was made from


def test_what_val_chose_is_kept_with_the_model_and_used_where_it_is_asked_for(trained, tmp_path):
    kind, config, run, metrics = trained
    card, rows = read_card(str(run / "model")), frame(run, "predictions").set_index("clip_id")
    data = replace(config.data, max_reject_fraction=0.5)
    base = PredictConfig(model=str(run / "model"), run=str(tmp_path / "run"), data=data)
    for field, wanted in (("calibrated", "classes"), ("decisions", "multi_label")):
        if kind != wanted:
            with pytest.raises(
                UserError, match=rf"^{field} is true, and the model .* \(it is one of {kind}\)"
            ):
                predict.main(replace(base, **{field: True}))
    if kind == "regression":
        assert not {"temperature", "thresholds"} & card.keys()
        return
    predict.main(replace(base, calibrated=kind == "classes", decisions=kind == "multi_label"))
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        by_name = {row["clip_id"]: row for row in csv.DictReader(file)}
    for clip_id, row in rows.iterrows():
        predicted = by_name[clip_id]
        if kind == "classes":
            # Rows of its own next to those without temperature, where a table keeps both.
            assert (
                predicted["model"]
                == f"{metrics['model']['digest']}-temperature-{card['temperature']['value']:.6g}"
            )
            powers = row[[f"prob_{name}" for name in metrics["names"]]].to_numpy(float)
            powers = powers ** (1 / card["temperature"]["value"])
            calibrated = [float(predicted[f"prob_{name}"]) for name in metrics["names"]]
            np.testing.assert_allclose(calibrated, powers / powers.sum(), atol=1e-4)
        else:
            for name, least in card["thresholds"]["recordings"].items():
                cell, probability = predicted[f"present_{name}"], row[f"prob_{name}"]
                if least is None or abs(probability - least) > 1e-5:
                    assert cell == ("" if least is None else str(int(probability >= least)))
    if kind == "classes":
        assert metrics["calibration"]["temperature"]["all"] == card["temperature"]["value"]
        assert "the val split" in card["temperature"]["fitted_on"]
    else:
        assert metrics["decisions"]["chosen_on"] == card["thresholds"]["chosen_on"]
        decided = {name for name, least in card["thresholds"]["recordings"].items() if least is not None}
        assert decided == metrics["decisions"]["labels"].keys()


def test_predictions_of_windows_reach_csv_and_duckdb_alike(trained, tmp_path):
    _, config, run, _ = trained
    if config.data.layout == "clinic":
        data = replace(config.data, layout="files", max_reject_fraction=0.5)
    else:
        data = replace(config.data, max_reject_fraction=0.5)
    uri = f"duckdb://{tmp_path}/p.db?table=said"
    base = PredictConfig(model=str(run / "model"), run=str(tmp_path / "run"), data=data, window_s=0.7)
    counts = predict.main(base)
    assert check_accounts(base.run)["used"] == counts["num_clips"] - counts["rejected"]
    predict.main(replace(base, table=uri, run=str(tmp_path / "other")))
    predict.main(replace(base, table=uri, run=str(tmp_path / "other")))
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with duckdb.connect(str(tmp_path / "p.db"), read_only=True) as db:
        stored = db.execute("SELECT * FROM said").fetch_df().set_index(["clip_id", "start_s"])
    assert len(rows) == len(stored) == counts["num_rows"] > counts["num_clips"] - counts["rejected"]
    column = next(name for name in stored.columns if name.startswith(("prob_", "pred_")))
    for row in rows:
        assert stored.loc[(row["clip_id"], float(row["start_s"])), column] == pytest.approx(
            float(row[column]), abs=1e-6
        )


def test_a_prediction_resumes_from_kept_predictions(trained, tmp_path, caplog):
    _, config, run, _ = trained
    data = replace(config.data, max_reject_fraction=0.5)
    resources = InferenceResources(clips_per_part=3)
    config = PredictConfig(model=str(run / "model"), run=str(tmp_path), data=data, resources=resources)
    counts = predict.main(config)
    whole = (tmp_path / "predictions.csv").read_bytes()
    assert predict.main(replace(config, plan=True))["num_done"] >= counts["num_clips"] - counts["rejected"]
    kept = sorted((tmp_path / "done").glob("*.parquet"))
    rows = [pq.read_metadata(path).num_rows for path in kept]
    for path in (*kept[2:], tmp_path / "predictions.csv"):
        path.unlink()
    kept[1].write_bytes(kept[1].read_bytes()[:-9])  # a damaged one
    caplog.set_level(logging.INFO)
    assert predict.main(config)["num_rows"] == counts["num_rows"]
    assert f"predictions: {rows[0]} of {sum(rows)} clips were done before" in caplog.text
    assert len(list((tmp_path / "done").glob("*.parquet"))) == len(kept)
    assert (tmp_path / "predictions.csv").read_bytes() == whole


def test_the_same_command_again_ends_with_the_same_model(trained):
    _, config, _, metrics = trained
    again = finetune.main(config)
    assert again["model"]["digest"] == metrics["model"]["digest"] and again["pooled"] == metrics["pooled"]
    assert again["trunk"]["clip_forwards"] == 0


def test_predictions_reach_parquet_and_bigquery_alike(trained, tmp_path, monkeypatch):
    _, config, run, _ = trained
    data = replace(config.data, max_reject_fraction=0.5)
    base = PredictConfig(model=str(run / "model"), run=str(tmp_path / "run"), data=data)
    predict.main(replace(base, table=str(tmp_path / "said")))
    files = pa.concat_tables(pq.read_table(path) for path in (tmp_path / "said").glob("*.parquet"))
    with FakeGcs("speech") as gcs, FakeBigQuery(gcs) as bigquery:
        bigquery.create_dataset("my-project", "speech")
        for name, value in bigquery_environment(bigquery).items():
            monkeypatch.setenv(name, value)
        counts = predict.main(replace(base, table="bq://my-project.speech.said"))
        stored = bigquery.sql('FROM "my-project"."speech"."said"')
    assert len(files) == len(stored) == counts["num_rows"] > 0
    names = [name for name in files.column_names if name != "created_at"]
    by_clip = [("clip_id", "ascending"), ("start_s", "ascending")]
    assert (
        files.sort_by(by_clip).select(names).to_pylist() == stored.sort_by(by_clip).select(names).to_pylist()
    )
