"""Blocks that several pages have: scores of classes, mistakes, rejected clips, and a run's settings and machine."""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.data.rejects import kinds_of
from w2v2.evaluation.bootstrap import NUM_SAMPLES, Interval
from w2v2.evaluation.class_scores import class_intervals
from w2v2.json_types import JsonObject
from w2v2.reports.blocks import (
    Block,
    Cell,
    Check,
    Checks,
    Details,
    Paragraph,
    Picture,
    Quote,
    ScoreCell,
    Table,
    count,
    number,
    percent,
    words,
)
from w2v2.reports.checks import in_several_parts, verdict
from w2v2.reports.recordings import sounds
from w2v2.reports.run_files import ModelRun, RunFiles, TuneRun
from w2v2.reports.text import duration_text, job_command
from w2v2.storage import files as storage
from w2v2.storage.parquet import each_row
from w2v2.wording import listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_MISTAKES_SHOWN = 5

ClassIntervals = Mapping[str, Mapping[str, Interval]]
"""Intervals by class and metric (precision, recall, f1)."""


def pooled_score(pooled: JsonObject, name: str) -> ScoreCell:
    """One of the `pooled` scores of metrics.json with its interval, or why there is none."""
    within = pooled["intervals"]
    return ScoreCell(pooled[name], within[name], within.get("undefined", {}).get(name, ""))


def interval_score(row: JsonObject) -> ScoreCell:
    """A score of metrics.json that is written as `value`, `interval` and `undefined`."""
    return ScoreCell(row["value"], row["interval"], row.get("undefined", ""))


def left_out(num_left_out: int) -> list[Block]:
    """The number of samples of speakers that are left out of the intervals of classes; nothing where all are used."""
    if not num_left_out:
        return []
    text = (
        f"Of {NUM_SAMPLES} samples of speakers {num_left_out} lack a class and are left out of the intervals."
    )
    return [Paragraph(text)]


def fold_cells(folds: JsonObject, metric: str) -> list[Cell]:
    """The scores of the folds in order, with intervals where any fold has one; folds is `folds` of metrics.json."""
    values, within = folds[metric]["values"], folds[metric].get("intervals") or []
    if not any(within):
        return list(values)
    return [ScoreCell(value, between) for value, between in zip(values, within, strict=True)]


def pictured(figures: Mapping[str, "Figure"], name: str, caption: str) -> list[Block]:
    """The figure of that name with its caption; nothing where there is none."""
    return [Picture(figures[name], name, caption)] if name in figures else []


def verdict_blocks(checks: Sequence[Check]) -> list[Block]:
    """Whether all checks passed, and the failed ones."""
    care = [check for check in checks if not check.is_good]
    return [Paragraph(verdict(checks), "verdict"), *([Checks(care)] if care else [])]


def class_table(
    pooled: JsonObject,
    names: Sequence[str],
    *,
    name: str,
    caption: str,
    intervals: ClassIntervals | None = None,
) -> list[Block]:
    """Precision, recall and F1 of each class, and the classes never predicted or without clips."""
    never, absent = pooled["never_predicted"], pooled["absent"]
    columns = [words("class"), percent("precision"), percent("recall"), percent("F1")]
    columns += [count("clips"), count("predicted")]
    text = f"Never predicted: {', '.join(never)}." if never else "Every class is predicted at least once."
    if absent:
        text += f" Recall is undefined for {', '.join(absent)}: no held-out clip has the class."
    rows = list(_class_rows(pooled, names, intervals or {}))
    return [Table(name, columns, rows, caption), Paragraph(text)]


def _class_rows(pooled: JsonObject, names: Sequence[str], intervals: ClassIntervals) -> Iterator[list[Cell]]:
    counts = pooled["confusion"]
    num_predicted = [sum(column) for column in zip(*counts, strict=True)]
    for i, name in enumerate(names):
        num_clips, num_right = sum(counts[i]), counts[i][i]
        values = {
            "precision": num_right / num_predicted[i] if num_predicted[i] else None,
            "recall": pooled["recall"][name],
            # A class that is neither target nor prediction of any clip has no F1.
            "f1": 2 * num_right / (num_clips + num_predicted[i]) if num_clips + num_predicted[i] else None,
        }
        of_class = intervals.get(name, {})
        scores = [
            ScoreCell(value, of_class[metric].between, of_class[metric].undefined)
            if metric in of_class
            else ScoreCell(value, None)
            for metric, value in values.items()
        ]
        yield [name, *scores, num_clips, num_predicted[i]]


