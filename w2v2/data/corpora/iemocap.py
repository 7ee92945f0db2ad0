"""IEMOCAP: label files in Session*/dialog/EmoEvaluation, utterances in Session*/sentences/wav; five sessions, ten speakers.

Busso et al., IEMOCAP: Interactive emotional dyadic motion capture database, LREC 42(4), 2008. The usual folds are
its sessions: --folds.kind column --folds.num_folds 5.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from w2v2.config.data import DataConfig
from w2v2.data.corpora.rows import (
    UNANNOTATED,
    ClipRow,
    CorpusRows,
    Labels,
    audio_among,
    files_below,
    grouped,
)
from w2v2.errors import Reject, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted

TARGETS = ("valence", "activation", "dominance")
EMOTIONS = {
    "ang": "angry", "dis": "disgust", "exc": "excited", "fea": "fearful", "fru": "frustrated", "hap": "happy",
    "neu": "neutral", "oth": "other", "sad": "sad", "sur": "surprised", "xxx": "no agreement",
}  # fmt: skip
_LINE = re.compile(
    r"\[[\d.]+ - [\d.]+\]\t(?P<name>(?P<session>Ses0[1-5])[FM]_\w+_(?P<sex>[FM])\w+)\t(?P<emotion>\w+)\t"
    r"\[(?P<targets>[\d.]+, [\d.]+, [\d.]+)\]"
)


def read_iemocap(data: DataConfig, *, task: Labels, extra_columns: Sequence[str]) -> CorpusRows:
    """The utterances of all sessions; split is the session, a label without its wav is a reject.

    Classes include 'no agreement' and 'other': drop them by data.classes. Raises UserError for a folder that is not
    IEMOCAP's.
    """
    if extra_columns or task == "multi_label":
        asked = f"columns {quoted(extra_columns)}" if extra_columns else f"task.kind={task}"
        raise UserError(f"data.layout=iemocap has one class and three values an utterance, got {asked}")
    root = storage.expand(data.uri)
    uris, passed_over = files_below(root)
    wavs = {
        PurePosixPath(uri).stem: uri
        for uri in audio_among(uris, data, passed_over)
        if "/sentences/" in uri.removeprefix(root)
    }
    tables = [uri for uri in uris if re.search(r"/EmoEvaluation/[^/]+\.txt$", uri)]
    if not tables:
        raise UserError(
            f"data.uri {data.uri} has no Session*/dialog/EmoEvaluation/*.txt: give the folder of IEMOCAP's sessions"
        )
    rows = [row for uri in tables for row in _rows(uri, wavs, task)]
    if unknown := len(set(wavs) - {row.clip_id for row in rows}):
        passed_over[UNANNOTATED] = unknown
    groups = grouped(TARGETS, task) if task == "regression" else ()
    return CorpusRows(rows=rows, groups=groups, passed_over=passed_over)


def _rows(uri: str, wavs: dict[str, str], task: Labels) -> Iterator[ClipRow]:
    for match in _LINE.finditer(storage.read_text(uri)):
        name, emotion = match["name"], EMOTIONS.get(match["emotion"])
        if name not in wavs or not emotion:
            why = ("missing", f"no {name}.wav") if emotion else ("unknown emotion", match["emotion"])
            yield ClipRow(clip_id=name, uri=wavs.get(name, ""), reject=Reject(kind=why[0], detail=why[1]))
            continue
        values = tuple(float(value) for value in match["targets"].split(", "))
        yield ClipRow(
            clip_id=name,
            uri=wavs[name],
            speaker=f"{match['session']}{match['sex']}",
            split=f"Session{match['session'][-1]}",
            label=emotion if task in ("classes", "none") else "",
            targets=values if task == "regression" else (),
        )
