"""A changed file of an encoder's folder is named before anything is computed with it."""

import random
import shutil
from pathlib import Path

import pytest
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError
from w2v2.models.folder_files import EDITABLE_FILES, file_entries, refuse_damaged_encoder
from w2v2.models.pretrained import load_encoder, tiny_config
from w2v2.storage.seals import seal_json


@pytest.fixture(params=["pretraining.json", "w2v2.json"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An encoder with a list of its files, as pretrain and finetune write it."""
    place = tmp_path / "model"
    Wav2Vec2Model(tiny_config()).save_pretrained(place)
    Wav2Vec2FeatureExtractor().save_pretrained(place)
    (place / EDITABLE_FILES[0]).write_text("a card")
    contents = {path.name: path.read_bytes() for path in place.iterdir()}
    (place / request.param).write_text(seal_json({"note": "x", "files": file_entries(contents)}))
    return place


def test_a_flipped_bit_in_any_file_is_noticed(folder: Path, tmp_path: Path) -> None:
    load_encoder(EncoderConfig(name=str(folder)), seed=0)
    (folder / EDITABLE_FILES[0]).write_text("an edited card")
    refuse_damaged_encoder("e", folder)
    rng = random.Random(0)
    for path in sorted(folder.iterdir()):
        if path.name in EDITABLE_FILES:
            continue
        for _ in range(3):
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy, dirs_exist_ok=True)
            body = bytearray(path.read_bytes())
            bit = rng.randrange(8 * len(body))
            body[bit // 8] ^= 1 << bit % 8
            (copy / path.name).write_bytes(body)
            with pytest.raises(
                UserError, match=rf"encoder.name 'e' is damaged: .*{path.name}.*copy the whole folder"
            ):
                refuse_damaged_encoder("e", copy)


def test_a_missing_file_is_named_and_the_weights_are_checked_when_loaded(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"is damaged: model.safetensors is not as it was saved"):
        load_encoder(EncoderConfig(name=str(folder)), seed=0)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(
        UserError, match=r"preprocessor_config.json is missing; copy the whole folder again|not as it was"
    ):
        refuse_damaged_encoder("e", folder)
