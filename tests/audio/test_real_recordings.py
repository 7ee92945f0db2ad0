"""Thousands of real recordings are read whole: bit for bit as they are, and as FFmpeg reads them in five formats."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.recordings import debian_recordings
from w2v2.audio.containers import identify
from w2v2.audio.decoders import open_decoder
from w2v2.audio.decoding import SAMPLE_RATE, AudioError, load_clip
from w2v2.config.data import AudioConfig

FORMATS = {
    "mp3": "-q:a 5 -f mp3 pipe:1",
    "ogg": "-f ogg pipe:1",
    "m4a": "-y FILE",
    "webm": "-ar 48000 -f webm pipe:1",
    "flac": "-f flac pipe:1",
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return debian_recordings(tmp_path_factory.mktemp("debian"))


@pytest.mark.slow
def test_all_recordings_of_debian_are_read_whole(recordings: list[Path]) -> None:
    assert len(recordings) > 2_500
    rejected: Counter[str] = Counter()
    for path in recordings:
        data = path.read_bytes()
        values, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sound = open_decoder(identify(data)).read(0, len(values))
        assert sound.rate_hz == rate
        np.testing.assert_allclose(
            sound.values, values.mean(axis=1), rtol=0, atol=0 if values.shape[1] == 1 else 1e-7
        )
        try:
            clip = load_clip(data, AudioConfig(max_s=600.0))
        except AudioError as error:
            rejected[error.reject.kind] += 1
            continue
        assert clip.tolerated == "" and abs(len(clip.waveform) - len(values) * SAMPLE_RATE / rate) <= 1
    # Pauses of silence are among the prompts.
    assert set(rejected) <= {"too short", "silent"} and rejected.total() < 80


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_hundred_in_each_of_five_formats(suffix: str, recordings: list[Path], tmp_path: Path) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    chosen = [path for path in recordings if soundfile.info(path).duration > 0.3][:: len(recordings) // 110][
        :100
    ]
    for number, path in enumerate(chosen):
        file = tmp_path / f"{number}.{suffix}"
        words = FORMATS[suffix].replace("FILE", str(file)).split()
        made = subprocess.run(
            ["ffmpeg", "-v", "error", "-i", path, *words], capture_output=True, check=True
        ).stdout
        if made:
            file.write_bytes(made)
        command = ["ffmpeg", "-v", "quiet", "-i", file, "-f", "f32le", "-"]
        wanted = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)
        decoder = open_decoder(identify(file.read_bytes()))
        got = decoder.read(0, 10**8).values
        delay = len(got) - len(wanted)
        assert 0 <= delay <= (312 if suffix == "webm" else 0), file
        np.testing.assert_allclose(got[delay:], wanted, atol=0 if suffix == "flac" else 1e-4)
