"""The page of one model: its scores, how far to trust them, how it learned, and on what data."""

import logging
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from w2v2.evaluation.scores import columns
from w2v2.reports import plots
from w2v2.reports.html import (
    Cell,
    duration,
    facts_tag,
    page,
    pair_tag,
    paragraph_tag,
    percent,
    some,
    table_tag,
    tag,
)
from w2v2.reports.model_figures import loss_told, task_figures
from w2v2.reports.model_run import TaskRun, checks, read_task_run
from w2v2.reports.model_sections import between, folds, number, score_sections, shown
from w2v2.reports.tune_page import checks_tag, verdict_tag
from w2v2.reports.tune_sections import rejects_table
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)

SPLITS = {"train": "train", "val": "validation", "test": "test", "": "no split"}


def write_task_report(run: str) -> str:
    """The uri of `<run>/report.html`, made with `<run>/plots/*.png` from the files of one model's run.

    Reads metrics.json (see task_scores), config.yaml, predictions, manifest, rejects and, where there is
    one, curves.parquet.
    """
    task = read_task_run(storage.expand(run))
    figures = task_figures(task)
    for name, figure in figures.items():
        storage.write_bytes(storage.join(task.uri, "plots", f"{name}.png"), plots.png(figure))
    sections = [
        ("", headline(task, figures)),
        ("How far to trust it", checks_tag(checks(task))),
        ("Folds", folds(task, figures)),
        *score_sections(task, figures),
        ("Training", training(task, figures)),
        ("Data", data(task)),
        ("Settings", settings(task)),
    ]
    uri = storage.join(task.uri, "report.html")
    told = [(heading, inner) for heading, inner in sections if inner]
    storage.write_text(uri, page(_title(task), told, kicker=f"w2v2 {task.metrics['job']} in {task.uri}"))
    logger.info("wrote %s and %d plots", uri, len(figures))
    return uri


def _title(run: TaskRun) -> str:
    names = run.metrics["names"]
    what = {
        "classes": f"{len(names)} classes",
        "multi_label": f"{len(names)} labels",
        "regression": some(names),
    }
    named = run.metrics.get("encoder") or run.metrics.get("model") or {}
    model = run.config.get("model") or named.get("name", "")
    return f"{what[run.metrics['kind']]}: {model}"


def headline(run: TaskRun, figures: Mapping[str, Figure]) -> str:
    """The leading scores with intervals, what they were computed on, sizes, and what asks for care."""
    metrics = run.metrics
    facts = {"clips scored": f"{metrics['num_clips']}", "speakers scored": f"{metrics['num_speakers']}"}
    num_train = run.manifest["split"].to_pylist().count("train")
    if num_train:
        facts["clips trained on"] = f"{num_train}"
    if run.curves.num_rows:
        facts["epochs"] = f"{run.curves.num_rows}"
    lengths = [seconds for seconds in run.manifest["duration_s"].to_pylist() if seconds is not None]
    facts["of audio"] = duration(sum(lengths))
    left = f'<div class="scores">{_leading(metrics)}</div>'
    left += paragraph_tag(f"Computed on {metrics['computed_on']}.")
    main = {"classes": "confusion", "multi_label": "auc", "regression": "plane"}[metrics["kind"]]
    right = verdict_tag(checks(run))
    if main in figures:
        left, right = left + right, shown(figures, main, _CAPTIONS[main])
    return pair_tag(left, right) + facts_tag(facts)


_CAPTIONS = {
    "confusion": "Clips by target and predicted class: counts, and as colour the fraction of the target class.",
    "auc": "AUC of each label with its 95% interval (bootstrap over speakers). Dashed: chance.",
    "plane": "Each clip where it is (open) and where it was predicted to be (full).",
}


def _leading(metrics: Mapping[str, Any]) -> str:
    pooled, intervals = metrics["pooled"], metrics["pooled"]["intervals"]
    match metrics["kind"]:
        case "classes":
            chance = percent(metrics["chance_uar"], why="no clip")
            first = f"UAR; 95% interval {between(intervals['uar'], percent)}; chance {chance}"
            second = f"accuracy; 95% interval {between(intervals['accuracy'], percent)}"
            scores = [(percent(pooled["uar"]), first), (percent(pooled["accuracy"]), second)]
        case "multi_label":
            over = f"over {pooled['num_defined']} of {len(pooled['labels'])} labels"
            first = f"macro AUC {over}; 95% interval {between(intervals['macro_auc'])}; chance 0.5"
            second = f"AUC weighted by clips; 95% interval {between(intervals['weighted_auc'])}"
            scores = [(number(pooled["macro_auc"]), first), (number(pooled["weighted_auc"]), second)]
        case _:
            mean, within = pooled["mean"], intervals["mean"]
            over = f"mean of {some(metrics['names'])}"
            first = f"CCC, {over}; 95% interval {between(within['ccc'])}; 0 is no agreement"
            second = f"RMSE, {over}; 95% interval {between(within['rmse'])}"
            scores = [(number(mean["ccc"]), first), (number(mean["rmse"]), second)]
    return "".join(f'<div class="score">{score}{tag("small", text)}</div>' for score, text in scores)


