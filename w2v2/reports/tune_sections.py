"""The sections of a search's page: folds and speakers, classes, baseline, search, training, trials, data."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from w2v2.evaluation.direction import better_word, sign
from w2v2.json_types import JsonObject
from w2v2.reports.blocks import (
    Block,
    Cell,
    Column,
    MeanCell,
    Paragraph,
    ScoreCell,
    Side,
    Table,
    count,
    percent,
    seconds,
    words,
)
from w2v2.reports.estimate import tune_headline
from w2v2.reports.run_files import TuneRun
from w2v2.reports.shared_sections import (
    class_table,
    clips_blocks,
    confusion_tables,
    fold_cells,
    intervals_of,
    lengths_text,
    pictured,
    pooled_score,
    surest_mistakes,
)
from w2v2.reports.text import (
    LABELS,
    interval_text,
    percent_text,
    points_text,
    setting_text,
    shortened,
)
from w2v2.reports.tune_findings import course, importances, saved, spread
from w2v2.storage.parquet import each_row
from w2v2.wording import counted, listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_TRIALS_SHOWN = 20
STATES = ("COMPLETE", "PRUNED", "RUNNING", "FAIL")


def folds_and_speakers(run: TuneRun, figures: Mapping[str, "Figure"]) -> list[Block]:
    """The spread over folds and over speakers, worst and best named."""
    name, trial = LABELS[run.speaker_metric], run.metrics["trial"]
    by_fold = f"{LABELS[run.metric]} of each held-out fold, trial {trial}."
    by_speaker = f"{name} of each speaker when held out, trial {trial}, best on top."
    left = [*pictured(figures, "folds", by_fold), _folds_table(run)]
    return [Paragraph(spread(run)), Side([left, pictured(figures, "speakers", by_speaker)])]


def final_trainings(run: TuneRun) -> list[Block]:
    """Each fold's choice and the spread between seeds, of models trained after the search; nothing without such models."""
    final = run.metrics.get("final")
    if final is None:
        return []
    chosen = "its own search, without this fold," if final["is_nested"] else "the search on the other folds"
    by_fold: list[list[Cell]] = [
        [
            choice["fold"],
            choice["trial"],
            ", ".join(
                f"{path.partition('.')[2]} {setting_text(value)}" for path, value in choice["params"].items()
            ),
        ]
        for choice in final["choices"]
    ]
    blocks: list[Block] = [
        Table(
            "choices",
            [words("fold"), count("trial"), words("hyperparameters")],
            by_fold,
            f"The trial that {chosen} has chosen for the models that predict each fold.",
        )
    ]
    if final["seeds"] == [0]:
        return blocks
    spread = final["spread"]
    rows: list[list[Cell]] = [
        [str(seed), *(spread[name]["values"][place] for name in run.labels)]
        for place, seed in enumerate(final["seeds"])
    ]
    rows.append(["std", *(spread[name]["std"] for name in run.labels)])
    caption = "Scores of all held-out clips by the models of each new seed, and their standard deviation."
    columns = [words("seed"), *map(percent, run.labels.values())]
    return [Table("seeds", columns, rows, caption), *blocks]


def _folds_table(run: TuneRun) -> Table:
    speakers = defaultdict(set)
    for row in run.manifest.group_by(["fold", "speaker"]).aggregate([]).to_pylist():
        speakers[row["fold"]].add(row["speaker"])
    rows: list[list[Cell]] = []
    cells = {metric: fold_cells(run.metrics["folds"], metric) for metric in run.labels}
    for row in run.best_folds.to_pylist():
        fold = row["fold"]
        held_out = listed(sorted(speakers[fold]))
        rows.append([fold, *(cells[m][fold] for m in run.labels), row["num_held_out"], held_out])
    num_folds = len(rows)
    for which in ("mean", "std"):
        rows.append([which, *(run.metrics["folds"][m][which] for m in run.labels), "", ""])
    columns = [
        words("fold"),
        *map(percent, run.labels.values()),
        count("clips"),
        words("speakers held out"),
    ]
    why = " std is undefined for one fold." if num_folds == 1 else ""
    within = (
        " with intervals over a fold's speakers"
        if any(isinstance(c, ScoreCell) for row in rows for c in row)
        else ""
    )
    caption = f"Scores on held-out speakers{within}, trial {run.metrics['trial']}.{why}"
    return Table("folds", columns, rows, caption)


