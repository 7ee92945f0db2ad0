"""Encoders by name: the built-in one, folders as transformers saves them, gs:// folders, the hub."""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
    Wav2Vec2Processor,
    WavLMConfig,
    WavLMModel,
)

from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.cloud.http import LoopbackServer, Request, Response
from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError
from w2v2.models.encoder import Encoder
from w2v2.models.pretrained import load_encoder, tiny_config, weights_digest

SMALL = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, conv_dim=(17, 17), conv_kernel=(10, 3),
    conv_stride=(5, 4), num_feat_extract_layers=2, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=9,
)  # fmt: skip


def load(name: Path | str, seed: int = 0) -> Encoder:
    return load_encoder(EncoderConfig(name=str(name)), seed=seed)


def random_model(model_class=Wav2Vec2Model, config_class=Wav2Vec2Config, **extra):
    torch.manual_seed(1)
    return model_class(config_class(**SMALL, **extra))


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    random_model().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of a good folder, to be broken."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def change_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# -- the built-in encoder


def test_tiny_depends_on_the_seed_alone():
    first = weights_digest(load("tiny", seed=5).model)
    torch.randn(3)
    assert weights_digest(load("tiny", seed=5).model) == first
    assert weights_digest(load("tiny", seed=6).model) != first


def test_tiny_is_small_and_makes_50_frames_a_second():
    encoder = load("tiny")
    assert 50_000 < sum(p.numel() for p in encoder.parameters()) < 150_000
    one_second, three = encoder.num_frames(torch.tensor([16_000, 48_000])).tolist()
    assert three - one_second == 100
    assert encoder.num_layers == tiny_config().num_hidden_layers == 2
    assert encoder.normalize


# -- folders


@pytest.mark.parametrize(
    "model_class, config_class",
    [(Wav2Vec2Model, Wav2Vec2Config), (HubertModel, HubertConfig), (WavLMModel, WavLMConfig)],
)
def test_a_saved_model_comes_back_bit_for_bit(model_class, config_class, tmp_path):
    model = random_model(model_class, config_class)
    model.save_pretrained(tmp_path)
    encoder = load(tmp_path, seed=99)
    assert type(encoder.model) is model_class
    assert weights_digest(encoder.model) == weights_digest(model)
    waveform = torch.randn(1, 2003)
    with torch.no_grad():
        states, _ = encoder.eval()(waveform, torch.tensor([2003]))
        torch.testing.assert_close(states, model.eval()(waveform).last_hidden_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_class", [Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification])
def test_the_encoder_of_a_fine_tuned_checkpoint_is_taken(model_class, tmp_path):
    model = random_model(model_class)
    model.save_pretrained(tmp_path)
    assert weights_digest(load(tmp_path).model) == weights_digest(model.wav2vec2)


def test_half_precision_weights_are_loaded_as_float32(tmp_path):
    random_model().half().save_pretrained(tmp_path)
    assert {p.dtype for p in load(tmp_path).parameters()} == {torch.float32}


def test_a_checkpoint_without_spec_augments_vector_is_whole(tmp_path):
    model = random_model(mask_time_prob=0.0)
    model.save_pretrained(tmp_path)
    change_config(tmp_path, mask_time_prob=0.05)
    loaded = load(tmp_path).model.state_dict()
    assert "masked_spec_embed" in loaded.keys() - model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("normalize", [True, False])
def test_preprocessor_config_says_whether_waveforms_are_normalised(folder, normalize):
    Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
    assert load(folder).normalize is normalize


def test_processor_config_says_it_too(folder, tmp_path):
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "<s>": 3, "</s>": 4}))
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(do_normalize=False), tokenizer).save_pretrained(folder)
    assert load(folder).normalize is False


def test_without_preprocessor_config_waveforms_are_normalised_with_a_warning(folder, caplog):
    with caplog.at_level(logging.WARNING, logger="w2v2.models.pretrained"):
        assert load(folder).normalize
    assert f"encoder.name {folder} has no preprocessor_config.json: waveforms are normalised" in caplog.text


