"""Any wav2vec2-like transformers model, cut where training begins, exact under padding.

A clip's hidden states depend on the clip alone. Three things leak padding in the stock models: the
first group normalisation takes its statistics over padding, the positional convolution sees frames
past a clip's end, and attention sees padded keys. Each is masked here.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError
from w2v2.models.architecture import FAMILIES, SPECTRUM_FAMILIES
from w2v2.models.bfloat16 import computes_in_bfloat16, in_bfloat16
from w2v2.models.convolutions import convolve, field_of
from w2v2.models.cut import chosen_states, cut_for
from w2v2.models.device import to_device
from w2v2.models.families import (
    final_norm,
    is_conformer,
    layer_runner,
    layers_of,
    positions,
)
from w2v2.models.front_ends import spectra
from w2v2.models.packed_layers import RoundedLayers
from w2v2.models.packing import Packing
from w2v2.models.pooling import frame_mask, pool


class Encoder(nn.Module):
    """A transformers encoder in two halves: `trunk` before the cut, `forward` (the tail) after it.

    Features at the cut have frames first: waveform [samples], conv [frames channels], layer
    [frames dim] or, of several layers, [frames states dim], pooled [dim] or [states dim]. Lengths may stay on the CPU
    while features are on a GPU: sizes of tensors follow from them, and the program would have to wait for lengths on
    the GPU.
    """

    def __init__(
        self, model: PreTrainedModel, config: EncoderConfig, *, normalize: bool, extractor: Any = None
    ) -> None:
        super().__init__()
        if model.config.model_type not in FAMILIES:
            raise UserError(
                f"encoder.name {config.name!r} is a {model.config.model_type} model; wanted one of {', '.join(FAMILIES)}"
            )
        if model.config.model_type in SPECTRUM_FAMILIES and extractor is None:
            raise UserError(
                f"encoder.name {config.name!r} is a {model.config.model_type} model, which takes spectra: it can be used and "
                "fine-tuned, but not pre-trained here"
            )
        self.model: Any = model  # the parts of the families share names, not types
        self.normalize = normalize
        self.extractor = extractor
        self.config = config
        self.num_layers = model.config.num_hidden_layers
        self.dim = model.config.hidden_size
        # Normalise before, not after, each block.
        self.stable = is_conformer(model) or getattr(model.config, "do_stable_layer_norm", False)
        self.states = chosen_states(config, self.num_layers)
        self.top = self.states[-1]
        self.cut = cut_for(config, self.num_layers)
        self.mask_time_fraction = 0.0
        self.mask_feature_fraction = 0.0
        self.alone = False
        """Whether every batch is one clip without padding: in an exported graph, which cannot depend on whether there
        is padding."""
        self._rounded = RoundedLayers()
        self._freeze()

    @property
    def several(self) -> bool:
        """Whether several hidden states leave the encoder, for a learned mix or side by side."""
        return self.config.layer in ("mix", "concat")

    @property
    def min_samples(self) -> int:
        """The fewest samples that give one frame."""
        return field_of(self.kernels, self.strides)

    @property
    def max_s(self) -> float:
        """The most seconds of audio that the encoder takes."""
        return math.inf

    @property
    def kernels(self) -> tuple[int, ...]:
        """Kernel sizes of the convolutions before the first layer."""
        if self.extractor is None:
            return tuple(self.model.config.conv_kernel)
        return (400, self.extractor.stride)  # Kaldi's frames, some of which are one frame of the encoder

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the convolutions before the first layer."""
        if self.extractor is None:
            return tuple(self.model.config.conv_stride)
        return (160, self.extractor.stride)

    @property
    def frame_s(self) -> float:
        """Seconds from the start of one frame to the start of the next."""
        return self.hop_samples / SAMPLE_RATE

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.strides)

    def num_frames(self, num_samples: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Number of frames that the convolutions make from each clip."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    @property
    def trained_layers(self) -> list[nn.Module]:
        """The transformer layers after the cut that an output depends on, lowest first."""
        first = self.top if self.cut.stage == "pooled" else self.cut.layer
        return list(layers_of(self.model)[first : self.top])

    @property
    def layout(self) -> str:
        """The name of the features' layout at the cut where they are more than frames of the hidden state; '' where they are not."""
        return ""

    def _trained(self) -> Iterator[nn.Module]:
        """The modules after the cut that an output depends on."""
        encoder = self.model.encoder
        if self.cut.stage == "waveform" and self.extractor is None:
            yield self.model.feature_extractor
        if self.cut.stage in ("waveform", "conv"):
            yield self.model.feature_projection
            if not is_conformer(self.model):
                yield encoder.pos_conv_embed
        yield from self.trained_layers
        enters = not self.stable and self.cut.stage in ("waveform", "conv")
        leaves = self.stable and self.trained_layers and self.top == self.num_layers
        norm = final_norm(self.model)
        if norm is not None and (enters or leaves):
            yield norm

    def _freeze(self) -> None:
        self.model.requires_grad_(False)
        for module in self._trained():
            module.requires_grad_(True)

    def train(self, mode: bool = True) -> "Encoder":
        """Self, with only the trained modules in training mode: the frozen part is always in evaluation mode."""
        super().train(mode)
        self.model.eval()
        self.model.encoder.dropout.train(mode and self.cut.stage in ("waveform", "conv"))
        for module in self._trained():
            module.train(mode)
        # Batch statistics would tie a clip's result to its batch mates and their padding.
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self

    @torch.no_grad()
    def trunk(
        self, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch ..."], Int[Tensor, " batch"]]:
        """Features at the cut and their lengths; waveforms are normalised and zero past their ends."""
        if self.cut.stage == "waveform":
            return waveforms, num_samples
        features = self._convolve(waveforms, num_samples)
        num_frames = self.num_frames(num_samples)
        if self.cut.stage == "conv":
            return features, num_frames
        top = self.cut.layer if self.cut.stage == "layer" else self.top
        states = self._transform(self._enter(features, num_frames), num_frames, 0, top)
        if self.several:  # the tail continues from the last of them
            crossing = [state for state in self.states if state < top] + [top]
            selected = torch.stack([states[state] for state in crossing], dim=2)
        else:
            selected = states[-1]
        lengths = self._output_lengths(num_frames, top)
        if self.cut.stage == "layer":
            return selected, lengths
        return pool(selected, lengths, self.config.pooling), torch.ones_like(lengths)

    def forward(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames *dims"], Int[Tensor, " batch"]]:
        """Hidden states of the chosen layer ([..., states, dim] for a mix) and their numbers of frames."""
        if self.cut.stage == "layer":
            if self.cut.layer == self.top:
                return features, lengths
            below = list(features.unbind(2))[:-1] if self.several else []
            start = features[:, :, -1] if self.several else features
            states = self._transform(start, lengths, self.cut.layer, self.top)
            return self._select(below, states, self.cut.layer), self._output_lengths(lengths, self.top)
        if self.cut.stage == "waveform":
            features, lengths = self._convolve(features, lengths), self.num_frames(lengths)
        states = self._transform(self._enter(features, lengths), lengths, 0, self.top)
        return self._select([], states, 0), self._output_lengths(lengths, self.top)

    def _output_lengths(self, num_frames: Int[Tensor, " batch"], top: int) -> Int[Tensor, " batch"]:
        """Frames of hidden state `top` of clips with these numbers of frames of the convolutions."""
        return num_frames

    def convolved_lengths(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Numbers of frames of features at a cut at the waveform or at the convolutions."""
        return lengths if self.cut.stage == "conv" else self.num_frames(lengths)

    def convolved(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames channels"], Int[Tensor, " batch"]]:
        """The convolutions' output of features at a cut at the waveform or at the convolutions, and its lengths."""
        convolved = features if self.cut.stage == "conv" else self._convolve(features, lengths)
        return convolved, self.convolved_lengths(lengths)

    def context(
        self,
        convolved: Float[Tensor, "batch frames channels"],
        num_frames: Int[Tensor, " batch"],
        masked: Bool[Tensor, "batch frames"],
    ) -> Float[Tensor, "batch frames dim"]:
        """The last hidden state, with the model's mask vector in place of the masked frames."""
        return self._transform(self._enter(convolved, num_frames, masked), num_frames, 0, self.num_layers)[-1]

    def _select(self, below: list[Tensor], states: list[Tensor], first: int) -> Tensor:
        """The encoder's output: the chosen states among first..top and those below them."""
        if not self.several:
            return states[-1]
        return torch.stack(below + [states[n - first] for n in self.states if n >= first], dim=2)

    def _convolve(
        self, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames channels"]:
        if self.extractor is not None:
            return spectra(self.extractor, waveforms, num_samples)
        return convolve(list(self.model.feature_extractor.conv_layers), waveforms, num_samples)

    def _enter(
        self,
        features: Float[Tensor, "batch frames channels"],
        num_frames: Int[Tensor, " batch"],
        masked: Bool[Tensor, "batch frames"] | None = None,
    ) -> Float[Tensor, "batch frames dim"]:
        """Hidden state 0: projected, masked, with positions."""
        encoder = self.model.encoder
        is_bf16 = computes_in_bfloat16(self.model, features.device)
        run = in_bfloat16 if is_bf16 else nn.Module.__call__
        projected = run(self.model.feature_projection, features)
        hidden = projected[0] if isinstance(projected, tuple) else projected
        mask = frame_mask(to_device(num_frames, hidden.device), hidden.shape[1])
        if masked is not None:
            hidden = torch.where(masked[..., None], self.model.masked_spec_embed.to(hidden.dtype), hidden)
        elif self.training:
            hidden = self._spec_augment(hidden)
        hidden = hidden * mask[..., None]
        if not is_conformer(self.model):
            hidden = hidden + positions(self.model, hidden, mask)
        if not self.stable:
            hidden = run(encoder.layer_norm, hidden)
        return encoder.dropout(hidden)

    def _transform(
        self,
        hidden: Float[Tensor, "batch frames dim"],
        num_frames: Int[Tensor, " batch"],
        first: int,
        top: int,
    ) -> list[Float[Tensor, "batch frames dim"]]:
        """Hidden states first..top, the last one of the model with its final normalisation."""
        if computes_in_bfloat16(self.model, hidden.device):
            return self._transform_packed(hidden, num_frames, first, top)
        mask = frame_mask(to_device(num_frames, hidden.device), hidden.shape[1])
        padded = not self.alone and bool((num_frames < hidden.shape[1]).any())
        run = layer_runner(self.model, hidden, mask if padded else None)
        states = [hidden]
        for layer in layers_of(self.model)[first:top]:
            states.append(run(layer, states[-1]))
        return self._finished(states, top)

    def _transform_packed(
        self,
        hidden: Float[Tensor, "batch frames dim"],
        num_frames: Int[Tensor, " batch"],
        first: int,
        top: int,
    ) -> list[Float[Tensor, "batch frames dim"]]:
        """The hidden states of _transform in bfloat16, without computing padding; frames past a clip's end are zero."""
        packing = Packing.of(num_frames, hidden.shape[1], hidden.device)
        packed = packing.pack(hidden.to(torch.bfloat16))
        layers = self._rounded.of(layers_of(self.model)[first:top], first, stable=self.stable)
        states = [packed]
        with torch.autocast(hidden.device.type, enabled=False):
            for layer in layers:
                states.append(layer(states[-1], packing))
        states = self._finished(states, top)
        return [packing.unpack(state) for state in (states if self.several else states[-1:])]

    def _finished(
        self, states: list[Float[Tensor, "*frames dim"]], top: int
    ) -> list[Float[Tensor, "*frames dim"]]:
        """Hidden states up to top, the last one of the model with its final normalisation."""
        norm = final_norm(self.model)
        if top < self.num_layers or not self.stable or norm is None:
            return states
        return [*states[:-1], norm(states[-1])]

    def _spec_augment(self, hidden: Float[Tensor, "batch frames dim"]) -> Float[Tensor, "batch frames dim"]:
        """SpecAugment (Park et al. 2019) on hidden states, as wav2vec 2.0 fine-tunes: spans of 10."""
        batch, frames, dim = hidden.shape
        if self.mask_time_fraction:
            spans = _spans((batch, frames), self.mask_time_fraction, hidden.device)
            # Models saved without SpecAugment have no learnt vector for masked frames.
            mask = getattr(self.model, "masked_spec_embed", torch.zeros((), device=hidden.device))
            hidden = torch.where(spans[..., None], mask.to(hidden.dtype), hidden)
        if self.mask_feature_fraction:
            hidden = hidden * ~_spans((batch, dim), self.mask_feature_fraction, hidden.device)[:, None]
        return hidden


def _spans(
    shape: tuple[int, int], fraction: float, device: torch.device, length: int = 10
) -> Bool[Tensor, "batch places"]:
    """Random spans of `length` places that cover about `fraction` of each row (before overlaps)."""
    starts = torch.rand(shape, device=device) < fraction / length
    padded = nn.functional.pad(starts.float(), (length - 1, 0))[:, None]
    return nn.functional.max_pool1d(padded, kernel_size=length, stride=1)[:, 0] > 0
