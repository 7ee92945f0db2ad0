"""Faults that a server injects: rules that are used up in order, and a seeded random mode."""

import random
import threading
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal["status", "reset", "lost_answer", "truncate", "flip_byte", "delay"]


@dataclass
class Fault:
    """One rule; count is how often it still fires, negative for ever."""

    method: str
    path_contains: str
    kind: FaultKind
    status: int
    count: int
    reason: str
    delay_s: float
    message: str = ""


MAX_IN_A_ROW = 3
"""gcsfs tries six times, google-cloud-bigquery until a deadline; a flipped byte is read again once, so it comes alone."""


class Faults:
    """Rules that are used up in order, and a seeded random mode.

    status answers before the request is applied; reset closes the connection before it is applied;
    lost_answer applies it, then closes; truncate sends half the body under the full length (no body:
    lost_answer); flip_byte changes one byte of the body and no header (JSON answers stay whole: they carry no
    checksum to find it by); delay waits first and combines with the others.
    """

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._rates: dict[FaultKind, float] = {}
        self._seed = 0
        self._status = 503
        self._reason = "backendError"
        self._seen: Counter[tuple[str, str, int]] = Counter()
        self._in_a_row: dict[tuple[str, str, int], list[FaultKind]] = {}
        self._lock = threading.Lock()

    def add(
        self,
        *,
        kind: FaultKind,
        method: str = "",
        path_contains: str = "",
        status: int = 503,
        count: int = 1,
        reason: str = "backendError",
        delay_s: float = 0.02,
        message: str = "",
    ) -> None:
        """Add a rule; path_contains is looked for in the percent-decoded path with its query."""
        self._rules.append(Fault(method, path_contains, kind, status, count, reason, delay_s, message))

    def randomly(
        self, seed: int, rates: Mapping[FaultKind, float], *, status: int = 503, reason: str = "backendError"
    ) -> None:
        """Draw a fault for every request, at most MAX_IN_A_ROW for the same one, so that every client's tries suffice.

        The nth request of a method, path and body gets the same draw whatever the order in which threads arrive.
        """
        self._seed, self._rates, self._status, self._reason = seed, dict(rates), status, reason

    def clear(self) -> None:
        with self._lock:
            self._rules, self._rates = [], {}

    def unused(self) -> int:
        """Number of times that rules (not those for ever) have yet to fire."""
        return sum(max(rule.count, 0) for rule in self._rules)

    def take(self, method: str, target: str, body: bytes = b"") -> tuple[float, Fault | None]:
        """Seconds to wait and the fault of this request."""
        delay_s, drawn = 0.0, None
        with self._lock:
            for rule in self._rules:
                if rule.count == 0 or rule.method not in ("", method) or rule.path_contains not in target:
                    continue
                if rule.kind != "delay" and drawn is not None:
                    continue
                rule.count -= rule.count > 0
                if rule.kind == "delay":
                    delay_s += rule.delay_s
                else:
                    drawn = rule
            return delay_s, drawn or self._draw(method, target, body)

    def _draw(self, method: str, target: str, body: bytes) -> Fault | None:
        if not self._rates:
            return None
        path = target.partition("?")[0]
        request = (method, path, zlib.crc32(body))
        nth = self._seen[request]
        self._seen[request] += 1
        kind = self._drawn_kind(random.Random(f"{self._seed} {request} {nth}").random())
        before = self._in_a_row.setdefault(request, [])
        if kind is None or len(before) == MAX_IN_A_ROW or (kind == "flip_byte" and kind in before):
            before.clear()
            return None
        before.append(kind)
        return Fault(method, path, kind, self._status, 1, self._reason, 0.02)

    def _drawn_kind(self, drawn: float) -> FaultKind | None:
        """The kind whose part of the interval from 0 to 1 holds the number drawn."""
        for kind, rate in self._rates.items():
            if drawn < rate:
                return kind
            drawn -= rate
        return None
