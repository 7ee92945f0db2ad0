"""What Python's functions take as clips, and the sentence for everything else."""

from pathlib import Path

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import w2v2
from w2v2.errors import UserError

RATE = 16_000
NOISE = 0.1 * np.random.default_rng(0).normal(size=2 * RATE).astype(np.float32)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one recording, where Python runs."""
    soundfile.write(tmp_path / "a.wav", NOISE, RATE, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_data_frame_has_a_clip_a_row(here: Path) -> None:
    whole = w2v2.embed("a.wav").embedding[0]
    frame = pd.DataFrame(
        {"uri": ["a.wav", "a.wav"], "start_s": [0.0, 0.5], "end_s": [2.0, 1.5], "more": [1, 2]}
    )
    parts = w2v2.embed(frame)
    assert parts[["start_s", "end_s"]].values.tolist() == [[0.0, 2.0], [0.5, 1.5]]
    np.testing.assert_allclose(parts.embedding[0], whole, atol=1e-6)
    samples = NOISE[RATE // 2 : 3 * RATE // 2]
    np.testing.assert_allclose(
        parts.embedding[1], w2v2.embed(samples, sampling_rate=RATE).embedding[0], atol=1e-5
    )
    named = w2v2.embed(frame.assign(clip_id=["first", "second"]))
    assert named.clip_id.tolist() == ["first", "second"]
    assert w2v2.embed(frame[["uri"]][:1]).clip_id.tolist() == ["a.wav"]
    # As audformat keeps segments: in the index, as times.
    zero, end = pd.Timedelta(0), pd.Timedelta("NaT")
    index = pd.MultiIndex.from_tuples([("a.wav", zero, end)], names=["file", "start", "end"])
    np.testing.assert_allclose(w2v2.embed(pd.DataFrame(index=index)).embedding[0], whole, atol=1e-6)
    # A column of paths.
    assert len(w2v2.embed(frame.uri)) == 2


def test_tensors_are_arrays(here: Path) -> None:
    rows = w2v2.embed([torch.from_numpy(NOISE), NOISE.astype(np.float64), "a.wav"], sampling_rate=RATE)
    for row in rows.embedding[1:]:
        np.testing.assert_allclose(row, rows.embedding[0], atol=1e-6)


@pytest.mark.parametrize(
    "frame, message",
    [
        (pd.DataFrame({"x": [1]}), r"^a DataFrame of clips needs a column uri \(or file\) .*, got the columns x$"),
        (pd.DataFrame({"uri": ["a.wav", None]}), r"^row 1 of the DataFrame has no path in its column uri: leave it out$"),
        (pd.DataFrame({"uri": ["b.wav"]}), r"^clip b\.wav: .*no such file"),
        (pd.DataFrame({"uri": []}), r"^no clip was given: "),
        (pd.DataFrame({"uri": ["a.wav"], "start_s": [3], "end_s": [1]}), r"bad segment: end_s 1 is not behind start_s 3"),
    ],
)  # fmt: skip
def test_a_data_frame_without_clips_is_a_sentence(here: Path, frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(UserError, match=message):
        w2v2.embed(frame)


WRONG = {
    "embed(NOISE.tolist(), sampling_rate=16000)": "got 32000 numbers: give them as one array, numpy.array",
    "embed(3)": "a clip is a path, a gs:// uri or an array of samples, got int",
    "embed(None)": "got NoneType",
    "embed([b'abc'])": "clip 0: a clip is a path, a gs:// uri or an array of samples, got bytes",
    "embed(NOISE * 1j, sampling_rate=16000)": "clip 0: a clip is a path, a gs:// uri or an array of samples, got an array of complex",
    "embed(np.array(['a.wav']))": "got an array of <U5",
    "embed(NOISE, sampling_rate='16000')": "sampling_rate must say the rate of arrays in Hz, got 16000",
    "embed(NOISE, sampling_rate=float('nan'))": "sampling_rate must say the rate of arrays in Hz, got nan",
    "embed(NOISE, sampling_rate=10**12)": "sampling_rate must say the rate of arrays in Hz",
    "embed(NOISE, sampling_rate=16000, window_s=-1)": "window_s must be at least 0, got -1",
    "embed(NOISE, sampling_rate=16000, window_s='1')": "window_s and hop_s are seconds, got '1' and 0.0",
    "embed(NOISE, sampling_rate=16000, window_s=0.2, hop_s=1e-9)": "hop_s must be at least 0.01, got 1e-09",
    "predict('m', NOISE, sampling_rate=16000, hop_s=1)": "hop_s is for windows, got 1 without window_s",
    "embed(NOISE, sampling_rate=16000, layers='first')": "layers must be last, all, a number or several numbers, got 'first'",
    "embed(NOISE, sampling_rate=16000, layers=1.5)": "layers must be last, all, a number or several numbers, got 1.5",
    "embed(NOISE, sampling_rate=16000, layers=(0, 'a'))": "layers must be last, all, a number or several numbers",
    "embed(NOISE, sampling_rate=16000, layers=9)": "encoder.layer must be at most 2, the layers of tiny, got 9",
    "embed(NOISE, sampling_rate=16000, pooling='median')": "pooling must be mean, sum, max or mean+std, got 'median'",
    "embed(NOISE, sampling_rate=16000, output='numpy')": "output must be pandas or arrow, got 'numpy'",
    "embed(NOISE, sampling_rate=16000, encoder=None)": "encoder is named by a path, a gs:// uri or a hub name, got NoneType",
    "embed(NOISE, sampling_rate=16000, audio={'crop_s': 1})": "audio must be an AudioConfig, got dict",
    "load_model(3)": "model is named by a path, a gs:// uri or a hub name, got int",
    "predict(None, NOISE)": "model is named by a path, a gs:// uri or a hub name, got NoneType",
    "load_model('a.wav')": "is no model of ours",
    "read_run(None)": "run is named by a path, a gs:// uri or a hub name, got NoneType",
}


def outcome(call: str) -> str:
    """What a call ends with: the sentence of its UserError, or another error or no error, which are faults."""
    functions = {name: getattr(w2v2, name) for name in ("embed", "load_model", "predict", "read_run")}
    try:
        return f"no error: {eval(call, {'np': np, 'NOISE': NOISE.astype(np.float64), **functions})}"
    except UserError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_every_wrong_call_is_a_sentence(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing checks types before these functions do, as in a notebook."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    sentences = {call: outcome(call) for call in WRONG}
    wrong = {
        call: sentence
        for call, sentence in sentences.items()
        if WRONG[call] not in sentence or "\n" in sentence
    }
    assert not wrong
