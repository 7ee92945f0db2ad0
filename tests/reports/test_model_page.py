"""Run directories of one model for each kind of task go in; the pages are read back."""

import csv
import html
import re

import pyarrow.parquet as pq
import pytest

from tests.made.model_run import CLASSES, LABELS, ORIGINAL, write_task_run
from tests.made.pictures import blank_pictures
from tests.made.rejects import HOSTILE
from tests.reports.model_pages import metrics_of, text_of
from w2v2.evaluation.scores import columns
from w2v2.reports.model_figures import loss_text
from w2v2.reports.model_page import write_model_report
from w2v2.reports.run_files import read_model_run
from w2v2.storage.files import StorageError

FIGURES = {
    "classes": {"confusion", "before", "speakers", "learning_curves"},
    "multi_label": {"auc", "roc", "learning_curves"},
    "regression": {"scatter_0", "scatter_1", "plane", "quadrants", "learning_curves"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("runs")
    runs = {kind: write_task_run(base / f"a {kind}", kind) for kind in FIGURES}
    for folder in runs.values():
        assert write_model_report(str(folder)) == str(folder / "report.html")
    return runs


@pytest.fixture(scope="module")
def texts(folders):
    return {kind: text_of(folder) for kind, folder in folders.items()}


def percent(fraction):
    return f"{100 * fraction:.1f}%"


def span(interval, form):
    return " to ".join(map(form, interval))


def three(value):
    return f"{value:.3f}"


@pytest.mark.parametrize("kind", FIGURES)
def test_every_figure_is_on_the_page_and_in_plots(kind, folders):
    page = (folders[kind] / "report.html").read_text()
    names = {path.stem for path in (folders[kind] / "plots").iterdir()}
    assert names == set(re.findall(r'<figure id="(\w+)"', page)) == FIGURES[kind]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folders[kind] / "plots").iterdir())


@pytest.mark.parametrize("kind", FIGURES)
def test_words_from_data_are_never_markup_and_nothing_is_fetched(kind, folders):
    page = (folders[kind] / "report.html").read_text()
    assert HOSTILE not in page and html.escape(HOSTILE) in page and "strained <b>" not in page
    assert "<script" not in page and "default-src 'none'" in page
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert all(page.count(f'id="{name}"') == 1 for name in used)


@pytest.mark.parametrize("kind", FIGURES)
def test_page_says_data_rejects_settings_and_how_to_run_again(kind, texts, folders):
    text = texts[kind]
    assert "Computed on the test split, once: 77 clips of 11 speakers." in text
    for fact in ("clips scored 77", "speakers scored 11", "clips trained on 84", "epochs 9"):
        assert fact in text
    assert "number of train validation test clips 84 21 77 speakers 12 3 11" in text
    assert f"not audio 1 {HOSTILE} (not audio: no header)" in text and "too short 1 x.wav" in text
    assert "encoder digest 9f3a1c" in text and "version of torch 2.14.0" in text and "seed 7" in text
    assert f"w2v2 finetune --config '{folders[kind]}/config.yaml'" in text
    assert "The weights of epoch 7 were kept." in text and "validation loss is lowest in epoch" in text
    assert "Speaker-independent: no speaker is in two splits." in text


