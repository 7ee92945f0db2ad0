"""The two ways in which pre-training collapses, distinguished from slow learning by thresholds.

Codes: the quantizer uses one code of each book, every negative is left out, and loss 0 with accuracy 1 looks like
perfect success. Stuck: the loss stays at the loss of guessing and its gradient vanishes, while the diversity loss
spreads the codes, so that the perplexity looks perfect. A loss near the loss of guessing does not by itself mean a
collapse: healthy runs begin so.
"""

import math
from dataclasses import dataclass
from typing import Literal

from w2v2.json_types import JsonObject

FEW_CODES_FRACTION, FEW_CODES_STEPS = 0.10, 20
STUCK_LOSS_FRACTION, STUCK_GRADIENT_NORM, STUCK_STEPS = 0.01, 0.1, 50
PERFECT_ACCURACY = 0.95


@dataclass(frozen=True, kw_only=True)
class StepReading:
    """One optimizer step over the whole batch."""

    loss: float
    """Contrastive loss per masked frame, in nats."""
    chance_loss: float
    """The loss of guessing."""
    accuracy: float
    perplexity: float
    """The perplexity of the batch's mean code probabilities, summed over books."""
    num_codes: int
    """The codes of all books together."""
    gradient_norm: float


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """How many of the latest steps in a row showed each kind of collapse."""

    few_codes: int = 0
    stuck: int = 0

    @property
    def is_rising(self) -> bool:
        """Whether the last step looked like a collapse, so that a checkpoint of it may be of a collapsed model."""
        return bool(self.few_codes or self.stuck)

    def after(self, step: StepReading) -> "Alarms":
        """The alarms one step later."""
        few = step.perplexity < FEW_CODES_FRACTION * step.num_codes
        at_chance = abs(step.loss - step.chance_loss) < STUCK_LOSS_FRACTION * step.chance_loss
        stuck = at_chance and step.gradient_norm < STUCK_GRADIENT_NORM
        return Alarms(few_codes=few * (self.few_codes + 1), stuck=stuck * (self.stuck + 1))

    def reason(self, step: StepReading) -> str:
        """A sentence on the collapse and the setting to change; '' without a collapse."""
        perfect = self.few_codes and step.accuracy > PERFECT_ACCURACY
        if self.few_codes >= FEW_CODES_STEPS or perfect:
            return (
                f"the codes collapsed: a perplexity of {step.perplexity:.1f} of {step.num_codes} codes for "
                f"{self.few_codes} steps (loss {step.loss:.3f}, accuracy {step.accuracy:.2f}: negatives with the codes of "
                "the frame itself do not count, so this is no success); raise --loss.diversity_weight, or lower "
                "--optim.learning_rate"
            )
        if self.stuck >= STUCK_STEPS:
            return (
                f"only the diversity of the codes is learned: loss {step.loss:.3f}, the loss of guessing is "
                f"{step.chance_loss:.3f}, and a gradient norm below {STUCK_GRADIENT_NORM} for {self.stuck} steps (a "
                f"perplexity of {step.perplexity:.1f} of {step.num_codes} codes is no success); lower "
                "--optim.learning_rate, or raise --optim.batch_s"
            )
        return ""


def is_finite(step: StepReading) -> bool:
    """Whether loss and gradient are numbers."""
    return math.isfinite(step.loss) and math.isfinite(step.gradient_norm)


State = Literal["healthy", "collapsed", "not learning"]

LEARNED_LOSS_FRACTION, LEARNED_ACCURACY_FACTOR = 0.98, 2.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a pre-training: its state and a sentence about it."""

    state: State
    sentence: str


def verdict(last: JsonObject, *, collapsed: str, num_codes: int, has_clusters: bool = False) -> Verdict:
    """Whether a run is healthy, from the last row of its curve and why it counts as collapsed ('' if it does not).

    has_clusters: whether clusters were predicted; they are fixed before training and cannot collapse.
    """
    if not collapsed and not has_clusters and last["perplexity"] < FEW_CODES_FRACTION * num_codes:
        collapsed = f"a perplexity of {last['perplexity']:.1f} of {num_codes} codes at the end"
    if collapsed:
        return Verdict(state="collapsed", sentence=f"Collapsed: {collapsed}.")
    whose = (
        "of speakers who did not train" if last["split"] == "val" else "that trained (there are no others)"
    )
    hit = "are put into their cluster" if has_clusters else "are found among their candidates"
    codes = "clusters predicted" if has_clusters else "codes"
    measured = (
        f"on clips {whose}, {last['accuracy']:.1%} of the masked frames {hit} (guessing: "
        f"{last['chance_accuracy']:.1%}), with a loss of {last['loss']:.2f} nats (guessing: {last['chance_loss']:.2f}) and "
        f"a perplexity of {last['perplexity']:.0f} of {num_codes} {codes}"
    )
    learned = last["loss"] < LEARNED_LOSS_FRACTION * last["chance_loss"]
    factor = 1.0 if has_clusters else LEARNED_ACCURACY_FACTOR
    if learned and last["accuracy"] > factor * last["chance_accuracy"]:
        return Verdict(state="healthy", sentence=f"Healthy: {measured}.")
    todo = "train longer (--training.num_epochs, in a run of its own), or try another --optim.learning_rate"
    return Verdict(state="not learning", sentence=f"Not learning yet: {measured}; {todo}.")
