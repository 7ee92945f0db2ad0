"""The table of rejects: clips that cannot be used, with the kind and detail of each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from w2v2.errors import Reject
from w2v2.redaction import redacted

NUM_KINDS_SHOWN = 3

REJECTS = pa.schema([(name, pa.string()) for name in ("clip_id", "uri", "reason", "kind", "detail")])
"""reason is for a person to read; kind and detail are its parts. Files of earlier versions lack the two."""


def reject_columns(rejects: Sequence[Reject]) -> dict[str, list[str]]:
    """The columns of REJECTS with the reasons, a value for each clip."""
    return {
        name: [redacted(getattr(reject, name)) for reject in rejects] for name in ("reason", "kind", "detail")
    }


def kinds_of(rejects: pa.Table) -> list[str]:
    """The kind of each row; for a file of an earlier version without kinds, the whole reason."""
    return rejects["kind" if "kind" in rejects.column_names else "reason"].to_pylist()


RECORD = (("reason", pa.string()), ("reject_kind", pa.string()), ("reject_detail", pa.string()))
"""Columns of a clip's record with the reason why it is rejected; all are empty for a usable clip."""


def record_fields(reject: Reject | None) -> dict[str, str]:
    """The values of RECORD."""
    if reject is None:
        return dict.fromkeys((name for name, _ in RECORD), "")
    return {"reason": reject.reason, "reject_kind": reject.kind, "reject_detail": redacted(reject.detail)}


def recorded_reject(row: Mapping[str, Any]) -> Reject | None:
    """The reject in a record, if it has one; a record of an earlier version has the reason alone."""
    if not row["reason"]:
        return None
    return Reject(kind=row["reject_kind"] or row["reason"], detail=row["reject_detail"] or "")


def commonest(rejects: pa.Table, *, are_listed: bool) -> str:
    """The commonest kinds with their number and an example, and where the list is, if there is one."""
    counts = Counter(kinds_of(rejects)).most_common(NUM_KINDS_SHOWN)
    shown = ", ".join(f"{kind} ({number})" for kind, number in counts)
    example = f"{rejects['clip_id'][0]}: {rejects['reason'][0]}"
    where = "; all are in rejects.parquet of the run" if are_listed else ""
    return f"{shown} (such as {example}{where})"
