"""Settings of an encoder, a head and how they are trained."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from w2v2.config.checks import at_least, fraction
from w2v2.config.data import Descriptor, TaskKind
from w2v2.errors import UserError

Schedule = Literal["constant", "linear", "cosine", "triangular2", "late_decay"]
Projection = Literal["query", "key", "value", "output", "feed_forward"]


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The kind of prediction, and the loss that trains it."""

    kind: TaskKind = "classes"
    """classes: one of several; multi_label: each label on its own, present or not; regression: numbers;
    transcript: the text that is spoken."""
    loss: Literal["auto", "cross_entropy", "bce", "mse", "ccc", "ctc"] = "auto"
    """auto is cross_entropy for classes, bce for multi_label (mse by choice, on probabilities), mse for
    regression (ccc, one minus Lin's concordance, by choice), ctc for transcript."""
    variance_penalty: float = 0.0
    """regression: weight of a penalty on predictions that spread less than the targets of the batch."""
    correlation_penalty: float = 0.0
    """regression: weight of a penalty on predictions of different targets that move together."""

    def __post_init__(self) -> None:
        at_least("task", self, 0, "variance_penalty", "correlation_penalty")
        fitting = {
            "classes": ("auto", "cross_entropy"),
            "multi_label": ("auto", "bce", "mse"),
            "regression": ("auto", "mse", "ccc"),
            "transcript": ("auto", "ctc"),
        }
        if self.loss not in fitting[self.kind]:
            raise UserError(
                f"task.loss must be one of {', '.join(fitting[self.kind])} for task.kind={self.kind}, got {self.loss}"
            )
        if self.kind != "regression" and (self.variance_penalty or self.correlation_penalty):
            raise UserError(
                f"task.variance_penalty and task.correlation_penalty are for task.kind=regression, got task.kind={self.kind}"
            )


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The encoder, the part of it that is trained, and the pooling of a clip to one vector."""

    name: str = "tiny"
    """A hub name, a local folder, a gs:// folder, or 'tiny': a small one with random weights."""
    train: Literal["all", "no_conv", "last", "head"] = "all"
    """The part that is trained: everything, all but the convolutions, the last layers, or only the head."""
    num_last_layers: int = 2
    """How many transformer layers encoder.train=last trains."""
    layer: Literal["last", "mix", "concat"] | int = "last"
    """The hidden state that is pooled: the last, layer n (0 enters the first layer), or of several layers a
    learned mix or their vectors side by side. A model has one vector per clip, so this says how several layers become
    one and encoder.layers which; extract-embeddings writes a row per layer and has encoder.layers alone."""
    layers: tuple[int, ...] = ()
    """The layers of encoder.layer=mix or concat; empty is all, 0 included."""
    pooling: Literal["mean", "sum", "max", "mean+std", "attention", "attentive_statistics", "none"] = "mean"
    """How frames become one vector; only a clip's own frames count. attention learns weights of frames for a mean,
    attentive_statistics for a mean and a standard deviation. none keeps the frames, as transcripts do."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("encoder.name is empty: give a hub name, a folder, a gs:// folder or 'tiny'")
        at_least("encoder", self, 1, "num_last_layers")
        if isinstance(self.layer, int):
            at_least("encoder", self, 0, "layer")
        if self.layers and self.layer not in ("mix", "concat"):
            raise UserError(
                f"encoder.layers is for encoder.layer=mix or concat, got encoder.layer={self.layer}"
            )
        if self.layers and (min(self.layers) < 0 or list(self.layers) != sorted(set(self.layers))):
            raise UserError(
                f"encoder.layers must be different numbers from 0 up, in order, got {list(self.layers)}"
            )


FIRST_ENCODER_FIELDS = ("name", "train", "num_last_layers", "layer", "layers", "pooling")
"""The fields that EncoderConfig had when names of records of encoders first hashed them."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adaptation (LoRA) of the layers that encoder.train trains; their own weights stay as they are."""

    rank: int = 0
    """Rank of the update of each weight; 0 is off, and the layers are trained whole."""
    alpha: float = 16.0
    """The update counts alpha / rank times."""
    projections: tuple[Projection, ...] = ("query", "key", "value", "output")
    """The weights of a layer that are updated: projections of its attention, and feed_forward."""

    def __post_init__(self) -> None:
        at_least("lora", self, 0, "rank")
        if not self.alpha > 0:
            raise UserError(f"lora.alpha must be positive, got {self.alpha}")
        if not self.projections or len(set(self.projections)) < len(self.projections):
            raise UserError(
                f"lora.projections must be different and at least one, got {list(self.projections)}"
            )


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The classifier or regressor on top of the pooled vector."""

    widths: tuple[int, ...] = ()
    """Widths of hidden layers between the pooled vector and the outputs; empty is one linear layer."""
    dropout: float = 0.1
    """Dropout before each linear layer."""
    joined: tuple[Descriptor, ...] = ()
    """Hand-made features of the whole clip that are joined to the pooled vector, standardised by the
    training clips (egemaps needs opensmile installed)."""

    def __post_init__(self) -> None:
        fraction("head", self, "dropout")
        if any(width < 1 for width in self.widths):
            raise UserError(f"head.widths must be positive, got {list(self.widths)}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, its learning-rate schedule and the batch."""

    learning_rate: float = 0.0
    """Peak learning rate; 0 depends on what is trained: 3e-5 for layers of a pretrained encoder, 3e-4 for their
    low-rank updates (lora.rank), 1.5e-3 for a head and for 'tiny' (4e-3 for transcripts by 'tiny')."""
    layer_decay: float = 1.0
    """Layer-wise decay of the learning rate: each layer has this factor times the rate of the layer above it, and the
    head the full rate; 1 is off, 0.8 to 0.95 are usual for pretrained encoders."""
    weight_decay: float = 0.01
    """Decoupled weight decay, not applied to biases and normalisation weights."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    amsgrad: bool = False
    """Use the maximum of past second moments."""
    schedule: Schedule = "linear"
    """After warm-up: constant; linear or cosine to zero; triangular2 cycles; late_decay is constant
    for the first 70 % of the steps, then linear to zero."""
    warmup_fraction: float = 0.1
    """Fraction of the steps over which the learning rate rises linearly from zero."""
    batch_size: int = 8
    """Clips per optimizer step, over all workers."""
    late_batch_factor: int = 1
    """Multiplies batch_size for the last 30 % of the epochs, instead of lowering the learning rate."""
    accumulation_steps: int = 1
    """Splits a batch into this many forward passes; the result is the same, memory is less."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0 is off."""

    def __post_init__(self) -> None:
        if not self.learning_rate >= 0:
            raise UserError(f"optim.learning_rate must be positive, got {self.learning_rate}")
        if not self.eps > 0:
            raise UserError(f"optim.eps must be positive, got {self.eps}")
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"optim.layer_decay must be in (0, 1], got {self.layer_decay}")
        at_least("optim", self, 0, "weight_decay", "clip_norm")
        at_least("optim", self, 1, "batch_size", "late_batch_factor", "accumulation_steps")
        fraction("optim", self, "beta1", "beta2", "warmup_fraction")
        if self.schedule == "late_decay" and self.warmup_fraction > 0.7:
            raise UserError(
                f"optim.warmup_fraction must be at most 0.7 with late_decay, got {self.warmup_fraction}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The training loop."""

    num_epochs: int = 10
    """Passes over the training clips; every fold runs all of them, nothing is chosen on held-out clips."""
    label_smoothing: float = 0.0
    """Probability mass spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced weighs each class by the inverse of its frequency among the training clips."""
    sampling: Literal["all", "balanced"] = "all"
    """all: every training clip once an epoch; balanced: as many draws, each class equally often."""
    patience_epochs: int = 0
    """Only in finetune: stop when the loss of the val split has not fallen for this many epochs, and keep the weights
    of the best epoch; 0 trains all epochs and keeps the last."""
    mixup_alpha: float = 0.0
    """Mixup (Zhang et al. 2018): each training clip's features at the encoder's cut and its target are mixed with those
    of another clip of its batch, in shares drawn from Beta(alpha, alpha); 0 is off, 0.1 to 0.4 are usual."""
    mask_time_fraction: float = 0.0
    """SpecAugment: fraction of frames masked in spans; 0 is off."""
    mask_feature_fraction: float = 0.0
    """SpecAugment: fraction of feature channels masked in spans; 0 is off."""

    def __post_init__(self) -> None:
        at_least("training", self, 1, "num_epochs")
        at_least("training", self, 0, "patience_epochs", "mixup_alpha")
        fraction("training", self, "label_smoothing", "mask_time_fraction", "mask_feature_fraction")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training waveforms; cached and held-out waveforms are never changed."""

    kinds: tuple[Literal["noise", "gain", "speed", "shift", "time_mask", "frequency_mask"], ...] = ()
    """Which changes; empty is off. They need encoder.train=all, which computes waveforms anew each epoch."""
    probability: float = 0.5
    """How likely each change is for a clip in an epoch."""
    snr_db: tuple[float, float] = (10.0, 40.0)
    """noise: range of the signal-to-noise ratio of added white noise."""
    gain_db: tuple[float, float] = (-6.0, 6.0)
    """gain: range of the change of level."""
    speed: tuple[float, float] = (0.9, 1.1)
    """speed: range of the factor of tempo; pitch stays."""
    shift_fraction: float = 0.1
    """shift: the largest shift in time, as a fraction of the clip; samples that leave at one end come in at the other."""
    mask_fraction: float = 0.1
    """time_mask, frequency_mask: largest part of the time or band that is silenced."""

    def __post_init__(self) -> None:
        for name in ("probability", "shift_fraction", "mask_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"augment.{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("snr_db", "gain_db", "speed"):
            low, high = getattr(self, name)
            if low > high:
                raise UserError(f"augment.{name} must be a range, low first, got {low:g} to {high:g}")
        if not 0.5 <= self.speed[0] <= self.speed[1] <= 2:
            raise UserError(f"augment.speed must be in [0.5, 2], got {self.speed[0]:g} to {self.speed[1]:g}")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Checkpoints while a model trains, from which it resumes when stopped."""

    every_steps: int = 0
    """Optimizer steps between checkpoints, in addition to one at the end of each epoch; 0 is those alone."""
    keep: int = 2
    """The newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        at_least("checkpoint", self, 0, "every_steps")
        at_least("checkpoint", self, 1, "keep")


def check_mixup(task: TaskConfig, training: TrainingConfig, *, searched: Collection[str] = ()) -> None:
    """Raises UserError where mixup is used, or searched over, and the task's targets have no mixture."""
    is_used = training.mixup_alpha or "training.mixup_alpha" in searched
    whole = task.loss == "ccc" or task.variance_penalty or task.correlation_penalty
    if is_used and (whole or task.kind == "transcript"):
        raise UserError(
            "training.mixup_alpha is for losses that add up over clips with one target each: task.loss=ccc and the "
            "penalties measure the spread of a batch's targets, which mixing shrinks, and two transcripts have no "
            f"mixture; leave it out, got task.kind={task.kind} and task.loss={task.loss}"
        )


def check_trains_layers(
    encoder: EncoderConfig, settings: Mapping[str, bool], *, searched: Collection[str] = ()
) -> None:
    """Raises UserError where a setting of the encoder's trained layers is used (True) or searched, and none is trained.

    settings and searched are dotted paths.
    """
    if encoder.train != "head" or "encoder.train" in searched:
        return
    for path, is_used in settings.items():
        if is_used or path in searched:
            raise UserError(
                f"{path} is for trained layers of the encoder, and encoder.train=head trains none: leave it out, or train "
                "some with --encoder.train last"
            )
