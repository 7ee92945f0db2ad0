"""The section of an ensemble: its members' scores, its own, and the training clips by members that have not seen them."""

from w2v2.json_types import JsonObject
from w2v2.reports.blocks import Block, Cell, Paragraph, ScoreCell, Table, count, percent, score, words
from w2v2.reports.estimate import Headline, model_headline
from w2v2.reports.run_files import ModelRun
from w2v2.reports.text import METRIC_LABELS


def ensemble(run: ModelRun) -> list[Block]:
    """The estimate on new speakers, a row for each member and one for their average, and the held-out folds; nothing without members."""
    average = run.metrics.get("ensemble")
    if average is None:
        return []
    first = model_headline(run.metrics)
    rows: list[list[Cell]] = [
        [
            f"model {number}",
            _measured(member_headline(run.metrics, member)),
            member["best_epoch"],
            member["digest"],
        ]
        for number, member in enumerate(average["members"])
    ]
    rows.append([f"average of {len(rows)}", _measured(first), "", run.metrics["model"]["digest"]])
    column = percent if run.metrics["kind"] == "classes" else score
    columns = [words("model"), column(first.metric), count("epoch kept"), words("digest")]
    how = {
        "seeds": "trained with seeds of their own",
        "folds": "each trained without one fold of the training speakers",
    }
    caption = f"The members, {how[average['kind']]}, and their average, on the test split with 95% intervals."
    return [
        *_estimate(average.get("estimate")),
        Table("ensemble", columns, rows, caption),
        *_out_of_fold(run.metrics),
    ]


def _estimate(estimate: JsonObject | None) -> list[Block]:
    """The estimate on new speakers by the search that chose the settings; nothing without such a search."""
    if estimate is None:
        return []
    rows: list[list[Cell]] = []
    for name, label in METRIC_LABELS.items():
        row = estimate["metrics"][name]
        interval = None if row["low"] is None else (row["low"], row["high"])
        rows.append([label, ScoreCell(row["value"], interval, row["undefined"])])
    columns = [words("score"), percent("estimate")]
    caption = f"What to expect on new speakers, with 95% intervals: {estimate['name']}. {estimate['how']}"
    return [Table("ensemble_estimate", columns, rows, caption)]


def _out_of_fold(metrics: JsonObject) -> list[Block]:
    held_out = metrics["ensemble"].get("out_of_fold")
    if held_out is None:
        return []
    score = member_headline(metrics, held_out)
    return [
        Paragraph(
            f"Out of fold: {score.metric} {score.form(score.value)} (95% interval {score.within}), of {held_out['computed_on']}. That is the score of "
            "single models; for a new speaker all of them are averaged. out_of_fold.parquet has the predictions."
        )
    ]


def member_headline(metrics: JsonObject, part: JsonObject) -> Headline:
    """The leading score of a part of an ensemble, which has `pooled`."""
    return model_headline({**metrics, "pooled": part["pooled"]})


def _measured(headline: Headline) -> ScoreCell:
    return ScoreCell(headline.value, headline.interval, headline.why)
