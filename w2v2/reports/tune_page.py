"""The report of a tune run: figures and one HTML page out of its tables."""

import logging
import shlex
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from w2v2.reports import plots, search_plots
from w2v2.reports.html import (
    Cell,
    duration,
    facts_tag,
    page,
    pair_tag,
    paragraph_tag,
    percent,
    score_tag,
    table_tag,
    tag,
)
from w2v2.reports.tune_findings import Check, chance_level, checks, importances, why_no_choice
from w2v2.reports.tune_run import TuneRun, read_tune_run
from w2v2.reports.tune_sections import (
    baseline,
    classes,
    data,
    folds_and_speakers,
    search,
    shown,
    training,
    trials,
)
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)


def write_tune_report(run: str) -> str:
    """The uri of `<run>/report.html`, made with `<run>/plots/*.png` from the tables of a tune run."""
    tune = read_tune_run(storage.expand(run))
    figures = tune_figures(tune)
    for name, figure in figures.items():
        storage.write_bytes(storage.join(tune.uri, "plots", f"{name}.png"), plots.png(figure))
    title = f"{plots.METRICS[tune.metric]} over speaker folds: {tune.metrics['encoder']['name']}"
    sections = [
        ("", headline(tune, figures)),
        ("How far to trust it", trust(tune)),
        ("Folds and speakers", folds_and_speakers(tune, figures)),
        ("Classes", classes(tune, figures)),
        ("Beside a baseline", baseline(tune)),
        ("The search", search(tune, figures)),
        ("Training", training(tune, figures)),
        ("Trials", trials(tune)),
        ("Data", data(tune)),
        ("Provenance", provenance(tune)),
    ]
    uri = storage.join(tune.uri, "report.html")
    told = [(heading, inner) for heading, inner in sections if inner]
    storage.write_text(uri, page(title, told, kicker=f"w2v2 {tune.metrics['job']} in {tune.uri}"))
    logger.info("wrote %s and %d plots", uri, len(figures))
    return uri


def tune_figures(run: TuneRun) -> dict[str, Figure]:
    """All figures of a tune report by file name; importance is left out where it cannot be computed."""
    metrics, metric, chance = run.metrics, run.metric, chance_level(run.metrics, run.metric)
    speaker, intervals, space = run.speaker_metric, run.metrics["pooled"]["intervals"], run.space
    figures = {
        "forest": plots.forest(metrics, chance=chance),
        "folds": plots.fold_scores(run.best_folds, metric=metric, interval=intervals[metric], chance=chance),
        "speakers": plots.speaker_scores(
            metrics["by_speaker"],
            metric=speaker,
            interval=intervals[speaker],
            chance=chance_level(metrics, speaker),
        ),
        "confusion": plots.confusion(metrics["pooled"]["confusion"], metrics["classes"]),
        "history": search_plots.history(run.trials, metric=metric),
        "fold_map": search_plots.fold_map(run.folds, run.trials, metric=metric, num_folds=run.num_folds),
        "scatter": search_plots.scatter(run.trials, space, metric=metric, best=metrics["trial"]),
        "learning_curves": search_plots.learning_curves(run.curves, trial=metrics["trial"]),
        "seconds": search_plots.seconds_by_trial(run.trials),
    }
    shares, _ = importances(run.trials, space, metric=metric)
    return figures | ({"importance": search_plots.importance(shares)} if shares else {})


