"""A kept temperature and kept thresholds in predictions, and the sentences where a model has none."""

import numpy as np
import pyarrow as pa
import pytest

from tests.models.test_saved_model import CARD, CLIPS, make
from w2v2.errors import Reject, UserError
from w2v2.inference.operating_point import temperature_of, thresholds_of, with_calibration
from w2v2.inference.prediction_records import ClipPrediction
from w2v2.inference.predictions_table import rows_of, spec_of
from w2v2.models.model_card import extend_card
from w2v2.models.model_info import read_info
from w2v2.models.saved_model import save_model

LABELS = dict(kind="multi_label", groups=(("a", "b"), ("c",)))
READ = pa.table({"clip_id": ["x", "y"], "uri": ["x.wav", "y.wav"]})


def predicted(values: list[list[float]]) -> list[ClipPrediction]:
    """One clip in two windows, and one that could not be used."""
    spans = ((0.0, 1.0), (1.0, 2.0))
    bad = ClipPrediction(clip_id="y", reject=Reject(kind="too short"))
    return [ClipPrediction(clip_id="x", spans=spans, values=np.array(values)), bad]


@pytest.mark.parametrize(
    "settings, field", [({}, "calibrated"), (LABELS, "decisions")], ids=["classes", "labels"]
)
def test_a_model_without_one_is_a_sentence(tmp_path, settings, field):
    model, info = make(**settings)
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    read = {"calibrated": temperature_of, "decisions": thresholds_of}
    with pytest.raises(
        UserError, match=rf"^{field} is true, and the model .* has no .* \(it was trained without"
    ):
        read.pop(field)(str(tmp_path), info)
    for other in read.values():
        with pytest.raises(UserError, match=rf"\(it is one of {info.kind}\): leave it out"):
            other(str(tmp_path), info)


def test_a_temperature_is_that_of_the_card_and_the_models_digest_stays(tmp_path):
    model, info = make()
    digest = save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    extend_card(str(tmp_path), {"temperature": {"value": 2.0, "fitted_on": "val"}})
    assert temperature_of(str(tmp_path), info) == 2.0 and read_info(str(tmp_path)) == (info, digest)
    calibrated = with_calibration(predicted([[0.8, 0.1, 0.1], [0.25, 0.5, 0.25]]), 2.0)
    roots = np.sqrt([[0.8, 0.1, 0.1], [0.25, 0.5, 0.25]])
    np.testing.assert_allclose(calibrated[0].values, roots / roots.sum(1, keepdims=True))
    assert calibrated[1].reject is not None and calibrated[1].values is None


def test_labels_are_present_from_their_threshold_on(tmp_path):
    model, info = make(**LABELS)
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    kept = {"recordings": {"a": 0.5, "b": None, "c": 0.2}, "patients": {}, "chosen_on": "val"}
    extend_card(str(tmp_path), {"thresholds": kept})
    thresholds = thresholds_of(str(tmp_path), info)
    rows = rows_of(READ, predicted([[0.5, 0.9, 0.1], [0.4, 0.9, 0.2]]), info, "d", thresholds=thresholds)
    columns = {name: rows[f"present_{name}"].to_pylist() for name in "abc"}
    assert columns == {"a": [1, 0], "b": [None, None], "c": [0, 1]}
    assert rows.schema == spec_of(info, decisions=True).schema
    plain = rows_of(READ, predicted([[0.5, 0.9, 0.1], [0.4, 0.9, 0.2]]), info, "d")
    assert plain.column_names == [name for name in rows.column_names if not name.startswith("present_")]