def classes(run: TuneRun, figures: Mapping[str, "Figure"]) -> list[Block]:
    """Confusion and scores by class; classes never predicted and classes without clips are named."""
    pooled, names = run.metrics["pooled"], run.metrics["classes"]
    scores = (
        f"{name} {percent_text(pooled[m], why='no clip was held out')}" for m, name in run.labels.items()
    )
    caption = (
        "Held-out clips of all folds: counts, and as colour and percent the fraction of the target class."
    )
    right = [
        Paragraph(
            f"Trial {run.metrics['trial']} over all {pooled['num_clips']} held-out clips: {', '.join(scores)}."
        ),
        confusion_tables(pooled["confusion"], names, name="confusion"),
    ]
    by_class = class_table(
        pooled,
        names,
        name="classes",
        caption="Scores by class with 95% intervals, all folds together.",
        intervals=intervals_of(run),
    )
    return [
        Side([pictured(figures, "confusion", caption), right]),
        *by_class,
        *surest_mistakes(run),
    ]


def baseline(run: TuneRun) -> list[Block]:
    """The score of the search next to the score of a baseline on the same folds; nothing without a baseline."""
    other = run.metrics.get("baseline")
    if other is None:
        return []
    ours = [tune_headline(run, title) for title in run.labels]
    higher = [other["difference"][title] for title in run.labels]
    theirs = [pooled_score(other["pooled"], title) for title in run.labels]
    is_estimate = "estimate" in run.metrics
    title = f"this search, {ours[0].name}" if is_estimate else f"trial {run.metrics['trial']}"
    rows: list[list[Cell]] = [
        [title, *(ScoreCell(score.value, score.interval, score.why) for score in ours)],
        [other["name"], *theirs],
        ["difference (points)", *(_points_within(row["value"], row["interval"]) for row in higher)],
    ]
    caption = (
        "The same clips in the same folds, with 95% intervals; the interval of the difference resamples the speakers, and "
        "the folds, of both together."
    )
    text = (
        f"The baseline ({other['name']}, {other['run']}) chooses its settings on inner folds of the speakers it "
        "trains on; "
    )
    if is_estimate:
        text += f"the score of the search is corrected for the choice among its trials ({ours[0].how.rstrip('.')})."
    else:
        text += "the best trial was chosen on these very folds."
    columns = [words("model"), *map(percent, run.labels.values())]
    return [Table("baseline", columns, rows, caption), Paragraph(text)]


def _points_within(value: float | None, interval: Sequence[float] | None) -> str:
    return points_text(value) + (f" ({interval_text(interval, points_text)})" if interval else "")


def search(run: TuneRun, figures: Mapping[str, "Figure"]) -> list[Block]:
    """The course of the search, what mattered in it, and which trials are as good as the best."""
    name, space = LABELS[run.metric], run.space
    _, note = importances(run.trials, space, metric=run.metric)
    by_trial = f"{name} of each trial; a pruned trial has the mean of the folds it ran."
    importance = pictured(figures, "importance", f"Hyperparameter importance (fANOVA). {note}")
    left = [*pictured(figures, "history", by_trial), *(importance or [Paragraph(note)])]
    caption = f"{name} against each hyperparameter; orange: the best trial, hollow: pruned."
    right = pictured(figures, "scatter", caption) if space else []
    lines = (
        f"Each trial as a line over its hyperparameters, lowest value below, highest on top, darker for a {better_word(run.metric)} "
        f"{name}; orange: the best trial."
    )
    return [
        Paragraph(course(run)),
        Side([left, right]),
        *(pictured(figures, "parallel", lines) if space else []),
    ]


def training(run: TuneRun, figures: Mapping[str, "Figure"]) -> list[Block]:
    """Learning curves of the best trial, the time it took, and what pruning saved."""
    curve_kind = "CTC loss per character" if run.is_text else "loss (mean cross-entropy) and training UAR"
    curves = f"Training {curve_kind} of trial {run.metrics['trial']}, by fold."
    fold_map = f"Folds that each trial ran, darker for a {better_word(run.metric)} score; empty: not run."
    right = [
        *pictured(figures, "fold_map", fold_map),
        *pictured(figures, "seconds", "Time that the folds of each trial took."),
    ]
    return [Paragraph(saved(run)), Side([pictured(figures, "learning_curves", curves), right])]


def trials(run: TuneRun) -> list[Block]:
    """The best hyperparameters with the range searched, the best 20 trials, and why trials failed."""
    rows = run.trials.to_pylist()
    score = f"{run.metric}_mean"
    better = sign(run.metric)
    rows.sort(
        key=lambda row: (
            STATES.index(row["state"]),
            row[score] is None,
            -better * (row[score] or 0),
            row["trial"],
        )
    )
    errors = [(row["trial"], row["error"] or "") for row in rows if row["state"] == "FAIL"]
    failed = [[trial, shortened(error, num_characters=300)] for trial, error in errors]
    columns = [count("trial"), words("error")]
    return [
        _best_table(run),
        _trials_table(run, rows),
        *([Table("failed_trials", columns, failed, "Failed trials.")] if failed else []),
    ]