def intervals_of(run: TuneRun | ModelRun) -> ClassIntervals:
    """Intervals of each class's scores from the predictions; none where speakers are in several folds."""
    if "fold" in run.predictions.column_names and in_several_parts(run.predictions, "speaker"):
        return {}
    return class_intervals(run.predictions, run.metrics["classes"], seed=run.config.get("seed", 0))


def confusion_tables(counts: Sequence[Sequence[int]], names: Sequence[str], *, name: str) -> Details:
    """Counts and fractions of the target class as tables, rows targets and columns predictions."""
    rows: list[list[Cell]] = [[target, *line] for target, line in zip(names, counts, strict=True)]
    fractions: list[list[Cell]] = [
        [target, *(number / sum(line) if sum(line) else None for number in line)]
        for target, line in zip(names, counts, strict=True)
    ]
    target = words("target")
    return Details(
        "The confusion matrix as tables",
        [
            Table(name, [target, *map(count, names)], rows, "Clips by target (rows) and predicted class."),
            Table(
                f"{name}_percent",
                [target, *map(percent, names)],
                fractions,
                "The same as fractions of the target class.",
            ),
        ],
    )


def surest_mistakes(run: TuneRun | ModelRun) -> list[Block]:
    """The wrong predictions of highest probability with their recordings; nothing where all are right."""
    is_wrong = pc.not_equal(run.predictions["target"], run.predictions["predicted"])
    wrong = (
        (row[f"prob_{row['predicted']}"], row["clip_id"], row["speaker"], row["target"], row["predicted"])
        for row in each_row(run.predictions.filter(is_wrong))
    )
    surest = heapq.nsmallest(NUM_MISTAKES_SHOWN, wrong, key=lambda row: (-row[0], row[1]))
    recordings = sounds(run, [clip_id for _, clip_id, *_ in surest])
    rows: list[list[Cell]] = [
        [clip_id, *names, probability, recordings.get(clip_id, "")] for probability, clip_id, *names in surest
    ]
    columns = [words("clip"), words("speaker"), words("target"), words("predicted"), percent("probability")]
    columns.append(words("recording"))
    caption = "The surest mistakes: listen to these first, a label may be wrong."
    return [Table("mistakes", columns, rows, caption)] if rows else []


def largest_errors(run: ModelRun) -> list[Block]:
    """The predictions of labels or values that are farthest from their targets, with their recordings."""
    prefix = "prob" if run.metrics["kind"] == "multi_label" else "pred"
    errors = (
        (abs(row[f"{prefix}_{name}"] - row[f"target_{name}"]), row["clip_id"], row["speaker"], name, row)
        for row in each_row(run.predictions)
        for name in run.metrics["names"]
        if row[f"target_{name}"] is not None
    )
    largest = heapq.nsmallest(NUM_MISTAKES_SHOWN, errors, key=lambda error: (-error[0], error[1], error[3]))
    recordings = sounds(run, [clip_id for _, clip_id, *_ in largest])
    rows: list[list[Cell]] = [
        [clip_id, speaker, name, row[f"target_{name}"], row[f"{prefix}_{name}"], recordings.get(clip_id, "")]
        for _, clip_id, speaker, name, row in largest
    ]
    kind = "label" if prefix == "prob" else "target"
    columns = [words("clip"), words("speaker"), words(kind), number("target value")]
    columns += [number("probability" if prefix == "prob" else "predicted"), words("recording")]
    caption = "The largest errors: listen to these first, a target may be wrong."
    return [Table("mistakes", columns, rows, caption)] if rows else []


def lengths_text(manifest: pa.Table) -> str:
    """Shortest, longest and median duration of the clips; empty where no clip has a duration."""
    lengths = manifest["duration_s"].drop_null().to_numpy()
    if not len(lengths):
        return ""
    return f" Clips last {lengths.min():.2f} to {lengths.max():.2f} s, median {np.median(lengths):.2f} s."


def clips_blocks(run: RunFiles) -> list[Block]:
    """How many of the given clips were used, rejected and passed over, and the rejected ones by reason with examples."""
    return [*accounting_blocks(run.metrics), *rejects_blocks(run.rejects)]


def accounting_blocks(metrics: JsonObject) -> list[Block]:
    """Given, used, rejected and passed over by kind, whose sums agree; nothing for runs of versions that did not count."""
    numbers = metrics.get("clips")
    if not isinstance(numbers, Mapping):
        return []
    rows: list[list[Cell]] = [["used", "", numbers["used"]]]
    for outcome in ("rejected", "passed_over"):
        rows += [[outcome.replace("_", " "), kind, num] for kind, num in numbers[outcome].items()]
    rows += [["given", "", numbers["given"]]]
    rows += [["of those used, tolerated", kind, num] for kind, num in numbers["tolerated"].items()]
    rejected, passed_over = (sum(numbers[outcome].values()) for outcome in ("rejected", "passed_over"))
    caption = (
        f"{numbers['given']} files and rows were given = {numbers['used']} used + {rejected} rejected + "
        f"{passed_over} passed over."
    )
    return [Table("accounting", [words("what"), words("kind"), count("number")], rows, caption)]


