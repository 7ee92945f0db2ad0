"""Case pretrain: one epoch of pre-training by w2v2 and by the loop of Hugging Face's example, written again here.

The peer is run_wav2vec2_pretraining_no_trainer.py without accelerate and with accumulation 1 (with more it divides the
gradients of earlier batches again at each batch): padded batches in random order, the model's own loss with all frames
quantized and the negatives gathered, gradients divided by the number of masked frames, AdamW. It refuses group
normalisation, so both sides have the layer-normalised geometry. Both get the same weights, masks, negatives and noise;
the peer's are made before its clock starts.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.audio.waveforms import normalized
from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.encoders import layer_normalised
from w2v2.benchmarks.example_loop import compare_with_example
from w2v2.benchmarks.result import Agreement, CaseResult, Comparison
from w2v2.config.model import EncoderConfig
from w2v2.config.pretrain import PretrainConfig, PretrainOptimConfig, PretrainTrainingConfig
from w2v2.features.batches import batches_by_seconds
from w2v2.models.encoder import Encoder
from w2v2.models.onednn_linear import use_fastest_linear
from w2v2.models.pretraining import HEAD, ContrastiveModel
from w2v2.training.optimizer import learning_rate_scale, make_optimizer
from w2v2.training.pretrainer import Pretrainer
from w2v2.training.pretraining_batches import BatchDrawer, Inputs, PretrainClips

WANTED = {"RAVDESS's lengths": 1.5, "heavy-tailed lengths": 2.0}
MAX_LOSS_DIFFERENCE = 1e-5
LEARNING_RATE = 1e-4

Batches = Sequence[Int[np.ndarray, " _"]]


def pretrain(config: BenchmarkConfig) -> CaseResult:
    """Seconds of an epoch on clips of two kinds of lengths, and how far the losses of all steps are apart."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    stock = Wav2Vec2ForPreTraining(layer_normalised(config.encoder, "pretrain"))
    num_clips = config.pretrain.num_clips
    lengths_s = {
        "RAVDESS's lengths": synthetic_clips.ravdess_lengths_s(num_clips, seed=config.seed),
        "heavy-tailed lengths": synthetic_clips.heavy_lengths_s(num_clips, seed=config.seed),
    }
    results = [_Part(config, stock, part, lengths).run() for part, lengths in lengths_s.items()]
    return CaseResult(
        case="pretrain",
        comparisons=[comparison for comparison, _ in results],
        agreements=[agreement for _, agreement in results],
    )


@dataclass(frozen=True, kw_only=True)
class _PeerBatch:
    """A padded batch of the peer with what is drawn for it, by transformers' shapes."""

    inputs: dict[str, Tensor]
    noise: Float[Tensor, "rows codes"]
    """Gumbel noise of every frame and book, 0 where it is not used."""


def _as_many_steps(
    num_samples: Int[np.ndarray, " clips"], num_steps: int, *, seed: int
) -> tuple[float, list[Int[np.ndarray, " _"]]]:
    """The smallest batch in seconds of audio, in steps of 0.1, with at most num_steps batches an epoch; and its first epoch."""
    tenths = int(10 * num_samples.sum() / SAMPLE_RATE / num_steps)
    while True:
        batches = batches_by_seconds(
            num_samples, max_samples=round(tenths / 10 * SAMPLE_RATE), seed=seed, epoch=0
        )
        if len(batches) <= num_steps:
            return tenths / 10, batches
        tenths += 1


