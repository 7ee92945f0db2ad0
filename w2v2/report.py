"""Tables and figures in, one HTML page out: no network, no scripts, every word from data escaped.

A function that ends in _tag returns HTML and escapes what it is given; a section is a heading and its HTML.
"""

import html
import json
import logging
import math
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from matplotlib.figure import Figure

from w2v2 import plots, storage

logger = logging.getLogger(__name__)

MIN_TRIALS_FOR_IMPORTANCE = 5
NUM_TRIALS_SHOWN = 20
NUM_MISTAKES_SHOWN = 5

Cell = str | int | float

LIGHT = (
    "--ink:#1c2024;--muted:#5c656d;--rule:#d9dcdf;--paper:#fdfdfc;--tint:#f3f4f4;--cell:#00508a;"
    "--blue:#0072b2;--vermillion:#c75300;--green:#008a65;--purple:#b8608f;--sky:#3a9fd6;--orange:#c98600"
)
DARK = (
    "--ink:#e3e6e8;--muted:#98a2aa;--rule:#363d43;--paper:#14171a;--tint:#1d2125;--cell:#5fb2e8;"
    "--blue:#5fb2e8;--vermillion:#f28c4f;--green:#43c79d;--purple:#dda3c4;--sky:#93d2f5;--orange:#efbd52"
)
CSS = (
    f":root{{color-scheme:light dark;{LIGHT}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{DARK}}}}}"
    """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);counter-reset:figure table;
 font:1.0625rem/1.55 Charter,"Bitstream Charter","Iowan Old Style","Source Serif 4",Georgia,serif}
main{max-width:62rem;margin:0 auto;padding:2.2rem 1.2rem 4rem}
.kicker,figcaption,.caption,table,dl,.score small,.verdict,code,summary,footer{
 font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.kicker{margin:0;font-size:.8rem;letter-spacing:.04em;color:var(--muted)}
h1{font-size:1.9rem;line-height:1.2;font-weight:600;margin:.3rem 0 1.6rem;overflow-wrap:anywhere}
h2{font-size:1.3rem;font-weight:600;margin:3.2rem 0 .8rem;padding-top:.7rem;border-top:1px solid var(--rule)}
p,ul{max-width:42rem;margin:.7rem 0;overflow-wrap:anywhere}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:0 2.4rem;
 align-items:start}
.scores{display:flex;flex-wrap:wrap;gap:.8rem 1.6rem;align-items:baseline;margin-bottom:1rem}
.score{font-size:4.4rem;line-height:1;font-weight:600;color:var(--blue);letter-spacing:-.02em;
 font-variant-numeric:lining-nums}
.score+.score{font-size:2.3rem;color:var(--vermillion)}
.score small{display:block;font-size:.95rem;line-height:1.4;letter-spacing:0;color:var(--ink);font-weight:400;
 margin-top:.5rem;max-width:12.4rem}
dl.facts{display:flex;flex-wrap:wrap;gap:.8rem 2.2rem;margin:1.2rem 0 0;padding:.9rem 0 0;
 border-top:1px solid var(--rule)}
dl.facts div{display:flex;flex-direction:column-reverse}
dl.facts dt{font-size:.8rem;color:var(--muted)}
dl.facts dd{margin:0;font-size:1.25rem;font-variant-numeric:lining-nums tabular-nums}
.verdict{font-weight:600}
ul.checks{list-style:none;padding:0}
ul.checks li{padding-left:1.6rem;position:relative;margin:.35rem 0}
ul.checks li::before{position:absolute;left:.2rem;font-weight:700;font-family:system-ui,sans-serif}
ul.checks .good::before{content:"\\2713";color:var(--green)}
ul.checks .care::before{content:"!";left:.45rem;color:var(--vermillion)}
figure{margin:1rem 0 1.6rem;counter-increment:figure;break-inside:avoid}
figure svg{display:block;width:100%;height:auto;max-width:34rem}
figure svg text{
 font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif!important}
figcaption,.caption{font-size:.85rem;line-height:1.45;color:var(--muted);max-width:38rem;text-align:left}
figcaption{margin-top:.4rem}
figcaption::before{content:"Figure " counter(figure) ". ";font-weight:600;color:var(--ink)}
.table{margin:1rem 0 1.6rem;counter-increment:table}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;line-height:1.35;
 font-variant-numeric:lining-nums tabular-nums; border-bottom:1px solid var(--muted)}
.caption{margin:0 0 .5rem}
.caption::before{content:"Table " counter(table) ". ";font-weight:600;color:var(--ink)}
th,td{padding:.28rem .8rem .28rem 0;text-align:left;vertical-align:top;overflow-wrap:break-word;
 max-width:24rem}
thead th{border:solid var(--muted);border-width:1px 0;font-weight:600;vertical-align:bottom}
tbody tr+tr td{border-top:1px solid var(--rule)}
.n{text-align:right;white-space:nowrap}
pre{font-size:.78rem;line-height:1.45;background:var(--tint);padding:.8rem 1rem;overflow-x:auto;
 margin:.7rem 0}
summary{cursor:pointer;font-size:.9rem}
footer{margin-top:3rem;font-size:.8rem;color:var(--muted)}
@media (max-width:40rem){h1{font-size:1.5rem}.score{font-size:3.6rem}.score+.score{font-size:2rem}
 main{padding-top:1.4rem}}
@media print{body{font-size:10pt}main{max-width:none;padding:0}h2{break-after:avoid}tr{break-inside:avoid}
 details::details-content{content-visibility:visible;height:auto}pre{white-space:pre-wrap}}
"""
)