# -- the digest


def test_digest_sees_one_bit_of_one_weight():
    model = random_model()
    before = weights_digest(model)
    with torch.no_grad():
        bias = model.encoder.layers[1].final_layer_norm.bias
        bias[3] = torch.nextafter(bias[3], torch.tensor(1.0))
    assert weights_digest(model) != before
    assert len(before) == 16 and int(before, 16)


def test_digest_sees_names_shapes_and_types():
    @dataclass
    class State:
        state: dict[str, torch.Tensor]
        config: Wav2Vec2Config = field(default_factory=Wav2Vec2Config)

        def state_dict(self) -> dict[str, torch.Tensor]:
            return self.state

    zeros = torch.zeros(2, 3)
    states = [{"a": zeros}, {"b": zeros}, {"a": zeros.T}, {"a": zeros.double()}, {"a": zeros, "b": zeros}]
    digests = [weights_digest.__wrapped__(State(state)) for state in states]  # past the check for a model
    assert len(set(digests)) == len(states)


def test_digest_sees_the_architecture_and_not_where_it_was_saved():
    model = random_model()
    before = weights_digest(model)
    model.config._name_or_path = "/elsewhere"
    assert weights_digest(model) == before
    model.config.hidden_act = "relu"
    assert weights_digest(model) != before


def test_digest_does_not_depend_on_memory_layout_or_gradients():
    model = random_model()
    before = weights_digest(model)
    weight = model.feature_projection.projection.weight
    weight.data = weight.data.T.contiguous().T
    model.requires_grad_(False)
    assert weights_digest(model) == before


# -- gs://


@pytest.fixture
def model_bucket(monkeypatch, tmp_path, saved):
    """A loopback bucket with the saved model under models/w2v, and a scratch folder of one's own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with FakeGcs("weights") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        for path in saved.iterdir():
            server.put("weights", f"models/w2v/{path.name}", path.read_bytes())
        yield server


def test_a_gs_folder_equals_the_local_one_and_is_downloaded_once(model_bucket, saved):
    expected = weights_digest(load(saved).model)
    reads = []
    for _ in range(2):
        assert weights_digest(load("gs://weights/models/w2v").model) == expected
        reads.append(model_bucket.count("GET", "model.safetensors"))
    assert reads[0] == reads[1] >= 1


def test_new_weights_in_a_gs_folder_are_seen(model_bucket, tmp_path):
    before = weights_digest(load("gs://weights/models/w2v").model)
    torch.manual_seed(77)
    other = Wav2Vec2Model(Wav2Vec2Config(**SMALL))
    other.save_pretrained(tmp_path / "other")
    model_bucket.put(
        "weights", "models/w2v/model.safetensors", (tmp_path / "other/model.safetensors").read_bytes()
    )
    after = weights_digest(load("gs://weights/models/w2v").model)
    assert after == weights_digest(other) != before


@pytest.mark.parametrize("name", ["gs://weights/models/none", "gs://nobucket/models"])
def test_a_missing_gs_folder_is_named(model_bucket, name):
    with pytest.raises(UserError, match=name):
        load(name)


# -- what cannot be loaded


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), r"cannot open it \(.*config\.json.*\); wanted a folder as save_pre"),
    "bad config": (lambda f: (f / "config.json").write_text("{"), r"cannot open it \(.*not a valid JSON file.*\); wanted a"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"cannot open it \(.*no file named model\.safetensors.*\);"),
    "cut weights": (cut_weights, r"cannot open it \(.*not fully covered.*\); wanted a folder as save_pretrained writes it"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), r"cannot open it \(.*header too small.*\)"),
    "missing layer": (lambda f: change_config(f, num_hidden_layers=3), r"16 weights .* missing or of another shape, such as encoder\.layers\.2\."),
    "other shape": (lambda f: change_config(f, intermediate_size=41), r"6 weights .* missing or of another shape, such as encoder\.layers\.0\."),
    "bad preprocessor": (lambda f: (f / "preprocessor_config.json").write_text("{"), r"preprocessor_config\.json cannot be read; fix"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_named_with_what_is_wrong(kind, folder):
    damage, message = BROKEN[kind]
    damage(folder)
    with pytest.raises(UserError, match=message) as raised:
        load(folder)
    assert str(raised.value).startswith(f"encoder.name '{folder}'")
    assert "\n" not in str(raised.value)


def test_a_folder_is_never_taken_for_the_hub(folder):
    """Words that the hub's errors have may stand in a path."""
    place = folder.parent / "offline" / "connect"
    shutil.copytree(folder, place)
    (place / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"transformers cannot open it"):
        load(place)


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "../nowhere", "~/nowhere/at/all"])
def test_a_missing_folder_is_named(name):
    with pytest.raises(
        UserError, match=rf"encoder\.name '{name}': no such folder; wanted one with config\.json"
    ):
        load(name)


