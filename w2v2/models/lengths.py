"""The lengths of audio that an encoder takes."""

import math

from w2v2.errors import UserError
from w2v2.models.encoder import Encoder


def longest_s(encoder: Encoder, *, window_s: float) -> float:
    """The longest recording, in seconds, of which vectors or predictions can be made, in windows (0 is none) or whole.

    Raises UserError for windows that are longer than the encoder takes.
    """
    if window_s > encoder.max_s:
        raise UserError(
            f"window_s must be at most {encoder.max_s:g}, the seconds that {encoder.config.name} takes, got {window_s:g}"
        )
    return math.inf if window_s else encoder.max_s
