"""Progress of long work as log lines: items done, rate and time left."""

import logging
import time

logger = logging.getLogger(__name__)


class Progress:
    """One log line every few seconds: done of total, rate, time left.

    Rate and time left count from the first call that reports something done: before that, workers start.
    """

    def __init__(self, name: str, total: int = 0, *, unit: str, interval_s: float = 2.0) -> None:
        self._name, self._total, self._unit, self._interval_s = name, total, unit, interval_s
        self._began = self._logged = time.monotonic()
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int | None = None, *, note: str = "") -> None:
        """Report how many are done, with a note; the first and the last call are always logged."""
        now = time.monotonic()
        self._total = total or self._total
        is_first = self._first is None and done > 0
        if not is_first and now - self._logged < self._interval_s and done < self._total:
            return
        self._logged = now
        pace = self._pace(done, now)
        if is_first:
            self._first = done, now
        parts = [f"{self._name}: {done} of {self._total} {self._unit}", *pace, *filter(None, [note])]
        logger.info("%s", ", ".join(parts))

    def _pace(self, done: int, now: float) -> list[str]:
        if done >= self._total:
            return [f"in {clock(now - self._began)}"]
        if self._first is None:
            return []
        rate = (done - self._first[0]) / max(now - self._first[1], 1e-9)
        left = [f"{clock((self._total - done) / rate)} left"] if rate else []
        return [f"{rate:.1f}/s", *left]


def clock(seconds: float) -> str:
    """Minutes and seconds as m:ss, or h:mm:ss; ? for NaN.

    >>> clock(75.2), clock(3661.0)
    ('1:15', '1:01:01')
    """
    if seconds != seconds:
        return "?"
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds_left:02d}" if hours else f"{minutes}:{seconds_left:02d}"


def two_digits(value: float) -> str:
    """The number rounded to two significant digits, never with an exponent where it is large.

    >>> two_digits(0.0194), two_digits(27.2), two_digits(213.4)
    ('0.019', '27', '210')
    """
    return f"{float(f'{value:.2g}'):g}"
