"""Numbers, lists and paths as they are written on a page: plain text, no markup.

Imports nothing that takes time, so that analysis and checks can use it without a page being drawn.
"""

import shlex
from collections.abc import Callable, Sequence

from w2v2.job_commands import command_of
from w2v2.redaction import without_home

METRIC_LABELS = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1"}
"""Metrics of classes by their key in metrics.json, the leading one first."""
ERROR_LABELS = {"cer": "character error rate", "wer": "word error rate"}
"""Metrics of transcripts; a lower one is better."""
LABELS = METRIC_LABELS | ERROR_LABELS


def percent_text(value: float | None, *, why: str = "") -> str:
    """A fraction as "58.3%"; None is "undefined", followed by why."""
    if value is None:
        return f"undefined ({why})" if why else "undefined"
    return f"{100 * value:.1f}%"


def points_text(value: float | None) -> str:
    """A difference of two fractions in percentage points, as "+2.1"; None is "undefined"."""
    return "undefined" if value is None else f"{100 * value:+.1f}"


def score_text(value: float | None) -> str:
    """A score with three decimals; None is "undefined"."""
    return "undefined" if value is None else f"{value:.3f}"


def interval_text(interval: Sequence[float] | None, form: Callable[[float | None], str] = score_text) -> str:
    """An interval as "0.512 to 0.700"; None is "undefined"."""
    return " to ".join(map(form, interval)) if interval else "undefined"


def duration_text(seconds: float | None) -> str:
    """Seconds with a unit that suits them; None is "undefined".

    >>> duration_text(7.21), duration_text(204.0), duration_text(7560.0)
    ('7.2 s', '3.4 min', '2.1 h')
    """
    if seconds is None:
        return "undefined"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def setting_text(value: object) -> str:
    """The value of a setting: numbers with three digits, None as nothing."""
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def shortened(name: str, *, num_characters: int = 18) -> str:
    """The name on one line, unprintable characters as '?', cut to num_characters.

    >>> shortened("a recording of the clinic", num_characters=14)
    'a recording...'
    """
    text = "".join(c if c.isprintable() else "?" for c in " ".join(name.split()))
    return text if len(text) <= num_characters else text[: num_characters - 3] + "..."


def job_command(job: str, config_uri: str) -> str:
    """The shell command that runs a job with a config file, its home directory written as `~`."""
    path = without_home(config_uri)
    # A quoted tilde would not be expanded by the shell.
    quoted = f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)
    return f"{command_of(job)} --config {quoted}"
