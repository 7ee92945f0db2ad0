"""A complete run directory of 24 speakers, 6 folds, 8 classes, 12 trials goes in; the page is read back."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from w2v2 import metrics, plots, report
from w2v2.storage import StorageError

CLASSES = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
SPEAKERS = [f"{i:02d}" for i in range(1, 25)]
HOSTILE = "<script>alert(1)</script>.wav"
SPACE = {
    "optim.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True, "choices": []},
    "optim.weight_decay": {"low": 1e-4, "high": 0.3, "log": True, "choices": []},
    "optim.beta1": {"low": 0.8, "high": 0.99, "log": False, "choices": []},
    "optim.batch_size": {"low": 0.0, "high": 0.0, "log": False, "choices": [8, 16, 32]},
    "optim.schedule": {"low": 0.0, "high": 0.0, "log": False, "choices": ["linear", "cosine"]},
}
STATES = ["COMPLETE"] * 5 + ["PRUNED", "FAIL", "COMPLETE", "PRUNED", "COMPLETE", "PRUNED", "COMPLETE"]


def _fold_of(speaker: str) -> int:
    return (int(speaker) - 1) // 4


def _clips() -> list[dict[str, Any]]:
    clips = []
    for speaker in SPEAKERS:
        for k in range(60):
            label = CLASSES[0] if k < 4 else CLASSES[1 + (k - 4) // 8]
            clip = {
                "clip_id": f"Actor_{speaker}/{k:02d}.wav",
                "uri": f"/data/{speaker}/{k:02d}.wav",
                "start_s": 0.0,
            }
            clip |= {
                "end_s": math.inf,
                "speaker": speaker,
                "split": "",
                "label": label,
                "fold": _fold_of(speaker),
            }
            clips.append(clip | {"duration_s": 3 + 0.01 * k, "audio_digest": f"{speaker}-{k}"})
    return clips


def _predictions(clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    rows = []
    for clip in clips:
        right = rng.random() < 0.40 + 0.015 * int(clip["speaker"])
        # Nobody ever says 'calm'.
        choices = [name for name in CLASSES if name != "calm"]
        predicted = clip["label"] if right and clip["label"] != "calm" else choices[rng.integers(7)]
        probabilities = rng.dirichlet(np.full(len(CLASSES), 0.6))
        probabilities[::-1].sort()
        order = [predicted, *(name for name in CLASSES if name != predicted)]
        row = {
            "clip_id": clip["clip_id"],
            "speaker": clip["speaker"],
            "fold": clip["fold"],
            "target": clip["label"],
        }
        row |= {"predicted": predicted} | {
            f"prob_{n}": float(p) for n, p in zip(order, probabilities, strict=True)
        }
        rows.append(row)
    return rows


def _metrics_of(predictions: list[dict[str, Any]]) -> dict[str, Any]:
    target = np.array([CLASSES.index(row["target"]) for row in predictions])
    predicted = np.array([CLASSES.index(row["predicted"]) for row in predictions])
    speaker = np.array([row["speaker"] for row in predictions])
    fold = np.array([row["fold"] for row in predictions])

    def scores(rows: np.ndarray) -> dict[str, Any]:
        return metrics.scores(metrics.confusion(target[rows], predicted[rows], len(CLASSES)), CLASSES)

    everything = np.ones(len(target), dtype=bool)
    pooled = scores(everything)
    pooled["intervals"] = metrics.bootstrap_by_speaker(target, predicted, speaker, num_classes=len(CLASSES))
    by_fold = [scores(fold == i) for i in range(6)]
    values = {name: [one[name] for one in by_fold] for name in ("uar", "accuracy", "macro_f1")}
    keep = ("num_clips", "accuracy", "uar")
    return {
        "job": "tune_folds",
        "classes": CLASSES,
        "chance_uar": 0.125,
        "metric": "uar",
        "pooled": pooled,
        "folds": {
            n: {"mean": float(np.mean(v)), "std": float(np.std(v)), "values": v} for n, v in values.items()
        },
        "by_speaker": {name: {k: scores(speaker == name)[k] for k in keep} for name in SPEAKERS},
    }


def _params(trial: int) -> dict[str, Any]:
    rng = np.random.default_rng(trial)
    return {
        "optim.learning_rate": float(10 ** rng.uniform(-5, -2)),
        "optim.weight_decay": float(10 ** rng.uniform(-4, -0.6)),
        "optim.beta1": float(rng.uniform(0.8, 0.99)),
        "optim.batch_size": int(rng.choice([8, 16, 32])),
        "optim.schedule": str(rng.choice(["linear", "cosine"])),
    }


def _trial(
    trial: int, state: str, best: dict[str, Any], best_trial: int
) -> tuple[dict, list[dict], list[dict]]:
    num_done = {"COMPLETE": 6, "PRUNED": 1 + trial % 3, "FAIL": 0, "RUNNING": 1}[state]
    rng = np.random.default_rng(trial)
    # The score follows the learning rate, so importance has something to find.
    loss_of_score = (
        0.0
        if trial == best_trial
        else 0.02 + 0.05 * abs(math.log10(_params(trial)["optim.learning_rate"]) + 2.8)
    )
    folds, curves = [], []
    for fold in range(num_done):
        row = {"trial": trial, "fold": fold, "state": "done"}
        for name, scores in best["folds"].items():
            row[name] = (
                scores["values"][fold] - loss_of_score - (trial != best_trial) * 0.02 * float(rng.random())
            )
        row |= {
            "loss": 1.5,
            "train_loss": 0.4,
            "num_train": 1200,
            "num_held_out": 240,
            "seconds": 31.0 + trial,
        }
        folds.append(row | {"clips_per_s": 900.0})
        for epoch in range(1, 6):
            curve = {
                "trial": trial,
                "fold": fold,
                "epoch": epoch,
                "train_loss": 2.1 * math.exp(-epoch / 3) + 0.05 * fold,
            }
            curves.append(
                curve | {"train_uar": 0.9 - 0.7 * math.exp(-epoch / 2), "learning_rate": 1e-3 / epoch}
            )
    row = {"trial": trial, "state": state} | {f"params_{k}": v for k, v in _params(trial).items()}
    for name in ("uar", "accuracy", "macro_f1"):
        some = [fold[name] for fold in folds]
        row |= {
            f"{name}_mean": float(np.mean(some)) if some else None,
            f"{name}_std": float(np.std(some)) if some else None,
        }
    row |= {"folds_done": num_done, "seconds": sum(fold["seconds"] for fold in folds) if folds else None}
    return row | {"error": "CUDA out of memory & <b>more</b>" if state == "FAIL" else ""}, folds, curves


def write_run(
    folder: Path,
    *,
    states: list[str] = STATES,
    best_trial: int = 3,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Path:
    """A run directory as jobs/tune_folds.py leaves it; change mutates metrics.json before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = _clips()
    predictions = _predictions(clips)
    scores = _metrics_of(predictions)
    trials, folds, curves = [], [], []
    for trial, state in enumerate(states):
        row, some_folds, some_curves = _trial(trial, state, scores, best_trial)
        trials, folds, curves = [*trials, row], [*folds, *some_folds], [*curves, *some_curves]
    rejects = [
        {"clip_id": HOSTILE, "uri": f"gs://b/{HOSTILE}", "reason": "not audio: no header"},
        {"clip_id": "Actor_02/x.wav", "uri": "gs://b/x.wav", "reason": "too short: 0.04 s < audio.min_s 0.1"},
    ]
    scores |= {"trial": best_trial, "params": _params(best_trial)}
    scores["selection"] = {
        "num_trials": len(states),
        "num_complete": states.count("COMPLETE"),
        "num_pruned": states.count("PRUNED"),
        "num_failed": states.count("FAIL"),
        "best": scores["folds"]["uar"]["mean"],
        "nested": scores["folds"]["uar"]["mean"] - 0.0123,
        "note": "the best of 12 trials is an optimistic estimate",
    }
    scores |= {
        "encoder": {
            "name": "facebook/wav2vec2-base",
            "digest": "9f3a1c",
            "train": "head",
            "pooling": "mean",
            "layer": "mix",
        },
        "data": {
            "uri": "gs://b/ravdess",
            "num_clips": 1440,
            "num_rejects": 2,
            "num_speakers": 24,
            "hours": 1.318,
        },
        "trunk": {"clip_forwards": 1013, "num_clips": 1440, "reused": 427},
        "seconds": 1234.5,
        "versions": {"w2v2": "0.1.0", "torch": "2.14.0"},
        "computed_on": "1440 clips of 24 speakers, each when its fold was held out",
    }
    change(scores)
    (folder / "metrics.json").write_text(json.dumps(scores))
    config = {
        "run": str(folder),
        "seed": 7,
        "data": {"uri": "gs://b/ravdess"},
        "search": {"space": SPACE, "metric": "uar"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    tables = {
        "trials": trials,
        "folds": folds,
        "curves": curves,
        "predictions": predictions,
        "manifest": clips,
    }
    for name, rows in (tables | {"rejects": rejects}).items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


class _Reader(HTMLParser):
    """Visible text, tag names and every attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._hidden = tag in ("style", "title")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def _read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    return reader


def _text(html: str) -> str:
    return " ".join(" ".join(_read(html).words).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("run") / "a b")
    assert report.write_tune_report(str(folder)) == str(folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> report.TuneRun:
    return report.read_tune_run(str(folder))


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def text(html: str) -> str:
    return _text(html)


def _percent(fraction: float) -> str:
    return f"{round(1000 * fraction) / 10:.1f}%"


def test_headline_is_the_pooled_score_with_interval_chance_and_sizes(run: report.TuneRun, text: str) -> None:
    low, high = run.metrics["pooled"]["intervals"]["uar"]
    score = _percent(run.metrics["pooled"]["uar"])
    assert f"{score} UAR, best trial; 95% interval {_percent(low)} to {_percent(high)}; chance 12.5%" in text
    # dt stands after dd on screen, before it in the source.
    for fact in ("clips 1440", "speakers 24", "folds 6", "classes 8", "trials 12", "of audio 79.1 min"):
        assert fact in text


def test_best_trial_is_called_optimistic_beside_the_score_selected_on_the_other_folds(
    run: report.TuneRun, text: str
) -> None:
    assert f"{_percent(run.metrics['selection']['nested'])} UAR, selected on the other folds" in text
    assert "best of 12 trials (trial 3" in text and "is an optimistic estimate" in text
    before, after = run.metrics["pooled"]["uar"], run.metrics["selection"]["nested"]
    assert f"Selected on the other folds, {_percent(before)} becomes {_percent(after)}, not below" in text


def test_folds_and_speakers_name_the_worst_and_the_best(run: report.TuneRun, text: str) -> None:
    scores = {name: row["uar"] for name, row in run.metrics["by_speaker"].items()}
    worst, best = min(scores, key=scores.__getitem__), max(scores, key=scores.__getitem__)
    assert f"Worst speaker: {worst} ({_percent(scores[worst])})" in text
    assert f"Best speaker: {best} ({_percent(scores[best])})" in text
    for fold, score in enumerate(run.metrics["folds"]["uar"]["values"]):
        assert re.search(rf" {fold} {_percent(score)} [\d.]+% [\d.]+% 240 {SPEAKERS[4 * fold]}, ", text)


def test_recall_of_each_class_and_the_class_never_predicted(run: report.TuneRun, text: str) -> None:
    assert run.metrics["pooled"]["never_predicted"] == ["calm"]
    for name, line in zip(CLASSES, run.metrics["pooled"]["confusion"], strict=True):
        assert f"{name} {_percent(run.metrics['pooled']['recall'][name])} {sum(line)} " in text
    assert "Take care (1 of 9 checks): Never predicted: calm." in text


def test_counts_of_the_confusion_matrix_stand_in_the_figure(run: report.TuneRun, html: str) -> None:
    start = html.index('<figure id="confusion">')
    words = re.findall(r">\s*(\d+)\s*</text>", html[start : html.index("</figure>", start)])
    assert [int(word) for word in words] == [n for line in run.metrics["pooled"]["confusion"] for n in line]


def test_surest_mistakes_are_the_wrong_predictions_of_highest_probability(
    run: report.TuneRun, text: str
) -> None:
    wrong = [row for row in run.predictions.to_pylist() if row["target"] != row["predicted"]]
    surest = max(wrong, key=lambda row: row[f"prob_{row['predicted']}"])
    row = [surest[name] for name in ("clip_id", "speaker", "target", "predicted")]
    probability = surest[f"prob_{surest['predicted']}"]
    assert f"{' '.join(row)} {_percent(probability)}" in text


def test_search_counts_trials_by_state_and_what_pruning_saved(text: str) -> None:
    assert "12 trials: 8 complete, 3 pruned, 1 failed." in text
    # Trials 5, 8 and 10 ran 3, 3 and 2 of their 6 folds.
    assert "Pruning saved 10 of 72 folds" in text


def test_importance_finds_the_field_that_the_score_follows(run: report.TuneRun) -> None:
    shares, note = report.importances(run.trials, report.searched(run), metric="uar")
    assert set(shares) == set(SPACE) and sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == "optim.learning_rate"
    assert note == "Computed from 8 complete trials; below about 30 it is a rough guide."


def test_importance_takes_whole_numbers_and_values_outside_the_space() -> None:
    rows = [
        {
            "trial": i,
            "state": "COMPLETE",
            "uar_mean": 0.1 * i,
            "params_a": 2 + i,
            "params_b": 0.5,
            "params_c": "x",
        }
        for i in range(7)
    ]
    dimensions = {
        "a": {"low": 3.0, "high": 5.0},
        "b": {"low": 0.1, "high": 1.0},
        "c": {"choices": ["x", "y"]},
    }
    shares, _ = report.importances(pa.Table.from_pylist(rows), dimensions, metric="uar")
    assert shares == {"a": 1.0}


@pytest.mark.parametrize(
    ("scores", "values", "reason"),
    [
        ([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0], "it needs 5 complete trials, there are 4"),
        ([0.3] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "all complete trials score the same"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [1.0] * 5, "no hyperparameter took two values"),
    ],
)
def test_importance_that_cannot_be_computed_says_why(
    scores: list[float], values: list[float], reason: str
) -> None:
    rows = [
        {"trial": i, "state": "COMPLETE", "uar_mean": score, "params_a": value}
        for i, (score, value) in enumerate(zip(scores, values, strict=True))
    ]
    shares, note = report.importances(
        pa.Table.from_pylist(rows), {"a": {"low": 1.0, "high": 9.0}}, metric="uar"
    )
    assert shares == {} and note == f"Hyperparameter importance is undefined: {reason}."


def test_ties_are_the_trials_within_two_standard_errors_of_the_best() -> None:
    best = [0.5, 0.6, 0.7, 0.6]
    others = {1: [0.52, 0.57, 0.71, 0.59], 2: [0.4, 0.5, 0.61, 0.5], 3: [0.6, 0.6, 0.7, 0.6]}
    folds = [
        {"trial": trial, "fold": fold, "uar": score}
        for trial, scores in ({0: best} | others).items()
        for fold, score in enumerate(scores)
    ]
    trials = [{"trial": i, "state": "PRUNED" if i == 3 else "COMPLETE"} for i in range(4)]
    # Trial 2 loses 0.0975 with a standard error of 0.0025, trial 1 loses 0.0025 +- 0.011, trial 3 was pruned.
    assert report.ties(pa.Table.from_pylist(folds), pa.Table.from_pylist(trials), best=0, metric="uar") == [1]


def test_trials_are_listed_best_first_and_failures_with_their_error(run: report.TuneRun, text: str) -> None:
    for row in run.trials.to_pylist():
        if row["state"] == "COMPLETE":
            score = f"{_percent(row['uar_mean'])} \u00b1 {100 * row['uar_std']:.1f}"
            assert f" {row['trial']} complete {score} " in text
    complete = re.findall(r" complete ([\d.]+)% \u00b1", text)
    assert [float(score) for score in complete] == sorted((float(score) for score in complete), reverse=True)
    assert "6 fail undefined undefined undefined 0 undefined" in text
    assert "6 CUDA out of memory & <b>more</b>" in text


def test_best_hyperparameters_stand_beside_the_range_searched(text: str) -> None:
    assert f"optim.learning_rate {_params(3)['optim.learning_rate']:.3g} 1e-05 to 0.01, log" in text
    assert f"optim.schedule {_params(3)['optim.schedule']} linear, cosine" in text


@pytest.mark.parametrize(
    ("value", "is_edge"), [(1.05e-5, True), (9.9e-3, True), (3e-4, False), (1.5e-5, False)]
)
def test_best_value_at_the_edge_of_its_range_is_pointed_out(
    run: report.TuneRun, value: float, is_edge: bool
) -> None:
    changed = replace(run, metrics=run.metrics | {"params": {"optim.learning_rate": value}})
    assert ("at the edge: search wider" in report.trials(changed)) == is_edge


def test_data_counts_classes_by_fold_and_rejects_by_reason(text: str) -> None:
    assert "neutral 16 16 16 16 16 16 96" in text and "all 240 240 240 240 240 240 1440" in text
    assert "1.32 hours, from gs://b/ravdess. Clips last 3.00 to 3.59 s, median 3.29 s." in text
    assert f"not audio 1 {HOSTILE} (not audio: no header)" in text
    assert "too short 1 Actor_02/x.wav (too short: 0.04 s < audio.min_s 0.1)" in text
    assert "2 of 1442 clips could not be used (0.1%)." in text


def test_provenance_has_the_config_versions_seed_trunk_and_command(folder: Path, text: str) -> None:
    assert "encoder digest 9f3a1c" in text and "version of torch 2.14.0" in text and "seed 7" in text
    assert "1013 passes for 1440 clips; 427 needed none" in text and "20.6 min (1234.5 s)" in text
    assert f"python jobs/tune_folds.py --config '{folder}/config.yaml'" in text
    assert " ".join((folder / "config.yaml").read_text().split()) in text


def test_words_from_data_are_never_markup(html: str) -> None:
    assert HOSTILE not in html and "&lt;script&gt;alert(1)&lt;/script&gt;.wav" in html
    assert "script" not in _read(html).tags and "b" not in _read(html).tags


def test_page_needs_no_network_and_forbids_it(html: str) -> None:
    loads = [
        value
        for name, value in _read(html).attributes
        if name in ("src", "href", "xlink:href", "data", "action")
    ]
    assert loads and all(value is not None and value.startswith(("#", "data:")) for value in loads)
    assert "default-src 'none'" in html and "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_references_inside_figures_are_unique_on_the_page(html: str) -> None:
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    assert used and all(html.count(f'id="{name}"') == 1 for name in used)


def test_every_figure_is_on_the_page_and_in_plots(folder: Path, html: str) -> None:
    names = {path.stem for path in (folder / "plots").iterdir()}
    assert names == set(re.findall(r'<figure id="([a-z_]+)"', html)) and len(names) == 10
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folder / "plots").iterdir())
    assert "prefers-color-scheme:dark" in html and "@media print" in html


def test_same_run_gives_the_same_page(run: report.TuneRun) -> None:
    figures = [plots.forest(run.metrics, chance=0.125) for _ in range(2)]
    pages = [report.figure_tag(figure, name="forest", caption="") for figure in figures]
    assert pages[0] == pages[1]


def test_run_of_one_trial(tmp_path: Path) -> None:
    def change(scores: dict[str, Any]) -> None:
        scores["selection"] |= {"nested": None}

    folder = write_run(tmp_path / "one", states=["COMPLETE"], best_trial=0, change=change)
    text = _text(Path(report.write_tune_report(str(folder))).read_text())
    assert "undefined UAR, selected on the other folds, undefined: fewer than two trials are complete" in text
    assert "No other trial is complete, so the best one was compared with none." in text
    assert "Hyperparameter importance is undefined: it needs 5 complete trials, there are 1." in text
    assert "Pruning saved 0 of 6 folds" in text
    assert not (folder / "plots" / "importance.png").exists()


def test_metrics_that_are_null_are_undefined_with_the_reason(tmp_path: Path) -> None:
    def change(scores: dict[str, Any]) -> None:
        nothing = dict.fromkeys(("uar", "accuracy", "macro_f1"))
        pooled = {"num_clips": 0, "intervals": nothing, "recall": dict.fromkeys(CLASSES)} | nothing
        pooled |= {
            "never_predicted": CLASSES,
            "absent": ["calm"],
            "confusion": np.zeros((8, 8), int).tolist(),
        }
        scores |= {"pooled": pooled, "chance_uar": None}
        scores["folds"] = {name: {"mean": None, "std": math.nan, "values": [None] * 6} for name in nothing}
        scores["by_speaker"] = {"01": {"num_clips": 0, "accuracy": None, "uar": None}}
        scores["selection"] |= {"num_complete": 1, "best": None, "nested": None}

    states = ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    folder = write_run(tmp_path / "null", states=states, best_trial=0, change=change)
    text = _text(Path(report.write_tune_report(str(folder))).read_text())
    assert "undefined UAR, best trial; 95% interval undefined (fewer than two speakers)" in text
    assert "chance undefined (no clip was held out), undefined: no clip was held out" in text
    assert "UAR by speaker is undefined: no clip was held out." in text
    assert "Recall is undefined for calm: no held-out clip has the class" in text
    assert "The score selected on the other folds is undefined: fewer than two trials are complete." in text
    assert "mean undefined undefined undefined" in text
    assert "nan" not in text.lower().split() and "None" not in text


def _care(run: report.TuneRun) -> str:
    return " ".join(check.text for check in report.checks(run) if not check.is_good)


def _with(run: report.TuneRun, section: str, **values: Any) -> report.TuneRun:
    return replace(run, metrics=run.metrics | {section: run.metrics[section] | values})


def test_checks_that_fail_are_named(run: report.TuneRun) -> None:
    torn = run.manifest.to_pylist()
    torn[0] |= {"fold": 5, "audio_digest": torn[-1]["audio_digest"]}
    torn[-1] |= {"fold": 4}
    care = _care(replace(run, manifest=pa.Table.from_pylist(torn)))
    assert "Not speaker-independent: in more than one fold are the speakers 01, 24." in care
    assert "Recordings with an exact copy in another fold: 1." in care
    assert "random weights" in _care(_with(run, "encoder", name="tiny"))
    made_up = replace(run, config=run.config | {"data": {"uri": "demo"}})
    assert "made-up talkers" in _care(made_up) and "random weights" not in _care(made_up)
    low = _with(run, "pooled", intervals={"uar": [0.1, 0.6]})
    assert "The 95% interval reaches down to 10.0%; chance is 12.5%." in _care(low)
    assert "10.0%, below the 95% interval: the search has fitted the folds." in _care(
        _with(run, "selection", nested=0.1)
    )
    assert "only 7 speakers and is itself rough" in _care(_with(run, "data", num_speakers=7))
    many = pa.concat_tables([run.rejects] * 20)
    assert "40 of 1480 clips could not be used (2.7%)." in _care(replace(run, rejects=many))
    stale = replace(run, predictions=run.predictions.slice(1))
    assert re.search(
        r"predictions.parquet has \d+ of 1439 clips right, metrics.json \d+ of 1440", _care(stale)
    )


def _headline(run: report.TuneRun) -> str:
    return _text(report.headline(run, {"forest": plots.forest(run.metrics, chance=0.1)}))


def test_run_without_a_flaw_says_that_all_checks_passed(run: report.TuneRun) -> None:
    flawless = _with(run, "pooled", never_predicted=[])
    assert "All 9 checks passed." in _headline(flawless)


def test_chance_is_that_of_the_metric(run: report.TuneRun) -> None:
    confusion = [[3, 1], [5, 1], [0, 0]]
    metrics_of_run = run.metrics | {"pooled": {"confusion": [[*row, 0] for row in confusion]}}
    assert report.chance_level(metrics_of_run, "uar") == 0.125
    # Always class 1: 6 of 10 clips right; F1 of class 1 is 12 / 16, of class 0 zero, of class 2 not defined.
    assert report.chance_level(metrics_of_run, "accuracy") == pytest.approx(0.6)
    assert report.chance_level(metrics_of_run, "macro_f1") == pytest.approx(12 / 16 / 2)


def test_score_of_a_search_for_accuracy(run: report.TuneRun) -> None:
    accuracy = replace(run, metrics=run.metrics | {"metric": "accuracy"})
    text = _headline(accuracy)
    assert f"{_percent(run.metrics['pooled']['accuracy'])} accuracy, best trial" in text
    assert f"chance {_percent(192 / 1440)}" in text


def test_missing_table_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "curves.parquet").unlink()
    with pytest.raises(StorageError, match=r"curves\.parquet"):
        report.write_tune_report(str(folder))


def test_table_sets_columns_of_numbers_right_and_escapes_cells() -> None:
    html = report.table_tag(["<a>", "b"], [["x&y", 1.23456], ["2", "3.4%"]], caption="<c>")
    assert (
        "<td >x&amp;y</td>" in html
        and '<td class="n">1.235</td>' in html
        and "&lt;a&gt;" in html
        and "&lt;c&gt;" in html
    )
    assert '<td class="n">2</td>' not in html and '<td class="n">3.4%</td>' in html


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7.25, "7.2 s"), (119.9, "119.9 s"), (204.0, "3.4 min"), (7560.0, "2.1 h"), (None, "undefined")],
)
def test_duration_takes_the_unit_that_reads_well(seconds: float | None, words: str) -> None:
    assert report.duration(seconds) == words
