"""Log-mel front ends of encoders that do not take waveforms: transformers' own feature extractors, clip by clip."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from w2v2.audio.decoding import SAMPLE_RATE


def spectra(
    extractor: Any, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
) -> Float[Tensor, "batch frames channels"]:
    """The extractor's spectra of each clip alone, zero past the ends of shorter ones; no gradient passes through it."""
    rows = waveforms.detach().float().cpu().numpy()
    made = [
        _spectrum(extractor, row[:length]) for row, length in zip(rows, num_samples.tolist(), strict=True)
    ]
    padded = np.zeros((len(made), max(map(len, made)), made[0].shape[1]), np.float32)
    for place, spectrum in zip(padded, made, strict=True):
        place[: len(spectrum)] = spectrum
    return torch.from_numpy(padded).to(waveforms.device)


def _spectrum(
    extractor: Any, waveform: Float[np.ndarray, " samples"]
) -> Float[np.ndarray, "frames channels"]:
    with torch.autocast("cpu", enabled=False):  # Whisper's is made with torch, and numpy has no bfloat16
        features = extractor(
            waveform, sampling_rate=SAMPLE_RATE, return_tensors="np", return_attention_mask=True
        )
    spectrum, mask = features["input_features"][0], features["attention_mask"][0]
    if spectrum.shape[0] != len(mask):  # Whisper's: channels first, and always of 30 s
        return np.ascontiguousarray(spectrum.T)
    return spectrum[mask.astype(bool)]
