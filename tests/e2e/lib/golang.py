# SPDX-License-Identifier: BSD-2-Clause
"""Go programs to trace: targets/go built by several versions of Go, and Debian's hey and caddy.

All of it is kept outside the repository, since it is large and slow to make: $TLSTRACE_GO_CACHE, or
tlstrace/go in $XDG_CACHE_HOME or ~/.cache. `make test` has what Debian 12 has, and the Go in PATH;
$TLSTRACE_GO_SUITES adds other suites: names of SUITES, or `all`.
"""

import fcntl
import functools
import glob
import hashlib
import json
import os
import shutil
import subprocess
import tempfile

from .clients import H2Client
from .entries import Report
from .servers import read_reports
from .test import HERE
from .waiting import free_port, listening, until

SOURCE = os.path.join(HERE, "targets/go/main.go")
FETCH = os.path.join(HERE, "../../scripts/go-fetch")
PATH = "path"  # the version that is in PATH
SUITES = {"bookworm": ("1.19",), "bullseye": ("1.15",), "backports": ("1.22", "1.23"),
          "trixie": ("1.24",), "sid": ("1.26", "1.27")}
# Name: arguments of `go build`, environment.
FORMS = {
    "plain": ([], {"CGO_ENABLED": "0"}),
    "stripped": (["-ldflags=-s -w"], {"CGO_ENABLED": "0"}),
    "pie": (["-buildmode=pie", "-ldflags=-s -w"], {"CGO_ENABLED": "0"}),
    "cgo": (["-ldflags=-linkmode=external"], {"CGO_ENABLED": "1"}),
}
# The same for arm64: not to be run here, but to be read.
FOREIGN_FORMS = {f"arm64_{form}": (arguments, {**environment, "GOARCH": "arm64"})
                 for form, (arguments, environment) in FORMS.items() if form != "cgo"}


def _is_wanted(suite):
    wanted = os.environ.get("TLSTRACE_GO_SUITES", "").split()
    return suite == "bookworm" or suite in wanted or "all" in wanted


UNWANTED = [suite for suite in SUITES if not _is_wanted(suite)]
BUILDS = [("1.19", form) for form in FORMS] + [(PATH, "stripped")] + [
    (version, form) for suite, versions in SUITES.items()
    if suite != "bookworm" and suite not in UNWANTED
    for version in versions for form in ("stripped", "pie")]
FOREIGN_BUILDS = [("1.19", form) for form in FOREIGN_FORMS] + [
    (version, form) for suite, versions in SUITES.items()
    if suite != "bookworm" and suite not in UNWANTED
    for version in versions for form in FOREIGN_FORMS]
# The client's suite, the server's.
LOADS = {suite: both for suite, both in {
    "bookworm": ("bookworm", "bookworm"), "bullseye": ("bullseye", "bookworm"),
    "trixie": ("trixie", "trixie"), "sid": ("sid", "sid")}.items() if suite not in UNWANTED}


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("TLSTRACE_GO_CACHE") or os.path.join(base, "tlstrace/go")


@functools.lru_cache(maxsize=None)
def _fetch(item):
    """Has scripts/go-fetch get it; the reason why it could not."""
    if os.path.exists(os.path.join(cache(), item)):
        return None
    if os.environ.get("TLSTRACE_VM"):
        return f"no {item} in {cache()}, and no network"
    done = subprocess.run([FETCH, cache(), item], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]


def _tool(version):
    """The `go` of a version and its GOROOT, or None."""
    if version != PATH:
        root = os.path.join(cache(), f"go-{version}/usr/lib/go-{version}")
        return os.path.join(root, "bin/go"), root
    tool = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    return tool and (tool, None)


@functools.lru_cache(maxsize=None)
def identity(version):
    """What tells a toolchain from another one."""
    if version != PATH:
        return f"Debian's Go {version}"
    tool, _ = _tool(PATH)
    return subprocess.run([tool, "version"], capture_output=True, text=True, check=True,
                          env=dict(os.environ, GOTOOLCHAIN="local")).stdout.strip()


def program(version, form):
    """The path of targets/go in this form, whether or not it has been built."""
    arguments, environment = {**FORMS, **FOREIGN_FORMS}[form]
    with open(SOURCE, "rb") as file:
        content = file.read()
    key = json.dumps([identity(version), arguments, environment, content.decode()])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return os.path.join(cache(), "built", f"go-{version}-{form}-{digest}")


