"""A threaded HTTP/1.1 server on loopback with routes, a request log and injected faults."""

import json
import logging
import re
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.cloud.faults import Fault, Faults

logger = logging.getLogger(__name__)

_REASONS = {
    400: "invalid",
    401: "required",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
    500: "internalError",
    501: "notImplemented",
    503: "backendError",
}


@dataclass(frozen=True)
class Request:
    """One HTTP request; path as sent (percent-encoded), query decoded, header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body) if self.body else {}


@dataclass(frozen=True)
class Response:
    """One HTTP answer; Content-Length is added when it is sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoggedRequest:
    """What the log keeps of a request: status is 0 where no answer was sent."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    num_bytes: int
    status: int
    fault: str


class HttpError(Exception):
    """Raised by a handler: answered in the form of Google's JSON errors."""

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.response = error_response(status, message, reason or _REASONS.get(status, "invalid"))


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(value).encode()
    return Response(status, body, {"Content-Type": "application/json; charset=UTF-8", **(headers or {})})


def error_response(status: int, message: str, reason: str) -> Response:
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return json_response({"error": {"code": status, "message": message, "errors": errors}}, status)


Handler = Callable[..., Response]


class LoopbackServer:
    """Routes on 127.0.0.1 at a free port; handlers run one at a time under `lock`, waits outside it.

    A handler is called with the request and the named parts of its template; it returns a Response or
    raises HttpError. What no route matches is answered 501 with the request named.
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.requests: list[LoggedRequest] = []
        self.max_in_flight = 0
        self.lock = threading.RLock()
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self._in_flight = 0
        self._count_lock = threading.Lock()
        self._server: _Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def route(self, method: str, template: str, handler: Handler) -> None:
        """Add a route; `{name}` in the template matches one segment and is handed over percent-decoded."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template))
        self._routes.append((method, re.compile(pattern), handler))

    def start(self) -> Self:
        assert self._server is None, "started already"
        self._server = _Server(self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening and cut open connections; the address answers no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut_connections()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def count(self, method: str = "", path_contains: str = "") -> int:
        """Number of logged requests of a method whose decoded path holds a text."""
        return sum(
            method in ("", logged.method) and path_contains in unquote(logged.path)
            for logged in list(self.requests)
        )

    def handle(self, request: Request) -> Response:
        """Answer of the first route that matches."""
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path) if method == request.method else None
            if match:
                parts = {name: unquote(value) for name, value in match.groupdict().items()}
                try:
                    with self.lock:
                        return handler(request, **parts)
                except HttpError as error:
                    return error.response
                except Exception:
                    logger.exception("the fake failed on %s %s", request.method, request.path)
                    return error_response(501, f"the fake failed: {traceback.format_exc()}", "notImplemented")
        query = "&".join(f"{key}={value}" for key, value in request.query.items())
        return error_response(
            501, f"not in this fake: {request.method} {request.path}?{query}", "notImplemented"
        )

    def enter(self) -> None:
        with self._count_lock:
            self._in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight)

    def leave(self, request: Request, *, status: int, fault: str) -> None:
        """Log a request; called before its answer is sent, so that who has the answer finds the log."""
        logged = LoggedRequest(
            request.method, request.path, request.query, request.headers, len(request.body), status, fault
        )
        with self._count_lock:
            self._in_flight -= 1
            self.requests.append(logged)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, owner: LoopbackServer) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away is not an error of the fake."""

    def cut_connections(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        request, owner = self._request(), self.server.owner
        owner.enter()
        response, fault = Response(500), None
        try:
            delay_s, fault = owner.faults.take(request.method, unquote(self.path), request.body)
            time.sleep(delay_s)
            response = _with_fault(owner, request, fault)
        finally:
            status = 0 if response is None else response.status
            owner.leave(request, status=status, fault=fault.kind if fault else "")
        if response is None:
            self._reset()
        else:
            self._send(response, keep_fraction=0.5 if fault and fault.kind == "truncate" else 1.0)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer

    def _request(self) -> Request:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        return Request(self.command, url.path, query, headers, self._body(headers))

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _send(self, response: Response, *, keep_fraction: float) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[: int(len(response.body) * keep_fraction)])
        self.wfile.flush()
        if keep_fraction < 1:
            self.close_connection = True

    def _reset(self) -> None:
        """Close without the polite end: the client sees `connection reset by peer`."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def _with_fault(owner: LoopbackServer, request: Request, fault: Fault | None) -> Response | None:
    """The answer to send, None for a closed connection."""
    match fault.kind if fault else "none":
        case "status":
            assert fault is not None
            return error_response(fault.status, fault.message or f"injected {fault.status}", fault.reason)
        case "reset":
            return None
        case "lost_answer":
            owner.handle(request)
            return None
        case "truncate":
            response = owner.handle(request)
            return response if response.body else None
        case "flip_byte":
            return _flipped(owner.handle(request))
        case _:
            return owner.handle(request)


def _flipped(response: Response) -> Response:
    if response.headers.get("Content-Type", "").startswith("application/json"):
        return response
    body = bytearray(response.body)
    if body:
        body[len(body) // 2] ^= 0x10
    return Response(response.status, bytes(body), response.headers)
