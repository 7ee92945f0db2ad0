"""A loopback bucket with as many audio files as wanted and BigQuery next to it, as a process of its own.

`python -m tests.cloud.serve_corpus '{"num_clips": 1000000}'` prints one line of JSON, the environment variables that lead
Google's clients to it. Each line on its standard input is answered by one line, the numbers of requests since the last
one by kind; it ends when that is closed. The files below `audio/` and `few/` are computed from their number and take no memory.
"""

import base64
import bisect
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.cloud.bigquery import FakeBigQuery, bigquery_environment
from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.cloud.gcs_objects import OnDisk, StoredObject
from tests.cloud.http import LoggedRequest, Request, Response

BUCKET, PROJECT, DATASET = "bench", "w2v2-bench", "scale"
NUM_FEW = 64
"""Files below few/, for a run that imports what the measured one needs."""
CLIPS_PER_FOLDER = 1_000
SIZE_BYTES = 96_044
"""Of every file: three seconds at 16 kHz in 16 bits."""
MAX_HELD_BYTES = 4_096
"""Of one object in memory: ten million clips have gigabytes of parts and records."""
_MAX_PAGE = 1_000
PAGE_ROWS = 50_000
"""Rows of keys that take about 10 MB of JSON, BigQuery's largest page."""


class Names(Sequence[str]):
    """The names of the files below a folder, in order."""

    def __init__(self, folder: str, num_clips: int) -> None:
        self.folder, self._num_clips = folder, num_clips

    def __len__(self) -> int:
        return self._num_clips

    def __getitem__(self, number: Any) -> Any:
        return f"{self.folder}/{number // CLIPS_PER_FOLDER:06d}/{number:08d}.wav"


def item_of(name: str) -> dict[str, Any]:
    """What Google tells about a file; its content and so its checksum follow from its number."""
    number = int(name[-12:-4])
    crc32c = base64.b64encode((number * 2_654_435_761 % 2**32).to_bytes(4, "big")).decode()
    return {
        "name": name,
        "size": str(SIZE_BYTES),
        "crc32c": crc32c,
        "generation": str(1_700_000_000_000_000 + number),
    }


class CorpusGcs(FakeGcs):
    """The fake with two folders of files that are not stored; everything else is, what is large on the disk."""

    def __init__(self, num_clips: int) -> None:
        super().__init__(BUCKET)
        self._corpora = (Names("audio", num_clips), Names("few", NUM_FEW))
        self._folder = tempfile.TemporaryDirectory(prefix="w2v2-corpus-")

    def _store(self, bucket: str, name: str, data: bytes, resource: Mapping[str, Any]) -> StoredObject:
        stored = super()._store(bucket, name, data, resource)
        if len(data) > MAX_HELD_BYTES:
            stored = replace(stored, data=OnDisk(data, self._folder.name))
            self._buckets[bucket][name] = stored
        return stored

    def _list_objects(self, request: Request, bucket: str) -> Response:
        prefix = request.query.get("prefix", "")
        for names in self._corpora:
            if prefix.startswith(names.folder):
                return _page(names, request.query, bucket)
        return super()._list_objects(request, bucket)

    def _get_object(self, request: Request, bucket: str, name: str) -> Response:
        if name.startswith(tuple(f"{names.folder}/" for names in self._corpora)):
            body = json.dumps(_whole(item_of(name), bucket)).encode()
            return Response(200, body, {"Content-Type": "application/json; charset=UTF-8"})
        return super()._get_object(request, bucket, name)


def _page(names: Names, query: Any, bucket: str) -> Response:
    """A page of a listing; every field that Google sends unless the client asks for fewer, as it does."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    first = bisect.bisect_left(names, max(prefix, query.get("startOffset", "")))
    last = bisect.bisect_left(names, f"{prefix}\U0010ffff")
    if query.get("endOffset"):
        last = min(last, bisect.bisect_left(names, query["endOffset"]))
    at = int(query.get("pageToken", first))
    size = min(int(query.get("maxResults", _MAX_PAGE)), _MAX_PAGE)
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if delimiter and prefix == f"{names.folder}/":
        folders = range(at // CLIPS_PER_FOLDER, -(-last // CLIPS_PER_FOLDER))[:size]
        answer["prefixes"] = [f"{names.folder}/{folder:06d}/" for folder in folders]
        at = min(last, (folders.stop if folders else 0) * CLIPS_PER_FOLDER)
    else:
        upto = min(last, at + size)
        items = [item_of(names[number]) for number in range(at, upto)]
        answer["items"] = items if "fields" in query else [_whole(item, bucket) for item in items]
        at = upto
    if at < last:
        answer["nextPageToken"] = str(at)
    return Response(200, json.dumps(answer).encode(), {"Content-Type": "application/json; charset=UTF-8"})


def _whole(item: dict[str, Any], bucket: str) -> dict[str, Any]:
    stamps = dict.fromkeys(("timeCreated", "updated", "timeStorageClassUpdated"), "2026-01-01T00:00:00.000Z")
    place = f"https://www.googleapis.com/storage/v1/b/{bucket}/o/{item['name'].replace('/', '%2F')}"
    return {
        "kind": "storage#object", "id": f"{bucket}/{item['name']}/{item['generation']}", "selfLink": place,
        "mediaLink": f"{place}?generation={item['generation']}&alt=media", "bucket": bucket, "metageneration": "1",
        "contentType": "audio/x-wav", "storageClass": "STANDARD", "md5Hash": "XrY7u+Ae7tCTyyK7j1rNww==",
        "etag": "CLizs6y0oYkDEAE=", **item, **stamps,
    }  # fmt: skip


def kinds(requests: Sequence[LoggedRequest]) -> dict[str, int]:
    """Numbers of requests by method and what they are about."""
    counts: Counter[str] = Counter()
    for logged in requests:
        what = "list" if logged.path.endswith("/o") and logged.method == "GET" else "object"
        counts[f"{logged.method} {what if 'storage' in logged.path else 'bigquery'}"] += 1
    return dict(counts)


def main(argument: str) -> None:
    """Answer until standard input is closed."""
    with (
        CorpusGcs(json.loads(argument)["num_clips"]) as gcs,
        FakeBigQuery(gcs, page_rows=PAGE_ROWS) as bigquery,
    ):
        bigquery.create_dataset(PROJECT, DATASET)
        print(json.dumps(gcs_environment(gcs) | bigquery_environment(bigquery)), flush=True)
        for _ in sys.stdin:
            requests = [*gcs.requests, *bigquery.requests]
            gcs.requests.clear()
            bigquery.requests.clear()
            print(json.dumps(kinds(requests)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
