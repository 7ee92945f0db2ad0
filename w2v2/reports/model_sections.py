"""The parts of one model's page that tell its scores, by kind of task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from w2v2.reports import model_plots, plots
from w2v2.reports.html import Cell, figure_tag, pair_tag, paragraph_tag, percent, some, table_tag
from w2v2.reports.model_run import TaskRun
from w2v2.reports.tune_findings import chance_level
from w2v2.reports.tune_sections import recalls_table, surest_mistakes

REGRESSION = {"rmse": "RMSE", "r2": "R\u00b2", "pearson": "Pearson", "ccc": "CCC"}


def score_sections(run: TaskRun, figures: Mapping[str, Figure]) -> list[tuple[str, str]]:
    """The sections (heading, HTML) of the scores of the run's kind of task; HTML "" where there is nothing."""
    match run.metrics["kind"]:
        case "classes":
            return [
                ("Before and after remapping", remapping(run.metrics, figures)),
                ("Classes", classes(run)),
                ("Speakers", speakers(run.metrics, figures)),
            ]
        case "multi_label":
            return [("Labels", labels(run.metrics, figures))]
        case _:
            return [("Values", values(run.metrics, figures)), ("Quadrants", quadrants(run.metrics, figures))]


def folds(run: TaskRun, figures: Mapping[str, Figure]) -> str:
    """Scores of each held-out fold and the settings chosen for it; nothing where no fold was held out."""
    if run.part != "fold":
        return ""
    scores = run.metrics["folds"]
    speakers: dict[int, set[str]] = {}
    for row in run.manifest.select(["fold", "speaker"]).to_pylist():
        speakers.setdefault(row["fold"], set()).add(row["speaker"])
    rows: list[list[Cell]] = []
    for row in run.metrics["chosen"]:
        fold = row["fold"]
        own = (percent(scores[metric]["values"][fold]) for metric in plots.METRICS)
        gamma = f"{row['gamma']:g}" if row["gamma"] else "scale"
        chosen = (percent(row["inner_uar"]), f"{row['c']:g}", gamma)
        rows.append([fold, *own, *chosen, some(sorted(speakers[fold]))])
    for which in ("mean", "std"):
        rows.append([which, *(percent(scores[metric][which]) for metric in plots.METRICS), *[""] * 4])
    head = ["fold", *plots.METRICS.values(), "inner UAR", "C", "gamma", "speakers held out"]
    caption = (
        "Scores on held-out speakers, and C and gamma with the highest mean UAR over inner folds of the other "
        "speakers; scale is one over the number of features times their variance."
    )
    dots = "UAR of each held-out fold."
    return pair_tag(table_tag(head, rows, caption=caption), shown(figures, "folds", dots))


def classes(run: TaskRun) -> str:
    """Scores with intervals, recall by class, and the surest mistakes; classes never predicted are named."""
    pooled = run.metrics["pooled"]
    rows = [
        [
            name,
            percent(pooled[metric]),
            between(pooled["intervals"][metric], percent),
            percent(chance_level(run.metrics, metric)),
        ]
        for metric, name in plots.METRICS.items()
    ]
    caption = f"Scores of {pooled['num_clips']} clips; the interval resamples speakers; chance is of a model that learned nothing."
    left = table_tag(["score", "", "95% interval", "chance"], rows, caption=caption)
    right = recalls_table(pooled, run.metrics["classes"], caption="Recall by class.")
    return pair_tag(left, right) + surest_mistakes(run.predictions)


