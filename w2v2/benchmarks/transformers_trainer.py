"""Hugging Face's Trainer for comparison with our training, with the same clips, batches, frozen part and AdamW."""

import importlib.util
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from w2v2.audio.waveforms import normalized
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.config.model import EncoderConfig, OptimConfig
from w2v2.errors import UserError
from w2v2.evaluation import classification
from w2v2.features.batches import shuffled_batches
from w2v2.models.encoder import Encoder
from w2v2.models.families import frames_of_clips
from w2v2.models.probabilities import log_softmax
from w2v2.search.trial import fold_seed


@dataclass(frozen=True, kw_only=True)
class LabelledClips:
    """Clips with classes and assigned folds, in our order."""

    waveforms: list[Float[np.ndarray, " _"]]
    targets: Int[np.ndarray, " clips"]
    folds: Int[np.ndarray, " clips"]
    num_classes: int

    @property
    def lengths(self) -> Int[np.ndarray, " clips"]:
        """Samples of each clip."""
        return np.array([len(waveform) for waveform in self.waveforms], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class PeerFold:
    """Trainer's results of one fold."""

    trial: int
    fold: int
    train_losses: list[float]
    """Mean over the clips of each epoch."""
    loss: float
    """The loss of the held-out clips; NaN where there are none."""
    uar: float
    seconds: float
    """Training and scoring, without loading."""


def check_trainer() -> None:
    """Raises UserError where Trainer cannot run."""
    if importlib.util.find_spec("accelerate") is None:
        raise UserError(
            "this case compares with Hugging Face's Trainer, which needs accelerate: install it with "
            "pip install 'w2v2[bench]'"
        )


class Peer(nn.Module):
    """A transformers encoder, the mean over a clip's frames and a linear layer, as Trainer takes it."""

    def __init__(self, model: PreTrainedModel, num_classes: int) -> None:
        super().__init__()
        self.model: Any = model
        self.head = nn.Linear(model.config.hidden_size, num_classes)
        self.losses: list[tuple[Tensor, int]] = []

    def forward(
        self,
        input_values: Float[Tensor, "batch samples"],
        attention_mask: Int[Tensor, "batch samples"],
        labels: Int[Tensor, " batch"],
    ) -> Mapping[str, Tensor]:
        """Loss and logits."""
        states = self.model(input_values, attention_mask=attention_mask).last_hidden_state
        mask = frames_of_clips(self.model, states.shape[1], attention_mask)[..., None]
        logits = self.head((states * mask).sum(1) / mask.sum(1))
        loss = nn.functional.cross_entropy(logits, labels)
        if self.training:
            self.losses.append((loss.detach(), len(labels)))
        return {"loss": loss, "logits": logits}


def load_peer(folder: str, encoder: EncoderConfig, num_classes: int) -> Peer:
    """A Peer that freezes the same weights as our encoder, and builds no graph below them."""
    transformers_logging.disable_progress_bar()
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    if encoder.train != "all":
        model.freeze_feature_encoder()  # else autograd runs through the frozen layers, down to the audio
    Encoder(model, encoder, normalize=True)  # sets requires_grad as our training has it
    return Peer(model, num_classes)


class _Batches:
    """Our batches of every epoch, one epoch each time it is asked."""

    def __init__(self, lengths: Int[np.ndarray, " clips"], *, batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return -(-len(self._lengths) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        made = shuffled_batches(
            self._lengths, batch_size=self._batch_size, seed=self._seed, epoch=self._epoch
        )
        self._epoch += 1
        return iter([batch.tolist() for batch in made])


def _collated(items: Sequence[tuple[Float[np.ndarray, " _"], int]]) -> dict[str, Tensor]:
    longest = max(len(waveform) for waveform, _ in items)
    values, mask = torch.zeros(len(items), longest), torch.zeros(len(items), longest, dtype=torch.long)
    for row, (waveform, _) in enumerate(items):
        values[row, : len(waveform)] = torch.from_numpy(waveform)
        mask[row, : len(waveform)] = 1
    labels = torch.tensor([target for _, target in items])
    return {"input_values": values, "attention_mask": mask, "labels": labels}


def train_fold(
    peer: Peer, clips: LabelledClips, *, trial: int, fold: int, optim: OptimConfig, num_epochs: int, seed: int
) -> PeerFold:
    """Trainer on all folds but one, then scored on that one; fold -1 trains on all clips and scores none."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    items = [(normalized(w), int(t)) for w, t in zip(clips.waveforms, clips.targets, strict=True)]
    train, held_out = np.flatnonzero(clips.folds != fold), np.flatnonzero(clips.folds == fold)
    batches = _Batches(clips.lengths[train], batch_size=optim.batch_size, seed=seed)

    class WithOurBatches(Trainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(
                self.train_dataset,
                batch_sampler=batches,
                collate_fn=_collated,
            )

    with tempfile.TemporaryDirectory(prefix="w2v2-trainer-") as scratch:
        started = time.perf_counter()
        arguments = TrainingArguments(**arguments_of(scratch, optim, num_epochs=num_epochs, seed=seed))
        trainer = WithOurBatches(
            model=peer,
            args=arguments,
            train_dataset=[items[index] for index in train],
            data_collator=_collated,
        )
        trainer.remove_callback(PrinterCallback)
        peer.losses.clear()
        trainer.train()
        logits: Any = np.empty((0, clips.num_classes))
        if len(held_out):
            logits = trainer.predict([items[index] for index in held_out]).predictions
        seconds = time.perf_counter() - started
    loss, uar = _scores(logits, clips.targets[held_out], clips.num_classes)
    losses = _epoch_losses(peer.losses, num_epochs)
    return PeerFold(trial=trial, fold=fold, train_losses=losses, loss=loss, uar=uar, seconds=seconds)


def arguments_of(folder: str, optim: OptimConfig, *, num_epochs: int, seed: int) -> dict[str, Any]:
    """TrainingArguments for the same steps as ours, without evaluation, checkpoints and logs."""
    assert optim.schedule == "linear" and not optim.warmup_fraction, "warm-ups differ by a step"
    return {
        "output_dir": folder,
        "num_train_epochs": num_epochs,
        "per_device_train_batch_size": optim.batch_size,
        "per_device_eval_batch_size": optim.batch_size,
        "learning_rate": optim.learning_rate,
        "weight_decay": optim.weight_decay,
        "adam_beta1": optim.beta1,
        "adam_beta2": optim.beta2,
        "adam_epsilon": optim.eps,
        "max_grad_norm": optim.clip_norm,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "seed": seed,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


def _epoch_losses(losses: Sequence[tuple[Tensor, int]], num_epochs: int) -> list[float]:
    per_epoch = len(losses) // num_epochs
    epochs = [losses[at : at + per_epoch] for at in range(0, len(losses), per_epoch)]
    return [sum(float(loss) * n for loss, n in epoch) / sum(n for _, n in epoch) for epoch in epochs]


def _scores(
    logits: Float[np.ndarray, "clips classes"], targets: Int[np.ndarray, " clips"], num_classes: int
) -> tuple[float, float]:
    """Mean cross entropy and UAR."""
    if not len(targets):
        return float("nan"), float("nan")
    log_probabilities = log_softmax(logits)
    confusion = classification.confusion(targets, logits.argmax(1), num_classes)
    uar = classification.rates(confusion)["uar"]
    cross_entropy = float(-log_probabilities[np.arange(len(targets)), targets].mean())
    return cross_entropy, float("nan") if uar is None else uar


def search_with_trainer(
    config: BenchmarkConfig,
    folder: str,
    encoder: EncoderConfig,
    trials: Sequence[OptimConfig],
    clips: LabelledClips,
) -> list[PeerFold]:
    """Every fold of every trial, one after another, in this process."""
    return [
        fold
        for trial, optim in enumerate(trials)
        for fold in trial_with_trainer(config, folder, encoder, trial, optim, clips)
    ]


def trial_with_trainer(
    config: BenchmarkConfig,
    folder: str,
    encoder: EncoderConfig,
    trial: int,
    optim: OptimConfig,
    clips: LabelledClips,
) -> list[PeerFold]:
    """Every fold of one trial, one after another, in this process."""
    torch.set_num_threads(config.threads)
    folds = []
    for fold in range(config.search.num_folds):
        seed = fold_seed(config.seed, fold)
        peer = load_peer(folder, encoder, clips.num_classes)
        torch.manual_seed(seed)
        peer.head.reset_parameters()
        num_epochs = config.search.num_epochs
        folds.append(
            train_fold(peer, clips, trial=trial, fold=fold, optim=optim, num_epochs=num_epochs, seed=seed)
        )
    return folds