@dataclass(frozen=True, kw_only=True)
class TuneRun:
    """What jobs/tune_folds.py left in a run directory, read into memory."""

    uri: str
    metrics: dict[str, Any]
    config: dict[str, Any]
    config_text: str
    trials: pa.Table
    folds: pa.Table
    curves: pa.Table
    predictions: pa.Table
    manifest: pa.Table
    rejects: pa.Table

    @property
    def metric(self) -> str:
        """The metric that the search maximised."""
        return self.metrics["metric"]

    @property
    def best_folds(self) -> pa.Table:
        """The rows of folds.parquet of the best trial, by fold."""
        return self.folds.filter(pc.equal(self.folds["trial"], self.metrics["trial"])).sort_by("fold")


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
        ("The search", search(tune, figures)),
        ("Training", training(tune, figures)),
        ("Trials", trials(tune)),
        ("Data", data(tune)),
        ("Provenance", provenance(tune)),
    ]
    uri = storage.join(tune.uri, "report.html")
    storage.write_text(uri, page(title, sections, kicker=f"w2v2 {tune.metrics['job']} in {tune.uri}"))
    logger.info("wrote %s and %d plots", uri, len(figures))
    return uri


def read_tune_run(uri: str) -> TuneRun:
    """The tables, metrics and config of a run directory; a file that is missing raises StorageError."""

    def table(name: str) -> pa.Table:
        data = storage.read_bytes(storage.join(uri, f"{name}.parquet"))
        return _without_nan(pq.read_table(pa.BufferReader(data)))

    config_text = storage.read_text(storage.join(uri, "config.yaml"))
    return TuneRun(
        uri=uri,
        metrics=json.loads(
            storage.read_text(storage.join(uri, "metrics.json")), parse_constant=lambda _: None
        ),
        config=yaml.safe_load(config_text),
        config_text=config_text,
        trials=table("trials"),
        folds=table("folds"),
        curves=table("curves"),
        predictions=table("predictions"),
        manifest=table("manifest"),
        rejects=table("rejects"),
    )


def _without_nan(table: pa.Table) -> pa.Table:
    # Undefined is null in what follows; a writer that went through numpy or pandas may have left NaN.
    for i, column in enumerate(table.schema):
        if pa.types.is_floating(column.type):
            values = table.column(i)
            table = table.set_column(i, column, pc.if_else(pc.is_nan(values), None, values))
    return table


