"""SEW and SEW-D (Wu et al. 2021, arXiv:2109.06870): layers that run on fewer frames than the convolutions make."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from w2v2.models.convolutions import field_of
from w2v2.models.device import to_device
from w2v2.models.encoder import Encoder
from w2v2.models.families import layer_runner, layers_of, squeezed_positions
from w2v2.models.pooling import frame_mask


class SqueezedEncoder(Encoder):
    """An Encoder whose hidden states have one frame for every squeeze_factor frames of the convolutions.

    As in transformers, the last state (encoder.layer=last) is spread over the convolutions' frames again. The remainder,
    the last frames that are too few for a squeezed one, is zero there. A chosen layer, a mix and layers side by side have
    squeezed frames. Where layers follow the cut, one more row in front of a clip's features holds the length of its
    remainder.
    """

    @property
    def squeeze(self) -> int:
        """Frames of the convolutions in one frame of the layers."""
        return int(self.model.config.squeeze_factor)

    @property
    def min_samples(self) -> int:
        """The fewest samples that give one frame of the layers."""
        return field_of((*self.kernels, self.squeeze), (*self.strides, self.squeeze))

    @property
    def spreads(self) -> bool:
        """Whether the output has the convolutions' frames."""
        return self.config.layer == "last"

    @property
    def layout(self) -> str:
        """'remainders' or 'spread' where the features at the cut are more than hidden states, else ''."""
        if self._has_remainders:
            return "remainders"
        return "spread" if self.spreads and self.cut.stage in ("layer", "pooled") else ""

    @property
    def _has_remainders(self) -> bool:
        return self.cut.stage == "layer" and self.cut.layer < self.top

    def _trained(self) -> Iterator[nn.Module]:
        model, encoder = self.model, self.model.encoder
        if self.cut.stage == "waveform":
            yield model.feature_extractor
        if self.cut.stage in ("waveform", "conv"):
            yield model.layer_norm
            yield encoder.pos_conv_embed
            if model.project_features:
                yield model.feature_projection
            names = ("rel_embeddings", "LayerNorm") if hasattr(encoder, "encoder") else ("layer_norm",)
            stack = getattr(encoder, "encoder", encoder)
            yield from (getattr(stack, name) for name in names if hasattr(stack, name))
        yield from self.trained_layers
        if self.trained_layers and self.spreads:
            yield encoder.upsample

    def train(self, mode: bool = True) -> "SqueezedEncoder":
        """Self, with only the trained modules in training mode."""
        nn.Module.train(self, mode)
        self.model.eval()
        enters = mode and self.cut.stage in ("waveform", "conv")
        self.model.feature_dropout.train(enters)
        if hasattr(self.model.encoder, "dropout"):
            self.model.encoder.dropout.train(enters)
        for module in self._trained():
            module.train(mode)
        return self

    def trunk(
        self, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch ..."], Int[Tensor, " batch"]]:
        """Features at the cut and their lengths; waveforms are normalised and zero past their ends."""
        features, lengths = super().trunk(waveforms, num_samples)
        if not self._has_remainders:
            return features, lengths
        return _with_remainders(features, self.num_frames(num_samples) % self.squeeze), lengths + 1

    def forward(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames *dims"], Int[Tensor, " batch"]]:
        """Hidden states of the chosen layer ([..., states, dim] for a mix) and their numbers of frames."""
        if self._has_remainders:
            remainders = features[:, 0].flatten(1)[:, 0].round().long().to(lengths.device)
            features, lengths = features[:, 1:], (lengths - 1) * self.squeeze + remainders
        return super().forward(features, lengths)

    def _output_lengths(self, num_frames: Int[Tensor, " batch"], top: int) -> Int[Tensor, " batch"]:
        return num_frames if self.spreads and top == self.num_layers else num_frames // self.squeeze

    def _enter(
        self,
        features: Float[Tensor, "batch frames channels"],
        num_frames: Int[Tensor, " batch"],
        masked: Bool[Tensor, "batch frames"] | None = None,
    ) -> Float[Tensor, "batch squeezed dim"]:
        """Hidden state 0: projected, masked, squeezed, with positions."""
        model, encoder = self.model, self.model.encoder
        hidden = model.layer_norm(features)
        hidden = model.feature_dropout(model.feature_projection(hidden) if model.project_features else hidden)
        if masked is not None:
            hidden = torch.where(masked[..., None], model.masked_spec_embed.to(hidden.dtype), hidden)
        elif self.training:
            hidden = self._spec_augment(hidden)
        mask = frame_mask(to_device(num_frames, hidden.device), hidden.shape[1])
        hidden = squeezed_positions(model, hidden * mask[..., None])
        return encoder.dropout(encoder.layer_norm(hidden)) if hasattr(encoder, "layer_norm") else hidden

    def _transform(
        self,
        hidden: Float[Tensor, "batch squeezed dim"],
        num_frames: Int[Tensor, " batch"],
        first: int,
        top: int,
    ) -> list[Float[Tensor, "batch _ dim"]]:
        """Hidden states first..top; num_frames counts frames of the convolutions."""
        num_squeezed = num_frames // self.squeeze
        mask = frame_mask(to_device(num_squeezed, hidden.device), hidden.shape[1])
        padded = not self.alone and bool((num_squeezed < hidden.shape[1]).any())
        states = [hidden]
        run = layer_runner(self.model, hidden, mask if padded else None)
        for layer in layers_of(self.model)[first:top]:
            hidden = run(layer, hidden)
            states.append(hidden)
        if top == self.num_layers and self.spreads:
            states[-1] = self._spread(hidden, num_frames)
        return states

    def _spread(
        self, hidden: Float[Tensor, "batch squeezed dim"], num_frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames dim"]:
        """The last state, spread over the frames of the convolutions; the remainder, too short for a squeezed frame, is zero."""
        spread = self.model.encoder.upsample(hidden)
        spread = nn.functional.pad(spread, (0, 0, 0, self.squeeze - 1))[:, : int(num_frames.max())]
        num_filled = num_frames - num_frames % self.squeeze
        return spread * frame_mask(to_device(num_filled, spread.device), spread.shape[1])[..., None]


def _with_remainders(
    features: Float[Tensor, "batch frames ..."], remainders: Int[Tensor, " batch"]
) -> Float[Tensor, "batch rows ..."]:
    """The features with one more row in front, in which every value is the clip's remainder."""
    row = torch.ones_like(features[:, :1]) * to_device(remainders, features.device).view(
        -1, *[1] * (features.ndim - 1)
    )
    return torch.cat([row, features], dim=1)
