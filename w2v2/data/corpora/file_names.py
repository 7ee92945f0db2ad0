"""Corpora of acted speech whose file names say who speaks and how: EMO-DB, CREMA-D, SAVEE and TESS.

No folds were published with them: use grouped ones, or as many as there are speakers (EMO-DB 10, SAVEE 4, TESS 2).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from w2v2.config.data import DataConfig
from w2v2.data.corpora.rows import ClipRow, CorpusRows, Labels, audio_among, below, files_below
from w2v2.errors import Reject, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted


@dataclass(frozen=True, kw_only=True)
class NamedCorpus:
    """How the files of a corpus are named."""

    pattern: re.Pattern[str]
    """A regular expression of paths below the corpus, with groups speaker and emotion."""
    emotions: Mapping[str, str]
    """The class of each code."""
    example: str


EMODB = NamedCorpus(
    pattern=re.compile(r"(?:.*/)?(?P<speaker>\d\d)[ab]\d\d(?P<emotion>[A-Z])[a-z]?\.\w+"),
    emotions={
        "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral",
    },
    example="03a01Fa.wav",
)  # fmt: skip
"""Burkhardt et al., A database of German emotional speech, Interspeech 2005."""

CREMA_D = NamedCorpus(
    pattern=re.compile(r"(?:.*/)?(?P<speaker>\d{4})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_[A-Z]{1,2}\.\w+"),
    emotions={
        "ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad",
    },
    example="1001_DFA_ANG_XX.wav",
)  # fmt: skip
"""Cao et al., CREMA-D: Crowd-sourced emotional multimodal actors dataset, IEEE TAC 5(4), 2014."""

SAVEE = NamedCorpus(
    pattern=re.compile(r"(?:.*/)?(?P<speaker>DC|JE|JK|KL)[_/](?P<emotion>sa|su|[adfhn])\d\d\.\w+"),
    emotions={
        "a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "n": "neutral", "sa": "sadness",
        "su": "surprise",
    },
    example="DC_a01.wav or DC/a01.wav",
)  # fmt: skip
"""Haq and Jackson, Speaker-dependent audio-visual emotion recognition, AVSP 2009."""

TESS = NamedCorpus(
    pattern=re.compile(r"(?:.*/)?(?P<speaker>OAF|OA|YAF)_[^/_]+_(?P<emotion>[A-Za-z]+)\.\w+"),
    emotions={
        "angry": "angry", "disgust": "disgust", "fear": "fear", "happy": "happy", "neutral": "neutral",
        "ps": "surprised", "sad": "sad",
    },
    example="OAF_back_angry.wav",
)  # fmt: skip
"""Pichora-Fuller and Dupuis, Toronto emotional speech set, 2020; one file is named OA for OAF."""

NAMED_CORPORA = {"emodb": EMODB, "crema_d": CREMA_D, "savee": SAVEE, "tess": TESS}


def read_named(data: DataConfig, *, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    """A clip for each audio file below data.uri; a file with another kind of name is a reject.

    Raises UserError for columns or targets, which such corpora do not have.
    """
    if extra_columns:
        raise UserError(
            f"data.layout={data.layout} has no columns, but {quoted(extra_columns)} are asked for"
        )
    if task in ("multi_label", "regression"):
        raise UserError(f"data.layout={data.layout} has one class a clip, got task.kind={task}")
    corpus = NAMED_CORPORA[data.layout]
    root = storage.expand(data.uri)
    uris, passed_over = files_below(root)
    audio = audio_among(uris, data, passed_over)
    return CorpusRows(rows=[_clip(uri, below(uri, root), corpus) for uri in audio], passed_over=passed_over)


def _clip(uri: str, path: str, corpus: NamedCorpus) -> ClipRow:
    match = corpus.pattern.fullmatch(path)
    label = corpus.emotions.get(match["emotion"] if match else "")
    if not match or not label:
        reject = Reject(
            kind="name not of the corpus", detail=f"{PurePosixPath(path).name}, wanted {corpus.example}"
        )
        return ClipRow(clip_id=path, uri=uri, reject=reject)
    speaker = "OAF" if match["speaker"] == "OA" else match["speaker"]
    return ClipRow(clip_id=path, uri=uri, speaker=speaker, label=label)
