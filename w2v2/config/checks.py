"""Checks that sections of settings share."""

from w2v2.errors import UserError


def at_least(section: str, config: object, low: float, *names: str) -> None:
    """Raises UserError unless each of these fields is at least `low`."""
    for name in names:
        value = getattr(config, name)
        if not value >= low:
            raise UserError(f"{section}{'.' if section else ''}{name} must be at least {low:g}, got {value}")


def fraction(section: str, config: object, *names: str) -> None:
    """Raises UserError unless each of these fields is in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise UserError(f"{section}.{name} must be in [0, 1), got {value}")