def tune_figures(run: TuneRun) -> dict[str, Figure]:
    """All figures of a tune report by file name; importance is left out where it cannot be computed."""
    metrics, metric, chance = run.metrics, run.metric, chance_level(run.metrics, run.metric)
    speaker, intervals, space = speaker_metric(run), run.metrics["pooled"]["intervals"], searched(run)
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
        "history": plots.history(run.trials, metric=metric),
        "fold_map": plots.fold_map(run.folds, run.trials, metric=metric, num_folds=num_folds(run)),
        "scatter": plots.scatter(run.trials, space, metric=metric, best=metrics["trial"]),
        "learning_curves": plots.learning_curves(run.curves, trial=metrics["trial"]),
        "seconds": plots.seconds_by_trial(run.trials),
    }
    shares, _ = importances(run.trials, space, metric=metric)
    return figures | ({"importance": plots.importance(shares)} if shares else {})


# ---- the parts of a page -------------------------------------------------------------------------


def page(title: str, sections: Sequence[tuple[str, str]], *, kicker: str) -> str:
    """One HTML document; sections are (heading, HTML), a heading "" makes none."""
    body = "".join(
        f"<section>{_tag('h2', heading) if heading else ''}{inner}</section>" for heading, inner in sections
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        # The page itself forbids scripts and every request, whatever a label may contain.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"{_tag('title', title)}<style>{CSS}</style></head><body><main>"
        f"{_tag('p', kicker, css='kicker')}{_tag('h1', title)}{body}</main></body></html>"
    )


def figure_tag(figure: Figure, *, name: str, caption: str) -> str:
    """The figure as inline SVG in the page's colours; name must be unique on the page."""
    picture = plots.svg(figure, name=name).replace(
        "<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1
    )
    return f'<figure id="{html.escape(name)}">{picture}{_tag("figcaption", caption)}</figure>'


def table_tag(head: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str) -> str:
    """A table that scrolls sideways on a narrow screen; columns of numbers are set flush right."""
    cells = [[_cell_text(cell) for cell in row] for row in rows]
    number = re.compile(r"[-+]?\d[\d.,e+-]*%?( \u00b1 .*| s| min| h)?|undefined|")
    right = [all(number.fullmatch(row[i]) for row in cells) for i in range(len(head))]
    marks = ['class="n"' if is_right else "" for is_right in right]

    def line(tag: str, row: Sequence[str]) -> str:
        inner = (f"<{tag} {mark}>{html.escape(c)}</{tag}>" for mark, c in zip(marks, row, strict=True))
        return f"<tr>{''.join(inner)}</tr>"

    body = "".join(line("td", row) for row in cells)
    table = f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"
    return f'<div class="table">{_tag("p", caption, css="caption")}<div class="scroll">{table}</div></div>'


def paragraph_tag(text: str, *, css: str = "") -> str:
    """A paragraph of plain text."""
    return _tag("p", text, css=css)


