"""What is frozen while training, and features computed once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from tests.training.made import (
    LENGTHS,
    NUM_CLASSES,
    NUM_LAYERS,
    OPTIM,
    TRAINING,
    assert_same,
    classifier,
    clip_logits,
    clip_set,
    trained,
    waveforms,
)
from w2v2.config.model import OptimConfig, TrainingConfig
from w2v2.errors import UserError
from w2v2.features.batches import shuffled_batches
from w2v2.models.classifier import Classifier
from w2v2.training import trainer
from w2v2.training.fold_result import Epoch
from w2v2.training.forward import predict_logits


def frozen_names(model: Classifier, train: str) -> set[str]:
    """Weights that `train` freezes, by transformers' names."""
    below = [f"layers.{index}." for index in range(NUM_LAYERS - 1)]
    convolutions = ["feature_extractor"]
    entrance = [*convolutions, "feature_projection", "pos_conv_embed"]
    fragments = {"all": [], "no_conv": convolutions, "last": [*entrance, *below], "head": ["encoder.model."]}[
        train
    ]
    # Running statistics stay too: batch norm never sees the batch.
    never = ("masked_spec_embed", "running_mean", "running_var", "num_batches_tracked")
    inside = [name for name in model.state_dict() if name.startswith("encoder.model.")]
    return {name for name in inside if name.endswith(never) or any(part in name for part in fragments)}


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
@pytest.mark.parametrize("train", ["all", "no_conv", "last", "head"])
def test_frozen_weights_stay_bit_for_bit_and_all_others_move(train, kind):
    settings = dict(train=train, num_last_layers=1, kind=kind, dropout=0.1)
    before = classifier(**settings).state_dict()
    after, _ = trained(classifier(**settings))
    still = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    expected = frozen_names(classifier(**settings), train)
    # A key's bias shifts all scores of a query alike, which softmax does not see: its gradient is rounding.
    assert still - {name for name in still if "k_proj.bias" in name} == {
        name for name in expected if "k_proj.bias" not in name
    }
    assert expected <= still


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
@pytest.mark.parametrize(
    "train, layers", [("all", {0, 1, 2}), ("no_conv", {0, 1, 2}), ("last", {2}), ("head", set())]
)
def test_the_frozen_part_is_in_evaluation_mode_while_training(train, layers, kind):
    model = classifier(train=train, num_last_layers=1, kind=kind, dropout=0.1)
    modes = []

    def look(epoch: Epoch) -> None:
        inside = model.encoder.model
        modes.append(
            (
                {index for index, layer in enumerate(inside.encoder.layers) if layer.training},
                inside.feature_extractor.training,
                inside.encoder.pos_conv_embed.training,
                inside.encoder.dropout.training,
                model.heads[0].training,
            )
        )

    trainer.train(model, clip_set(model.encoder), optim=OPTIM, training=TRAINING, seed=0, on_epoch=look)
    entrance = train in ("all", "no_conv")
    assert modes == [(layers, train == "all", entrance, entrance, True)] * 2


def plain_loop(model: Classifier, optim: OptimConfig, num_epochs: int) -> list[float]:
    """Balanced losses of each epoch: single clips, the frozen part recomputed each time, torch's own schedule."""
    targets = clip_set(model.encoder).targets
    weights = compute_class_weight("balanced", classes=np.arange(NUM_CLASSES), y=targets)[targets]
    epochs = [
        shuffled_batches(np.array(LENGTHS), batch_size=optim.batch_size, seed=0, epoch=epoch)
        for epoch in range(num_epochs)
    ]
    num_steps = sum(map(len, epochs))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=optim.learning_rate,
        eps=optim.eps,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / num_steps)
    audio = waveforms()
    losses = []
    for batches in epochs:
        total = 0.0
        for batch in batches:
            each = [
                weights[clip]
                * nn.functional.cross_entropy(clip_logits(model, audio[clip]), torch.tensor([targets[clip]]))
                for clip in batch
            ]
            optimizer.zero_grad()
            (sum(each) / weights[batch].sum()).backward()
            optimizer.step()
            scheduler.step()
            total += sum(each).item()
        losses.append(total / weights.sum())
    return losses


@pytest.mark.parametrize("train, stage", [("no_conv", "conv"), ("last", "layer"), ("head", "pooled")])
def test_training_on_cached_features_equals_recomputing_what_is_frozen(train, stage):
    optim = replace(OPTIM, warmup_fraction=0.0)
    settings = dict(train=train, num_last_layers=1)
    expected = classifier(**settings)
    losses = plain_loop(expected, optim, num_epochs=3)
    model = classifier(**settings)
    assert model.encoder.cut.stage == stage
    training = TrainingConfig(num_epochs=3, class_weights="balanced")
    weights, curve = trained(model, optim=optim, training=training)
    assert [point.train_loss for point in curve] == pytest.approx(losses, rel=1e-5)
    assert_same(weights, expected.state_dict(), atol=5e-5)
    assert losses[0] - losses[2] > 1e-3


def test_spec_augment_is_on_in_training_and_off_in_prediction():
    settings = dict(train="no_conv")
    plain, _ = trained(classifier(**settings))
    masked_training = replace(TRAINING, mask_time_fraction=0.5, mask_feature_fraction=0.3)
    model = classifier(**settings)
    clips = clip_set(model.encoder)
    masked, _ = trained(model, training=masked_training)
    assert any(not torch.equal(plain[name], masked[name]) for name in plain)
    assert np.array_equal(predict_logits(model, clips), predict_logits(model, clips))


def test_bf16_without_a_gpu_is_refused():
    with pytest.raises(
        UserError, match=r"resources\.precision is bf16 but there is no GPU here; wanted float32"
    ):
        trained(classifier(), precision="bf16")


class Hungry(Classifier):
    """A classifier for which no GPU is large enough."""

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nmore lines")


def test_too_little_memory_says_what_to_lower():
    model = classifier()
    model.__class__ = Hungry
    message = r"out of GPU memory \(CUDA out of memory\. Tried to allocate 20 GiB\.\); lower --optim\.batch_size or raise --optim\.accumulation_steps"
    with pytest.raises(UserError, match=message):
        trained(model)
    with pytest.raises(UserError, match=message):
        predict_logits(model, clip_set(model.encoder))
