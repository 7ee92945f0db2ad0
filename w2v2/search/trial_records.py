"""Sealed records of all trials in `ledger/`, from which study.db is rebuilt with the same next trials."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from w2v2.storage import files as storage
from w2v2.storage.seals import parse_json, seal_json

logger = logging.getLogger(__name__)

Record = dict[str, Any]
"""A trial as plain JSON values: number, state, value, params, intermediate values by step, attributes."""


def record_of(trial: FrozenTrial) -> Record:
    """The trial as plain JSON values; its system attributes have the state of ASHA's decisions."""
    record = {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "params": trial.params,
        "intermediate_values": trial.intermediate_values,
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
    }
    plain: Record = json.loads(json.dumps(record))  # keys are texts there, tuples lists
    return plain


def trial_of(record: Record, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """The trial of a record."""
    return optuna.trial.create_trial(
        state=TrialState[record["state"]],
        value=record["value"],
        params=record["params"],
        distributions={path: space[path] for path in record["params"]},
        intermediate_values={int(step): value for step, value in record["intermediate_values"].items()},
        user_attrs=record["user_attrs"],
        system_attrs=record["system_attrs"],
    )


class TrialRecords:
    """`<run>/ledger/trial-*.json`: one file for each trial that was handed out, written again at each of its folds."""

    def __init__(self, run: str) -> None:
        self._folder = storage.join(run, "ledger")

    def _uri(self, number: int) -> str:
        return storage.join(self._folder, f"trial-{number:05d}.json")

    def write(self, trial: FrozenTrial) -> None:
        """Write the present state of the trial."""
        storage.write_text(self._uri(trial.number), seal_json(record_of(trial)))

    def reopen(self, trial: FrozenTrial) -> None:
        """Record the trial as one that is under way."""
        record = record_of(trial) | {"state": TrialState.RUNNING.name, "value": None}
        storage.write_text(self._uri(trial.number), seal_json(record))

    def read(self) -> dict[int, Record]:
        """The undamaged records by the trial's number; a damaged one is skipped with a warning."""
        try:
            uris = [info.uri for info in storage.list_files(self._folder, suffixes=(".json",))]
        except storage.NotFoundError:
            return {}
        records: dict[int, Record] = {}
        for uri, body in zip(uris, storage.read_many(uris, num_at_once=16), strict=True):
            if isinstance(body, storage.StorageError):
                raise body
            try:
                record = parse_json(uri, body)
                if uri == self._uri(record["number"]):
                    records[record["number"]] = record
            except (storage.DamagedError, KeyError, TypeError, ValueError) as error:
                logger.warning("%s: the record is rebuilt from study.db", error)
        return records

    def complete(self, trials: Sequence[FrozenTrial], *, num_params: int) -> dict[int, Record]:
        """The record of every trial in order, by number; a trial without a record is recorded now.

        Runs of earlier versions have no records; after a kill the last trial may lack one. It is left out if it was
        handed out without all its num_params hyperparameters.
        """
        records = self.read()
        for trial in trials:
            if trial.number not in records and len(trial.params) == num_params:
                self.write(trial)
                records[trial.number] = record_of(trial)
        return {number: records[number] for number in sorted(records)}

    def has_folds(self) -> bool:
        """Whether the folder has a fold of a trial."""
        try:
            return bool(storage.list_files(self._folder, suffixes=(".parquet",)))
        except storage.NotFoundError:
            return False
