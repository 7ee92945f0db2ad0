"""An encoder in pre-training: the loss of a padded batch is the sum of the losses of its clips."""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, Wav2Vec2Config, Wav2Vec2ForPreTraining

from w2v2.config.pretrain import LossConfig, PretrainConfig, QuantizerConfig
from w2v2.errors import UserError
from w2v2.json_types import Json
from w2v2.models.contrastive import contrast_clip
from w2v2.models.encoder import Encoder
from w2v2.models.onednn_linear import use_fastest_linear
from w2v2.models.pooling import frame_mask
from w2v2.models.pretrained import (
    encoder_of,
    missing_weights,
    read_checkpoint,
    read_model_config,
    refuse_missing,
    tiny_config,
)
from w2v2.models.quantizer import Quantizer

logger = logging.getLogger(__name__)

HEAD = ("quantizer", "project_hid", "project_q")
"""The parts of a model that only pre-training needs, by their names in transformers' Wav2Vec2ForPreTraining."""
TINY = {
    "num_codevectors_per_group": 64,
    "codevector_dim": 64,
    "proj_codevector_dim": 64,
}


@dataclass(frozen=True, kw_only=True)
class BatchDraw:
    """The draws of a padded batch; arrays over masked frames have the frames of all clips, clip after clip."""

    masked: Bool[Tensor, "batch frames"]
    negatives: Int[Tensor, "masked negatives"] | None = None
    """contrastive: numbers of masked frames of the same clip, from 0."""
    noise: Float[Tensor, "masked groups codes"] | None = None
    """contrastive: Gumbel noise; None in validation, where the likeliest codes are taken."""
    labels: Int[Tensor, " masked"] | None = None
    """clusters: the cluster of each frame."""
    chance_hits: float
    """Hits of guessing, summed over masked frames."""
    chance_loss: float
    """Loss of guessing, summed over masked frames."""

    def to(self, device: torch.device) -> "BatchDraw":
        """The draws on a device."""
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
    """Contrastive loss, or cross entropy of clusters, in nats."""
    num_hits: Float[Tensor, ""]
    feature_square: Float[Tensor, ""]
    """Sum over frames of the mean square of the convolutions' output."""
    code_probabilities: Float[Tensor, "groups codes"]
    code_counts: Float[Tensor, "groups codes"]