def rejects_blocks(rejects: pa.Table) -> list[Block]:
    """Rejected clips by reason with examples, or that there are none."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for kind, row in zip(kinds_of(rejects), rejects.to_pylist(), strict=True):
        by_kind[kind].append(f"{row['clip_id']} ({row['reason']})")
    if not by_kind:
        return [Paragraph("No clip was rejected.")]
    kinds = sorted(by_kind.items(), key=lambda item: -len(item[1]))
    rows: list[list[Cell]] = [[kind, len(clips), listed(clips, num_shown=3)] for kind, clips in kinds]
    caption = f"{rejects.num_rows} rejected clips by reason; rejects.parquet has them all."
    return [Table("rejects", [words("reason"), count("clips"), words("examples")], rows, caption)]


def provenance(run: RunFiles, facts: Mapping[str, object], *, command_note: str) -> list[Block]:
    """The job, its date, machine and cost, and the command to run it again."""
    metrics = run.metrics
    values: dict[str, object] = {}
    if "computed_on" in metrics:
        values["computed on"] = metrics["computed_on"]
    if rate := metrics.get("learning_rate"):
        values["peak learning rate"] = f"{rate:g}"
    values |= {**facts, **made_facts(run)}
    if metrics.get("seconds") is not None:
        exact = f" ({metrics['seconds']:.1f} s)" if metrics["seconds"] >= 120 else ""
        values["wall time"] = f"{duration_text(metrics['seconds'])}{exact}"
    if later := metrics.get("later_sessions"):
        last = later[-1]
        values["same command again"] = (
            f"{len(later)} times, last on {last['made']['date'][:10]} for {duration_text(last['seconds'])}"
            if len(later) > 1
            else f"once, on {last['made']['date'][:10]} for {duration_text(last['seconds'])}"
        )
    values |= {f"version of {name}": version for name, version in metrics.get("versions", {}).items()}
    rows = [[name, str(value)] for name, value in values.items()]
    return [
        Table("provenance", [words("what"), words("value")], rows, "What this run was made with."),
        *warnings_blocks(metrics),
        Paragraph(command_note),
        Quote(job_command(metrics["job"], storage.join(run.uri, "config.yaml")), is_code=True),
        Details("config.yaml", [Quote(run.config_text, is_code=True)]),
    ]


def warnings_blocks(metrics: JsonObject) -> list[Block]:
    """The warnings of the job and its workers; nothing without any, or for runs of versions that did not keep them."""
    rows: list[list[Cell]] = [[text] for text in metrics.get("warnings", [])]
    return [Table("warnings", [words("warning")], rows, "What the job warned of.")] if rows else []


def made_facts(run: RunFiles) -> dict[str, str]:
    """Date, commit, device and machine of a run, as far as it has recorded them."""
    made = run.metrics.get("made")
    # A GPU is used where there is one; devices of workers on other machines are not recorded.
    with_gpus = "GPU" if made and made["gpus"] else ""
    return machine_facts(made, device=with_gpus if _num_gpus(run.config) else "CPU")


def machine_facts(made: JsonObject | None, *, device: str = "") -> dict[str, str]:
    """Date, commit, device and machine from `made` of metrics.json; the device is left out if it is '', and all if made is None."""
    if made is None:
        return {}
    gpus = ", ".join(made["gpus"]) or "no GPU"
    return {
        "date": made["date"],
        "commit": made["commit"] or "unknown",
        **({"device of each worker": device} if device else {}),
        "started on": f"{made['cpu']}, {made['num_cores']} cores, {made['memory_gb']:g} GB, {gpus}",
        "system": made["system"],
    }


def _num_gpus(tree: object) -> float:
    """The most GPUs that any setting of the config gives to a trial, worker or encoder."""
    if not isinstance(tree, Mapping):
        return 0.0
    here = [float(value or 0) for name, value in tree.items() if name.startswith("gpus_per_")]
    return max([*here, *map(_num_gpus, tree.values())], default=0.0)


def kicker(run: RunFiles) -> str:
    """The line above a page's title: the job, its date, and where the run is."""
    date = run.metrics.get("made", {}).get("date", "")[:10]
    return f"w2v2 {run.metrics['job']}{f', {date}' if date else ''}, in {run.uri}"
