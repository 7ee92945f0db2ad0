"""Heads on pooled vectors, trained side by side: all folds, and all trials with the same shared settings, in one batched computation.

A head's numbers do not depend on the heads that are trained with it, bit for bit. They equal the numbers of
`fold_training.score_fold` for the head alone, up to the rounding of float32: batches, dropout and first weights are
drawn from the same seeds, and the steps of AdamW are the same, but products may be formed and added up in another
order.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from w2v2.config.model import OptimConfig
from w2v2.data.clip_columns import TextColumn
from w2v2.evaluation import classification
from w2v2.features.batches import scoring_batches
from w2v2.models.mlp import Mlp
from w2v2.models.pooling import LayerMix
from w2v2.models.torch_internals import log_softmax_gradient
from w2v2.training.fold_draws import Fold, FoldDraws, StepsDraw
from w2v2.training.fold_result import DivergenceError, Epoch, FoldScore, fold_score
from w2v2.training.mixup import mix
from w2v2.training.optimizer import learning_rate_scale
from w2v2.training.stacked_adamw import StackedAdamW


def _products(
    x: Float[Tensor, "_ folds batch inputs"],
    weight: Float[Tensor, "trials folds outputs inputs"],
    bias: Float[Tensor, "trials folds outputs"],
) -> Float[Tensor, "trials folds batch outputs"]:
    """The outputs of linear layers side by side; x may be the same for all trials, and is not copied then."""
    outputs = x.new_empty(*weight.shape[:2], x.shape[2], weight.shape[2])
    for trial, of_folds in enumerate(x.expand(len(weight), -1, -1, -1)):
        torch.baddbmm(bias[trial][:, None], of_folds, weight[trial].transpose(1, 2), out=outputs[trial])
    return outputs


def _weight_gradients(
    x: Float[Tensor, "_ folds batch inputs"], gradient: Float[Tensor, "trials folds batch outputs"]
) -> tuple[Float[Tensor, "trials folds outputs inputs"], Float[Tensor, "trials folds outputs"]]:
    """The gradients with respect to weight and bias, from the gradient with respect to the outputs.

    torch's own gradient of a batched product adds up in another order than the gradient of nn.Linear.
    """
    of_weight = x.new_empty(*gradient.shape[:2], gradient.shape[3], x.shape[3])
    for trial, of_folds in enumerate(x.expand(len(gradient), -1, -1, -1)):
        torch.bmm(gradient[trial].transpose(1, 2), of_folds, out=of_weight[trial])
    return of_weight, gradient.sum(2)


class _StackedLinear(torch.autograd.Function):
    """Linear layers side by side, [trials, folds, ...]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _products(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return (gradient @ weight if ctx.needs_input_grad[0] else None, *_weight_gradients(x, gradient))


class StackedHeads:
    """The heads of several trials of one stack, each on every fold."""

    def __init__(self, draws: FoldDraws, optims: Sequence[OptimConfig]) -> None:
        self._draws, self._optims = draws, optims
        self._clips, self._folds = draws.clips, draws.folds
        self._mixes = draws.settings.mixes
        # The division that nn.Dropout does.
        self._scale = torch.ones(()).div_(1.0 - draws.settings.head.dropout)
        heads = [self._first_weights(fold) for fold in self._folds]
        # [trials, folds, ...]
        self._parameters = [
            torch.stack(of_folds).expand(len(optims), *[-1] * (of_folds[0].ndim + 1)).contiguous()
            for of_folds in map(list, zip(*heads, strict=True))
        ]
        self._steps = [
            StackedAdamW(self._parameters, trial, optim, even=draws.even)
            for trial, optim in enumerate(optims)
        ]
        for parameter in self._parameters:
            parameter.requires_grad_()
        self._done = [0] * len(self._folds)
        self._curves: list[list[list[Epoch]]] = [[[] for _ in self._folds] for _ in optims]
        self._diverged: dict[tuple[int, int], DivergenceError] = {}

    def _first_weights(self, fold: Fold) -> list[Tensor]:
        torch.manual_seed(fold.seed)  # as a fold alone is seeded before its model is made
        mix = [LayerMix(self._clips.vectors.shape[1])] if self._mixes else []
        mlp = Mlp(self._draws.widths[0], self._clips.num_classes, self._draws.settings.head)
        return [parameter.detach() for module in [*mix, mlp] for parameter in module.parameters()]

    def run(self) -> list[list[FoldScore | DivergenceError]]:
        """For each trial and fold the score of its held-out clips, or its DivergenceError."""
        started = time.perf_counter()
        for number, portions in enumerate(self._draws.epochs()):
            sums = _EpochSums.zero(len(self._optims), len(self._folds), self._clips.num_classes)
            for draw in portions:
                self._run_steps(draw, sums)
            self._end_epoch(number, sums)
        seconds = (time.perf_counter() - started) / (len(self._optims) * len(self._folds))
        by_fold = [self._score(index, seconds) for index in range(len(self._folds))]
        return [list(scores) for scores in zip(*by_fold, strict=True)]

    # -- training

    def _run_steps(self, draw: StepsDraw, sums: "_EpochSums") -> None:
        scaled = draw.loss * draw.of_batch[..., None, None]
        num_steps, num_folds, num_rows = draw.rows.shape
        predicted = torch.zeros(num_steps, len(self._optims), num_folds, num_rows, dtype=torch.int64)
        rates = self._next_rates(num_steps)
        for step in range(num_steps):
            log_probabilities, gradients = self._gradients(draw, step, scaled[step])
            with torch.no_grad():
                sums.losses += (log_probabilities * draw.loss[step]).sum((2, 3))
                torch.argmax(log_probabilities, -1, out=predicted[step])
                self._update(gradients, np.flatnonzero(draw.num_rows[step]).tolist(), rates, step)
            sums.weight += draw.weight[step]
        inside = np.arange(num_rows) < draw.num_rows[..., None]
        for fold in range(num_folds):
            target = draw.targets[:, fold][inside[:, fold]]
            for trial in range(len(self._optims)):
                of_head = predicted[:, trial, fold].numpy()[inside[:, fold]]
                sums.confusion[trial, fold] += classification.confusion(
                    target, of_head, self._clips.num_classes
                )

    def _gradients(
        self, draw: StepsDraw, step: int, scaled: Float[Tensor, "folds batch classes"]
    ) -> tuple[Float[Tensor, "trials folds batch classes"], Sequence[Tensor]]:
        """Log probabilities in training mode, and the gradients of all parameters of their sum, scaled."""
        if self._mixes or len(self._layers()) > 1:
            log_probabilities = self._forward(draw, step).log_softmax(-1)
            return log_probabilities, torch.autograd.grad(
                (log_probabilities * scaled).sum(), self._parameters
            )
        with torch.no_grad():  # one layer: autograd would take longer than the layer
            ((weight, bias),) = self._layers()
            x = self._dropped_out(self._inputs(draw, step).flatten(2)[None], draw, step, 0)
            log_probabilities = _products(x, weight, bias).log_softmax(-1)
            of_logits = log_softmax_gradient(scaled.expand_as(log_probabilities), log_probabilities)
            return log_probabilities, _weight_gradients(x, of_logits)

    def _inputs(self, draw: StepsDraw, step: int) -> Float[Tensor, "folds batch ..."]:
        """The vectors of a step, mixed where mixup is asked for."""
        x = self._vectors(draw.rows[step])
        if draw.partners is not None and draw.shares is not None:
            x = mix(x, self._vectors(draw.partners[step]), draw.shares[step])
        return x

    def _dropped_out(
        self, x: Float[Tensor, "_ folds batch inputs"], draw: StepsDraw, step: int, layer: int
    ) -> Float[Tensor, "_ folds batch inputs"]:
        return x * draw.kept[layer][step] * self._scale if draw.kept else x

    def _forward(self, draw: StepsDraw, step: int) -> Float[Tensor, "trials folds batch classes"]:
        """Logits in training mode."""
        x = self._inputs(draw, step)
        if self._mixes:
            x = torch.einsum("tfs,fbsd->tfbd", self._parameters[0].softmax(-1), x)
        else:
            x = x.flatten(2)[None]  # the same for all trials
        for number, (weight, bias) in enumerate(self._layers()):
            x = self._dropped_out(x.relu() if number else x, draw, step, number)
            x = _StackedLinear.apply(x, weight, bias)
        return x

    def _vectors(self, rows: Int[Tensor, "folds batch"]) -> Float[Tensor, "folds batch ..."]:
        return self._clips.vectors.index_select(0, rows.flatten()).unflatten(0, rows.shape)

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each linear layer."""
        of_layers = self._parameters[1:] if self._mixes else self._parameters
        return list(zip(of_layers[0::2], of_layers[1::2], strict=True))

    def _next_rates(self, num_steps: int) -> list[list[list[float]]]:
        """The learning rates of the next steps, by trial and fold."""
        places = list(zip(self._draws.num_steps, self._done, strict=True))
        by_trial = []
        for optim in self._optims:
            by_place = {
                (of_fold, done): _rates(optim, of_fold, first=done, num=num_steps)
                for of_fold, done in set(places)
            }
            by_trial.append([by_place[place] for place in places])
        return by_trial

    def _update(
        self, gradients: Sequence[Tensor], active: list[int], rates: list[list[list[float]]], number: int
    ) -> None:
        """One step of AdamW; number is its place among the rates. Folds of a trial with the same learning rate take it together."""
        for trial, step in enumerate(self._steps):
            by_rate: dict[float, list[int]] = {}
            for fold in active:
                by_rate.setdefault(rates[trial][fold][number], []).append(fold)
            for rate, folds in by_rate.items():
                step([gradient[trial] for gradient in gradients], folds, rate)
        for fold in active:
            self._done[fold] += 1

    def _end_epoch(self, number: int, sums: "_EpochSums") -> None:
        """A point of every head's learning curve; a head whose loss is not finite has diverged."""
        for fold, (weight, done) in enumerate(zip(sums.weight, self._done, strict=True)):
            for trial, optim in enumerate(self._optims):
                loss = float(sums.losses[trial, fold]) / weight if weight else float("nan")
                if not np.isfinite(loss):
                    why = f"the training loss is {loss} in epoch {number + 1}, by step {done}"
                    self._diverged.setdefault((trial, fold), DivergenceError(why))
                    continue
                [rate] = _rates(optim, self._draws.num_steps[fold], first=done - 1, num=1)
                self._curves[trial][fold].append(
                    Epoch(
                        epoch=number + 1,
                        train_loss=float(loss),
                        train_uar=classification.rates(sums.confusion[trial, fold])["uar"],
                        learning_rate=rate,
                    )
                )

    # -- scoring

    @torch.no_grad()
    def _score(self, index: int, seconds: float) -> list[FoldScore | DivergenceError]:
        """The score of each trial's head of one fold on the held-out clips."""
        fold, clips = self._folds[index], self._clips
        lengths = clips.lengths[fold.held_out]
        logits = np.zeros((len(self._optims), len(lengths), clips.num_classes), np.float32)
        for batch in scoring_batches(lengths):
            x = clips.vectors[torch.from_numpy(fold.held_out[batch])]
            for trial in range(len(self._optims)):
                logits[trial, batch] = self._outputs(x, trial, index).numpy()
        clip_ids = TextColumn(clips.clip_ids.take(pa.array(fold.held_out)))  # of all trials
        targets = clips.targets[fold.held_out]
        return [
            self._fold_score(trial, index, logits[trial], clip_ids, targets, seconds)
            for trial in range(len(logits))
        ]

    def _outputs(
        self, x: Float[Tensor, "batch ..."], trial: int, index: int
    ) -> Float[Tensor, "batch classes"]:
        """Logits of one head in evaluation mode."""
        if self._mixes:
            x = torch.einsum("s,bsd->bd", self._parameters[0][trial, index].softmax(0), x)
        x = x.flatten(1)
        for number, (weight, bias) in enumerate(self._layers()):
            x = nn.functional.linear(x.relu() if number else x, weight[trial, index], bias[trial, index])
        return x

    def _fold_score(
        self,
        trial: int,
        index: int,
        logits: Float[np.ndarray, "clips classes"],
        clip_ids: Sequence[str],
        targets: Int[np.ndarray, " clips"],
        seconds: float,
    ) -> FoldScore | DivergenceError:
        if error := self._diverged.get((trial, index)):
            return error
        fold = self._folds[index]
        try:
            return fold_score(
                logits,
                fold=fold.number,
                clip_ids=clip_ids,
                targets=targets,
                num_train=len(fold.train),
                seconds=seconds,
                curve=self._curves[trial][index],
                num_trained_parameters=sum(parameter[trial, index].numel() for parameter in self._parameters),
            )
        except DivergenceError as error:
            return error


def _rates(optim: OptimConfig, num_steps: int, *, first: int, num: int) -> list[float]:
    """The learning rate of up to num of num_steps steps, from the first on."""
    steps = range(first, min(first + num, num_steps))
    return [
        optim.learning_rate * learning_rate_scale(step, num_steps=num_steps, optim=optim) for step in steps
    ]


@dataclass(kw_only=True)
class _EpochSums:
    """Sums over the steps of an epoch."""

    losses: Float[Tensor, "trials folds"]
    weight: Float[np.ndarray, " folds"]
    confusion: Int[np.ndarray, "trials folds classes classes"]

    @classmethod
    def zero(cls, num_trials: int, num_folds: int, num_classes: int) -> "_EpochSums":
        """The sums before the first step."""
        return cls(
            losses=torch.zeros(num_trials, num_folds, dtype=torch.float64),
            weight=np.zeros(num_folds),
            confusion=np.zeros((num_trials, num_folds, num_classes, num_classes), np.int64),
        )
