"""What the tables of a tune run say: how far to trust the score, what tied with the best, what mattered."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

import pyarrow as pa

from w2v2.reports.html import duration, percent, some
from w2v2.reports.plots import METRICS
from w2v2.reports.tune_run import TuneRun

MIN_TRIALS_FOR_IMPORTANCE = 5


@dataclass(frozen=True, kw_only=True)
class Check:
    """One reason to trust a score (good), or to take care."""

    is_good: bool
    text: str


def checks(run: TuneRun) -> list[Check]:
    """Every check of the page: of the data first, then of the score."""
    pairs = [*encoder_checks(run.metrics), *_data_checks(run), *_score_checks(run)]
    return [Check(is_good=is_good, text=good if is_good else care) for is_good, good, care in pairs]


def encoder_checks(metrics: Mapping[str, Any]) -> Iterator[tuple[bool, str, str]]:
    """What made an encoder that was fine-tuned here, as (whether it is good, what to say if so, what if not)."""
    if (heard := metrics.get("encoder", {}).get("heard")) is not None:
        yield (
            not heard,
            "None of what is scored trained the encoder, by name or by recording.",
            f"{heard} trained the encoder that this began with: this is no score of unseen speakers.",
        )


def _data_checks(run: TuneRun) -> Iterator[tuple[bool, str, str]]:
    torn, copied = in_two(run.manifest, "speaker"), in_two(run.manifest, "audio_digest")
    num_speakers, num_rejects = run.metrics["data"]["num_speakers"], run.rejects.num_rows
    num_clips = num_rejects + run.metrics["data"]["num_clips"]
    is_tiny, is_demo = run.metrics["encoder"]["name"] == "tiny", run.config["data"]["uri"] == "demo"
    made_up = " and ".join(["random weights"] * is_tiny + ["made-up talkers"] * is_demo)
    rejected = (
        f"{num_rejects} of {num_clips} clips could not be used ({percent(num_rejects / max(num_clips, 1))})."
    )
    yield (
        not torn,
        f"Speaker-independent: each of the {num_speakers} speakers was predicted by a model that never "
        "heard them.",
        f"Not speaker-independent: in more than one fold are the speakers {some(torn)}.",
    )
    yield (
        not copied,
        "No recording has an exact copy in another fold.",
        f"Recordings with an exact copy in another fold: {len(copied)}.",
    )
    yield (
        not made_up,
        "Real recordings and a pretrained encoder.",
        f"This run used {made_up}: it shows that the job works, not how good a model is.",
    )
    yield num_rejects <= 0.01 * num_clips, rejected if num_rejects else "Every clip could be used.", rejected


def _score_checks(run: TuneRun) -> Iterator[tuple[bool, str, str]]:
    pooled, selection = run.metrics["pooled"], run.metrics["selection"]
    low = (pooled["intervals"][run.metric] or (None,))[0]
    chance, num_speakers = chance_level(run.metrics, run.metric), run.metrics["data"]["num_speakers"]
    yield (
        low is not None and chance is not None and low > chance,
        f"The whole 95% interval lies above chance ({percent(chance)}).",
        "The 95% interval is undefined: it resamples speakers and needs two of them."
        if low is None
        else f"The 95% interval reaches down to {percent(low)}; chance is {percent(chance)}.",
    )
    nested = selection["nested"]
    cost = f"Selected on the other folds, {percent(pooled[run.metric])} becomes {percent(nested)}"
    yield (
        nested is not None and (low is None or nested >= low),
        f"{cost}, not below the 95% interval.",
        f"{cost}, below the 95% interval: the search has fitted the folds."
        if nested is not None
        else f"The score selected on the other folds is undefined: {why_no_choice(selection)}.",
    )
    yield (
        num_speakers >= 10,
        f"The interval resamples {num_speakers} whole speakers, not clips.",
        f"The interval resamples only {num_speakers} speakers and is itself rough.",
    )
    never = pooled["never_predicted"]
    yield not never, "Every class is predicted at least once.", f"Never predicted: {some(never)}."
    pairs = zip(run.predictions["target"].to_pylist(), run.predictions["predicted"].to_pylist(), strict=True)
    right = f"{sum(t == p for t, p in pairs)} of {run.predictions.num_rows} clips right"
    claimed = (
        f"{sum(row[i] for i, row in enumerate(pooled['confusion']))} of {pooled['num_clips']} clips right"
    )
    yield (
        right == claimed,
        f"predictions.parquet agrees with metrics.json: {right}.",
        f"predictions.parquet has {right}, metrics.json {claimed}: one of them is of another run.",
    )


def in_two(manifest: pa.Table, column: str, *, part: str = "fold") -> list[str]:
    """The values of a column that stand in more than one part (a fold, a split), in order."""
    parts = defaultdict(set)
    for value, own in zip(manifest[column].to_pylist(), manifest[part].to_pylist(), strict=True):
        parts[value].add(own)
    return sorted(value for value, found in parts.items() if value is not None and len(found) > 1)


def chance_level(metrics: Mapping[str, Any], metric: str) -> float | None:
    """The score of a model that learned nothing: 1 / classes for UAR, else of the commonest class always."""
    targets = [sum(row) for row in metrics["pooled"]["confusion"] if sum(row)]
    share = max(targets) / sum(targets) if targets else None
    match metric:
        case "uar":
            return metrics["chance_uar"]
        case "accuracy":
            return share
        case _:
            return None if share is None else 2 * share / (1 + share) / len(targets)


def why_no_choice(selection: Mapping[str, Any]) -> str:
    """Why no trial could be selected on the other folds."""
    return "fewer than two trials are complete" if selection["num_complete"] < 2 else selection["note"]


def spread(run: TuneRun) -> str:
    """The worst and the best speaker, and what luck alone does to the score of one."""
    metric, by_speaker = run.speaker_metric, run.metrics["by_speaker"]
    known = sorted((row[metric], speaker) for speaker, row in by_speaker.items() if row[metric] is not None)
    if not known:
        return f"{METRICS[metric]} by speaker is undefined: no clip was held out."
    (low, worst), (high, best) = known[0], known[-1]
    num_clips = median(row["num_clips"] for row in by_speaker.values())
    middle = mean(score for score, _ in known)
    # Half the width of the 95 % binomial interval of a speaker with the mean score.
    luck = 196 * math.sqrt(middle * (1 - middle) / num_clips)
    return (
        f"Worst speaker: {worst} ({percent(low)}). Best speaker: {best} ({percent(high)}). "
        f"With {num_clips:g} clips a speaker, luck alone moves the score of one by about {luck:.0f} points "
        "either way."
    )


def outcome(run: TuneRun) -> str:
    """Trials by state, and how far the best one stands out from the others."""
    selection = run.metrics["selection"]
    counts = ", ".join(f"{selection[f'num_{state}']} {state}" for state in ("complete", "pruned", "failed"))
    text = f"{selection['num_trials']} trials: {counts}."
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
        f"errors of the best (trials {some([str(trial) for trial in tied])}): their hyperparameters are as "
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
        lost = [scores[best][fold] - scores[trial][fold] for fold in both]
        if trial != best and len(lost) > 1 and mean(lost) < 2 * stdev(lost) / math.sqrt(len(lost)):
            tied.append(trial)
    return tied


def saved(run: TuneRun) -> str:
    """What pruning saved, and the time of a fold."""
    pruned = [row["folds_done"] for row in run.trials.to_pylist() if row["state"] == "PRUNED"]
    num_saved = run.num_folds * len(pruned) - sum(pruned)
    seconds = [row["seconds"] for row in run.folds.to_pylist() if row["seconds"] is not None]
    text = f"Pruning saved {num_saved} of {run.num_folds * run.trials.num_rows} folds"
    if not seconds:
        return f"{text}."
    work, usual = duration(num_saved * mean(seconds)), duration(median(seconds))
    return f"{text}, about {work} of work. A fold took {usual} (median)."


def importances(
    trials: pa.Table, space: Mapping[str, Mapping[str, Any]], *, metric: str
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


def _fanova(rows: Sequence[dict], space: Mapping[str, Mapping[str, Any]], *, metric: str) -> dict[str, float]:
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


def _distribution(dimension: Mapping[str, Any], values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.get("choices"):
        return CategoricalDistribution(sorted({str(value) for value in values}))
    # A value a rounding error outside of its interval would be refused.
    low, high = min(float(dimension["low"]), *values), max(float(dimension["high"]), *values)
    if all(isinstance(value, int) for value in values):
        return IntDistribution(int(low), int(high), log=bool(dimension.get("log")))
    return FloatDistribution(low, high, log=bool(dimension.get("log")))
