"""How far a pre-training has come: its step, the sums of the present epoch, its curves and alarms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from w2v2.training.collapse import Alarms

Row = Mapping[str, Any]
"""One row of a curve: readings by name."""


@dataclass(kw_only=True)
class PretrainPosition:
    """How far a pre-training has come: its step, and the sums of the present epoch."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    totals: list[float] = field(default_factory=list)
    """Totals of the epoch so far, flat."""
    last_totals: list[float] = field(default_factory=list)
    """Those of the training clips in the last whole epoch."""
    alarms: Alarms = field(default_factory=Alarms)
    collapsed: str = ""
    """Why the run counts as collapsed, where training.on_collapse=warn let it continue."""
    curve: list[Row] = field(default_factory=list)
    """One row per epoch and split."""
    steps: list[Row] = field(default_factory=list)
    """One row every few steps."""

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "PretrainPosition":
        """The position of a checkpoint."""
        return cls(**{**state, "alarms": Alarms(**state["alarms"])})

    @classmethod
    def redistributed(cls, positions: Sequence["PretrainPosition"], rank: int) -> "PretrainPosition":
        """The position of a process among another number of them; each has the sums of all."""
        return positions[0]
