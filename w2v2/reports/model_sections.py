"""The sections of one model's page that show its scores, by kind of task."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from w2v2.json_types import JsonObject
from w2v2.reports.blocks import (
    Block,
    Cell,
    Column,
    Paragraph,
    ScoreCell,
    Section,
    Side,
    Table,
    count,
    percent,
    score,
    words,
)
from w2v2.reports.decision_sections import decisions, patients
from w2v2.reports.estimate import chance_level
from w2v2.reports.plots.model import MAX_POINTS
from w2v2.reports.run_files import ModelRun
from w2v2.reports.shared_sections import (
    class_table,
    confusion_tables,
    fold_cells,
    intervals_of,
    largest_errors,
    left_out,
    pictured,
    pooled_score,
    surest_mistakes,
)
from w2v2.reports.text import METRIC_LABELS, percent_text
from w2v2.reports.transcript_sections import transcript_sections
from w2v2.wording import counted, listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REGRESSION = {"rmse": "RMSE", "r2": "R\u00b2", "pearson": "Pearson", "ccc": "CCC"}


def score_sections(run: ModelRun, figures: Mapping[str, "Figure"]) -> list[Section]:
    """The sections of the scores of the run's kind of task; without blocks where there is nothing to show."""
    match run.metrics["kind"]:
        case "classes":
            return [
                Section("Before and after remapping", remapping(run.metrics, figures)),
                Section("Classes", classes(run)),
                Section("Speakers", speakers(run.metrics, figures)),
            ]
        case "multi_label":
            return [
                Section("Labels", [*labels(run.metrics, figures), *largest_errors(run)]),
                Section("Decisions", decisions(run.metrics)),
                Section("Patients", patients(run.metrics)),
            ]
        case "transcript":
            return transcript_sections(run, figures)
        case _:
            return [
                Section("Values", [*values(run.metrics, figures), *largest_errors(run)]),
                Section("Quadrants", quadrants(run.metrics, figures)),
            ]


def folds(run: ModelRun, figures: Mapping[str, "Figure"]) -> list[Block]:
    """Scores of each held-out fold and the settings chosen for it; nothing where no fold was held out."""
    if run.part != "fold":
        return []
    scores = run.metrics["folds"]
    cells = {metric: fold_cells(scores, metric) for metric in METRIC_LABELS}
    speakers: dict[int, set[str]] = defaultdict(set)
    for row in run.manifest.group_by(["fold", "speaker"]).aggregate([]).to_pylist():
        speakers[row["fold"]].add(row["speaker"])
    rows: list[list[Cell]] = []
    for row in run.metrics["chosen"]:
        fold = row["fold"]
        chosen = (row["inner_uar"], row["c"], f"{row['gamma']:g}" if row["gamma"] else "scale")
        held_out = listed(sorted(speakers[fold]))
        rows.append([fold, *(cells[metric][fold] for metric in METRIC_LABELS), *chosen, held_out])
    for which in ("mean", "std"):
        rows.append([which, *(scores[metric][which] for metric in METRIC_LABELS), *[""] * 4])
    columns = [words("fold"), *map(percent, METRIC_LABELS.values()), percent("inner UAR")]
    columns += [Column("C", "{:g}".format, is_number=True), words("gamma"), words("speakers held out")]
    caption = (
        "Scores on held-out speakers, with intervals for folds of at least five speakers, and C and gamma with the highest mean UAR over inner folds of the other "
        "speakers; scale is one over the number of features times their variance."
    )
    table = Table("folds", columns, rows, caption)
    return [*pictured(figures, "folds", "UAR of each held-out fold."), table]


