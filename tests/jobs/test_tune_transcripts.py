"""jobs/tune_folds.py on transcripts: error rates over folds of speakers, resumed, compared, and turned into a model's settings."""

from dataclasses import replace

import jiwer
import pyarrow as pa
import pytest
import yaml

from tests.made.corpora import sentences_csv
from tests.made.run_tables import frame
from w2v2.config import command_line
from w2v2.config.compare import CompareConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.text import TextConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data.text import vocabulary_of
from w2v2.errors import UserError
from w2v2.jobs import compare, finetune, tune_folds
from w2v2.models.counterpart import save_tokenizer
from w2v2.search import prepared_search


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A finished search of two trials over three folds: its config, run directory and metrics."""
    folder = tmp_path_factory.mktemp("search")
    uri = sentences_csv(folder / "data", num_speakers=6, num_sentences=4)
    flags = ["--task.kind", "transcript", "--data.uri", str(uri), "--run", str(folder / "run")]
    flags += ["--cache.uri", str(folder / "cache"), "--folds.kind", "grouped", "--folds.num_folds", "3"]
    flags += ["--training.num_epochs", "2", "--search.num_trials", "2", "--search.pruning", "none"]
    flags += ["--search.space", "{optim.learning_rate: {low: 4e-3, high: 4e-2, log: true}}"]
    flags += ["--optim.learning_rate", "8e-3", "--local", "true"]
    config = command_line.parse(TuneFoldsConfig, flags)
    return config, folder / "run", tune_folds.main(config)


def test_every_clip_is_written_once_by_a_model_that_never_had_its_speaker(searched):
    _, run, metrics = searched
    rows, clips = frame(run, "predictions"), frame(run, "manifest")
    assert rows["clip_id"].tolist() == clips["clip_id"].tolist()
    assert clips.groupby("speaker")["fold"].nunique().max() == 1
    assert rows["target"].tolist() == clips["reference"].tolist()
    pooled = metrics["pooled"]
    assert pooled["cer"] == pytest.approx(jiwer.cer(rows["target"].tolist(), rows["predicted"].tolist()))
    assert (metrics["metric"], metrics["kind"]) == ("cer", "transcript")
    trials, folds = frame(run, "trials"), frame(run, "folds")
    assert metrics["trial"] == int(trials.loc[trials["cer_mean"].idxmin(), "trial"])
    means = folds.groupby("trial")["cer"].mean().tolist()
    assert trials["cer_mean"].tolist() == pytest.approx(means)
    assert metrics["estimate"]["name"] == "BBC-CV"
    page = (run / "report.html").read_text()
    for words in (
        "character error rate",
        "Worst sentences",
        "CTC loss per character",
        "writing nothing gives",
    ):
        assert words in page
    assert (run / "plots" / "history.png").exists()


def test_given_again_it_trains_nothing_and_says_the_same(searched):
    config, run, metrics = searched
    before = {path.name: path.stat().st_mtime_ns for path in (run / "ledger").iterdir()}
    again = tune_folds.main(config)
    assert {path.name: path.stat().st_mtime_ns for path in (run / "ledger").iterdir()} == before
    assert again["estimate"] == metrics["estimate"] and again["pooled"] == metrics["pooled"]
    assert again["trunk"]["clip_forwards"] == 0


def test_the_best_settings_train_one_model_and_both_runs_compare_with_themselves(searched, tmp_path):
    config, run, _ = searched
    best = yaml.safe_load((run / "best.yaml").read_text())
    assert best["task"]["kind"] == "transcript"
    assert (run / "best.yaml").read_text().startswith("# cer on new speakers: ")
    flags = [
        "--config",
        str(run / "best.yaml"),
        "--run",
        str(tmp_path / "model"),
        "--training.num_epochs",
        "1",
    ]
    trained = finetune.main(command_line.parse(FinetuneConfig, flags))
    assert trained["kind"] == "transcript" and "NO SCORE OF SPEAKERS UNSEEN" in trained["computed_on"]
    other = replace(config, run=str(tmp_path / "other"), seed=1)
    tune_folds.main(replace(other, search=replace(other.search, num_trials=1)))
    comparison = compare.main(CompareConfig(runs=(str(run), other.run), run=str(tmp_path / "compared")))
    rates = [row["value"] for row in comparison["ranking"]]
    assert rates == sorted(rates) and comparison["metric"] == "cer"
    assert comparison["differences"][0]["cer"]["value"] == pytest.approx(rates[1] - rates[0])
    page = (tmp_path / "compared" / "report.html").read_text()
    assert "is lower than" in page


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_workers_a_trial_give_what_one_gives(tmp_path, ray_session):
    """The loss of a batch is a sum over all characters of all workers, so that shares of other lengths change nothing."""
    uri = sentences_csv(tmp_path / "data", num_speakers=6, num_sentences=4)
    flags = ["--task.kind", "transcript", "--data.uri", str(uri), "--cache.uri", str(tmp_path / "cache")]
    flags += ["--folds.kind", "grouped", "--folds.num_folds", "2", "--training.num_epochs", "4"]
    flags += ["--search.num_trials", "1", "--search.pruning", "none", "--head.dropout", "0"]
    flags += [
        "--search.space",
        "{optim.learning_rate: {low: 4e-3, high: 8e-3, log: true}}",
        "--local",
        "false",
    ]
    curves, folds, texts = [], [], []
    for workers in ("1", "2"):
        run = tmp_path / workers
        config = command_line.parse(
            TuneFoldsConfig, [*flags, "--run", str(run), "--resources.num_workers", workers]
        )
        tune_folds.main(config)
        curves.append(frame(run, "curves").sort_values(["fold", "epoch"])["train_loss"].to_numpy())
        folds.append(frame(run, "folds").sort_values("fold")["cer"].to_numpy())
        texts.append(frame(run, "predictions").sort_values("clip_id"))
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    assert folds[0] == pytest.approx(folds[1], abs=0.02)
    assert (texts[0]["predicted"].to_numpy() == texts[1]["predicted"].to_numpy()).mean() > 0.9


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--search.metric", "accuracy"], "search.metric must be cer or wer for task.kind=transcript"),
        (["--search.metric", "wer", "--text.spaces", "false"], "search.metric=wer needs words"),
        (["--encoder.pooling", "max"], "task.kind=transcript needs every frame, got max"),
        (
            ["--search.space", "{encoder.pooling: {choices: [mean]}}"],
            "encoder.pooling is for task.kind=classes",
        ),
        (["--baseline", "x"], "baseline is for task.kind=classes"),
        (["--training.label_smoothing", "0.1"], "training.label_smoothing are for task.kind=classes"),
        (["--task.kind", "regression"], "task.kind must be classes or transcript in a search"),
        (
            ["--task.kind", "classes", "--search.metric", "cer"],
            "search.metric=cer is for task.kind=transcript",
        ),
        (["--task.kind", "classes", "--text.case", "lower"], r"text.\* is for task.kind=transcript"),
        (["--task.kind", "classes", "--encoder.pooling", "none"], "encoder.pooling=none is for task.kind"),
    ],
)
def test_settings_that_a_search_of_transcripts_cannot_have(flags, message):
    with pytest.raises(UserError, match=message):
        command_line.parse(TuneFoldsConfig, ["--task.kind", "transcript", *flags])


def test_a_ctc_model_that_lacks_the_characters_is_refused(tmp_path):
    save_tokenizer(vocabulary_of(["KIDS AND DOGS"], TextConfig()), tmp_path)
    flags = ["--task.kind", "transcript", "--text.vocab", "model", "--encoder.name", str(tmp_path)]
    config = command_line.parse(TuneFoldsConfig, flags)
    clips = pa.table({"reference": ["kid", "DOGS"]})
    with pytest.raises(
        UserError, match=r"3 of 7 training characters are not in the model's vocabulary: 'd' U"
    ):
        prepared_search.refuse_unknown_characters(config, [str(tmp_path)], clips)
    prepared_search.refuse_unknown_characters(config, [str(tmp_path)], clips.slice(1))
