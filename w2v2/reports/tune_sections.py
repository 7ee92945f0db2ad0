"""The sections of a tune run's page: folds and speakers, classes, baseline, search, training, trials, data."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from w2v2.reports import plots
from w2v2.reports.html import Cell, duration, figure_tag, pair_tag, paragraph_tag, percent, some, table_tag
from w2v2.reports.tune_findings import importances, outcome, saved, spread
from w2v2.reports.tune_run import TuneRun

NUM_TRIALS_SHOWN = 20
NUM_MISTAKES_SHOWN = 5


def folds_and_speakers(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """The spread over folds and over speakers, worst and best named."""
    name, trial = plots.METRICS[run.speaker_metric], run.metrics["trial"]
    by_fold = f"{plots.METRICS[run.metric]} of each held-out fold, trial {trial}."
    by_speaker = f"{name} of each speaker when held out, trial {trial}, best on top."
    left = shown(figures, "folds", by_fold) + _folds_table(run)
    return paragraph_tag(spread(run)) + pair_tag(left, shown(figures, "speakers", by_speaker))


def shown(figures: Mapping[str, Figure], name: str, caption: str) -> str:
    """A figure by its name, with its caption."""
    return figure_tag(figures[name], name=name, caption=caption)


def _folds_table(run: TuneRun) -> str:
    speakers = defaultdict(set)
    for row in run.manifest.select(["fold", "speaker"]).to_pylist():
        speakers[row["fold"]].add(row["speaker"])
    rows: list[list[Cell]] = []
    for row in run.best_folds.to_pylist():
        held_out = some(sorted(speakers[row["fold"]]))
        rows.append([row["fold"], *(percent(row[m]) for m in plots.METRICS), row["num_held_out"], held_out])
    for which in ("mean", "std"):
        rows.append([which, *(percent(run.metrics["folds"][m][which]) for m in plots.METRICS), "", ""])
    head = ["fold", *plots.METRICS.values(), "clips", "speakers held out"]
    why = " std is undefined for one fold." if len(rows) == 3 else ""
    return table_tag(head, rows, caption=f"Scores on held-out speakers, trial {run.metrics['trial']}.{why}")


def classes(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """Confusion and recall by class; classes never predicted and classes without clips are named."""
    pooled, names = run.metrics["pooled"], run.metrics["classes"]
    scores = (f"{name} {percent(pooled[m], why='no clip was held out')}" for m, name in plots.METRICS.items())
    right = paragraph_tag(
        f"Over all {pooled['num_clips']} held-out clips: {', '.join(scores)}."
    ) + recalls_table(pooled, names, caption="Recall by class, all folds together.")
    caption = "Held-out clips of all folds: counts, and as colour the fraction of the target class."
    return pair_tag(shown(figures, "confusion", caption), right) + surest_mistakes(run.predictions)


def recalls_table(pooled: Mapping[str, Any], names: Sequence[str], *, caption: str) -> str:
    """Recall, clips and predictions of each class, and the classes never predicted or without clips."""
    never, absent = pooled["never_predicted"], pooled["absent"]
    num_targets = list(map(sum, pooled["confusion"]))
    num_predicted = [sum(column) for column in zip(*pooled["confusion"], strict=True)]
    recalls = [percent(pooled["recall"][name]) for name in names]
    rows = list(zip(names, recalls, num_targets, num_predicted, strict=True))
    text = f"Never predicted: {', '.join(never)}." if never else "Every class is predicted at least once."
    if absent:
        text += f" Recall is undefined for {', '.join(absent)}: no held-out clip has the class."
    head = ["class", "recall", "clips", "predicted"]
    return table_tag(head, rows, caption=caption) + paragraph_tag(text)


def baseline(run: TuneRun) -> str:
    """The best trial's scores beside those of a baseline on the same folds; nothing where there is none."""
    found = run.metrics.get("baseline")
    if found is None:
        return ""
    pooled, rows = run.metrics["pooled"], []
    for which, scores in ((f"trial {run.metrics['trial']}", pooled), (found["name"], found["pooled"])):
        rows.append([which, *(_within(scores[m], scores["intervals"][m], percent) for m in plots.METRICS)])
    higher = (found["difference"][m] for m in plots.METRICS)
    rows.append(["difference", *(_within(own["value"], own["interval"], _points) for own in higher)])
    caption = (
        "The same clips in the same folds, with 95% intervals; that of the difference resamples the speakers "
        "of both together."
    )
    nested = run.metrics["selection"]["nested"]
    text = (
        f"The baseline ({found['name']}, {found['run']}) chooses its settings on inner folds of the speakers it "
        "trains on, the best trial was chosen on these very folds"
    )
    text += f": selected on the other folds it has {percent(nested)}." if nested is not None else "."
    head = ["", *plots.METRICS.values()]
    return table_tag(head, rows, caption=caption) + paragraph_tag(text)


