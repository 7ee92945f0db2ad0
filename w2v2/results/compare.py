"""A comparison of finished runs: metrics.json, the page, and lines for the terminal."""

import logging
from collections.abc import Mapping, Sequence

from w2v2.config.compare import CompareConfig
from w2v2.errors import UserError
from w2v2.evaluation import comparison
from w2v2.evaluation.bootstrap import Scored, intervals
from w2v2.evaluation.direction import better_word, sign
from w2v2.evaluation.scores import number_text, within_text
from w2v2.json_types import Json, JsonObject
from w2v2.machine import describe_run
from w2v2.results.compared_runs import ComparedRun, all_names, corpus_of, read_runs, scored_run
from w2v2.storage import run_directory
from w2v2.wording import counted

logger = logging.getLogger(__name__)

LEADING = {"classes": "uar", "multi_label": "macro_auc", "regression": "ccc", "transcript": "cer"}
WRITES = ("config.yaml", "metrics.json", "report.html", "plots/", "tables/")


def plan_comparison(config: CompareConfig) -> dict[str, Json]:
    """The plan of a comparison, logged and returned; nothing is written. Raises UserError where the job would stop."""
    runs = read_runs(config.runs)
    _, _, metric = _scored(runs, config)
    first = next(iter(runs.values()))
    clips, speakers = len(first.clips), len(set(first.clips["speaker"].to_pylist()))
    for name, run in runs.items():
        logger.info("plan: %s: %s, a run of %s, by %s", name, run.uri, run.metrics["job"], run.method)
    logger.info(
        "plan: %s over %s of %s; ranked by %s",
        first.kind,
        counted(clips, "clips"),
        counted(speakers, "speakers"),
        metric,
    )
    logger.info("plan: would write in %s: %s", config.run, ", ".join(WRITES))
    methods = {name: run.method for name, run in runs.items()}
    return {"runs": methods, "metric": metric, "num_clips": clips, "num_speakers": speakers}


def compare_runs(config: CompareConfig) -> dict[str, Json]:
    """The comparison as plain JSON, after metrics.json and the page have been written.

    Raises UserError for runs that cannot be compared, and for another metric than theirs.
    """
    runs = read_runs(config.runs)
    scored, metrics, metric = _scored(runs, config)
    written = _compared(runs, scored, metrics, metric, seed=config.seed) | {"made": describe_run()}
    run_directory.write_metrics(config.run, written)
    # Imported here: matplotlib takes a second, which an error need not wait for.
    from w2v2.reports.compare_page import write_compare_report

    page = write_compare_report(config.run)
    logger.info("%s", comparison_lines(written))
    logger.info("page: %s", page)
    return written


def _scored(
    runs: Mapping[str, ComparedRun], config: CompareConfig
) -> tuple[dict[str, Scored], list[str], str]:
    """The scores of each run, the names of all metrics, and the one that ranks the runs."""
    names = all_names(list(runs.values()))
    kind = next(iter(runs.values())).kind
    scored = {name: scored_run(run, names, seed=config.seed) for name, run in runs.items()}
    metrics = [name for name in next(iter(scored.values())).bounds if ":" not in name]
    metric = config.metric or LEADING[kind]
    # Regressions are ranked by correlations, not by errors; transcripts only have errors.
    ranked = metrics if kind == "transcript" else [name for name in metrics if sign(name) > 0]
    if metric not in ranked:
        raise UserError(f"metric is {metric!r}, wanted one of {', '.join(ranked)}")
    return scored, metrics, metric


def _compared(
    runs: Mapping[str, ComparedRun],
    scored: Mapping[str, Scored],
    metrics: Sequence[str],
    metric: str,
    *,
    seed: int,
) -> dict[str, Json]:
    ranking = comparison.ranking(scored, metric, seed=seed)
    order = [row["name"] for row in ranking]
    # A speaker need not have every class, so classes are compared by the fraction right.
    speaker_metric = "accuracy" if "accuracy" in metrics else metric
    by_speaker = {name: comparison.by_speaker(scored[name], speaker_metric) for name in order}

    def differences(better: str, other: str) -> dict[str, Json]:
        """How much higher the better run scores, and where errors are counted, how much lower."""
        higher, lower = (better, other) if sign(metric) > 0 else (other, better)
        return _selected(comparison.differences(scored[higher], scored[lower], seed=seed), metrics)

    first = scored[order[0]]
    return {
        "job": "compare",
        "corpus": corpus_of(runs[order[0]]),
        "kind": runs[order[0]].kind,
        "metric": metric,
        "metrics": list(metrics),
        "num_clips": len(runs[order[0]].clips),
        "num_speakers": len(first.speakers),
        "runs": {name: _run(runs[name], scored[name], metrics, seed=seed) for name in order},
        "ranking": ranking,
        "differences": [
            {"better": better, "other": other} | differences(better, other)
            for i, better in enumerate(order)
            for other in order[i + 1 :]
        ],
        "speaker_metric": speaker_metric,
        "by_speaker": by_speaker,
        "wins": {
            name: comparison.wins(by_speaker[order[0]], by_speaker[name], metric=speaker_metric)
            for name in order[1:]
        },
    }


def _run(run: ComparedRun, scored: Scored, metrics: Sequence[str], *, seed: int) -> dict[str, Json]:
    plain = {name: comparison.as_json(interval) for name, interval in intervals(scored, seed=seed).items()}
    return {
        "uri": run.uri,
        "job": run.metrics["job"],
        "method": run.method,
        "computed_on": run.metrics["computed_on"],
        "scores": _selected(plain, metrics),
    }


def _selected(tree: JsonObject, metrics: Sequence[str]) -> dict[str, Json]:
    return {name: tree[name] for name in metrics}


def comparison_lines(metrics: JsonObject) -> str:
    """The ranking, and the differences from the best, as lines."""
    metric, width = metrics["metric"], max(map(len, metrics["runs"])) + 2
    best = metrics["ranking"][0]["name"]
    from_best = {row["other"]: row[metric] for row in metrics["differences"] if row["better"] == best}
    by = f"best is {better_word(metric)} by"
    lines = [
        "",
        f"{len(metrics['runs'])} runs over {counted(metrics['num_clips'], 'clips')} of {counted(metrics['num_speakers'], 'speakers')}, by {metric}",
        f"{'':{width}}{metric:>10}  {'95 % interval':>18}  {by:>18}  {'95 % interval':>18}  speakers won, lost",
    ]
    for row in metrics["ranking"]:
        score = metrics["runs"][row["name"]]["scores"][metric]
        text = f"{row['name']:{width}}{number_text(score['value']):>10}  {_within(score):>18}"
        if row["name"] != best:
            gain, wins = from_best[row["name"]], metrics["wins"][row["name"]]
            text += (
                f"  {number_text(gain['value']):>18}  {_within(gain):>18}  {wins['wins']}, {wins['losses']}"
            )
        lines.append(text)
    as_good = [row["name"] for row in metrics["ranking"][1:] if not row["is_worse"]]
    lines.append(
        f"cannot be distinguished from {best}: {', '.join(as_good)}"
        if as_good
        else f"{best} is better than every other run"
    )
    return "\n".join(lines)


def _within(row: JsonObject) -> str:
    return within_text(row["interval"], row["undefined"])