class _Pretraining(nn.Module):
    """An encoder in pre-training: its vector for masked frames is trained, and the gradient of its convolutions is scaled."""

    def __init__(self, encoder: Encoder, loss: LossConfig) -> None:
        super().__init__()
        self.encoder, self.loss = encoder, loss
        encoder.model.masked_spec_embed.requires_grad_(True)

    def _convolved(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames channels"], Int[Tensor, " batch"]]:
        convolved, num_frames = self.encoder.convolved(features, lengths)
        scale = self.loss.feature_grad_scale
        if convolved.requires_grad and scale != 1:
            convolved.register_hook(lambda gradient: gradient * scale)
        return convolved, num_frames


def _feature_square(
    convolved: Float[Tensor, "batch frames channels"], num_frames: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    is_inside = frame_mask(num_frames, convolved.shape[1])
    return (convolved.float().square().mean(2) * is_inside).sum()


class ContrastiveModel(_Pretraining):
    """An encoder with the quantizer and the projections of wav2vec 2.0's pre-training (arXiv:2006.11477).

    The quantizer sees latents without dropout; the gradient that reaches the convolutions is scaled by
    loss.feature_grad_scale.
    """

    def __init__(self, encoder: Encoder, loss: LossConfig) -> None:
        super().__init__(encoder, loss)
        config = encoder.model.config
        self.quantizer = Quantizer(
            config.conv_dim[-1],
            num_groups=config.num_codevector_groups,
            num_codes=config.num_codevectors_per_group,
            code_dim=config.codevector_dim,
        )
        self.project_hid = nn.Linear(config.hidden_size, config.proj_codevector_dim)
        self.project_q = nn.Linear(config.codevector_dim, config.proj_codevector_dim)

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
        """The sums of a padded batch of features at the encoder's cut; temperature is the temperature of the Gumbel softmax."""
        assert draw.negatives is not None
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
        one_hot = nn.functional.one_hot(quantized.codes, self.quantizer.num_codes)
        return Sums(
            loss=torch.stack([contrast.loss for contrast in contrasts]).sum(),
            num_hits=torch.stack([contrast.num_hits for contrast in contrasts]).sum(),
            feature_square=_feature_square(convolved, num_frames),
            code_probabilities=quantized.probabilities.sum(0),
            code_counts=one_hot.sum(0).float(),
        )

    @torch.no_grad()
    def code_probabilities(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"], draw: BatchDraw
    ) -> Float[Tensor, "groups codes"]:
        """The sums of code probabilities of a forward pass, without running the transformer."""
        convolved, _ = self._convolved(features, lengths)
        logits = self.quantizer.code_logits(self._latents(convolved, draw.masked))
        return logits.softmax(2).sum(0)

    def _latents(
        self, convolved: Float[Tensor, "batch frames channels"], masked: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "masked channels"]:
        """The normalised output of the convolutions at the masked frames, which the mask hides from the transformer."""
        return self.encoder.model.feature_projection.layer_norm(convolved[masked])

    def as_transformers(self) -> PreTrainedModel:
        """The same weights as transformers' model."""
        stock = Wav2Vec2ForPreTraining(self.encoder.model.config)
        stock.wav2vec2.load_state_dict(self.encoder.model.state_dict())
        for name in HEAD:
            getattr(stock, name).load_state_dict(getattr(self, name).state_dict())
        return stock.eval()


class ClusterModel(_Pretraining):
    """An encoder that predicts each masked frame's cluster, as HuBERT (Hsu et al. 2021, arXiv:2106.07447, equation 3).

    The logit of a cluster is the cosine of its own vector with the projected hidden state, divided by
    loss.temperature.
    """

    def __init__(self, encoder: Encoder, loss: LossConfig, *, num_clusters: int, dim: int) -> None:
        super().__init__(encoder, loss)
        self.project = nn.Linear(encoder.dim, dim)
        self.vectors = nn.Parameter(torch.rand(num_clusters, dim))

    @property
    def code_shape(self) -> tuple[int, int]:
        """One book of all clusters."""
        return 1, len(self.vectors)

    def forward(
        self,
        features: Float[Tensor, "batch ..."],
        lengths: Int[Tensor, " batch"],
        draw: BatchDraw,
        temperature: float,
    ) -> Sums:
        """The sums of a padded batch of features at the encoder's cut; temperature is not used."""
        assert draw.labels is not None
        convolved, num_frames = self._convolved(features, lengths)
        context = self.project(self.encoder.context(convolved, num_frames, draw.masked)[draw.masked])
        with torch.autocast(features.device.type, enabled=False):
            cosine = (
                nn.functional.normalize(context.float(), dim=1)
                @ nn.functional.normalize(self.vectors, dim=1).T
            )
            logits = cosine / self.loss.temperature
            loss = nn.functional.cross_entropy(logits, draw.labels, reduction="sum")
        predicted = logits.argmax(1)
        return Sums(
            loss=loss,
            num_hits=(predicted == draw.labels).sum().float(),
            feature_square=_feature_square(convolved, num_frames),
            code_probabilities=logits.softmax(1).sum(0)[None],
            code_counts=nn.functional.one_hot(predicted, len(self.vectors)).sum(0).float()[None],
        )

    def as_transformers(self) -> PreTrainedModel:
        """The encoder as transformers' model; the prediction of clusters is not part of it."""
        return self.encoder.model.eval()


CLUSTER_DIM = 256
"""Width of the vectors of clusters, as HuBERT base has it."""

PretrainingModel = ContrastiveModel | ClusterModel


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model at the start of its pre-training."""

    model: PretrainingModel
    new_weights: tuple[str, ...]
    """Parts (see HEAD) that the checkpoint lacks, so that they begin with random weights."""


def open_model(config: PretrainConfig) -> OpenedModel:
    """The model that config.encoder names, ready to be pre-trained by config.pretrain.objective, in float32 on the CPU.

    Raises UserError for a family without a quantizer where the objective is contrastive, and for a checkpoint that
    lacks weights of its encoder.
    """
    return _open_clusters(config) if config.has_clusters else _open_contrastive(config)


def _open_clusters(config: PretrainConfig) -> OpenedModel:
    name = config.encoder.name
    architecture, normalize = (tiny_config(), True) if name == "tiny" else read_model_config(name)
    _have_mask_vector(architecture)
    torch.manual_seed(config.seed)
    if config.encoder.is_random:
        stock = AutoModel.from_config(architecture)
    else:
        stock, report, _ = read_checkpoint(name, AutoModel, architecture)
        refuse_missing(name, missing_weights(report) - {"masked_spec_embed"})
    use_fastest_linear(stock)
    encoder = encoder_of(stock, config.encoder.as_encoder(), normalize=normalize)
    dim = config.quantizer.project_dim or (TINY["proj_codevector_dim"] if name == "tiny" else CLUSTER_DIM)
    model = ClusterModel(encoder, config.loss, num_clusters=config.pretrain.num_clusters, dim=dim)
    return OpenedModel(model=model, new_weights=())


def _have_mask_vector(architecture: PreTrainedConfig) -> None:
    """Give the model a vector for masked frames, which it lacks if it was saved without SpecAugment."""
    if not architecture.mask_time_prob and not architecture.mask_feature_prob:
        architecture.mask_time_prob = 0.05


def _open_contrastive(config: PretrainConfig) -> OpenedModel:
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
    return OpenedModel(model=model, new_weights=tuple(sorted(lacking)))


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
            f"encoder.name {name!r} is a {architecture.model_type} model, which has no quantizer: use "
            "--pretrain.objective clusters"
        )
    architecture.update(_chosen(config.quantizer))
    architecture.update(
        {
            "contrastive_logits_temperature": config.loss.temperature,
            "diversity_loss_weight": config.loss.diversity_weight,
            "num_negatives": config.mask.num_negatives,
        }
    )
    _have_mask_vector(architecture)
    if architecture.codevector_dim % architecture.num_codevector_groups:
        raise UserError(
            f"quantizer.code_dim must be a multiple of quantizer.num_groups={architecture.num_codevector_groups}, "
            f"got {architecture.codevector_dim}"
        )
    return architecture, normalize


def _chosen(quantizer: QuantizerConfig) -> dict[str, Json]:
    """The sizes in the settings, by transformers' names."""
    names = {
        "num_codevector_groups": quantizer.num_groups,
        "num_codevectors_per_group": quantizer.num_codes,
        "codevector_dim": quantizer.code_dim,
        "proj_codevector_dim": quantizer.project_dim,
    }
    return {name: value for name, value in names.items() if value}
