"""Two predictions of the same clips side by side: differences, their intervals, refusals, and the page."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import balanced_accuracy_score

from tests.made.pictures import blank_pictures
from tests.made.tune_run import made_estimate, write_run
from w2v2.errors import UserError
from w2v2.evaluation import baseline_comparison, classification
from w2v2.evaluation.bootstrap import difference, drawn, intervals
from w2v2.evaluation.scores import pooled_metrics, scored
from w2v2.reports import tune_page

CLASSES = ["high", "low", "plain"]
NUM_SPEAKERS, CLIPS_EACH = 11, 7


def made(right: float, *, seed: int) -> pa.Table:
    """Predictions of which a part is right; clips, speakers and targets are always the same."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(NUM_SPEAKERS * CLIPS_EACH):
        target = CLASSES[i % 3]
        predicted = target if rng.random() < right else CLASSES[rng.integers(3)]
        clip = {"clip_id": f"{i:03}", "speaker": f"s{i // CLIPS_EACH}", "fold": i // CLIPS_EACH % 4}
        rows.append({**clip, "target": target, "predicted": predicted})
    return pa.Table.from_pylist(rows)


def write_baseline(folder: Path, predictions: pa.Table, *, job: str = "baseline") -> str:
    folder.mkdir()
    pooled = pooled_metrics(predictions, CLASSES, seed=0)
    metrics = {"job": job, "pooled": pooled, "model": {"name": "SVM on mfcc"}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    pq.write_table(predictions, folder / "predictions.parquet")
    return str(folder)


def numbers(table: pa.Table, column: str) -> np.ndarray:
    return np.array([CLASSES.index(name) for name in table[column].to_pylist()])


def test_difference_is_of_scikit_learns_scores_whatever_the_order_of_rows(tmp_path):
    search, other = made(0.8, seed=1), made(0.4, seed=2)
    baseline = baseline_comparison.read_baseline(
        write_baseline(tmp_path / "b", other.take(list(range(76, -1, -1))))
    )
    comparison = baseline_comparison.side_by_side(
        scored(search, "classes", CLASSES), baseline, CLASSES, seed=0
    )
    expected = [
        balanced_accuracy_score(numbers(t, "target"), numbers(t, "predicted")) for t in (search, other)
    ]
    higher = comparison["difference"]["uar"]
    assert higher["value"] == pytest.approx(expected[0] - expected[1])
    assert higher["interval"][0] < higher["value"] < higher["interval"][1]
    assert comparison["name"] == "SVM on mfcc" and comparison["run"] == baseline.uri
    assert comparison["pooled"] == baseline.metrics["pooled"] and set(comparison["difference"]) == set(
        classification.METRICS
    )
    json.dumps(comparison, allow_nan=False)


def test_standard_error_of_the_difference_is_a_bootstrap_over_speakers_of_both():
    search, other = made(0.8, seed=1), made(0.4, seed=2)
    target, speaker = numbers(search, "target"), np.array(search["speaker"].to_pylist())
    predicted, theirs = numbers(search, "predicted"), numbers(other, "predicted")
    both = difference(*(scored(table, "classes", CLASSES) for table in (search, other)))
    names = np.unique(speaker)
    values = []
    for weight in drawn(NUM_SPEAKERS, num_samples=1000, seed=3):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(speaker == n), k) for n, k in zip(names, weight, strict=True)]
        )
        values.append(np.mean(predicted[rows] == target[rows]) - np.mean(theirs[rows] == target[rows]))
    interval = intervals(both, seed=3)["accuracy"]
    assert interval.se_speakers == pytest.approx(np.std(values) * np.sqrt(11 / 10))
    assert interval.se_folds is not None  # both are of the same four folds


def test_equal_predictions_do_not_differ_and_few_speakers_have_no_interval():
    search = made(0.6, seed=1)
    same = intervals(difference(*[scored(search, "classes", CLASSES)] * 2), seed=0)["uar"]
    assert (same.value, same.between) == (0.0, None)
    few = search.slice(0, 4 * CLIPS_EACH)
    both = difference(*(scored(t, "classes", CLASSES) for t in (few, made(0.3, seed=5).slice(0, 28))))
    assert intervals(both, seed=0)["uar"].undefined == "4 speakers"


