"""A wav2vec 2.0 model in pre-training: the loss of a padded batch is the sum of that of its clips."""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from w2v2.config.pretrain import LossConfig, PretrainConfig, QuantizerConfig
from w2v2.errors import UserError
from w2v2.models.contrastive import contrast_clip
from w2v2.models.encoder import Encoder
from w2v2.models.onednn_linear import use_fastest_linear
from w2v2.models.pooling import frame_mask
from w2v2.models.pretrained import (
    missing_weights,
    read_checkpoint,
    read_model_config,
    refuse_missing,
    tiny_config,
)
from w2v2.models.quantizer import Quantizer

logger = logging.getLogger(__name__)

HEAD = ("quantizer", "project_hid", "project_q")
"""What a model has for pre-training alone, by its names in transformers' Wav2Vec2ForPreTraining."""
TINY = {
    "num_codevectors_per_group": 64,
    "codevector_dim": 64,
    "proj_codevector_dim": 64,
}


@dataclass(frozen=True, kw_only=True)
class BatchDraw:
    """The draws of a padded batch; those of masked frames of all clips follow each other."""

    masked: Bool[Tensor, "batch frames"]
    negatives: Int[Tensor, "masked negatives"]
    """Numbers of masked frames of the same clip, from 0."""
    noise: Float[Tensor, "masked groups codes"] | None
    """Gumbel noise; None in validation, where the likeliest codes are taken."""
    chance: float
    """See masking.ClipDraw."""

    def to(self, device: torch.device) -> "BatchDraw":
        """The same on a device."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **moved)


class Sums(NamedTuple):
    """Sums over the clips of a forward pass; losses and probabilities are over masked frames."""

    loss: Float[Tensor, ""]
    """Contrastive loss in nats."""
    num_hits: Float[Tensor, ""]
    feature_square: Float[Tensor, ""]
    """Sum over frames of the mean square of the convolutions' output."""
    code_probabilities: Float[Tensor, "groups codes"]
    code_counts: Float[Tensor, "groups codes"]