def classes(run: ModelRun) -> list[Block]:
    """Scores with intervals, scores by class, and the wrong predictions of highest probability; classes never predicted are named."""
    pooled = run.metrics["pooled"]
    rows = [
        [name, pooled_score(pooled, metric), chance_level(run.metrics, metric)]
        for metric, name in METRIC_LABELS.items()
    ]
    caption = (
        f"Scores of {counted(pooled['num_clips'], 'clips')} with 95% intervals over speakers; chance is the score of a model "
        "that learned nothing."
    )
    table = Table("scores", [words("score"), percent("value"), percent("chance")], rows, caption)
    names = run.metrics["classes"]
    return [
        table,
        *left_out(pooled["intervals"].get("num_left_out", 0)),
        *class_table(
            pooled,
            names,
            name="classes",
            caption="Scores by class with 95% intervals.",
            intervals=intervals_of(run),
        ),
        confusion_tables(pooled["confusion"], names, name="confusion"),
        *surest_mistakes(run),
    ]


def remapping(metrics: JsonObject, figures: Mapping[str, "Figure"]) -> list[Block]:
    """The scores under the original class names and after remapping; nothing where none were remapped."""
    after, before = metrics["pooled"], metrics.get("before_remapping")
    if not before:
        return []
    rows: list[list[Cell]] = [
        [
            which,
            len(scores["recall"]),
            *(pooled_score(scores, metric) for metric in METRIC_LABELS),
            _names(scores["never_predicted"]),
            _names([name for name, recall in scores["recall"].items() if recall == 0]),
            _names(scores["absent"]),
        ]
        for which, scores in (("before", before), ("after", after))
    ]
    columns = [words("remapping"), count("classes"), *map(percent, METRIC_LABELS.values())]
    columns += [words("never predicted"), words("no clip right"), words("without clips")]
    caption = "The same clips scored under the original classes and under the remapped ones."
    by_class = class_table(
        before, list(before["recall"]), name="classes_before", caption="Scores by original class."
    )
    return [
        Table("remapping", columns, rows, caption),
        Side([pictured(figures, "before", "Before remapping."), by_class]),
    ]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def speakers(metrics: JsonObject, figures: Mapping[str, "Figure"]) -> list[Block]:
    """UAR of each speaker, the worst and the best named."""
    scores = sorted(
        (row["uar"], name) for name, row in metrics["by_speaker"].items() if row["uar"] is not None
    )
    if not scores:
        return [Paragraph("UAR by speaker is undefined: there is no clip.")]
    (low, worst), (high, best) = scores[0], scores[-1]
    text = f"Worst speaker: {worst} ({percent_text(low)}). Best speaker: {best} ({percent_text(high)})."
    caption = "UAR of each speaker, best on top, over the 95% interval of all clips. Dashed: chance."
    return [Paragraph(text), *pictured(figures, "speakers", caption)]


def labels(metrics: JsonObject, figures: Mapping[str, "Figure"]) -> list[Block]:
    """AUC of each label with interval and counts, the means, ROC curves; undefined labels with the reason."""
    pooled = metrics["pooled"]
    within, why = pooled["intervals"], pooled["intervals"].get("undefined", {})
    rows: list[list[Cell]] = [
        [
            name,
            ScoreCell(row["auc"], within["labels"][name]["auc"], why.get(f"auc:{name}", "")),
            row["average_precision"],
            *(row[f"num_{number}"] for number in ("positive", "negative", "missing")),
        ]
        for name, row in pooled["labels"].items()
    ]
    for name in ("macro", "weighted"):
        precision = pooled["macro_average_precision"] if name == "macro" else ""
        rows.append([name, pooled_score(pooled, f"{name}_auc"), precision, *[""] * 3])
    columns = [words("label"), score("AUC"), score("average precision")]
    columns += [count("with"), count("without"), count("missing")]
    caption = (
        f"AUC by label with 95% intervals over speakers. Macro and weighted (by the clips with the label) are over "
        f"the {pooled['num_defined']} of {len(pooled['labels'])} labels that are defined."
    )
    blocks: list[Block] = [Table("labels", columns, rows, caption)]
    blocks.append(Paragraph(_undefined(pooled) or "Every label is defined."))
    blocks += _left_out({name: row["num_left_out"] for name, row in within["labels"].items()}, pooled)
    more = " The six labels with most clips are named." if pooled["num_defined"] > 6 else ""
    return blocks + pictured(figures, "roc", f"ROC curve of each label.{more}")


