"""The index of a folder of runs: their pages, newest first, each with its first number."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import yaml

from w2v2.job_commands import command_of
from w2v2.json_types import JsonObject
from w2v2.redaction import redacted, without_home
from w2v2.reports.blocks import Cell, Link, Paragraph, Section, Table, count, words
from w2v2.reports.drawing import page_html
from w2v2.reports.earlier_names import with_present_names
from w2v2.reports.estimate import expected_headline, model_headline, search_headline
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)

NAME = "index.html"
_OURS = '<meta name="generator" content="w2v2">'
MAX_RUNS = 1000


@dataclass(frozen=True, kw_only=True)
class IndexedRun:
    """A finished run as a line of the index."""

    name: str
    metrics: JsonObject
    uri: str = ""
    """The uri of its data."""

    @property
    def date(self) -> str:
        """The date on which the run first ended; empty for runs that have not recorded it."""
        return str(self.metrics.get("made", {}).get("date", ""))[:16].replace("T", " ")


def write_index(run: str) -> str:
    """The path of index.html in the folder of a local run directory, once it is rewritten; "" where it is not.

    It is not written into a home directory or the root, nor over a file that is no such index, nor where this user may not
    write.
    """
    if storage.is_remote(run):
        return ""
    folder = Path(run).resolve().parent
    place = folder / NAME
    try:
        if folder in (Path.home(), Path(folder.anchor)) or not _is_ours(place):
            return ""
        storage.write_text(str(place), redacted(index_html(folder)))
    except (OSError, storage.StorageError) as error:
        logger.info("%s is not written: %s", place, error)
        return ""
    return str(place)


def _is_ours(place: Path) -> bool:
    """Whether there is no such file yet, or one that write_index has written."""
    return not place.exists() or _OURS in place.read_text(errors="replace")[:2000]


def index_html(folder: Path) -> str:
    """The page over all runs of a folder that have a page."""
    runs = sorted(_runs(folder), key=lambda run: (run.date, run.name), reverse=True)
    columns = [words("run"), words("job"), words("first number"), words("95% interval")]
    columns += [words("data"), count("clips"), words("date (UTC)")]
    rows = [_row(run) for run in runs]
    table = Table("runs", columns, rows, "Finished runs, newest first.", is_exported=False)
    note = f"To compare runs over the same clips: {command_of('compare')} run run ..."
    section = Section("", [table, Paragraph(note)])
    return page_html(f"Runs in {folder.name}", [section], kicker=f"w2v2, {folder}")


def _runs(folder: Path) -> list[IndexedRun]:
    """The runs whose metrics can be read; one that is being written or damaged is left out."""
    runs = []
    for page in sorted(folder.glob("*/report.html"))[:MAX_RUNS]:
        try:
            metrics = json.loads((page.parent / "metrics.json").read_text())
        except (OSError, ValueError):
            continue
        if isinstance(metrics, dict) and isinstance(metrics.get("job"), str):
            metrics, uri = with_present_names(metrics), _data_uri(page.parent)
            runs.append(IndexedRun(name=page.parent.name, metrics=metrics, uri=uri))
    return runs


def _data_uri(run: Path) -> str:
    """The uri of a run's data, from its config.yaml; empty where it is not there."""
    try:
        return str(yaml.safe_load((run / "config.yaml").read_text())["data"]["uri"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return ""


def _row(run: IndexedRun) -> list[Cell]:
    metrics = run.metrics
    number, interval = _first_number(metrics)
    data = metrics.get("data", {})
    uri = without_home(run.uri)
    num_clips = data.get("num_clips", metrics.get("num_clips"))
    clips = num_clips if isinstance(num_clips, int) else ""
    return [
        Link(run.name, f"{quote(run.name)}/report.html"),
        metrics["job"],
        number,
        interval,
        uri,
        clips,
        run.date,
    ]


def _first_number(metrics: JsonObject) -> tuple[str, str]:
    """The number on top of the run's page with its name, and its interval."""
    try:
        match metrics["job"]:
            case "tune_folds":
                first = search_headline(metrics)
            case "finetune" | "evaluate" | "baseline":
                first = expected_headline(metrics) or model_headline(metrics)
            case "pretrain":
                return str(metrics["state"]), ""
            case "extract_embeddings":
                return (
                    f"{metrics['written'] + metrics['in_table']} of {metrics['num_clips']} clips embedded",
                    "",
                )
            case "predict":
                num_predicted = metrics["num_clips"] - metrics["rejected"]
                return f"{num_predicted} of {metrics['num_clips']} recordings predicted", ""
            case "compare":
                return f"highest {metrics['metric']}: {metrics['ranking'][0]['name']}", ""
            case _:
                return "", ""
    except (KeyError, TypeError, IndexError):  # written by a version whose metrics.json had another form
        return "see its page", ""
    name = f" ({first.name})" if first.name else ""
    return f"{first.metric} {first.form(first.value)}{name}", first.within
