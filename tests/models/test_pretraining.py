"""The loss and its gradients equal transformers' Wav2Vec2ForPreTraining on single clips, whatever the batch."""

import itertools

import numpy as np
import pytest
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
)

from tests.made.encoders import padded
from tests.made.pretraining import GEOMETRIES, LENGTHS, MASK, SMALL, TEMPERATURE, make_pair
from w2v2.config.pretrain import (
    PretrainConfig,
    PretrainEncoderConfig,
    QuantizerConfig,
)
from w2v2.errors import UserError
from w2v2.models.contrastive import diversity, diversity_weights, perplexity
from w2v2.models.masking import clip_generator, draw_clip, gumbel_noise
from w2v2.models.pretraining import HEAD, BatchDraw, ContrastiveModel, open_model


def waveforms(geometry: str = "layer") -> list[torch.Tensor]:
    torch.manual_seed(5)
    hop = 16 if geometry == "tiny" else 1  # tiny has as few frames a second as real models
    return [torch.randn(hop * length) * (0.5 + index) for index, length in enumerate(LENGTHS)]


def draw_batch(
    model: ContrastiveModel, clips: list[torch.Tensor], *, names: list[str], noisy: bool
) -> BatchDraw:
    """The draws of clips by their names, as the loop makes them."""
    num_frames = model.encoder.num_frames(torch.tensor([len(clip) for clip in clips])).tolist()
    masked = torch.zeros(len(clips), max(num_frames), dtype=torch.bool)
    negatives, noise, chance = [], [], 0.0
    for row, frames, name in zip(masked, num_frames, names, strict=True):
        rng = clip_generator(0, 2, name)
        draw = draw_clip(frames, MASK, rng)
        row[:frames] = torch.from_numpy(draw.masked)
        negatives.append(torch.from_numpy(draw.negatives))
        noise.append(torch.from_numpy(gumbel_noise((len(draw.negatives), *model.code_shape), rng)))
        chance += draw.chance_hits
    return BatchDraw(
        masked=masked,
        negatives=torch.cat(negatives),
        noise=torch.cat(noise) if noisy else None,
        chance_hits=chance,
        chance_loss=0.0,
    )


def stock_loss(stock, clip: torch.Tensor, draw: BatchDraw, monkeypatch) -> torch.Tensor:
    """Transformers' contrastive loss and weighted diversity of one clip with our draws."""

    places = np.flatnonzero(draw.masked[0].numpy())
    negatives = np.zeros((1, draw.masked.shape[1], MASK.num_negatives), dtype=np.int64)
    negatives[0, places] = places[draw.negatives.numpy()]
    if draw.noise is not None:
        # transformers draws noise of all frames; only that of masked ones counts.
        every = torch.zeros(draw.masked.shape[1], *draw.noise.shape[1:])
        every[draw.masked[0]] = draw.noise
        monkeypatch.setattr(
            torch.nn.functional,
            "gumbel_softmax",
            lambda logits, tau, hard: _straight_through(logits, every, tau),
        )
    return stock(
        clip[None],
        mask_time_indices=draw.masked,
        sampled_negative_indices=torch.from_numpy(negatives),
    )


def _straight_through(logits: torch.Tensor, noise: torch.Tensor, tau: float) -> torch.Tensor:
    soft = ((logits + noise.view(-1, noise.shape[-1])) / tau).softmax(-1)
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard - soft.detach() + soft


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def stock_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our gradients by transformers' names."""
    return {name.replace("encoder.model.", "wav2vec2."): value for name, value in tensors.items()}


