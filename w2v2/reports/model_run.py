"""What training or scoring one model, or one per fold, left in its run directory, and what it says for and against the scores."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from w2v2.reports.html import percent, some
from w2v2.reports.tune_findings import Check, encoder_checks, in_two
from w2v2.storage import files as storage


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """The files of a run of jobs/finetune.py, jobs/evaluate.py or jobs/baseline.py, read into memory."""

    uri: str
    metrics: dict[str, Any]
    config: dict[str, Any]
    config_text: str
    predictions: pa.Table
    """Of the clips that are scored."""
    manifest: pa.Table
    rejects: pa.Table
    curves: pa.Table
    """Empty where nothing was trained."""

    @property
    def part(self) -> Literal["split", "fold"]:
        """What keeps speakers apart: splits, or folds that are held out in turn."""
        return "fold" if self.metrics["job"] == "baseline" else "split"

    @property
    def has_parts(self) -> bool:
        """Whether clips stand in more than one split or fold."""
        return len(self.manifest[self.part].unique()) > 1


def read_task_run(uri: str) -> TaskRun:
    """The tables, metrics and config of a run directory; a missing file raises StorageError.

    curves.parquet may be missing: an evaluation trains nothing. Of a fine-tuning's predictions those of the
    test split are scored.
    """

    def table(name: str) -> pa.Table:
        data = storage.read_bytes(storage.join(uri, f"{name}.parquet"))
        return pq.read_table(pa.BufferReader(data))

    config_text = storage.read_text(storage.join(uri, "config.yaml"))
    metrics = json.loads(storage.read_text(storage.join(uri, "metrics.json")))
    predictions = table("predictions")
    if metrics["job"] == "finetune":
        predictions = predictions.filter(pc.equal(predictions["split"], "test"))
    is_trained = storage.exists(storage.join(uri, "curves.parquet"))
    return TaskRun(
        uri=uri,
        metrics=metrics,
        config=yaml.safe_load(config_text),
        config_text=config_text,
        predictions=predictions,
        manifest=table("manifest"),
        rejects=table("rejects"),
        curves=table("curves") if is_trained else pa.table({"epoch": pa.array([], pa.int64())}),
    )


def checks(run: TaskRun) -> list[Check]:
    """Every check of the page: of the data first, then of the scores."""
    pairs = [
        *encoder_checks(run.metrics),
        *_heard_checks(run),
        *_split_checks(run),
        *_data_checks(run),
        *_score_checks(run),
    ]
    return [Check(is_good=is_good, text=good if is_good else care) for is_good, good, care in pairs]


def _heard_checks(run: TaskRun) -> Iterator[tuple[bool, str, str]]:
    if "heard_speakers" not in run.metrics:
        return
    num_speakers, num_clips = run.metrics["heard_speakers"], run.metrics["heard_clips"]
    yield (
        not num_speakers,
        f"None of the {run.metrics['num_speakers']} speakers trained the model, by name.",
        f"{num_speakers} of the {run.metrics['num_speakers']} speakers trained this model: this is no score of unseen "
        "speakers.",
    )
    yield (
        not num_clips,
        "No clip trained the model, by its samples.",
        f"{num_clips} of the clips trained this model, as their samples tell: this is no score of unseen recordings.",
    )


def _split_checks(run: TaskRun) -> Iterator[tuple[bool, str, str]]:
    if not run.has_parts:
        return
    torn = in_two(run.manifest, "speaker", part=run.part)
    yield (
        not torn,
        f"Speaker-independent: no speaker stands in two {run.part}s.",
        f"Not speaker-independent: in more than one {run.part} are the speakers {some(torn)}.",
    )
    if "audio_digest" in run.manifest.column_names:
        copied = in_two(run.manifest, "audio_digest", part=run.part)
        yield (
            not copied,
            f"No recording has an exact copy in another {run.part}.",
            f"Recordings with an exact copy in another {run.part}: {len(copied)}.",
        )


def _data_checks(run: TaskRun) -> Iterator[tuple[bool, str, str]]:
    is_tiny = run.metrics.get("encoder", {}).get("name") == "tiny"
    is_demo = run.config["data"]["uri"] == "demo"
    made_up = " and ".join(["random weights"] * is_tiny + ["made-up talkers"] * is_demo)
    yield (
        not made_up,
        "Real recordings." if run.part == "fold" else "Real recordings and a pretrained encoder.",
        f"This run used {made_up}: it shows that the job works, not how good a model is.",
    )
    num_rejects, num_clips = run.rejects.num_rows, run.rejects.num_rows + run.manifest.num_rows
    rejected = (
        f"{num_rejects} of {num_clips} clips could not be used ({percent(num_rejects / max(num_clips, 1))})."
    )
    yield num_rejects <= 0.01 * num_clips, rejected if num_rejects else "Every clip could be used.", rejected


def _score_checks(run: TaskRun) -> Iterator[tuple[bool, str, str]]:
    name, interval, nothing = against_nothing(run.metrics)
    low, num_speakers = (interval or (None,))[0], run.metrics["num_speakers"]
    form = percent if run.metrics["kind"] == "classes" else "{:.3g}".format
    yield (
        low is not None and nothing is not None and low > nothing,
        f"The whole 95% interval of {name} lies above {form(nothing)}, which needs no learning."
        if nothing is not None
        else "",
        f"The 95% interval of {name} is undefined: it resamples speakers and needs two of them, with clips "
        "of every kind."
        if low is None or nothing is None
        else f"The 95% interval of {name} reaches down to {form(low)}; {form(nothing)} needs no learning.",
    )
    yield (
        num_speakers >= 10,
        f"The interval resamples {num_speakers} whole speakers, not clips.",
        f"The interval resamples only {num_speakers} speakers and is itself rough.",
    )
    yield from _completeness_checks(run)
    num_rows, num_clips = run.predictions.num_rows, run.metrics["num_clips"]
    yield (
        num_rows == num_clips,
        f"predictions.parquet agrees with metrics.json: {num_clips} clips.",
        f"predictions.parquet has {num_rows} clips, metrics.json {num_clips}: one of them is of another run.",
    )


def against_nothing(metrics: dict[str, Any]) -> tuple[str, list[float] | None, float | None]:
    """The leading score's name, its interval, and what it is for a model that has learned nothing."""
    intervals = metrics["pooled"]["intervals"]
    match metrics["kind"]:
        case "classes":
            return "UAR", intervals["uar"], metrics["chance_uar"]
        case "multi_label":
            return "macro AUC", intervals["macro_auc"], 0.5
        case _:
            return "mean CCC", intervals["mean"]["ccc"], 0.0


def _completeness_checks(run: TaskRun) -> Iterator[tuple[bool, str, str]]:
    pooled = run.metrics["pooled"]
    if run.metrics["kind"] == "classes":
        never, absent = pooled["never_predicted"], pooled["absent"]
        yield not never, "Every class is predicted at least once.", f"Never predicted: {some(never)}."
        yield not absent, "Every class has clips to score.", f"Without clips to score: {some(absent)}."
    else:
        told = [f"{name} ({why})" for name, why in pooled["undefined"].items()]
        yield not told, "Every score is defined.", f"Undefined: {some(told)}."
