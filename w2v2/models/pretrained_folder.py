"""A pre-trained encoder as a folder: transformers opens it, and so does `--encoder.name` of every job."""

import tempfile
from pathlib import Path

import pyarrow as pa
from transformers import Wav2Vec2FeatureExtractor

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.json_types import JsonObject
from w2v2.models import provenance
from w2v2.models.folder_files import PRETRAINED, file_entries
from w2v2.models.model_info import card_block
from w2v2.models.pretrained import turn_off_messages
from w2v2.models.pretraining import PretrainingModel
from w2v2.redaction import public_text, public_values
from w2v2.storage import files as storage
from w2v2.storage.seals import seal_json


def save_pretrained(
    uri: str, model: PretrainingModel, *, card: JsonObject, clips: pa.Table, start: str
) -> None:
    """Write the folder: weights that transformers opens, the card, and hashes of its audio.

    clips (speaker, audio_digest) are the used clips, validation included; start is the model whose weights training
    began with, '' for random ones.
    """
    turn_off_messages()
    card, shown_start = public_values(dict(card)), public_text(start)
    with tempfile.TemporaryDirectory(prefix="w2v2-model-") as scratch:
        folder = Path(scratch)
        stock = model.as_transformers()
        stock.save_pretrained(folder)
        Wav2Vec2FeatureExtractor(
            sampling_rate=SAMPLE_RATE, do_normalize=model.encoder.normalize, return_attention_mask=False
        ).save_pretrained(folder)
        (folder / "README.md").write_text(_card_text(card, shown_start, type(stock).__name__))
        contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        about = {**card, "files": file_entries(contents)}
        contents[PRETRAINED] = (seal_json(about, indent=2) + "\n").encode()
        storage.delete(storage.join(uri, PRETRAINED))  # an earlier attempt's card lists other files
        provenance.write(uri, clips, encoder=start, how="audio")
        for name, body in contents.items():
            storage.write_bytes(storage.join(uri, name), body)


def _card_text(card: JsonObject, start: str, kind: str) -> str:
    begun = f"continued from {start}" if start else "from random weights"
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "---",
            "# An encoder of speech, pre-trained without labels",
            "",
            f"Of 16 kHz mono audio, {begun}. The folder is that of a {kind}; AutoModel opens it and gives the encoder, "
            "and so does `--encoder.name` of w2v2's jobs.",
            "",
            card_block(card),
            "",
        ]
    )
