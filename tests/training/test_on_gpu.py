"""On a GPU: the numbers of a CPU up to rounding, in float32 and in bfloat16. W2V2_TEST_GPU=1 python -m pytest -m gpu."""

import numpy as np
import pytest
import torch

from tests.models.test_encoder import MODELS, make_encoder, padded, waveforms  # noqa: F401
from w2v2.config.model import HeadConfig, OptimConfig, TrainingConfig
from w2v2.features.batches import ClipSet
from w2v2.features.trunk_features import run_trunk
from w2v2.inference.embedding import normalized_rows, pooled_vectors
from w2v2.models.classifier import Classifier
from w2v2.models.device import on_device, select_device
from w2v2.models.packing import Packing, attention
from w2v2.training.checkpoint import take
from w2v2.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]
NEAR = {"float32": 2e-4, "bf16": 0.03}


def apart(one, other):
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("kind", MODELS)
def test_hidden_states(kind, precision, waveforms):  # noqa: F811
    inputs, device = padded(waveforms), select_device()
    with torch.no_grad():
        right, num_frames = make_encoder(kind, train="all")(*inputs)
        # Another one: some conformers keep tables of positions where they were first used.
        encoder = make_encoder(kind, train="all").to(device)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            states, same = encoder(*on_device(device, *inputs))
    assert torch.equal(num_frames, same)
    inside = torch.arange(right.shape[1]) < num_frames[:, None]
    assert apart(states.float().cpu()[inside].numpy(), right[inside].numpy()) < NEAR[precision]


@pytest.mark.parametrize("precision", NEAR)
def test_vectors_and_features(precision, waveforms):  # noqa: F811
    clips = [waveform.numpy() for waveform in waveforms] * 20
    encoder = make_encoder("wav2vec2-group", train="head", layer=2)
    with torch.no_grad():
        right, _ = encoder.trunk(
            *padded([torch.from_numpy((w - w.mean()) / (w.var() + 1e-7) ** 0.5) for w in clips])
        )
    vectors = pooled_vectors(encoder, clips, pooling="mean", batch_s=2.0, precision=precision)
    assert apart(np.concatenate(vectors), right.numpy()) < NEAR[precision]
    tail = make_encoder("wav2vec2-group", train="last", num_last_layers=1)
    rows = run_trunk(tail, clips, precision=precision)
    exact = [tail.cpu().trunk(*padded([torch.from_numpy(clip)]))[0][0].numpy() for clip in clips]
    assert apart(np.concatenate(rows), np.concatenate(exact)) < NEAR[precision]


COUNTS = torch.tensor([4, 1, 300, 57])


def attended(states, device, *, dropout=0.0):
    return attention(states, Packing.of(COUNTS, 300, device), dropout=dropout)


def test_attention_of_packed_frames():
    torch.manual_seed(0)
    exact = torch.randn(int(COUNTS.sum()), 3, 2, 64, requires_grad=True)
    states = exact.detach().to("cuda", torch.bfloat16).requires_grad_()
    toward = torch.randn(len(exact), 2, 64)
    right, computed = attended(exact, torch.device("cpu")), attended(states, select_device())
    (right * toward).sum().backward()
    (computed * toward.cuda()).sum().backward()
    assert apart(computed.detach().float().cpu().numpy(), right.detach().numpy()) < 0.02
    assert apart(states.grad.float().cpu().numpy(), exact.grad.numpy()) < 0.03


def test_dropout_of_packed_attention():
    torch.manual_seed(0)
    states = torch.randn(int(COUNTS.sum()), 3, 2, 64, device="cuda", dtype=torch.bfloat16)
    draws = torch.stack([attended(states, select_device(), dropout=0.3).float() for _ in range(300)])
    whole = attended(states, select_device()).float().cpu().numpy()
    assert apart(draws[0].cpu().numpy(), whole) > 0.1
    assert apart(draws.mean(0).cpu().numpy(), whole) < 0.1


def test_the_program_does_not_wait_within_a_batch(waveforms):  # noqa: F811
    encoder, device = make_encoder("wav2vec2-group", train="head"), select_device()
    encoder.to(device)
    features, lengths = on_device(device, *padded(waveforms))
    try:
        for mode in ("default", "error"):  # the first pass loads kernels
            torch.cuda.set_sync_debug_mode(mode)
            with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
                frames, _ = encoder.trunk(normalized_rows(features, lengths), lengths)
        with pytest.raises(RuntimeError, match="synchronizing"):  # a wait would have been noticed
            frames.sum().item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(frames).all()


def trained(device, precision, *, train="all", epochs=2, **settings):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(length).astype(np.float32) for length in [900, 1300, 700, 2000] * 6]
    targets = np.arange(24) % 3
    for clip, target in zip(clips, targets, strict=True):
        clip *= 1 + target
    lengths = np.array([len(clip) for clip in clips])
    encoder = make_encoder("wav2vec2-layer", train=train)
    model = Classifier(encoder, HeadConfig(dropout=0.0), groups=[3])
    trainer = Trainer(
        model,
        ClipSet(features=clips, lengths=lengths, targets=targets),
        optim=OptimConfig(learning_rate=1e-3, batch_size=6),
        training=TrainingConfig(num_epochs=epochs),
        precision=precision,
        seed=1,
    )
    trainer.device = device
    return trainer


@pytest.mark.parametrize(("precision", "near"), [("float32", 5e-3), ("bf16", 0.05)])
def test_losses_of_training(precision, near, monkeypatch):
    on_gpu = trained(select_device(), precision).run()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = trained(torch.device("cpu"), "float32").run()
    for ours, right in zip(on_gpu, on_cpu, strict=True):
        assert ours.train_loss == pytest.approx(right.train_loss, rel=near)


def test_a_checkpoint_has_the_sums_of_all_steps():
    trainer = trained(select_device(), "float32")
    seen = []

    def on_step(training):
        (position,) = take(training).state["positions"]
        seen.append((position["step"], position["weight"], np.sum(position["confusion"])))

    trainer.run(on_step=on_step)
    assert seen[:3] == [(1, 6, 6), (2, 12, 12), (3, 18, 18)]
