"""The run directory of a search over 24 speakers, 6 folds, 8 classes and 12 trials, made in a second."""

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
from w2v2.evaluation import classification
from w2v2.evaluation.scores import pooled_metrics

CLASSES = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
SPEAKERS = [f"{i:02d}" for i in range(1, 25)]
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
        return classification.scores(
            classification.confusion(target[rows], predicted[rows], len(CLASSES)), CLASSES
        )

    everything = np.ones(len(target), dtype=bool)
    pooled = scores(everything)
    pooled["intervals"] = pooled_metrics(pa.Table.from_pylist(predictions), CLASSES, seed=0)["intervals"]
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


def made_estimate(scores: dict[str, Any]) -> dict[str, Any]:
    """An estimate 1.1 points below the best trial, in the form that search/estimate.py gives it."""
    optimism, metrics, num_trials = 0.011, {}, scores["selection"]["num_complete"]
    for name in ("accuracy", "uar", "macro_f1"):
        value = scores["pooled"][name] - optimism
        metrics[name] = {"value": value, "low": value - 0.045, "high": value + 0.045, "undefined": ""}
        metrics[name] |= {"se_speakers": 0.02, "se_folds": 0.0175, "num_left_out": 0}
    return {
        "name": "BBC-CV",
        "metric": "uar",
        "metrics": metrics,
        "optimism": dict.fromkeys(metrics, optimism),
        "num_speakers": 24,
        "num_folds": 6,
        "num_trials": num_trials,
        "how": f"Bootstrap bias corrected cross-validation over 6 folds and {num_trials} complete trials.",
        "interval": "95 %: Student's t times the standard error over speakers or over folds, whichever is wider",
    }


def params_of(trial: int) -> dict[str, Any]:
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
        else 0.02 + 0.05 * abs(math.log10(params_of(trial)["optim.learning_rate"]) + 2.8)
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
    row = {"trial": trial, "state": state} | {f"params_{k}": v for k, v in params_of(trial).items()}
    for name in ("uar", "accuracy", "macro_f1"):
        values = [fold[name] for fold in folds]
        row |= {
            f"{name}_mean": float(np.mean(values)) if values else None,
            f"{name}_std": float(np.std(values)) if values else None,
        }
    row |= {"folds_done": num_done, "seconds": sum(fold["seconds"] for fold in folds) if folds else None}
    return row | {"error": "CUDA out of memory & <b>more</b>" if state == "FAIL" else ""}, folds, curves


ABOUT = {
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
"""What metrics.json has besides scores and trials."""


def _selection(states: list[str], scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "num_trials": len(states),
        "num_complete": states.count("COMPLETE"),
        "num_pruned": states.count("PRUNED"),
        "num_failed": states.count("FAIL"),
        "best": scores["pooled"]["uar"],
        "nested": scores["folds"]["uar"]["mean"] - 0.0123,
        "note": "the best of 12 trials is an optimistic estimate",
    }


def write_run(
    folder: Path,
    *,
    states: list[str] = STATES,
    best_trial: int = 3,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Path:
    """A run directory as a search leaves it; change mutates metrics.json before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = _clips()
    predictions = _predictions(clips)
    scores = _metrics_of(predictions)
    trials, folds, curves = [], [], []
    for trial, state in enumerate(states):
        row, some_folds, some_curves = _trial(trial, state, scores, best_trial)
        trials, folds, curves = [*trials, row], [*folds, *some_folds], [*curves, *some_curves]
    scores |= {"trial": best_trial, "params": params_of(best_trial), **ABOUT}
    scores["selection"] = _selection(states, scores)
    change(scores)
    (folder / "metrics.json").write_text(json.dumps(scores))
    config = {
        "run": str(folder),
        "seed": 7,
        "data": {"uri": "gs://b/ravdess"},
        "search": {"space": SPACE, "metric": "uar"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    tables = {"trials": trials, "folds": folds, "curves": curves, "predictions": predictions}
    for name, rows in (tables | {"manifest": clips, "rejects": reject_rows("Actor_02/x.wav")}).items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


def without_estimate(scores: dict[str, Any]) -> None:
    """As in runs of before there was one."""
    scores.pop("estimate", None)
