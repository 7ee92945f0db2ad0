"""Values of Parquet files and spreadsheets as the text that a CSV would have."""

import datetime
from decimal import Decimal


def cell_text(value: object) -> str:
    """The text of one value: numbers in their shortest form, dates as in ISO 8601, durations in seconds.

    None, NaN and NaT are ''. A whole number is written without a fraction, as spreadsheets and columns with missing
    values hold all numbers as floating point.

    >>> cell_text(7.0), cell_text(0.1), cell_text(None), cell_text(datetime.date(2024, 5, 1)), cell_text(" a ")
    ('7', '0.1', '', '2024-05-01', 'a')
    """
    match value:
        case None:
            return ""
        case bool():
            return str(value)
        case float() | Decimal():
            return _number_text(float(value))
        case datetime.datetime():
            return value.isoformat(sep=" ") if value.time() != datetime.time() else value.date().isoformat()
        case datetime.timedelta():
            return _number_text(value.total_seconds())
        case datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return str(value).strip()


def _number_text(value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
