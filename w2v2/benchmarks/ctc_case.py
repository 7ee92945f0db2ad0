"""Case ctc: fine-tuning on transcripts by w2v2 and by the loop of Hugging Face's example, written again here.

The peer is run_speech_recognition_ctc.py without Trainer's bookkeeping: its collator (clips padded to the longest of
the batch, targets with -100), Wav2Vec2ForCTC with frozen convolutions as is its default, batches in random order,
AdamW. Its loss is summed and divided by the characters of the batch, as ours is; the example's own loss, the mean of
the clips' mean losses, is another one. With group normalisation padded clips would have other outputs in the example,
so both sides have the layer-normalised geometry. Both get the same weights and clips. Our clock includes the pass
through the convolutions, which runs once.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from w2v2.audio.synthesis import WORDS
from w2v2.audio.waveforms import normalized
from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.encoders import layer_normalised
from w2v2.benchmarks.example_loop import compare_with_example
from w2v2.benchmarks.result import Agreement, CaseResult, Comparison
from w2v2.config.model import EncoderConfig, HeadConfig, OptimConfig, TaskConfig, TrainingConfig
from w2v2.config.text import TextConfig
from w2v2.data.text import Vocabulary, padded_targets, vocabulary_of
from w2v2.features.batches import ClipSet, shuffled_batches
from w2v2.features.trunk_features import run_trunk
from w2v2.models.ctc import Transcriber
from w2v2.models.encoder import Encoder
from w2v2.models.objective import Outputs
from w2v2.models.onednn_linear import use_fastest_linear
from w2v2.training.optimizer import learning_rate_scale, make_optimizer
from w2v2.training.trainer import Trainer

WANTED = {"RAVDESS's lengths": 1.0, "heavy-tailed lengths": 1.5}
MAX_LOSS_DIFFERENCE = 1e-4
WORDS_PER_S = 2.0

Batches = Sequence[Int[np.ndarray, " _"]]


def ctc(config: BenchmarkConfig) -> CaseResult:
    """Seconds of some epochs on clips of two kinds of lengths, and how far the losses of all steps are apart."""
    torch.set_num_threads(config.threads)
    num_clips = config.ctc.num_clips
    lengths_s = {
        "RAVDESS's lengths": synthetic_clips.ravdess_lengths_s(num_clips, seed=config.seed),
        "heavy-tailed lengths": synthetic_clips.heavy_lengths_s(num_clips, seed=config.seed),
    }
    results = [_Part(config, part, lengths).run() for part, lengths in lengths_s.items()]
    return CaseResult(
        case="ctc",
        comparisons=[comparison for comparison, _ in results],
        agreements=[agreement for _, agreement in results],
    )


def sentences(lengths_s: Float[np.ndarray, " clips"], *, seed: int) -> list[str]:
    """Random words, two for each second of a clip: the cost of training does not depend on the words."""
    rng = np.random.default_rng([seed, 3])
    words = sorted(WORDS)
    return [" ".join(rng.choice(words, max(1, round(WORDS_PER_S * length)))) for length in lengths_s]


class _Recorded(Trainer):
    """A training that keeps the loss of each step."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.losses: list[float] = []

    def _count(self, outputs: Outputs, targets: Tensor, loss: Tensor) -> None:
        super()._count(outputs, targets, loss)
        self.losses.append(float(loss.detach()) / self.objective.weight(targets))


