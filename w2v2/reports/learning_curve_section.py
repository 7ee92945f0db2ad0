"""The section of a search's page on whether more speakers would help; empty for searches without a learning curve."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from w2v2.evaluation.learning_curve import sentence
from w2v2.reports.blocks import Block, Cell, Paragraph, ScoreCell, Side, Table, count, percent, words
from w2v2.reports.run_files import TuneRun
from w2v2.reports.shared_sections import pictured
from w2v2.reports.text import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def more_speakers(run: TuneRun, figures: Mapping[str, "Figure"]) -> list[Block]:
    """The score expected with twice the speakers, the learning curve as a figure and as a table, and how it was made."""
    curve = run.metrics.get("learning_curve")
    if curve is None:
        return []
    name = LABELS[curve["metric"]]
    rows: list[list[Cell]] = [
        [str(point["num_speakers"]), ScoreCell(point["value"], point["interval"]), ""]
        for point in curve["points"]
    ]
    if not curve["undefined"]:
        doubled = curve["doubled"]
        rows.append(
            [str(doubled["num_speakers"]), ScoreCell(doubled["value"], doubled["interval"]), "extrapolated"]
        )
    how = (
        f"Each fold was predicted by models with the hyperparameters chosen on the other folds, trained on {curve['num_draws']} draws "
        "of each number of its training speakers; smaller draws are part of larger ones. The curve is the mean of inverse power laws "
        "with limits of at most 100%, weighted by how well they fit; how far they are apart is in the interval. Intervals resample the held-out speakers and the folds, each of which has draws of its own; that all "
        "training speakers come from this one corpus is in none of them. learning_curve.parquet has every training."
    )
    caption = f"{name} of all held-out clips by the number of speakers trained on, with 95% intervals."
    columns = [count("training speakers"), percent(name), words("note")]
    picture = pictured(figures, "more_speakers", f"{caption} Dashed: the fitted curve.")
    return [
        Paragraph(sentence(curve)),
        Side([picture, [Table("learning_curve", columns, rows, caption), Paragraph(how, "footnote")]]),
    ]