def facts_tag(facts: Mapping[str, str]) -> str:
    """A row of numbers with their names under them."""
    items = (f"<div>{_tag('dt', name)}{_tag('dd', value)}</div>" for name, value in facts.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def pair_tag(*columns: str) -> str:
    """HTML side by side on a wide screen, one under the other on a phone."""
    return f'<div class="pair">{"".join(f"<div>{column}</div>" for column in columns)}</div>'


def percent(value: float | None, *, why: str = "") -> str:
    """A fraction as "58.3%"; None is "undefined", followed by why."""
    if value is None:
        return f"undefined ({why})" if why else "undefined"
    return f"{100 * value:.1f}%"


def duration(seconds: float | None) -> str:
    """Seconds as "7.2 s", "3.4 min" or "2.1 h"."""
    if seconds is None:
        return "undefined"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _tag(name: str, text: str, *, css: str = "") -> str:
    return f"<{name}{f' class={css!r}' if css else ''}>{html.escape(text)}</{name}>"


def _cell_text(cell: Cell) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


# ---- what the tables say -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Check:
    """One reason to trust a score (good), or to take care."""

    is_good: bool
    text: str


def checks(run: TuneRun) -> list[Check]:
    """Every check of the page: of the data first, then of the score."""
    pairs = [*_data_checks(run), *_score_checks(run)]
    return [Check(is_good=is_good, text=good if is_good else care) for is_good, good, care in pairs]


def _data_checks(run: TuneRun) -> Iterator[tuple[bool, str, str]]:
    torn, copied = _in_two_folds(run.manifest, "speaker"), _in_two_folds(run.manifest, "audio_digest")
    num_speakers, num_rejects = run.metrics["data"]["num_speakers"], run.rejects.num_rows
    num_clips = num_rejects + run.metrics["data"]["num_clips"]
    is_tiny, is_demo = run.metrics["encoder"]["name"] == "tiny", run.config["data"]["uri"] == "demo"
    made_up = " and ".join(["random weights"] * is_tiny + ["made-up talkers"] * is_demo)
    rejected = (
        f"{num_rejects} of {num_clips} clips could not be used ({percent(num_rejects / max(num_clips, 1))})."
    )
    yield (
        not torn,
        f"Speaker-independent: "
        f"each of the {num_speakers} speakers was predicted by a model that never heard them.",
        f"Not speaker-independent: in more than one fold are the speakers {_some(torn)}.",
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
        else f"The score selected on the other folds is undefined: {_why_no_choice(selection)}.",
    )
    yield (
        num_speakers >= 10,
        f"The interval resamples {num_speakers} whole speakers, not clips.",
        f"The interval resamples only {num_speakers} speakers and is itself rough.",
    )
    never = pooled["never_predicted"]
    yield not never, "Every class is predicted at least once.", f"Never predicted: {_some(never)}."
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


def _in_two_folds(manifest: pa.Table, column: str) -> list[str]:
    folds = defaultdict(set)
    for value, fold in zip(manifest[column].to_pylist(), manifest["fold"].to_pylist(), strict=True):
        folds[value].add(fold)
    return sorted(value for value, some in folds.items() if value is not None and len(some) > 1)


def _some(names: Sequence[str], *, num_shown: int = 6) -> str:
    more = len(names) - num_shown
    return ", ".join(names[:num_shown]) + (f" and {more} more" if more > 0 else "")


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


def speaker_metric(run: TuneRun) -> Literal["accuracy", "uar"]:
    """What a speaker is scored by: accuracy where the search maximised it, UAR otherwise."""
    return "accuracy" if run.metric == "accuracy" else "uar"


def searched(run: TuneRun) -> dict[str, dict[str, Any]]:
    """The searched fields that have a column in trials.parquet, by path."""
    space = run.config["search"]["space"] or {}
    return {
        path: dimension for path, dimension in space.items() if f"params_{path}" in run.trials.column_names
    }


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


# ---- the sections of a tune report ---------------------------------------------------------------


def headline(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """The score with interval, chance and sizes, what makes it optimistic, and what asks for care."""
    metrics, name = run.metrics, plots.METRICS[run.metric]
    pooled, selection, sizes = metrics["pooled"], metrics["selection"], metrics["data"]
    interval = pooled["intervals"][run.metric]
    between = (
        " to ".join(percent(end) for end in interval) if interval else "undefined (fewer than two speakers)"
    )
    chance = percent(chance_level(metrics, run.metric), why="no clip was held out")
    pooled_text = f"{name}, best trial; 95% interval {between}; chance {chance}"
    why = "" if pooled[run.metric] is not None else ", undefined: no clip was held out"
    nested_text = f"{name}, selected on the other folds"
    if selection["nested"] is None:
        nested_text += f", undefined: {_why_no_choice(selection)}"
    scores = _score_tag(pooled[run.metric], pooled_text + why) + _score_tag(selection["nested"], nested_text)
    statement = (
        f"The best of {selection['num_trials']} trials (trial {metrics['trial']}, mean over the folds "
        f"{percent(selection['best'])}) is an optimistic estimate: the folds that score it also chose it."
    )
    if selection["nested"] is not None:
        statement += " The score selected on the other folds is nearly free of that."
    facts = {
        "clips": f"{sizes['num_clips']}",
        "speakers": f"{sizes['num_speakers']}",
        "folds": f"{num_folds(run)}",
        "classes": f"{len(metrics['classes'])}",
        "trials": f"{selection['num_trials']}",
        "of audio": duration(3600 * sizes["hours"]),
    }
    caption = (
        f"{name} of all held-out clips with its 95% interval (bootstrap over speakers), of each fold, and of "
        "the trials selected on the other folds. Dashed: chance."
    )
    left = f'<div class="scores">{scores}</div>' + paragraph_tag(statement) + _verdict_tag(checks(run))
    return pair_tag(left, _shown(figures, "forest", caption)) + facts_tag(facts)


def _score_tag(score: float | None, text: str) -> str:
    return f'<div class="score">{html.escape(percent(score))}{_tag("small", text)}</div>'


def num_folds(run: TuneRun) -> int:
    """How many folds a complete trial runs."""
    return len(run.metrics["folds"][run.metric]["values"])


def _verdict_tag(checks: Sequence[Check]) -> str:
    care = [check for check in checks if not check.is_good]
    text = (
        f"All {len(checks)} checks passed."
        if not care
        else f"Take care ({len(care)} of {len(checks)} checks):"
    )
    return paragraph_tag(text, css="verdict") + _checks_tag(care)


def _checks_tag(checks: Sequence[Check]) -> str:
    items = "".join(_tag("li", check.text, css="good" if check.is_good else "care") for check in checks)
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
    return _checks_tag(checks(run)) + paragraph_tag(meaning)


def _why_no_choice(selection: Mapping[str, Any]) -> str:
    return "fewer than two trials are complete" if selection["num_complete"] < 2 else selection["note"]


def folds_and_speakers(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """The spread over folds and over speakers, worst and best named."""
    name, trial = plots.METRICS[speaker_metric(run)], run.metrics["trial"]
    by_fold = f"{plots.METRICS[run.metric]} of each held-out fold, trial {trial}."
    by_speaker = f"{name} of each speaker when held out, trial {trial}, best on top."
    left = _shown(figures, "folds", by_fold) + _folds_table(run)
    return paragraph_tag(_spread(run)) + pair_tag(left, _shown(figures, "speakers", by_speaker))


def _shown(figures: Mapping[str, Figure], name: str, caption: str) -> str:
    return figure_tag(figures[name], name=name, caption=caption)


def _spread(run: TuneRun) -> str:
    metric, by_speaker = speaker_metric(run), run.metrics["by_speaker"]
    known = sorted((row[metric], speaker) for speaker, row in by_speaker.items() if row[metric] is not None)
    if not known:
        return f"{plots.METRICS[metric]} by speaker is undefined: no clip was held out."
    (low, worst), (high, best) = known[0], known[-1]
    num_clips, middle = (
        median(row["num_clips"] for row in by_speaker.values()),
        median(score for score, _ in known),
    )
    # Half the width of the 95 % binomial interval of a median speaker.
    luck = 196 * math.sqrt(middle * (1 - middle) / num_clips)
    return (
        f"Worst speaker: {worst} ({percent(low)}). Best speaker: {best} ({percent(high)}). "
        f"With {num_clips:g} clips a speaker, luck alone moves the score of one by about {luck:.0f} points "
        "either way."
    )


def _folds_table(run: TuneRun) -> str:
    speakers = defaultdict(set)
    for row in run.manifest.select(["fold", "speaker"]).to_pylist():
        speakers[row["fold"]].add(row["speaker"])
    rows: list[list[Cell]] = []
    for row in run.best_folds.to_pylist():
        held_out = _some(sorted(speakers[row["fold"]]))
        rows.append([row["fold"], *(percent(row[m]) for m in plots.METRICS), row["num_held_out"], held_out])
    for which in ("mean", "std"):
        rows.append([which, *(percent(run.metrics["folds"][m][which]) for m in plots.METRICS), "", ""])
    head = ["fold", *plots.METRICS.values(), "clips", "speakers held out"]
    why = " std is undefined for one fold." if len(rows) == 3 else ""
    return table_tag(head, rows, caption=f"Scores on held-out speakers, trial {run.metrics['trial']}.{why}")


def classes(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """Confusion and recall by class; classes never predicted and classes without clips are named."""
    pooled, names = run.metrics["pooled"], run.metrics["classes"]
    never, absent, num_targets = (
        pooled["never_predicted"],
        pooled["absent"],
        list(map(sum, pooled["confusion"])),
    )
    num_predicted = [sum(column) for column in zip(*pooled["confusion"], strict=True)]
    recalls = [percent(pooled["recall"][name]) for name in names]
    rows = list(zip(names, recalls, num_targets, num_predicted, strict=True))
    scores = (f"{name} {percent(pooled[m], why='no clip was held out')}" for m, name in plots.METRICS.items())
    text = f"Never predicted: {', '.join(never)}." if never else "Every class is predicted at least once."
    if absent:
        text += f" Recall is undefined for {', '.join(absent)}: no held-out clip has the class."
    right = (
        paragraph_tag(f"Over all {pooled['num_clips']} held-out clips: {', '.join(scores)}.")
        + table_tag(
            ["class", "recall", "clips", "predicted"], rows, caption="Recall by class, all folds together."
        )
        + paragraph_tag(text)
    )
    caption = "Held-out clips of all folds: counts, and as colour the fraction of the target class."
    return pair_tag(_shown(figures, "confusion", caption), right) + _surest_mistakes(run)


def _surest_mistakes(run: TuneRun) -> str:
    wrong = [
        (row[f"prob_{row['predicted']}"], row["clip_id"], row["speaker"], row["target"], row["predicted"])
        for row in run.predictions.to_pylist()
        if row["target"] != row["predicted"]
    ]
    wrong.sort(key=lambda row: (-row[0], row[1]))
    rows = [[*words, percent(probability)] for probability, *words in wrong[:NUM_MISTAKES_SHOWN]]
    head = ["clip", "speaker", "target", "predicted", "probability"]
    caption = "The surest mistakes: listen to these first, a label may be wrong."
    return table_tag(head, rows, caption=caption) if rows else ""


def search(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """The course of the search, what mattered in it, and how far the best trial stands out."""
    name, space = plots.METRICS[run.metric], searched(run)
    _, note = importances(run.trials, space, metric=run.metric)
    left = _shown(
        figures, "history", f"{name} of each trial; a pruned trial has the mean of the folds it ran."
    )
    if "importance" in figures:
        left += _shown(figures, "importance", f"Hyperparameter importance (fANOVA). {note}")
    else:
        left += paragraph_tag(note)
    caption = f"{name} against each hyperparameter; orange: the best trial, hollow: pruned."
    return paragraph_tag(_outcome(run)) + pair_tag(left, _shown(figures, "scatter", caption) if space else "")


def _outcome(run: TuneRun) -> str:
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
        f"errors of the best (trials {_some([str(trial) for trial in tied])}): their hyperparameters are as "
        "good a choice."
    )


def training(run: TuneRun, figures: Mapping[str, Figure]) -> str:
    """Learning curves of the best trial, the time it took, and what pruning saved."""
    curves = f"Training loss (mean cross-entropy) and training UAR of trial {run.metrics['trial']}, by fold."
    fold_map = "Folds that each trial ran, darker for a higher score; empty: not run."
    right = _shown(figures, "fold_map", fold_map) + _shown(
        figures, "seconds", "Time that the folds of each trial took."
    )
    return paragraph_tag(_saved(run)) + pair_tag(_shown(figures, "learning_curves", curves), right)


def _saved(run: TuneRun) -> str:
    pruned = [row["folds_done"] for row in run.trials.to_pylist() if row["state"] == "PRUNED"]
    num_saved = num_folds(run) * len(pruned) - sum(pruned)
    seconds = [row["seconds"] for row in run.folds.to_pylist() if row["seconds"] is not None]
    text = f"Pruning saved {num_saved} of {num_folds(run) * run.trials.num_rows} folds"
    if not seconds:
        return f"{text}."
    saved, usual = duration(num_saved * mean(seconds)), duration(median(seconds))
    return f"{text}, about {saved} of work. A fold took {usual} (median)."


def trials(run: TuneRun) -> str:
    """The best hyperparameters with the range searched, the best 20 trials, and why trials failed."""
    space, metrics = searched(run), run.metrics
    best = [
        [path, _value(value), *_range(space.get(path), value)] for path, value in metrics["params"].items()
    ]
    order, score = ("COMPLETE", "PRUNED", "RUNNING", "FAIL"), f"{run.metric}_mean"
    rows = run.trials.to_pylist()
    rows.sort(key=lambda row: (order.index(row["state"]), -(row[score] or 0), row["trial"]))
    shown = [_trial_row(row, space, metric=run.metric) for row in rows[:NUM_TRIALS_SHOWN]]
    failed = [
        [row["trial"], plots.short(row["error"] or "", num_characters=300)]
        for row in rows
        if row["state"] == "FAIL"
    ]
    head = [
        "trial",
        "state",
        *plots.METRICS.values(),
        "folds",
        "time",
        *(path.partition(".")[2] for path in space),
    ]
    caption = (
        f"The first {len(shown)} of {len(rows)} trials: mean \u00b1 standard deviation over the folds they "
        "ran; undefined where no fold was finished."
    )
    return (
        table_tag(
            ["field", "best", "searched", ""], best, caption=f"Hyperparameters of trial {metrics['trial']}."
        )
        + table_tag(head, shown, caption=caption)
        + (table_tag(["trial", "error"], failed, caption="Failed trials.") if failed else "")
    )


def _trial_row(row: Mapping[str, Any], space: Mapping[str, Any], *, metric: str) -> list[Cell]:
    scores = []
    for name in plots.METRICS:
        std = row[f"{name}_std"] if name == metric else None
        scores.append(percent(row[f"{name}_mean"]) + ("" if std is None else f" \u00b1 {100 * std:.1f}"))
    params = [_value(row[f"params_{path}"]) for path in space]
    return [row["trial"], row["state"].lower(), *scores, row["folds_done"], duration(row["seconds"]), *params]


def _value(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _range(dimension: Mapping[str, Any] | None, value: Any) -> tuple[str, str]:
    if dimension is None:
        return "", ""
    if dimension.get("choices"):
        return ", ".join(str(choice) for choice in dimension["choices"]), ""
    low, high, is_log = float(dimension["low"]), float(dimension["high"]), bool(dimension.get("log"))
    place = math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)
    text = f"{low:g} to {high:g}{', log' if is_log else ''}"
    return text, "at the edge: search wider" if not 0.03 <= place <= 0.97 else ""


def data(run: TuneRun) -> str:
    """Sizes, clips by class and fold, and the clips that could not be used, by reason."""
    sizes, names = run.metrics["data"], run.metrics["classes"]
    text = (
        f"{sizes['num_clips']} clips of {sizes['num_speakers']} speakers, {sizes['hours']:.2f} hours, "
        f"from {sizes['uri']}."
    )
    lengths = [seconds for seconds in run.manifest["duration_s"].to_pylist() if seconds is not None]
    if lengths:
        text += f" Clips last {min(lengths):.2f} to {max(lengths):.2f} s, median {median(lengths):.2f} s."
    counts = Counter(
        (row["label"], row["fold"]) for row in run.manifest.select(["label", "fold"]).to_pylist()
    )
    folds = sorted({fold for _, fold in counts})
    rows = [[name, *(counts[name, f] for f in folds), sum(counts[name, f] for f in folds)] for name in names]
    rows.append(["all", *(sum(counts[name, f] for name in names) for f in folds), sum(counts.values())])
    head = ["class", *(f"fold {fold}" for fold in folds), "all"]
    table = table_tag(head, rows, caption="Clips by class and fold.")
    return paragraph_tag(text) + table + _rejects_table(run.rejects)


def _rejects_table(rejects: pa.Table) -> str:
    by_kind: dict[str, list[str]] = defaultdict(list)
    for row in rejects.to_pylist():
        by_kind[row["reason"].partition(":")[0]].append(f"{row['clip_id']} ({row['reason']})")
    if not by_kind:
        return paragraph_tag("No clip was rejected.")
    kinds = sorted(by_kind.items(), key=lambda item: -len(item[1]))
    rows: list[list[Cell]] = [[kind, len(clips), _some(clips, num_shown=3)] for kind, clips in kinds]
    caption = f"{rejects.num_rows} rejected clips by reason; rejects.parquet has them all."
    return table_tag(["reason", "clips", "examples"], rows, caption=caption)


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
        + _tag("pre", command)
        + f"<details><summary>config.yaml</summary>{_tag('pre', run.config_text)}</details>"
    )
