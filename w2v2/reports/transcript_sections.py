"""The sections of one model's page that show its error rates on transcripts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from w2v2.json_types import JsonObject
from w2v2.reports.blocks import (
    Block,
    Cell,
    Paragraph,
    Section,
    Side,
    Table,
    count,
    percent,
    words,
)
from w2v2.reports.run_files import ModelRun
from w2v2.reports.shared_sections import (
    pictured,
    pooled_score,
)
from w2v2.reports.text import percent_text
from w2v2.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = {"wer": ("word error rate", "words"), "cer": ("character error rate", "characters")}
SPEAKERS_CAPTION = "Character error rate of each speaker, lowest on top, over the 95% interval of all clips."
_NOTHING = "(nothing)"
_SPACE = "(space)"


def transcript_sections(run: ModelRun, figures: Mapping[str, "Figure"]) -> list[Section]:
    """Error rates with their counts, confusions, the worst sentences, speakers, and characters."""
    return [
        Section("Errors", [*errors(run.metrics), *decoding(run.metrics)]),
        Section("Confusions", confusions(run.metrics["pooled"])),
        Section("Worst sentences", worst(run.metrics["pooled"])),
        Section("Speakers", speakers(run.metrics, figures)),
        Section("Characters", characters(run.metrics)),
    ]


def errors(metrics: JsonObject) -> list[Block]:
    """WER and CER with intervals and edit counts; reasons for undefined ones; the number of empty transcripts."""
    pooled = metrics["pooled"]
    kinds = ("substitutions", "deletions", "insertions", "hits", "reference")
    rows: list[list[Cell]] = [
        [name, pooled_score(pooled, rate), *(pooled[unit][kind] for kind in kinds)]
        for rate, (name, unit) in RATES.items()
        if pooled[unit] is not None
    ]
    caption = (
        "Edits of all clips over the words or characters of all references, with 95% intervals over speakers; the "
        "spaces between words are characters."
    )
    columns = [words("rate"), percent("value"), *map(count, (*kinds[:-1], "in references"))]
    text = " ".join(f"Undefined: {RATES[name][0]}: {why}." for name, why in pooled["undefined"].items())
    text += f" {pooled['num_right']} of {pooled['num_clips']} clips have no error."
    if pooled["empty_predictions"]:
        text += f" Nothing was written for {counted(pooled['empty_predictions'], 'clips')} that have text."
    return [Table("errors", columns, rows, caption), Paragraph(text.strip())]


def decoding(metrics: JsonObject) -> list[Block]:
    """The beam search that wrote the text, the choice of its weights, and the error rates of greedy decoding; nothing without a beam search."""
    search = metrics.get("decoding", {})
    if search.get("kind") != "beam":
        return []
    name = search["lm"].rpartition("/")[2]
    weights = f"lm_weight {search['lm_weight']:g}"
    weights += "" if search["word_score"] is None else f", word_score {search['word_score']:g}"
    lines = [f"Decoded by a beam search of {search['beam_size']} with {name} ({weights})."]
    if search.get("tried"):
        lines.append(f"The weights have the fewest errors of {len(search['tried'])} tried on the val split.")
    if "greedy" in search:
        rates = [
            f"{rate.upper()} {percent_text(value)}"
            for rate, value in search["greedy"].items()
            if value is not None
        ]
        lines.append(f"Greedy decoding of the same clips: {', '.join(rates)}.")
    return [Paragraph(" ".join(lines))]


def confusions(pooled: JsonObject) -> list[Block]:
    """The most frequent confusions of words and of characters."""
    tables: list[list[Block]] = []
    for unit in ("words", "characters"):
        pairs = pooled[f"confused_{unit}"]
        rows: list[list[Cell]] = [[_unit(p["target"]), _unit(p["predicted"]), p["count"]] for p in pairs]
        caption = f"The commonest errors in {unit}; {_NOTHING} is a deletion or an insertion."
        columns = [words("in the reference"), words("written"), count("times")]
        tables.append([Table(f"confused_{unit}", columns, rows, caption)] if rows else [])
    return [Side([table for table in tables if table])] if any(tables) else []


def _unit(text: str) -> str:
    return {"": _NOTHING, " ": _SPACE}.get(text, text)


def worst(pooled: JsonObject) -> list[Block]:
    """The clips with most errors: a wrong transcript or a bad recording often shows here first."""
    rows: list[list[Cell]] = [
        [row["clip_id"], row["target"], row["predicted"] or _NOTHING, row["errors"], row["cer"]]
        for row in pooled["worst"]
    ]
    columns = [words("clip"), words("reference"), words("written"), count("errors"), percent("CER")]
    caption = "The clips with most character errors: listen to these first, a transcript may be wrong."
    return [Table("worst_sentences", columns, rows, caption)] if rows else []


def speakers(metrics: JsonObject, figures: Mapping[str, "Figure"]) -> list[Block]:
    """The character error rate of each speaker, the worst and the best named."""
    defined = sorted(
        (row["cer"], name) for name, row in metrics["by_speaker"].items() if row["cer"] is not None
    )
    if not defined:
        return []
    (low, best), (high, lowest) = defined[0], defined[-1]
    text = f"Best speaker: {best} ({percent_text(low)}). Worst speaker: {lowest} ({percent_text(high)})."
    return [Paragraph(text), *pictured(figures, "speakers", SPEAKERS_CAPTION)]


def characters(metrics: JsonObject) -> list[Block]:
    """The characters that the model can write, and the characters of the references that it cannot write or never wrote."""
    text, never = metrics.get("text", {}), metrics["pooled"]["never_written"]
    lines = [f"The model has {len(metrics['names'])} outputs, one of which is CTC's blank."]
    if unknown := text.get("unknown_characters"):
        shown = ", ".join(f"{char!r} ({n})" for char, n in list(unknown.items())[:20])
        lines.append(f"The references have characters that it cannot write, each an error: {shown}.")
    if never:
        lines.append(f"In the references, but never written: {' '.join(map(repr, never))}.")
    if "num_outputs" in text:
        lines.append(
            "text.parquet has every character with its number in each split, vocab.json the outputs."
        )
    return [Paragraph(" ".join(lines))]
