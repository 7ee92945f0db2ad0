"""The estimate of a search: its score on new speakers, free of the optimism of the choice among its trials."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from w2v2.data.clip_columns import text_array
from w2v2.data.groups import numbered, places_of
from w2v2.evaluation import classification, recognition
from w2v2.evaluation.bootstrap import MAX_ENUMERATED, NUM_SAMPLES, Interval, Scored, fold_of_each, intervals
from w2v2.evaluation.direction import sign
from w2v2.evaluation.selection import trial_shares
from w2v2.json_types import Json, JsonObject
from w2v2.search.final_trainings import FinalTrainings
from w2v2.search.summary import Scores, fold_values
from w2v2.training.fold_result import FoldResult, FoldScore, FoldTranscripts
from w2v2.wording import counted

INTERVAL = "95 %: Student's t times the standard error over speakers or over folds, whichever is wider."


def mixed(
    scores: Scores,
    trials: Sequence[int],
    shares: Float[np.ndarray, "folds trials"],
    *,
    clips: pa.Table,
    classes: Sequence[str],
    among: Sequence[str],
) -> Scored:
    """Predictions in which the trials predict each fold's clips in these shares, ready to be resampled.

    clips has clip_id, speaker and fold; classes are the classes of the scores, `among` the classes to count, perhaps
    more.
    """
    if isinstance(next(iter(scores.values()), None), FoldTranscripts):
        return mixed_transcripts(scores, trials, shares, clips=clips)
    place = np.array([among.index(name) for name in classes])
    speakers, group = numbered(clips["speaker"])
    sharing = np.flatnonzero(shares.any(0))
    counts = np.zeros((len(sharing), len(speakers), len(among), len(among)))
    for score, trial, share, rows in _shared(scores, trials, shares, clips["clip_id"], group):
        assert isinstance(score, FoldScore)
        cells = rows, place[score.targets], place[score.probabilities.argmax(1)]
        np.add.at(counts[np.searchsorted(sharing, trial)], cells, share)
    folds = fold_of_each(group, clips["fold"].to_numpy(), len(speakers))
    return classification.scored_mixture(counts, speakers, folds=[folds])


def mixed_transcripts(
    scores: Scores, trials: Sequence[int], shares: Float[np.ndarray, "folds trials"], *, clips: pa.Table
) -> Scored:
    """The mixed predictions for transcripts: the edits and reference units of each fold's clips by the trials in these shares."""
    speakers, group = numbered(clips["speaker"])
    sums: dict[str, np.ndarray] = {}
    for score, _, share, rows in _shared(scores, trials, shares, clips["clip_id"], group):
        assert isinstance(score, FoldTranscripts)
        counts = recognition.edit_counts(score.references, score.hypotheses, spaces=score.spaces)
        for name, edits_of_unit in counts.items():
            np.add.at(sums.setdefault(name, np.zeros((len(speakers), 2))), rows, share * edits_of_unit)
    folds = fold_of_each(group, clips["fold"].to_numpy(), len(speakers))
    return recognition.scored_counts(sums, speakers, folds=[folds])


def _shared(
    scores: Scores,
    trials: Sequence[int],
    shares: Float[np.ndarray, "folds trials"],
    clip_ids: pa.ChunkedArray,
    group: Int[np.ndarray, " clips"],
) -> Iterator[tuple[FoldResult, int, float, Int[np.ndarray, " held_out"]]]:
    """Each fold of each trial with a share in it, with the trial's place, its share and the groups of the fold's clips."""
    ids, rows = pa.array([], pa.string()), np.zeros(0, np.int64)
    for fold, trial in zip(*np.nonzero(shares), strict=True):
        score = scores[trials[trial], int(fold)]
        ids_of_score = text_array(score.clip_ids)
        if not ids_of_score.equals(ids):  # other than the last trial's
            ids, rows = ids_of_score, group[places_of(ids_of_score, clip_ids)]
        yield score, int(trial), float(shares[fold, trial]), rows


