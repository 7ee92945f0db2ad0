"""The score on top of a page, with its name, interval and explanation, and the sentence that reports it.

A search's metrics.json has `estimate` where the choice among trials is corrected for; runs of older versions have
the best trial's score and the one selected on the other folds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from w2v2.evaluation.direction import sign
from w2v2.json_types import JsonObject
from w2v2.reports.recordings import corpus_name
from w2v2.reports.run_files import ModelRun, TuneRun
from w2v2.reports.text import LABELS, interval_text, percent_text, score_text
from w2v2.wording import counted


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The first number of a page."""

    metric: str
    """The metric's name on the page: UAR, macro AUC, mean CCC."""
    value: float | None
    interval: Sequence[float] | None
    chance: float | None
    """The score of a model that learned nothing."""
    form: Callable[[float | None], str]
    name: str = ""
    """The name of the estimate: best trial, BBC-CV, ...; empty where nothing was chosen."""
    how: str = ""
    """How it was computed, in a sentence."""
    why: str = ""
    """Why there is no interval."""
    is_lower_better: bool = False
    """Whether it counts errors."""

    @property
    def text(self) -> str:
        """The text under the number."""
        name = f"{self.metric}, {self.name}" if self.name else self.metric
        chance = "undefined (no clip)" if self.chance is None else self.form(self.chance)
        return f"{name}; 95% interval {self.within}; {self.baseline} {chance}"

    @property
    def baseline(self) -> str:
        """The name of the score of a model that learned nothing."""
        return "writing nothing gives" if self.is_lower_better else "chance"

    @property
    def within(self) -> str:
        """The interval in words, or why there is none."""
        why = f" ({self.why})" if self.why and not self.interval else ""
        return interval_text(self.interval, self.form) + why


def tune_headline(run: TuneRun, metric: str | None = None) -> Headline:
    """The score on top of a search's page: `estimate` of metrics.json, else the best trial's score.

    metric is the searched one unless another is asked for.
    """
    return search_headline(run.metrics, metric)


def search_headline(metrics: JsonObject, metric: str | None = None) -> Headline:
    """The score on top of a search's page, from its metrics.json alone."""
    estimate, name = metrics.get("estimate"), metric or metrics["metric"]
    if estimate is None:
        return best_headline(metrics, name)
    score = estimate["metrics"][name]
    interval = None if score["low"] is None else (score["low"], score["high"])
    return Headline(
        metric=LABELS[name],
        value=score["value"],
        interval=interval,
        chance=chance_level(metrics, name),
        form=percent_text,
        name=estimate["name"],
        how=estimate["how"],
        why=score["undefined"] or "",
        is_lower_better=sign(name) < 0,
    )


def best_headline(metrics: JsonObject, metric: str) -> Headline:
    """The best trial's score over all held-out clips; it is optimistic, as the same folds chose the trial."""
    pooled = metrics["pooled"]
    return Headline(
        metric=LABELS[metric],
        value=pooled[metric],
        interval=pooled["intervals"][metric],
        chance=chance_level(metrics, metric),
        form=percent_text,
        name="best trial",
        why=pooled["intervals"].get("undefined", {}).get(metric, ""),
        is_lower_better=sign(metric) < 0,
    )


def model_headline(metrics: JsonObject) -> Headline:
    """The leading score of one model, by the kind of its task."""
    pooled, intervals = metrics["pooled"], metrics["pooled"]["intervals"]
    form = score_text
    match metrics["kind"]:
        case "classes":
            label, key, form = "UAR", "uar", percent_text
            value, interval, chance = pooled["uar"], intervals["uar"], metrics["chance_uar"]
        case "transcript":
            # A model that writes nothing deletes every character.
            label, key, form = "character error rate", "cer", percent_text
            value, interval, chance = pooled["cer"], intervals["cer"], 1.0
        case "multi_label":
            label, key = "macro AUC", "macro_auc"
            value, interval, chance = pooled["macro_auc"], intervals["macro_auc"], 0.5
        case _:
            label, key = "mean CCC", "ccc"
            value, interval, chance = pooled["mean"]["ccc"], intervals["mean"]["ccc"], 0.0
    why = intervals.get("undefined", {}).get(key, "")
    return Headline(
        metric=label,
        value=value,
        interval=interval,
        chance=chance,
        form=form,
        why=why,
        is_lower_better=metrics["kind"] == "transcript",
    )


