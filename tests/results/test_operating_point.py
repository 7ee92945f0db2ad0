"""What a model keeps of how to use its probabilities is of val, or of the search, and never of test clips."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import TaskConfig
from w2v2.evaluation.calibration import calibration, fitted_temperature, with_temperature
from w2v2.evaluation.decisions import choose_thresholds
from w2v2.results.operating_point import operating_point
from w2v2.storage import run_directory

CLASSES = ("calm", "angry", "sad")


def made(seed: int, speakers: list[str], split: str = "", *, temperature: float = 0.4) -> pa.Table:
    """Predictions that are too sure, by this temperature."""
    rng = np.random.default_rng(seed)
    speaker = np.repeat(speakers, 40)
    honest = rng.dirichlet(np.full(3, 0.7), len(speaker))
    target = (rng.random((len(speaker), 1)) > honest.cumsum(1)).sum(1).clip(max=2)
    probabilities = with_temperature(honest, temperature)
    columns = {
        "clip_id": [f"{split}{i}" for i in range(len(speaker))],
        "speaker": speaker.tolist(),
        "split": [split] * len(speaker),
        "target": [CLASSES[t] for t in target],
        "predicted": [CLASSES[p] for p in probabilities.argmax(1)],
    }
    return pa.table(columns | {f"prob_{name}": probabilities[:, i] for i, name in enumerate(CLASSES)})


def fitted(rows: pa.Table) -> float:
    target = np.array([CLASSES.index(name) for name in rows["target"].to_pylist()])
    return fitted_temperature(np.stack([rows[f"prob_{name}"].to_numpy() for name in CLASSES], 1), target)


def test_with_a_val_split_it_is_fitted_on_that_and_test_clips_have_no_part():
    val, test = made(0, ["a", "b"], "val"), made(1, ["c"], "test", temperature=3.0)
    kept = operating_point(FinetuneConfig(), pa.concat_tables([val, test]), CLASSES, heldout_speakers={"c"})
    assert kept == {
        "temperature": {"value": fitted(val), "fitted_on": "the val split: 80 clips of 2 speakers"}
    }
    assert kept["temperature"]["value"] > 1.5  # it was too sure


def test_without_it_it_is_fitted_on_the_searchs_out_of_fold_predictions_of_others(tmp_path: Path):
    searched = pa.concat_tables([made(0, ["a", "b"]), made(2, ["c"], temperature=3.0)])
    run_directory.write_table(str(tmp_path), "predictions", searched)
    test = made(1, ["c"], "test")
    config = FinetuneConfig(tuned_on=str(tmp_path))
    kept = operating_point(config, test, CLASSES, heldout_speakers={"c"})["temperature"]
    assert kept["value"] == fitted(searched.slice(0, 80)) != fitted(searched)
    assert kept["fitted_on"] == f"out-of-fold predictions of the search {tmp_path}: 80 clips of 2 speakers"
    assert operating_point(config, test, CLASSES, heldout_speakers={"a", "b", "c"}) == {}


def test_an_ensemble_of_folds_has_that_of_its_out_of_fold_predictions(tmp_path: Path):
    run_directory.write_table(str(tmp_path), "predictions", made(2, ["a", "b"], temperature=3.0))
    config, held_out = FinetuneConfig(tuned_on=str(tmp_path), ensemble="folds"), made(0, ["a", "b"])
    test = made(1, ["c"], "test")
    kept = operating_point(config, test, CLASSES, heldout_speakers={"c"}, out_of_fold=held_out)
    assert kept["temperature"] == {
        "value": fitted(held_out),
        "fitted_on": "out-of-fold predictions of the ensemble's single models: 80 clips of 2 speakers",
    }


def test_an_ensemble_of_seeds_has_that_of_the_searchs_averages(tmp_path: Path):
    # Two seeds that are too sure, in other ways: their average is less so.
    seeds = [made(0, ["a", "b", "c"]), made(0, ["a", "b", "c"], temperature=1.5)]
    tables = [
        rows.append_column("seed", pa.array([seed] * 120)).append_column("fold", pa.array([0] * 120))
        for seed, rows in enumerate(seeds, start=1)
    ]
    run_directory.write_table(str(tmp_path), "predictions", seeds[0])
    run_directory.write_table(str(tmp_path), "final_predictions", pa.concat_tables(tables))
    config = FinetuneConfig(tuned_on=str(tmp_path), ensemble="seeds", ensemble_size=3)
    kept = operating_point(config, made(1, ["c"], "test"), CLASSES, heldout_speakers={"c"})["temperature"]
    columns = [f"prob_{name}" for name in CLASSES]
    each = [rows.select(columns).slice(0, 80).to_pandas().to_numpy() for rows in seeds]
    target = np.array([CLASSES.index(name) for name in seeds[0]["target"].to_pylist()[:80]])
    assert kept["value"] == pytest.approx(fitted_temperature(np.mean(each, axis=0), target))
    assert kept["value"] < fitted(seeds[0].slice(0, 80))
    assert (
        kept["fitted_on"]
        == f"averages of 2 seeds, out of fold, of the search {tmp_path}: 80 clips of 2 speakers"
    )


@pytest.mark.parametrize("names", [("calm", "angry"), (*CLASSES, "glad")])
def test_a_search_of_other_classes_gives_none(tmp_path, caplog, names):
    run_directory.write_table(str(tmp_path), "predictions", made(0, ["a"]))
    assert (
        operating_point(
            FinetuneConfig(tuned_on=str(tmp_path)), made(1, ["c"], "test"), names, heldout_speakers=set()
        )
        == {}
    )
    assert "has other classes" in caplog.text


def test_a_missing_search_gives_none_and_a_sentence(tmp_path, caplog):
    config = FinetuneConfig(tuned_on=str(tmp_path / "gone"))
    assert operating_point(config, made(1, ["c"], "test"), CLASSES, heldout_speakers=set()) == {}
    assert "no temperature was fitted: the predictions of tuned_on cannot be read" in caplog.text
    assert operating_point(FinetuneConfig(), made(1, ["c"], "test"), CLASSES, heldout_speakers=set()) == {}


@pytest.mark.parametrize("right", ["all", "none"])
def test_where_all_or_none_is_right_no_temperature_fits(caplog, right):
    val = made(0, ["a"], "val")
    target = val["predicted"].to_pylist()
    if right == "none":
        target = [CLASSES[(CLASSES.index(name) + 1) % 3] for name in target]
    val = val.set_column(val.column_names.index("target"), "target", pa.array(target))
    with caplog.at_level(logging.INFO):
        assert operating_point(FinetuneConfig(), val, CLASSES, heldout_speakers=set()) == {}
    assert f"{right} are right" in caplog.text


def test_thresholds_of_labels_are_those_of_val(caplog):
    rng = np.random.default_rng(0)
    speakers = np.repeat([f"p{i}" for i in range(8)], 4).tolist()
    has = np.repeat(np.arange(8) % 2, 4).astype(float)
    rows = pa.table(
        {
            "clip_id": [f"{i}" for i in range(32)],
            "speaker": speakers,
            "split": ["val"] * 32,
            "target_tremor": has,
            "prob_tremor": 0.2 + 0.3 * has + 0.2 * rng.random(32),
            "target_rare": np.zeros(32),
            "prob_rare": rng.random(32),
        }
    )
    config = FinetuneConfig(task=TaskConfig(kind="multi_label"))
    with caplog.at_level(logging.INFO):
        kept = operating_point(config, rows, ("tremor", "rare"), heldout_speakers=set())["thresholds"]
    assert kept["recordings"] == choose_thresholds(rows, ("tremor", "rare"))
    assert 0.4 < kept["recordings"]["tremor"] < 0.5 and kept["recordings"]["rare"] is None
    assert 0.3 < kept["patients"]["tremor"] < 0.6
    assert kept["chosen_on"] == "the val split: 32 clips of 8 speakers"
    assert "no threshold by recordings of rare" in caplog.text
    test = rows.set_column(2, "split", pa.array(["test"] * 32))
    assert operating_point(config, test, ("tremor", "rare"), heldout_speakers=set()) == {}


def test_calibration_after_a_temperature_of_other_clips():
    rows = made(3, list("abcdefghij"))
    target = np.array([CLASSES.index(name) for name in rows["target"].to_pylist()])
    probabilities = np.stack([rows[f"prob_{name}"].to_numpy() for name in CLASSES], 1)
    calibrated = calibration(probabilities, target, temperature={"value": 2.5, "fitted_on": "val"})
    after = calibration(with_temperature(probabilities, 2.5), target)
    assert calibrated["temperature"] == {"all": 2.5, "fitted_on": "val", **after}
    assert calibrated["temperature"]["cross_entropy"] < calibrated["cross_entropy"]
