"""The encoder of Whisper: a clip is padded to 30 s, every layer sees the padding, and only the clip's own frames are pooled."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import WhisperModel

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.models.device import to_device
from w2v2.models.encoder import Encoder
from w2v2.models.front_ends import spectra


def without_decoder(model: Any) -> WhisperModel:
    """The model with a decoder of no layers in place of its own; transformers opens and saves it like any other model."""
    config = type(model.config).from_dict(model.config.to_dict())
    config.decoder_layers, config.vocab_size, config.max_target_positions = 0, 1, 1
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        setattr(config, name, 0)
    torch.manual_seed(0)
    short: Any = WhisperModel(config)
    short.encoder.load_state_dict(model.encoder.state_dict())
    opened: WhisperModel = short.eval()
    return opened


class WhisperAudioEncoder(Encoder):
    """An Encoder of log-mel spectra of 30 s.

    As in transformers, attention also sees the frames after a clip's end. So a cut passes on the frames of the whole
    window, and one more row with the number of the clip's own frames.
    """

    @property
    def kernels(self) -> tuple[int, ...]:
        """Kernel sizes that give the right number of frames: one for each 20 ms, also for the last, incomplete one."""
        return (1,)

    @property
    def strides(self) -> tuple[int, ...]:
        """Samples from one frame to the next."""
        extractor = self.extractor
        return (extractor.n_samples // self.model.config.max_source_positions,)

    @property
    def max_s(self) -> float:
        """Seconds that the encoder takes."""
        return float(self.extractor.n_samples / SAMPLE_RATE)

    def _trained(self) -> Iterator[nn.Module]:
        encoder = self.model.encoder
        if self.cut.stage == "waveform":
            yield encoder.conv1
            yield encoder.conv2
        yield from self.trained_layers
        if self.trained_layers and self.top == self.num_layers:
            yield encoder.layer_norm

    def train(self, mode: bool = True) -> "WhisperAudioEncoder":
        """Self, with only the trained modules in training mode."""
        nn.Module.train(self, mode)
        self.model.eval()
        for module in self._trained():
            module.train(mode)
        return self

    @property
    def _frames_cross(self) -> bool:
        """Whether the cut passes on all 1500 frames of the window, and with them the number of frames that the clip fills."""
        return self.cut.stage == "conv" or (self.cut.stage == "layer" and self.cut.layer != self.top)

    @property
    def layout(self) -> str:
        """'counts' where the cut passes on the number of a clip's own frames, else ''."""
        return "counts" if self._frames_cross else ""

    def trunk(
        self, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch ..."], Int[Tensor, " batch"]]:
        """Features at the cut and their lengths; waveforms are zero past their ends."""
        features, lengths = super().trunk(waveforms, num_samples)
        return _with_counts(features, lengths) if self._frames_cross else (features, lengths)

    def forward(
        self, features: Float[Tensor, "batch ..."], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames *dims"], Int[Tensor, " batch"]]:
        """Hidden states of the chosen layer and the numbers of each clip's own frames."""
        if self._frames_cross:
            features, lengths = _without_counts(features)
        return super().forward(features, lengths)

    def _convolve(
        self, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames dim"]:
        encoder = self.model.encoder
        spectrum = spectra(self.extractor, waveforms, num_samples).transpose(1, 2)
        return nn.functional.gelu(encoder.conv2(nn.functional.gelu(encoder.conv1(spectrum)))).transpose(1, 2)

    def _enter(
        self,
        features: Float[Tensor, "batch frames dim"],
        num_frames: Int[Tensor, " batch"],
        masked: Bool[Tensor, "batch frames"] | None = None,
    ) -> Float[Tensor, "batch frames dim"]:
        """Hidden state 0: with positions."""
        hidden = self._spec_augment(features) if self.training else features
        return hidden + self.model.encoder.embed_positions.weight

    def _transform(
        self,
        hidden: Float[Tensor, "batch frames dim"],
        num_frames: Int[Tensor, " batch"],
        first: int,
        top: int,
    ) -> list[Float[Tensor, "batch frames dim"]]:
        states = [hidden]
        for index in range(first, top):
            hidden = self.model.encoder.layers[index](hidden, None)
            states.append(hidden)
        if top == self.num_layers and first < top:
            states[-1] = self.model.encoder.layer_norm(hidden)
        return states


def _with_counts(
    features: Float[Tensor, "batch frames ..."], num_frames: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, "batch rows ..."], Int[Tensor, " batch"]]:
    """The features with one more row at the end, in which every value is the clip's number of frames, and the new lengths."""
    numbers = to_device(num_frames, features.device).view(-1, *(1,) * (features.ndim - 1))
    row: Any = torch.ones_like(features[:, :1]) * numbers
    marked = torch.cat([features.float(), row.float()], dim=1)  # bfloat16 has no 1500
    return marked, torch.full_like(num_frames, marked.shape[1])


def _without_counts(
    marked: Float[Tensor, "batch rows ..."],
) -> tuple[Float[Tensor, "batch frames ..."], Int[Tensor, " batch"]]:
    return marked[:, :-1], marked[:, -1].flatten(1)[:, 0].round().long()
