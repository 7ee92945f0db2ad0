"""Transcripts with their words in tables of every kind and in a CSV: any script, exactly once."""

import csv
import io
import json

import pyarrow as pa

from tests.tables.places import Place
from w2v2.config.data import AudioConfig
from w2v2.config.finetune import PredictConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.config.text import TextConfig
from w2v2.data.text import vocabulary_of
from w2v2.errors import Reject
from w2v2.inference.prediction_records import ClipPrediction
from w2v2.inference.predictions_table import rows_of, spec_of, to_csv, write_rows
from w2v2.models.decoding import Transcript, Word
from w2v2.models.model_info import ModelInfo
from w2v2.tables.table import open_table

TEXTS = {
    "a.wav": 'he said "no", 7\u00a0times',
    "b.wav": "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u0627 \u0628\u0643",
    "c.wav": "\u1781\u17d2\u1789\u17bb\u17c6",
    "d.wav": "=1+1 'quoted' ; DROP TABLE",
    "e.wav": "",
}
VOCABULARY = vocabulary_of(["ab"], TextConfig())
INFO = ModelInfo(
    kind="transcript",
    groups=(VOCABULARY.tokens,),
    audio=AudioConfig(),
    encoder=EncoderConfig(pooling="none"),
    head=HeadConfig(),
    normalize=True,
    text=TextConfig(),
    vocabulary=VOCABULARY,
)


def prediction(clip_id: str, text: str) -> ClipPrediction:
    words = tuple(
        Word(text=word, start_s=0.1 * i, end_s=0.1 * i + 0.05, confidence=0.9)
        for i, word in enumerate(text.split())
    )
    transcript = Transcript(text=text, confidence=0.9 if text else None, words=words)
    return ClipPrediction(clip_id=clip_id, spans=((0.0, 1.0),), transcript=transcript)


def rows() -> pa.Table:
    clips = pa.table(
        {"clip_id": [*TEXTS, "bad.wav"], "uri": [f"gs://b/{name}" for name in [*TEXTS, "bad.wav"]]}
    )
    predictions = [prediction(name, text) for name, text in TEXTS.items()]
    predictions.append(ClipPrediction(clip_id="bad.wav", reject=Reject(kind="empty")))
    return rows_of(clips, predictions, INFO, "digest", words=True)


def test_texts_confidences_and_words_come_back_as_they_were_and_once(place: Place) -> None:
    run = place.parts.removesuffix("/parts")
    config = PredictConfig(model="m", run=run, table=place.uri, words=True)
    for _ in range(2):
        write_rows(config, rows(), INFO)
    stored = open_table(place.uri, spec_of(INFO, words=True)).read().to_pylist()
    by_clip = {row["clip_id"]: row for row in stored}
    assert len(stored) == len(TEXTS) and {name: row["text"] for name, row in by_clip.items()} == TEXTS
    assert by_clip["e.wav"]["confidence"] is None and by_clip["a.wav"]["confidence"] == 0.9
    words = json.loads(by_clip["b.wav"]["words"])
    assert [word["word"] for word in words] == TEXTS["b.wav"].split()
    assert [(word["start_s"], word["end_s"]) for word in words] == [(0.0, 0.05), (0.1, 0.15)]


def test_a_csv_has_the_same_and_nothing_that_a_spreadsheet_would_compute() -> None:
    table = rows().drop_columns(["created_at", "code_version"])
    cells = list(csv.DictReader(io.StringIO(to_csv(table).decode("utf-8"), newline="")))
    texts = {row["clip_id"]: row["text"] for row in cells}
    assert texts == TEXTS | {"d.wav": "'" + TEXTS["d.wav"]}
    assert json.loads(cells[0]["words"])[1]["word"] == TEXTS["a.wav"].split()[1]
