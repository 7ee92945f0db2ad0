"""The page of a comparison: the runs with their intervals, differences, and speakers."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from w2v2.evaluation.direction import better_word
from w2v2.json_types import JsonObject
from w2v2.reports.blocks import (
    Block,
    Cell,
    Details,
    Facts,
    Paragraph,
    Quote,
    Section,
    Table,
    count,
    score,
    words,
)
from w2v2.reports.page import write_page
from w2v2.reports.shared_sections import interval_score, machine_facts, pictured
from w2v2.reports.text import LABELS, interval_text, job_command, score_text
from w2v2.storage import files as storage
from w2v2.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_compare_report(run: str) -> str:
    """The uri of `<run>/report.html`, made with plots/ and tables/ from the files of a comparison."""
    from w2v2.reports.plots.comparison import runs_with_intervals

    metrics = json.loads(storage.read_text(storage.join(run, "metrics.json")))
    config = storage.read_text(storage.join(run, "config.yaml"))
    figures = {"runs": runs_with_intervals(metrics["runs"], metrics["metric"], _label(metrics["metric"]))}
    sections = [
        Section("", headline(metrics, figures)),
        Section("Differences", differences(metrics)),
        Section("Speakers", speakers(metrics)),
        Section("How it was made", how_it_was_made(run, metrics, config)),
    ]
    title = f"{_label(metrics['metric'])} of {len(metrics['runs'])} runs{_title_end(metrics)}"
    date = metrics.get("made", {}).get("date", "")[:10]
    return write_page(run, title, sections, kicker=f"w2v2 compare, {date}, in {run}", figures=figures)


def headline(metrics: JsonObject, figures: Mapping[str, "Figure"]) -> list[Block]:
    """The runs that cannot be distinguished from the best one, and all runs with intervals."""
    best, *others = metrics["ranking"]
    as_good = [row["name"] for row in others if not row["is_worse"]]
    text = (
        f"{best['name']} has the {better_word(metrics['metric']).replace('er', 'est')} {_label(metrics['metric'])}. It cannot be distinguished from: {', '.join(as_good)}."
        if as_good
        else f"{best['name']} is better than every other run."
    )
    facts = {
        "runs": f"{len(metrics['runs'])}",
        "clips": f"{metrics['num_clips']}",
        "speakers": f"{metrics['num_speakers']}",
    }
    columns = [words("run"), words("scored by"), *(score(_label(name)) for name in metrics["metrics"])]
    columns.append(words("distinguished from the best"))
    rows: list[list[Cell]] = []
    for place in metrics["ranking"]:
        run = metrics["runs"][place["name"]]
        scores = [interval_score(run["scores"][name]) for name in metrics["metrics"]]
        verdict = "worse" if place["is_worse"] else "" if place is best else "no"
        rows.append([place["name"], run["method"], *scores, verdict])
    caption = (
        "Scores with 95% intervals, best first. A run is worse where another one is better beyond an interval that "
        "allows for all comparisons at once."
    )
    picture = pictured(figures, "runs", f"{_label(metrics['metric'])} of each run with its 95% interval.")
    return [
        Paragraph(text, "verdict"),
        Facts(facts),
        *picture,
        Table("runs", columns, rows, caption),
        Paragraph("To report it:"),
        Quote(compare_sentence(metrics)),
    ]


def compare_sentence(metrics: JsonObject) -> str:
    """The comparison in a sentence for a paper: the best run's score, and by how much it is better than each other."""
    metric, label, best = metrics["metric"], _label(metrics["metric"]), metrics["ranking"][0]["name"]
    run = metrics["runs"][best]
    gains = [
        f"than {row['other']} by {_within(row[metric])}"
        for row in metrics["differences"]
        if row["better"] == best
    ]
    return (
        f"On {metrics.get('corpus') or 'the same clips'} ({counted(metrics['num_clips'], 'clips')}, {counted(metrics['num_speakers'], 'speakers')}), {best} reached {label} "
        f"{_within(run['scores'][metric])} ({run['method']}), {better_word(metric)} {', '.join(gains)}; differences are of "
        "both runs on the same resampled speakers and folds."
    )


def _title_end(metrics: JsonObject) -> str:
    """The corpus for the end of a title; '' where it is unknown."""
    return f" on {metrics['corpus']}" if metrics.get("corpus") else ""


def _within(row: JsonObject) -> str:
    """A score or difference and its interval, in words."""
    why = f", {row['undefined']}" if row["undefined"] else ""
    return f"{score_text(row['value'])} (95% interval {interval_text(row['interval'])}{why})"


def differences(metrics: JsonObject) -> list[Block]:
    """For every pair of runs, how much better one scores than the other."""
    word = better_word(metrics["metric"])
    columns = [words("run"), words(f"is {word} than"), *(score(_label(name)) for name in metrics["metrics"])]
    rows: list[list[Cell]] = [
        [
            row["better"],
            row["other"],
            *(interval_score(row[name]) for name in metrics["metrics"]),
        ]
        for row in metrics["differences"]
    ]
    caption = (
        "By how much, with 95% intervals: both runs are scored on the same samples of speakers, and of folds where they "
        "have some. Of many pairs some intervals miss zero by chance; the ranking above allows for that."
    )
    return [Table("differences", columns, rows, caption)]


def speakers(metrics: JsonObject) -> list[Block]:
    """How many speakers the best run wins and loses against each, and every speaker's score."""
    best, label = metrics["ranking"][0]["name"], _label(metrics["speaker_metric"])
    rows: list[list[Cell]] = [
        [name, *(row[key] for key in ("wins", "ties", "losses", "undefined"))]
        for name, row in metrics["wins"].items()
    ]
    columns = [words("against"), *map(count, ("won", "equal", "lost", "undefined"))]
    caption = f"Speakers whose {label} is better, equal and worse with {best} than with the other run."
    names = list(metrics["runs"])
    by_speaker: list[list[Cell]] = [
        [speaker, *(metrics["by_speaker"][name][speaker] for name in names)]
        for speaker in metrics["by_speaker"][best]
    ]
    heads = [words("speaker"), *(score(name) for name in names)]
    table = Table("speakers", heads, by_speaker, f"{label} of each speaker.")
    return [Table("wins", columns, rows, caption), Details("every speaker", [table])]


def how_it_was_made(run: str, metrics: JsonObject, config: str) -> list[Block]:
    """The clips that each run was scored on, the settings, and the command to run it again."""
    columns = [words("run"), words("job"), words("directory"), words("computed on")]
    rows: list[list[Cell]] = [
        [name, row["job"], row["uri"], row["computed_on"]] for name, row in metrics["runs"].items()
    ]
    provenance: list[list[Cell]] = [
        [name, value] for name, value in machine_facts(metrics.get("made")).items()
    ]
    return [
        Table("compared", columns, rows, "The runs."),
        Table(
            "provenance", [words("what"), words("value")], provenance, "What this comparison was made with."
        ),
        Paragraph("To run it again:"),
        Quote(job_command("compare", storage.join(run, "config.yaml")), is_code=True),
        Details("config.yaml", [Quote(config, is_code=True)]),
    ]


def _label(metric: str) -> str:
    return LABELS.get(metric, metric.replace("_", " ").replace("auc", "AUC").replace("ccc", "CCC"))
