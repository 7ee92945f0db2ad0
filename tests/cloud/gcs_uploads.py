"""Bodies of the fake Google Cloud Storage: uploads in one or several requests, and batches."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.cloud.gcs_objects import StoredObject
from tests.cloud.http import HttpError, Request, Response


@dataclass
class Upload:
    bucket: str
    name: str
    query: Mapping[str, str]
    resource: Mapping[str, Any]
    data: bytearray = field(default_factory=bytearray)
    done: StoredObject | None = None


def _boundary(request: Request) -> str:
    match = re.search(r'boundary="?([^";]+)"?', request.headers.get("content-type", ""))
    if match is None:
        raise HttpError(400, "Multipart body without a boundary.")
    return match[1]


def multipart_body(request: Request) -> tuple[dict[str, Any], bytes]:
    """Resource and data of a two-part body; line ends may be bare LF, as gcsfs sends them."""
    marker = b"--" + _boundary(request).encode()
    head, second = request.body.split(marker, 2)[1:]
    second = second[: second.rindex(marker)]
    resource = json.loads(_part(head)[1])
    headers, data = _part(second)
    content_type = re.search(rb"content-type:\s*([^\r\n]+)", headers, re.I)
    if content_type:
        resource.setdefault("contentType", content_type[1].decode())
    data = data[:-2] if data.endswith(b"\r\n") and b"\r\n" in headers + second[:2] else data[:-1]
    return resource, data


def _part(part: bytes) -> tuple[bytes, bytes]:
    """Headers and content of a multipart part."""
    end = re.search(rb"\r?\n\r?\n", part)
    if end is None:
        raise HttpError(400, "Multipart body is malformed.")
    return part[: end.start()], part[end.end() :]


def append_chunk(upload: Upload, request: Request) -> bool:
    """Whether the upload has all its bytes once this request's are added; bytes held already are skipped."""
    sent = request.headers.get("content-range", "")
    match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", sent)
    if match is None:
        upload.data[:] = request.body
        return True
    first = int(match[1]) if match[1] else len(upload.data)
    if first > len(upload.data):
        raise HttpError(503, "Invalid request. There is a hole in the upload.")
    if match[1]:
        upload.data[first:] = request.body
    return match[3] != "*" and len(upload.data) == int(match[3])


def add_goog_hash(upload: Upload, request: Request) -> None:
    """Take over the checksum that clients send with the last chunk."""
    match = re.search(r"crc32c=([^,\s]+)", request.headers.get("x-goog-hash", ""))
    if match:
        upload.resource = {**upload.resource, "crc32c": unquote(match[1])}


def media_resource(request: Request) -> dict[str, Any]:
    return {"contentType": request.headers.get("content-type", "application/octet-stream")}


def answer_batch(request: Request, handle: Callable[[Request], Response]) -> Response:
    """The answers of all requests in a batch, as one multipart body."""
    boundary = _boundary(request)
    parts = [
        part for part in request.body.split(b"--" + boundary.encode())[1:] if part.strip() not in (b"", b"--")
    ]
    answers = [_batch_part(part.decode(), handle) for part in parts]
    lines = "".join(f"--batch_w2v2\r\n{answer}\r\n" for answer in answers) + "--batch_w2v2--\r\n"
    return Response(200, lines.encode(), {"Content-Type": "multipart/mixed; boundary=batch_w2v2"})


def _batch_part(part: str, handle: Callable[[Request], Response]) -> str:
    line = re.search(r"^([A-Z]+) (\S+) HTTP/1", part, re.M)
    content_id = re.search(r"^content-id:\s*<(.*)>", part, re.M | re.I)
    if line is None:
        raise HttpError(400, "a batch part without a request line")
    url = urlsplit(line[2])
    body = part.replace("\r\n", "\n")[line.end() :].partition("\n\n")[2].strip()
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    answer = handle(Request(line[1], url.path, query, {}, body.encode()))
    head = f"HTTP/1.1 {answer.status} X\r\nContent-Type: application/json"
    head = f"{head}\r\nContent-Length: {len(answer.body)}"
    identity = f"Content-ID: <response-{content_id[1]}>\r\n" if content_id else ""
    return f"Content-Type: application/http\r\n{identity}\r\n{head}\r\n\r\n{answer.body.decode()}"
