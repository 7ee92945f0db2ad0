"""Encoders in gs:// folders and on the Hugging Face hub."""

import errno
import hashlib
import json
import logging
import os
import re
import tempfile
from pathlib import Path

import pytest
import torch
from huggingface_hub import try_to_load_from_cache
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.cloud.http import LoopbackServer, Request, Response
from tests.made.encoders import SMALL, load
from w2v2.errors import ResumableError, UserError
from w2v2.models.architecture import refuse_unusable
from w2v2.models.ctc_checkpoint import read_vocabulary
from w2v2.models.model_files import HubError, read_model_file
from w2v2.models.pretrained import weights_digest


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


@pytest.fixture
def empty_hub_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_hub_name_offline_says_what_to_do(monkeypatch, empty_hub_cache):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError,
        match=r"'facebook/wav2vec2-base': there is no such folder, the Hugging Face hub cannot be reached and",
    ):
        load("facebook/wav2vec2-base")


class FakeHub(LoopbackServer):
    """Serves the files of one folder as any model's, or answers everything with one error."""

    def __init__(self, *, folder: Path | None = None, status: int = 200, error: str = "") -> None:
        super().__init__()
        self.folder = folder
        self.failures: dict[str, Response] = {}
        """Answers other than the folder's, by file."""
        self.refusal = Response(status=status, headers={"X-Error-Code": error, "X-Error-Message": "no"})

    def handle(self, request: Request) -> Response:
        if self.folder is None:
            return self.refusal
        path = self.folder / request.path.split("/")[-1]
        if path.name in self.failures:
            return self.failures[path.name]
        if "/resolve/" not in request.path or not path.is_file():
            return Response(status=404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "0" * 40})
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


@pytest.mark.parametrize("name", ["team404/offline-internet", "team/connect404"])
def test_words_of_a_models_name_are_no_reason(monkeypatch, empty_hub_cache, name):
    with FakeHub(status=403, error="GatedRepo") as hub:
        hub.visit(monkeypatch)
        with pytest.raises(UserError, match=r"does not give it \(.*gated.*\); check the name \(for a gated"):
            load(name)


def test_a_hub_that_is_gone_cannot_be_reached(monkeypatch, empty_hub_cache):
    hub = FakeHub().start()
    hub.visit(monkeypatch)
    hub.stop()
    with pytest.raises(UserError, match="the Hugging Face hub cannot be reached and the model is not in the"):
        load("nobody/nothing")


def test_a_hub_model_equals_its_folder(monkeypatch, empty_hub_cache, folder):
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    with FakeHub(folder=folder) as hub:
        hub.visit(monkeypatch)
        encoder = load("somebody/model")
        assert hub.count("GET", "/model.safetensors") == 1
    assert weights_digest(encoder.model) == weights_digest(load(folder).model)
    assert encoder.normalize is False


# -- one file that the hub does not give, of a model whose other files it does

GIVEN_LATER = (
    r"the Hugging Face hub answers with an error \(HTTP status {}\), and the local hub cache does not have the "
    r"file; run the same command again later, or give a folder$"
)
FAILURES = {
    "server": (Response(status=503), GIVEN_LATER.format(503)),
    "rate": (Response(status=429), GIVEN_LATER.format(429)),
    "slow proxy": (Response(status=504), GIVEN_LATER.format(504)),
    "gated": (
        Response(status=403, headers={"X-Error-Code": "GatedRepo"}),
        r"the Hugging Face hub does not give it \(it is a gated model\); check the name \(for a gated or private model, ",
    ),
    "token": (
        Response(status=401, headers={"X-Error-Message": "Invalid credentials in Authorization header"}),
        r"the Hugging Face hub does not give it \(.*401.*\); check the name",
    ),
}


@pytest.fixture
def hub(monkeypatch, empty_hub_cache, folder):
    """A hub with a model that takes waveforms as they are, which it is not asked for in seconds again."""
    monkeypatch.setattr("w2v2.models.model_files.PAUSES_S", (0.0, 0.0))
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    with FakeHub(folder=folder) as hub:
        hub.visit(monkeypatch)
        yield hub


