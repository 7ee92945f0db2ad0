"""Settings of every job: frozen dataclasses, one per concern, each checking its own fields.

A flag is a field's path (`--optim.learning_rate 3e-5`) and a YAML file nests the same way.
"""

from dataclasses import dataclass, field, fields
from typing import Literal


class UserError(ValueError):
    """A mistake the user can mend: one sentence that says what, got, wanted and what to do."""


def _at_least(section: str, config: object, low: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value >= low:
            raise UserError(f"{section}.{name} must be at least {low:g}, got {value}")


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
    layout: Literal["auto", "ravdess", "csv", "files"] = "auto"
    """How to read uri: RAVDESS's file names tell label and speaker, a CSV has them in columns, files are
    any audio files, without either. auto takes csv for a name that ends in .csv and ravdess otherwise
    (jobs that need no labels: files, where not all names are RAVDESS's)."""
    vocal_channel: Literal["speech", "song", "both"] = "speech"
    """RAVDESS: which vocal channel to use."""
    id_column: str = "clip_id"
    """CSV: column that names a clip; where the file has none, the uri (and its segment) names it."""
    uri_column: str = "uri"
    """CSV: column with a gs:// or file uri, or a path relative to the CSV's folder."""
    label_column: str = "label"
    """CSV: column with the class."""
    speaker_column: str = "speaker"
    """CSV: column with the speaker, the unit that never stands on both sides of a split."""
    start_column: str = "start_s"
    """CSV: optional column, where in the file the clip starts, in seconds."""
    end_column: str = "end_s"
    """CSV: optional column, where in the file the clip ends, in seconds."""
    split_column: str = "split"
    """CSV: optional column with a split of one's own."""
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
        _at_least("data", self, 1, "num_readers")


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """How bytes become a mono 16 kHz waveform."""

    resampler: Literal["soxr", "torchaudio", "librosa"] = "soxr"
    """Who resamples to 16 kHz; soxr HQ is the most exact and the fastest of the three."""
    trim_db: float = 0.0
    """Cut leading and trailing silence quieter than this many dB below the peak; 0 is off."""
    crop_s: float = 0.0
    """Keep only the first seconds of a clip; 0 is off."""
    min_s: float = 0.1
    """Shorter clips are rejected."""
    max_s: float = 60.0
    """Longer clips are rejected (after crop_s, where that is set)."""

    def __post_init__(self) -> None:
        _at_least("audio", self, 0, "trim_db", "crop_s")
        _at_least("audio", self, 0.025, "min_s")
        if not self.min_s < self.max_s <= 3600:
            raise UserError(f"audio.max_s must be in (audio.min_s={self.min_s:g}, 3600], got {self.max_s:g}")
        if self.crop_s and self.crop_s < self.min_s:
            raise UserError(
                f"audio.crop_s={self.crop_s:g} is shorter than audio.min_s={self.min_s:g}: no clip would be left"
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
        _at_least("folds", self, 2, "num_folds")
        if self.kind == "published" and self.num_folds != 6:
            raise UserError(
                f"folds.num_folds must be 6 for the published folds, got {self.num_folds}; "
                "use --folds.kind grouped or consecutive for another number"
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
    layer: Literal["last", "mix"] | int = "last"
    """The hidden state that is pooled: the last, layer n (0 enters the first layer), or a learned mix."""
    pooling: Literal["mean", "sum", "max", "mean+std", "attention"] = "mean"
    """How frames become one vector; only a clip's own frames count."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("encoder.name is empty: give a hub name, a folder, a gs:// folder or 'tiny'")
        _at_least("encoder", self, 1, "num_last_layers")
        if isinstance(self.layer, int):
            _at_least("encoder", self, 0, "layer")


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The classifier on top of the pooled vector."""

    widths: tuple[int, ...] = ()
    """Widths of hidden layers between the pooled vector and the classes; empty is one linear layer."""
    dropout: float = 0.1
    """Dropout before each linear layer."""

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
        _at_least("optim", self, 0, "weight_decay", "clip_norm")
        _at_least("optim", self, 1, "batch_size", "late_batch_factor", "accumulation_steps")
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
    mask_time_fraction: float = 0.0
    """SpecAugment: fraction of frames masked in spans; 0 is off."""
    mask_feature_fraction: float = 0.0
    """SpecAugment: fraction of feature channels masked in spans; 0 is off."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 computes in bfloat16 on a GPU and is refused on a CPU, where it is many times slower."""

    def __post_init__(self) -> None:
        _at_least("training", self, 1, "num_epochs")
        _fraction("training", self, "label_smoothing", "mask_time_fraction", "mask_feature_fraction")


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One searched field: an interval (low, high, on a log scale if log) or a list of choices."""

    low: float = 0.0
    """Smallest value of the interval."""
    high: float = 0.0
    """Largest value of the interval."""
    log: bool = False
    """Search on a log scale."""
    choices: tuple[bool | int | float | str, ...] = ()
    """Values to choose from, instead of an interval."""

    def __post_init__(self) -> None:
        if self.choices:
            if self.low or self.high or self.log:
                raise UserError(f"search.space: give either choices or low and high, got {self}")
        elif not self.low < self.high:
            raise UserError(f"search.space: low must be below high, got low={self.low:g} high={self.high:g}")
        elif self.log and not self.low > 0:
            raise UserError(f"search.space: low must be positive on a log scale, got {self.low:g}")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The Bayesian search: Ray Tune runs the trials, Optuna's TPE proposes them."""

    num_trials: int = 6
    """Trials in all, those of earlier runs of the same command included."""
    space: dict[str, Dimension] = field(default_factory=dict)
    """Searched fields by path, e.g. {optim.learning_rate: {low: 1e-5, high: 1e-3, log: true}};
    empty takes the default space over AdamW, which is written to config.yaml."""
    metric: Literal["uar", "accuracy", "macro_f1"] = "uar"
    """What a trial maximises: the mean of this metric over the folds."""
    pruning: Literal["none", "asha", "median", "wilcoxon"] = "asha"
    """Who stops a trial between folds."""
    num_startup_trials: int = 5
    """Random trials before TPE proposes."""
    max_concurrent_trials: int = 0
    """Trials at once; 0 is as many as the cluster's CPUs and GPUs allow. 1 repeats a search bit for bit."""
    cpus_per_trial: float = 1.0
    """CPUs (and threads) of one trial."""
    gpus_per_trial: float = 1.0
    """GPUs of one trial, fractions allowed; a cluster without GPUs runs trials on CPUs."""
    workers_per_fold: int = 1
    """More than 1 trains each fold with that many DDP workers under Ray Train."""

    def __post_init__(self) -> None:
        _at_least("search", self, 1, "num_trials", "num_startup_trials", "workers_per_fold")
        _at_least("search", self, 0, "max_concurrent_trials", "gpus_per_trial")
        if not self.cpus_per_trial > 0:
            raise UserError(f"search.cpus_per_trial must be positive, got {self.cpus_per_trial}")


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where what is frozen is kept, for all trials, folds, epochs and later runs."""

    uri: str = "~/.cache/w2v2"
    """A folder that all workers see, or a gs:// prefix."""
    dtype: Literal["float32", "float16"] = "float32"
    """float16 halves the space; scores then agree to its rounding only."""


@dataclass(frozen=True, kw_only=True)
class TuneFoldsConfig:
    """Search AdamW's hyperparameters; every trial is scored by cross-validation over speaker folds."""

    run: str = "runs/tune_folds"
    """The run directory, local or gs://; the same directory continues the same run."""
    seed: int = 0
    """Seed of weights, batches and search."""
    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)

    def __post_init__(self) -> None:
        for path in self.search.space:
            section, _, name = path.partition(".")
            if section not in ("encoder", "head", "optim", "training"):
                raise UserError(
                    f"search.space: {path!r} is not a field that trials can vary; use encoder., head., optim. or training."
                )
            known = [f.name for f in fields(getattr(self, section))]
            if name not in known:
                raise UserError(f"search.space: {path!r} is not a field; {section} has {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class VectorConfig:
    """Which wav2vec2-family encoder makes the vectors, of which layers, and how frames become one vector."""

    name: str = "tiny"
    """A hub name, a local folder, a gs:// folder, or 'tiny': a small one with random weights."""
    layers: Literal["last", "all"] | int | tuple[int, ...] = "last"
    """Hidden states to pool, one row each: last, one number (0 enters the first layer), several, or all."""
    pooling: Literal["mean", "sum", "max", "mean+std"] = "mean"
    """How frames become one vector; only a clip's own frames count."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 computes in bfloat16 on a GPU, faster and with about two digits; it is refused on a CPU."""
    batch_s: float = 0.0
    """Seconds of audio, padding included, in one forward pass; 0 takes 16 on a CPU and 240 on a GPU."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("encoder.name is empty: give a hub name, a folder, a gs:// folder or 'tiny'")
        _at_least("encoder", self, 0, "batch_s")
        wanted = self.layers
        numbers = wanted if isinstance(wanted, tuple) else (wanted,) if isinstance(wanted, int) else (0,)
        if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
            raise UserError(
                f"encoder.layers must be last, all, or different numbers from 0 up, got {list(numbers)}"
            )


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """How the cluster is dealt out."""

    num_encoders: int = 0
    """Encoders that work at once; 0 is as many as the cluster's GPUs, or without any its CPUs, allow."""
    cpus_per_encoder: float = 1.0
    """CPUs (and threads) of an encoder on a cluster without GPUs."""
    gpus_per_encoder: float = 1.0
    """GPUs of an encoder, fractions allowed; a cluster without GPUs computes on CPUs."""
    clips_per_part: int = 0
    """Clips whose vectors are written at once, and at most lost when a worker dies; 0 chooses."""

    def __post_init__(self) -> None:
        _at_least("workers", self, 0, "num_encoders", "clips_per_part")
        for name in ("cpus_per_encoder", "gpus_per_encoder"):
            if not getattr(self, name) > 0:
                raise UserError(f"workers.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """One row a clip, layer and window in a table: the pooled vector of an encoder, exactly once."""

    run: str = "runs/extract_embeddings"
    """The run directory, local or gs://; the same directory continues the same run."""
    table: str = ""
    """bq://project.dataset.table, duckdb:///folder/file.db?table=name, or a folder (local or gs://) of
    Parquet; empty is <run>/embeddings.db, a DuckDB file (Parquet in <run>/embeddings for a gs:// run)."""
    plan: bool = False
    """Only tell what would be done: clips, hours, bytes, rows, time; nothing is written."""
    window_s: float = 0.0
    """Cut clips into windows of this many seconds, one row each; 0 is one row for the whole clip."""
    hop_s: float = 0.0
    """Seconds from one window's start to the next one's; 0 is window_s."""
    labels: bool | tuple[str, ...] = False
    """Text columns that the table gets too: true is label and speaker; or names out of label, speaker,
    split and any columns of the CSV."""
    seed: int = 0
    """Seed of the random weights of 'tiny'."""
    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    encoder: VectorConfig = field(default_factory=VectorConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def __post_init__(self) -> None:
        if self.window_s and self.window_s < self.audio.min_s:
            raise UserError(
                f"window_s must be 0 or at least audio.min_s={self.audio.min_s:g}, got {self.window_s:g}"
            )
        if self.hop_s and not 0 < self.hop_s <= self.window_s:
            raise UserError(f"hop_s must be in (0, window_s={self.window_s:g}], got {self.hop_s:g}")

    @property
    def carried(self) -> tuple[str, ...]:
        """The names of the text columns that are taken along."""
        if isinstance(self.labels, bool):
            return ("label", "speaker") if self.labels else ()
        return self.labels
