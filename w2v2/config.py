"""Settings of every job: frozen dataclasses, one per concern, each checking its own fields.

A flag is a field's path (`--optim.learning_rate 3e-5`) and a YAML file nests the same way.
"""

from dataclasses import dataclass, field
from typing import Literal

TaskKind = Literal["classes", "multi_label", "regression"]
Descriptor = Literal["mfcc", "chroma", "spectral", "pitch", "energy", "egemaps"]


class UserError(ValueError):
    """A mistake the user can mend: one sentence that says what, got, wanted and what to do."""


def at_least(section: str, config: object, low: float, *names: str) -> None:
    """Raises UserError unless each of these fields is at least `low`."""
    for name in names:
        value = getattr(config, name)
        if not value >= low:
            raise UserError(f"{section}{'.' if section else ''}{name} must be at least {low:g}, got {value}")


def _fraction(section: str, config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise UserError(f"{section}.{name} must be in [0, 1), got {value}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the clips and their labels are."""

    uri: str = "demo"
    """A folder or gs:// prefix of RAVDESS files (or any audio, see layout), a .csv file of clips
    (local or gs://), or 'demo'."""
    layout: Literal["auto", "ravdess", "csv", "clinic", "deam", "files"] = "auto"
    """How to read uri: RAVDESS's file names tell label and speaker; a CSV has them in columns; clinic is a
    folder with train.csv, test.csv (and val.csv) and labels.txt; deam is a folder with DEAM's annotations
    and songs; files are any audio files, without labels. auto takes csv for a name that ends in .csv and
    ravdess otherwise (jobs that need no labels: files, where not all names are RAVDESS's)."""
    vocal_channel: Literal["speech", "song", "both"] = "speech"
    """RAVDESS: which vocal channel to use."""
    id_column: str = "clip_id"
    """CSV: column that names a clip; where the file has none, the uri (and its segment) names it."""
    uri_column: str = "uri"
    """CSV: column with a gs:// or file uri, or a path relative to the CSV's folder."""
    label_column: str = "label"
    """CSV: column with the class."""
    speaker_column: str = "speaker"
    """CSV: column with the speaker, the unit that never stands on both sides of a split; clinic: column, or
    else key of metadata.json."""
    start_column: str = "start_s"
    """CSV: optional column, where in the file the clip starts, in seconds."""
    end_column: str = "end_s"
    """CSV: optional column, where in the file the clip ends, in seconds."""
    split_column: str = "split"
    """CSV: optional column with a split of one's own: train, val or test."""
    target_columns: tuple[str, ...] = ()
    """CSV: the columns of several labels (0, 1 or empty) or values (numbers or empty), for task.kind
    multi_label and regression."""
    labels_file: str = ""
    """clinic: the file of labels, one head per line, the labels of a line separated by commas; a name in the
    folder or a whole path; empty is labels.txt."""
    studies: tuple[str, ...] = ()
    """clinic: the subfolders whose recordings are used; empty is all."""
    classes: dict[str, str] = field(default_factory=dict)
    """Class names to rename or merge, e.g. {calm: neutral}; the name 'drop' leaves a class out."""
    max_reject_fraction: float = 0.01
    """The job stops when a larger fraction of the clips cannot be used."""
    num_readers: int = 16
    """How many objects are read at once by each process."""

    def __post_init__(self) -> None:
        if not self.uri:
            raise UserError("data.uri is empty: give a folder, a gs:// prefix, a .csv file or 'demo'")
        if not 0 <= self.max_reject_fraction <= 1:
            raise UserError(f"data.max_reject_fraction must be in [0, 1], got {self.max_reject_fraction}")
        at_least("data", self, 1, "num_readers")


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """How bytes become a mono 16 kHz waveform."""

    resampler: Literal["soxr", "torchaudio", "librosa"] = "soxr"
    """Who resamples to 16 kHz; soxr HQ is the most exact and the fastest of the three."""
    trim_db: float = 0.0
    """Cut leading and trailing silence quieter than this many dB below the peak; 0 is off."""
    crop_s: float = 0.0
    """Keep only the first seconds of a clip; 0 is off."""
    fixed_s: float = 0.0
    """Cut or fill up with zeros to exactly so many seconds, as input of one length; 0 is off."""
    min_s: float = 0.1
    """Shorter clips are rejected."""
    max_s: float = 60.0
    """Longer clips are rejected (after crop_s, where that is set)."""

    def __post_init__(self) -> None:
        at_least("audio", self, 0, "trim_db", "crop_s", "fixed_s")
        at_least("audio", self, 0.025, "min_s")
        if not self.min_s < self.max_s <= 3600:
            raise UserError(f"audio.max_s must be in (audio.min_s={self.min_s:g}, 3600], got {self.max_s:g}")
        for name in ("crop_s", "fixed_s"):
            if 0 < getattr(self, name) < self.min_s:
                raise UserError(
                    f"audio.{name}={getattr(self, name):g} is shorter than audio.min_s={self.min_s:g}: no clip would be left"
                )


@dataclass(frozen=True, kw_only=True)
class FoldsConfig:
    """How speakers are dealt into folds; no speaker is ever in two."""

    kind: Literal["published", "consecutive", "grouped"] = "published"
    """published: EmoBox's six folds of four RAVDESS actors; consecutive: speakers in order, equal
    runs; grouped: computed, balanced in clips and classes, for any corpus."""
    num_folds: int = 6
    """Number of folds; the published ones are six."""

    def __post_init__(self) -> None:
        at_least("folds", self, 2, "num_folds")
        if self.kind == "published" and self.num_folds != 6:
            raise UserError(
                f"folds.num_folds must be 6 for the published folds, got {self.num_folds}; "
                "use --folds.kind grouped or consecutive for another number"
            )


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Which clips train, which tell when to stop (val), and which are scored once, at the end (test)."""

    kind: Literal["auto", "column", "speakers", "fold"] = "auto"
    """column: the data says it (split_column; train.csv, val.csv, test.csv); speakers: drawn by seed, no
    speaker in two; fold: one of the folds is the test split; auto is column where there is one, else speakers."""
    val_fraction: float = 0.1
    """speakers: fraction of the speakers for val. Where the data has no val split, or with kind=fold, it is
    taken out of the speakers of train when training.patience_epochs asks for one."""
    test_fraction: float = 0.2
    """speakers: fraction of the speakers for test."""
    fold: int = 0
    """fold: the number of the fold that is the test split."""
    seed: int = 0
    """Seed of the draw, apart from the seed of training, so that seeds of training share a split."""

    def __post_init__(self) -> None:
        at_least("split", self, 0, "fold", "seed")
        _fraction("split", self, "val_fraction", "test_fraction")
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                f"split.val_fraction + split.test_fraction must be below 1, got {self.val_fraction} + {self.test_fraction}"
            )


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is predicted, and the loss that teaches it."""

    kind: TaskKind = "classes"
    """classes: one of several; multi_label: each label on its own, present or not; regression: numbers."""
    loss: Literal["auto", "cross_entropy", "bce", "mse", "ccc"] = "auto"
    """auto is cross_entropy for classes, bce for multi_label (mse by choice, on probabilities), mse for
    regression (ccc, one minus Lin's concordance, by choice)."""
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
    """Which wav2vec2-family encoder, how much of it is trained, and how a clip becomes one vector."""

    name: str = "tiny"
    """A hub name, a local folder, a gs:// folder, or 'tiny': a small one with random weights."""
    train: Literal["all", "no_conv", "last", "head"] = "all"
    """What is trained: everything, all but the convolutions, the last layers, or the head alone."""
    num_last_layers: int = 2
    """How many transformer layers encoder.train=last trains."""
    layer: Literal["last", "mix", "concat"] | int = "last"
    """The hidden state that is pooled: the last, layer n (0 enters the first layer), or of several layers a
    learned mix or their vectors side by side."""
    layers: tuple[int, ...] = ()
    """The layers of encoder.layer=mix or concat; empty is all, 0 included."""
    pooling: Literal["mean", "sum", "max", "mean+std", "attention"] = "mean"
    """How frames become one vector; only a clip's own frames count."""

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


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The classifier or regressor on top of the pooled vector."""

    widths: tuple[int, ...] = ()
    """Widths of hidden layers between the pooled vector and the outputs; empty is one linear layer."""
    dropout: float = 0.1
    """Dropout before each linear layer."""
    joined: tuple[Descriptor, ...] = ()
    """Hand-made features of the whole clip that stand beside the pooled vector, standardised by the
    training clips (egemaps needs opensmile installed)."""

    def __post_init__(self) -> None:
        _fraction("head", self, "dropout")
        if any(width < 1 for width in self.widths):
            raise UserError(f"head.widths must be positive, got {list(self.widths)}")


Schedule = Literal["constant", "linear", "cosine", "triangular2", "late_decay"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, its learning-rate schedule and the batch."""

    learning_rate: float = 1.5e-3
    """Peak learning rate; the default suits the built-in encoder, pretrained ones want 1e-5 to 1e-4."""
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
        for name in ("learning_rate", "eps"):
            if not getattr(self, name) > 0:
                raise UserError(f"optim.{name} must be positive, got {getattr(self, name)}")
        at_least("optim", self, 0, "weight_decay", "clip_norm")
        at_least("optim", self, 1, "batch_size", "late_batch_factor", "accumulation_steps")
        _fraction("optim", self, "beta1", "beta2", "warmup_fraction")
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
    """jobs/finetune.py: stop when the loss of the val split has not fallen for so many epochs, and keep the
    weights of the best; 0 trains all epochs and keeps the last."""
    mask_time_fraction: float = 0.0
    """SpecAugment: fraction of frames masked in spans; 0 is off."""
    mask_feature_fraction: float = 0.0
    """SpecAugment: fraction of feature channels masked in spans; 0 is off."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 computes in bfloat16 on a GPU and is refused on a CPU, where it is many times slower."""

    def __post_init__(self) -> None:
        at_least("training", self, 1, "num_epochs")
        at_least("training", self, 0, "patience_epochs")
        _fraction("training", self, "label_smoothing", "mask_time_fraction", "mask_feature_fraction")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training waveforms; never of what is cached or held out."""

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
    """shift: largest part of a clip that it is moved by, in time, around its end."""
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
    """What is kept while a model trains, to go on from when it is stopped."""

    every_steps: int = 0
    """Optimizer steps between checkpoints, beside one at the end of each epoch; 0 is those alone."""
    keep: int = 2
    """The newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        at_least("checkpoint", self, 0, "every_steps")
        at_least("checkpoint", self, 1, "keep")


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where what is frozen is kept, for all trials, folds, epochs and later runs."""

    uri: str = "~/.cache/w2v2"
    """A folder that all workers see, or a gs:// prefix."""
    dtype: Literal["float32", "float16"] = "float32"
    """float16 halves the space; scores then agree to its rounding only."""
