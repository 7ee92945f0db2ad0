"""Objects of the fake Google Cloud Storage: their JSON, hashes, preconditions and ranges."""

import base64
import hashlib
import re
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c

from tests.cloud.http import HttpError, Request, Response


class OnDisk:
    """Bytes in a file of their own, which goes when they do."""

    def __init__(self, data: bytes, folder: str) -> None:
        self._path, self._size = Path(folder, uuid.uuid4().hex), len(data)
        self._path.write_bytes(data)
        weakref.finalize(self, self._path.unlink, missing_ok=True)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return self._path.read_bytes()

    def __getitem__(self, part: slice) -> bytes:
        return bytes(self)[part]


@dataclass(frozen=True)
class StoredObject:
    """One live object; the hashes are those of the data, base64 as Google writes them."""

    data: bytes | OnDisk
    generation: int
    content_type: str = "application/octet-stream"
    metageneration: int = 1
    metadata: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    composed: bool = False

    @property
    def crc32c(self) -> str:
        return base64.b64encode(google_crc32c.value(bytes(self.data)).to_bytes(4, "big")).decode()

    @property
    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(bytes(self.data)).digest()).decode()


def bucket_resource(bucket: str) -> dict[str, Any]:
    return {
        "kind": "storage#bucket",
        "id": bucket,
        "name": bucket,
        "location": "US",
        "storageClass": "STANDARD",
        "metageneration": "1",
        "timeCreated": "2026-01-01T00:00:00.000Z",
        "updated": "2026-01-01T00:00:00.000Z",
        "projectNumber": "1",
        "etag": "CAE=",
        "locationType": "multi-region",
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
    }


def matching_names(objects: Mapping[str, StoredObject], query: Mapping[str, str]) -> list[str]:
    """Names in order that a listing's prefix and offsets select."""
    first, last = query.get("startOffset", ""), query.get("endOffset", "")
    names = sorted(name for name in objects if name.startswith(query.get("prefix", "")))
    return [name for name in names if name >= first and (not last or name < last)]


def check_preconditions(query: Mapping[str, str], current: StoredObject | None) -> None:
    generation = current.generation if current else 0
    metageneration = current.metageneration if current else 0
    wanted, unwanted = query.get("ifGenerationMatch"), query.get("ifGenerationNotMatch")
    wanted_meta = query.get("ifMetagenerationMatch")
    held = wanted is None or int(wanted) == generation
    held = held and (unwanted is None or int(unwanted) != generation)
    if not held or (wanted_meta is not None and int(wanted_meta) != metageneration):
        raise HttpError(412, "At least one of the pre-conditions you specified did not hold.")


def check_hashes(resource: Mapping[str, Any], stored: StoredObject) -> None:
    for key, actual in (("crc32c", stored.crc32c), ("md5Hash", stored.md5)):
        if resource.get(key, actual) != actual:
            raise HttpError(400, f'Provided {key} "{resource[key]}" doesn\'t match calculated "{actual}".')


def media(request: Request, stored: StoredObject) -> Response:
    size = len(stored.data)
    headers = {
        "Content-Type": stored.content_type,
        "x-goog-hash": f"crc32c={stored.crc32c}" + ("" if stored.composed else f",md5={stored.md5}"),
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-stored-content-encoding": "identity",
        "x-goog-stored-content-length": str(size),
        "ETag": f'"{stored.generation}"',
    }
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "").strip())
    if match is None or match.group() == "bytes=-" or size == 0:
        return Response(200, bytes(stored.data), headers)
    first = int(match[1]) if match[1] else max(size - int(match[2]), 0)
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first >= size:
        raise HttpError(416, "The requested range cannot be satisfied.")
    return Response(
        206, stored.data[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}
    )


def object_resource(bucket: str, name: str, stored: StoredObject) -> dict[str, Any]:
    """The JSON of an object, as the API describes it."""
    resource = {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{stored.generation}",
        "name": name,
        "bucket": bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "contentType": stored.content_type,
        "storageClass": "STANDARD",
        "size": str(len(stored.data)),
        "md5Hash": stored.md5,
        "crc32c": stored.crc32c,
        "etag": base64.b64encode(str(stored.generation).encode()).decode(),
        "timeCreated": stored.created,
        "updated": stored.created,
    }
    if stored.composed:
        resource.pop("md5Hash")  # Google has none for composed objects
    return {**resource, "metadata": dict(stored.metadata)} if stored.metadata else resource