def test_pairing_narrows_the_interval_where_both_fail_on_the_same_speakers():
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(20), 30)
    hard = rng.random(20)[speaker]
    target = rng.integers(2, size=600)
    draw = rng.random(600)
    first, second = (
        classification.by_speaker(
            target, np.where(draw < hard * ease, target, 1 - target), speaker.astype(str), num_classes=2
        )
        for ease in (1.0, 0.95)
    )
    paired, alone = intervals(difference(first, second), seed=0)["uar"], intervals(first, seed=0)["uar"]
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_the_same_clips_are_passed_and_others_refused(tmp_path):
    predictions = made(0.5, seed=1)
    baseline = baseline_comparison.read_baseline(write_baseline(tmp_path / "b", predictions))
    clips = predictions.rename_columns({"target": "label"})
    baseline_comparison.check_same(baseline, clips.take(list(range(76, -1, -1))))
    fold = pa.array([(f + 1) % 4 if i == 5 else f for i, f in enumerate(clips["fold"].to_pylist())])
    label = pa.array(["low" if i == 3 else name for i, name in enumerate(clips["label"].to_pylist())])
    for changed, message in (
        (
            clips.set_column(2, "fold", fold),
            r"1 of 77 clips here are not the same among its 77 \(such as 005\)",
        ),
        (
            clips.set_column(3, "label", label),
            r"1 of 77 clips here are not the same among its 77 \(such as 003\)",
        ),
        (
            clips.slice(1),
            r"0 of 76 clips here are not the same among its 77 \(such as 000\); run w2v2 baseline with",
        ),
    ):
        with pytest.raises(UserError, match=r"b has other clips, labels or folds: " + message):
            baseline_comparison.check_same(baseline, changed)


def test_what_is_no_finished_baseline_is_reported(tmp_path):
    with pytest.raises(
        UserError, match=r"baseline .*/none is not a finished run of baseline: .*; run w2v2 baseline with"
    ):
        baseline_comparison.read_baseline(str(tmp_path / "none"))
    other = write_baseline(tmp_path / "other", made(0.5, seed=1), job="finetune")
    with pytest.raises(UserError, match=r"baseline .*/other is a run of finetune: give the run"):
        baseline_comparison.read_baseline(other)


def test_the_page_puts_both_side_by_side(tmp_path, monkeypatch):
    blank_pictures(monkeypatch)
    comparison = {
        "run": "/runs/svm",
        "name": "SVM on mfcc, <b>pitch</b>",
        "pooled": {"uar": 0.325, "accuracy": 0.35, "macro_f1": None, "intervals": {"uar": [0.29, 0.36]}},
        "difference": {
            "uar": {"value": 0.2112, "interval": [0.15, 0.271]},
            "accuracy": {"value": -0.01, "interval": None},
            "macro_f1": {"value": None, "interval": None},
        },
    }
    comparison["pooled"]["intervals"] |= {"accuracy": None, "macro_f1": None}

    def add(scores):
        scores.update(baseline=comparison, estimate=made_estimate(scores))

    folder = write_run(tmp_path / "run", change=add)
    page = Path(tune_page.write_tune_report(str(folder))).read_text()
    section = page[page.index("Compared with a baseline") :].partition("</section>")[0]
    for words in (
        "32.5% (29.0% to 36.0%)",
        "35.0%",
        "+21.1 (+15.0 to +27.1)",
        "-1.0",
        "undefined",
        "this search, BBC-CV",
    ):
        assert words in section, words
    assert "<b>" not in section and "/runs/svm" in section and "6 folds and 8 complete trials" in section
    without = Path(tune_page.write_tune_report(str(write_run(tmp_path / "without")))).read_text()
    assert "Compared with a baseline" not in without
