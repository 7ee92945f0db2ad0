"""The page of one model: its scores, how far to trust them, how it learned, and on what data."""

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from w2v2.evaluation.scores import columns
from w2v2.json_types import JsonObject
from w2v2.redaction import without_home
from w2v2.reports.blocks import (
    Block,
    Cell,
    Checks,
    Facts,
    Paragraph,
    Quote,
    Score,
    Scores,
    Section,
    Side,
    Table,
    count,
    words,
)
from w2v2.reports.checks import model_checks
from w2v2.reports.details_sections import calibration, slices
from w2v2.reports.ensemble_section import ensemble
from w2v2.reports.estimate import expected_headline, model_headline, model_sentence
from w2v2.reports.model_figures import loss_text, model_figures
from w2v2.reports.model_sections import folds, score_sections
from w2v2.reports.page import write_page
from w2v2.reports.plots.style import is_defined
from w2v2.reports.recording_quality_section import recording_quality
from w2v2.reports.recordings import corpus_name
from w2v2.reports.run_files import NO_TABLES, ModelRun, Tables, read_model_run
from w2v2.reports.shared_sections import (
    clips_blocks,
    kicker,
    lengths_text,
    pictured,
    provenance,
    verdict_blocks,
)
from w2v2.reports.text import duration_text, interval_text, percent_text, score_text
from w2v2.storage import files as storage
from w2v2.wording import counted, listed

SPLIT_LABELS = {"train": "train", "val": "validation", "test": "test", "": "no split"}


def write_model_report(run: str, tables: Tables = NO_TABLES) -> str:
    """The uri of `<run>/report.html`, made with plots/ and tables/ from the files of one model's run.

    Reads metrics.json (see evaluation.scores), config.yaml, predictions, manifest, rejects and, where there
    is one, curves.parquet; tables are some of these that need not be read.
    """
    files = read_model_run(storage.expand(run), tables)
    figures = model_figures(files)
    sections = [
        Section("", headline(files, figures)),
        Section("How far to trust it", [Checks(model_checks(files))]),
        Section("Folds", folds(files, figures)),
        *score_sections(files, figures),
        Section("Ensemble", ensemble(files)),
        Section("Parts of the clips", slices(files.metrics)),
        Section("Calibration", calibration(files.metrics, figures)),
        Section("Training", training(files, figures)),
        Section("Data", data(files)),
        Section("Recording quality", recording_quality(files.metrics)),
        Section("How it was made", how_it_was_made(files)),
    ]
    return write_page(files.uri, _title(files), sections, kicker=kicker(files), figures=figures)


def _title(run: ModelRun) -> str:
    names = run.metrics["names"]
    content = {
        "classes": f"{len(names)} classes",
        "multi_label": f"{len(names)} labels",
        "regression": listed(names),
        "transcript": "Transcripts",
    }
    model = run.metrics.get("encoder") or run.metrics.get("model") or {}
    name = without_home(str(run.config.get("model") or model.get("name", "")))
    return f"{content[run.metrics['kind']]} on {corpus_name(run.config['data'])}: {name}"


_CAPTIONS = {
    "confusion": "Clips by target and predicted class: counts, and as colour and percent the fraction of the target class.",
    "auc": "AUC of each label with its 95% interval over speakers. Dashed: chance.",
    "plane": "Each clip where it is (open) and where it was predicted to be (full).",
}


