"""The score on top of a page, with its interval and what it is, and the sentence that reports it.

A search's metrics.json has `estimate` where the choice among trials is corrected for; runs of before have
the best trial's score and the one selected on the other folds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from w2v2.reports.run_files import TuneRun
from w2v2.reports.text import METRIC_LABELS, interval_text, percent_text, score_text


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The first number of a page."""

    metric: str
    """As it is called on the page: UAR, macro AUC, mean CCC."""
    value: float | None
    interval: Sequence[float] | None
    chance: float | None
    """The score of a model that learned nothing."""
    form: Callable[[float | None], str]
    name: str = ""
    """Of the estimate: best trial, BBC-CV, ...; empty where nothing was chosen."""
    how: str = ""
    """How it was computed, in a sentence."""
    is_honest: bool = True
    """Whether the choice among trials is corrected for."""

    @property
    def text(self) -> str:
        """What is written under the number."""
        name = f"{self.metric}, {self.name}" if self.name else self.metric
        within = interval_text(self.interval, self.form)
        chance = "undefined (no clip)" if self.chance is None else self.form(self.chance)
        return f"{name}; 95% interval {within}; chance {chance}"


def tune_headline(run: TuneRun, metric: str | None = None) -> Headline:
    """The score of a search to believe: `estimate` of metrics.json, else the best trial's score.

    metric is the searched one unless another is asked for.
    """
    found, name = run.metrics.get("estimate"), metric or run.metric
    if found is None:
        return best_headline(run, name)
    score = found["metrics"][name]
    interval = None if score["low"] is None else (score["low"], score["high"])
    return Headline(
        metric=METRIC_LABELS[name],
        value=score["value"],
        interval=interval,
        chance=chance_level(run.metrics, name),
        form=percent_text,
        name=found["name"],
        how=found["how"],
    )


def best_headline(run: TuneRun, metric: str) -> Headline:
    """The best trial's score over all held-out clips: optimistic, as the folds that score it chose it."""
    pooled = run.metrics["pooled"]
    return Headline(
        metric=METRIC_LABELS[metric],
        value=pooled[metric],
        interval=pooled["intervals"][metric],
        chance=chance_level(run.metrics, metric),
        form=percent_text,
        name="best trial",
        is_honest=run.metrics["selection"]["num_trials"] == 1,
    )


def model_headline(metrics: Mapping[str, Any]) -> Headline:
    """The leading score of one model, by the kind of its task."""
    pooled, intervals = metrics["pooled"], metrics["pooled"]["intervals"]
    match metrics["kind"]:
        case "classes":
            label, value, interval, chance = "UAR", pooled["uar"], intervals["uar"], metrics["chance_uar"]
            return Headline(metric=label, value=value, interval=interval, chance=chance, form=percent_text)
        case "multi_label":
            label, value, interval, chance = "macro AUC", pooled["macro_auc"], intervals["macro_auc"], 0.5
        case _:
            label, value, interval, chance = "mean CCC", pooled["mean"]["ccc"], intervals["mean"]["ccc"], 0.0
    return Headline(metric=label, value=value, interval=interval, chance=chance, form=score_text)


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