def _within(
    value: float | None, interval: Sequence[float] | None, form: Callable[[float | None], str]
) -> str:
    return form(value) + (f" ({form(interval[0])} to {form(interval[1])})" if interval else "")


def _points(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:+.1f}"


def surest_mistakes(predictions: pa.Table) -> str:
    """The wrong predictions of highest probability, nothing where all are right."""
    wrong = [
        (row[f"prob_{row['predicted']}"], row["clip_id"], row["speaker"], row["target"], row["predicted"])
        for row in predictions.to_pylist()
        if row["target"] != row["predicted"]
    ]
    wrong.sort(key=lambda row: (-row[0], row[1]))
    rows = [[*words, percent(probability)] for probability, *words in wrong[:NUM_MISTAKES_SHOWN]]
    head = ["clip", "speaker", "target", "predicted", "probability"]
    caption = "The surest mistakes: listen to these first, a label may be wrong."
    return table_tag(head, rows, caption=caption) if rows else ""


def search(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """The course of the search, what mattered in it, and how far the best trial stands out."""
    name, space = plots.METRICS[run.metric], run.space
    _, note = importances(run.trials, space, metric=run.metric)
    by_trial = f"{name} of each trial; a pruned trial has the mean of the folds it ran."
    left = shown(figures, "history", by_trial)
    if "importance" in figures:
        left += shown(figures, "importance", f"Hyperparameter importance (fANOVA). {note}")
    else:
        left += paragraph_tag(note)
    caption = f"{name} against each hyperparameter; orange: the best trial, hollow: pruned."
    return paragraph_tag(outcome(run)) + pair_tag(left, shown(figures, "scatter", caption) if space else "")


def training(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """Learning curves of the best trial, the time it took, and what pruning saved."""
    curves = f"Training loss (mean cross-entropy) and training UAR of trial {run.metrics['trial']}, by fold."
    fold_map = "Folds that each trial ran, darker for a higher score; empty: not run."
    seconds = "Time that the folds of each trial took."
    right = shown(figures, "fold_map", fold_map) + shown(figures, "seconds", seconds)
    return paragraph_tag(saved(run)) + pair_tag(shown(figures, "learning_curves", curves), right)


def trials(run: TuneRun) -> str:
    """The best hyperparameters with the range searched, the best 20 trials, and why trials failed."""
    order, score = ("COMPLETE", "PRUNED", "RUNNING", "FAIL"), f"{run.metric}_mean"
    rows = run.trials.to_pylist()
    rows.sort(key=lambda row: (order.index(row["state"]), -(row[score] or 0), row["trial"]))
    errors = [(row["trial"], row["error"] or "") for row in rows if row["state"] == "FAIL"]
    failed = [[trial, plots.short(error, num_characters=300)] for trial, error in errors]
    return (
        _best_table(run)
        + _trials_table(run, rows)
        + (table_tag(["trial", "error"], failed, caption="Failed trials.") if failed else "")
    )


def _best_table(run: TuneRun) -> str:
    params, space = run.metrics["params"], run.space
    rows = [[path, _value(value), *_range(space.get(path), value)] for path, value in params.items()]
    caption = f"Hyperparameters of trial {run.metrics['trial']}."
    return table_tag(["field", "best", "searched", ""], rows, caption=caption)


def _trials_table(run: TuneRun, rows: Sequence[Mapping[str, Any]]) -> str:
    shown = [_trial_row(row, run.space, metric=run.metric) for row in rows[:NUM_TRIALS_SHOWN]]
    fields = [path.partition(".")[2] for path in run.space]
    caption = (
        f"{'All' if len(shown) == len(rows) else f'The best {len(shown)} of'} {len(rows)} trials: mean \u00b1 standard "
        "deviation over the folds they ran; undefined where no fold was finished."
    )
    return table_tag(
        ["trial", "state", *plots.METRICS.values(), "folds", "time", *fields], shown, caption=caption
    )


def _trial_row(row: Mapping[str, Any], space: Mapping[str, Any], *, metric: str) -> list[Cell]:
    scores = []
    for name in plots.METRICS:
        std = row[f"{name}_std"] if name == metric else None
        scores.append(percent(row[f"{name}_mean"]) + ("" if std is None else f" \u00b1 {100 * std:.1f}"))
    params = [_value(row[f"params_{path}"]) for path in space]
    return [row["trial"], row["state"].lower(), *scores, row["folds_done"], duration(row["seconds"]), *params]


def _value(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _range(dimension: Mapping[str, Any] | None, value: Any) -> tuple[str, str]:
    if dimension is None:
        return "", ""
    if dimension.get("choices"):
        return ", ".join(str(choice) for choice in dimension["choices"]), ""
    low, high, is_log = float(dimension["low"]), float(dimension["high"]), bool(dimension.get("log"))
    place = math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)
    text = f"{low:g} to {high:g}{', log' if is_log else ''}"
    return text, "at the edge: search wider" if not 0.03 <= place <= 0.97 else ""


def data(run: TuneRun) -> str:
    """Sizes, clips by class and fold, and the clips that could not be used, by reason."""
    sizes, names = run.metrics["data"], run.metrics["classes"]
    text = (
        f"{sizes['num_clips']} clips of {sizes['num_speakers']} speakers, {sizes['hours']:.2f} hours, "
        f"from {sizes['uri']}."
    )
    lengths = [seconds for seconds in run.manifest["duration_s"].to_pylist() if seconds is not None]
    if lengths:
        text += f" Clips last {min(lengths):.2f} to {max(lengths):.2f} s, median {median(lengths):.2f} s."
    clips = run.manifest.select(["label", "fold"]).to_pylist()
    counts = Counter((row["label"], row["fold"]) for row in clips)
    folds = sorted({fold for _, fold in counts})
    rows = [[name, *(counts[name, f] for f in folds), sum(counts[name, f] for f in folds)] for name in names]
    rows.append(["all", *(sum(counts[name, f] for name in names) for f in folds), sum(counts.values())])
    head = ["class", *(f"fold {fold}" for fold in folds), "all"]
    table = table_tag(head, rows, caption="Clips by class and fold.")
    return paragraph_tag(text) + table + rejects_table(run.rejects)


def rejects_table(rejects: pa.Table) -> str:
    """Rejected clips by reason with examples, or that there are none."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for row in rejects.to_pylist():
        by_kind[row["reason"].partition(":")[0]].append(f"{row['clip_id']} ({row['reason']})")
    if not by_kind:
        return paragraph_tag("No clip was rejected.")
    kinds = sorted(by_kind.items(), key=lambda item: -len(item[1]))
    rows: list[list[Cell]] = [[kind, len(clips), some(clips, num_shown=3)] for kind, clips in kinds]
    caption = f"{rejects.num_rows} rejected clips by reason; rejects.parquet has them all."
    return table_tag(["reason", "clips", "examples"], rows, caption=caption)
