"""The page of a search over speaker folds: figures and sections out of its tables."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from w2v2.reports.blocks import Block, Checks, Facts, Paragraph, Quote, Score, Scores, Section, Side
from w2v2.reports.checks import tune_checks
from w2v2.reports.details_sections import calibration, slices
from w2v2.reports.estimate import best_headline, chance_level, tune_headline, tune_sentence
from w2v2.reports.learning_curve_section import more_speakers
from w2v2.reports.page import write_page
from w2v2.reports.plots import scores as score_plots
from w2v2.reports.plots import search as search_plots
from w2v2.reports.plots.calibration import reliability
from w2v2.reports.plots.more_speakers import more_speakers as learning_curve_figure
from w2v2.reports.plots.transcripts import speaker_error_rates
from w2v2.reports.recording_quality_section import recording_quality
from w2v2.reports.recordings import corpus_name
from w2v2.reports.run_files import NO_TABLES, Tables, TuneRun, read_tune_run
from w2v2.reports.shared_sections import kicker, left_out, pictured, provenance, verdict_blocks
from w2v2.reports.text import LABELS, duration_text, percent_text, points_text
from w2v2.reports.transcript_sections import confusions, errors, worst
from w2v2.reports.tune_findings import importances
from w2v2.reports.tune_sections import (
    baseline,
    classes,
    data,
    final_trainings,
    folds_and_speakers,
    search,
    training,
    trials,
)
from w2v2.storage import files as storage
from w2v2.wording import counted


def write_tune_report(run: str, tables: Tables = NO_TABLES) -> str:
    """The uri of `<run>/report.html`, made with plots/ and tables/ from the files of a search.

    tables are some of these that need not be read.
    """
    files = read_tune_run(storage.expand(run), tables)
    figures = tune_figures(files)
    sections = [
        Section("", headline(files, figures)),
        Section("How far to trust it", trust(files)),
        Section("Trained after the search", final_trainings(files)),
        Section("Would more speakers help?", more_speakers(files, figures)),
        Section("Folds and speakers", folds_and_speakers(files, figures)),
        *_content(files, figures),
        Section("Compared with a baseline", baseline(files)),
        Section("The search", search(files, figures)),
        Section("Training", training(files, figures)),
        Section("Trials", trials(files)),
        Section("Data", data(files)),
        Section("Recording quality", recording_quality(files.metrics)),
        Section("How it was made", how_it_was_made(files)),
    ]
    corpus, encoder = corpus_name(files.config["data"]), files.metrics["encoder"]["name"]
    title = f"{LABELS[files.metric]} on {corpus}, over speaker folds: {encoder}"
    return write_page(files.uri, title, sections, kicker=kicker(files), figures=figures)


def _content(run: TuneRun, figures: Mapping[str, Figure]) -> list[Section]:
    """The confusions of classes, or of words and characters."""
    if run.is_text:
        return [
            Section("Errors", errors(run.metrics)),
            Section("Confusions", confusions(run.metrics["pooled"])),
            Section("Worst sentences", worst(run.metrics["pooled"])),
        ]
    return [
        Section("Classes", classes(run, figures)),
        Section("Parts of the clips", slices(run.metrics)),
        Section("Calibration", calibration(run.metrics, figures)),
    ]


def tune_figures(run: TuneRun) -> dict[str, Figure]:
    """All figures of a search by file name; importance is left out where it cannot be computed."""
    metrics, metric, chance = run.metrics, run.metric, chance_level(run.metrics, run.metric)
    speaker, intervals, space = run.speaker_metric, run.metrics["pooled"]["intervals"], run.space
    figures = {
        "forest": score_plots.forest(metrics, chance=chance),
        "folds": score_plots.fold_scores(
            metrics["folds"][metric], metric=metric, interval=intervals[metric], chance=chance
        ),
        "history": search_plots.history(run.trials, metric=metric),
        "fold_map": search_plots.fold_map(run.folds, run.trials, metric=metric, num_folds=run.num_folds),
        "scatter": search_plots.scatter(run.trials, space, metric=metric, best=metrics["trial"]),
        "parallel": search_plots.parallel(run.trials, space, metric=metric, best=metrics["trial"]),
        "learning_curves": search_plots.learning_curves(run.curves, trial=metrics["trial"]),
        "seconds": search_plots.seconds_by_trial(run.trials),
    }
    if run.is_text:
        interval = intervals["cer"]
        figures["speakers"] = speaker_error_rates(metrics["by_speaker"], interval=interval)
    else:
        figures["confusion"] = score_plots.confusion(metrics["pooled"]["confusion"], metrics["classes"])
        figures["speakers"] = score_plots.speaker_scores(
            metrics["by_speaker"],
            metric=speaker,
            interval=intervals[speaker],
            chance=chance_level(metrics, speaker),
        )
    if "learning_curve" in metrics:
        figures["more_speakers"] = learning_curve_figure(metrics["learning_curve"])
    if metrics.get("calibration", {}).get("bins"):
        figures["reliability"] = reliability(metrics["calibration"])
    shares, _ = importances(run.trials, space, metric=metric)
    return figures | ({"importance": search_plots.importance(shares)} if shares else {})


def headline(run: TuneRun, figures: Mapping[str, Figure]) -> list[Block]:
    """The score with interval, chance and sizes, the reasons why it may be optimistic, and warnings."""
    metrics = run.metrics
    facts = {
        "clips": f"{metrics['data']['num_clips']}",
        "speakers": f"{metrics['data']['num_speakers']}",
        "folds": f"{run.num_folds}",
        **({} if run.is_text else {"classes": f"{len(metrics['classes'])}"}),
        "trials": f"{metrics['selection']['num_trials']}",
        "of audio": duration_text(3600 * metrics["data"]["hours"]),
    }
    style = "footnote" if "estimate" in metrics else ""
    left = [_scores(run), Paragraph(_optimism(run), style), *verdict_blocks(tune_checks(run))]
    return [
        Side([left, pictured(figures, "forest", _forest_caption(run))]),
        Facts(facts),
        Paragraph("To report it:"),
        Quote(tune_sentence(run)),
    ]


def _forest_caption(run: TuneRun) -> str:
    name, estimate = LABELS[run.metric], run.metrics.get("estimate")
    if estimate is None:
        return (
            f"{name} of all held-out clips with its 95% interval (bootstrap over speakers), of each fold, and of "
            "the trials selected on the other folds. Dashed: chance."
        )
    return (
        f"{name} to expect on new speakers with its 95% interval, of each fold of the best trial{_fold_intervals(run)}, and of "
        "all its held-out clips. Dashed: chance."
    )


def _fold_intervals(run: TuneRun) -> str:
    """A note on the folds' intervals, where a fold has one."""
    has_any = any(run.metrics["folds"][run.metric].get("intervals") or [])
    return " with its interval over the fold's speakers" if has_any else ""