def test_another_kind_of_model_is_refused(tmp_path):
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    ).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(UserError, match=r"is a bert model; wanted one of wav2vec2, hubert, wavlm"):
        load(tmp_path)


# -- the hub


@pytest.fixture
def empty_hub_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_hub_name_offline_says_what_to_do(monkeypatch, empty_hub_cache):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"'facebook/wav2vec2-base': the Hugging Face hub cannot be reached and"
    ):
        load("facebook/wav2vec2-base")


class FakeHub(LoopbackServer):
    """Serves the files of one folder as any model's, or answers everything with one error."""

    def __init__(self, *, folder: Path | None = None, status: int = 200, error: str = "") -> None:
        super().__init__()
        self.folder = folder
        self.refusal = Response(status=status, headers={"X-Error-Code": error, "X-Error-Message": "no"})

    def handle(self, request: Request) -> Response:
        if self.folder is None:
            return self.refusal
        path = self.folder / request.path.split("/")[-1]
        if "/resolve/" not in request.path or not path.is_file():
            return Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        body = path.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        return Response(body=body, headers={"ETag": etag, "X-Repo-Commit": "0" * 40})

    def visit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Send huggingface_hub's requests here."""
        place = "huggingface_hub.constants."
        monkeypatch.setattr(place + "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(place + "ENDPOINT", self.url)
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(place + "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize(
    "status, error, message",
    [
        (
            404,
            "RepoNotFound",
            r"no such folder and no such model on the Hugging Face hub; check the spelling",
        ),
        (
            401,
            "RepoNotFound",
            r"no such model on the Hugging Face hub; .* \(for a private model, log in with",
        ),
        (403, "GatedRepo", r"the hub does not give it \(.*gated.*\); check the name \(for a gated"),
    ],
)
def test_a_hub_name_that_the_hub_refuses(monkeypatch, empty_hub_cache, status, error, message):
    with FakeHub(status=status, error=error) as hub:
        hub.visit(monkeypatch)
        with pytest.raises(UserError, match=message.replace("the hub", "the Hugging Face hub")):
            load("nobody/nothing")
        assert hub.count(path_contains="nobody/nothing")


def test_a_hub_model_equals_its_folder(monkeypatch, empty_hub_cache, folder):
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    with FakeHub(folder=folder) as hub:
        hub.visit(monkeypatch)
        encoder = load("somebody/model")
        assert hub.count("GET", "/model.safetensors") == 1
    assert weights_digest(encoder.model) == weights_digest(load(folder).model)
    assert encoder.normalize is False


@pytest.mark.parametrize("name", ["bad name!", "a/b/c"])
def test_a_name_that_no_hub_model_can_have(name):
    with pytest.raises(UserError, match=rf"encoder\.name '{name}': the Hugging Face hub does not give it"):
        load(name)