def relative_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The norm of the difference over that of the whole."""
    assert a.keys() == b.keys()
    difference = sum(float((a[n] - b[n]).double().square().sum()) for n in a)
    whole = sum(float(b[n].double().square().sum()) for n in b)
    return (difference / whole) ** 0.5


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_padded_batch_equals_transformers_on_single_clips(geometry, training, monkeypatch):
    stock, model = make_pair(geometry, temperature=0.1, diversity_weight=0.0)
    stock.train(training), model.train(training)
    stock.set_gumbel_temperature(TEMPERATURE)
    clips, names = waveforms(geometry), ["a1", "b2", "c3", "d4"]
    draw = draw_batch(model, clips, names=names, noisy=training)
    sums = model(*padded(clips), draw, TEMPERATURE)
    sums.loss.backward()
    expected = 0.0
    stock.zero_grad()
    for clip, name in zip(clips, names, strict=True):
        alone = draw_batch(model, [clip], names=[name], noisy=training)
        loss = stock_loss(stock, clip, alone, monkeypatch)
        loss.contrastive_loss.backward()
        expected += loss.contrastive_loss.item()
    assert sums.loss.item() == pytest.approx(expected, rel=1e-6)
    assert relative_difference(stock_names(gradients(model)), gradients(stock)) < 1e-5


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_diversity_of_one_clip_equals_transformers(geometry, training, monkeypatch):
    stock, model = make_pair(geometry)
    stock.train(training), model.train(training)
    clip = waveforms(geometry)[0]
    draw = draw_batch(model, [clip], names=["a1"], noisy=training)
    loss = stock_loss(stock, clip, draw, monkeypatch)
    sums = model(*padded([clip]), draw, stock.quantizer.temperature)
    num_masked = float(draw.masked.sum())
    used = sums.code_probabilities if training else sums.code_counts
    assert perplexity(used, num_masked).sum().item() == pytest.approx(loss.codevector_perplexity.item())
    assert diversity(used, num_masked).item() * num_masked == pytest.approx(
        loss.diversity_loss.item(), rel=1e-5
    )
    if not training:
        return
    loss.diversity_loss.backward()
    weights = diversity_weights(sums.code_probabilities, num_masked)
    (num_masked * (weights * sums.code_probabilities).sum()).backward()
    ours, stocks = stock_names(gradients(model)), gradients(stock)
    assert relative_difference(ours, {name: stocks[name] for name in ours}) < 1e-5


@pytest.mark.parametrize("geometry", ["group", "layer"])
def test_batch_mates_order_and_padding_change_nothing(geometry):
    _, model = make_pair(geometry)
    clips, names = waveforms(), ["a1", "b2", "c3", "d4"]
    whole = model(*padded(clips), draw_batch(model, clips, names=names, noisy=True), TEMPERATURE)
    for parts in ([[0], [1], [2], [3]], [[3, 0], [2, 1]]):
        several = [
            model(
                *padded([clips[i] for i in part]),
                draw_batch(model, [clips[i] for i in part], names=[names[i] for i in part], noisy=True),
                TEMPERATURE,
            )
            for part in parts
        ]
        for together, apart in zip(whole, zip(*several, strict=True), strict=True):
            torch.testing.assert_close(together, sum(apart), rtol=1e-6, atol=1e-5)


def test_parts_with_diversity_weights_have_the_gradient_of_the_whole_batch():
    _, model = make_pair("layer")
    clips, names = waveforms(), ["a1", "b2", "c3", "d4"]
    draw = draw_batch(model, clips, names=names, noisy=True)
    num_masked = float(draw.masked.sum())
    sums = model(*padded(clips), draw, TEMPERATURE)
    (sums.loss + 30.0 * diversity(sums.code_probabilities, num_masked)).backward()
    whole = gradients(model)
    model.zero_grad()
    inputs = [
        (*padded([clip]), draw_batch(model, [clip], names=[name], noisy=True))
        for clip, name in zip(clips, names, strict=True)
    ]
    codes = sum(model.code_probabilities(*args) for args in inputs)
    torch.testing.assert_close(codes, sums.code_probabilities)
    weights = 30.0 * diversity_weights(codes, num_masked)
    for args in inputs:
        part = model(*args, TEMPERATURE)
        (part.loss + (weights * part.code_probabilities).sum()).backward()
    assert relative_difference(gradients(model), whole) < 1e-5
    # A diversity of each part of its own is another loss, so the test can tell them apart.
    model.zero_grad()
    for args in inputs:
        part, num_in_part = model(*args, TEMPERATURE), float(args[2].masked.sum())
        (
            part.loss + 30.0 * num_in_part / num_masked * diversity(part.code_probabilities, num_in_part)
        ).backward()
    assert relative_difference(gradients(model), whole) > 1e-3


def test_feature_gradient_is_scaled_and_features_are_measured_without_padding():
    _, full = make_pair("layer")
    _, scaled = make_pair("layer", feature_grad_scale=0.25)
    clips, names = waveforms(), ["a1", "b2", "c3", "d4"]
    draw = draw_batch(full, clips, names=names, noisy=True)
    for model in (full, scaled):
        model(*padded(clips), draw, TEMPERATURE).loss.backward()
    for name, gradient in gradients(scaled).items():
        factor = 0.25 if "feature_extractor" in name else 1.0
        torch.testing.assert_close(gradient, factor * gradients(full)[name], rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        alone = [full.encoder.model.feature_extractor(clip[None])[0].square().mean(0).sum() for clip in clips]
        feature_square = full(*padded(clips), draw, TEMPERATURE).feature_square
    assert float(feature_square) == pytest.approx(float(sum(alone)), rel=1e-5)


def config_of(name: str = "tiny", **settings) -> PretrainConfig:
    encoder = PretrainEncoderConfig(name=name, **settings.pop("encoder", {}))
    return PretrainConfig(encoder=encoder, **settings)


def test_what_is_saved_is_opened_by_transformers_and_continued(tmp_path):
    opened = open_model(config_of())
    assert opened.new_weights == ()
    stock = opened.model.as_transformers()
    stock.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    again = open_model(config_of(str(tmp_path)))
    assert again.new_weights == () and again.model.encoder.normalize
    for (name, a), b in zip(
        opened.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    random = open_model(config_of(str(tmp_path), encoder={"weights": "random"}, seed=1)).model
    assert random.code_shape == (2, 64)
    assert not torch.equal(random.quantizer.codevectors, again.model.quantizer.codevectors)
    other = open_model(config_of(str(tmp_path), quantizer=QuantizerConfig(num_codes=9)))
    assert other.model.code_shape == (2, 9) and other.new_weights == ("quantizer",)


def test_a_checkpoint_without_a_quantizer_gets_a_new_one(tmp_path):
    torch.manual_seed(0)
    ctc = Wav2Vec2ForCTC(Wav2Vec2Config(**SMALL, mask_time_prob=0.0, vocab_size=5))
    ctc.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    opened = open_model(config_of(str(tmp_path)))
    assert opened.new_weights == tuple(sorted(HEAD))
    kept = ctc.wav2vec2.encoder.layers[0].attention.k_proj.weight
    assert torch.equal(opened.model.encoder.model.encoder.layers[0].attention.k_proj.weight, kept)
    opened.model.as_transformers().save_pretrained(tmp_path / "again")
    assert Wav2Vec2ForPreTraining.from_pretrained(tmp_path / "again").wav2vec2.masked_spec_embed is not None


def test_other_families_and_odd_sizes_are_refused(tmp_path):
    HubertModel(HubertConfig(**SMALL)).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"is a hubert model, which has no quantizer: use --pretrain\.objective clusters"
    ):
        open_model(config_of(str(tmp_path)))
    with pytest.raises(UserError, match=r"code_dim must be a multiple of quantizer.num_groups=3, got 64"):
        open_model(config_of(quantizer=QuantizerConfig(num_groups=3)))
    with pytest.raises(UserError, match="keeps the convolutions as they are, and here they are random"):
        config_of(encoder={"train": "no_conv"})


def test_another_draw_gives_another_loss():
    """So the equalities above mean something."""
    _, model = make_pair("layer")
    clips = waveforms()[:1]
    losses = [
        model(*padded(clips), draw_batch(model, clips, names=[name], noisy=noisy), TEMPERATURE).loss.item()
        for name, noisy in itertools.product(["a1", "b2"], [False, True])
    ]
    assert len(set(losses)) == 4
