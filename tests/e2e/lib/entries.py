# SPDX-License-Identifier: BSD-2-Clause
"""Log entries in JSON: parsing, the schema that every entry must keep, and the comparison with what
a client or a server reported of the same exchange."""

import collections
import dataclasses
import datetime
import json
import re

from .case import Failure, check, equal

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6,9}Z")
REASONS = {"joined_late", "lost", "truncated", "no_response", "unknown_headers", "desync"}
TUPLES = {"nested", "fd", "ciphertext", "none"}
NUMBER = (int, float)
# Of what is wrong, this much is shown.
SHOWN_LINES, SHOWN_BYTES = 12, 900

# Path in the entry -> the type it has where it is present.
FIELDS = {
    "timestamp": str, "side": str, "ttfb_ms": NUMBER, "duration_ms": NUMBER,
    "http.request.method": str, "http.request.header": dict, "http.request.body.size": int,
    "http.response.status_code": int, "http.response.header": dict,
    "http.response.body.size": int, "http.response.trailer": dict,
    "url.scheme": str, "url.path": str, "url.query": str,
    "server.address": str, "server.port": int,
    "network.transport": str, "network.protocol.name": str, "network.protocol.version": str,
    "network.local.address": str, "network.local.port": int,
    "network.peer.address": str, "network.peer.port": int,
    "network.tcp.seq": int, "network.tcp.ack": int, "network.tcp.rtt_us": int,
    "network.tcp.retransmits": int, "tls.library": str, "process.pid": int,
    "process.executable.name": str, "process.executable.path": str,
    "capture.tuple": str, "capture.complete": bool, "capture.lost_bytes": int,
    "capture.reason": str, "capture.unknown_headers": int, "error.type": str,
    "http.upgrade": str, "http.stream": str, "rpc.system": str, "rpc.service": str, "rpc.method": str,
    "rpc.grpc.status_code": int, "rpc.grpc.status_message": str,
    "rpc.grpc.request_messages": int, "rpc.grpc.response_messages": int,
}
ALWAYS_PRESENT = ("timestamp", "side", "process.pid", "tls.library", "capture.tuple",
                  "capture.complete", "capture.lost_bytes", "network.protocol.name")


class Entry(dict):
    """One parsed line of -f json; entry.at("http.request.method") is None where absent."""

    def at(self, path):
        value = self
        for name in path.split("."):
            if not isinstance(value, dict) or name not in value:
                return None
            value = value[name]
        return value

    def target(self):
        path, query = self.at("url.path"), self.at("url.query")
        return path if query is None else f"{path}?{query}"

    def local(self):
        return [self.at("network.local.address"), self.at("network.local.port")]

    def peer(self):
        return [self.at("network.peer.address"), self.at("network.peer.port")]

    def header(self, message, name):
        return (self.at(f"http.{message}.header") or {}).get(name)

    def when(self):
        """Seconds since the epoch."""
        moment, _, fraction = self["timestamp"].rstrip("Z").partition(".")
        whole = datetime.datetime.fromisoformat(moment + "+00:00")
        return whole.timestamp() + float("0." + fraction)


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def parse(text, check_each=True):
    """Every whole line of -f json output, each checked against the schema unless told not to."""
    entries = []
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            entry = Entry(json.loads(line, parse_constant=_refuse_constant))
        except ValueError as error:
            raise Failure(f"a line that is no JSON ({error}): {line!r}") from None
        if check_each:
            validate(entry)
        entries.append(entry)
    return entries


def validate(entry):
    """Checks what holds for every entry, whatever was traced."""
    for path, kind in FIELDS.items():
        value = entry.at(path)
        if value is None:
            check(path not in ALWAYS_PRESENT, f"{path} is absent in {entry}")
            continue
        check(isinstance(value, kind) and not (kind is not bool and isinstance(value, bool)),
              f"{path} is {value!r}")
        check(not isinstance(value, NUMBER) or value >= 0, f"{path} is {value!r}")
    check(TIMESTAMP.fullmatch(entry["timestamp"]), f"timestamp {entry['timestamp']}")
    check(entry["side"] in ("client", "server"), f"side {entry['side']}")
    _validate_capture(entry)
    _validate_times(entry)
    for message in ("request.header", "response.header", "response.trailer"):
        for name, values in (entry.at("http." + message) or {}).items():
            check(name == name.lower(), f"a header name in upper case: {name}")
            check(isinstance(values, list) and all(isinstance(v, str) for v in values),
                  f"{name}: {values!r}")


