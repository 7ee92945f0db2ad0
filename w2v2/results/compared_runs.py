"""Finished runs of any job, read for a comparison over the same clips."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.errors import UserError
from w2v2.evaluation.bootstrap import Scored
from w2v2.evaluation.scores import scored
from w2v2.job_commands import command_of
from w2v2.json_types import JsonObject
from w2v2.reports.recordings import corpus_name
from w2v2.search.estimate import search_scored
from w2v2.search.final_trainings import FILE
from w2v2.search.fold_store import FoldStore
from w2v2.search.recorded_scores import RecordedScores
from w2v2.storage import files as storage
from w2v2.storage import run_directory

JOBS = ("tune_folds", "baseline", "evaluate", "finetune")
KINDS = ("classes", "multi_label", "regression", "transcript")


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A finished run: its scored clips, predictions and metrics."""

    uri: str
    metrics: JsonObject
    clips: pa.Table
    """The clips that were scored, as clip_id, speaker and targets; for a search also fold."""
    predictions: pa.Table

    @property
    def kind(self) -> str:
        """The kind of its task; searches have classes."""
        return self.metrics.get("kind", "classes")

    @property
    def names(self) -> list[str]:
        """Classes, labels or targets."""
        return self.metrics["classes"] if self.kind == "classes" else self.metrics["names"]

    @property
    def method(self) -> str:
        """The method behind its scores. A search's scores come from its fold records, unless models were trained after the search."""
        if self.metrics["job"] != "tune_folds":
            return self.metrics["job"]
        return self.metrics["estimate"]["name"] if "final" in self.metrics else "BBC-CV"


def read_runs(uris: Sequence[str]) -> dict[str, ComparedRun]:
    """The runs by a short name each.

    Raises UserError where one is not finished, is of a job without scores, or has other clips than the first.
    """
    if len(set(uris)) < len(uris):
        twice = sorted({uri for uri in uris if uris.count(uri) > 1})
        raise UserError(f"{twice[0]} is given twice: a run does not differ from itself")
    last = [uri.rstrip("/").rpartition("/")[2] for uri in uris]
    names = [name if last.count(name) == 1 else uri for name, uri in zip(last, uris, strict=True)]
    runs = {name: read_run(uri) for name, uri in zip(names, uris, strict=True)}
    first, *others = runs.values()
    for other in others:
        _check_same(first, other)
    return runs


def read_run(uri: str) -> ComparedRun:
    """One finished run. Raises UserError where there is none that can be compared."""
    place = storage.join(uri, "metrics.json")
    if not storage.exists(place):
        raise UserError(f"{uri} is not a finished run: it has no metrics.json; let its job end first")
    with run_directory.finished_run(uri):
        metrics = run_directory.read_metrics(uri)
    if metrics.get("job") not in JOBS or metrics.get("kind", "classes") not in KINDS:
        raise UserError(
            f"{uri} is a run of {metrics.get('job')} with task {metrics.get('kind', 'none')}, wanted one of {', '.join(JOBS)} with classes, labels, values or transcripts"
        )
    predictions = _read(uri, "predictions")
    if metrics["job"] == "finetune":
        predictions = predictions.filter(pc.equal(predictions["split"], "test"))
    targets = [name for name in predictions.column_names if name == "target" or name.startswith("target_")]
    columns = ["clip_id", "speaker", *sorted(targets)]
    return ComparedRun(uri=uri, metrics=metrics, predictions=predictions, clips=predictions.select(columns))


def scored_run(run: ComparedRun, names: Sequence[str], *, seed: int) -> Scored:
    """The predictions of a run, ready to be resampled; for a search, the predictions behind its estimate.

    Raises UserError where the fold record of a complete trial of a search is missing or damaged.
    """
    if run.metrics["job"] != "tune_folds":
        spaces = run.kind != "transcript" or run.metrics["pooled"]["words"] is not None
        return scored(run.predictions, run.kind, names, spaces=spaces)  # type: ignore[arg-type]
    if "final" in run.metrics:  # each fold's models were chosen without it, every clip is in it once a seed
        return scored(_read(run.uri, FILE), "classes", names)
    trials = _read(run.uri, "trials")
    complete = trials.filter(pc.equal(trials["state"], "COMPLETE"))["trial"].to_pylist()
    metric = run.metrics["metric"]
    num_folds = len(run.metrics["folds"][metric]["values"])
    classes = run.metrics.get("classes", ())
    scores = RecordedScores(FoldStore(run.uri), complete, num_folds, classes=classes)
    missing = [(t, f) for t in complete for f in range(num_folds) if (t, f) not in scores]
    if missing:
        raise UserError(
            f"{storage.join(run.uri, 'ledger')} has no undamaged record of trial {missing[0][0]}, fold {missing[0][1]} "
            f"({len(missing)} such records in all), and all are needed: copy the whole run directory, ledger/ included, or "
            f"continue that search with {command_of('tune_folds')}, which trains what is missing"
        )
    return search_scored(
        scores,
        complete,
        clips=run.predictions.select(["clip_id", "speaker", "fold"]),
        classes=classes,
        metric=metric,
        num_folds=num_folds,
        seed=seed,
        among=names,
    )


def corpus_of(run: ComparedRun) -> str:
    """The corpus of a run, as its page names it; empty where the run has no config.yaml."""
    try:
        with run_directory.finished_run(run.uri):
            return corpus_name(run_directory.read_settings(run.uri)["data"])
    except storage.NotFoundError:
        return ""


def all_names(runs: Sequence[ComparedRun]) -> list[str]:
    """Classes of all runs together, or the labels or targets that all of them have."""
    first = runs[0]
    if first.kind == "classes":
        return sorted({name for run in runs for name in run.names})
    return [name for name in first.names if all(name in run.names for run in runs)]


def _check_same(first: ComparedRun, other: ComparedRun) -> None:
    if first.kind != other.kind:
        raise UserError(
            f"{other.uri} has task {other.kind}, {first.uri} has {first.kind}: only runs of one kind compare"
        )
    if first.clips.column_names != other.clips.column_names:
        ours, theirs = (", ".join(run.clips.column_names[2:]) for run in (first, other))
        raise UserError(
            f"{other.uri} scores {theirs}, {first.uri} scores {ours}: they must have the same targets"
        )
    mine, others = (
        set(zip(*(column.to_pylist() for column in run.clips.columns), strict=True)) for run in (first, other)
    )
    if mine != others:
        example = sorted(mine ^ others, key=str)[0]
        raise UserError(
            f"{other.uri} has other clips, speakers or labels than {first.uri}: {len(others - mine)} of its {len(others)} are not "
            f"in the other, and {len(mine - others)} of the other's {len(mine)} are not in it (such as {example[0]}); only runs "
            "over the same clips compare"
        )


def _read(uri: str, name: str) -> pa.Table:
    with run_directory.finished_run(uri):
        return run_directory.read_table(uri, name)