class _Part:
    """One kind of lengths, by all sides."""

    def __init__(
        self,
        config: BenchmarkConfig,
        stock: Wav2Vec2ForPreTraining,
        part: str,
        lengths_s: Float[np.ndarray, " clips"],
    ) -> None:
        self._rounds, self._part, self._stock = config.rounds_of("pretrain"), part, stock
        self._waveforms = [
            normalized(waveform) for waveform in synthetic_clips.waveforms(lengths_s, seed=config.seed)
        ]
        size = config.pretrain.batch_size
        num_samples = np.array([len(waveform) for waveform in self._waveforms])
        self._clips = PretrainClips(
            features=self._waveforms,
            num_samples=num_samples,
            digests=[f"{number:032x}" for number in range(len(self._waveforms))],
        )
        order = np.random.default_rng(config.seed).permutation(len(num_samples))
        self._random = [order[at : at + size] for at in range(0, len(order), size)]
        batch_s, self._ours = _as_many_steps(num_samples, len(self._random), seed=config.seed)
        self._config = PretrainConfig(
            seed=config.seed,
            optim=PretrainOptimConfig(learning_rate=LEARNING_RATE, batch_s=batch_s, warmup_fraction=0.0),
            training=PretrainTrainingConfig(num_epochs=1, on_collapse="warn"),
        )

    def run(self) -> tuple[Comparison, Agreement]:
        """The part's comparison, and the largest difference of a step's loss."""
        return compare_with_example(
            "pretrain",
            self._part,
            ours=lambda number: self._train_ours(),
            example=partial(self._train_example, self._peer_batches(self._random)),
            same_batches=partial(self._train_example, self._peer_batches(self._ours)),
            rounds=self._rounds,
            audio_s=float(self._clips.num_samples.sum() / SAMPLE_RATE),
            wanted=WANTED[self._part],
            max_difference=MAX_LOSS_DIFFERENCE,
        )

    def _model(self) -> ContrastiveModel:
        stock = copy.deepcopy(self._stock)
        use_fastest_linear(stock.wav2vec2)
        encoder = Encoder(stock.wav2vec2, EncoderConfig(), normalize=True)
        model = ContrastiveModel(encoder, self._config.loss)
        for name in HEAD:
            getattr(model, name).load_state_dict(getattr(stock, name).state_dict())
        return model

    def _train_ours(self) -> list[float]:
        """The loss per masked frame of each step, the weighted diversity included."""
        trainer = Pretrainer(self._model(), self._clips, self._config)
        weight = self._config.loss.diversity_weight
        return [row["loss"] + weight * row["diversity"] for row in trainer.run().steps]

    def _peer_batches(self, batches: Batches) -> list[_PeerBatch]:
        drawer = BatchDrawer(self._clips, self._model(), self._config)
        return [self._batch(drawer.batch(batch, epoch=0), batch) for batch in batches]

    def _batch(self, drawn: Inputs, batch: Int[np.ndarray, " _"]) -> _PeerBatch:
        extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
        padded = extractor.pad(
            {"input_values": [self._waveforms[index] for index in batch]}, padding=True, return_tensors="pt"
        )
        masked, noise = drawn[2].masked, drawn[2].noise
        assert noise is not None and drawn[2].negatives is not None
        num_frames = masked.shape[1]
        negatives = torch.zeros(*masked.shape, drawn[2].negatives.shape[1], dtype=torch.int64)
        counts = masked.sum(1).tolist()
        for row, (mask, candidates) in enumerate(zip(masked, drawn[2].negatives.split(counts), strict=True)):
            negatives[row, mask] = row * num_frames + mask.nonzero()[:, 0][candidates]
        padded_noise = torch.zeros(*masked.shape, *noise.shape[1:])
        padded_noise[masked] = noise
        inputs = {"mask_time_indices": masked, "sampled_negative_indices": negatives}
        return _PeerBatch(inputs={**padded, **inputs}, noise=padded_noise.flatten(0, 2))

    def _train_example(self, batches: Sequence[_PeerBatch], number: int) -> list[float]:
        """The loss per masked frame of each step, as the example reports it."""
        model = copy.deepcopy(self._stock).train()
        optim = self._config.optim.at(LEARNING_RATE)
        optimizer = make_optimizer(model, optim)
        temperatures = Pretrainer(self._model(), self._clips, self._config)
        losses = []
        for step, batch in enumerate(batches):
            temperatures.position.step = step
            model.set_gumbel_temperature(temperatures.temperature)
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * learning_rate_scale(step, num_steps=len(batches), optim=optim)
            with _noise(batch.noise):
                loss = model(**batch.inputs).loss
            loss.backward()
            num_masked = batch.inputs["mask_time_indices"].sum()
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad /= num_masked
            optimizer.step()
            optimizer.zero_grad()
            losses.append((loss / num_masked).item())
        return losses


@contextmanager
def _noise(noise: Float[Tensor, "rows codes"]) -> Iterator[None]:
    """Inside, transformers' Gumbel softmax takes this noise in place of its own."""
    original = torch.nn.functional.gumbel_softmax

    def with_noise(logits: Tensor, tau: float, hard: bool) -> Tensor:
        soft = ((logits + noise) / tau).softmax(-1)
        return torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0) - soft.detach() + soft

    torch.nn.functional.gumbel_softmax = with_noise  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.nn.functional.gumbel_softmax = original
