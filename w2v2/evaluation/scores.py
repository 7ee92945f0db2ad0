"""The scores of one model's predictions, as plain JSON for metrics.json and as lines for the terminal.

`score_predictions` gives, for every kind: `kind`, `names` (classes, labels or targets), `num_clips`,
`num_speakers` and `pooled`, the scores of all clips together with `intervals` as bootstrap.intervals has them, and
- classes: `classes`, `chance_uar`, `by_speaker`; pooled is the result of classification.scores
- multi_label: pooled is the result of multi_label.scores
- regression: pooled is the result of regression.scores; `quadrants` for two targets with midpoints
- transcript: `by_speaker`; pooled is the result of recognition.scores, and names are the characters of the model

A job adds to it: `job`, `computed_on` (what follows "computed on ..."), and where they apply `encoder` and
`model` (name or uri, digest, ...), `versions`, `seconds`, `before_remapping` (a `pooled` of the original class
names) and `best_epoch` (whose weights were kept).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from w2v2.config.data import TaskKind
from w2v2.data.groups import numbered
from w2v2.data.targets import class_numbers
from w2v2.evaluation import bootstrap, multi_label, recognition, regression
from w2v2.evaluation import classification as metrics
from w2v2.evaluation.bootstrap import Scored
from w2v2.json_types import Json, JsonObject
from w2v2.wording import counted


def score_predictions(
    predictions: pa.Table,
    *,
    kind: TaskKind,
    names: Sequence[str],
    seed: int,
    midpoints: Sequence[float] | None = None,
    spaces: bool = True,
) -> dict[str, Json]:
    """The scores of all rows of a predictions table, with the keys in this module's docstring.

    The table has `speaker`, in cross-validation `fold`, and, for classes, `target` and `predicted`; for multi_label
    `target_<name>` (1, 0 or null) and `prob_<name>`; for regression `target_<name>` (a number or null) and
    `pred_<name>`; for transcript `target` and `predicted`, normalised texts. seed is for the bootstrap. midpoints,
    one per target, separate the quadrants; without them quadrants are left out. spaces: whether spaces separate
    the words of transcripts.
    """
    about = {
        "kind": kind,
        "names": list(names),
        "num_clips": len(predictions),
        "num_speakers": len(predictions["speaker"].unique()),
    }
    match kind:
        case "classes":
            pooled = pooled_metrics(predictions, names, seed=seed)
            by_speaker = speaker_metrics(predictions, names)
            return about | {
                "classes": list(names),
                "chance_uar": chance_uar(pooled),
                "pooled": pooled,
                "by_speaker": by_speaker,
            }
        case "multi_label":
            return about | {"pooled": _multi(predictions, names, seed=seed)}
        case "regression":
            return about | _regression(predictions, names, seed=seed, midpoints=midpoints)
        case "transcript":
            return about | _transcripts(predictions, spaces=spaces, seed=seed)


def pooled_metrics(predictions: pa.Table, classes: Sequence[str], *, seed: int) -> dict[str, Json]:
    """Scores of all predictions together, with their 95 % intervals."""
    target, predicted, _ = _class_columns(predictions, classes)
    tree = metrics.scores(metrics.confusion(target, predicted, len(classes)), classes)
    return tree | {"intervals": _intervals(scored(predictions, "classes", classes), seed=seed)}


def _transcripts(predictions: pa.Table, *, spaces: bool, seed: int) -> dict[str, Json]:
    target, predicted, speaker, clips = (
        predictions[name].to_pylist() for name in ("target", "predicted", "speaker", "clip_id")
    )
    folds = predictions["fold"].to_pylist() if "fold" in predictions.column_names else None
    pooled = recognition.scores(clips, target, predicted, speaker, spaces=spaces, folds=folds, seed=seed)
    by_speaker = recognition.by_speaker(target, predicted, speaker, spaces=spaces)
    return {"pooled": pooled, "by_speaker": by_speaker}


def scored(predictions: pa.Table, kind: TaskKind, names: Sequence[str], *, spaces: bool = True) -> Scored:
    """The predictions, ready to be resampled by speaker, and by fold if the table has folds.

    spaces: whether spaces separate the words of transcripts.
    """
    fold = fold_of(predictions)
    match kind:
        case "classes":
            target, predicted, speaker = _class_columns(predictions, names)
            model = number_of_model(predictions)
            return metrics.by_speaker(
                target, predicted, speaker, num_classes=len(names), fold=fold, model=model
            )
        case "multi_label":
            return multi_label.by_speaker(*_value_columns(predictions, "prob", names), names, fold=fold)
        case "regression":
            return regression.by_speaker(*_value_columns(predictions, "pred", names), names, fold=fold)
        case "transcript":
            target, predicted, speaker = (
                predictions[name].to_pylist() for name in ("target", "predicted", "speaker")
            )
            return recognition.scored(
                target, predicted, speaker, spaces=spaces, folds=None if fold is None else fold.tolist()
            )


def fold_of(predictions: pa.Table) -> Int[np.ndarray, " clips"] | None:
    """The fold of each clip, where each fold has its own model; None where one model predicts all clips."""
    return predictions["fold"].to_numpy() if "fold" in predictions.column_names else None


def number_of_model(predictions: pa.Table) -> Int[np.ndarray, " clips"] | None:
    """The number of the model that predicts each row, where models of several seeds predict every clip; else None."""
    return numbered(predictions["seed"].cast(pa.string()))[1] if "seed" in predictions.column_names else None


def _value_columns(
    predictions: pa.Table, prefix: str, names: Sequence[str]
) -> tuple[Float[np.ndarray, "clips names"], Float[np.ndarray, "clips names"], pa.ChunkedArray]:
    """Targets and what was predicted, and the speaker of each clip."""
    target, predicted = columns(predictions, "target", names), columns(predictions, prefix, names)
    return target, predicted, predictions["speaker"]


def _intervals(scored: Scored, *, seed: int) -> dict[str, Json]:
    """[low, high] or None by score; intervals of `ccc:<target>` are under targets, of `auc:<label>` under labels.

    `num_left_out` counts the samples that lack a class, a label or a target; `undefined` says why there is no interval.
    """
    by_name = bootstrap.intervals(scored, seed=seed)
    tree: dict[str, Any] = {name: interval.between for name, interval in by_name.items() if ":" not in name}
    for name, interval in by_name.items():
        metric, _, of = name.partition(":")
        if of:
            row = tree.setdefault("of", {}).setdefault(of, {})
            row |= {
                metric: interval.between,
                "num_left_out": max(interval.num_left_out, row.get("num_left_out", 0)),
            }
    errors = {
        name: {"speakers": interval.se_speakers, "folds": interval.se_folds}
        for name, interval in by_name.items()
    }
    return tree | {
        "num_samples": bootstrap.NUM_SAMPLES,
        "num_left_out": max(interval.num_left_out for interval in by_name.values()),
        "standard_errors": errors,
        "undefined": {name: interval.undefined for name, interval in by_name.items() if interval.undefined},
    }


def chance_uar(pooled: JsonObject) -> float | None:
    """UAR of a model that learned nothing: 1 / number of classes that have clips; None without clips."""
    num_present = len(pooled["recall"]) - len(pooled["absent"])
    return 1 / num_present if num_present else None


def speaker_metrics(predictions: pa.Table, classes: Sequence[str]) -> dict[str, dict[str, Json]]:
    """Scores of each speaker's clips."""
    target, predicted, speaker = _class_columns(predictions, classes)
    names, group = numbered(speaker)
    confusions = metrics.confusions(target, predicted, group, num_classes=len(classes), num_groups=len(names))
    by_speaker = {}
    for name, confusion in zip(names.tolist(), confusions, strict=True):
        scores = metrics.scores(confusion, classes)
        by_speaker[name] = {key: scores[key] for key in ("num_clips", "accuracy", "uar")}
    return by_speaker


