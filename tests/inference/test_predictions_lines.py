"""Predictions as lines for a terminal."""

import pyarrow as pa

from w2v2.config.data import AudioConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.inference.predictions_lines import MAX_WINDOWS, lines_of
from w2v2.models.model_info import ModelInfo


def info_of(kind, *names):
    return ModelInfo(
        kind=kind,
        groups=(names,),
        audio=AudioConfig(),
        encoder=EncoderConfig(),
        head=HeadConfig(),
        normalize=True,
    )


def test_a_transcript_without_text_has_no_confidence():
    rows = pa.table(
        {
            "clip_id": ["a.wav", "long.wav"],
            "start_s": [0.0, 0.0],
            "end_s": [1.0, 12.5],
            "text": ["", "kids are"],
            "confidence": pa.array([None, 0.875], pa.float64()),
        }
    )
    assert lines_of(rows, info_of("transcript", "<pad>")) == [
        "a.wav        0.00 to    1.00 s  (no text)",
        "long.wav     0.00 to   12.50 s  kids are (0.88)",
    ]


def test_of_many_windows_the_first_are_shown():
    num = MAX_WINDOWS + 7
    rows = pa.table(
        {
            "clip_id": ["a.wav"] * num,
            "start_s": [float(i) for i in range(num)],
            "end_s": [float(i + 1) for i in range(num)],
            "prob_x": [0.25] * num,
            "prob_y": [0.75] * num,
        }
    )
    first, *_, last = lines_of(rows, info_of("classes", "x", "y"))
    assert first == "a.wav     0.00 to    1.00 s  y 0.75 (x 0.25)" and last == "... and 7 more rows"