def headline(run: ModelRun, figures: Mapping[str, Figure]) -> list[Block]:
    """The leading scores with intervals, the clips that they were computed on, sizes, and warnings."""
    metrics = run.metrics
    facts = {"clips scored": f"{metrics['num_clips']}", "speakers scored": f"{metrics['num_speakers']}"}
    if num_train := pc.sum(pc.equal(run.manifest["split"], "train")).as_py():
        facts["clips trained on"] = f"{num_train}"
    if run.curves.num_rows:
        facts["epochs"] = f"{run.curves.num_rows}"
    facts["of audio"] = duration_text(pc.sum(run.manifest["duration_s"]).as_py() or 0.0)
    main = {"classes": "confusion", "multi_label": "auc", "regression": "plane", "transcript": ""}[
        metrics["kind"]
    ]
    left: list[Block] = [_scores(metrics), Paragraph(f"Computed on {metrics['computed_on']}.")]
    left += verdict_blocks(model_checks(run))
    return [
        Side([left, pictured(figures, main, _CAPTIONS.get(main, ""))]),
        Facts(facts),
        Paragraph("To report it:"),
        Quote(model_sentence(run)),
    ]


def _scores(metrics: JsonObject) -> Scores:
    """The leading score, and a second score next to it.

    Where the scored clips also chose the settings, the leading score is the estimate on new speakers.
    """
    first, expected = model_headline(metrics), expected_headline(metrics)
    if expected is not None:
        text = f"{first.metric} of the test split, which chose the settings; 95% interval {first.within}"
        return Scores(
            [
                Score(expected.form(expected.value), f"on new speakers: {expected.text}"),
                Score(first.form(first.value), text),
            ]
        )
    pooled, intervals = metrics["pooled"], metrics["pooled"]["intervals"]
    match metrics["kind"]:
        case "classes":
            within = interval_text(intervals["accuracy"], percent_text)
            why = intervals.get("undefined", {}).get("accuracy", "")
            within += f" ({why})" if why and not intervals["accuracy"] else ""
            second = Score(percent_text(pooled["accuracy"]), f"accuracy; 95% interval {within}")
            text = first.text
        case "multi_label":
            within = interval_text(intervals["weighted_auc"])
            second = Score(
                score_text(pooled["weighted_auc"]), f"AUC weighted by clips; 95% interval {within}"
            )
            over = f"over {pooled['num_defined']} of {len(pooled['labels'])} labels"
            text = f"macro AUC {over}; 95% interval {first.within}; chance 0.5"
        case "transcript":
            within = interval_text(intervals["wer"], percent_text)
            second = Score(percent_text(pooled["wer"]), f"word error rate; 95% interval {within}")
            text = f"character error rate; 95% interval {first.within}"
        case _:
            over = f"mean of {listed(metrics['names'])}"
            within = interval_text(intervals["mean"]["rmse"])
            second = Score(score_text(pooled["mean"]["rmse"]), f"RMSE, {over}; 95% interval {within}")
            text = f"CCC, {over}; 95% interval {first.within}; 0 is no agreement"
    return Scores([Score(first.form(first.value), text), second])


def training(run: ModelRun, figures: Mapping[str, Figure]) -> list[Block]:
    """The learning curves with an explanation; nothing where nothing was trained."""
    if not run.curves.num_rows:
        return []
    rows = run.curves.sort_by("epoch").to_pylist()
    first, last, best = rows[0], rows[-1], run.metrics.get("best_epoch")
    rate = run.metrics.get("learning_rate")
    text = f"{len(rows)} epochs{f' at a learning rate of up to {rate:g}' if rate else ''}; the training loss went from {first['train_loss']:.4g} to {last['train_loss']:.4g}."
    validated = [row for row in rows if is_defined(row["val_loss"])]
    if validated:
        lowest = min(validated, key=lambda row: row["val_loss"])
        text += f" The validation loss is lowest in epoch {lowest['epoch']} ({lowest['val_loss']:.4g})."
    if best:
        text += f" The weights of epoch {best} were kept."
    if "ensemble" in run.metrics:
        text += " The curves are means over the models of the ensemble."
    loss, note = loss_text(run)
    caption = f"{loss[0].upper()}{loss[1:]} by epoch, and the learning rate at its end. {note}"
    return [Paragraph(text), *pictured(figures, "learning_curves", caption.strip())]


