"""A folder of encoders, one for each fold, each pre-trained without the audio of the speakers that its fold holds out.

`w2v2 pretrain --per_fold true` writes it: fold_encoders.json and, for fold 0 and up, fold-<number>/model.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError
from w2v2.job_commands import command_of
from w2v2.models import provenance
from w2v2.storage import files as storage

FILE = "fold_encoders.json"

ByFold = Mapping[EncoderConfig, Sequence[EncoderConfig]]
"""For an encoder whose name is such a folder, the encoder of each fold."""


def write(run: str, *, num_folds: int) -> None:
    """Mark a folder as one that holds an encoder for each of so many folds."""
    storage.write_text(storage.join(run, FILE), json.dumps({"num_folds": num_folds}) + "\n")


def run_of_fold(run: str, fold: int) -> str:
    """The run directory of a fold's pre-training."""
    return storage.join(run, f"fold-{fold}")


def model_of_fold(name: str, fold: int) -> str:
    """The name of the encoder of a fold, below the name of the folder."""
    return storage.join(run_of_fold(name, fold), "model")


def num_folds_of(name: str) -> int:
    """How many folds a folder has encoders for; 0 for the name of a single encoder.

    Raises UserError where the folder's mark is damaged, and StorageError where it cannot be read.
    """
    place = storage.join(storage.expand(name), FILE)
    if not storage.exists(place):
        return 0
    text = storage.read_text(place)
    try:
        return int(json.loads(text)["num_folds"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{place} cannot be read ({error}): run its {command_of('pretrain')} again, which writes it anew"
        ) from error


def by_fold(encoders: Sequence[EncoderConfig], *, num_folds: int) -> ByFold:
    """The encoders of all folds, in order, for those encoders that are folders with one for each fold.

    Raises UserError where a folder has another number of folds, or lacks the model of one.
    """
    encoders_of: dict[EncoderConfig, list[EncoderConfig]] = {}
    for encoder in encoders:
        if not (num_in_folder := num_folds_of(encoder.name)):
            continue
        if num_in_folder != num_folds:
            raise UserError(
                f"encoder.name {encoder.name!r} has encoders for {num_in_folder} folds and folds.num_folds is {num_folds}: "
                "pre-train and search with the same settings of folds"
            )
        encoders_of[encoder] = [
            replace(encoder, name=model_of_fold(encoder.name, f)) for f in range(num_folds)
        ]
        for fold_encoder in encoders_of[encoder]:
            if not provenance.records_clips(fold_encoder.name):
                raise UserError(
                    f"encoder.name {encoder.name!r}: {fold_encoder.name} is missing, so its pre-training has not come to its end: "
                    f"run the same {command_of('pretrain')} again"
                )
    return encoders_of


def distinct(encoders: Sequence[EncoderConfig], of_fold: ByFold) -> list[EncoderConfig]:
    """Every encoder whose features are needed, each once."""
    return list(
        dict.fromkeys(
            fold_encoder for encoder in encoders for fold_encoder in of_fold.get(encoder, [encoder])
        )
    )


def refuse_seen(of_fold: ByFold, clips: pa.Table) -> None:
    """Raises UserError where an encoder was trained on a speaker or recording that its fold holds out.

    clips have speaker, fold and, once the audio has been read, audio_digest.
    """
    if "audio_digest" not in clips.column_names:
        clips = clips.append_column("audio_digest", pa.nulls(len(clips), pa.string()))
    names = {encoder.name: [fold_encoder.name for fold_encoder in of_fold[encoder]] for encoder in of_fold}
    for name, models in names.items():
        for fold, model in enumerate(models):
            held_out = clips.filter(pc.equal(clips["fold"], fold))
            if seen := provenance.overlap(model, held_out):
                raise UserError(
                    f"encoder.name {name!r}: among the clips that fold {fold} holds out, {seen} trained its encoder {model}: "
                    f"pre-train ({command_of('pretrain')} --per_fold true) with the settings of folds and data that the search has"
                )


def joint_digest(digests: Sequence[str]) -> str:
    """16 hex digits that name the weights of several encoders together, in their order."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


def refuse_fold_encoders(name: str) -> None:
    """Raises UserError for a folder of encoders by fold, where one encoder is wanted."""
    if num_folds := num_folds_of(name):
        raise UserError(
            f"encoder.name {name!r} has an encoder for each of {num_folds} folds, for {command_of('tune_folds')}: give one of "
            f"them, such as {model_of_fold(name, 0)}, which was pre-trained without the speakers of fold 0"
        )