def _best_table(run: TuneRun) -> Table:
    params, space = run.metrics["params"], run.space
    rows = [[path, value, *_range(space.get(path), value)] for path, value in params.items()]
    columns = [words("field"), words("best"), words("searched"), words("note")]
    return Table("best", columns, rows, f"Hyperparameters of trial {run.metrics['trial']}.")


def _trials_table(run: TuneRun, rows: Sequence[JsonObject]) -> Table:
    shown = [_trial_row(row, run) for row in rows[:NUM_TRIALS_SHOWN]]
    which = "All" if len(shown) == len(rows) else f"The best {len(shown)} of"
    caption = (
        f"{which} {len(rows)} trials: mean \u00b1 standard deviation over the folds they ran; undefined where no "
        "fold was finished."
    )
    columns = [
        count("trial"),
        words("state"),
        *map(percent, run.labels.values()),
        count("folds"),
        seconds("time"),
        *(Column(path.partition(".")[2], is_number=_is_numeric(field)) for path, field in run.space.items()),
    ]
    return Table("trials", columns, shown, caption)


def _trial_row(row: Mapping[str, Any], run: TuneRun) -> list[Cell]:
    stds = {name: row[f"{name}_std"] if name == run.metric else None for name in run.labels}
    scores = [MeanCell(row[f"{name}_mean"], std) for name, std in stds.items()]
    params = [row[f"params_{path}"] for path in run.space]
    return [row["trial"], row["state"].lower(), *scores, row["folds_done"], row["seconds"], *params]


def _is_numeric(dimension: JsonObject) -> bool:
    return all(isinstance(value, int | float) for value in dimension.get("choices") or ())


def _range(dimension: JsonObject | None, value: Any) -> tuple[str, str]:
    if dimension is None:
        return "", ""
    if dimension.get("choices"):
        return ", ".join(str(choice) for choice in dimension["choices"]), ""
    low, high, is_log = float(dimension["low"]), float(dimension["high"]), bool(dimension.get("log"))
    place = math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)
    text = f"{low:g} to {high:g}{', log' if is_log else ''}"
    return text, "at the edge: search wider" if not 0.03 <= place <= 0.97 else ""


def data(run: TuneRun) -> list[Block]:
    """Sizes, clips by class and fold, and the clips that could not be used, by reason."""
    sizes, names = run.metrics["data"], run.metrics.get("classes", [])
    text = (
        f"{counted(sizes['num_clips'], 'clips')} of {counted(sizes['num_speakers'], 'speakers')}, {sizes['hours']:.2f} hours, "
        f"from {sizes['uri']}."
    )
    text += lengths_text(run.manifest)
    if run.is_text:
        return [Paragraph(text), _text_by_fold(run), *clips_blocks(run)]
    by_class = run.manifest.group_by(["label", "fold"]).aggregate([([], "count_all")])
    counts = Counter({(row["label"], row["fold"]): row["count_all"] for row in by_class.to_pylist()})
    folds = sorted({fold for _, fold in counts})
    rows = [[name, *(counts[name, f] for f in folds), sum(counts[name, f] for f in folds)] for name in names]
    rows.append(["all", *(sum(counts[name, f] for name in names) for f in folds), sum(counts.values())])
    columns = [words("class"), *(count(f"fold {fold}") for fold in folds), count("all")]
    table = Table("clips", columns, rows, "Clips by class and fold.")
    return [Paragraph(text), table, *clips_blocks(run)]


def _text_by_fold(run: TuneRun) -> Table:
    clips, words_of, characters = Counter[int](), Counter[int](), Counter[int]()
    for row in each_row(run.manifest.select(["reference", "fold"])):
        clips[row["fold"]] += 1
        words_of[row["fold"]] += len(row["reference"].split())
        characters[row["fold"]] += len(row["reference"])
    has_words = run.metrics["pooled"]["words"] is not None
    rows: list[list[Cell]] = [
        [fold, clips[fold], *([words_of[fold]] if has_words else []), characters[fold]]
        for fold in sorted(clips)
    ]
    columns = [words("fold"), count("clips"), *([count("words")] if has_words else []), count("characters")]
    return Table("clips", columns, rows, "Clips and their transcripts by fold.")
