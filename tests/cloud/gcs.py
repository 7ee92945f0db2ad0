"""A fake of the part of Google Cloud Storage's JSON API that gcsfs, google-cloud-storage and pyarrow use.

In memory, live object versions only. Whatever is not here is answered 501 with the request named.

pyarrow keeps the GIL while it opens a file on GCS, so a pyarrow client must run in another process than
the fake.
"""

import asyncio
import base64
import itertools
import time
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cloud.gcs_objects import (
    StoredObject,
    bucket_resource,
    check_hashes,
    check_preconditions,
    matching_names,
    media,
    object_resource,
)
from tests.cloud.gcs_permissions import GcsPermissions
from tests.cloud.gcs_uploads import (
    Upload,
    add_goog_hash,
    answer_batch,
    append_chunk,
    media_resource,
    multipart_body,
)
from tests.cloud.http import HttpError, LoopbackServer, Request, Response, json_response


def gcs_environment(server: "FakeGcs") -> dict[str, str]:
    """Environment variables that make gcsfs, google-cloud-storage and pyarrow talk to the fake alone."""
    return {
        "STORAGE_EMULATOR_HOST": server.url,
        "CLOUD_STORAGE_EMULATOR_ENDPOINT": server.url,
        "NO_GCE_CHECK": "true",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true",
        "GOOGLE_CLOUD_PROJECT": "w2v2-test",
    }


def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make gcsfs' pauses between tries (34 s in all) short in this process."""
    real = asyncio.sleep
    monkeypatch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=lambda seconds: real(seconds / 10_000)))


