"""Mistakes in an encoder's name and layers are found from its files, without torch, before a worker starts."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from tests import ROOT
from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError
from w2v2.models.architecture import (
    TINY_LAYERS,
    check_encoder,
    check_vocabulary,
    read_num_layers,
    refuse_unusable,
)
from w2v2.models.pretrained import read_model_config, tiny_config


def folder_with(place: Path, config: Any, **others: str) -> str:
    place.mkdir(parents=True)
    if config is not None:
        (place / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name, text in others.items():
        (place / name).write_text(text)
    return str(place)


def test_layers_are_those_that_transformers_reads(tmp_path: Path) -> None:
    config = tiny_config()
    assert read_num_layers("tiny", asks_hub=True) == TINY_LAYERS == config.num_hidden_layers
    config.num_hidden_layers = 7
    config.save_pretrained(tmp_path)
    assert (
        read_num_layers(str(tmp_path), asks_hub=True)
        == 7
        == read_model_config(str(tmp_path))[0].num_hidden_layers
    )
    check_encoder(EncoderConfig(name=str(tmp_path), train="last", num_last_layers=7), asks_hub=True)
    for wrong, message in (
        (
            EncoderConfig(name=str(tmp_path), train="last", num_last_layers=8),
            "num_last_layers must be at most 7",
        ),
        (
            EncoderConfig(name=str(tmp_path), train="head", layer=8),
            "encoder.layer must be at most 7, .* got 8",
        ),
        (EncoderConfig(name=str(tmp_path), train="last", layer=2), "lies below the last 2 of 7 layers"),
    ):
        with pytest.raises(UserError, match=message):
            check_encoder(wrong, asks_hub=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            None,
            r"transformers cannot open it \(there is no config.json\); wanted a folder as save_pretrained",
        ),
        ("{", r"transformers cannot open it \(config.json is no JSON object\)"),
        ([1], r"transformers cannot open it \(config.json is no JSON object\)"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "config.json is no JSON object"),
        ({"model_type": "wav2vec2", "add_adapter": True}, "its config.json has add_adapter: true"),
        ({"model_type": "bert"}, "is a bert model; wanted one of wav2vec2, hubert"),
        ({"model_type": "mert", "auto_map": {}}, "its model_type mert needs Python code from its repository"),
    ],
)
def test_folders_that_are_no_encoder(tmp_path: Path, config: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_encoder(EncoderConfig(name=folder_with(tmp_path / "m", config)), asks_hub=True)


def test_what_only_loading_shows_is_left_to_it(tmp_path: Path) -> None:
    ensemble = folder_with(tmp_path / "ensemble", None)
    folder_with(tmp_path / "ensemble" / "member-00", {"model_type": "wav2vec2"})
    assert read_num_layers(ensemble, asks_hub=True) == 0
    unknown = folder_with(tmp_path / "other", {"model_type": "wav2vec2", "num_hidden_layers": "many"})
    assert read_num_layers(unknown, asks_hub=True) == 0
    assert read_num_layers("somebody/model", asks_hub=False) == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            errors.OfflineModeIsEnabled("offline"),
            "there is no such folder, the Hugging Face hub cannot be reached and the model is not in the",
        ),
        (
            errors.LocalEntryNotFoundError("no network"),
            "there is no such folder, the Hugging Face hub cannot be reached",
        ),
        (
            errors.HFValidationError("a/b/c"),
            "there is no such folder and no such model on the Hugging Face hub; check",
        ),
        (TimeoutError("slow"), "there is no such folder, the Hugging Face hub cannot be reached"),
        (
            errors.HfHubHTTPError(
                "something new", response=SimpleNamespace(headers={}, request=None, status_code=418)
            ),
            r"the Hugging Face hub does not give it \(something new\); check the name",
        ),
    ],
)
def test_the_hub_is_asked_for_a_small_file_once_and_again_where_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    asked = []

    def metadata(url: str) -> object:
        asked.append(url)
        raise error

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    config = EncoderConfig(name="nobody/has-this")
    with pytest.raises(UserError, match=f"encoder.name 'nobody/has-this': {message}"):
        check_encoder(config, asks_hub=True)
    is_answer = isinstance(
        error, errors.HfHubHTTPError | errors.HFValidationError | errors.OfflineModeIsEnabled
    )
    assert asked == [huggingface_hub.hf_hub_url("nobody/has-this", "config.json")] * (1 if is_answer else 2)


def test_a_copy_in_the_hub_cache_is_read_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_with(
        tmp_path / "cached", {"model_type": "wav2vec2", "num_hidden_layers": 5, "sampling_rate": 8000}
    )

    def copy(name: str, file: str) -> str | None:
        path = tmp_path / "cached" / file
        return str(path) if path.exists() else None

    def no_network(url: str) -> object:
        raise errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", copy)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", no_network)
    assert read_num_layers("somebody/model", asks_hub=True) == 5
    # The files that are not in the cache are left to the loader; the one that is says enough.
    with pytest.raises(UserError, match=r"wants audio of 8000 Hz \(sampling_rate in config\.json\)"):
        refuse_unusable("somebody/model")


def test_vocabularies(tmp_path: Path) -> None:
    check_vocabulary(folder_with(tmp_path / "ctc", {}, **{"vocab.json": "{}"}))
    for name in ("tiny", folder_with(tmp_path / "none", {})):
        with pytest.raises(
            UserError, match=r"text.vocab=model, but encoder.name .* has no vocabulary.*--text.vocab train"
        ):
            check_vocabulary(name)


WITHOUT_TORCH = """
import importlib, sys
for name in ("torch", "transformers", "ray"):
    sys.modules[name] = None  # importing it is an error
for line in {commands!r}:
    name, *args = line.split()
    code = importlib.import_module("w2v2.jobs." + name).run([*args, "--run", {run!r}])
    if code != 2:
        sys.exit(f"{{line}} ended with {{code}}")
"""


def test_jobs_end_before_they_import_torch(tmp_path: Path, corpus: Path) -> None:
    broken = folder_with(tmp_path / "broken", "{")
    commands = [
        f"pretrain --encoder.name {broken}",
        f"pretrain --data.uri {corpus} --training.val_fraction 0.999",
        f"finetune --encoder.name {broken}",
        "finetune --encoder.train last --encoder.num_last_layers 9",
        "finetune --task.kind transcript --text.vocab model",
        f"tune_folds --encoder.name {broken}",
        "tune_folds --encoder.train head --encoder.layer 9",
        f"extract_embeddings --encoder.name {broken}",
        "extract_embeddings --encoder.layers [9]",
        f"evaluate --model {broken} --data.uri {corpus}",
        f"predict --model {broken} --data.uri {corpus}",
        f"export --model {broken}",
        f"export --model {tmp_path}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH.format(commands=commands, run=str(tmp_path / "run"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    errors_shown = done.stderr.splitlines()
    assert len(errors_shown) == len(commands) and all(line.startswith("error: ") for line in errors_shown)