def data(run: ModelRun) -> list[Block]:
    """Sizes, clips by split or fold and class, label or target, and the clips that could not be used, by reason."""
    num_speakers = len(run.manifest["speaker"].unique())
    text = f"{counted(run.manifest.num_rows, 'clips')} of {counted(num_speakers, 'speakers')}, from {run.config['data']['uri']}."
    return [Paragraph(text + lengths_text(run.manifest)), _parts_table(run), *clips_blocks(run)]


def _parts_table(run: ModelRun) -> Table:
    """Clips and speakers of each split or fold, and of each class, label or target its clips there."""
    clips, part = run.manifest, run.part
    present: set[str | int] = set(clips[part].unique().to_pylist())
    parts: list[str | int] = [split for split in SPLIT_LABELS if split in present]
    parts += sorted(present - set(SPLIT_LABELS), key=lambda name: (isinstance(name, str), name))
    places = {name: np.flatnonzero(pc.equal(clips[part], name).to_numpy()) for name in parts}
    speakers: dict[str | int, set[str]] = defaultdict(set)
    for row in clips.group_by([part, "speaker"]).aggregate([]).to_pylist():
        speakers[row[part]].add(row["speaker"])
    rows: list[list[Cell]] = [
        ["clips", *(len(places[name]) for name in parts)],
        ["speakers", *(len(speakers[name]) for name in parts)],
    ]
    more, caption = _target_rows(run, places)
    heads = [f"fold {name}" if isinstance(name, int) else SPLIT_LABELS.get(name, name) for name in parts]
    return Table("clips", [words("number of"), *map(count, heads)], rows + more, caption)


def _target_rows(run: ModelRun, places: Mapping[str | int, np.ndarray]) -> tuple[list[list[Cell]], str]:
    """A row for each class, label or target with a cell for each part, and the table's caption."""
    clips, names = run.manifest, run.metrics["names"]
    if run.metrics["kind"] == "transcript":
        sizes = np.array([len(reference) for reference in clips["reference"].to_pylist()])
        characters: list[list[Cell]] = [["characters", *(int(sizes[rows].sum()) for rows in places.values())]]
        return characters, "Clips by split, and the characters of their transcripts."
    if run.metrics["kind"] == "classes":
        counts = [_numbers(clips["label"].take(rows)) for rows in places.values()]
        rows = [[name, *(number[name] for number in counts)] for name in run.metrics["classes"]]
        return rows, f"Clips by {run.part} and class."
    targets = columns(clips, "target", names)
    is_number = run.metrics["kind"] == "regression"
    text = _mean_and_std if is_number else _present
    rows = [[name, *(text(targets[rows, i]) for rows in places.values())] for i, name in enumerate(names)]
    cell_text = (
        "target mean \u00b1 standard deviation"
        if is_number
        else "label the clips with it, of those that are labelled"
    )
    return rows, f"Clips by split; of each {cell_text}."


def _numbers(names: pa.ChunkedArray) -> Counter[str]:
    counts = names.value_counts().to_pylist()
    return Counter({row["values"]: row["counts"] for row in counts})


def _present(target: np.ndarray) -> str:
    return f"{np.sum(target == 1)} of {np.sum(~np.isnan(target))}"


def _mean_and_std(target: np.ndarray) -> str:
    defined = target[~np.isnan(target)]
    return f"{defined.mean():.3g} \u00b1 {defined.std():.2g}" if len(defined) else "undefined"


def how_it_was_made(run: ModelRun) -> list[Block]:
    """The job, its settings and versions, its cost, and the command to run it again."""
    metrics = run.metrics
    facts: dict[str, object] = {"seed": run.config["seed"]} if "seed" in run.config else {}
    facts |= {f"encoder {key}": value for key, value in metrics.get("encoder", {}).items()}
    facts |= {f"model {key}".replace("_", " "): value for key, value in metrics.get("model", {}).items()}
    return provenance(run, facts, command_note="To run it again:")