def headline(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """The score with interval, chance and sizes, what makes it optimistic, and what asks for care."""
    metrics, name = run.metrics, plots.METRICS[run.metric]
    caption = (
        f"{name} of all held-out clips with its 95% interval (bootstrap over speakers), of each fold, and of "
        "the trials selected on the other folds. Dashed: chance."
    )
    facts = {
        "clips": f"{metrics['data']['num_clips']}",
        "speakers": f"{metrics['data']['num_speakers']}",
        "folds": f"{run.num_folds}",
        "classes": f"{len(metrics['classes'])}",
        "trials": f"{metrics['selection']['num_trials']}",
        "of audio": duration(3600 * metrics["data"]["hours"]),
    }
    left = _scores_tag(run) + paragraph_tag(_optimism(run)) + verdict_tag(checks(run))
    return pair_tag(left, shown(figures, "forest", caption)) + facts_tag(facts)


def _scores_tag(run: TuneRun) -> str:
    name, pooled, selection = plots.METRICS[run.metric], run.metrics["pooled"], run.metrics["selection"]
    interval = pooled["intervals"][run.metric]
    between = " to ".join(map(percent, interval)) if interval else "undefined (fewer than two speakers)"
    chance = percent(chance_level(run.metrics, run.metric), why="no clip was held out")
    best = f"{name}, best trial; 95% interval {between}; chance {chance}"
    if pooled[run.metric] is None:
        best += ", undefined: no clip was held out"
    nested = f"{name}, selected on the other folds"
    if selection["nested"] is None:
        nested += f", undefined: {why_no_choice(selection)}"
    scores = score_tag(pooled[run.metric], best) + score_tag(selection["nested"], nested)
    return f'<div class="scores">{scores}</div>'


def _optimism(run: TuneRun) -> str:
    selection = run.metrics["selection"]
    if selection["num_trials"] == 1:
        return "There is one trial: the folds that score it have chosen nothing."
    text = (
        f"The best of {selection['num_trials']} trials (trial {run.metrics['trial']}, mean over the folds "
        f"{percent(selection['best'])}) is an optimistic estimate: the folds that score it also chose it."
    )
    if selection["nested"] is not None:
        text += " Little of that is left in the score selected on the other folds."
    return text


def verdict_tag(checks: Sequence[Check]) -> str:
    """Whether all checks passed, and those that ask for care."""
    care = [check for check in checks if not check.is_good]
    text = (
        f"{len(care)} of {len(checks)} checks ask for care:" if care else f"All {len(checks)} checks passed."
    )
    return paragraph_tag(text, css="verdict") + checks_tag(care)


def checks_tag(checks: Sequence[Check]) -> str:
    """The checks as a list with their marks."""
    items = "".join(tag("li", check.text, css="good" if check.is_good else "care") for check in checks)
    return f'<ul class="checks">{items}</ul>'


def trust(run: TuneRun) -> str:
    """The checks as a list, and what the score selected on the other folds means."""
    meaning = (
        "Selected on the other folds: each fold is predicted by the trial that was best on all other folds, "
        "and these predictions are scored together, as the best trial's are. No speaker helps to choose "
        "among the trials that are scored on them, so this, not the best trial's score, is what to expect of "
        "the same search on new speakers. A little optimism may remain: what the search proposed and pruned "
        "did follow from scores on all folds."
    )
    return checks_tag(checks(run)) + paragraph_tag(meaning)


def provenance(run: TuneRun) -> str:
    """What was run, with what, at what cost, and how to run it again."""
    metrics, trunk = run.metrics, run.metrics["trunk"]
    facts: dict[str, object] = {"computed on": metrics["computed_on"], "seed": run.config["seed"]}
    facts |= {f"encoder {key}": value for key, value in metrics["encoder"].items()}
    facts["frozen trunk"] = (
        f"{trunk['clip_forwards']} passes for {trunk['num_clips']} clips; {trunk['reused']} needed none"
    )
    facts["wall time"] = f"{duration(metrics['seconds'])} ({metrics['seconds']:.1f} s)"
    facts |= {f"version of {name}": version for name, version in metrics["versions"].items()}
    rows: list[list[Cell]] = [[name, str(value)] for name, value in facts.items()]
    command = f"python jobs/{metrics['job']}.py --config {shlex.quote(storage.join(run.uri, 'config.yaml'))}"
    return (
        table_tag(["what", "value"], rows, caption="What this run was made with.")
        + paragraph_tag("To run it again (finished trials are not computed twice):")
        + tag("pre", command)
        + f"<details><summary>config.yaml</summary>{tag('pre', run.config_text)}</details>"
    )
