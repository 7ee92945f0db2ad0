"""Run directories of several jobs go in; a comparison, its page and one-sentence refusals come out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import balanced_accuracy_score

from w2v2.config import command_line
from w2v2.config.compare import CompareConfig
from w2v2.errors import UserError
from w2v2.jobs import compare
from w2v2.search.estimate import search_scored
from w2v2.search.fold_store import FoldStore
from w2v2.search.summary import predictions_table
from w2v2.storage import run_directory
from w2v2.training.fold_result import FoldScore

CLASSES = ["a", "b", "c"]
NUM_FOLDS, NUM_SPEAKERS, CLIPS_EACH = 6, 12, 15
SPEAKERS = [f"{s:02}" for s in range(NUM_SPEAKERS)]
CLIPS = pa.table(
    {
        "clip_id": [f"{s}/{i}" for s in SPEAKERS for i in range(CLIPS_EACH)],
        "speaker": [s for s in SPEAKERS for _ in range(CLIPS_EACH)],
        "fold": [int(s) // 2 for s in SPEAKERS for _ in range(CLIPS_EACH)],
        "label": [CLASSES[i % 3] for _ in SPEAKERS for i in range(CLIPS_EACH)],
    }
)
TARGET = np.array([CLASSES.index(label) for label in CLIPS["label"].to_pylist()])


def predicted(right, *, seed):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(TARGET)) < right, TARGET, rng.integers(3, size=len(TARGET)))


def write_baseline(folder: Path, right: float, *, seed: int, change=lambda table: table, **metrics) -> str:
    names = [CLASSES[i] for i in predicted(right, seed=seed)]
    columns = {name: CLIPS[name] for name in ("clip_id", "speaker", "fold")}
    table = pa.table(columns | {"target": CLIPS["label"], "predicted": names})
    folder.mkdir()
    pq.write_table(change(table), folder / "predictions.parquet")
    metrics_json = {
        "job": "baseline",
        "kind": "classes",
        "classes": CLASSES,
        "computed_on": "all folds",
    } | metrics
    (folder / "metrics.json").write_text(json.dumps(metrics_json))
    (folder / "config.yaml").write_text("data: {uri: /data/ravdess}")
    return str(folder)


def write_search(folder: Path, rights: list[float]) -> tuple[str, dict]:
    """A search of several complete trials and one that was pruned."""
    scores, fold = {}, CLIPS["fold"].to_numpy()
    for trial, right in enumerate(rights):
        guesses = predicted(right, seed=100 + trial)
        for f in range(NUM_FOLDS):
            rows = np.flatnonzero(fold == f)
            scores[trial, f] = FoldScore(
                fold=f,
                clip_ids=CLIPS["clip_id"].take(rows).to_pylist(),
                targets=TARGET[rows],
                probabilities=np.eye(3)[guesses[rows]],
                loss=1.0,
                num_train=1,
                seconds=1.0,
                curve=[],
            )
            FoldStore(str(folder)).write(trial, scores[trial, f])
    table = predictions_table([scores[0, f] for f in range(NUM_FOLDS)], CLIPS, CLASSES)
    pq.write_table(table, folder / "predictions.parquet")
    states = ["COMPLETE"] * len(rights) + ["PRUNED"]
    pq.write_table(pa.table({"trial": range(len(states)), "state": states}), folder / "trials.parquet")
    metrics_json = {"job": "tune_folds", "classes": CLASSES, "metric": "uar", "computed_on": "out-of-fold"}
    metrics_json |= {"folds": {"uar": {"values": [0.5] * NUM_FOLDS}}}
    (folder / "metrics.json").write_text(json.dumps(metrics_json))
    (folder / "config.yaml").write_text("data: {uri: /data/ravdess}")
    return str(folder), scores


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    search, scores = write_search(folder / "search", [0.7, 0.65, 0.72])
    good = write_baseline(folder / "good", 0.7, seed=1)
    bad = write_baseline(folder / "bad", 0.2, seed=2)
    one_model = write_baseline(
        folder / "other",
        0.7,
        seed=3,
        job="evaluate",
        change=lambda t: t.drop_columns(["fold"]).slice(0).take(list(range(len(t) - 1, -1, -1))),
    )
    config = CompareConfig(runs=(search, good, bad, one_model), run=str(folder / "out"))
    return compare.main(config), scores, folder


def test_scores_are_scikit_learns_and_those_of_the_estimate(compared):
    comparison, scores, _ = compared
    uar = {name: run["scores"]["uar"]["value"] for name, run in comparison["runs"].items()}
    for name, right, seed in (("good", 0.7, 1), ("bad", 0.2, 2), ("other", 0.7, 3)):
        assert uar[name] == pytest.approx(balanced_accuracy_score(TARGET, predicted(right, seed=seed)))
    scored = search_scored(
        scores, [0, 1, 2], clips=CLIPS, classes=CLASSES, metric="uar", num_folds=NUM_FOLDS, seed=0
    )
    assert uar["search"] == pytest.approx(scored.values(np.ones((1, NUM_SPEAKERS)))["uar"][0])
    assert (
        comparison["runs"]["search"]["method"] == "BBC-CV"
        and comparison["runs"]["other"]["method"] == "evaluate"
    )


def test_the_bad_run_is_worse_and_the_others_are_not_distinguished(compared):
    comparison, _, _ = compared
    assert [row["name"] for row in comparison["ranking"]][-1] == "bad"
    assert [row["is_worse"] for row in comparison["ranking"]] == [False, False, False, True]
    assert len(comparison["differences"]) == 6
    last = [row for row in comparison["differences"] if row["other"] == "bad"]
    assert all(row["uar"]["interval"][0] > 0 for row in last)
    assert (
        comparison["wins"]["bad"]["wins"] == 12
        and sum(comparison["wins"]["good" if "good" in comparison["wins"] else "other"].values()) == 12
    )
    assert comparison["speaker_metric"] == "accuracy" and len(comparison["by_speaker"]["bad"]) == NUM_SPEAKERS


def test_the_page_and_the_files_have_it_all(compared):
    comparison, _, folder = compared
    page = (folder / "out" / "report.html").read_text()
    assert run_directory.read_metrics(str(folder / "out")) == comparison | {"warnings": []}
    for words in ("It cannot be distinguished from: ", "BBC-CV", "is higher than", "won", "out-of-fold"):
        assert words in page, words
    assert "<title>UAR of 4 runs on RAVDESS</title>" in page
    best, last = comparison["ranking"][0], comparison["differences"][2]
    low, high = last["uar"]["interval"]
    assert (best["name"], last["other"]) == (last["better"], "bad")
    assert (
        f"On RAVDESS (180 clips, 12 speakers), {best['name']} reached UAR {best['value']:.3f} (95% interval"
        in page
    )
    assert f"than bad by {last['uar']['value']:.3f} (95% interval {low:.3f} to {high:.3f})" in page
    assert (folder / "out" / "tables" / "differences.csv").exists() and (
        folder / "out" / "plots" / "runs.png"
    ).exists()


def test_a_plan_says_what_would_be_compared_and_writes_nothing(compared, caplog):
    comparison, _, folder = compared
    runs = tuple(str(folder / name) for name in ("search", "good", "other"))
    with caplog.at_level("INFO"):
        plan = compare.main(CompareConfig(runs=runs, run=str(folder / "planned"), plan=True))
    methods = {name: comparison["runs"][name]["method"] for name in ("search", "good", "other")}
    assert plan == {"runs": methods, "metric": "uar", "num_clips": len(TARGET), "num_speakers": NUM_SPEAKERS}
    assert f"classes over {len(TARGET)} clips of 12 speakers; ranked by uar" in caplog.text
    assert f"would write in {folder / 'planned'}: config.yaml, metrics.json" in caplog.text
    assert not (folder / "planned").exists()


def test_directories_come_first_on_the_command_line_and_flags_after():
    args = command_line.listed_words(["runs/a", "gs://b/c d", "--metric", "uar"], "runs")
    config = command_line.parse(CompareConfig, args)
    assert config.runs == ("runs/a", "gs://b/c d") and config.metric == "uar"


def test_what_cannot_be_compared_is_refused_in_a_sentence(tmp_path, compared):
    _, _, folder = compared
    good = str(folder / "good")

    def refused(*runs: str, **settings: str) -> str:
        messages = set()
        for plan in (True, False):
            with pytest.raises(UserError) as error:
                compare.main(CompareConfig(runs=runs, run=str(tmp_path / "out"), plan=plan, **settings))
            messages.add(str(error.value))
        assert len(messages) == 1
        return messages.pop()

    assert "at least two runs are compared, got 1" in refused(good)
    assert "good is given twice" in refused(good, good)
    assert "nothing is not a finished run: it has no metrics.json" in refused(good, str(tmp_path / "nothing"))
    predict = write_baseline(tmp_path / "p", 0.5, seed=1, job="predict")
    assert "p is a run of predict with task classes, wanted one of tune_folds, baseline" in refused(
        good, predict
    )
    fewer = write_baseline(tmp_path / "fewer", 0.5, seed=1, change=lambda t: t.slice(1))
    assert (
        "0 of its 179 are not in the other, and 1 of the other's 180 are not in it (such as 00/0)"
        in refused(good, fewer)
    )
    other = write_baseline(
        tmp_path / "labels", 0.5, seed=1, change=lambda t: t.set_column(3, "target", pa.array(["a"] * 180))
    )
    assert "has other clips, speakers or labels than" in refused(good, other)
    assert "metric is 'auc', wanted one of uar, accuracy, macro_f1" in refused(
        good, str(folder / "bad"), metric="auc"
    )
    search, _ = write_search(tmp_path / "search", [0.5, 0.5])
    (tmp_path / "search" / "ledger" / "trial-00001-fold-02.parquet").unlink()
    assert "ledger has no undamaged record of trial 1, fold 2 (1 such records in all)" in refused(
        good, search
    )


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("metrics.json", lambda body: body.replace(b"baseline", b"baselint", 1)),
        ("metrics.json", lambda body: body[:-9]),
        ("predictions.parquet", lambda body: body[:400] + bytes([body[400] ^ 1]) + body[401:]),
        ("config.yaml", lambda body: body + b'"'),
        ("config.yaml", lambda body: b"[1, 2]"),
    ],
)
def test_a_run_that_was_damaged_since_is_refused(tmp_path, compared, name, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(compared[2] / "good", folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    run_directory.write_metrics(str(folder), metrics)  # as jobs write them, sealed
    run_directory.write_table(str(folder), "predictions", pq.read_table(folder / "predictions.parquet"))
    runs = (str(compared[2] / "bad"), str(folder))
    compare.main(CompareConfig(runs=runs, run=str(tmp_path / "out")))
    file = folder / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(
        UserError, match=rf"{name}: damaged: .*; copy the run directory .*damaged again, or give"
    ):
        compare.main(CompareConfig(runs=runs, run=str(tmp_path / "out")))
