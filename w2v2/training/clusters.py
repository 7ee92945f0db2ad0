"""Clusters of frames, the targets of HuBERT's pre-training (Hsu et al. 2021, arXiv:2106.07447): k-means over MFCC or hidden states."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config.pretrain import ObjectiveConfig
from w2v2.errors import UserError
from w2v2.features.batches import Features
from w2v2.storage import files as storage

NUM_SAMPLED = 200_000
"""Frames that the clusters are found by."""
NUM_MFCC = 13


@dataclass(frozen=True, kw_only=True)
class FrameFeatures:
    """The features to cluster, one array [frames dims] per clip, at the frame rate of the encoder."""

    features: Features
    """Waveforms, or hidden states."""
    is_waveform: bool
    frame_samples: int
    """The number of samples that one frame of the encoder is computed from."""
    hop_samples: int

    def __getitem__(self, index: int) -> Float[np.ndarray, "frames dims"]:
        features = np.asarray(self.features[index], dtype=np.float32)
        return self._mfcc(features) if self.is_waveform else features

    def _mfcc(self, waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "frames dims"]:
        """13 MFCC with their first and second differences over time, of the samples that each frame sees."""
        import librosa

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a short window leaves some mel filters empty
            mfcc = librosa.feature.mfcc(
                y=waveform,
                sr=SAMPLE_RATE,
                n_mfcc=NUM_MFCC,
                n_fft=self.frame_samples,
                hop_length=self.hop_samples,
                center=False,
            )
        deltas = [librosa.feature.delta(mfcc, order=order, mode="nearest") for order in (1, 2)]
        return np.concatenate([mfcc, *deltas]).T.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Centres of clusters, and how often each occurs among the frames that they were fitted to."""

    centres: Float[np.ndarray, "clusters dims"]
    fractions: Float[np.ndarray, " clusters"]

    def nearest(self, frames: Float[np.ndarray, "frames dims"]) -> Int[np.ndarray, " frames"]:
        """The number of the nearest centre of each frame."""
        # |f - c|^2 without |f|^2, which is the same for all centres.
        distances = (self.centres**2).sum(1) - 2 * frames @ self.centres.T
        return distances.argmin(1)

    def write(self, uri: str) -> None:
        """Write the clusters as an .npz file."""
        buffer = io.BytesIO()
        np.savez(buffer, centres=self.centres, fractions=self.fractions)
        storage.write_bytes(uri, buffer.getvalue())

    @classmethod
    def read(cls, uri: str) -> "Clusters":
        """The clusters of an .npz file."""
        arrays = np.load(io.BytesIO(storage.read_bytes(uri)))
        return cls(centres=arrays["centres"], fractions=arrays["fractions"])


def find_clusters(
    frames: FrameFeatures, num_clips: int, objective: ObjectiveConfig, *, seed: int
) -> Clusters:
    """Clusters of the frames of `num_clips` clips, by scikit-learn's MiniBatchKMeans on at most NUM_SAMPLED of them.

    Raises UserError for fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    sample = _sample(frames, num_clips, seed)
    if len(sample) < objective.num_clusters:
        raise UserError(
            f"pretrain.num_clusters must be at most {len(sample)}, the frames of the training clips, got "
            f"{objective.num_clusters}"
        )
    kmeans = MiniBatchKMeans(
        objective.num_clusters,
        batch_size=10_000,
        n_init=5,
        max_no_improvement=100,
        reassignment_ratio=0.0,
        random_state=seed,
    ).fit(sample)
    counts = np.bincount(kmeans.predict(sample), minlength=objective.num_clusters)
    centres = kmeans.cluster_centers_.astype(np.float32)
    return Clusters(centres=centres, fractions=(counts + 1) / (counts + 1).sum())


def _sample(frames: FrameFeatures, num_clips: int, seed: int) -> Float[np.ndarray, "frames dims"]:
    """The frames of clips in random order, NUM_SAMPLED of them at most."""
    sampled: list[np.ndarray] = []
    total = 0
    for index in np.random.default_rng([seed, num_clips]).permutation(num_clips).tolist():
        sampled.append(frames[index])
        total += len(sampled[-1])
        if total >= NUM_SAMPLED:
            break
    return np.concatenate(sampled)[:NUM_SAMPLED]


class ClusterTargets:
    """The cluster of each frame of each clip, computed when it is first asked for and then kept (2 bytes a frame)."""

    def __init__(self, frames: FrameFeatures, clusters: Clusters) -> None:
        self._frames, self._clusters = frames, clusters
        self._kept: dict[int, Int[np.ndarray, " _"]] = {}
        self._log_fractions = np.log(clusters.fractions)
        self._commonest = int(clusters.fractions.argmax())

    def __getitem__(self, index: int) -> Int[np.ndarray, " frames"]:
        if index not in self._kept:
            self._kept[index] = self._clusters.nearest(self._frames[index]).astype(np.uint16)
        return self._kept[index].astype(np.int64)

    def guessing(self, labels: Int[np.ndarray, " masked"]) -> tuple[float, float]:
        """Hits of always guessing the most frequent cluster, and the loss in nats of guessing by cluster frequencies."""
        return float((labels == self._commonest).sum()), float(-self._log_fractions[labels].sum())
