"""Clusters of frames: aligned with the encoder's frames, as scikit-learn finds them, predicted as transformers' HuBERT's states allow."""

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances_argmin

from tests.made.pretraining import MASK, make_pair
from w2v2.config.model import EncoderConfig
from w2v2.config.pretrain import (
    LossConfig,
    ObjectiveConfig,
    PretrainConfig,
    PretrainEncoderConfig,
    PretrainOptimConfig,
    PretrainTrainingConfig,
)
from w2v2.errors import UserError
from w2v2.models.encoder import Encoder
from w2v2.models.pretraining import ClusterModel, open_model
from w2v2.training.clusters import ClusterTargets, FrameFeatures, find_clusters
from w2v2.training.pretrainer import Pretrainer
from w2v2.training.pretraining_batches import BatchDrawer, PretrainClips

OBJECTIVE = ObjectiveConfig(objective="clusters", num_clusters=4)


def tones(count: int = 12) -> list[np.ndarray]:
    """Clips that change between four tones, so that frames have clusters that their neighbours tell."""
    rng = np.random.default_rng(0)
    clips = []
    for _ in range(count):
        hz = np.repeat(rng.choice([300, 700, 1500, 3100], size=8), 4000)
        phase = np.cumsum(2 * np.pi * hz / 16_000)
        clips.append((np.sin(phase) + 0.01 * rng.normal(size=len(hz))).astype(np.float32))
    return clips


def tiny(**settings) -> PretrainConfig:
    return PretrainConfig(
        pretrain=OBJECTIVE,
        encoder=PretrainEncoderConfig(name="tiny"),
        optim=PretrainOptimConfig(learning_rate=3e-3, batch_s=4.0),
        **settings,
    )


def frames_of(waveforms: list[np.ndarray], encoder: Encoder) -> FrameFeatures:
    return FrameFeatures(
        features=waveforms,
        is_waveform=True,
        frame_samples=encoder.min_samples,
        hop_samples=encoder.hop_samples,
    )


def clips_of(waveforms: list[np.ndarray], encoder: Encoder) -> PretrainClips:
    frames = frames_of(waveforms, encoder)
    clusters = find_clusters(frames, len(waveforms), OBJECTIVE, seed=0)
    return PretrainClips(
        features=waveforms,
        num_samples=np.array([len(waveform) for waveform in waveforms]),
        digests=[f"{number:032x}" for number in range(len(waveforms))],
        clusters=ClusterTargets(frames, clusters),
    )


@pytest.mark.parametrize("num_samples", [3520, 16_000, 16_319, 16_320])
def test_mfcc_have_the_frames_of_the_encoder(num_samples):
    encoder = open_model(tiny()).model.encoder
    waveform = np.random.default_rng(0).normal(size=num_samples).astype(np.float32)
    features = frames_of([waveform], encoder)[0]
    assert features.shape == (int(encoder.num_frames(torch.tensor([num_samples]))[0]), 39)
    # A frame's MFCC are of the samples that the encoder's frame sees.
    changed = waveform.copy()
    changed[5 * encoder.hop_samples + encoder.min_samples :] = 0.0
    again = frames_of([changed], encoder)[0]
    assert np.allclose(features[:6, :13], again[:6, :13])
    if len(features) > 9:
        assert not np.allclose(features[8, :13], again[8, :13])


def test_labels_are_the_nearest_centres_and_guessing_is_by_their_frequency():
    encoder = open_model(tiny()).model.encoder
    frames = frames_of(tones(), encoder)
    clusters = find_clusters(frames, 12, OBJECTIVE, seed=0)
    assert np.array_equal(clusters.nearest(frames[3]), pairwise_distances_argmin(frames[3], clusters.centres))
    targets = ClusterTargets(frames, clusters)
    labels = targets[3]
    hits, loss = targets.guessing(labels)
    assert hits == (labels == clusters.fractions.argmax()).sum()
    assert loss == pytest.approx(-np.log(clusters.fractions[labels]).sum())
    assert clusters.fractions.sum() == pytest.approx(1)
    with pytest.raises(
        UserError, match=r"num_clusters must be at most \d+, the frames of the training clips, got 99999"
    ):
        find_clusters(frames, 12, ObjectiveConfig(objective="clusters", num_clusters=99_999), seed=0)


def test_labels_follow_crops():
    config = tiny(training=PretrainTrainingConfig(crop_s=0.8))
    model = open_model(config).model
    clips = clips_of(tones(3), model.encoder)
    drawer = BatchDrawer(clips, model, config)
    waveform, _, draw = drawer.batch(np.array([1]), epoch=4)
    hop = model.encoder.hop_samples
    whole = torch.from_numpy(clips.features[1])
    start = int((whole.unfold(0, waveform.shape[1], 1) == waveform[0]).all(1).nonzero()[0])
    assert start % hop == 0 and start > 0
    expected = clips.clusters[1][start // hop :][: draw.masked.shape[1]][draw.masked[0].numpy()]
    assert draw.labels.tolist() == expected.tolist()


def test_loss_of_a_padded_batch_is_that_of_single_clips_by_the_equation():
    stock, _ = make_pair("group")
    encoder = Encoder(stock.wav2vec2, EncoderConfig(train="all"), normalize=True)
    torch.manual_seed(0)
    model = ClusterModel(encoder, LossConfig(temperature=0.2), num_clusters=4, dim=8).eval()
    config = PretrainConfig(mask=MASK, pretrain=OBJECTIVE)
    waveforms = [clip[:length] for clip, length in zip(tones(3), (4001, 2600, 3203), strict=True)]
    drawer = BatchDrawer(clips_of(waveforms, encoder), model, config)
    features, lengths, draw = drawer.batch(np.arange(3), epoch=0)
    together = model(features, lengths, draw, 1.0)
    expected = 0.0
    for index in range(3):
        waveform, _, alone = drawer.batch(np.array([index]), epoch=0)
        states = stock.wav2vec2(waveform, mask_time_indices=alone.masked).last_hidden_state[alone.masked]
        cosine = torch.nn.functional.cosine_similarity(
            model.project(states)[:, None], model.vectors[None], dim=-1
        )
        exponentials = (cosine / 0.2).exp()
        probabilities = exponentials[torch.arange(len(states)), alone.labels] / exponentials.sum(1)
        expected -= probabilities.log().sum().item()
    assert together.loss.item() == pytest.approx(expected, rel=1e-5)


def test_clusters_are_learned():
    config = tiny(training=PretrainTrainingConfig(num_epochs=25))
    model = open_model(config).model
    at = Pretrainer(model, clips_of(tones(), model.encoder), config).run()
    last = at.curve[-1]
    assert last["loss"] < 0.8 * last["chance_loss"]
    assert last["accuracy"] > 1.2 * last["chance_accuracy"]


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(
        UserError, match="cluster_features must be mfcc where the encoder begins with random weights"
    ):
        PretrainConfig(pretrain=ObjectiveConfig(objective="clusters", cluster_features=1))