def remapping(metrics: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """The scores under the original class names beside those after remapping; nothing where there are none."""
    after, before = metrics["pooled"], metrics.get("before_remapping")
    if not before:
        return ""
    rows: list[list[Cell]] = [["classes", len(before["recall"]), len(after["recall"])]]
    for metric, name in plots.METRICS.items():
        rows.append([name, *(_with_interval(scores, metric) for scores in (before, after))])
    rows.append(["never predicted", *(_names(scores["never_predicted"]) for scores in (before, after))])
    rows.append(["no clip right", *(_names(_without_hits(scores)) for scores in (before, after))])
    rows.append(["no clip has it", *(_names(scores["absent"]) for scores in (before, after))])
    caption = "The same clips scored under the original classes and under the remapped ones."
    confusions = pair_tag(
        shown(figures, "before", "Before remapping."),
        recalls_table(before, list(before["recall"]), caption="Recall by original class."),
    )
    return table_tag(["", "before", "after"], rows, caption=caption) + confusions


def _with_interval(scores: Mapping[str, Any], metric: str) -> str:
    within = scores["intervals"][metric]
    return percent(scores[metric]) + (f" ({between(within, percent)})" if within else "")


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _without_hits(scores: Mapping[str, Any]) -> list[str]:
    return [name for name, recall in scores["recall"].items() if recall == 0]


def speakers(metrics: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """UAR of each speaker, the worst and the best named."""
    known = sorted(
        (row["uar"], name) for name, row in metrics["by_speaker"].items() if row["uar"] is not None
    )
    if not known:
        return paragraph_tag("UAR by speaker is undefined: there is no clip.")
    (low, worst), (high, best) = known[0], known[-1]
    text = f"Worst speaker: {worst} ({percent(low)}). Best speaker: {best} ({percent(high)})."
    caption = "UAR of each speaker, best on top, over the 95% interval of all clips. Dashed: chance."
    return paragraph_tag(text) + shown(figures, "speakers", caption)


def labels(metrics: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """AUC of each label with interval and counts, the means, ROC curves; undefined labels with the reason."""
    pooled = metrics["pooled"]
    within = pooled["intervals"]
    rows: list[list[Cell]] = [
        [
            name,
            number(row["auc"]),
            between(within["labels"][name]["auc"]),
            number(row["average_precision"]),
            *(row[f"num_{count}"] for count in ("positive", "negative", "missing")),
        ]
        for name, row in pooled["labels"].items()
    ]
    for name in ("macro", "weighted"):
        precision = number(pooled["macro_average_precision"]) if name == "macro" else ""
        rows.append(
            [name, number(pooled[f"{name}_auc"]), between(within[f"{name}_auc"]), precision, *[""] * 3]
        )
    head = ["label", "AUC", "95% interval", "average precision", "with", "without", "missing"]
    caption = (
        f"AUC by label. Macro and weighted (by the clips with the label) are over the {pooled['num_defined']} "
        f"of {len(pooled['labels'])} labels that are defined."
    )
    text = " ".join(f"Undefined: {name}, as {why}." for name, why in pooled["undefined"].items())
    left = table_tag(head, rows, caption=caption) + paragraph_tag(text or "Every label is defined.")
    left += _left_out({name: row["num_left_out"] for name, row in within["labels"].items()}, pooled)
    if "roc" not in figures:
        return left
    more = " The six labels with most clips are named." if pooled["num_defined"] > 6 else ""
    return left + shown(figures, "roc", f"ROC curve of each label.{more}")


def _left_out(num_left_out: Mapping[str, int], pooled: Mapping[str, Any]) -> str:
    """How many bootstrap samples lack a label or target that is defined in the data."""
    total = pooled["intervals"]["num_samples"]
    told = [
        f"{name} {count}" for name, count in num_left_out.items() if count and name not in pooled["undefined"]
    ]
    if not told:
        return ""
    return paragraph_tag(f"Of {total} bootstrap samples, left out as undefined: {', '.join(told)}.")


def values(metrics: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """RMSE, R2, Pearson and CCC of each target with intervals, and predicted against target."""
    pooled, within = metrics["pooled"], metrics["pooled"]["intervals"]
    rows: list[list[Cell]] = [
        [name, row["num_clips"], *_cells(row, within["targets"][name])]
        for name, row in pooled["targets"].items()
    ]
    if len(rows) > 1:
        rows.append(["mean", "", *_cells(pooled["mean"], within["mean"])])
    caption = "Scores with 95% intervals (bootstrap over speakers); RMSE is in the unit of the target."
    table = table_tag(["target", "clips", *REGRESSION.values()], rows, caption=caption)
    text = " ".join(f"Undefined: {name}, as {why}." for name, why in pooled["undefined"].items())
    told = paragraph_tag(text) if text else ""
    told += _left_out({name: row["num_left_out"] for name, row in within["targets"].items()}, pooled)
    some_of = ""
    if metrics["num_clips"] > model_plots.MAX_POINTS:
        some_of = f", {model_plots.MAX_POINTS} of them shown"
    pictures = [
        shown(figures, f"scatter_{i}", f"{name}, clip by clip{some_of}. Dashed: predicted equals target.")
        for i, name in enumerate(metrics["names"])
    ]
    return table + told + pair_tag(*pictures)


def _cells(row: Mapping[str, Any], within: Mapping[str, Any]) -> list[str]:
    return [
        number(row[metric]) + (f" ({between(within[metric])})" if within[metric] else "")
        for metric in REGRESSION
    ]


def quadrants(metrics: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Confusion of the quadrants around the midpoints; nothing where there are none."""
    found = metrics.get("quadrants")
    if not found:
        return ""
    around = ", ".join(f"{name} {value:.3g}" for name, value in found["midpoints"].items())
    scores = ", ".join(f"{name} {percent(found[metric])}" for metric, name in plots.METRICS.items())
    num_targets = list(map(sum, found["confusion"]))
    rows = [
        [name, found["meaning"][name], count, percent(found["recall"][name])]
        for name, count in zip(found["classes"], num_targets, strict=True)
    ]
    caption = f"Quadrants around {around}; a value at its midpoint is high."
    never = found["never_predicted"]
    right = (
        table_tag(["", "meaning", "clips", "recall"], rows, caption=caption)
        + paragraph_tag(
            f"Of {found['num_clips']} clips: {scores}; always the commonest quadrant: "
            f"accuracy {percent(max(num_targets) / max(sum(num_targets), 1))}."
        )
        + paragraph_tag(f"Never predicted: {', '.join(never)}." if never else "Every quadrant is predicted.")
    )
    return pair_tag(shown(figures, "quadrants", "Clips by quadrant, target and predicted."), right)


def number(value: float | None) -> str:
    """A score with three decimals; None is "undefined"."""
    return "undefined" if value is None else f"{value:.3f}"


def between(interval: Sequence[float] | None, form: Callable[[float], str] = number) -> str:
    """An interval as "0.512 to 0.700"; None is "undefined"."""
    return " to ".join(map(form, interval)) if interval else "undefined"


def shown(figures: Mapping[str, Figure], name: str, caption: str) -> str:
    """The figure of that name as HTML."""
    return figure_tag(figures[name], name=name, caption=caption)
