"""The table of predictions: a CSV file, or exactly once in BigQuery, DuckDB or Parquet."""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from w2v2.config.finetune import PredictConfig
from w2v2.data.clip_columns import table_of
from w2v2.errors import UserError
from w2v2.inference.operating_point import present
from w2v2.inference.prediction_records import ClipPrediction
from w2v2.models.decoding import Transcript
from w2v2.models.model_info import ModelInfo
from w2v2.storage import files as storage
from w2v2.storage.csv_text import to_csv
from w2v2.storage.parquet import each_row
from w2v2.tables import table as tables
from w2v2.tables.parts import write_part
from w2v2.tables.spec import TIMESTAMP, TableSpec
from w2v2.versions import W2V2


def schema_of(info: ModelInfo, *, words: bool = False, decisions: bool = False) -> pa.Schema:
    """The columns of one row per clip and window, one for each output; for transcripts of one row per clip.

    words adds a column in which the words of a transcript, with their times, are JSON text; decisions a column
    present_<label> for each label.
    """
    text, number = pa.string(), pa.float64()
    columns = [("clip_id", text), ("model", text), ("start_s", number), ("end_s", number), ("uri", text)]
    if info.kind == "transcript":
        columns += [("text", text), ("confidence", number), *([("words", text)] if words else [])]
    else:
        columns += [("predicted", text)] if info.kind == "classes" else []
        columns += [(name, number) for name in output_columns(info)]
        columns += [(f"present_{name}", pa.int64()) for name in info.names] if decisions else []
    columns += [("code_version", text), ("created_at", TIMESTAMP)]
    return pa.schema(columns)


def spec_of(info: ModelInfo, *, words: bool = False, decisions: bool = False) -> TableSpec:
    """The spec of a table of these columns: a row per clip, model and window, all windows of a clip replaced as one.

    Raises UserError for names of outputs that no table takes; a CSV takes all.
    """
    return TableSpec(
        schema=schema_of(info, words=words, decisions=decisions),
        key=("clip_id", "model", "start_s"),
        group=("clip_id", "model"),
        cluster_by=("model", "clip_id"),
        partition_by="created_at",
    )


def output_columns(info: ModelInfo) -> list[str]:
    """The names of the columns of the model's outputs."""
    prefix = "pred" if info.kind == "regression" else "prob"
    return [f"{prefix}_{name}" for name in info.names]


def rows_of(
    clips: pa.Table,
    predictions: Sequence[ClipPrediction],
    info: ModelInfo,
    digest: str,
    *,
    words: bool = False,
    thresholds: Mapping[str, float | None] | None = None,
) -> pa.Table:
    """The rows of the clips that could be used; predictions has an item for every clip, in order.

    thresholds, one for each label, add the columns present_<label>.
    """
    constants = {"model": digest, "code_version": W2V2, "created_at": datetime.datetime.now(datetime.UTC)}

    def rows() -> Iterator[dict[str, object]]:
        uris = (row["uri"] for row in each_row(clips.select(["uri"])))
        for prediction, uri in zip(predictions, uris, strict=True):
            if prediction.reject:
                continue
            cells = _cells(prediction, info, words=words, thresholds=thresholds)
            for (start_s, end_s), values in zip(prediction.spans, cells, strict=True):
                row = {"clip_id": prediction.clip_id, "start_s": start_s, "end_s": end_s, "uri": uri}
                yield row | constants | values

    return table_of(rows(), schema_of(info, words=words, decisions=thresholds is not None))


def _cells(
    prediction: ClipPrediction,
    info: ModelInfo,
    *,
    words: bool,
    thresholds: Mapping[str, float | None] | None,
) -> list[dict[str, object]]:
    """The predictions of each window, by column."""
    if prediction.transcript is not None:
        text = prediction.transcript
        row: dict[str, object] = {"text": text.text, "confidence": text.confidence}
        return [row | ({"words": words_json(text)} if words else {})]
    assert prediction.values is not None
    cells = []
    for values in prediction.values:
        row = {"predicted": info.names[int(values.argmax())]} if info.kind == "classes" else {}
        row |= dict(zip(output_columns(info), map(float, values), strict=True))
        if thresholds is not None:
            row |= present(dict(zip(info.names, map(float, values), strict=True)), thresholds)
        cells.append(row)
    return cells


def words_json(transcript: Transcript) -> str:
    """The words as JSON: [{"word": ..., "start_s": ..., "end_s": ..., "confidence": ...}, ...]; times to a millisecond."""
    words = [
        {
            "word": word.text,
            "start_s": round(word.start_s, 3),
            "end_s": round(word.end_s, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in transcript.words
    ]
    return json.dumps(words, ensure_ascii=False)


def open_place(config: PredictConfig, info: ModelInfo) -> tables.Table | None:
    """The table that config.table names, made where it is missing; None for a CSV file.

    Raises UserError where the table cannot take predictions of this model.
    """
    if config.words and info.kind != "transcript":
        raise UserError(
            f"words is for models of transcripts, and {config.model} is one of {info.kind}: leave it out"
        )
    return None if config.table.endswith(".csv") else tables.open_table(config.table, _spec(config, info))


def write_rows(config: PredictConfig, rows: pa.Table, info: ModelInfo) -> None:
    """Write the rows to config.table: a CSV whole, a table exactly once."""
    table = open_place(config, info)
    if table is None:
        storage.write_bytes(config.table, to_csv(rows.drop_columns(["created_at", "code_version"])))
    elif len(rows):
        table.commit([write_part(storage.join(config.run, "parts"), rows, spec=_spec(config, info))])


def _spec(config: PredictConfig, info: ModelInfo) -> TableSpec:
    return spec_of(info, words=config.words, decisions=config.decisions)