@pytest.mark.parametrize("kind", FAILURES)
def test_what_the_hub_does_not_give_is_not_taken_for_missing(hub, kind):
    refuse_unusable("somebody/model")
    Path(try_to_load_from_cache("somebody/model", "preprocessor_config.json")).unlink()
    hub.failures["preprocessor_config.json"], message = FAILURES[kind]
    with pytest.raises(HubError, match=f"^encoder.name 'somebody/model': {message}"):
        load("somebody/model")
    # A machine that only starts the job leaves it to those that open the model.
    assert refuse_unusable("somebody/model") is None
    with pytest.raises(HubError, match=message):
        refuse_unusable("somebody/model", is_opened=True)
    del hub.failures["preprocessor_config.json"]
    assert load("somebody/model").normalize is False


def test_a_hub_that_fails_for_a_moment_is_asked_again(hub, monkeypatch):
    file, asked, num_failures = "preprocessor_config.json", hub.handle, iter(range(2))

    def recovering(request: Request) -> Response:
        fails = request.path.endswith(file) and next(num_failures, None) is not None
        return Response(status=503) if fails else asked(request)

    monkeypatch.setattr(hub, "handle", recovering)
    assert read_model_file("somebody/model", file) == (hub.folder / file).read_text()
    assert next(num_failures, None) is None


def test_a_hub_that_is_gone_does_not_say_that_a_file_is_missing(hub):
    assert read_model_file("somebody/model", "config.json") == (hub.folder / "config.json").read_text()
    hub.stop()
    with pytest.raises(
        HubError,
        match=r"^encoder.name 'somebody/model': the Hugging Face hub cannot be reached, and the local hub cache has the "
        r"model without its preprocessor_config\.json; check the network, or, if the model has no such file, give its folder ",
    ):
        load("somebody/model")


def test_a_copy_without_that_file_works_offline(hub, monkeypatch, caplog):
    (hub.folder / "preprocessor_config.json").unlink()
    expected = weights_digest(load("somebody/model").model)
    hub.stop()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="w2v2.models.pretrained"):
        encoder = load("somebody/model")
    assert encoder.normalize and weights_digest(encoder.model) == expected
    assert "somebody/model has no preprocessor_config.json: waveforms are normalised" in caplog.text


def test_special_tokens_that_the_hub_does_not_give_are_not_guessed(hub, monkeypatch):
    tokens = {"<pad>": 0, "<unk>": 1, "|": 2, "<s>": 3, "</s>": 4}
    (hub.folder / "vocab.json").write_text(json.dumps(tokens))
    hub.failures["tokenizer_config.json"], message = FAILURES["server"]
    with pytest.raises(HubError, match=f"^model 'somebody/model': {message}"):
        read_vocabulary("somebody/model", field="model")
    hub.failures.clear()
    assert read_model_file("somebody/model", "tokenizer_config.json") is None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # all that it has is in the cache
    assert read_vocabulary("somebody/model").tokens == tuple(tokens)


def test_a_hub_cache_that_cannot_be_written(hub, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(
        UserError,
        match=r"^encoder.name 'somebody/model': its config\.json cannot be kept in or read from the local hub cache "
        r"\(.*Not a directory.*\); see that its folder may be written, or name another one by HF_HOME$",
    ):
        read_model_file("somebody/model", "config.json")


def test_a_full_disk_below_the_hub_cache(hub, monkeypatch):
    def full(name: str, file: str) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(ResumableError, match=r"^a disk is full or read-only \(.*No space left.*config\.json"):
        read_model_file("somebody/model", "config.json")


@pytest.mark.parametrize("name", ["bad name!", "a/b/c"])
def test_a_name_that_no_hub_model_can_have(name):
    with pytest.raises(
        UserError, match=rf"encoder\.name '{name}': there is no such folder and no such model"
    ):
        load(name)


def test_a_name_that_is_nearly_the_built_in_encoder_s(empty_hub_cache):
    with pytest.raises(
        UserError, match=r"encoder\.name 'tinny': did you mean tiny\? there is no such folder"
    ):
        load("tinny")


@pytest.mark.parametrize("name", ["facebook/wav2vec2-base ", " tiny", "\tmodel\n"])
def test_a_name_with_white_space_around_it(name):
    with pytest.raises(
        UserError, match=rf"begins or ends with white space: write {re.escape(repr(name.strip()))}"
    ):
        load(name)
