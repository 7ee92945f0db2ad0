"""A complete run directory of 24 speakers, 6 folds, 8 classes, 12 trials goes in; the page is read back."""

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from tests.made.pages import read_page, visible_text
from tests.made.pictures import no_pictures
from tests.made.rejects import HOSTILE
from tests.made.tune_run import CLASSES, SPEAKERS, params_of, without_estimate, write_run
from w2v2.reports import tune_page
from w2v2.reports.blocks import Section
from w2v2.reports.drawing import page_html
from w2v2.reports.plots import scores as plots
from w2v2.reports.run_files import TuneRun, read_tune_run
from w2v2.reports.tune_sections import trials

ESTIMATE = {
    "name": "BBC-CV",
    "metric": "uar",
    "metrics": {
        "uar": {"value": 0.512, "low": 0.464, "high": 0.560, "undefined": None},
        "accuracy": {"value": 0.503, "low": 0.45, "high": 0.551, "undefined": None},
        "macro_f1": {"value": None, "low": None, "high": None, "undefined": "3 speakers"},
    },
    "optimism": {"uar": 0.018, "accuracy": 0.01, "macro_f1": None},
    "how": "bootstrap bias corrected cross-validation over 6 folds",
    "interval": "95 %: Student's t times the standard error over speakers",
}


def with_estimate(scores: dict[str, Any]) -> None:
    scores["estimate"] = ESTIMATE
    scores["made"] = {
        "date": "2026-05-04T10:11:12+00:00", "commit": "0123456789ab-dirty", "cpu": "Xeon", "num_cores": 8,
        "memory_gb": 16.0, "gpus": ["NVIDIA T4"], "system": "Linux 6.1, Python 3.11.2",
    }  # fmt: skip


