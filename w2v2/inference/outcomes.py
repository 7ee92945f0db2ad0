"""The outcomes of clips: written by workers after the parts with their vectors, read by the next attempt."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.inference.extraction import DONE, ExtractionJob, parts_uri, spec_of
from w2v2.inference.reading import EMBEDDED
from w2v2.storage import files as storage
from w2v2.storage.parquet import join_records, records, write_record
from w2v2.tables.parts import list_parts, write_part


def table_rows(clips: pa.Table, *, schema: pa.Schema, constants: dict[str, str]) -> pa.Table:
    """A row of the schema for each vector: columns of the vector, of its clip, and constants."""
    vectors = clips["vectors"].combine_chunks()
    rows = pa.Table.from_struct_array(vectors.flatten())
    of_clip = clips.take(pc.list_parent_indices(vectors))
    rows = rows.append_column("dim", pc.cast(pc.list_value_length(rows["embedding"]), pa.int64()))
    for name in schema.names:
        if name in constants:
            rows = rows.append_column(name, pa.array([constants[name]] * len(rows), pa.string()))
        elif name not in rows.column_names:
            rows = rows.append_column(name, of_clip[name])
    return rows.select(schema.names).cast(schema)


def write_chunk(clips: pa.Table, job: ExtractionJob) -> pa.Table:
    """The outcomes of the clips (DONE), after their part and then this table have been written."""
    spec = spec_of(job.config)
    rows = table_rows(clips, schema=spec.schema, constants=job.constants)
    part = write_part(parts_uri(job.config.run), rows, spec=spec) if len(rows) else ""
    embedded = pc.equal(clips["status"], EMBEDDED)
    num_rows = pc.cast(pc.list_value_length(clips["vectors"]), pa.int64())
    clips = clips.append_column("num_rows", num_rows)
    clips = clips.append_column("part", pc.if_else(embedded, part.rpartition("/")[2], ""))
    done = clips.select(DONE.names).cast(DONE)
    write_record(storage.join(job.config.run, "done"), done)
    return done


def done_before(config: ExtractConfig) -> Iterator[pa.Table]:
    """The outcomes of earlier attempts of this run (DONE), some at a time, without those whose part is gone."""
    folder = storage.join(config.run, "done")
    existing = pa.array(["", *(uri.rpartition("/")[2] for uri in list_parts(parts_uri(config.run)))])
    for rows in records(folder, DONE, num_at_once=config.data.num_readers):
        yield rows.filter(pc.is_in(rows["part"], existing))


def join_done(config: ExtractConfig) -> None:
    """Replace the many small records of outcomes by few, once no worker writes any."""
    join_records(storage.join(config.run, "done"), DONE, num_at_once=config.data.num_readers)
