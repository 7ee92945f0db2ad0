"""jobs/finetune.py, evaluate.py and predict.py on transcripts, whole."""

import csv
import json
from dataclasses import replace

import duckdb
import jiwer
import pyarrow.parquet as pq
import pytest

from tests import ROOT
from tests.made.corpora import sentences_csv
from w2v2.config import command_line
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.errors import UserError
from w2v2.jobs import evaluate, finetune, predict


@pytest.fixture(scope="module")
def trained(tmp_path_factory, ray_session):
    """A finished run: its config, run directory and metrics; the text has upper case and a full stop."""
    folder = tmp_path_factory.mktemp("transcripts")
    uri = sentences_csv(folder / "data", num_speakers=8, num_sentences=3)
    rows = list(csv.DictReader(uri.open(newline="")))
    rows[0]["text"] = " ".join(["kids"] * 80)  # far more characters than a second has frames
    rows[1]["text"] = "..."
    with uri.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"text": row["text"].upper() + "."} for row in rows)
    flags = ["--task.kind", "transcript", "--data.uri", str(uri), "--run", str(folder / "run")]
    flags += ["--cache.uri", str(folder / "cache"), "--data.max_reject_fraction", "0.1"]
    flags += ["--text.case", "lower", "--text.drop_chars", ".", "--training.num_epochs", "2"]
    config = command_line.parse(FinetuneConfig, flags)
    return config, folder / "run", finetune.main(config)


def table(run, name):
    return pq.read_table(run / f"{name}.parquet").to_pandas()


def test_the_run_directory_has_scores_characters_and_rejects(trained):
    _, run, metrics = trained
    rejects = table(run, "rejects").set_index("clip_id")["reason"]
    assert rejects["000.wav"].startswith("too short for its transcript: ")
    assert rejects["001.wav"] == "no text: '....' is empty once normalised"
    clips = table(run, "manifest")
    assert clips.groupby("speaker")["split"].nunique().max() == 1
    assert all(row["reference"] == row["text"].lower().strip(".") for _, row in clips.iterrows())
    vocabulary = json.loads((run / "vocab.json").read_text())
    train = clips[clips["split"] == "train"]["reference"]
    assert set(vocabulary) == {"<pad>", "|", *set("".join(train)) - {" "}} == set(metrics["names"])
    characters = table(run, "text").set_index("character")
    assert characters.loc["d", "num_train"] == "".join(train).count("d")
    rows = table(run, "predictions")
    test = rows[rows["split"] == "test"]
    references, hypotheses = test["target"].tolist(), test["predicted"].tolist()
    assert metrics["pooled"]["cer"] == pytest.approx(jiwer.cer(references, hypotheses))
    assert metrics["pooled"]["wer"] == pytest.approx(jiwer.wer(references, hypotheses))
    page = (run / "report.html").read_text()
    for words in ("character error rate", "Worst sentences", "CTC loss per character"):
        assert words in page
    assert metrics["text"]["num_seen_sentences"] == 0


def test_evaluating_the_saved_model_gives_the_same_transcripts_and_names_what_was_seen(trained, tmp_path):
    config, run, _ = trained
    data = replace(config.data, max_reject_fraction=0.2)
    metrics = evaluate.main(EvaluateConfig(model=str(run / "model"), run=str(tmp_path), data=data))
    before, now = (table(place, "predictions").set_index("clip_id") for place in (run, tmp_path))
    assert now.loc[before.index, "predicted"].tolist() == before["predicted"].tolist()
    assert now.loc[before.index, "target"].tolist() == before["target"].tolist()
    clips = table(run, "manifest")
    num_train = int((clips["split"] == "train").sum())
    assert (metrics["clips_seen_in_training"], metrics["text"]["num_seen_sentences"]) == (
        num_train,
        num_train,
    )
    assert "TRAINED THIS MODEL" in metrics["computed_on"]
    assert "have a transcript that was seen in training" in (tmp_path / "report.html").read_text()


def test_transcripts_and_words_reach_csv_and_duckdb_alike(trained, tmp_path):
    config, run, _ = trained
    base = PredictConfig(model=str(run / "model"), run=str(tmp_path / "run"), data=config.data, words=True)
    counts = predict.main(base)
    uri = f"duckdb://{tmp_path}/p.db?table=transcripts"
    predict.main(replace(base, table=uri, run=str(tmp_path / "other"), window_s=20.0))
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        rows = {row["clip_id"]: row for row in csv.DictReader(file)}
    with duckdb.connect(str(tmp_path / "p.db"), read_only=True) as db:
        stored = {
            row[0]: row[1:] for row in db.execute("SELECT clip_id, text, words FROM transcripts").fetchall()
        }
    assert len(rows) == len(stored) == counts["num_rows"] == 24
    for name, row in rows.items():
        assert stored[name] == (row["text"], row["words"])  # a clip that fits into a window is one
        words = json.loads(row["words"])
        assert " ".join(word["word"] for word in words) == row["text"]
        assert all(word["start_s"] < word["end_s"] <= float(row["end_s"]) for word in words)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--encoder.pooling", "max"], "task.kind=transcript needs every frame, got max"),
        (["--audio.crop_s", "2"], "audio.crop_s cuts audio but not its transcript"),
        (["--augment.kinds", "[shift]"], "augment.kinds has shift"),
        (["--head.joined", "[mfcc]"], "head.joined has features of whole clips"),
        (["--text.vocab", "model", "--head.widths", "[8]"], "text.vocab=model keeps the output layer"),
        (["--task.kind", "classes", "--text.case", "lower"], r"text.\* is for task.kind=transcript"),
        (
            ["--task.kind", "classes", "--encoder.pooling", "none"],
            "encoder.pooling=none is for task.kind=transcript",
        ),
    ],
)
def test_settings_that_transcripts_cannot_have(flags, message):
    with pytest.raises(UserError, match=message):
        command_line.parse(FinetuneConfig, ["--task.kind", "transcript", *flags])


def test_the_recipe_is_what_the_readme_says_of_it():
    config = command_line.parse(
        FinetuneConfig, ["--config", str(ROOT / "jobs" / "recipes" / "transcript.yaml")]
    )
    assert (config.task.kind, config.data.uri, config.encoder.name) == ("transcript", "demo", "tiny")
