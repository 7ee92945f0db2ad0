"""Texts without what opens doors: signatures, tokens and passwords inside of URIs."""

import logging
import re

# Of other schemes a query is part of a name (gs://bucket/a?b.wav) or of a place (duckdb:///file.db?table=a).
_URI = re.compile(r"\b(?!(?:gs|file|bq|duckdb|sqlite)://)([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>]*)")
_USER = re.compile(r"^[^/?#]*@")


def redacted(text: str) -> str:
    """The text, of every URI in it no user and password, no query and no fragment.

    >>> redacted("https://me:pw@host/a.wav?X-Goog-Signature=1f: cannot be read")
    'https://***@host/a.wav?*** cannot be read'
    """
    return _URI.sub(_without_secrets, text) if "://" in text else text


def _without_secrets(found: re.Match[str]) -> str:
    rest = _USER.sub("***@", found[2])
    name, mark, _ = rest.partition("?")
    return f"{found[1]}{name}{'?***' if mark else ''}"


class RedactingFilter(logging.Filter):
    """Redacts every message that a handler writes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True: no record is left out."""
        record.msg, record.args = redacted(record.getMessage()), ()
        return True