class _Part:
    """One kind of lengths, by all sides."""

    def __init__(self, config: BenchmarkConfig, part: str, lengths_s: Float[np.ndarray, " clips"]) -> None:
        self._rounds, self._part, self._seed = config.rounds_of("ctc"), part, config.seed
        self._num_epochs, size = config.ctc.num_epochs, config.ctc.batch_size
        self._waveforms = [normalized(w) for w in synthetic_clips.waveforms(lengths_s, seed=config.seed)]
        self._seconds = float(lengths_s.sum())
        texts = sentences(lengths_s, seed=config.seed)
        self._vocabulary: Vocabulary = vocabulary_of(texts, TextConfig())
        self._targets = padded_targets(texts, self._vocabulary)
        self._optim = OptimConfig(learning_rate=1e-4, warmup_fraction=0.0, batch_size=size)
        self._lengths = np.array([len(waveform) for waveform in self._waveforms], np.int64)
        self._ours = [
            batch
            for epoch in range(self._num_epochs)
            for batch in shuffled_batches(self._lengths, batch_size=size, seed=config.seed, epoch=epoch)
        ]
        self._random: list[np.ndarray] = []
        for epoch in range(self._num_epochs):
            order = np.random.default_rng([config.seed, epoch]).permutation(len(self._lengths))
            self._random += [order[at : at + size] for at in range(0, len(order), size)]
        self._stock = self._peer(config.encoder)

    def _peer(self, encoder: str) -> Wav2Vec2ForCTC:
        architecture = layer_normalised(encoder, "ctc")
        architecture.vocab_size = len(self._vocabulary.tokens)
        architecture.pad_token_id = self._vocabulary.blank
        architecture.ctc_loss_reduction = "sum"
        architecture.mask_time_prob = architecture.final_dropout = 0.0
        torch.manual_seed(self._seed)
        return Wav2Vec2ForCTC(architecture)

    def run(self) -> tuple[Comparison, Agreement]:
        """The part's comparison, and the largest difference of a step's loss."""
        return compare_with_example(
            "ctc",
            f"{self._part}, {self._num_epochs} epochs",
            ours=lambda number: self._train_ours(),
            example=partial(self._train_example, self._random),
            same_batches=partial(self._train_example, self._ours),
            rounds=self._rounds,
            audio_s=self._seconds * self._num_epochs,
            wanted=WANTED[self._part],
            max_difference=MAX_LOSS_DIFFERENCE,
        )

    def _train_ours(self) -> list[float]:
        """The loss per character of each step."""
        stock = copy.deepcopy(self._stock)
        use_fastest_linear(stock.wav2vec2)
        encoder = Encoder(stock.wav2vec2, EncoderConfig(train="no_conv", pooling="none"), normalize=True)
        model = Transcriber(
            encoder,
            HeadConfig(dropout=0.0),
            num_outputs=len(self._vocabulary.tokens),
            blank=self._vocabulary.blank,
        )
        layer: Any = model.head.layers[-1]
        layer.load_state_dict(stock.lm_head.state_dict())
        clips = ClipSet(
            features=run_trunk(encoder, self._waveforms), lengths=self._lengths, targets=self._targets
        )
        trainer = _Recorded(
            model,
            clips,
            task=TaskConfig(kind="transcript"),
            optim=self._optim,
            training=TrainingConfig(num_epochs=self._num_epochs),
            seed=self._seed,
        )
        trainer.run()
        return trainer.losses

    def _train_example(self, batches: Batches, number: int) -> list[float]:
        """The loss per character of each step."""
        model = copy.deepcopy(self._stock).train()
        model.freeze_feature_encoder()
        optimizer = make_optimizer(model, self._optim)
        losses = []
        for step, batch in enumerate(batches):
            inputs = self._collated(batch)
            for group in optimizer.param_groups:
                scale = learning_rate_scale(step, num_steps=len(batches), optim=self._optim)
                group["lr"] = self._optim.learning_rate * scale
            loss = model(**inputs).loss / (inputs["labels"] >= 0).sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    def _collated(self, batch: Int[np.ndarray, " batch"]) -> dict[str, Tensor]:
        extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
        padded = extractor.pad(
            {"input_values": [self._waveforms[index] for index in batch]}, padding=True, return_tensors="pt"
        )
        labels = torch.from_numpy(self._targets[batch]).long()
        return {**padded, "labels": labels.masked_fill(labels < 0, -100)}
