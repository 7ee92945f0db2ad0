"""The usual loop that makes one vector per clip: AutoFeatureExtractor, AutoModel, batches as the files come."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils import logging as transformers_logging

from w2v2.audio.decoding import SAMPLE_RATE

Padding = Literal["10 s", "longest", "single"]
FIXED_S = 10


def device() -> torch.device:
    """The GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Loop:
    """A transformers model and its feature extractor, loaded as their documentation shows."""

    def __init__(self, folder: str, *, precision: str = "float32") -> None:
        transformers_logging.disable_progress_bar()
        self.extractor: Callable[..., Any] = AutoFeatureExtractor.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).to(device()).eval()
        self.precision = precision

    @torch.no_grad()
    def vectors(
        self, clips: Sequence[Float[np.ndarray, " _"]], *, padding: Padding, batch_size: int
    ) -> Float[np.ndarray, "clips dim"]:
        """The vectors of this loop: the mean over all frames of the last hidden state, padding included.

        '10 s' cuts and fills clips to ten seconds, 'longest' fills a batch to its longest clip, 'single' has
        batches of one clip, so nothing is filled: transformers' own forward of the clip.
        """
        size = 1 if padding == "single" else batch_size
        batches = [clips[at : at + size] for at in range(0, len(clips), size)]
        return np.concatenate([self._batch(batch, padding) for batch in batches])

    def _batch(
        self, batch: Sequence[Float[np.ndarray, " _"]], padding: Padding
    ) -> Float[np.ndarray, "b dim"]:
        fixed = {"padding": "max_length", "max_length": FIXED_S * SAMPLE_RATE, "truncation": True}
        how = fixed if padding == "10 s" else {"padding": True}
        inputs = self.extractor(list(batch), sampling_rate=SAMPLE_RATE, return_tensors="pt", **how)
        with torch.autocast(device().type, torch.bfloat16, enabled=self.precision == "bf16"):
            states = self.model(**inputs.to(device())).last_hidden_state
        return states.float().mean(1).cpu().numpy()


def embed_files(
    folder: str, paths: Sequence[Path], padding: Padding, batch_size: int, num_threads: int
) -> Float[np.ndarray, "clips dim"]:
    """Vectors of 16 kHz files in the order given, by a program that does nothing else."""
    torch.set_num_threads(num_threads)
    clips = [soundfile.read(path, dtype="float32")[0] for path in paths]
    return Loop(folder).vectors(clips, padding=padding, batch_size=batch_size)
