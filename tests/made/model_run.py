"""Run directories of one model for each kind of task, made in a moment, as jobs/finetune.py leaves them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.made.rejects import reject_rows
from w2v2.config.data import TaskKind
from w2v2.evaluation import decisions
from w2v2.evaluation import scores as task_scores

CLASSES = ["negative", "neutral", "positive"]
ORIGINAL = ["angry", "sad", "neutral", "calm", "happy"]
REMAPPED = {
    "angry": "negative",
    "sad": "negative",
    "neutral": "neutral",
    "calm": "neutral",
    "happy": "positive",
}
LABELS = ["breathy", "strained <b>", "hoarse", "tremor"]
TARGETS = ["valence", "arousal"]
SPLIT_OF_SPEAKER = ["train"] * 12 + ["val"] * 3 + ["test"] * 11


def _clips() -> list[dict[str, Any]]:
    """26 speakers with 7 clips each; 12 speakers train, 3 tell when to stop, 11 are scored."""
    return [
        {
            "clip_id": f"{speaker:02d}/{k}.wav",
            "uri": f"gs://b/{speaker:02d}/{k}.wav",
            "start_s": 0.0,
            "end_s": math.inf,
            "speaker": f"s{speaker:02d}",
            "split": split,
            "label": "",
            "duration_s": 2 + 0.25 * k,
            "audio_digest": f"{speaker}-{k}",
        }
        for speaker, split in enumerate(SPLIT_OF_SPEAKER)
        for k in range(7)
    ]


def _classes(clips: list[dict[str, Any]], rng: np.random.Generator) -> tuple[list[dict], dict[str, Any]]:
    """Nobody is ever taken for neutral; calm and neutral are one class after remapping."""
    rows = []
    for i, clip in enumerate(clips):
        original = ORIGINAL[i % 5]
        clip["label"] = REMAPPED[original]
        right = rng.random() < 0.7 and clip["label"] != "neutral"
        predicted = clip["label"] if right else ("negative", "positive")[int(rng.integers(2))]
        sure = 0.5 + 0.4 * rng.random()
        probabilities = {name: sure if name == predicted else (1 - sure) / 2 for name in CLASSES}
        before = original if right else ("sad", "happy")[int(rng.integers(2))]
        row = {"target": clip["label"], "predicted": predicted, "before": (original, before)}
        rows.append(row | {f"prob_{name}": value for name, value in probabilities.items()})
    scored = [row["before"] for row, clip in zip(rows, clips, strict=True) if clip["split"] == "test"]
    for row in rows:
        del row["before"]
    speakers = [clip["speaker"] for clip in clips if clip["split"] == "test"]
    table = pa.table(
        {"speaker": speakers, "target": [t for t, _ in scored], "predicted": [p for _, p in scored]}
    )
    return rows, {"before_remapping": task_scores.pooled_metrics(table, ORIGINAL, seed=3)}


def _labels(clips: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """hoarse is known of every third clip, tremor is in no clip."""
    rows = []
    for i, clip in enumerate(clips):
        present = [float(rng.random() < share) for share in (0.5, 0.2, 0.4)] + [0.0]
        scores = [float(1 / (1 + np.exp(-(2 * value - 1 + rng.normal(0, 1.2))))) for value in present]
        targets = {f"target_{name}": value for name, value in zip(LABELS, present, strict=True)}
        if i % 3:
            targets["target_hoarse"] = None
        clip |= targets
        rows.append(targets | {f"prob_{name}": value for name, value in zip(LABELS, scores, strict=True)})
    return rows


def _values(clips: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Values on DEAM's scale, 1 to 9; predictions spread less, and one target is missing."""
    rows = []
    for i, clip in enumerate(clips):
        values = np.clip(rng.normal(5, 1.1, 2), 1, 9)
        guesses = 5 + 0.6 * (values - 5) + rng.normal(0, [0.7, 0.5])
        targets: dict[str, Any] = {f"target_{n}": float(v) for n, v in zip(TARGETS, values, strict=True)}
        if i == len(clips) - 1:
            targets["target_arousal"] = None
        clip |= targets
        rows.append(targets | {f"pred_{name}": float(v) for name, v in zip(TARGETS, guesses, strict=True)})
    return rows


def _thresholds(val: pa.Table, names: list[str]) -> dict[str, Any]:
    """What a model keeps of its val split."""
    return {
        "recordings": decisions.choose_thresholds(val, names),
        "patients": decisions.choose_thresholds(decisions.by_patient(val, names)[0], names),
        "chosen_on": f"the val split: {len(val)} clips of 3 speakers",
    }


def _curves(kind: TaskKind) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 1.7 * math.exp(-epoch / 4) + 0.1,
            "train_uar": 0.95 - 0.6 * math.exp(-epoch / 3) if kind == "classes" else None,
            "learning_rate": 3e-5 * epoch / 9,
            "val_loss": 1.5 * math.exp(-epoch / 4) + 0.3 + 0.03 * epoch,
        }
        for epoch in range(1, 10)
    ]


def write_task_run(
    folder: Path,
    kind: TaskKind,
    *,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    with_curves: bool = True,
) -> Path:
    """A run directory of one model; change mutates metrics.json before it is written."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    clips, more, midpoints = _clips(), {}, None
    match kind:
        case "classes":
            names, (rows, more) = CLASSES, _classes(clips, rng)
        case "multi_label":
            names, rows = LABELS, _labels(clips, rng)
        case _:
            names, rows, midpoints = TARGETS, _values(clips, rng), [5.0, 4.9]
    predictions = [
        {key: clip[key] for key in ("clip_id", "speaker", "split")} | row
        for clip, row in zip(clips, rows, strict=True)
        if clip["split"] != "train"
    ]
    # Those of the validation split are in the file, and are not scored.
    table = pa.Table.from_pylist([row for row in predictions if row["split"] == "test"])
    metrics = task_scores.score_predictions(table, kind=kind, names=names, seed=3, midpoints=midpoints)
    if kind == "multi_label":
        val = pa.Table.from_pylist([row for row in predictions if row["split"] == "val"])
        metrics |= decisions.decision_details(table, names, thresholds=_thresholds(val, names), seed=3)
    metrics |= more | {
        "job": "finetune",
        "computed_on": "the test split, once: 77 clips of 11 speakers",
        "encoder": {"name": "facebook/wav2vec2-base", "digest": "9f3a1c", "train": "last"},
        "versions": {"w2v2": "0.1.0", "torch": "2.14.0"},
        "seconds": 321.0,
        "best_epoch": 7,
    }
    change(metrics)
    (folder / "metrics.json").write_text(json.dumps(metrics, allow_nan=False))
    task = {"kind": kind, "loss": "auto", "variance_penalty": 0.05 if kind == "regression" else 0.0}
    config = {"run": str(folder), "seed": 7, "task": task, "data": {"uri": "gs://b/corpus"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    tables = {"predictions": predictions, "manifest": clips, "rejects": reject_rows("x.wav")}
    for name, written in (tables | ({"curves": _curves(kind)} if with_curves else {})).items():
        pq.write_table(pa.Table.from_pylist(written), folder / f"{name}.parquet")
    return folder
