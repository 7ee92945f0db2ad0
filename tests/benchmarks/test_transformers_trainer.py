"""Training with Hugging Face's Trainer."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.benchmarks.made import OPTIM
from w2v2.audio.waveforms import normalized
from w2v2.benchmarks import train_case, transformers_trainer
from w2v2.benchmarks.config import (
    BenchmarkConfig,
    TrainSizes,
)
from w2v2.benchmarks.result import OURS
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.errors import UserError
from w2v2.features.batches import shuffled_batches
from w2v2.models.classifier import Classifier
from w2v2.models.pretrained import load_encoder


def test_trainer_needs_accelerate(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs accelerate: install it with pip install 'w2v2\[bench\]'"):
        transformers_trainer.check_trainer()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "found")
    transformers_trainer.check_trainer()


def test_trainer_gets_our_batches_epoch_by_epoch():
    lengths = np.array([5, 3, 8, 1, 9, 2, 7])
    batches = transformers_trainer._Batches(lengths, batch_size=3, seed=4)
    for epoch in range(3):
        wanted = shuffled_batches(lengths, batch_size=3, seed=4, epoch=epoch)
        assert list(batches) == [batch.tolist() for batch in wanted]
    assert len(batches) == 3


@pytest.mark.parametrize("train", ["head", "last", "no_conv", "all"])
def test_the_peer_trains_the_same_weights_and_has_no_graph_below_them(group_norm, train):
    encoder = EncoderConfig(name=group_norm, train=train, num_last_layers=1)
    peer = transformers_trainer.load_peer(group_norm, encoder, 3).train()
    ours = load_encoder(encoder, seed=0)
    named = {name for name, p in ours.model.named_parameters() if p.requires_grad}
    assert {name for name, p in peer.model.named_parameters() if p.requires_grad} == named
    assert {"head": 0, "last": 16}.get(train, len(named)) == len(named)
    seen = {}
    peer.model.feature_extractor.register_forward_hook(
        lambda module, args, output: seen.update(graph=output.requires_grad)
    )
    peer(torch.randn(2, 4000), torch.ones(2, 4000, dtype=torch.long), torch.tensor([0, 1]))["loss"].backward()
    assert seen["graph"] == (train == "all")


def test_the_peer_computes_our_loss_where_padding_does_no_harm(tiny, clips):
    """tiny normalises layer by layer, so stock code with an attention mask is right."""
    config = EncoderConfig(name=tiny, train="all")
    encoder = load_encoder(config, seed=0)
    torch.manual_seed(1)
    ours = Classifier(encoder, HeadConfig(dropout=0.0), groups=[3]).eval()
    peer = transformers_trainer.load_peer(tiny, config, 3).eval()
    torch.manual_seed(1)
    peer.head.reset_parameters()
    torch.testing.assert_close(peer.head.weight, ours.heads[0].layers[-1].weight)
    items = [(normalized(w), int(t)) for w, t in zip(clips.waveforms, clips.targets, strict=True)]
    batch = transformers_trainer._collated(items)
    with torch.no_grad():
        theirs = peer(**batch)
        logits = ours(batch["input_values"], torch.from_numpy(clips.lengths))
    torch.testing.assert_close(theirs["logits"], logits, atol=1e-5, rtol=1e-5)
    wanted = torch.nn.functional.cross_entropy(logits, batch["labels"])
    torch.testing.assert_close(theirs["loss"], wanted)


def test_scores_of_the_peer():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]]))
    loss, uar = transformers_trainer._scores(logits, np.array([0, 1, 1]), 3)
    assert loss == pytest.approx(-np.log([0.7, 0.8, 0.3]).mean())
    assert uar == pytest.approx((1 + 0.5) / 2)  # over the classes that are there
    assert np.isnan(transformers_trainer._scores(np.empty((0, 3)), np.empty(0, int), 3)).all()


def test_epoch_losses_count_clips_not_batches():
    losses = [(torch.tensor(value), num) for value, num in ((1.0, 3), (5.0, 1), (2.0, 3), (4.0, 1))]
    assert transformers_trainer._epoch_losses(losses, 2) == [2.0, 2.5]


def test_one_schedule_alone_is_the_same_on_both_sides(tmp_path):
    with pytest.raises(AssertionError, match="warm-ups differ"):
        transformers_trainer.arguments_of(
            str(tmp_path), replace(OPTIM, warmup_fraction=0.1), num_epochs=1, seed=0
        )
    made = transformers_trainer.arguments_of(str(tmp_path), OPTIM, num_epochs=7, seed=0)
    assert (made["num_train_epochs"], made["learning_rate"], made["warmup_steps"]) == (7, 1e-3, 0)


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="Trainer needs accelerate")
def test_trainer_has_our_losses(tmp_path, tiny):
    config = BenchmarkConfig(
        cases=("all",), rounds=1, encoder=tiny, num_threads=1, train=TrainSizes(num_clips=7, batch_size=3)
    )
    result = train_case.train(config, tmp_path)
    assert len(result.agreements) == 3 and all(agreement.value < 1e-5 for agreement in result.agreements)
    assert [list(comparison.seconds) for comparison in result.comparisons] == [[OURS, "Trainer"]] * 2