def training(run: TaskRun, figures: Mapping[str, Figure]) -> str:
    """The learning curves and what they say; nothing where nothing was trained."""
    if not run.curves.num_rows:
        return ""
    rows = run.curves.sort_by("epoch").to_pylist()
    last, best = rows[-1], run.metrics.get("best_epoch")
    text = f"{len(rows)} epochs; the training loss went from {rows[0]['train_loss']:.4g} to {last['train_loss']:.4g}."
    known = [row for row in rows if plots.is_known(row["val_loss"])]
    if known:
        lowest = min(known, key=lambda row: row["val_loss"])
        text += f" The validation loss is lowest in epoch {lowest['epoch']} ({lowest['val_loss']:.4g})."
    if best:
        text += f" The weights of epoch {best} were kept."
    loss, note = loss_told(run)
    caption = f"{loss[0].upper()}{loss[1:]} by epoch, and the learning rate at its end. {note}"
    return paragraph_tag(text) + shown(figures, "learning_curves", caption.strip())


def data(run: TaskRun) -> str:
    """Sizes, clips by split or fold and class, label or target, and the clips that could not be used, by reason."""
    clips = run.manifest
    num_speakers = len(clips["speaker"].unique())
    text = f"{clips.num_rows} clips of {num_speakers} speakers, from {run.config['data']['uri']}."
    lengths = [seconds for seconds in clips["duration_s"].to_pylist() if seconds is not None]
    if lengths:
        text += f" Clips last {min(lengths):.2f} to {max(lengths):.2f} s, median {median(lengths):.2f} s."
    return paragraph_tag(text) + _parts_table(run) + rejects_table(run.rejects)


def _parts_table(run: TaskRun) -> str:
    clips, part = run.manifest, run.part
    found: set[str | int] = set(clips[part].to_pylist())
    splits: list[str | int] = [split for split in SPLITS if split in found]
    splits += sorted(found - set(SPLITS), key=lambda name: (isinstance(name, str), name))
    places = {split: np.flatnonzero([own == split for own in clips[part].to_pylist()]) for split in splits}
    speakers: dict[str | int, set[str]] = defaultdict(set)
    for row in clips.select([part, "speaker"]).to_pylist():
        speakers[row[part]].add(row["speaker"])
    rows: list[list[Cell]] = [
        ["clips", *(len(places[split]) for split in splits)],
        ["speakers", *(len(speakers[split]) for split in splits)],
    ]
    match run.metrics["kind"]:
        case "classes":
            counts = {split: Counter(clips["label"].take(places[split]).to_pylist()) for split in splits}
            rows += [[name, *(counts[split][name] for split in splits)] for name in run.metrics["classes"]]
            caption = f"Clips by {part} and class."
        case kind:
            targets = columns(clips, "target", run.metrics["names"])
            tell = _spread if kind == "regression" else _present
            for i, name in enumerate(run.metrics["names"]):
                rows.append([name, *(tell(targets[places[split], i]) for split in splits)])
            caption = (
                "Clips by split; of each target mean \u00b1 standard deviation."
                if kind == "regression"
                else "Clips by split; of each label the clips with it, of those where it is known."
            )
    head = [f"fold {split}" if isinstance(split, int) else SPLITS.get(split, split) for split in splits]
    return table_tag(["", *head], rows, caption=caption)


def _present(target: np.ndarray) -> str:
    return f"{np.sum(target == 1)} of {np.sum(~np.isnan(target))}"


def _spread(target: np.ndarray) -> str:
    known = target[~np.isnan(target)]
    return f"{known.mean():.3g} \u00b1 {known.std():.2g}" if len(known) else "undefined"


def settings(run: TaskRun) -> str:
    """What was run, with what, at what cost, and how to run it again."""
    metrics = run.metrics
    facts: dict[str, object] = {"computed on": metrics["computed_on"]}
    facts |= {f"encoder {key}": value for key, value in metrics.get("encoder", {}).items()}
    facts |= {f"model {key}": value for key, value in metrics.get("model", {}).items()}
    facts |= {"seed": run.config["seed"]} if "seed" in run.config else {}
    if metrics.get("seconds") is not None:
        facts["wall time"] = f"{duration(metrics['seconds'])} ({metrics['seconds']:.1f} s)"
    facts |= {f"version of {name}": version for name, version in metrics.get("versions", {}).items()}
    rows: list[list[Cell]] = [[name, str(value)] for name, value in facts.items()]
    command = f"python jobs/{metrics['job']}.py --config {shlex.quote(storage.join(run.uri, 'config.yaml'))}"
    return (
        table_tag(["what", "value"], rows, caption="What this run was made with.")
        + paragraph_tag("To run it again:")
        + tag("pre", command)
        + f"<details><summary>config.yaml</summary>{tag('pre', run.config_text)}</details>"
    )
