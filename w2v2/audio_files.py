"""The audio files among the files of a folder."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NoReturn

from w2v2.config import DataConfig, UserError

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def audio_among(uris: Sequence[str], data: DataConfig) -> list[str]:
    """Those with an audio suffix, of any case, in their order; UserError where there is none."""
    audio = [uri for uri in uris if uri.lower().endswith(AUDIO_SUFFIXES)]
    if not audio:
        _refuse_no_audio(data, uris)
    if len(audio) < len(uris):
        logger.info("%s: passed over %d files that are not audio", data.uri, len(uris) - len(audio))
    return audio


def _refuse_no_audio(data: DataConfig, uris: Sequence[str]) -> NoReturn:
    suffixes = Counter(PurePosixPath(uri).suffix.lower() or "no suffix" for uri in uris)
    found = ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common(5)) or "no file at all"
    raise UserError(
        f"data.uri {data.uri} holds no audio file ({' '.join(AUDIO_SUFFIXES)}), found {found}: "
        "give the folder of the audio files, or a .csv file"
    )