@pytest.fixture(scope="module")
def old_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_run(tmp_path_factory.mktemp("run") / "old", change=without_estimate)
    with no_pictures():
        return visible_text(Path(tune_page.write_tune_report(str(folder))).read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("run") / "a b", change=with_estimate)
    assert tune_page.write_tune_report(str(folder)) == str(folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> TuneRun:
    return read_tune_run(str(folder))


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def text(html: str) -> str:
    return visible_text(html)


def _percent(fraction: float) -> str:
    return f"{round(1000 * fraction) / 10:.1f}%"


def test_headline_is_the_estimate_with_interval_chance_and_sizes(run: TuneRun, text: str) -> None:
    best, (low, high) = run.metrics["pooled"]["uar"], run.metrics["pooled"]["intervals"]["uar"]
    first = "51.2% UAR, BBC-CV; 95% interval 46.4% to 56.0%; chance 12.5%"
    second = f"The best of 12 trials (trial 3) has UAR {_percent(best)} (95% interval {_percent(low)} to {_percent(high)})"
    assert f"{first} {second}" in text
    assert (
        ", +1.8 points from the estimate: an optimistic number, as the folds that score it also chose it."
        in text
    )
    assert "BBC-CV: bootstrap bias corrected cross-validation over 6 folds. 95 %: Student's t" in text
    # dt comes after dd on screen, before it in the source.
    for fact in ("clips 1440", "speakers 24", "folds 6", "classes 8", "trials 12", "of audio 79.1 min"):
        assert fact in text


def test_the_result_is_a_sentence_to_paste(text: str) -> None:
    assert (
        "On RAVDESS (1440 clips, 24 speakers, 8 classes), facebook/wav2vec2-base reached UAR 51.2% (95% interval "
        "46.4% to 56.0%), chance 12.5%, in speaker-independent cross-validation over 6 folds, estimated by BBC-CV "
        "from 8 complete of 12 trials; accuracy 50.3% (95% interval 45.0% to 55.1%) and macro F1 undefined (95% "
        "interval undefined (3 speakers))."
    ) in text


def test_title_and_line_above_it_say_what_was_run_on_what_and_when(html: str, folder: Path) -> None:
    assert "<h1>UAR on RAVDESS, over speaker folds: facebook/wav2vec2-base</h1>" in html
    assert f'<p class="kicker">w2v2 tune_folds, 2026-05-04, in {folder}</p>' in html


def test_run_of_before_begins_with_the_score_selected_on_the_other_folds(run: TuneRun, old_text: str) -> None:
    before, after = run.metrics["pooled"]["uar"], run.metrics["selection"]["nested"]
    first = (
        f"{_percent(after)} UAR, selected on the other folds {_percent(before)} UAR, best trial; 95% interval"
    )
    assert first in old_text
    assert f"Selected on the other folds, {_percent(before)} becomes {_percent(after)}, not below" in old_text
    assert (
        f"an optimistic score of the best of 8 complete of 12 trials (selected on the other folds: {_percent(after)})"
        in old_text
    )
    assert "1 of 9 checks ask for care: Never predicted: calm." in old_text


def test_folds_and_speakers_name_the_worst_and_the_best(run: TuneRun, text: str) -> None:
    scores = {name: row["uar"] for name, row in run.metrics["by_speaker"].items()}
    worst, best = min(scores, key=scores.__getitem__), max(scores, key=scores.__getitem__)
    assert f"Worst speaker: {worst} ({_percent(scores[worst])})" in text
    assert f"Best speaker: {best} ({_percent(scores[best])})" in text
    for fold, score in enumerate(run.metrics["folds"]["uar"]["values"]):
        assert re.search(rf" {fold} {_percent(score)} [\d.]+% [\d.]+% 240 {SPEAKERS[4 * fold]}, ", text)


def test_scores_of_each_class_and_the_class_never_predicted(folder: Path, run: TuneRun, text: str) -> None:
    target, predicted = (run.predictions[name].to_pylist() for name in ("target", "predicted"))
    scores = precision_recall_fscore_support(target, predicted, labels=CLASSES, zero_division=np.nan)
    with (folder / "tables" / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == CLASSES
    for column, expected in zip(("precision", "recall", "F1", "clips"), scores, strict=True):
        values = [float(row[column] or "nan") for row in rows]
        assert values == pytest.approx(expected, nan_ok=True)
    assert all(0 <= float(row["recall low"]) < float(row["recall"]) for row in rows if row["class"] != "calm")
    assert run.metrics["pooled"]["never_predicted"] == ["calm"]
    assert "1 of 8 checks ask for care: Never predicted: calm." in text


def test_confusion_is_in_counts_and_in_fractions_of_the_target_class(folder: Path, run: TuneRun) -> None:
    for name, normalize in (("confusion", None), ("confusion_percent", "true")):
        with (folder / "tables" / f"{name}.csv").open() as file:
            head, *rows = list(csv.reader(file))
        target, predicted = (run.predictions[column].to_pylist() for column in ("target", "predicted"))
        expected = confusion_matrix(target, predicted, labels=CLASSES, normalize=normalize)
        assert head == ["target", *CLASSES] and [row[0] for row in rows] == CLASSES
        np.testing.assert_allclose([[float(cell) for cell in row[1:]] for row in rows], expected)


def test_counts_of_the_confusion_matrix_are_in_the_figure(run: TuneRun, html: str) -> None:
    start = html.index('<figure id="confusion">')
    words = re.findall(r">\s*(\d+)\s*</text>", html[start : html.index("</figure>", start)])
    assert [int(word) for word in words] == [n for line in run.metrics["pooled"]["confusion"] for n in line]


def test_surest_mistakes_are_the_wrong_predictions_of_highest_probability(run: TuneRun, text: str) -> None:
    wrong = [row for row in run.predictions.to_pylist() if row["target"] != row["predicted"]]
    surest = max(wrong, key=lambda row: row[f"prob_{row['predicted']}"])
    row = [surest[name] for name in ("clip_id", "speaker", "target", "predicted")]
    probability = surest[f"prob_{surest['predicted']}"]
    uri = f"/data/{surest['clip_id'].removeprefix('Actor_')}"
    assert f"{' '.join(row)} {_percent(probability)} {uri}" in text


def test_search_counts_trials_by_state_and_what_pruning_saved(text: str) -> None:
    assert "12 trials: 8 complete, 3 pruned, 1 failed." in text
    # Trials 5, 8 and 10 ran 3, 3 and 2 of their 6 folds.
    assert "Pruning saved 10 of 72 folds" in text


def test_trials_are_listed_best_first_and_failures_with_their_error(run: TuneRun, text: str) -> None:
    for row in run.trials.to_pylist():
        if row["state"] == "COMPLETE":
            score = f"{_percent(row['uar_mean'])} \u00b1 {100 * row['uar_std']:.1f}"
            assert f" {row['trial']} complete {score} " in text
    complete = re.findall(r" complete ([\d.]+)% \u00b1", text)
    assert [float(score) for score in complete] == sorted((float(score) for score in complete), reverse=True)
    assert "6 fail undefined undefined undefined 0 undefined" in text
    assert "6 CUDA out of memory & <b>more</b>" in text


def test_best_hyperparameters_are_shown_with_the_range_searched(text: str) -> None:
    assert f"optim.learning_rate {params_of(3)['optim.learning_rate']:.3g} 1e-05 to 0.01, log" in text
    assert f"optim.schedule {params_of(3)['optim.schedule']} linear, cosine" in text


@pytest.mark.parametrize(
    ("value", "is_edge"), [(1.05e-5, True), (9.9e-3, True), (3e-4, False), (1.5e-5, False)]
)
def test_best_value_at_the_edge_of_its_range_is_pointed_out(
    run: TuneRun, value: float, is_edge: bool
) -> None:
    changed = replace(run, metrics=run.metrics | {"params": {"optim.learning_rate": value}})
    assert ("at the edge: search wider" in str(trials(changed))) == is_edge


def test_data_counts_classes_by_fold_and_rejects_by_reason(text: str) -> None:
    assert "neutral 16 16 16 16 16 16 96" in text and "all 240 240 240 240 240 240 1440" in text
    assert "1.32 hours, from gs://b/ravdess. Clips last 3.00 to 3.59 s, median 3.29 s." in text
    assert f"not audio 1 {HOSTILE} (not audio: no header)" in text
    assert "too short 1 Actor_02/x.wav (too short: 0.04 s < audio.min_s 0.1)" in text
    assert "2 of 1442 clips could not be used (0.1%)." in text


def test_provenance_has_the_config_versions_seed_trunk_and_command(folder: Path, text: str) -> None:
    assert "encoder digest 9f3a1c" in text and "version of torch 2.14.0" in text and "seed 7" in text
    assert "1013 passes for 1440 clips; 427 needed none" in text and "20.6 min (1234.5 s)" in text
    assert f"w2v2 tune-folds --config '{folder}/config.yaml'" in text
    assert " ".join((folder / "config.yaml").read_text().split()) in text


def test_how_it_was_made_has_date_commit_device_and_hardware(text: str, old_text: str) -> None:
    assert "date 2026-05-04T10:11:12+00:00 commit 0123456789ab-dirty device of each worker CPU" in text
    assert "started on Xeon, 8 cores, 16 GB, NVIDIA T4 system Linux 6.1, Python 3.11.2" in text
    assert "commit" not in old_text


def test_words_from_data_are_never_markup(html: str) -> None:
    assert HOSTILE not in html and "&lt;script&gt;alert(1)&lt;/script&gt;.wav" in html
    assert "script" not in read_page(html).tags and "b" not in read_page(html).tags


def test_page_needs_no_network_and_forbids_it(html: str) -> None:
    loads = [
        value
        for name, value in read_page(html).attributes
        if name in ("src", "href", "xlink:href", "data", "action")
    ]
    assert loads and all(
        value is not None and value.startswith(("#", "data:", "tables/", "../")) for value in loads
    )
    assert "default-src 'none'" in html and "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_references_inside_figures_are_unique_on_the_page(html: str) -> None:
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    assert used and all(html.count(f'id="{name}"') == 1 for name in used)


def test_every_figure_is_on_the_page_and_in_plots(folder: Path, html: str) -> None:
    names = {path.stem for path in (folder / "plots").iterdir()}
    assert names == set(re.findall(r'<figure id="([a-z_]+)"', html)) and len(names) == 11
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folder / "plots").iterdir())
    assert "prefers-color-scheme: dark" in html and "@media print" in html


def _headline(run: TuneRun) -> str:
    blocks = tune_page.headline(run, {"forest": plots.forest(run.metrics, chance=0.1)})
    return visible_text(page_html("", [Section("", blocks)], kicker=""))


def test_run_without_a_flaw_says_that_all_checks_passed(run: TuneRun) -> None:
    pooled = run.metrics["pooled"] | {"never_predicted": []}
    flawless = replace(run, metrics=run.metrics | {"pooled": pooled})
    assert "All 8 checks passed." in _headline(flawless)


def test_score_of_a_search_for_accuracy(run: TuneRun) -> None:
    accuracy = replace(run, metrics=run.metrics | {"metric": "accuracy"})
    text = _headline(accuracy)
    assert f"50.3% accuracy, BBC-CV; 95% interval 45.0% to 55.1%; chance {_percent(192 / 1440)}" in text
    assert f"(trial 3) has accuracy {_percent(run.metrics['pooled']['accuracy'])}" in text
