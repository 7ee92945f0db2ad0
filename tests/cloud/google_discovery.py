"""Google's REST interfaces as their discovery documents describe them, answered in this process.

google-api-python-client bundles the documents. What a client sends is checked against them, so that a field that Google
does not know, or a value of another kind, fails here and not after minutes of `ray up`.
"""

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import httplib2

SERVICES = {"compute": "compute.v1", "iam": "iam.v1", "cloudresourcemanager": "cloudresourcemanager.v1"}
KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "array": (list,),
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request: the method's id in the discovery document, what its path and query name, and its body."""

    method: str
    arguments: Mapping[str, str]
    body: Any


@cache
def document(service: str) -> dict[str, Any]:
    """The bundled discovery document of a service."""
    folder = files("googleapiclient") / "discovery_cache" / "documents"
    return json.loads((folder / f"{SERVICES[service]}.json").read_text())


@cache
def methods(service: str) -> list[tuple[re.Pattern[str], re.Pattern[str], dict[str, Any]]]:
    """The methods of a service, with the patterns of their flat path and of their path."""
    base = document(service)["servicePath"]
    methods_found = []

    def walk(resources: Mapping[str, Any]) -> None:
        for resource in resources.values():
            for method in resource.get("methods", {}).values():
                path = method["path"]
                methods_found.append(
                    (_pattern(base + method.get("flatPath", path)), _pattern(base + path), method)
                )
            walk(resource.get("resources", {}))

    walk(document(service)["resources"])
    return methods_found


def _pattern(template: str) -> re.Pattern[str]:
    """The paths of a template: `{name}` is one part of a path, `{+name}` may be several."""

    def group(match: re.Match[str]) -> str:
        return f"(?P<{match[2]}>{'.+' if match[1] else '[^/:]+'})"

    return re.compile(re.sub(r"\\{(\\\+)?(\w+)\\}", group, re.escape(template)))


def call_of(uri: str, http_method: str, body: str | bytes | None) -> Call:
    """The call that a request makes; AssertionError where its document does not allow it."""
    parts = urllib.parse.urlsplit(uri)
    service = (parts.hostname or "").partition(".")[0]
    assert service in SERVICES, f"no service at {uri}"
    path = urllib.parse.unquote(parts.path.lstrip("/"))
    matches = [
        (match.groupdict(), method)
        for flat, pattern, method in methods(service)
        if method["httpMethod"] == http_method and flat.fullmatch(path) and (match := pattern.fullmatch(path))
    ]
    assert matches, f"{http_method} {path} is no method of {service}"
    ((named, method),) = matches
    arguments = named | dict(urllib.parse.parse_qsl(parts.query))
    arguments.pop("alt", None)
    _check_arguments(method, arguments)
    content = json.loads(body) if body else None
    if "request" in method:
        _check(content, method["request"], document(service)["schemas"], where=method["id"])
    else:
        assert content is None, f"{method['id']} takes no body"
    return Call(method=method["id"], arguments=arguments, body=content)


def _check_arguments(method: Mapping[str, Any], arguments: Mapping[str, str]) -> None:
    parameters = method.get("parameters", {})
    for name, value in arguments.items():
        assert name in parameters, f"{method['id']} has no parameter {name}"
        if pattern := parameters[name].get("pattern"):
            assert re.fullmatch(pattern, value), f"{method['id']}: {name}={value!r} is not {pattern}"
    missing = [
        name for name, parameter in parameters.items() if parameter.get("required") and name not in arguments
    ]
    assert not missing, f"{method['id']} lacks {missing}"


def _check(value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any], *, where: str) -> None:
    """AssertionError unless the value is of the schema, without fields that it does not name."""
    if reference := schema.get("$ref"):
        return _check(value, schemas[reference], schemas, where=where)
    kind = schema.get("type", "any")
    if kind == "any":
        return None
    # int64 travels as a string, and Google takes numbers for it too.
    is_int64 = schema.get("format") in ("int64", "uint64")
    assert isinstance(value, (str, int) if is_int64 else KINDS[kind]), f"{where} is {value!r}, wanted {kind}"
    if "enum" in schema:
        assert value in schema["enum"], f"{where} is {value!r}, wanted one of {schema['enum']}"
    if kind == "array":
        for number, item in enumerate(value):
            _check(item, schema["items"], schemas, where=f"{where}[{number}]")
    if kind == "object":
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            assert inner, f"{where} has no field {name!r}"
            _check(item, inner, schemas, where=f"{where}.{name}")
    return None


@dataclass(kw_only=True)
class Google:
    """A transport for httplib2 that checks every request and answers it from `answers`, by method id."""

    answers: Mapping[str, Callable[[Call], Any]]
    calls: list[Call] = field(default_factory=list)

    def request(
        self, uri: str, method: str = "GET", body: str | bytes | None = None, **unused: Any
    ) -> tuple[httplib2.Response, bytes]:
        """The response and its content; a status of 404 where the answer is None."""
        call = call_of(uri, method, body)
        self.calls.append(call)
        assert call.method in self.answers, f"{call.method} was not expected"
        answer = self.answers[call.method](call)
        status = 404 if answer is None else 200
        content = {"error": {"code": 404, "message": "not found"}} if answer is None else answer
        return httplib2.Response({"status": status}), json.dumps(content).encode()

    @property
    def methods(self) -> list[str]:
        """The ids of the methods called, each once, in order of their first call."""
        return list(dict.fromkeys(call.method for call in self.calls))
