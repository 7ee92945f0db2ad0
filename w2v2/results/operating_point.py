"""The operating point of a model: a temperature or thresholds for its probabilities, never chosen on test clips."""

import logging
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.finetune import FinetuneConfig
from w2v2.data.targets import class_numbers
from w2v2.evaluation.calibration import fitted_temperature
from w2v2.evaluation.decisions import by_patient, choose_thresholds
from w2v2.evaluation.scores import columns
from w2v2.json_types import Json
from w2v2.search.final_trainings import FILE, seed_averages
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.wording import counted

logger = logging.getLogger(__name__)


def operating_point(
    config: FinetuneConfig,
    predictions: pa.Table,
    names: Sequence[str],
    *,
    heldout_speakers: set[str],
    out_of_fold: pa.Table | None = None,
) -> dict[str, Json]:
    """Entries of the model card: `temperature` of classes or `thresholds` of labels; {} if they cannot be chosen.

    predictions have a split; heldout_speakers are the speakers of the test split, whom a search may have scored. A
    temperature is fitted on the val split; without one on out_of_fold, the training clips as predicted by the
    ensemble's members that were trained without their fold; else on the predictions of the search that chose the
    settings.
    """
    val = predictions.filter(pc.equal(predictions["split"], "val"))
    match config.task.kind:
        case "classes":
            temperature = _temperature_of(config, val, out_of_fold, names, heldout_speakers)
            return {"temperature": temperature} if temperature else {}
        case "multi_label" if len(val):
            return {"thresholds": _thresholds(val, names)}
        case "multi_label":
            logger.info(
                "no threshold of a label was chosen: there is no val split (give the data one, or set --training.patience_epochs)"
            )
    return {}


def _temperature_of(
    config: FinetuneConfig,
    val: pa.Table,
    out_of_fold: pa.Table | None,
    names: Sequence[str],
    heldout_speakers: set[str],
) -> dict[str, Json] | None:
    if len(val):
        return _temperature(val, names, f"the val split: {_size(val)}")
    if out_of_fold is not None:
        return _temperature(
            out_of_fold,
            names,
            f"out-of-fold predictions of the ensemble's single models: {_size(out_of_fold)}",
        )
    return _of_search(config, names, heldout_speakers)


def _of_search(
    config: FinetuneConfig, names: Sequence[str], heldout_speakers: set[str]
) -> dict[str, Json] | None:
    """A temperature fitted on the search's out-of-fold predictions for speakers who are not held out here; None without such predictions.

    For an ensemble of seeds these predictions are averaged over the search's new seeds, where it has trained several.
    """
    run = config.tuned_on
    if not run:
        return None
    try:
        rows = run_directory.read_table(storage.expand(run), "predictions")
        finals = _final_predictions(storage.expand(run)) if config.ensemble == "seeds" else None
    except storage.StorageError as error:
        logger.warning("no temperature was fitted: the predictions of tuned_on cannot be read (%s)", error)
        return None
    have = {name.removeprefix("prob_") for name in rows.column_names if name.startswith("prob_")}
    if have != set(names):
        logger.warning("no temperature was fitted: %s has other classes", run)
        return None
    what = "out-of-fold predictions"
    if finals is not None and len(seeds := finals["seed"].unique()) > 1:
        size = min(config.ensemble_size, len(seeds))
        rows, what = seed_averages(finals, names, num_seeds=size), f"averages of {size} seeds, out of fold,"
    rows = rows.filter(pc.invert(pc.is_in(rows["speaker"], value_set=pa.array(sorted(heldout_speakers)))))
    return _temperature(rows, names, f"{what} of the search {run}: {_size(rows)}")


def _final_predictions(run: str) -> pa.Table | None:
    """The predictions of the models that the search trained after its trials; None where it trained none."""
    try:
        return run_directory.read_table(run, FILE)
    except storage.NotFoundError:
        return None


def _temperature(rows: pa.Table, names: Sequence[str], fitted_on: str) -> dict[str, Json] | None:
    """The temperature of these predictions; None if all or none are right, for which no temperature is best."""
    if not len(rows):
        return None
    target = class_numbers(rows["target"], names)
    probabilities = columns(rows, "prob", names)
    is_right = probabilities.argmax(1) == target
    if is_right.all() or not is_right.any():
        logger.info(
            "no temperature was fitted on %s: %s are right", fitted_on, "all" if is_right.all() else "none"
        )
        return None
    return {"value": fitted_temperature(probabilities, target), "fitted_on": fitted_on}


def _thresholds(val: pa.Table, names: Sequence[str]) -> dict[str, Json]:
    patients, _ = by_patient(val, names)
    chosen = {"recordings": choose_thresholds(val, names), "patients": choose_thresholds(patients, names)}
    for kind, thresholds in chosen.items():
        if without := [name for name, value in thresholds.items() if value is None]:
            logger.info("no threshold by %s of %s: val does not separate it", kind, ", ".join(without))
    return {**chosen, "chosen_on": f"the val split: {_size(val)}"}


def _size(rows: pa.Table) -> str:
    return f"{counted(len(rows['clip_id'].unique()), 'clips')} of {counted(len(rows['speaker'].unique()), 'speakers')}"
