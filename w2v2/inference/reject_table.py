"""The table of an extraction's rejects, next to the table of embeddings."""

import datetime

import pyarrow as pa

from w2v2.data.rejects import REJECTS
from w2v2.inference.extraction import ExtractionJob
from w2v2.storage import files as storage
from w2v2.tables.parts import write_part
from w2v2.tables.spec import rejects_spec
from w2v2.tables.table import Table


def rejects_table(uri: str) -> str:
    """The name of the table of rejects: the embeddings' name with _rejects.

    >>> rejects_table("bq://project.dataset.embeddings")
    'bq://project.dataset.embeddings_rejects'
    """
    return f"{uri.rstrip('/')}_rejects"


def commit_rejects(table: Table, rejects: pa.Table, job: ExtractionJob) -> None:
    """Write this run's rejects to the table; the reason becomes '' for a clip that is no longer rejected."""
    assert rejects.schema == REJECTS
    now = {row["clip_id"]: row for row in reversed(rejects.to_pylist())}
    before = {
        row["clip_id"]: row
        for row in table.read(["clip_id", "uri", "reason"], where={"run_id": job.run_id}).to_pylist()
    }
    changed = [row for clip_id, row in now.items() if before.get(clip_id, {}).get("reason") != row["reason"]]
    changed += [
        row | {"reason": ""} for clip_id, row in before.items() if row["reason"] and clip_id not in now
    ]
    if not changed:
        return
    of_run = {
        "run_id": job.run_id,
        "code_version": job.code_version,
        "created_at": datetime.datetime.now(datetime.UTC),
    }
    rows = pa.Table.from_pylist([row | of_run for row in changed], schema=rejects_spec().schema)
    table.commit([write_part(storage.join(job.config.run, "reject_parts"), rows, spec=rejects_spec())])
