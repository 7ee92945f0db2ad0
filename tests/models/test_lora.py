"""Low-rank updates: the paper's equation in every family, nothing at the start, plain weights once merged."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModel

from tests.models.test_encoder import MODELS, make_encoder, make_model, padded
from tests.models.test_saved_model import CARD, CLIPS
from w2v2.config.data import AudioConfig
from w2v2.config.model import HeadConfig, LoraConfig
from w2v2.errors import UserError
from w2v2.models.classifier import Classifier, trainable_copy
from w2v2.models.encoder import Encoder
from w2v2.models.lora import PATHS, LowRankUpdate, add_lora, merge_lora
from w2v2.models.model_info import ModelInfo
from w2v2.models.saved_model import load_model, save_model

ALL = LoraConfig(rank=3, alpha=5.0, projections=("query", "key", "value", "output", "feed_forward"))
NUM_LAST = 2
LAST = dict(train="last", num_last_layers=NUM_LAST)


@pytest.fixture
def clips() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    return padded([torch.randn(length) for length in (900, 1400, 700)])


def updates(encoder: Encoder) -> dict[str, LowRankUpdate]:
    """The low-rank parts by the name of the weight that they are added to."""
    modules = encoder.model.named_modules()
    return {
        name.replace("parametrizations.weight.0", "weight"): module
        for name, module in modules
        if isinstance(module, LowRankUpdate)
    }


def randomized(encoder: Encoder, config: LoraConfig = ALL) -> Encoder:
    """An encoder whose updates are not zero."""
    torch.manual_seed(8)
    add_lora(encoder, config)
    for update in updates(encoder).values():
        torch.nn.init.normal_(update.b, std=0.3)
    return encoder


@pytest.mark.parametrize("kind", MODELS)
def test_training_begins_at_the_weights_as_they_were(kind, clips):
    plain, adapted = (make_encoder(kind, **LAST) for _ in range(2))
    add_lora(adapted, ALL)
    with torch.no_grad():
        features = plain.trunk(*clips)
        torch.testing.assert_close(plain(*features)[0], adapted(*features)[0], atol=1e-6, rtol=0)
        for name in updates(adapted):
            path = name.removesuffix(".weight")
            weights = [encoder.model.get_submodule(path).weight for encoder in (plain, adapted)]
            assert torch.equal(*weights), name
    num_feed_forward = 4 if kind.startswith("conformer") else 2  # a Conformer's layer has two of them
    assert len(updates(adapted)) == NUM_LAST * (4 + num_feed_forward)


@pytest.mark.parametrize("kind", MODELS)
def test_outputs_are_those_of_transformers_model_with_the_papers_weights(kind, clips):
    """W + alpha / rank * B A, put by hand into a second model, which runs transformers' own forward."""
    encoder = randomized(make_encoder(kind, **LAST))
    stock = make_model(kind)
    weights = stock.state_dict()
    for name, update in updates(encoder).items():
        b, a = (p.detach().double().numpy() for p in (update.b, update.a))
        weights[name] = torch.from_numpy(weights[name].double().numpy() + 5.0 / 3 * (b @ a)).float()
    stock.load_state_dict(weights)
    with torch.no_grad():
        states, num_frames = encoder(*encoder.trunk(*clips))
        for row, count, waveform, num in zip(states, num_frames, *clips, strict=True):
            alone = stock(waveform[None, :num]).last_hidden_state[0]
            torch.testing.assert_close(row[:count], alone, atol=1e-4, rtol=0)
        before = make_encoder(kind, **LAST)
        assert (before(*before.trunk(*clips))[0] - states).abs().max() > 0.05


@pytest.mark.parametrize("kind", MODELS)
def test_merged_it_gives_the_same_and_is_transformers_own_again(kind, clips, tmp_path):
    base = make_encoder(kind, **LAST)
    start = copy.deepcopy(base.model.state_dict())
    encoder = randomized(trainable_copy(base))
    model = Classifier(encoder, HeadConfig(), groups=[3]).eval()
    with torch.no_grad():
        features = encoder.trunk(*clips)
        before = model(*features)
        merge_lora(encoder)
        torch.testing.assert_close(model(*features), before, atol=0, rtol=0)
    assert encoder.model.state_dict().keys() == start.keys()
    for name, value in base.model.state_dict().items():  # what other trainings of this process begin with
        assert torch.equal(value, start[name]), name
    info = ModelInfo(
        kind="classes", groups=(("a", "b", "c"),), audio=AudioConfig(), encoder=encoder.config, head=HeadConfig(),
        normalize=True,
    )  # fmt: skip
    save_model(str(tmp_path), model, info, card=CARD, made_from=CLIPS)
    opened = AutoModel.from_pretrained(tmp_path).eval()
    saved = load_model(str(tmp_path)).model
    with torch.no_grad():
        alone = opened(clips[0][:1, : clips[1][0]]).last_hidden_state[0].mean(0)
        torch.testing.assert_close(model.heads[0](alone), before[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(saved(*saved.encoder.trunk(*clips)), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("projections", [("query", "value"), ("feed_forward",), ALL.projections])
def test_updates_alone_are_trained_and_their_number_is_that_of_the_ranks(projections):
    encoder = make_encoder("wavlm-layer", **LAST)
    config = LoraConfig(rank=2, projections=projections)
    add_lora(encoder, config)
    trained = {name: p.numel() for name, p in encoder.named_parameters() if p.requires_grad}
    assert all("parametrizations.weight.0." in name for name in trained)
    hidden, inner = encoder.dim, encoder.model.config.intermediate_size
    of_projection = {name: hidden + hidden for name in PATHS} | {"feed_forward": 2 * (hidden + inner)}
    assert sum(trained.values()) == NUM_LAST * 2 * sum(of_projection[name] for name in projections)


def test_half_precision_does_not_round_the_weights():
    encoder = randomized(make_encoder("wav2vec2-layer", **LAST))
    linear = encoder.trained_layers[0].attention.q_proj
    with torch.autocast("cpu", torch.bfloat16):
        weight = linear.weight.detach().clone()
    merge_lora(encoder)
    assert weight.dtype == torch.float32 and torch.equal(weight, linear.weight)


def test_rank_zero_changes_nothing():
    encoder = make_encoder("wav2vec2-layer", **LAST)
    trained = [p.requires_grad for p in encoder.parameters()]
    add_lora(encoder, LoraConfig())
    merge_lora(encoder)
    assert [p.requires_grad for p in encoder.parameters()] == trained and any(trained)


def test_a_rank_above_the_sides_of_a_weight_is_refused():
    with pytest.raises(UserError, match=r"^lora.rank must be at most 24, .* of tiny, got 25$"):
        add_lora(make_encoder("wav2vec2-layer", **LAST), LoraConfig(rank=25))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(rank=-1), r"^lora.rank must be at least 0, got -1$"),
        (dict(alpha=0.0), r"^lora.alpha must be positive, got 0.0$"),
        (dict(projections=()), r"^lora.projections must be different and at least one, got \[\]$"),
        (dict(projections=("key", "key")), r"^lora.projections must be different and at least one"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(UserError, match=message):
        LoraConfig(**settings)


def test_a_low_rank_update_has_a_low_rank():
    update = LowRankUpdate(torch.randn(9, 7), ALL)
    torch.nn.init.normal_(update.b)
    weight = torch.randn(9, 7)
    difference = (update(weight) - weight).detach().numpy()
    assert np.linalg.matrix_rank(difference, tol=1e-4) == 3
