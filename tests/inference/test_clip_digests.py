"""Digests of clips by column: those of repr() of tuples, clip by clip, which earlier versions recorded."""

import math

import numpy as np
import pyarrow as pa
import pytest

from tests.inference.test_extraction import digest_before, job_of, settings_before
from w2v2.audio.decoding import decoder_of
from w2v2.config.data import AudioConfig
from w2v2.inference.clip_digests import inputs_digests, settings_digests

URIS = (
    "gs://b/a.wav", "/x/it's.mp3", '/x/"quoted".FLAC', "/x/both'\".Wav", "/x/back\\slash.ogg", "/x/line\nbreak.wav",
    "/x/ünïcode.wav", "/x/\u200bhidden.mp3", "/x/no_suffix", "/x/tab\t.wav", "/x.wav/y", "/x/emoji😀.opus", "",
)  # fmt: skip


@pytest.fixture
def clips() -> pa.Table:
    rng = np.random.default_rng(0)
    num = 20 * len(URIS)
    starts_s = np.where(rng.random(num) < 0.5, 0.0, rng.random(num) * 1e3)
    return pa.table(
        {
            "uri": [URIS[number % len(URIS)] for number in range(num)],
            "start_s": starts_s,
            "end_s": np.where(starts_s == 0.0, math.inf, starts_s + 1e-7 + rng.random(num)),
            "fingerprint": [f"crc{number}-{number}" for number in range(num)],
        }
    )


@pytest.mark.parametrize("in_chunks", [False, True])
def test_digests_by_column_are_those_clip_by_clip(clips: pa.Table, in_chunks: bool) -> None:
    job = job_of("/run", AudioConfig(fixed_s=2.0))
    if in_chunks:
        clips = pa.concat_tables([clips.slice(0, 7), clips.slice(7, 100), clips.slice(107)])
    settings = settings_digests(job, clips)
    inputs = inputs_digests(job, clips, settings.now).to_pylist()
    identity = (job.digest, job.layers, job.config.extra_columns, tuple(job.constants.items()))
    both = zip(clips.to_pylist(), settings.now.to_pylist(), strict=True)
    wanted = [
        digest_before(identity, now, clip["start_s"], clip["end_s"], clip["uri"], clip["fingerprint"])
        for clip, now in both
    ]
    assert inputs == wanted and len(set(wanted)) == len(clips)
    lossless = [not decoder_of(uri) for uri in clips["uri"].to_pylist()]
    assert 0 < sum(lossless) < len(clips)
    for is_lossless, clip, first in zip(lossless, clips.to_pylist(), settings.first.to_pylist(), strict=True):
        assert (first == settings_before(job.config.audio, clip["start_s"], clip["end_s"])) == is_lossless


def test_no_clips_have_no_digests(clips: pa.Table) -> None:
    job = job_of("/run")
    settings = settings_digests(job, clips.slice(0, 0))
    assert len(settings.now) == len(inputs_digests(job, clips.slice(0, 0), settings.now)) == 0