def _scores(run: TuneRun) -> Scores:
    """The estimate on new speakers; in runs without one, the score selected on the other folds and the best trial's score."""
    if "estimate" in run.metrics:
        estimate = tune_headline(run)
        return Scores([Score(percent_text(estimate.value), estimate.text)])
    best = best_headline(run.metrics, run.metric)
    optimistic = Score(percent_text(best.value), best.text)
    selection = run.metrics["selection"]
    if selection["nested"] is None:
        return Scores([optimistic])
    selected = Score(percent_text(selection["nested"]), f"{best.metric}, selected on the other folds")
    return Scores([selected, optimistic])


def _optimism(run: TuneRun) -> str:
    selection = run.metrics["selection"]
    if selection["num_trials"] == 1:
        return "There is one trial: the folds that score it have chosen nothing."
    which = f"The best of {selection['num_trials']} trials (trial {run.metrics['trial']})"
    if "estimate" in run.metrics:
        best, optimism = (
            best_headline(run.metrics, run.metric),
            run.metrics["estimate"]["optimism"][run.metric],
        )
        worth = "" if optimism is None else f", {points_text(optimism)} points from the estimate"
        return (
            f"{which} has {best.metric} {percent_text(best.value)} (95% interval {best.within}){worth}: an optimistic number, as "
            "the folds that score it also chose it."
        )
    text = f"{which} is an optimistic estimate: the folds that score it also chose it."
    if selection["nested"] is not None:
        text += " Little of that optimism is left in the score selected on the other folds."
    return text


_SELECTED = (
    "Selected on the other folds: each fold is predicted by the trial that was best on all other folds, and "
    "these predictions are scored together, as the best trial's are. No speaker helps to choose among the "
    "trials that are scored on them, so this, not the best trial's score, is what to expect of the same search "
    "on new speakers. A little optimism may remain: what the search proposed and pruned did follow from scores "
    "on all folds."
)


def trust(run: TuneRun) -> list[Block]:
    """The checks as a list, and the meaning of the score on top."""
    estimate, meaning = run.metrics.get("estimate"), _SELECTED
    if estimate is not None:
        name = f"{estimate['name'][0].upper()}{estimate['name'][1:]}"
        meaning = f"{name}: {estimate['how'].rstrip('.')}. {estimate['interval'].rstrip('.')}."
    num_left_out = 0 if estimate is None else estimate["metrics"][run.metric].get("num_left_out", 0)
    return [Checks(tune_checks(run)), Paragraph(meaning), *left_out(num_left_out)]


def how_it_was_made(run: TuneRun) -> list[Block]:
    """The job, its settings and versions, its cost, and the command to run it again."""
    trunk = run.metrics.get("first_trunk", run.metrics["trunk"])
    facts: dict[str, object] = {"seed": run.config["seed"]}
    facts |= {f"encoder {key}": value for key, value in run.metrics["encoder"].items()}
    facts["frozen trunk"] = (
        f"{trunk['clip_forwards']} passes for {counted(trunk['num_clips'], 'clips')}; {trunk['reused']} needed none"
    )
    return provenance(run, facts, command_note="To run it again (finished trials are not computed twice):")