class ContrastiveModel(nn.Module):
    """An encoder with the quantizer and the projections of wav2vec 2.0's pre-training (arXiv:2006.11477).

    The quantizer sees latents without dropout; the gradient that reaches the convolutions is scaled by
    loss.feature_grad_scale.
    """

    def __init__(self, encoder: Encoder, loss: LossConfig) -> None:
        super().__init__()
        config = encoder.model.config
        self.encoder, self.loss = encoder, loss
        self.quantizer = Quantizer(
            config.conv_dim[-1],
            num_groups=config.num_codevector_groups,
            num_codes=config.num_codevectors_per_group,
            code_dim=config.codevector_dim,
        )
        self.project_hid = nn.Linear(config.hidden_size, config.proj_codevector_dim)
        self.project_q = nn.Linear(config.codevector_dim, config.proj_codevector_dim)
        encoder.model.masked_spec_embed.requires_grad_(True)

    @property
    def code_shape(self) -> tuple[int, int]:
        """The number of books, and of codes in each."""
        return self.quantizer.num_groups, self.quantizer.num_codes

    def forward(
        self,
        features: Float[Tensor, "batch ..."],
        lengths: Int[Tensor, " batch"],
        draw: BatchDraw,
        temperature: float,
    ) -> Sums:
        """The sums of a padded batch of features at the encoder's cut; temperature is that of the Gumbel softmax."""
        convolved, num_frames = self._convolved(features, lengths)
        quantized = self.quantizer(self._latents(convolved, draw.masked), draw.noise, temperature=temperature)
        context = self.project_hid(self.encoder.context(convolved, num_frames, draw.masked)[draw.masked])
        targets = self.project_q(quantized.vectors)
        counts = draw.masked.sum(1).tolist()
        by_clip = (part.split(counts) for part in (context, targets, quantized.codes, draw.negatives))
        with torch.autocast(features.device.type, enabled=False):
            contrasts = [
                contrast_clip(c.float(), t.float(), codes, negatives, temperature=self.loss.temperature)
                for c, t, codes, negatives in zip(*by_clip, strict=True)
            ]
        own_frames = frame_mask(num_frames, convolved.shape[1])
        one_hot = nn.functional.one_hot(quantized.codes, self.quantizer.num_codes)
        return Sums(
            loss=torch.stack([contrast.loss for contrast in contrasts]).sum(),
            num_hits=torch.stack([contrast.num_hits for contrast in contrasts]).sum(),
            feature_square=(convolved.float().square().mean(2) * own_frames).sum(),
            code_probabilities=quantized.probabilities.sum(0),
            code_counts=one_hot.sum(0).float(),
        )

    @torch.no_grad()
    def code_probabilities(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"], draw: BatchDraw
    ) -> Float[Tensor, "groups codes"]:
        """The sums of code probabilities that a whole pass gives, without one through the transformer."""
        convolved, _ = self._convolved(features, lengths)
        logits = self.quantizer.code_logits(self._latents(convolved, draw.masked))
        return logits.softmax(2).sum(0)

    def _convolved(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames channels"], Int[Tensor, " batch"]]:
        convolved, num_frames = self.encoder.convolved(features, lengths)
        scale = self.loss.feature_grad_scale
        if convolved.requires_grad and scale != 1:
            convolved.register_hook(lambda gradient: gradient * scale)
        return convolved, num_frames

    def _latents(
        self, convolved: Float[Tensor, "batch frames channels"], masked: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "masked channels"]:
        """What the encoder would have entered at the masked frames: the convolutions' output, normalised."""
        return self.encoder.model.feature_projection.layer_norm(convolved[masked])

    def as_transformers(self) -> Wav2Vec2ForPreTraining:
        """The same weights as transformers' model."""
        stock = Wav2Vec2ForPreTraining(self.encoder.model.config)
        stock.wav2vec2.load_state_dict(self.encoder.model.state_dict())
        for name in HEAD:
            getattr(stock, name).load_state_dict(getattr(self, name).state_dict())
        return stock.eval()


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model at the start of its pre-training."""

    model: ContrastiveModel
    new_weights: tuple[str, ...]
    """Parts (see HEAD) that the checkpoint lacks, so that they begin with random weights."""


def open_contrastive(config: PretrainConfig) -> Opened:
    """The model that config.encoder names, ready to be pre-trained, in float32 on the CPU.

    Raises UserError for another family than wav2vec2 and for a checkpoint that lacks weights of its encoder.
    """
    architecture, normalize = _architecture(config)
    torch.manual_seed(config.seed)
    lacking: set[str] = set()
    if config.encoder.is_random:
        stock = Wav2Vec2ForPreTraining(architecture)
    else:
        stock, report, _ = read_checkpoint(config.encoder.name, Wav2Vec2ForPreTraining, architecture)
        missing = missing_weights(report)
        lacking = {part for part in HEAD if any(name.startswith(part) for name in missing)}
        refuse_missing(
            config.encoder.name,
            {name for name in missing if not name.startswith(HEAD)} - {"wav2vec2.masked_spec_embed"},
        )
    use_fastest_linear(stock.wav2vec2)
    encoder = Encoder(stock.wav2vec2, config.encoder.as_encoder(), normalize=normalize)
    model = ContrastiveModel(encoder, config.loss)
    for name in HEAD:
        getattr(model, name).load_state_dict(getattr(stock, name).state_dict())
    return Opened(model=model, new_weights=tuple(sorted(lacking)))


def _architecture(config: PretrainConfig) -> tuple[Wav2Vec2Config, bool]:
    """The architecture that is pre-trained, and whether it wants waveforms normalised."""
    name = config.encoder.name
    if name == "tiny":
        architecture, normalize = tiny_config(), True
        architecture.update(TINY)
    else:
        architecture, normalize = read_model_config(name)
    if architecture.model_type != "wav2vec2":
        raise UserError(
            f"encoder.name {name!r} is a {architecture.model_type} model, which has no quantizer to be pre-trained with; "
            "wanted a wav2vec2 model"
        )
    architecture.update(_chosen(config.quantizer))
    architecture.update(
        {
            "contrastive_logits_temperature": config.loss.temperature,
            "diversity_loss_weight": config.loss.diversity_weight,
            "num_negatives": config.mask.num_negatives,
        }
    )
    if not architecture.mask_time_prob and not architecture.mask_feature_prob:
        architecture.mask_time_prob = 0.05  # without one of them the model has no vector for masked frames
    if architecture.codevector_dim % architecture.num_codevector_groups:
        raise UserError(
            f"quantizer.code_dim must be a multiple of quantizer.num_groups={architecture.num_codevector_groups}, "
            f"got {architecture.codevector_dim}"
        )
    return architecture, normalize


def _chosen(quantizer: QuantizerConfig) -> dict[str, Any]:
    """The sizes that were asked for, by transformers' names."""
    names = {
        "num_codevector_groups": quantizer.num_groups,
        "num_codevectors_per_group": quantizer.num_codes,
        "codevector_dim": quantizer.code_dim,
        "proj_codevector_dim": quantizer.project_dim,
    }
    return {name: value for name, value in names.items() if value}
