"""Range checks of settings."""

from dataclasses import fields, is_dataclass

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


MIN_HOP_S = 0.01
"""Less than half a frame of any encoder."""


def check_hop(window_s: float, hop_s: float) -> None:
    """Raises UserError unless windows of window_s can begin every hop_s seconds; 0 is every window_s."""
    if hop_s and not window_s:
        raise UserError(
            f"hop_s is for windows, got {hop_s:g} without window_s: set window_s, or leave out hop_s"
        )
    if hop_s and not 0 < hop_s <= window_s:
        raise UserError(f"hop_s must be in (0, window_s={window_s:g}], got {hop_s:g}")
    if hop_s and hop_s < MIN_HOP_S:
        raise UserError(f"hop_s must be at least {MIN_HOP_S:g}, got {hop_s:g}")


LARGEST = 2.0**53
"""Up to here floats hold all whole numbers; no setting is meant to be larger."""


def refuse_absurd_numbers(value: object, name: str = "") -> None:
    """Raises UserError naming a field whose number is not finite or larger than any can be meant to be."""
    if is_dataclass(value):
        inside = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, dict):
        inside = value
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_absurd_numbers(item, name)
        return
    else:
        if isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise UserError(f"{name} must be a number of at most {LARGEST:g} in size, got {value:g}")
        return
    for key, item in inside.items():
        refuse_absurd_numbers(item, f"{name}.{key}" if name else str(key))
