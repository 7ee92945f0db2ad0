"""Decoding, against other decoders."""

import numpy as np
import pytest

from w2v2.benchmarks import decode_case
from w2v2.benchmarks.result import OURS


def test_every_decoder_gives_the_waveform():
    sides, notes = decode_case.decoders()
    assert len(sides) + len(notes) == 5 and OURS in sides
    data = decode_case.encoded("WAV", rate=44_100, channels=2, length_s=1.1, seed=0)
    exact = decode_case.exactly(data)
    for decoder in sides.values():
        assert decode_case.snr_db(exact, decoder(data)) > 25
    assert decode_case.snr_db(exact, sides[OURS](data)) > 50


def test_the_ratio_of_signal_to_error():
    exact = np.array([1.0, -1.0, 1.0])
    assert decode_case.snr_db(exact, np.array([1.1, -0.9, 1.1, 5.0], np.float32)) == pytest.approx(
        20, abs=1e-4
    )
