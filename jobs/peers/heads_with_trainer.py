#!/usr/bin/env python
"""Heads on vectors by Hugging Face's Trainer: a peer of `w2v2 benchmark vectors`.

    jobs/peers/heads_with_trainer.py vectors.npz scores.json --num_trials 1 --num_epochs 20 --batch_size 8 --num_cpus 2

Folds are trained one after another, those of the first trials.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainingArguments


class Head(nn.Module):
    """Dropout and a linear layer, as Trainer takes them."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.1), nn.Linear(dim, num_classes))

    def forward(self, vectors: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss and logits."""
        logits = self.layers(vectors)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def train_fold(made: Any, fold: int, arguments: TrainingArguments) -> float:
    """The balanced accuracy on a fold of a head trained on the others."""
    vectors, targets, is_held_out = made["vectors"], made["targets"], made["folds"] == fold
    items = [{"vectors": v, "labels": t} for v, t in zip(torch.from_numpy(vectors), targets, strict=True)]
    trainer = Trainer(
        model=Head(vectors.shape[1], int(targets.max()) + 1),
        args=arguments,
        train_dataset=[items[row] for row in np.flatnonzero(~is_held_out)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    held_out: Any = [items[row] for row in np.flatnonzero(is_held_out)]
    predicted: Any = trainer.predict(held_out).predictions
    return float(balanced_accuracy_score(targets[is_held_out], predicted.argmax(1)))


def main() -> None:
    """Write the seconds, those of processors, and the balanced accuracy of each fold of the first trials."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("vectors", "output"):
        parser.add_argument(name)
    for name, default in (("num_trials", 1), ("num_epochs", 20), ("batch_size", 8), ("num_cpus", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.num_cpus)
    made = dict(np.load(arguments.vectors))
    seconds, cpu_seconds, scores = [], [], []
    for trial in range(arguments.num_trials):
        for fold in np.unique(made["folds"]):
            with tempfile.TemporaryDirectory(prefix="w2v2-trainer-") as scratch:
                started, worked = time.perf_counter(), time.process_time()
                settings = TrainingArguments(
                    output_dir=scratch,
                    num_train_epochs=arguments.num_epochs,
                    per_device_train_batch_size=arguments.batch_size,
                    learning_rate=float(made["learning_rates"][trial]),
                    weight_decay=float(made["weight_decays"][trial]),
                    save_strategy="no",
                    logging_strategy="no",
                    report_to="none",
                    disable_tqdm=True,
                    dataloader_pin_memory=False,
                    seed=int(fold),
                )
                scores.append(train_fold(made, int(fold), settings))
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - worked)
    Path(arguments.output).write_text(
        json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "scores": scores})
    )


if __name__ == "__main__":
    main()
