"""Settings of `w2v2 pretrain`."""

from dataclasses import dataclass, field, replace
from typing import Literal

from w2v2.config.checks import at_least, fraction
from w2v2.config.data import AudioConfig, CacheConfig, DataConfig, FoldsConfig
from w2v2.config.job import RESUMABLE_IN_EVERY_JOB, TrackedJobConfig
from w2v2.config.model import CheckpointConfig, EncoderConfig, OptimConfig, Schedule
from w2v2.config.resources import TrainingResources
from w2v2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PretrainDataConfig(DataConfig):
    """The place and layout of the audio; labels are not used."""

    exclude_speakers: tuple[str, ...] = ()
    """Speakers whose clips are not used at all, such as the speakers on whom a later model will be scored."""


@dataclass(frozen=True, kw_only=True)
class PretrainEncoderConfig:
    """The encoder to pre-train, and the weights to begin with."""

    name: str = "tiny"
    """A hub name, a local folder, a gs:// folder, or 'tiny': a small one with random weights."""
    train: Literal["all", "no_conv"] = "all"
    """all, or all but the convolutions, whose output is then computed once per clip."""
    weights: Literal["checkpoint", "random"] = "checkpoint"
    """checkpoint continues from the weights of name; random takes its architecture alone."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("encoder.name is empty: give a hub name, a folder, a gs:// folder or 'tiny'")
        if self.train == "no_conv" and self.is_random:
            raise UserError(
                "encoder.train=no_conv keeps the convolutions as they are, and here they are random: use "
                "--encoder.train all, or continue from a checkpoint"
            )

    @property
    def is_random(self) -> bool:
        """Whether training begins with random weights."""
        return self.name == "tiny" or self.weights == "random"

    def as_encoder(self) -> EncoderConfig:
        """These settings as an EncoderConfig, by which all jobs open encoders."""
        return EncoderConfig(name=self.name, train=self.train)


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The prediction for masked frames."""

    objective: Literal["contrastive", "clusters"] = "contrastive"
    """contrastive: find the frame's own codes among the codes of other frames, as wav2vec 2.0 (wav2vec2 models only);
    clusters: find the number of the frame's cluster, as HuBERT (Hsu et al. 2021), for every family."""
    num_clusters: int = 100
    """clusters: clusters of a k-means over frames of the training clips."""
    cluster_features: Literal["mfcc"] | int = "mfcc"
    """clusters: the vectors that are clustered: 39 MFCC of each frame, or the hidden state of this layer (0 enters the
    first layer) of the encoder that training begins with."""

    def __post_init__(self) -> None:
        at_least("pretrain", self, 2, "num_clusters")
        if isinstance(self.cluster_features, int):
            at_least("pretrain", self, 0, "cluster_features")


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """The frames that are hidden from the encoder, and the distractors for them."""

    start_probability: float = 0.065
    """How likely a masked span starts at a frame; 0.065 with spans of 10 masks about half of the frames."""
    span: int = 10
    """Frames of one masked span."""
    num_negatives: int = 100
    """Negatives for each masked frame, drawn from the other masked frames of its clip."""

    def __post_init__(self) -> None:
        if not 0 < self.start_probability < 1:
            raise UserError(f"mask.start_probability must be in (0, 1), got {self.start_probability}")
        at_least("mask", self, 2, "span")
        at_least("mask", self, 1, "num_negatives")

    @property
    def min_frames(self) -> int:
        """The shortest clip with a whole span and a frame to predict it from."""
        return self.span + 1


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """Two (or more) books of codes that make the targets, and how sharply they are chosen."""

    num_groups: int = 0
    """Books; 0 takes those of the checkpoint, or 2."""
    num_codes: int = 0
    """Codes in each book; 0 takes the checkpoint's number, or 320 (64 for 'tiny')."""
    code_dim: int = 0
    """Width of the codes of all books together; 0 takes the checkpoint's width, or 256 (64 for 'tiny')."""
    project_dim: int = 0
    """Width of the vectors that are compared; 0 takes the checkpoint's width, or 256 (64 for 'tiny')."""
    gumbel_start: float = 2.0
    """Temperature of the Gumbel softmax (Jang et al. 2017) at the first step."""
    gumbel_end: float = 0.5
    """Its lowest temperature."""
    gumbel_decay: float = 0.0
    """Factor on it after each step; 0 reaches the end after 70 % of the steps."""

    def __post_init__(self) -> None:
        at_least("quantizer", self, 0, "num_groups", "num_codes", "code_dim", "project_dim")
        if self.num_groups and self.code_dim % self.num_groups:
            raise UserError(
                f"quantizer.code_dim must be a multiple of quantizer.num_groups={self.num_groups}, got {self.code_dim}"
            )
        if not 0 < self.gumbel_end <= self.gumbel_start:
            raise UserError(
                f"quantizer.gumbel_end must be in (0, gumbel_start={self.gumbel_start:g}], got {self.gumbel_end:g}"
            )
        if not 0 <= self.gumbel_decay <= 1:
            raise UserError(f"quantizer.gumbel_decay must be in [0, 1], got {self.gumbel_decay:g}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The weights of the parts of the loss (Baevski et al. 2020, arXiv:2006.11477)."""

    temperature: float = 0.1
    """Divides the cosine similarities of the contrastive loss."""
    diversity_weight: float = 0.1
    """Weight of the loss that asks for all codes to be used equally often."""
    feature_penalty: float = 0.0
    """Weight of the mean square of the convolutions' output; fairseq has 10 for base and 0 for large."""
    feature_grad_scale: float = 1.0
    """Factor on the gradient that reaches the convolutions; fairseq has 0.1 for base and 1 for large."""

    def __post_init__(self) -> None:
        at_least("loss", self, 0, "diversity_weight", "feature_penalty", "feature_grad_scale")
        if not self.temperature > 0:
            raise UserError(f"loss.temperature must be positive, got {self.temperature:g}")


@dataclass(frozen=True, kw_only=True)
class PretrainOptimConfig:
    """AdamW, its learning-rate schedule, and batches by seconds of audio."""

    learning_rate: float = 0.0
    """Peak learning rate; 0 is 1e-4 from a checkpoint, 5e-4 from random weights and 3e-3 for 'tiny'."""
    weight_decay: float = 0.01
    """Decoupled weight decay, not applied to biases and normalisation weights."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.98
    """Decay of the second moment."""
    eps: float = 1e-6
    """Added to the root of the second moment."""
    schedule: Schedule = "linear"
    """After warm-up, as in `w2v2 finetune`."""
    warmup_fraction: float = 0.1
    """Fraction of the steps over which the learning rate rises linearly from zero."""
    batch_s: float = 0.0
    """Seconds of audio per optimizer step, over all workers; 0 is 10 for 'tiny' and 240 for others."""
    pass_s: float = 0.0
    """The most seconds of audio, padding included, in one forward pass of a worker; 0 is its whole share of a batch. A
    smaller number takes less memory and changes no result."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0 is off."""

    def __post_init__(self) -> None:
        at_least("optim", self, 0, "learning_rate", "batch_s", "pass_s")
        self.at(self.learning_rate or 1.0)  # checks the rest

    def at(self, learning_rate: float) -> OptimConfig:
        """These settings as an OptimConfig with this learning rate, by which all optimizers are made."""
        names = ("weight_decay", "beta1", "beta2", "eps", "schedule", "warmup_fraction", "clip_norm")
        return OptimConfig(learning_rate=learning_rate, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class PretrainTrainingConfig:
    """The training loop."""

    num_epochs: int = 20
    """Passes over the clips."""
    crop_s: float = 0.0
    """Longer clips are cut to so many seconds, at a place drawn anew in each epoch; 0 is off."""
    val_fraction: float = 0.1
    """Fraction of the speakers (of the recordings, where speakers are not known) whose loss is measured
    after each epoch and who do not train; 0 is none."""
    on_collapse: Literal["stop", "warn"] = "stop"
    """What happens when the codes collapse, or only their diversity is learned: stop with exit code 2, or log a warning
    and continue."""

    def __post_init__(self) -> None:
        at_least("training", self, 1, "num_epochs")
        at_least("training", self, 0, "crop_s")
        fraction("training", self, "val_fraction")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrackedJobConfig):
    """Pre-train an encoder on audio without labels: identify hidden frames among others of the same clip."""

    RESUMABLE = (
        *RESUMABLE_IN_EVERY_JOB,
        "track",
        "resources.min_workers",
        "resources.cpus_per_worker",
        "resources.gpus_per_worker",
        "checkpoint.every_steps",
        "checkpoint.keep",
        "training.on_collapse",
    )
    run: str = "runs/pretrain"
    """The run directory, local or gs://; the same directory continues the same run."""
    seed: int = 0
    """Seed of weights, batches, masks, negatives and noise."""
    per_fold: bool = False
    """Pre-train one encoder for each fold (section folds) on the speakers outside it, in <run>/fold-<number>/model;
    `w2v2 tune-folds --encoder.name <run>` takes each fold's own. Labels, where known, only balance the folds."""
    data: PretrainDataConfig = field(default_factory=PretrainDataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    encoder: PretrainEncoderConfig = field(default_factory=PretrainEncoderConfig)
    pretrain: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: PretrainOptimConfig = field(default_factory=PretrainOptimConfig)
    training: PretrainTrainingConfig = field(default_factory=PretrainTrainingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    resources: TrainingResources = field(default_factory=TrainingResources)
    cache: CacheConfig = field(default_factory=CacheConfig)

    def __post_init__(self) -> None:
        self.alone_if_local("resources.num_workers")
        if isinstance(self.pretrain.cluster_features, int) and self.encoder.is_random:
            raise UserError(
                "pretrain.cluster_features must be mfcc where the encoder begins with random weights, got layer "
                f"{self.pretrain.cluster_features}"
            )

    @property
    def has_clusters(self) -> bool:
        """Whether clusters are predicted."""
        return self.pretrain.objective == "clusters"

    def target_encoder(self) -> EncoderConfig | None:
        """The encoder whose cached features are clustered, where training uses other features."""
        if not self.has_clusters:
            return None
        layer = self.pretrain.cluster_features
        if layer == "mfcc":  # of waveforms
            return None if self.encoder.train == "all" else EncoderConfig(name=self.encoder.name, train="all")
        return EncoderConfig(name=self.encoder.name, train="head", layer=layer, pooling="attention")


def with_recipe(config: PretrainConfig) -> PretrainConfig:
    """The settings with a learning rate and a batch that suit the encoder, where they are left open (0)."""
    match config.encoder.name, config.encoder.is_random:
        case "tiny", _:
            learning_rate, batch_s = 3e-3, 10.0
        case _, True:
            learning_rate, batch_s = 5e-4, 240.0
        case _:
            learning_rate, batch_s = 1e-4, 240.0
    optim = replace(
        config.optim,
        learning_rate=config.optim.learning_rate or learning_rate,
        batch_s=config.optim.batch_s or batch_s,
    )
    return replace(config, optim=optim)