def _undefined(pooled: JsonObject) -> str:
    return " ".join(f"Undefined: {name}: {why}." for name, why in pooled["undefined"].items())


def _left_out(num_left_out: Mapping[str, int], pooled: JsonObject) -> list[Block]:
    """How many bootstrap samples lack a label or target that is defined in the data."""
    counts = [f"{name} {n}" for name, n in num_left_out.items() if n and name not in pooled["undefined"]]
    if not counts:
        return []
    total = pooled["intervals"]["num_samples"]
    return [Paragraph(f"Of {total} bootstrap samples, left out as undefined: {', '.join(counts)}.")]


def values(metrics: JsonObject, figures: Mapping[str, "Figure"]) -> list[Block]:
    """RMSE, R2, Pearson and CCC of each target with intervals, and predicted against target."""
    pooled, within = metrics["pooled"], metrics["pooled"]["intervals"]
    why = within.get("undefined", {})
    rows: list[list[Cell]] = [
        [name, row["num_clips"], *_measured(row, within["targets"][name], why=why, of=f":{name}")]
        for name, row in pooled["targets"].items()
    ]
    if len(rows) > 1:
        rows.append(["mean", "", *_measured(pooled["mean"], within["mean"], why=why)])
    columns = [words("target"), count("clips"), *map(score, REGRESSION.values())]
    caption = "Scores with 95% intervals over speakers; RMSE is in the unit of the target."
    blocks: list[Block] = [Table("values", columns, rows, caption)]
    blocks += [Paragraph(text)] if (text := _undefined(pooled)) else []
    blocks += _left_out({name: row["num_left_out"] for name, row in within["targets"].items()}, pooled)
    shown = f", {MAX_POINTS} of them shown" if metrics["num_clips"] > MAX_POINTS else ""
    pictures = [
        pictured(figures, f"scatter_{i}", f"{name}, clip by clip{shown}. Dashed: predicted equals target.")
        for i, name in enumerate(metrics["names"])
    ]
    return [*blocks, Side(pictures)]


def _measured(
    row: JsonObject, within: JsonObject, *, why: Mapping[str, str], of: str = ""
) -> list[ScoreCell]:
    return [ScoreCell(row[metric], within[metric], why.get(f"{metric}{of}", "")) for metric in REGRESSION]


def quadrants(metrics: JsonObject, figures: Mapping[str, "Figure"]) -> list[Block]:
    """Confusion of the quadrants around the midpoints; nothing where there are none."""
    numbers = metrics.get("quadrants")
    if not numbers:
        return []
    around = ", ".join(f"{name} {value:.3g}" for name, value in numbers["midpoints"].items())
    within = numbers.get("intervals", {})
    scores = ", ".join(
        f"{name} {(pooled_score(numbers, metric) if within else ScoreCell(numbers[metric], None)).text(percent_text)}"
        for metric, name in METRIC_LABELS.items()
    )
    num_targets = list(map(sum, numbers["confusion"]))
    rows = [
        [name, numbers["meaning"][name], number, numbers["recall"][name]]
        for name, number in zip(numbers["classes"], num_targets, strict=True)
    ]
    columns = [words("quadrant"), words("meaning"), count("clips"), percent("recall")]
    never = numbers["never_predicted"]
    share = percent_text(max(num_targets) / max(sum(num_targets), 1))
    right = [
        Table("quadrants", columns, rows, f"Quadrants around {around}; a value at its midpoint is high."),
        Paragraph(
            f"Of {numbers['num_clips']} clips{', with 95% intervals' if within else ''}: {scores}; always the commonest quadrant: accuracy {share}."
        ),
        Paragraph(f"Never predicted: {', '.join(never)}." if never else "Every quadrant is predicted."),
    ]
    return [Side([pictured(figures, "quadrants", "Clips by quadrant, target and predicted."), right])]
