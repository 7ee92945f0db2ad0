"""The score table that a search prints at its end."""

from w2v2.evaluation import learning_curve
from w2v2.evaluation.details import detail_lines
from w2v2.evaluation.scores import number_text, within_text
from w2v2.json_types import JsonObject
from w2v2.models import provenance
from w2v2.wording import counted


def score_lines(metrics: JsonObject) -> str:
    """The lines of the score table, from metrics.json; the estimate on new speakers comes first."""
    pooled, folds, selection, estimate = (
        metrics[name] for name in ("pooled", "folds", "selection", "estimate")
    )
    best = f"best of {selection['num_trials']}" if selection["num_trials"] > 1 else "one trial"
    lines = [
        "",
        f"scores to expect on new speakers: {estimate['name']}, {counted(estimate['num_speakers'], 'speakers')} in {counted(estimate['num_folds'], 'folds')}",
        f"{'':12}{'estimate':>10}  {'95 % interval':>18}  {best:>12}  {'mean of folds':>14}  {'std':>6}",
    ]
    for name in estimate["metrics"]:
        score = estimate["metrics"][name]
        lines.append(
            f"{name:12}{number_text(score['value']):>10}  {estimate_interval(score):>18}  {number_text(pooled[name]):>12}  "
            f"{number_text(folds[name]['mean']):>14}  {number_text(folds[name]['std']):>6}"
        )
    lines += [
        (f"chance UAR is {metrics['chance_uar']:.3f}; " if "chance_uar" in metrics else "")
        + _choice(selection, estimate),
        *_seed_lines(metrics),
        *([learning_curve.sentence(curve)] if (curve := metrics.get("learning_curve")) else []),
        *detail_lines(metrics),
        *_baseline_lines(metrics),
        *([caveat.removeprefix("; ")] if (caveat := provenance.caveat(metrics["encoder"])) else []),
        *(f"never predicted: {name}" for name in pooled.get("never_predicted", [])),
        f"best trial: {metrics['trial']} ({selection['num_complete']} complete, {selection['num_pruned']} pruned, "
        f"{selection['num_failed']} failed): "
        + ", ".join(f"{path} {_short(value)}" for path, value in metrics["params"].items()),
    ]
    return "\n".join(lines)


def estimate_interval(score: JsonObject) -> str:
    """The interval of one score of `estimate` in metrics.json, as text."""
    interval = None if score["low"] is None else (score["low"], score["high"])
    return within_text(interval, score["undefined"])


def expected_lines(metrics: JsonObject) -> list[str]:
    """A line with the `estimate` of a run or ensemble on new speakers; none where it has none."""
    if "estimate" not in metrics:
        return []
    estimate = metrics["estimate"]
    score = estimate["metrics"][estimate["metric"]]
    value = f"{number_text(score['value'])} {estimate_interval(score)}"
    return [f"to expect on new speakers: {estimate['metric']} {value}, {estimate['name']}"]


def _choice(selection: JsonObject, estimate: JsonObject) -> str:
    """How much too high the score of the best trial is because it was chosen among trials."""
    if selection["num_trials"] == 1:
        return "there is one trial, so these folds have chosen nothing"
    if selection["num_complete"] == 1:
        return "one trial is complete, so how much being chosen flatters it is unknown"
    optimism = estimate["optimism"][estimate["metric"]]
    by = "an unknown amount" if optimism is None else f"{100 * optimism:.1f} points of {estimate['metric']}"
    return f"being chosen flatters the best of {selection['num_trials']} by {by}"


def _seed_lines(metrics: JsonObject) -> list[str]:
    """The spread of the scores of the new seeds; nothing with fewer than two."""
    if "final" not in metrics:
        return []
    spread = metrics["final"]["spread"][metrics["metric"]]
    if len(spread["values"]) < 2:
        return []
    values = ", ".join(number_text(value) for value in spread["values"])
    return [f"{metrics['metric']} of each new seed: {values}; std {number_text(spread['std'])}"]


def _baseline_lines(metrics: JsonObject) -> list[str]:
    if "baseline" not in metrics:
        return []
    baseline = metrics["baseline"]
    higher = baseline["difference"]["uar"]
    interval = within_text(higher["interval"], higher["undefined"])
    return [
        f"baseline ({baseline['name']}): UAR {number_text(baseline['pooled']['uar'])}, the estimate is higher by {number_text(higher['value'])} {interval}"
    ]


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