def search_scored(
    scores: Scores,
    complete: Sequence[int],
    *,
    clips: pa.Table,
    classes: Sequence[str],
    metric: str,
    num_folds: int,
    seed: int,
    among: Sequence[str] | None = None,
) -> Scored:
    """The predictions whose score is the estimate of a search: BBC-CV over its complete trials.

    BBC-CV: Tsamardinos et al. 2018, see evaluation.selection. among are the classes to count, if they are more than
    the search's.
    """
    shares = trial_shares(fold_values(scores, complete, classes, metric, num_folds), seed=seed)
    return mixed(scores, complete, shares, clips=clips, classes=classes, among=among or classes)


def estimate(
    scored_predictions: Scored,
    *,
    metric: str,
    num_folds: int,
    num_trials: int,
    num_complete: int,
    best: JsonObject,
    seed: int,
    final: FinalTrainings | None = None,
) -> dict[str, Json]:
    """`estimate` of metrics.json: value, interval and standard errors of every metric, and how they were computed.

    best are the pooled scores of the best trial; `optimism` is how much better they are than the estimate. final are
    the trainings after the search whose predictions are scored, if there are any.
    """
    name, how = _method_texts(num_folds=num_folds, num_trials=num_trials, num_complete=num_complete)
    if final is not None:
        name, how = _final_method_texts(final, num_trials=num_trials)
    by_metric = intervals(scored_predictions, seed=seed)
    return {
        "name": name,
        "metric": metric,
        "metrics": {key: interval_json(interval) for key, interval in by_metric.items()},
        "optimism": {key: _better_by(best[key], interval.value, key) for key, interval in by_metric.items()},
        "num_speakers": len(scored_predictions.speakers),
        "num_folds": num_folds,
        "num_trials": num_complete,
        "how": how,
        "interval": INTERVAL,
    }


def _method_texts(*, num_folds: int, num_trials: int, num_complete: int) -> tuple[str, str]:
    if num_trials == 1:
        return "cross-validation", "One trial: every clip is scored once, and the folds have chosen nothing."
    if num_complete == 1:
        return (
            "one complete trial",
            f"{counted(num_trials, 'trials')}, of which one is complete: the folds that score it let it finish, which may flatter it, and there is nothing to correct that with.",
        )
    samples = f"{NUM_SAMPLES} drawn" if num_folds > MAX_ENUMERATED else "all"
    return (
        "BBC-CV",
        f"Bootstrap bias corrected cross-validation over {num_folds} folds and {num_complete} complete trials: in {samples} "
        "samples of folds the trial best on the drawn folds is scored on the others.",
    )


def _final_method_texts(final: FinalTrainings, *, num_trials: int) -> tuple[str, str]:
    num_seeds = 0 if final.replicates == [0] else len(final.replicates)
    seeds = f" with {num_seeds} new seed{'s' * (num_seeds > 1)}" if num_seeds else ""
    if final.is_nested:
        choice = f"that a search of {counted(num_trials, 'trials')} on the speakers of the other folds alone has chosen"
    elif num_trials == 1:
        choice = "of the one trial"
    else:
        choice = "of the trial that is best on the other folds"
    name = "nested cross-validation" if final.is_nested else "cross-validation"
    again = f", trained{' again' * (not final.is_nested)}{seeds}" if seeds else ""
    return f"{name}{seeds}", f"Each fold is predicted by models with the hyperparameters {choice}{again}."


def interval_json(interval: Interval) -> dict[str, Json]:
    """A score with its interval and standard errors as plain JSON, as `estimate` of metrics.json has them."""
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "se_speakers": interval.se_speakers,
        "se_folds": interval.se_folds,
        "num_left_out": interval.num_left_out,
        "undefined": interval.undefined,
    }


def _better_by(best: float | None, value: float | None, metric: str) -> float | None:
    return None if best is None or value is None else sign(metric) * (best - value)