def _validate_capture(entry):
    found = entry.at("capture.tuple")
    check(found in TUPLES, f"capture.tuple {found}")
    transport = entry.at("network.transport")
    equal("network.transport is known", transport in ("tcp", "unix"), found != "none")
    if transport != "tcp":
        equal("network.tcp without TCP", entry.at("network.tcp"), None)
    for end in (entry.local(), entry.peer()):
        if transport != "tcp":
            equal("an address without a TCP connection", end, [None, None])
        else:
            check(end[1], f"port {end[1]}")
            check(end[0] not in ("0.0.0.0", "::", None), f"a made-up address {end}")
            check(not end[0].startswith("::ffff:"), f"an IPv4-mapped address {end}")
    if entry.at("capture.complete"):
        equal("capture.reason of a complete entry", entry.at("capture.reason"), None)
        equal("capture.lost_bytes of a complete entry", entry.at("capture.lost_bytes"), 0)
    else:
        check(entry.at("capture.reason") in REASONS, f"capture.reason {entry.at('capture.reason')}")


def _validate_times(entry):
    first, last = entry.at("ttfb_ms"), entry.at("duration_ms")
    if entry.at("capture.complete"):
        check(first is not None and last is not None, f"a complete entry without times: {entry}")
    if first is not None and last is not None:
        check(first <= last, f"ttfb_ms {first} > duration_ms {last}")


@dataclasses.dataclass
class Report:
    """An exchange as a client or server itself saw it. None: it can't tell."""

    method: str
    target: str
    status: int
    response_size: int = None
    request_size: int = 0
    request_headers: list = None  # [name, value] in wire order
    response_headers: list = None
    response_trailers: list = None
    local: list = None
    peer: list = None
    pid: int = None
    version: str = "1.1"
    side: str = None
    executable: str = None

    def seen_by_peer(self, side, pid=None, executable=None):
        """The same exchange as the process on the other end must see it."""
        return dataclasses.replace(self, local=self.peer, peer=self.local, side=side, pid=pid,
                                   executable=executable)


def headers_of(pairs):
    """[name, value] pairs as an entry shows them: lower-case name -> values in wire order."""
    headers = collections.defaultdict(list)
    for name, value in pairs:
        headers[name.lower()].append(value)
    return dict(headers)


def _expected(report):
    """Path in the entry -> value, of all that the report knows."""
    path, _, query = report.target.partition("?")
    expected = {
        "http.request.method": report.method, "url.path": path,
        "url.query": query if "?" in report.target else None, "url.scheme": "https",
        "http.response.status_code": report.status,
        "network.protocol.version": report.version, "network.protocol.name": "http",
        "capture.complete": True, "capture.lost_bytes": 0,
    }
    known = {
        "http.request.body.size": report.request_size,
        "http.response.body.size": report.response_size, "side": report.side,
        "process.pid": report.pid, "process.executable.name": report.executable,
    }
    for message, pairs in (("request.header", report.request_headers),
                           ("response.header", report.response_headers),
                           ("response.trailer", report.response_trailers)):
        known["http." + message] = None if pairs is None else headers_of(pairs)
    expected.update({path: value for path, value in known.items() if value is not None})
    return expected


def differences(entry, report, addresses=True):
    """What in the entry is not as reported, as a list of texts."""
    wrong = []
    for path, want in _expected(report).items():
        if entry.at(path) != want:
            wrong.append(f"{path}: got {entry.at(path)!r}, want {want!r}")
    if addresses or entry.at("capture.tuple") != "none":
        for name, got, want in (("local", entry.local(), report.local),
                                ("peer", entry.peer(), report.peer)):
            if want is not None and got != list(want):
                wrong.append(f"network.{name}: got {got}, want {list(want)}")
    if addresses and entry.at("capture.tuple") == "none":
        wrong.append("capture.tuple: none")
    return wrong


def _key(side, method, target):
    return (side or "", method or "", target or "")


def compare(entries, reports, addresses=True):
    """There must be exactly one entry for each report, and it must agree in all that is known.

    Entries and reports of the same side, method and target are paired in their order.
    """
    waiting = collections.defaultdict(list)
    for entry in entries:
        waiting[_key(entry["side"], entry.at("http.request.method"), entry.target())].append(entry)
    wrong = []
    for report in reports:
        queue = waiting[_key(report.side, report.method, report.target)]
        if not queue:
            wrong.append(f"no entry for {report.side} {report.method} {report.target}")
            continue
        entry = queue.pop(0)
        wrong += [f"{report.side} {report.method} {report.target}: {text}"
                  for text in differences(entry, report, addresses)]
    wrong += [f"one entry too many: {json.dumps(entry)}"
              for queue in waiting.values() for entry in queue]
    if wrong:
        more = [f"(and {len(wrong) - SHOWN_LINES} more)"] if len(wrong) > SHOWN_LINES else []
        shown = [text if len(text) <= SHOWN_BYTES else text[:SHOWN_BYTES] + "..."
                 for text in wrong[:SHOWN_LINES]]
        raise Failure("\n".join(shown + more))
