"""How far a pre-training has come: its step, the sums of the present epoch, its curves and alarms."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from w2v2.json_types import JsonObject
from w2v2.training.collapse import Alarms

Row = JsonObject
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
    """The sums of the training clips in the last complete epoch."""
    alarms: Alarms = field(default_factory=Alarms)
    collapsed: str = ""
    """Why the run counts as collapsed, where training.on_collapse=warn let it continue."""
    curve: list[Row] = field(default_factory=list)
    """One row per epoch and split."""
    steps: list[Row] = field(default_factory=list)
    """One row every few steps."""

    @classmethod
    def restored(cls, state: JsonObject) -> "PretrainPosition":
        """The position of a checkpoint."""
        return cls(**{**state, "alarms": Alarms(**state["alarms"])})

    @classmethod
    def redistributed(cls, positions: Sequence["PretrainPosition"], rank: int) -> "PretrainPosition":
        """The position of a process after a change of their number; each process has the sums of all."""
        return positions[0]