def expected_headline(metrics: JsonObject) -> Headline | None:
    """The estimate for one model on new speakers, where the scored clips also chose its settings; else None."""
    return search_headline(metrics, metrics["estimate"]["metric"]) if "estimate" in metrics else None


def tune_sentence(run: TuneRun) -> str:
    """The result of a search in a sentence for a paper: corpus, encoder, estimate, intervals, chance."""
    metrics, first = run.metrics, tune_headline(run)
    others = [tune_headline(run, name) for name in run.labels if name != run.metric]
    marks = [";", *[" and"] * len(others)]
    data = metrics["data"]
    selection = metrics["selection"]
    of_trials = f"{selection['num_complete']} complete of {selection['num_trials']} trials"
    over = f"speaker-independent cross-validation over {run.num_folds} folds"
    if "final" in metrics:
        over = f"speaker-independent {metrics['estimate']['name']} over {run.num_folds} folds"
        how = f"each fold's hyperparameters chosen on the speakers of the others, by {of_trials}"
        if metrics["final"]["is_nested"]:
            how = f"each fold's hyperparameters chosen by a search of {counted(selection['num_trials'], 'trials')} on the speakers of the others"
    elif selection["num_trials"] == 1:
        how = "without a choice among trials"
    elif "estimate" in metrics:
        how = f"estimated by {metrics['estimate']['name']} from {of_trials}"
    else:
        nested = percent_text(selection["nested"])
        how = f"an optimistic score of the best of {of_trials} (selected on the other folds: {nested})"
    return (
        f"On {corpus_name(run.config['data'])} ({counted(data['num_clips'], 'clips')}, {counted(data['num_speakers'], 'speakers')}, "
        f"{_content(run)}), {metrics['encoder']['name']} reached {_reached(first)}, {first.baseline} "
        f"{percent_text(first.chance)}, in {over}, {how}"
        + "".join(f"{mark} {_reached(other)}" for mark, other in zip(marks, others, strict=False))
        + "."
    )


def _content(run: TuneRun) -> str:
    """The number of classes, or of characters of the references."""
    if not run.is_text:
        return f"{len(run.metrics['classes'])} classes"
    return f"{run.metrics['pooled']['characters']['reference']} characters"


def model_sentence(run: ModelRun) -> str:
    """The result of one model in a sentence for a paper: corpus, model, leading score, interval, what was scored."""
    metrics, first = run.metrics, model_headline(run.metrics)
    model = metrics.get("model") or {}
    name = run.config.get("model") or (metrics.get("encoder") or model).get("name", "the model")
    chance = "undefined" if first.chance is None else first.form(first.chance)
    expected = expected_headline(metrics)
    return (
        f"On {corpus_name(run.config['data'])} ({counted(metrics['num_clips'], 'clips')} of {counted(metrics['num_speakers'], 'speakers')}), "
        f"{name} reached {_reached(first)}, {first.baseline} {chance}, computed on "
        f"{metrics['computed_on'].rstrip('.')}."
        + (
            f" On new speakers it is estimated to reach {_reached(expected)} by {expected.name}."
            if expected
            else ""
        )
    )


def _reached(headline: Headline) -> str:
    return f"{headline.metric} {headline.form(headline.value)} (95% interval {headline.within})"


def chance_level(metrics: JsonObject, metric: str) -> float | None:
    """The score of a model that learned nothing: 1 / classes for UAR; else the score of always predicting the most frequent class."""
    if sign(metric) < 0:  # what writes nothing deletes everything
        return 1.0
    targets = [sum(row) for row in metrics["pooled"]["confusion"] if sum(row)]
    share = max(targets) / sum(targets) if targets else None
    match metric:
        case "uar":
            return metrics["chance_uar"]
        case "accuracy":
            return share
        case _:
            return None if share is None else 2 * share / (1 + share) / len(targets)
