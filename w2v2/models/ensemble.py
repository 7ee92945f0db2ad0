"""An ensemble as one model folder: its members, each a whole model folder, whose probabilities or values are averaged."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from w2v2.errors import UserError
from w2v2.json_types import Json, JsonObject
from w2v2.models import provenance
from w2v2.models.model_card import write_card
from w2v2.models.model_info import ENSEMBLE_FORMAT, read_info
from w2v2.redaction import public_values
from w2v2.storage import files as storage
from w2v2.storage.seals import seal_json


def member_name(number: int) -> str:
    """The name of a member's folder inside the ensemble's folder."""
    return f"member-{number:02d}"


def save_ensemble(uri: str, *, num_members: int, card: JsonObject, made_from: pa.Table) -> str:
    """The ensemble's digest, after its folder has been completed; the members are already in it, under `member_name`.

    made_from are the clips (speaker, audio_digest) that trained any member. w2v2.json, which marks the folder as
    complete, is written last. Raises UserError where members predict different things.
    """
    names = [member_name(number) for number in range(num_members)]
    infos = [read_info(storage.join(uri, name)) for name in names]
    info = infos[0][0]
    if any((member.kind, member.groups) != (info.kind, info.groups) for member, _ in infos):
        raise UserError(
            f"the members of {uri} predict different classes, labels or values: they have no average"
        )
    digest = ensemble_digest([member_digest for _, member_digest in infos])
    # A member's record includes its encoder's record.
    provenance.write(uri, made_from, encoder=storage.join(uri, names[0]))
    card = public_values({**card, "members": names})
    write_card(uri, info, card, digest, opened_by="")
    fields = {name: value for name, value in asdict(info).items() if value is not None}
    about: dict[str, Json] = {
        "format": ENSEMBLE_FORMAT,
        "digest": digest,
        "info": fields,
        "members": names,
        "card": card,
    }
    storage.write_text(storage.join(uri, "w2v2.json"), seal_json(about, indent=2) + "\n")
    return digest


def ensemble_digest(members: Sequence[str]) -> str:
    """The digest of an ensemble of models with these digests, in order: 16 hex digits."""
    return hashlib.sha256(json.dumps(["ensemble", *members]).encode()).hexdigest()[:16]
