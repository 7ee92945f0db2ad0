#!/usr/bin/env python
"""One vector per recording by a pipeline of transformers, in padded batches: the peer of `w2v2 benchmark commands`.

    jobs/peers/extract_with_pipeline.py ENCODER AUDIO_FOLDER vectors.npy --batch_size 8 --num_threads 2

Written as transformers' documentation shows a pipeline of one's own. A vector is the mean over all frames of the last
hidden state, those of the padding included.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import AutoFeatureExtractor, AutoModel, Pipeline


class MeanVectors(Pipeline):
    """From the path of a recording at 16 kHz to its vector."""

    def _sanitize_parameters(self, **_: Any) -> tuple[dict, dict, dict]:
        return {}, {}, {}

    def preprocess(self, input_: str, **preprocess_parameters: Any) -> Any:
        """The encoder's inputs."""
        waveform, rate = soundfile.read(input_, dtype="float32")
        extractor: Any = self.feature_extractor
        return extractor(waveform, sampling_rate=rate, return_tensors="pt")

    def _forward(self, input_tensors: Any, **forward_parameters: Any) -> Any:
        return {"states": self.model(**input_tensors).last_hidden_state}

    def postprocess(self, model_outputs: Any, **postprocess_parameters: Any) -> np.ndarray:
        """The mean over the frames."""
        return model_outputs["states"].float().mean(1)[0].numpy()


def main() -> None:
    """Write the vectors of all .wav files below a folder, in the order of their names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("encoder", "audio", "output"):
        parser.add_argument(name)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--num_threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.num_threads)
    embed = MeanVectors(
        model=AutoModel.from_pretrained(arguments.encoder, dtype=torch.float32).eval(),
        feature_extractor=AutoFeatureExtractor.from_pretrained(arguments.encoder),
        batch_size=arguments.batch_size,
    )
    paths = sorted(map(str, Path(arguments.audio).rglob("*.wav")))
    np.save(arguments.output, np.stack(list(embed(paths))))


if __name__ == "__main__":
    main()
