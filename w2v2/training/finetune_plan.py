"""What every process of a fine-tuning needs, and the clips as it needs them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from w2v2.config.finetune import FinetuneConfig
from w2v2.data.groups import dictionary_encoded
from w2v2.data.manifest import Manifest
from w2v2.data.targets import output_groups, target_array
from w2v2.data.text import Vocabulary
from w2v2.json_types import Json, JsonObject

MEMBER_STRIDE = 100_003
"""The distance between the seeds of one member of an ensemble and the next."""


@dataclass(frozen=True, kw_only=True)
class FinetunePlan:
    """The plan that every process of a fine-tuning needs: settings, clips with their splits, and the place of their features."""

    config: FinetuneConfig
    groups: tuple[tuple[str, ...], ...]
    """The names of the outputs of each head."""
    key: str
    """The folder of the features in the cache."""
    clips: pa.Table
    """The columns of `planned_clips` for every clip."""
    descriptors: Float[np.ndarray, "clips descriptors"] | None = None
    """Hand-made features of every clip, where the head joins some."""
    vocabulary: Vocabulary | None = None
    """The characters of the outputs of a model of transcripts."""
    card: dict[str, Json]
    """Entries of the model card in addition to the description of the model."""
    member: int = 0
    """The number of the ensemble's member; each has its own seed."""
    model_uri: str = ""
    """The model folder; empty is `<run>/model`."""

    @property
    def seed(self) -> int:
        """The seed of new weights and batches; config.seed alone makes a random encoder, which members share."""
        return self.config.seed + MEMBER_STRIDE * self.member

    @property
    def names(self) -> list[str]:
        """The names of the outputs."""
        return [name for group in self.groups for name in group]

    @property
    def num_descriptors(self) -> int:
        """The number of hand-made features per clip."""
        return 0 if self.descriptors is None else self.descriptors.shape[1]

    @property
    def midpoints(self) -> list[float] | None:
        """The means of the training targets of a regression, around which evaluation forms quadrants.

        None for other tasks, and where no training clip has some target.
        """
        if self.config.task.kind != "regression":
            return None
        targets = target_array(self.clips, "regression", self.names)[self.rows("train")]
        if np.isnan(targets).all(axis=0).any():
            return None
        return np.nanmean(targets.astype(np.float64), axis=0).tolist()

    def rows(self, *splits: str) -> np.ndarray:
        """The rows of the clips of some splits, shape (clips,)."""
        return np.flatnonzero(pc.is_in(self.clips["split"], pa.array(splits)).to_numpy())


def plan_training(
    config: FinetuneConfig,
    corpus: Manifest,
    key: str,
    descriptors: Float[np.ndarray, "clips descriptors"] | None,
    *,
    vocabulary: Vocabulary | None,
    card: JsonObject,
) -> FinetunePlan:
    """The plan of the training; key is the folder of the clips' features, card has the entries of the model card."""
    return FinetunePlan(
        config=config,
        groups=(vocabulary.tokens,) if vocabulary else output_groups(corpus, config.task.kind),
        key=key,
        clips=planned_clips(corpus.clips, is_divided=config.ensemble == "folds"),
        descriptors=descriptors,
        vocabulary=vocabulary,
        card=dict(card),
    )


def planned_clips(clips: pa.Table, *, is_divided: bool) -> pa.Table:
    """The columns of the clips that training needs, about 90 bytes for a clip with a class; repeated names are stored as numbers.

    The columns are split, audio_digest, num_samples, label, reference, the targets, and the speaker for the model's
    record of its training; also clip_id where the training clips are divided into folds (is_divided).
    """
    needed = {"audio_digest", "num_samples", "reference", *(["clip_id"] if is_divided else [])}
    shared = {"split", "speaker", "label"}
    columns = {}
    for name in clips.column_names:
        if name in shared:
            columns[name] = dictionary_encoded(clips[name])
        elif name in needed or name.startswith("target_"):
            columns[name] = clips[name]
    return pa.table(columns)