def _build(version, form, path):
    tool, root = _tool(version)
    arguments, environment = {**FORMS, **FOREIGN_FORMS}[form]
    # Nothing of the user's settings, and no network.
    environment = {**os.environ, **environment, "GOENV": "off", "GOFLAGS": "", "GOPROXY": "off",
                   "GOTOOLCHAIN": "local", **({"GOROOT": root} if root else {})}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.path.join(cache(), "built/lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(path):
            return None
        # In the cache, so that what is complete is renamed.
        with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as directory:
            environment.update(GOTMPDIR=directory, GOCACHE=os.path.join(cache(), "objects"))
            new = os.path.join(directory, "program")
            done = subprocess.run([tool, "build", *arguments, "-o", new, SOURCE], env=environment,
                                  cwd=directory, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"go build: {done.stderr.strip()[-300:]}"
            for older in glob.glob(path.rpartition("-")[0] + "-*"):
                os.unlink(older)
            os.rename(new, path)
    return None


@functools.lru_cache(maxsize=None)
def program_missing(version, form):
    """Why there is no program(), which is built if need be; None where there is."""
    if version == PATH and not _tool(PATH):
        return "no go in PATH or /usr/local/go"
    path = program(version, form)
    if os.path.exists(path):
        return None
    if os.environ.get("TLSTRACE_VM"):
        return f"{os.path.basename(path)} has not been built"
    return (None if version == PATH else _fetch(f"go-{version}")) or _build(version, form, path)


def load_missing(suite):
    """Why there are no hey and caddy for a suite of LOADS."""
    client, server = LOADS[suite]
    return _fetch(f"hey-{client}") or _fetch(f"caddy-{server}")


def suite_missing(suite):
    """Why there are no cases with the versions of Go that a suite has; None where there are."""
    return f"needs TLSTRACE_GO_SUITES={suite} (make test-go)" if suite in UNWANTED else None


def _report(told, side, path):
    return Report(side=side, executable=os.path.basename(path), **told)


class GoServer:
    """targets/go as `server` or `raw-server`."""

    def __init__(self, test, path, mode="server", **options):
        self._path = path
        self.process = test.start([path, mode, test.pki.certificate, test.pki.key], **options)
        self.port = int(self.process.wait_text(r"^listening (\d+)")[1])

    @property
    def pid(self):
        return self.process.pid

    def _lines(self):
        return [line for line in self.process.text().splitlines(keepends=True)
                if line.startswith('{"method"') and line.endswith("\n")]

    def reports(self, count):
        """The served requests as the server saw them, once there are `count`."""
        until(lambda: len(self._lines()) >= count, f"{count} requests in the Go server's output")
        return [_report(json.loads(line), "server", self._path) for line in self._lines()]


class GoClient(H2Client):
    """targets/go as `client`: several requests at once, on one connection only in HTTP/2."""

    def __init__(self, process, path):
        super().__init__(process, os.path.basename(path), "^ready")


def client_command(path, server, protocol):
    return [path, "client", server.port, protocol]


def raw_reports(text, side, path):
    """What a raw client or server printed: the Reports, and how many buffers were moved."""
    told = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return ([_report(line, side, path) for line in told if "method" in line],
            sum(line.get("moved", 0) for line in told))


CADDY_BODY = "c" * 700


class Caddy:
    """Debian's caddy: answers each request with CADDY_BODY, its log tells of each."""

    def __init__(self, test, suite):
        self.path = os.path.join(cache(), f"caddy-{suite}")
        self.port = free_port()
        self._log = test.path("access.log")
        config = {
            "admin": {"disabled": True},
            "logging": {"logs": {
                "default": {"level": "ERROR"},
                "access": {"writer": {"output": "file", "filename": self._log},
                           "encoder": {"format": "json"}, "include": ["http.log.access"]}}},
            "apps": {
                "tls": {"certificates": {"load_files": [
                    {"certificate": test.pki.certificate, "key": test.pki.key}]}},
                "http": {"servers": {"one": {
                    "listen": [f"127.0.0.1:{self.port}"], "protocols": ["h1", "h2"],
                    "automatic_https": {"disable": True}, "tls_connection_policies": [{}],
                    "logs": {}, "routes": [{"handle": [
                        {"handler": "static_response", "body": CADDY_BODY}]}]}}}}}
        path = test.write("caddy.json", json.dumps(config))
        self.process = test.start([self.path, "run", "--config", path],
                                  env=dict(os.environ, HOME=test.dir, XDG_DATA_HOME=test.dir,
                                           XDG_CONFIG_HOME=test.dir))
        listening(self.port, self.process)

    @property
    def pid(self):
        return self.process.pid

    def url(self, target):
        return f"https://127.0.0.1:{self.port}{target}"

    def lines(self):
        return [line for line in read_reports(self._log) if "request" in line]

    def reports(self, count):
        """The served requests as caddy saw them, once there are `count`."""
        until(lambda: len(self.lines()) >= count, f"{count} lines in caddy's log")
        return [self._report(line) for line in self.lines()]

    def _report(self, line):
        request = line["request"]
        port = int(request.get("remote_port") or request["remote_addr"].rpartition(":")[2])
        return Report(request["method"], request["uri"], line["status"], line["size"],
                      local=["127.0.0.1", self.port], peer=["127.0.0.1", port], pid=self.pid,
                      version=request["proto"].partition("/")[2].replace("2.0", "2"),
                      side="server", executable=os.path.basename(self.path))


def hey_command(suite, protocol, *arguments):
    """The command line of Debian's hey, whose arguments end with the URL.

    The host is also the server's name in TLS, where an address and port would match nothing.
    """
    return [os.path.join(cache(), f"hey-{suite}"), "-host", "localhost",
            *(["-h2"] if protocol == "http2" else []), *arguments]
