"""Sections of a page of several labels: decisions at the thresholds of the val split, and scores by patient."""

from w2v2.evaluation.decisions import contradictions
from w2v2.json_types import JsonObject
from w2v2.reports.blocks import Block, Cell, Paragraph, ScoreCell, Table, count, percent, score, words
from w2v2.reports.shared_sections import interval_score


def decisions(metrics: JsonObject) -> list[Block]:
    """Sensitivity and specificity of each label, by recording and by patient; a sentence where val chose no threshold."""
    chosen = metrics.get("decisions")
    if not chosen:
        return []
    if not chosen["chosen_on"]:
        return [
            Paragraph(
                "The model keeps no threshold: it was trained without a val split, and the clips that are scored choose none."
            )
        ]
    rows = [
        [name, kind, row["threshold"], *_rates(row)]
        for kind, labels in (
            ("recording", chosen["labels"]),
            ("patient", metrics["patients"]["decisions"]),
        )
        for name, row in labels.items()
    ]
    columns = [
        words("label"),
        words("by"),
        score("threshold"),
        percent("sensitivity"),
        percent("specificity"),
    ]
    columns += [count("with"), count("without")]
    caption = (
        f"At the thresholds of the largest sensitivity plus specificity on {chosen['chosen_on']}, where the model was trained; "
        "95% intervals over the speakers scored here."
    )
    blocks: list[Block] = [Table("decisions", columns, rows, caption)] if rows else []
    if chosen["without"]:
        names = ", ".join(chosen["without"])
        blocks.append(Paragraph(f"Without a threshold, as the val split does not separate them: {names}."))
    return blocks


def patients(metrics: JsonObject) -> list[Block]:
    """AUC of each label by patient, whose probability is the mean over the recordings."""
    scores = metrics.get("patients")
    if not scores:
        return []
    rows: list[list[Cell]] = [
        [
            name,
            ScoreCell(row["auc"], row["interval"], row.get("undefined", "")),
            row["average_precision"],
            *(row[f"num_{number}"] for number in ("positive", "negative", "missing")),
        ]
        for name, row in scores["labels"].items()
    ]
    for name in ("macro_auc", "weighted_auc"):
        mean = scores["means"][name]
        rows.append([name.removesuffix("_auc"), interval_score(mean), *[""] * 4])
    columns = [words("label"), score("AUC"), score("average precision")]
    columns += [count("with"), count("without"), count("missing")]
    caption = (
        f"The {scores['num_patients']} patients, each with the mean of the probabilities of the recordings; 95% intervals "
        "over patients."
    )
    return [Table("patients", columns, rows, caption), *map(Paragraph, contradictions(scores))]


def _rates(row: JsonObject) -> list[Cell]:
    rates: list[Cell] = [
        ScoreCell(row[rate], row[f"{rate}_interval"], row.get(f"{rate}_undefined", ""))
        for rate in ("sensitivity", "specificity")
    ]
    return [*rates, row["num_positive"], row["num_negative"]]