def columns(table: pa.Table, prefix: str, names: Sequence[str]) -> Float[np.ndarray, "clips names"]:
    """The columns <prefix>_<name> as an array, a column per name; null becomes NaN."""
    values = np.empty((len(table), len(names)))
    for place, name in enumerate(names):
        values[:, place] = table[f"{prefix}_{name}"].to_numpy()
    return values


def _class_columns(
    predictions: pa.Table, classes: Sequence[str]
) -> tuple[Int[np.ndarray, " clips"], Int[np.ndarray, " clips"], pa.ChunkedArray]:
    target, predicted = (class_numbers(predictions[column], classes) for column in ("target", "predicted"))
    return target, predicted, predictions["speaker"]


def _multi(predictions: pa.Table, names: Sequence[str], *, seed: int) -> dict[str, Json]:
    target, predicted = columns(predictions, "target", names), columns(predictions, "prob", names)
    intervals = _intervals(scored(predictions, "multi_label", names), seed=seed)
    intervals["labels"] = intervals.pop("of")
    return multi_label.scores(target, predicted, names) | {"intervals": intervals}


def _regression(
    predictions: pa.Table, names: Sequence[str], *, seed: int, midpoints: Sequence[float] | None
) -> dict[str, Any]:
    target, predicted = columns(predictions, "target", names), columns(predictions, "pred", names)
    intervals = _intervals(scored(predictions, "regression", names), seed=seed)
    intervals["targets"] = intervals.pop("of")
    intervals["mean"] = {metric: intervals.pop(metric) for metric in regression.METRICS}
    scores = regression.scores(target, predicted, names)
    tree = {"pooled": scores | {"intervals": intervals}}
    if len(names) == 2 and midpoints is not None:
        by_speaker = regression.quadrants_by_speaker(
            target,
            predicted,
            predictions["speaker"],
            midpoints=midpoints,
            fold=fold_of(predictions),
        )
        quadrants = regression.quadrants(target, predicted, names, midpoints=midpoints)
        tree["quadrants"] = quadrants | {"intervals": _intervals(by_speaker, seed=seed)}
    return tree


