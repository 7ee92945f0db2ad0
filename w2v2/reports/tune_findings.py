"""Findings in the tables of a search, as sentences and numbers: spread, ties, importance, time saved by pruning."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from w2v2.evaluation.direction import sign
from w2v2.json_types import JsonObject
from w2v2.reports.run_files import TuneRun
from w2v2.reports.text import LABELS, duration_text, percent_text
from w2v2.wording import counted, listed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MIN_TRIALS_FOR_IMPORTANCE = 5


def spread(run: TuneRun) -> str:
    """A sentence on the worst and the best speaker, and on how much chance alone spreads the scores of speakers."""
    metric, by_speaker = run.speaker_metric, run.metrics["by_speaker"]
    scored = sorted((row[metric], speaker) for speaker, row in by_speaker.items() if row[metric] is not None)
    if not scored:
        return f"{LABELS[metric]} by speaker is undefined: no clip was held out."
    (low, worst), (high, best) = scored[0], scored[-1]
    if run.is_text:
        return f"Best speaker: {worst} ({percent_text(low)}). Worst speaker: {best} ({percent_text(high)})."
    num_clips = median(row["num_clips"] for row in by_speaker.values())
    middle = mean(score for score, _ in scored)
    # Half the width of the 95 % binomial interval of a speaker with the mean score.
    luck = 196 * math.sqrt(middle * (1 - middle) / num_clips)
    return (
        f"Worst speaker: {worst} ({percent_text(low)}). Best speaker: {best} ({percent_text(high)}). "
        f"With {num_clips:g} clips a speaker, luck alone moves the score of one by about {luck:.0f} points "
        "either way."
    )


def course(run: TuneRun) -> str:
    """A sentence on the numbers of trials by state, and on the trials that are as good as the best one."""
    selection = run.metrics["selection"]
    counts = ", ".join(f"{selection[f'num_{state}']} {state}" for state in ("complete", "pruned", "failed"))
    text = f"{counted(selection['num_trials'], 'trials')}: {counts}."
    num_others = selection["num_complete"] - 1
    if num_others < 1:
        return f"{text} No other trial is complete, so the best one was compared with none."
    tied = ties(run.folds, run.trials, best=run.metrics["trial"], metric=run.metric)
    if not tied:
        return (
            f"{text} Fold by fold, the best trial leads every other complete one by over two standard errors."
        )
    return (
        f"{text} Fold by fold, {len(tied)} of the {num_others} other complete trials are within two standard "
        f"errors of the best (trials {listed([str(trial) for trial in tied])}): their hyperparameters are as "
        "good a choice."
    )


def ties(folds: pa.Table, trials: pa.Table, *, best: int, metric: str) -> list[int]:
    """Complete trials whose mean paired difference to the best, over folds, is below two standard errors."""
    scores: dict[int, dict[int, float]] = defaultdict(dict)
    for row in folds.to_pylist():
        if row[metric] is not None:
            scores[row["trial"]][row["fold"]] = row[metric]
    tied = []
    for trial in sorted(row["trial"] for row in trials.to_pylist() if row["state"] == "COMPLETE"):
        both = scores[best].keys() & scores[trial].keys()
        lost = [sign(metric) * (scores[best][fold] - scores[trial][fold]) for fold in both]
        if trial != best and len(lost) > 1 and mean(lost) < 2 * stdev(lost) / math.sqrt(len(lost)):
            tied.append(trial)
    return tied


def saved(run: TuneRun) -> str:
    """A sentence on the time that pruning saved, and the time of a fold."""
    pruned = [row["folds_done"] for row in run.trials.to_pylist() if row["state"] == "PRUNED"]
    num_saved = run.num_folds * len(pruned) - sum(pruned)
    seconds = [row["seconds"] for row in run.folds.to_pylist() if row["seconds"] is not None]
    text = f"Pruning saved {num_saved} of {run.num_folds * run.trials.num_rows} folds"
    if not seconds:
        return f"{text}."
    work, usual = duration_text(num_saved * mean(seconds)), duration_text(median(seconds))
    return f"{text}, about {work} of work. A fold took {usual} (median)."


def importances(
    trials: pa.Table, space: Mapping[str, JsonObject], *, metric: str
) -> tuple[dict[str, float], str]:
    """Shares of the hyperparameters in the variance of the score, and a sentence: how sure, or why none.

    fANOVA over the complete trials (Hutter, Hoos and Leyton-Brown 2014); the shares sum to 1.
    """
    score, columns = f"{metric}_mean", [f"params_{path}" for path in space]
    rows = [row for row in trials.to_pylist() if row["state"] == "COMPLETE" and row[score] is not None]
    rows = [row for row in rows if all(row[column] is not None for column in columns)]
    varied = [path for path in space if len({row[f"params_{path}"] for row in rows}) > 1]
    if len(rows) < MIN_TRIALS_FOR_IMPORTANCE:
        counts = f"it needs {MIN_TRIALS_FOR_IMPORTANCE} complete trials, there are {len(rows)}"
        return {}, f"Hyperparameter importance is undefined: {counts}."
    if not varied:
        return {}, "Hyperparameter importance is undefined: no hyperparameter took two values."
    if len({row[score] for row in rows}) == 1:
        return {}, "Hyperparameter importance is undefined: all complete trials score the same."
    caveat = "; below about 30 it is a rough guide" if len(rows) < 30 else ""
    note = f"Computed from {len(rows)} complete trials{caveat}."
    return _fanova(rows, {path: space[path] for path in varied}, metric=metric), note


def _fanova(rows: Sequence[dict], space: Mapping[str, JsonObject], *, metric: str) -> dict[str, float]:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    optuna.logging.set_verbosity(verbosity)
    values = {path: [row[f"params_{path}"] for row in rows] for path in space}
    distributions = {path: _distribution(dimension, values[path]) for path, dimension in space.items()}
    for i, row in enumerate(rows):
        params = {
            path: str(values[path][i]) if space[path].get("choices") else values[path][i] for path in space
        }
        score = row[f"{metric}_mean"]
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _distribution(dimension: JsonObject, values: Sequence[Any]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.get("choices"):
        return CategoricalDistribution(sorted({str(value) for value in values}))
    # A value a rounding error outside of its interval would be refused.
    low, high = min(float(dimension["low"]), *values), max(float(dimension["high"]), *values)
    if all(isinstance(value, int) for value in values):
        return IntDistribution(int(low), int(high), log=bool(dimension.get("log")))
    return FloatDistribution(low, high, log=bool(dimension.get("log")))