def test_classes_have_scores_with_intervals_and_name_the_class_never_predicted(texts, folders):
    text, pooled = texts["classes"], metrics_of(folders["classes"])["pooled"]
    between = span(pooled["intervals"]["uar"], percent)
    assert f"{percent(pooled['uar'])} UAR; 95% interval {between}; chance 33.3%" in text
    for metric, name in {"accuracy": "accuracy", "macro_f1": "macro F1"}.items():
        assert f"{name} {percent(pooled[metric])} ({span(pooled['intervals'][metric], percent)})" in text
    assert pooled["never_predicted"] == ["neutral"] and "Never predicted: neutral." in text
    with (folders["classes"] / "tables" / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == CLASSES
    assert [float(row["recall"]) for row in rows] == list(pooled["recall"].values())
    assert [int(row["clips"]) for row in rows] == [sum(line) for line in pooled["confusion"]]
    assert "cross-entropy (nats)" in text and "Worst speaker: s" in text


def test_scores_before_remapping_are_next_to_those_after(texts, folders):
    metrics = metrics_of(folders["classes"])
    for which, num_classes, scores in (
        ("before", 5, metrics["before_remapping"]),
        ("after", 3, metrics["pooled"]),
    ):
        uar = f"{percent(scores['uar'])} ({span(scores['intervals']['uar'], percent)})"
        assert f"{which} {num_classes} {uar}" in texts["classes"]
    never = ", ".join(name for name in ORIGINAL if name in metrics["before_remapping"]["never_predicted"])
    assert never and f"%) {never} " in texts["classes"]


def test_labels_have_auc_with_intervals_and_undefined_ones_a_reason(texts, folders):
    text, pooled = texts["multi_label"], metrics_of(folders["multi_label"])["pooled"]
    for name in LABELS[:3]:
        row, within = pooled["labels"][name], pooled["intervals"]["labels"][name]["auc"]
        counts = " ".join(str(row[f"num_{count}"]) for count in ("positive", "negative", "missing"))
        assert (
            f"{name} {three(row['auc'])} ({span(within, three)}) {three(row['average_precision'])} {counts}"
            in text
        )
    for name in ("macro", "weighted"):
        key = f"{name}_auc"
        assert f"{name} {three(pooled[key])} ({span(pooled['intervals'][key], three)})" in text
    assert "tremor undefined undefined 0 77 0" in text
    assert "Undefined: tremor: none of 77 labelled clips is positive." in text
    assert "2 of 8 checks ask for care:" in text and "tremor 0 of 84 0 of 21 0 of 77" in text


def test_values_have_all_scores_with_intervals_and_quadrants(texts, folders):
    text, metrics = texts["regression"], metrics_of(folders["regression"])
    pooled = metrics["pooled"]
    for name, row in pooled["targets"].items():
        within = pooled["intervals"]["targets"][name]
        cells = [f"{three(row[m])} ({span(within[m], three)})" for m in ("rmse", "r2", "pearson", "ccc")]
        assert f"{name} {row['num_clips']} {' '.join(cells)}" in text
    assert f"{three(pooled['mean']['ccc'])} CCC, mean of valence, arousal" in text
    quadrants = metrics["quadrants"]
    assert "Quadrants around valence 5, arousal 4.9" in text
    assert f"Q2 low valence, high arousal {sum(quadrants['confusion'][1])}" in text
    within = span(quadrants["intervals"]["uar"], percent)
    assert f"Of 76 clips, with 95% intervals: UAR {percent(quadrants['uar'])} ({within})" in text
    assert "MSE by epoch" in text and "Training is with its penalties, validation without." in text


def test_split_table_has_mean_and_deviation_of_each_target(texts, folders):
    clips = pq.read_table(folders["regression"] / "manifest.parquet")
    train = [split == "train" for split in clips["split"].to_pylist()]
    values = columns(clips, "target", ["valence"])[train]
    assert f"valence {values.mean():.3g} \u00b1 {values.std():.2g}" in texts["regression"]


def test_only_the_test_split_of_a_fine_tuning_is_scored(folders):
    run = read_model_run(str(folders["classes"]))
    assert set(run.predictions["split"].to_pylist()) == {"test"}
    assert pq.read_table(folders["classes"] / "predictions.parquet").num_rows == 98


def test_evaluation_without_curves_has_no_training_section(tmp_path, monkeypatch):
    blank_pictures(monkeypatch)

    def change(metrics):
        metrics |= {"job": "evaluate", "num_clips": 98}
        del metrics["encoder"], metrics["best_epoch"]

    folder = write_task_run(tmp_path / "run", "multi_label", change=change, with_curves=False)
    write_model_report(str(folder))
    text = text_of(folder)
    assert "Training" not in text and "w2v2 evaluate --config" in text and "4 labels on corpus:" in text


def test_names_of_the_losses(folders):
    run = read_model_run(str(folders["regression"]))
    assert loss_text(run)[0] == "MSE"
    run.config["task"] = {"loss": "ccc"}
    assert loss_text(run) == (
        "loss",
        "Training: 1 - CCC and penalties; validation: mean squared error.",
    )


def test_where_the_test_split_chose_the_settings_the_estimate_is_on_top(tmp_path, monkeypatch):
    blank_pictures(monkeypatch)
    score = {"value": 0.41, "low": 0.33, "high": 0.49, "undefined": ""}
    estimate = {"name": "BBC-CV, single models", "how": "", "metric": "uar", "metrics": {"uar": score}}
    folder = write_task_run(
        tmp_path / "run", "classes", change=lambda metrics: metrics.update(estimate=estimate)
    )
    write_model_report(str(folder))
    text, uar = text_of(folder), percent(metrics_of(folder)["pooled"]["uar"])
    first = "41.0% on new speakers: UAR, BBC-CV, single models; 95% interval 33.0% to 49.0%; chance 33.3%"
    assert first in text and f"{uar} UAR of the test split, which chose the settings; 95% interval" in text
    assert text.index(first) < text.index(f"{uar} UAR of the test split")
    assert (
        "On new speakers it is estimated to reach UAR 41.0% (95% interval 33.0% to 49.0%) by BBC-CV" in text
    )
    assert "UAR 41.0% (BBC-CV, single models)" in (tmp_path / "index.html").read_text()


def test_the_result_is_a_sentence_to_paste(texts, folders):
    pooled = metrics_of(folders["classes"])["pooled"]
    uar, within = percent(pooled["uar"]), span(pooled["intervals"]["uar"], percent)
    assert (
        f"On corpus (77 clips of 11 speakers), facebook/wav2vec2-base reached UAR {uar} (95% interval {within}), "
        "chance 33.3%, computed on the test split, once: 77 clips of 11 speakers."
    ) in texts["classes"]


def test_decisions_and_patients_are_on_the_page(folders, texts):
    text, metrics = texts["multi_label"], metrics_of(folders["multi_label"])
    decided = metrics["decisions"]["labels"]
    assert {"breathy", "strained <b>"} <= decided.keys() and metrics["decisions"]["without"][-1] == "tremor"
    for row in decided.values():
        for rate in ("sensitivity", "specificity"):
            assert percent(row[rate]) in text
    assert "on the val split: 21 clips of 3 speakers, where the model was trained" in text
    assert "Without a threshold, as the val split does not separate them: " in text
    assert "The 11 patients, each with the mean of the probabilities of the recordings" in text
    assert (
        "patients have recordings with and without breathy and are left out of its scores by patient: s15, s16,"
        in text
    )
    assert (folders["multi_label"] / "tables" / "decisions.csv").exists()


def test_a_model_without_thresholds_says_so(tmp_path, monkeypatch):
    blank_pictures(monkeypatch)

    def change(metrics):
        metrics["decisions"] |= {"chosen_on": "", "labels": {}}

    folder = write_task_run(tmp_path / "run", "multi_label", change=change)
    write_model_report(str(folder))
    assert "The model keeps no threshold: it was trained without a val split" in text_of(folder)


@pytest.mark.parametrize(("kind", "prefix"), [("multi_label", "prob"), ("regression", "pred")])
def test_largest_errors_come_first_with_their_recordings(kind, prefix, texts, folders):
    run = read_model_run(str(folders[kind]))
    errors = [
        (abs(row[f"{prefix}_{name}"] - row[f"target_{name}"]), row["clip_id"], name)
        for row in run.predictions.to_pylist()
        for name in run.metrics["names"]
        if row[f"target_{name}"] is not None
    ]
    _, clip_id, name = max(errors)
    words = texts[kind][texts[kind].index("The largest errors") :]
    assert re.search(rf"recording {clip_id} s\d+ {re.escape(name)} [\d.]+ [\d.]+ gs://b/{clip_id}", words)


def test_missing_table_is_named(tmp_path):
    folder = write_task_run(tmp_path / "run", "classes")
    (folder / "rejects.parquet").unlink()
    with pytest.raises(StorageError, match=r"rejects\.parquet"):
        write_model_report(str(folder))