class FakeGcs(GcsPermissions, LoopbackServer):
    """Buckets and objects in memory; put, get and names reach them without HTTP."""

    def __init__(self, *buckets: str) -> None:
        super().__init__()
        self._buckets: dict[str, dict[str, StoredObject]] = {bucket: {} for bucket in buckets}
        self._uploads: dict[str, Upload] = {}
        self._generations = itertools.count(1_700_000_000_000_000)
        self._upload_ids = itertools.count(1)
        self._add_routes()

    def _add_routes(self) -> None:
        bucket, item = "/storage/v1/b/{bucket}", "/storage/v1/b/{bucket}/o/{name}"
        self.route("GET", "/storage/v1/b", self._list_buckets)
        self.route("POST", "/storage/v1/b", self._create_bucket)
        self.route("GET", bucket, self._get_bucket)
        self.route("DELETE", bucket, self._delete_bucket)
        self.route("GET", f"{bucket}/o", self._list_objects)
        self.route("GET", item, self._get_object)
        self.route("GET", f"/download{item}", self._get_object)
        self.route("PATCH", item, self._patch_object)
        self.route("DELETE", item, self._delete_object)
        self.route("POST", f"{item}/compose", self._compose)
        for verb in ("rewriteTo", "copyTo"):
            self.route("POST", f"{item}/{verb}/b/{{bucket2}}/o/{{name2}}", self._copy)
        self.route("POST", f"{item}/moveTo/o/{{name2}}", self._move)
        for method in ("POST", "PUT"):
            self.route(method, f"/upload{bucket}/o", self._upload)
        self.route("DELETE", f"/upload{bucket}/o", self._cancel_upload)
        self.route("POST", "/batch/storage/v1", lambda request: answer_batch(request, self.handle))

    # -- direct access

    def create_bucket(self, bucket: str) -> None:
        with self.lock:
            self._buckets.setdefault(bucket, {})

    def put(self, bucket: str, name: str, data: bytes) -> None:
        """Store an object; the bucket is made when it is missing."""
        with self.lock:
            self.create_bucket(bucket)
            self._store(bucket, name, data, {})

    def get(self, bucket: str, name: str) -> bytes:
        return bytes(self._buckets[bucket][name].data)

    def object(self, bucket: str, name: str) -> StoredObject:
        return self._buckets[bucket][name]

    def names(self, bucket: str) -> list[str]:
        with self.lock:
            return sorted(self._buckets[bucket])

    # -- rules

    def _bucket(self, bucket: str) -> dict[str, StoredObject]:
        if bucket not in self._buckets:
            raise HttpError(404, "The specified bucket does not exist.")
        return self._buckets[bucket]

    def _find(self, bucket: str, name: str, generation: str = "") -> StoredObject:
        stored = self._bucket(bucket).get(name)
        if stored is None or (generation and int(generation) != stored.generation):
            raise HttpError(404, f"No such object: {bucket}/{name}{'#' + generation if generation else ''}")
        return stored

    def _store(self, bucket: str, name: str, data: bytes, resource: Mapping[str, Any]) -> StoredObject:
        now = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"
        )
        stored = StoredObject(
            data=bytes(data),
            generation=next(self._generations),
            content_type=resource.get("contentType", "application/octet-stream"),
            metadata=resource.get("metadata") or {},
            created=now,
        )
        self._buckets[bucket][name] = stored
        return stored

    def _insert(
        self,
        request: Request,
        bucket: str,
        name: str,
        data: bytes,
        query: Mapping[str, str],
        resource: Mapping[str, Any],
    ) -> StoredObject:
        current = self._bucket(bucket).get(name)
        self._permit(request, bucket, "storage.objects.create")
        check_preconditions(query, current)
        if current is not None:
            self._permit(request, bucket, "storage.objects.delete")
        check_hashes(resource, StoredObject(data=data, generation=0))
        return self._store(bucket, name, data, resource)

    # -- buckets

    def _list_buckets(self, request: Request) -> Response:
        items = [bucket_resource(bucket) for bucket in sorted(self._buckets)]
        return json_response({"kind": "storage#buckets", "items": items})

    def _create_bucket(self, request: Request) -> Response:
        bucket = request.json()["name"]
        if bucket in self._buckets:
            raise HttpError(
                409, "Your previous request to create the named bucket succeeded and you already own it."
            )
        self._buckets[bucket] = {}
        return json_response(bucket_resource(bucket))

    def _get_bucket(self, request: Request, bucket: str) -> Response:
        self._bucket(bucket)
        self._permit(request, bucket, "storage.buckets.get")
        return json_response(bucket_resource(bucket))

    def _delete_bucket(self, request: Request, bucket: str) -> Response:
        if self._bucket(bucket):
            raise HttpError(409, "The bucket you tried to delete is not empty.")
        del self._buckets[bucket]
        return Response(204)

    def _list_objects(self, request: Request, bucket: str) -> Response:
        objects = self._bucket(bucket)
        self._permit(request, bucket, "storage.objects.list")
        matching, delimiter = matching_names(objects, request.query), request.query.get("delimiter", "")
        start = len(request.query.get("prefix", ""))
        entries: dict[str, bool] = {}
        for name in matching:
            end = name.find(delimiter, start) if delimiter else -1
            entries[name if end < 0 else name[: end + len(delimiter)]] = end >= 0
        token = base64.b64decode(request.query.get("pageToken", "")).decode()
        left = [entry for entry in entries if entry > token]
        page = left[: min(int(request.query.get("maxResults", 1000)), 1000)]
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if len(page) < len(left):
            answer["nextPageToken"] = base64.b64encode(page[-1].encode()).decode()
        if prefixes := [entry for entry in page if entries[entry]]:
            answer["prefixes"] = prefixes
        if names := [entry for entry in page if not entries[entry]]:
            answer["items"] = [object_resource(bucket, name, objects[name]) for name in names]
        return json_response(answer)

    # -- objects

    def _get_object(self, request: Request, bucket: str, name: str) -> Response:
        self._bucket(bucket)
        self._permit(request, bucket, "storage.objects.get")
        stored = self._find(bucket, name, request.query.get("generation", ""))
        check_preconditions(request.query, stored)
        if request.query.get("alt") == "media" or request.path.startswith("/download"):
            return media(request, stored)
        return json_response(object_resource(bucket, name, stored))

    def _patch_object(self, request: Request, bucket: str, name: str) -> Response:
        stored = self._find(bucket, name)
        check_preconditions(request.query, stored)
        self._permit(request, bucket, "storage.objects.update")
        changes = request.json()
        stored = replace(
            stored,
            metageneration=stored.metageneration + 1,
            metadata=changes.get("metadata", stored.metadata),
            content_type=changes.get("contentType", stored.content_type),
        )
        self._buckets[bucket][name] = stored
        return json_response(object_resource(bucket, name, stored))

    def _delete_object(self, request: Request, bucket: str, name: str) -> Response:
        self._bucket(bucket)
        self._permit(request, bucket, "storage.objects.delete")
        stored = self._find(bucket, name, request.query.get("generation", ""))
        check_preconditions(request.query, stored)
        del self._buckets[bucket][name]
        return Response(204)

    def _compose(self, request: Request, bucket: str, name: str) -> Response:
        body = request.json()
        parts = [
            self._find(bucket, source["name"], str(source.get("generation") or ""))
            for source in body["sourceObjects"]
        ]
        data = b"".join(bytes(part.data) for part in parts)
        stored = self._insert(request, bucket, name, data, request.query, body.get("destination", {}))
        stored = self._buckets[bucket][name] = replace(stored, composed=True)
        return json_response(object_resource(bucket, name, stored))

    def _copy(self, request: Request, bucket: str, name: str, bucket2: str, name2: str) -> Response:
        self._bucket(bucket)
        self._permit(request, bucket, "storage.objects.get")
        source = self._find(bucket, name, request.query.get("sourceGeneration", ""))
        kept = {"contentType": source.content_type, "metadata": dict(source.metadata), **request.json()}
        kept = {key: kept[key] for key in ("contentType", "metadata")}
        stored = self._insert(request, bucket2, name2, bytes(source.data), request.query, kept)
        resource, size = object_resource(bucket2, name2, stored), str(len(source.data))
        if "/copyTo/" in request.path:
            return json_response(resource)
        done = {
            "kind": "storage#rewriteResponse",
            "done": True,
            "totalBytesRewritten": size,
            "objectSize": size,
        }
        return json_response({**done, "resource": resource})

    def _move(self, request: Request, bucket: str, name: str, name2: str) -> Response:
        source = self._find(bucket, name, request.query.get("sourceGeneration", ""))
        kept = {"contentType": source.content_type, "metadata": dict(source.metadata)}
        stored = self._insert(request, bucket, name2, bytes(source.data), request.query, kept)
        self._permit(request, bucket, "storage.objects.delete")
        del self._buckets[bucket][name]
        return json_response(object_resource(bucket, name2, stored))

    # -- uploads

    def _upload(self, request: Request, bucket: str) -> Response:
        self._bucket(bucket)
        if "upload_id" in request.query:
            return self._resume(request)
        match request.query.get("uploadType"):
            case "media":
                name, resource, data = request.query["name"], media_resource(request), request.body
            case "multipart":
                resource, data = multipart_body(request)
                name = resource.get("name") or request.query["name"]
            case "resumable":
                return self._begin(request, bucket)
            case kind:
                raise HttpError(501, f"not in this fake: uploadType={kind}")
        stored = self._insert(request, bucket, name, data, request.query, resource)
        return json_response(object_resource(bucket, name, stored))

    def _begin(self, request: Request, bucket: str) -> Response:
        resource = dict(request.json())
        resource.setdefault(
            "contentType", request.headers.get("x-upload-content-type", "application/octet-stream")
        )
        name = resource.get("name") or request.query["name"]
        self._permit(request, bucket, "storage.objects.create")
        check_preconditions(request.query, self._bucket(bucket).get(name))
        upload_id = f"upload{next(self._upload_ids)}"
        self._uploads[upload_id] = Upload(bucket, name, dict(request.query), resource)
        location = f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload_id}"
        return Response(200, b"", {"Location": location, "X-GUploader-UploadID": upload_id})

    def _resume(self, request: Request) -> Response:
        upload = self._uploads.get(request.query["upload_id"])
        if upload is None:
            raise HttpError(404, "No such upload")
        if upload.done is None:
            complete = append_chunk(upload, request)
            if not complete:
                headers = {"Range": f"bytes=0-{len(upload.data) - 1}"} if upload.data else {}
                return Response(308, b"", headers)
            add_goog_hash(upload, request)
            data = bytes(upload.data)
            upload.done = self._insert(
                request, upload.bucket, upload.name, data, upload.query, upload.resource
            )
        return json_response(object_resource(upload.bucket, upload.name, upload.done))

    def _cancel_upload(self, request: Request, bucket: str) -> Response:
        self._uploads.pop(request.query.get("upload_id", ""), None)
        return Response(499)
