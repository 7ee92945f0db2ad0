"""A saved model as an ONNX graph; its outputs, computed by onnxruntime, are compared with the model's outputs."""

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.errors import UserError
from w2v2.inference.prediction import predict_waveforms, raw_outputs
from w2v2.inference.transcription import frame_logits
from w2v2.json_types import Json
from w2v2.models.ctc import Transcriber
from w2v2.models.model_info import ModelInfo
from w2v2.models.one_clip import OneClip, output_names
from w2v2.models.probabilities import log_softmax
from w2v2.models.saved_model import SavedModel

GRAPH = "model.onnx"
TOLERANCE = 1e-4
"""Largest allowed difference between an output of onnxruntime and of the model; relative to logits and values above 1."""
LENGTHS_S = (0.0, 0.3, 1.07, 2.5, 6.13)
"""Lengths of the sounds for the comparison of both; no sound is shorter than one frame of the encoder."""
ONE_FILE_BYTES = 1_500_000_000
"""Weights of more bytes lie in a file next to the graph: one message of protobuf has at most 2 GB."""

Outputs = Mapping[str, Float[np.ndarray, "..."]]
"""A model's outputs for one sound, by name."""


def check_installed() -> None:
    """Raises UserError where a library of the extra `export` is missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"export needs {', '.join(missing)}: pip install -e '.[export]'")


def check_sounds(min_samples: int, *, seed: int) -> list[Float[np.ndarray, " _"]]:
    """Sounds of several lengths and levels: falling tones in noise, with silence at their ends."""
    rng = np.random.default_rng(seed)
    sounds = []
    for number, length_s in enumerate(LENGTHS_S):
        num_samples = max(min_samples, round(length_s * SAMPLE_RATE))
        place = np.arange(num_samples) / num_samples
        pitch_hz = 260.0 * (1 - 0.4 * place) * 1.2**number
        phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
        voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 9))
        sound = (voice + 0.3 * rng.normal(size=num_samples)) * (place < 0.9) * 10.0 ** -rng.uniform(0.7, 2.0)
        sounds.append(sound.astype(np.float32))
    return sounds


def outputs_of(saved: SavedModel, sounds: Sequence[Float[np.ndarray, " _"]]) -> list[Outputs]:
    """The outputs of `predict` for each sound, computed in one padded batch."""
    if isinstance(saved.model, Transcriber):
        frames = frame_logits(sounds, saved.model, normalize=saved.info.normalize)
        return [{"log_probabilities": log_softmax(logits)} for logits in frames]
    names = output_names(saved)
    by_name = {names[-1]: predict_waveforms(sounds, saved)}
    if "logits" in names:
        by_name["logits"] = raw_outputs(sounds, saved.model, saved.info)
    return [{name: rows[index] for name, rows in by_name.items()} for index in range(len(sounds))]


def write_graph(folder: Path, saved: SavedModel, about: Mapping[str, Json], *, uri: str) -> Path:
    """The graph's file in the folder, with `about` in its metadata; takes over the modules of the model (see OneClip).

    Raises UserError where torch cannot export the model's encoder.
    """
    shortest, kind = saved.model.encoder.min_samples, saved.model.encoder.model.config.model_type
    module, names = OneClip(saved), output_names(saved)
    place = folder / GRAPH
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (torch.randn(1, shortest + SAMPLE_RATE),),
                input_names=["waveform"],
                output_names=list(names),
                dynamic_shapes={"waveform": {1: torch.export.Dim.DYNAMIC}},
                dynamo=True,
            )
            assert program is not None
            program.model.metadata_props["w2v2"] = json.dumps(about)
            num_bytes = sum(p.numel() * p.element_size() for p in module.parameters())
            program.save(place, external_data=num_bytes > ONE_FILE_BYTES)
    except Exception as error:  # torch.export and the translation raise errors of many kinds
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"model {uri!r}: torch cannot export a {kind} encoder to ONNX ({why})") from error
    return place


def largest_difference(
    place: Path, sounds: Sequence[Float[np.ndarray, " _"]], expected: Sequence[Outputs]
) -> float:
    """The largest difference between onnxruntime's outputs, sound by sound, and the expected ones; relative above 1, NaN counts as inf."""
    import onnxruntime

    session = onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
    largest = 0.0
    for sound, wanted in zip(sounds, expected, strict=True):
        outputs = session.run(list(wanted), {"waveform": sound[None]})
        for rows, values in zip(outputs, wanted.values(), strict=True):
            if rows[0].shape != values.shape:
                return float("inf")
            difference = np.abs(rows[0].astype(np.float64) - values) / np.maximum(1.0, np.abs(values))
            largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
    return largest


def description(saved: SavedModel, operating_point: Mapping[str, Json]) -> dict[str, Json]:
    """A description for programs that run the graph: input, preprocessing, outputs and their labels."""
    info = saved.info
    about: dict[str, Json] = {
        "kind": info.kind,
        "digest": saved.digest,
        "input": {
            "name": "waveform",
            "dtype": "float32",
            "shape": [1, "samples"],
            "sampling_rate_hz": SAMPLE_RATE,
            "channels": 1,
            "min_samples": saved.model.encoder.min_samples,
        },
        "preprocessing": {
            "in_graph": "zero mean and unit variance over the samples" if info.normalize else "none",
            "before_graph": asdict(info.audio),
        },
        "outputs": _outputs(info, output_names(saved)),
    }
    if info.vocabulary is not None:
        decoding = {
            "blank": info.vocabulary.blank,
            "word_delimiter": info.vocabulary.word_delimiter,
            "special": list(info.vocabulary.special),
            "frame_s": saved.model.encoder.frame_s,
        }
        return about | {"decoding": decoding}
    return about | ({"operating_point": dict(operating_point)} if operating_point else {})


def _outputs(info: ModelInfo, names: Sequence[str]) -> list[dict[str, Json]]:
    shape: list[int | str] = [1, "frames"] if info.kind == "transcript" else [1]
    labels = list(info.names)
    outputs: list[dict[str, Json]] = [
        {"name": name, "dtype": "float32", "shape": [*shape, len(labels)], "labels": labels} for name in names
    ]
    if len(info.groups) > 1:
        for output in outputs:
            output["heads"] = [list(group) for group in info.groups]
    return outputs


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A block in which torch's exporter neither prints nor warns of what `largest_difference` tests."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
