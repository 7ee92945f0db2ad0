"""A baseline's scores next to a search's scores, over the same clips in the same folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from w2v2.errors import UserError
from w2v2.evaluation.bootstrap import Scored
from w2v2.evaluation.comparison import differences
from w2v2.evaluation.scores import scored
from w2v2.job_commands import command_of
from w2v2.json_types import JsonObject
from w2v2.storage import files as storage
from w2v2.storage import run_directory


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A finished run of `w2v2 baseline`."""

    uri: str
    metrics: JsonObject
    predictions: pa.Table


def read_baseline(uri: str) -> Baseline:
    """The baseline in a run directory. Raises UserError for a directory without a finished one."""
    place = storage.join(uri, "metrics.json")
    if not storage.exists(place):
        raise UserError(
            f"baseline {uri} is not a finished run of baseline: it has no metrics.json; run "
            f"{command_of('baseline')} with the same --data and --folds first"
        )
    with run_directory.finished_run(uri):
        metrics = run_directory.read_metrics(uri)
        if metrics.get("job") != "baseline":
            raise UserError(
                f"baseline {uri} is a run of {metrics.get('job')}: give the run directory of a run of baseline"
            )
        return Baseline(uri=uri, metrics=metrics, predictions=run_directory.read_table(uri, "predictions"))


def check_same(baseline: Baseline, clips: pa.Table) -> None:
    """Raises UserError unless the baseline scored just these clips, with these labels, in these folds."""
    columns = {"clip_id": "clip_id", "speaker": "speaker", "target": "label", "fold": "fold"}
    theirs = set(zip(*(baseline.predictions[name].to_pylist() for name in columns), strict=True))
    ours = set(zip(*(clips[name].to_pylist() for name in columns.values()), strict=True))
    if theirs != ours:
        example = sorted(theirs ^ ours)[0]
        raise UserError(
            f"baseline {baseline.uri} has other clips, labels or folds: {len(ours - theirs)} of {len(ours)} clips here "
            f"are not the same among its {len(theirs)} (such as {example[0]}); run {command_of('baseline')} with the same --data and "
            "--folds into a directory of its own"
        )


def side_by_side(search: Scored, baseline: Baseline, classes: Sequence[str], *, seed: int) -> JsonObject:
    """The baseline's scores, and how much higher the search's scores are, with intervals.

    `difference` has for each metric `value`, `interval` and, if the interval is undefined, `undefined`. `search` has
    the scored predictions of its BBC-CV estimate, so the choice among its trials does not favour it.
    """
    theirs = scored(baseline.predictions, "classes", classes)
    return {
        "run": baseline.uri,
        "name": baseline.metrics["model"]["name"],
        "pooled": baseline.metrics["pooled"],
        "difference": differences(search, theirs, seed=seed),
    }
