"""The layers between a pooled vector and a head's outputs."""

import itertools

from jaxtyping import Float
from torch import Tensor, nn

from w2v2.config.model import HeadConfig


class Mlp(nn.Module):
    """Linear layers of the given widths with ReLU between and dropout before each."""

    def __init__(self, dim: int, num_outputs: int, config: HeadConfig) -> None:
        super().__init__()
        widths = [dim, *config.widths, num_outputs]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Dropout(config.dropout), nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, embedding: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch outputs"]:
        """One row of outputs per clip, or per frame of each clip."""
        return self.layers(embedding)
