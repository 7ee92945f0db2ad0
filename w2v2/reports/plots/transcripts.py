"""Plots of transcripts: character error rates by speaker."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from w2v2.json_types import JsonObject
from w2v2.reports.plots.style import (
    BAND,
    BLUE,
    MAX_NAMES,
    RULE,
    VERMILLION,
    WIDTH,
    is_defined,
    one_panel,
    percent_values,
    style,
    with_names,
)
from w2v2.reports.text import shortened


def speaker_error_rates(by_speaker: Mapping[str, JsonObject], *, interval: Sequence[float] | None) -> Figure:
    """The character error rate of each speaker, lowest on top, over the interval of all clips."""
    rates = sorted(
        ((row["cer"], name) for name, row in by_speaker.items() if is_defined(row["cer"])), reverse=True
    )
    places, values = list(range(len(rates))), percent_values([rate for rate, _ in rates])
    with style():
        figure, axes = one_panel(WIDTH, min(9.0, 0.9 + 0.165 * max(len(rates), 4)))
        if interval is not None:
            axes.axvspan(*percent_values(interval), **BAND)
        axes.hlines(places, 0, values, color=RULE, linewidth=0.6)
        colours = [VERMILLION if place == 0 else BLUE for place in places]
        axes.scatter(values, places, s=22, color=colours, zorder=3, clip_on=False)
        with_names(axes, [shortened(name) for _, name in rates] if len(rates) <= MAX_NAMES else [])
        # Insertions alone can take a rate above 100 %.
        axes.set(
            xlim=(0, max([10.0, *(1.05 * value for value in values)])), ylim=(-0.8, max(len(rates), 1) - 0.2)
        )
        axes.set(xlabel="character error rate (%)", ylabel="speaker")
        return figure
