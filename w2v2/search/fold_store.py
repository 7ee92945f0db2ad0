"""The fold store: finished folds, one file each, so that no fold is trained twice."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from w2v2.data.clip_columns import TextColumn, text_array
from w2v2.json_types import Json
from w2v2.storage import files as storage
from w2v2.storage.mapped_tables import whole
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import parse_parquet
from w2v2.training.fold_result import Epoch, FoldResult, FoldScore, FoldTranscripts

logger = logging.getLogger(__name__)

PARAMS = b"w2v2.params"
"""Key of a record's metadata with the hyperparameters of its trial; records of earlier versions lack it."""


class FoldStore:
    """`<run>/ledger/`: held-out predictions and curves by trial and fold.

    Names of its files begin with series, which keeps the trainings of a search apart from those after it and inside
    nested cross-validation.
    """

    def __init__(self, run: str, *, series: str = "trial") -> None:
        self._folder, self._series = storage.join(run, "ledger"), series

    def _uri(self, trial: int, fold: int) -> str:
        return storage.join(self._folder, f"{self._series}-{trial:05d}-fold-{fold:02d}.parquet")

    def write(self, trial: int, score: FoldResult, *, params: Mapping[str, Json] | None = None) -> None:
        """Record a fold of a trial with these hyperparameters; the file appears whole or not at all."""
        storage.write_bytes(self._uri(trial, score.fold), encode(score, params=params))

    def read(self, trial: int, fold: int, *, params: Mapping[str, Json] | None = None) -> FoldResult | None:
        """The score of a fold; None if its record is missing, damaged, or of a trial with other hyperparameters.

        After study.db was lost, a trial's number may be given to another trial.
        """
        uri = self._uri(trial, fold)
        try:
            return _record_score(uri, storage.read_bytes(uri), params)
        except storage.NotFoundError:
            return None

    def each(
        self, trials: Iterable[int], num_folds: int, *, params: Mapping[int, Mapping[str, Json]] | None = None
    ) -> Iterator[tuple[tuple[int, int], FoldResult]]:
        """((trial, fold), score) of each undamaged record of these trials; with params, of records with the trial's hyperparameters only."""
        places = [(trial, fold) for trial in trials for fold in range(num_folds)]
        bodies = storage.read_many([self._uri(*place) for place in places], num_at_once=16)
        for place, body in zip(places, bodies, strict=True):
            if isinstance(body, storage.NotFoundError):
                continue
            if isinstance(body, storage.StorageError):
                raise body
            of_trial = params[place[0]] if params else None
            if (score := _record_score(self._uri(*place), body, of_trial)) is not None:
                yield place, score


def _record_score(uri: str, body: bytes, params: Mapping[str, Json] | None = None) -> FoldResult | None:
    """The fold of a record; None where its bytes are damaged or its hyperparameters differ."""
    try:
        table = parse_parquet(uri, body)
        recorded = json.loads((table.schema.metadata or {}).get(PARAMS, b"null"))
        if None not in (params, recorded) and recorded != json.loads(_params_text(params)):
            logger.warning("%s is of a trial with other hyperparameters: the fold is trained again", uri)
            return None
        return decode(body, uri=uri)
    except storage.DamagedError as error:
        logger.warning("%s: the fold is trained again", error)
        return None


def _params_text(params: Mapping[str, Json] | None) -> str:
    return json.dumps(None if params is None else dict(params), sort_keys=True)


def encode(score: FoldResult, *, params: Mapping[str, Json] | None = None) -> bytes:
    """The bytes of a Parquet file with a row per held-out clip and the rest as JSON in its metadata."""
    fields = {
        "fold": score.fold,
        "loss": score.loss,
        "num_train": score.num_train,
        "seconds": score.seconds,
        "num_trained_parameters": score.num_trained_parameters,
        "curve": [asdict(epoch) for epoch in score.curve],
    }
    if isinstance(score, FoldTranscripts):
        fields |= {"spaces": score.spaces}
        columns: dict[str, pa.Array] = {
            "target": pa.array(score.references, pa.string()),
            "predicted": pa.array(score.hypotheses, pa.string()),
        }
    else:
        num_classes = score.probabilities.shape[1]
        columns = {
            "target": pa.array(score.targets, pa.int64()),
            "probabilities": pa.FixedSizeListArray.from_arrays(score.probabilities.ravel(), num_classes),
        }
    table = pa.table({"clip_id": text_array(score.clip_ids)} | columns).replace_schema_metadata(
        {b"w2v2": json.dumps(fields).encode(), PARAMS: _params_text(params).encode()}
    )
    return to_parquet(table, sealed=True)


def decode(body: bytes, *, uri: str = "a fold's record") -> FoldResult:
    """The fold in bytes that `encode` wrote. Raises DamagedError for damaged bytes."""
    table = parse_parquet(uri, body)
    try:
        return _fold_score(table)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # of a record without seal
        raise storage.DamagedError(f"{uri}: damaged: {error}") from error


def _fold_score(table: pa.Table) -> FoldResult:
    fields = json.loads(table.schema.metadata[b"w2v2"])
    curve = [Epoch(**epoch) for epoch in fields.pop("curve")]
    if "predicted" in table.column_names:
        return FoldTranscripts(
            clip_ids=table["clip_id"].to_pylist(),
            references=table["target"].to_pylist(),
            hypotheses=table["predicted"].to_pylist(),
            curve=curve,
            **fields,
        )
    column = whole(table["probabilities"])
    probabilities = column.flatten().to_numpy().reshape(len(table), column.type.list_size)
    return FoldScore(
        clip_ids=TextColumn(whole(table["clip_id"])),
        targets=np.asarray(table["target"]),
        probabilities=probabilities,
        curve=curve,
        **fields,
    )
