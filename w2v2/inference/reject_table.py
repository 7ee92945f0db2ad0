"""The rejects of an extraction, in a table of their own next to that of the embeddings."""

import datetime

import pyarrow as pa

from w2v2.data.rejects import REJECTS
from w2v2.inference.extraction import Job
from w2v2.storage import files as storage
from w2v2.tables.parts import write_part
from w2v2.tables.spec import rejects_spec
from w2v2.tables.table import Table


def rejects_table(uri: str) -> str:
    """The table of the rejects of a table: its name with _rejects."""
    return f"{uri.rstrip('/')}_rejects"


def commit_rejects(table: Table, rejects: pa.Table, job: Job) -> None:
    """Make the table hold this run's rejects; reason becomes empty where a clip is no longer rejected."""
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
    own = {
        "run_id": job.run_id,
        "code_version": job.code_version,
        "created_at": datetime.datetime.now(datetime.UTC),
    }
    rows = pa.Table.from_pylist([row | own for row in changed], schema=rejects_spec().schema)
    table.commit([write_part(storage.join(job.config.run, "reject_parts"), rows, spec=rejects_spec())])
