"""The section on the quality of a run's recordings; empty for runs of versions that did not measure it."""

from w2v2.audio.quality import NARROWBAND_HZ, WIDEBAND_HZ
from w2v2.data.recording_quality import MEASURES, Measure
from w2v2.evaluation.recording_quality import permutation_text
from w2v2.json_types import JsonObject
from w2v2.reports.blocks import Block, Cell, Paragraph, Table, words
from w2v2.reports.details_sections import slice_blocks


def recording_quality(metrics: JsonObject) -> list[Block]:
    """The spread of each measure, its mean by class with the test whether classes differ, and scores by quality."""
    recordings = metrics.get("recordings")
    if not recordings or recordings["spread"]["duration_s"] is None:
        return []
    num_unmeasured = recordings["num_clips"] - recordings["num_measured"]
    text = (
        "Measured on each clip at 16 kHz; clipping in its file. Level: of the frames that are not silent. Signal-to-noise "
        "ratio: loud frames (95th percentile) over quiet ones (5th). Bandwidth: the upper edge of the channel. "
        f"{recordings['num_narrowband']} clips end at {NARROWBAND_HZ / 1000:g} kHz or below, as telephones do; {recordings['num_clipped']} "
        "are clipped."
    )
    if num_unmeasured:
        text += (
            f" The quality of {num_unmeasured} of {recordings['num_clips']} clips is unknown: this version of w2v2 has not read them, as "
            "features of an earlier run were used."
        )
    rows: list[list[Cell]] = [
        [measure.name, *map(measure.text, recordings["spread"][name])]
        for name, measure in MEASURES.items()
        if recordings["spread"][name] is not None
    ]
    columns = [words("of the clips"), *map(words, ("5 % have less than", "median", "5 % have more than"))]
    spread = Table("recordings", columns, rows, "Recording quality of all clips.")
    return [
        Paragraph(text),
        spread,
        *_quality_by_class(recordings["by_class"]),
        *slice_blocks("recording_slices", recordings["slices"]),
    ]


def _quality_by_class(by_class: JsonObject) -> list[Block]:
    tested = {name: row for name, row in by_class.items() if "p" in row}
    if not tested:
        reasons = {row["undefined"] for row in by_class.values()}
        return [Paragraph(f"By class nothing is compared: {', '.join(sorted(reasons))}.")] if reasons else []
    names = list(next(iter(tested.values()))["means"])
    rows: list[list[Cell]] = [
        [name, *(_mean_text(measure, row["means"][name]) for measure, row in _measures(tested))]
        for name in names
    ]
    rows.append(["p", *(f"{row['p']:.3f}" for row in tested.values())])
    columns = [words("class"), *(words(measure.name) for measure, _ in _measures(tested))]
    first = next(iter(tested.values()))
    caption = (
        f"Means of each speaker's clips by class. p: how often {permutation_text(first)} makes the means of the classes differ as "
        "much. Emotions differ in loudness by nature, and so in level, noise and silence; a difference in bandwidth is one of "
        f"the channel (above {WIDEBAND_HZ / 1000:g} kHz all count as that)."
    )
    return [Table("recordings_by_class", columns, rows, caption)]


def _measures(by_class: JsonObject) -> list[tuple[Measure, JsonObject]]:
    return [(MEASURES[name], row) for name, row in by_class.items()]


def _mean_text(measure: Measure, value: float | None) -> str:
    return "undefined" if value is None else measure.text(value)
