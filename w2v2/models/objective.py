"""The loss of a task, and how a model's outputs become predictions."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from w2v2.config.model import TaskConfig, TrainingConfig
from w2v2.models import losses
from w2v2.models.ctc_loss import FrameLogits, ctc_sum

Outputs = Float[Tensor, "batch outputs"] | FrameLogits
"""One row per clip, or for transcripts one per frame."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of a task: an additive part, summed over clips, and a part that depends on a batch as a whole."""

    task: TaskConfig
    label_smoothing: float
    class_weights: Float[Tensor, " classes"]
    """Weights of the classes; ones where classes are not balanced, and for tasks without classes."""
    blank: int = 0
    """transcript: the output that is CTC's blank."""

    @property
    def is_batch_level(self) -> bool:
        """Whether part of the loss is no sum over clips."""
        return bool(self.task.loss == "ccc" or self.task.variance_penalty or self.task.correlation_penalty)

    def weight(self, targets: Shaped[Tensor, "batch ..."]) -> float:
        """The divisor of loss_sum: summed class weights, or numbers of targets or characters of these clips."""
        match self.task.kind:
            case "classes":
                classes = targets.to(self.class_weights.device)
                # Numbers of classes, or shares of classes where clips are mixed.
                return float(
                    (self.class_weights[classes] if classes.ndim == 1 else classes @ self.class_weights).sum()
                )
            case "transcript":
                return float((targets >= 0).sum())
            case _:
                return float((~targets.isnan()).sum())

    def loss_sum(self, outputs: Outputs, targets: Shaped[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        """The additive part, summed over clips and the targets that are not NaN, or characters."""
        if isinstance(outputs, FrameLogits):
            return ctc_sum(outputs, targets, blank=self.blank)
        match self.task.kind, self.task.loss:
            case "classes", _:
                return losses.cross_entropy_sum(
                    outputs, targets, class_weights=self.class_weights, label_smoothing=self.label_smoothing
                )
            case "multi_label", "mse":
                return losses.mse_sum(outputs.float().sigmoid(), targets)
            case "multi_label", _:
                return losses.bce_sum(outputs, targets)
            case _, _:
                return losses.mse_sum(outputs, targets)

    def whole_batch_loss(
        self, outputs: Float[Tensor, "batch outputs"], targets: Float[Tensor, "batch outputs"]
    ) -> Float[Tensor, ""]:
        """The loss of a whole batch: the mean of the additive part, or Lin's concordance, and the penalties."""
        if self.task.loss == "ccc":
            loss = losses.concordance_loss(outputs, targets)
        else:
            loss = self.loss_sum(outputs, targets) / max(self.weight(targets), 1.0)
        if self.task.variance_penalty:
            loss = loss + self.task.variance_penalty * losses.variance_penalty(outputs, targets)
        if self.task.correlation_penalty:
            loss = loss + self.task.correlation_penalty * losses.correlation_penalty(outputs)
        return loss

    def score(
        self, outputs: Float[np.ndarray, "clips outputs"], targets: Shaped[np.ndarray, "clips ..."]
    ) -> float:
        """The mean of the additive part over clips that are not trained on: no smoothing, no class weights; NaN without clips."""
        plain = replace(self, label_smoothing=0.0, class_weights=torch.ones(outputs.shape[1]))
        with torch.no_grad():
            total = plain.loss_sum(torch.from_numpy(outputs), torch.from_numpy(targets))
        weight = plain.weight(torch.from_numpy(targets))
        return float(total) / weight if weight else float("nan")


def make_objective(
    task: TaskConfig,
    training: TrainingConfig,
    targets: Shaped[np.ndarray, "clips ..."],
    *,
    num_outputs: int,
    blank: int = 0,
) -> Objective:
    """The loss for these training targets."""
    weights = torch.ones(num_outputs)
    if training.class_weights == "balanced":
        weights = losses.balanced_class_weights(targets, num_outputs)
    return Objective(task=task, label_smoothing=training.label_smoothing, class_weights=weights, blank=blank)
