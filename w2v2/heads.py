"""From features at the encoder's cut to the logits of a clip."""

import itertools

from jaxtyping import Float, Int
from torch import Tensor, nn

from w2v2.config import HeadConfig
from w2v2.encoder import Encoder
from w2v2.pooling import AttentionPool, LayerMix, pool, pooled_dim


class Mlp(nn.Module):
    """Linear layers of the given widths with ReLU between and dropout before each."""

    def __init__(self, dim: int, num_outputs: int, config: HeadConfig) -> None:
        super().__init__()
        widths = [dim, *config.widths, num_outputs]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Dropout(config.dropout), nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch outputs"]:
        """One row of outputs per clip."""
        return self.layers(embedding)


class Classifier(nn.Module):
    """Encoder tail, layer mix, pooling and head."""

    def __init__(self, encoder: Encoder, head: HeadConfig, *, num_outputs: int) -> None:
        super().__init__()
        pooling = encoder.config.pooling
        self.encoder = encoder
        self.num_outputs = num_outputs
        self.mix = LayerMix(encoder.num_layers + 1) if encoder.mixes else None
        self.attention = AttentionPool(encoder.dim) if pooling == "attention" else None
        self.head = Mlp(pooled_dim(encoder.dim, pooling), num_outputs, head)

    def embed(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """One pooled vector per clip."""
        if self.encoder.cut.stage == "pooled":
            return features if self.mix is None else self.mix(features)
        states, num_frames = self.encoder(features, lengths)
        if self.mix is not None:
            states = self.mix(states)
        if self.attention is not None:
            return self.attention(states, num_frames)
        return pool(states, num_frames, self.encoder.config.pooling)

    def forward(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch outputs"]:
        """Logits per clip."""
        return self.head(self.embed(features, lengths))
