"""Classes named as people name them: their columns in a CSV and in tables of every kind."""

import csv
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.tables.places import Place
from w2v2.config.data import AudioConfig
from w2v2.config.finetune import PredictConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.errors import UserError
from w2v2.inference.prediction_records import ClipPrediction
from w2v2.inference.predictions_table import rows_of, spec_of, write_rows
from w2v2.models.model_info import ModelInfo
from w2v2.storage import files as storage
from w2v2.tables.table import open_table

NAMES = ("w\u00fctend", "not sad!", "\u9ad8\u5174", "a.b/c; 0.5", "it's (strong)")
INFO = ModelInfo(
    kind="classes",
    groups=(NAMES,),
    audio=AudioConfig(),
    encoder=EncoderConfig(),
    head=HeadConfig(),
    normalize=True,
)
PROBABILITIES = np.array([[0.1, 0.2, 0.3, 0.15, 0.25]], np.float32)


def rows(info: ModelInfo = INFO) -> pa.Table:
    clips = pa.table({"clip_id": ["a.wav"], "uri": ["gs://b/a.wav"]})
    values = PROBABILITIES[:, : len(info.names)]
    return rows_of(
        clips, [ClipPrediction(clip_id="a.wav", spans=((0.0, 1.0),), values=values)], info, "digest"
    )


def test_columns_have_the_names_of_the_classes(place: Place) -> None:
    config = PredictConfig(model="m", run=place.parts.removesuffix("/parts"), table=place.uri)
    if place.uri.startswith("bq://"):
        with pytest.raises(
            UserError, match="column 'prob_w\u00fctend' cannot be a column of BigQuery: use letters, digits"
        ):
            write_rows(config, rows(), INFO)
        return
    for _ in range(2):
        write_rows(config, rows(), INFO)
    (row,) = open_table(place.uri, spec_of(INFO)).read().to_pylist()
    assert row["predicted"] == NAMES[2]
    assert [row[f"prob_{name}"] for name in NAMES] == [float(value) for value in PROBABILITIES[0]]


def test_a_csv_has_classes_that_differ_in_case_alone_and_a_table_refuses_them(tmp_path) -> None:
    info = replace(INFO, groups=(("Neutral", "neutral", 'an "odd" one'),))
    config = PredictConfig(model="m", run=str(tmp_path), table=f"{tmp_path}/predictions.csv")
    write_rows(config, rows(info), info)
    (row,) = csv.DictReader(io.StringIO(storage.read_text(config.table), newline=""))
    assert [float(row[f"prob_{name}"]) for name in info.names] == [float(v) for v in PROBABILITIES[0, :3]]
    for names, reason in {
        ("Neutral", "neutral"): "columns prob_Neutral, prob_neutral differ in case alone",
        ('an "odd" one', "b"): "its name must have 1 to 128 characters, none of them a quotation mark",
    }.items():
        with pytest.raises(UserError, match=reason):
            spec_of(replace(INFO, groups=(names,)))