def score_lines(metrics: JsonObject) -> str:
    """The lines of the score table that a job prints at its end, from metrics.json."""
    on = (
        metrics.get("computed_on")
        or f"{counted(metrics['num_clips'], 'clips')} of {counted(metrics['num_speakers'], 'speakers')}"
    )
    match metrics["kind"]:
        case "classes":
            lines = _class_lines(metrics)
        case "transcript":
            lines = _transcript_lines(metrics["pooled"])
        case "multi_label":
            lines = _multi_lines(metrics["pooled"])
        case _:
            lines = _regression_lines(metrics)
    return "\n".join(["", f"scores of {on}", *lines])


def _class_lines(metrics: JsonObject) -> list[str]:
    pooled = metrics["pooled"]
    lines = [f"{'':12}{'all clips':>10}  {'95 % interval':>18}"]
    for name in ("uar", "accuracy", "macro_f1"):
        lines.append(f"{name:12}{number_text(pooled[name]):>10}  {_within(pooled['intervals'], name):>18}")
    before = metrics.get("before_remapping")
    if before:
        scores = ", ".join(f"{name} {number_text(before[name])}" for name in ("uar", "accuracy", "macro_f1"))
        lines.append(f"before remapping, {len(before['recall'])} classes: {scores}")
    lines.append(f"chance UAR is {number_text(metrics['chance_uar'])}")
    lines += [f"never predicted: {name}" for name in pooled["never_predicted"]]
    return lines + ([f"without clips: {', '.join(pooled['absent'])}"] if pooled["absent"] else [])


