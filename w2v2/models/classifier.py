"""The model that computes a clip's logits from its features at the encoder's cut."""

import copy
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from w2v2.config.model import HeadConfig
from w2v2.models.encoder import Encoder
from w2v2.models.mlp import Mlp
from w2v2.models.pooling import LayerMix, pool, pooled_dim, weighted_pool


class Standardizer(nn.Module):
    """Standardises columns with statistics of the training clips; `restore` inverts it."""

    mean: Float[Tensor, " columns"]
    scale: Float[Tensor, " columns"]

    def __init__(self, num_columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_columns))
        self.register_buffer("scale", torch.ones(num_columns))

    def fit(self, rows: Float[np.ndarray, "clips columns"]) -> None:
        """Take mean and standard deviation from training rows, ignoring NaN; a constant column keeps its scale."""
        deviation = np.nanstd(rows, axis=0)
        self.mean.copy_(torch.from_numpy(np.nanmean(rows, axis=0)))
        self.scale.copy_(torch.from_numpy(np.where(deviation > 1e-8, deviation, 1.0)))

    def forward(self, rows: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        """Standardised columns."""
        return (rows - self.mean) / self.scale

    def restore(self, rows: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        """Columns in their original units."""
        return rows * self.scale + self.mean


class Classifier(nn.Module):
    """Encoder tail, layer mix, pooling and heads: one for each of `groups`, the numbers of their outputs."""

    def __init__(
        self,
        encoder: Encoder,
        head: HeadConfig,
        *,
        groups: Sequence[int],
        num_descriptors: int = 0,
        denormalize: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_outputs = sum(groups)
        side_by_side = len(encoder.states) if encoder.config.layer == "concat" else 1
        dim = side_by_side * pooled_dim(encoder.dim, encoder.config.pooling) + num_descriptors
        self.mix = LayerMix(len(encoder.states)) if encoder.config.layer == "mix" else None
        self.attention = weighted_pool(side_by_side * encoder.dim, encoder.config.pooling)
        # `joined` and `units` cannot be renamed: they are names of tensors in model folders, checkpoints and digests
        # of models.
        self.add_module("joined", Standardizer(num_descriptors) if num_descriptors else None)
        self.heads = nn.ModuleList(Mlp(dim, num_outputs, head) for num_outputs in groups)
        self.add_module("units", Standardizer(self.num_outputs) if denormalize else None)

    @property
    def descriptor_scaler(self) -> Standardizer | None:
        """Standardises hand-made features; None where the model joins none to the pooled vector."""
        return cast(Standardizer | None, self._modules["joined"])

    @property
    def target_scaler(self) -> Standardizer | None:
        """Converts the outputs of a regression to the units of its targets; None where outputs are logits."""
        return cast(Standardizer | None, self._modules["units"])

    def embed(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """One pooled vector per clip; the vectors of several layers are side by side, or mixed."""
        if self.encoder.cut.stage == "pooled":
            pooled = features if self.mix is None else self.mix(features)
            return pooled.flatten(1)
        states, num_frames = self.encoder(features, lengths)
        if self.mix is not None:
            states = self.mix(states)
        if self.attention is not None:
            return self.attention(states.flatten(2), num_frames)
        return pool(states, num_frames, self.encoder.config.pooling).flatten(1)

    def forward(
        self,
        features: Float[Tensor, "batch ..."],
        lengths: Int[Tensor, " batch"],
        descriptors: Float[Tensor, "batch descriptors"] | None = None,
    ) -> Float[Tensor, "batch outputs"]:
        """Outputs per clip, head after head: logits, or values of a regression."""
        vector = self.embed(features, lengths)
        if self.descriptor_scaler is not None:
            assert descriptors is not None, "this model joins hand-made features"
            vector = torch.cat([vector, self.descriptor_scaler(descriptors)], dim=1)
        outputs = torch.cat([head(vector) for head in self.heads], dim=1)
        return outputs if self.target_scaler is None else self.target_scaler.restore(outputs)


def trainable_copy(encoder: Encoder) -> Encoder:
    """A copy of the encoder with trained weights of its own; frozen weights are shared."""
    return copy.deepcopy(encoder, {id(p): p for p in encoder.parameters() if not p.requires_grad})
