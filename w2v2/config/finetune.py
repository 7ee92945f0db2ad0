"""Settings of `w2v2 finetune`, `evaluate` and `predict`."""

from dataclasses import dataclass, field
from typing import Literal

from w2v2.config.checks import at_least, check_hop
from w2v2.config.data import AudioConfig, CacheConfig, FoldsConfig, SplitConfig
from w2v2.config.decode import DecodeConfig
from w2v2.config.job import RESUMABLE_IN_EVERY_JOB, JobConfig, TrackedJobConfig
from w2v2.config.model import (
    AugmentConfig,
    CheckpointConfig,
    EncoderConfig,
    HeadConfig,
    LoraConfig,
    OptimConfig,
    TaskConfig,
    TrainingConfig,
    check_mixup,
    check_trains_layers,
)
from w2v2.config.resources import InferenceResources, TrainingResources
from w2v2.config.text import TextConfig, check_transcripts
from w2v2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrackedJobConfig):
    """Train one model on the train split and score it once on the test split."""

    RESUMABLE = (
        *RESUMABLE_IN_EVERY_JOB,
        "track",
        "resources.min_workers",
        "resources.cpus_per_worker",
        "resources.gpus_per_worker",
        "checkpoint.every_steps",
        "checkpoint.keep",
        "data.slice_columns",
        "decode",
    )
    run: str = "runs/finetune"
    """The run directory, local or gs://; the same directory continues the same run."""
    seed: int = 0
    """Seed of weights and batches."""
    tuned_on: str = ""
    """The run directory of the search that chose these settings; its best.yaml sets it. Speakers that the search scored
    are not unseen by these settings; the score of the test split says so."""
    ensemble: Literal["none", "folds", "seeds"] = "none"
    """Train several models into one model folder, whose outputs evaluate and predict average: `seeds` gives each a seed
    of its own, `folds` trains each without one of as many groups of the training speakers, which also scores every
    training clip by the one model that has not seen its speaker."""
    ensemble_size: int = 5
    """How many models an ensemble has."""
    before_remapping: bool = False
    """Train a second model on the original classes, without data.classes, in <run>/before_remapping, and show its
    report next to the report for the remapped classes."""
    task: TaskConfig = field(default_factory=TaskConfig)
    text: TextConfig = field(default_factory=TextConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    resources: TrainingResources = field(default_factory=TrainingResources)
    cache: CacheConfig = field(default_factory=CacheConfig)

    def __post_init__(self) -> None:
        at_least("", self, 2, "ensemble_size")
        if self.ensemble != "none" and self.task.kind == "transcript":
            raise UserError(
                "ensemble averages probabilities or values, and task.kind=transcript has texts: leave it out"
            )
        self.alone_if_local("resources.num_workers")
        check_trains_layers(
            self.encoder, {"optim.layer_decay": self.optim.layer_decay != 1, "lora.rank": self.lora.rank > 0}
        )
        self._check_augmentation()
        if self.before_remapping and not self.data.classes:
            raise UserError("before_remapping needs data.classes, which says how classes are remapped")
        self._check_accumulation()
        check_mixup(self.task, self.training)
        self._check_task()

    @property
    def needs_val(self) -> bool:
        """Whether a val split decides when to stop, or which weights a beam search has."""
        return self.training.patience_epochs > 0 or (self.decode.kind == "beam" and self.decode.is_open)

    def _check_augmentation(self) -> None:
        """Raises UserError where waveforms cannot be changed as augment.kinds asks for."""
        if self.augment.kinds and self.encoder.train != "all":
            raise UserError(
                f"augment.kinds needs encoder.train=all, got {self.encoder.train}: frozen parts are computed once, from "
                "waveforms as they are"
            )
        if "speed" in self.augment.kinds and self.audio.fixed_s:
            raise UserError(
                "augment.kinds has speed, which changes lengths, but audio.fixed_s wants one: drop one of them"
            )

    def _check_accumulation(self) -> None:
        """Raises UserError for batches in parts whose loss looks at a batch as a whole."""
        whole = self.task.loss == "ccc" or self.task.variance_penalty or self.task.correlation_penalty
        if whole and self.optim.accumulation_steps > 1:
            raise UserError(
                "optim.accumulation_steps must be 1 with task.loss=ccc or a penalty, which look at a batch as a whole, "
                f"got {self.optim.accumulation_steps}"
            )

    def _check_task(self) -> None:
        """Raises UserError for settings of another kind of task."""
        if self.task.kind != "classes" and (
            self.training.class_weights != "none"
            or self.training.sampling != "all"
            or self.training.label_smoothing
        ):
            raise UserError(
                "training.class_weights, training.sampling and training.label_smoothing are for task.kind=classes, "
                f"got task.kind={self.task.kind}"
            )
        if self.decode != DecodeConfig() and self.task.kind != "transcript":
            raise UserError(f"decode.* is for task.kind=transcript, got task.kind={self.task.kind}")
        if self.task.kind == "transcript":
            self._check_transcripts()
        elif self.text != TextConfig():
            raise UserError(f"text.* is for task.kind=transcript, got task.kind={self.task.kind}")
        elif self.encoder.pooling == "none":
            raise UserError(
                f"encoder.pooling=none is for task.kind=transcript, got task.kind={self.task.kind}"
            )

    def _check_transcripts(self) -> None:
        """Raises UserError for settings that transcripts cannot have."""
        if self.decode.kind == "beam" and not self.decode.lm:
            raise UserError("decode.kind=beam needs a language model: give --decode.lm an ARPA file")
        check_transcripts(self.encoder, self.head, self.text, self.audio)
        if "shift" in self.augment.kinds:
            raise UserError(
                "augment.kinds has shift, which moves the end of a clip to its start, and so out of the order of its "
                "transcript: drop it"
            )


@dataclass(frozen=True, kw_only=True)
class SavedModelConfig(JobConfig):
    """Settings that evaluate and predict share: a saved model, the recordings to apply it to, and the workers."""

    model: str
    """The model/ folder of a finetune run, local or gs://; or a CTC model of transformers, such as
    facebook/wav2vec2-base-960h, in a folder or on the hub."""
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    resources: InferenceResources = field(default_factory=InferenceResources)

    def __post_init__(self) -> None:
        self.alone_if_local("resources.num_workers")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(SavedModelConfig):
    """Score a saved model on any data with labels."""

    run: str = "runs/evaluate"
    """The run directory, local or gs://."""
    split: str = ""
    """Only the clips of this split of the data (train, val or test); empty is all clips."""
    calibrated: bool = False
    """Score the probabilities after the temperature that the model keeps (classes)."""
    text: TextConfig = field(default_factory=TextConfig)
    """How references are normalised for a CTC model of transformers; models of w2v2 finetune keep their own setting."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig(SavedModelConfig):
    """Write a saved model's predictions for recordings whose labels are not known."""

    run: str = "runs/predict"
    """The run directory, local or gs://."""
    table: str = ""
    """A file ending in .csv, bq://project.dataset.table, duckdb:///folder/file.db?table=name, or a folder
    (local or gs://) of Parquet; empty is <run>/predictions.csv."""
    window_s: float = 0.0
    """Predict windows of so many seconds, one row each; 0 is one row for the whole clip. Transcripts are joined
    to one row again, so that recordings longer than the model's audio.max_s can be transcribed."""
    hop_s: float = 0.0
    """Seconds from one window's start to the next one's; 0 is window_s (for transcripts, whose windows must
    overlap, three quarters of it)."""
    words: bool = False
    """Transcripts: write the words of each clip with their start_s and end_s too, as JSON in a column words."""
    calibrated: bool = False
    """Classes: write the probabilities after the temperature that the model keeps."""
    decisions: bool = False
    """Several labels: write 1 or 0 for each too, in columns present_<label>, at the thresholds that the model keeps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("", self, 0, "window_s", "hop_s")
        check_hop(self.window_s, self.hop_s)