def _transcript_lines(pooled: JsonObject) -> list[str]:
    lines = [f"{'':12}{'all clips':>10}  {'95 % interval':>18}  {'errors':>7}  {'of':>7}"]
    for name, unit in (("wer", "words"), ("cer", "characters")):
        if pooled[name] is not None:
            counts = pooled[unit]
            errors = sum(counts[kind] for kind in ("substitutions", "deletions", "insertions"))
            within = _within(pooled["intervals"], name)
            lines.append(
                f"{name:12}{number_text(pooled[name]):>10}  {within:>18}  {errors:>7}  {counts['reference']:>7}"
            )
    lines += [f"undefined: {name} ({why})" for name, why in pooled["undefined"].items()]
    lines.append(f"{pooled['num_right']} of {pooled['num_clips']} clips without an error")
    if pooled["empty_predictions"]:
        text = f"nothing was written for {counted(pooled['empty_predictions'], 'clips')}"
        all_empty = pooled["empty_predictions"] == pooled["num_clips"] - pooled["empty_references"]
        lines.append(f"{text}: the model has not left CTC's blank yet; train longer" if all_empty else text)
    return lines


def _multi_lines(pooled: JsonObject) -> list[str]:
    width = max(len("weighted"), *map(len, pooled["labels"])) + 2
    head = f"{'':{width}}{'AUC':>10}  {'95 % interval':>18}  {'with':>7}  {'without':>7}  {'missing':>7}"
    lines, why = [head], pooled["intervals"].get("undefined", {})
    for name, row in pooled["labels"].items():
        if row["auc"] is not None:
            counts = (row[f"num_{count}"] for count in ("positive", "negative", "missing"))
            within = within_text(pooled["intervals"]["labels"][name]["auc"], why.get(f"auc:{name}"))
            cell = "".join(f"  {count:>7}" for count in counts)
            lines.append(f"{name:{width}}{number_text(row['auc']):>10}  {within:>18}{cell}")
    for name in ("macro", "weighted"):
        within = _within(pooled["intervals"], f"{name}_auc")
        lines.append(f"{name:{width}}{number_text(pooled[f'{name}_auc']):>10}  {within:>18}")
    lines.append(f"macro and weighted are over {pooled['num_defined']} of {len(pooled['labels'])} labels")
    return lines + [f"undefined: {name} ({why})" for name, why in pooled["undefined"].items()]


def _regression_lines(metrics: JsonObject) -> list[str]:
    pooled = metrics["pooled"]
    width = max(len("mean"), *map(len, pooled["targets"])) + 2
    lines = [f"{'':{width}}{'':10}{'all clips':>10}  {'95 % interval':>18}"]
    intervals = pooled["intervals"]
    why = intervals.get("undefined", {})
    rows = [(name, row, intervals["targets"][name], f":{name}") for name, row in pooled["targets"].items()]
    for name, row, within_of, of in [*rows, ("mean", pooled["mean"], intervals["mean"], "")]:
        for metric in ("rmse", "r2", "pearson", "ccc"):
            within = within_text(within_of[metric], why.get(f"{metric}{of}"))
            cell = name if metric == "rmse" else ""
            lines.append(f"{cell:{width}}{metric:10}{number_text(row[metric]):>10}  {within:>18}")
    if "quadrants" in metrics:
        right = metrics["quadrants"]
        scores = (
            f"{name} {number_text(right[name])} {_within(right['intervals'], name)}"
            for name in ("accuracy", "uar")
        )
        lines.append(f"quadrants: {', '.join(scores)}")
    return lines + [f"undefined: {name} ({why})" for name, why in pooled["undefined"].items()]


def number_text(value: float | None) -> str:
    """The value with three decimals, or `undefined`."""
    return "undefined" if value is None else f"{value:.3f}"


def _within(intervals: JsonObject, name: str) -> str:
    return within_text(intervals[name], intervals.get("undefined", {}).get(name))


def within_text(interval: Sequence[float] | None, why: str | None = None) -> str:
    """[low, high] with three decimals, or `undefined` and why."""
    if interval:
        return f"[{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"undefined, {why}" if why else "undefined"
