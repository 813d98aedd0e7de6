# SPDX-License-Identifier: BSD-2-Clause
"""What cases may need of the host: each name gives the reason why it is missing, or None."""

import functools
import os
import shutil
import socket
import subprocess

from . import golang
from .case import SLOWNESS
from .test import HERE, PYTHON

BUILD = ["gcc", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1"]


def _program(path):
    return None if shutil.which(path) else f"no {path}"


def _bpf(program, _):
    try:
        done = subprocess.run([program, "--check"], capture_output=True, text=True,
                              timeout=30 * SLOWNESS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"tlstrace --check: {error}"
    # A kernel that lacks nothing and refuses our programs is no reason to skip: the cases fail.
    if done.returncode != 3 or "MISSING" not in done.stdout:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines()
    return "this host cannot trace: " + (lines[-1] if lines else "tlstrace --check exits 3")


def _kernel(feature, since):
    """A finder of what `tlstrace --check` says that the kernel has."""

    def find(program, _):
        done = subprocess.run([program, "--check"], capture_output=True, text=True, check=False)
        return None if f"\n{feature}: yes" in done.stdout else f"no {feature} ({since})"
    return find


def _root(_program_path, _shared):
    return None if os.geteuid() == 0 else "not root"


def _ipv6(_program_path, _shared):
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return None
    except OSError as error:
        return f"no IPv6 on loopback: {error}"


def _compile(shared, name, source, *options):
    """Builds targets/SOURCE in the shared directory, once."""
    try:
        done = subprocess.run([*BUILD, "-o", os.path.join(shared, name),
                               os.path.join(HERE, "targets", source), *options],
                              capture_output=True,
                              text=True, check=False)
    except OSError as error:
        return f"no compiler: {error}"
    return None if done.returncode == 0 else f"does not link: {done.stderr.strip()[-200:]}"


def _shared_client(_program_path, shared):
    return _compile(shared, "tls_client", "tls_client.c", "-lssl", "-lcrypto")


def _static_client(_program_path, shared):
    return _compile(shared, "tls_client_static", "tls_client.c", "-l:libssl.a", "-l:libcrypto.a")


def _objects(_program_path, shared):
    return _compile(shared, "tls_objects", "tls_objects.c", "-pthread", "-lssl", "-lcrypto")


def _network_namespace(*_):
    """A namespace with a veth, both of which are gone at once."""
    done = subprocess.run(["unshare", "--net", "ip", "link", "add", "dev", "v0", "type", "veth",
                           "peer", "name", "v1"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no network namespace: {done.stderr.strip()}"


def _webrick(*_):
    if _program("/usr/bin/ruby"):
        return "no ruby"
    done = subprocess.run(["/usr/bin/ruby", "-r", "webrick", "-e", ""], capture_output=True,
                          check=False)
    return None if done.returncode == 0 else "no webrick"


def _python(module, package):
    """A finder of a module of Debian's Python."""

    def find(*_):
        done = subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, check=False)
        return None if done.returncode == 0 else f"no {package}"
    return find


def _recording(_program_path, shared):
    """A recording that was made by hand, as `recording` in the shared directory."""
    top = os.path.join(HERE, "../..")
    reason = _compile(shared, "make_recording", "make_recording.c", f"-I{top}/tracer",
                      f"-I{top}/probes")
    if reason:
        return reason
    with open(os.path.join(shared, "recording"), "wb") as file:
        subprocess.run([os.path.join(shared, "make_recording")], stdout=file, check=True)
    return None


FINDERS = {
    "bpf": _bpf, "bpf_loop": _kernel("bpf_loop", "5.17"),
    "cookies": _kernel("uprobe cookies", "5.15"),
    "root": _root, "ipv6": _ipv6, "recording": _recording,
    "tls_objects": _objects, "netns": _network_namespace, "webrick": _webrick,
    "tls_client": _shared_client, "tls_client_static": _static_client,
    "go-sites": lambda program, _: _program(os.path.join(os.path.dirname(program), "go-sites")),
    "nginx": lambda *_: _program("/usr/sbin/nginx"),
    "curl": lambda *_: _program("/usr/bin/curl"),
    "node": lambda *_: _program("/usr/bin/node"),
    "openssl": lambda *_: _program("/usr/bin/openssl"),
    "setpriv": lambda *_: _program("/usr/bin/setpriv"),
    "h2load": lambda *_: _program("/usr/bin/h2load") or _program("/usr/sbin/nghttpd"),
    "python-h2": _python("h2", "python3-h2"),
    "aiohttp": _python("aiohttp", "python3-aiohttp"), "grpcio": _python("grpc", "python3-grpcio"),
    "httpx": _python("httpx", "python3-httpx"),
    "wrk": lambda *_: _program("/usr/bin/wrk"),
}


@functools.lru_cache(maxsize=None)
def missing(name, program, shared):
    """Why this host has no `name`, or None where it has.

    An absolute path is a file's; `go VERSION FORM` is a program, `hey SUITE` two, and `go-suite
    SUITE` all versions that a suite has, of golang.
    """
    if name.startswith("/"):
        return None if os.path.exists(name) else f"no {name}"
    if name.startswith("go "):
        return golang.program_missing(*name.split()[1:])
    if name.startswith("hey "):
        return golang.load_missing(name.split()[1])
    if name.startswith("go-suite "):
        return golang.suite_missing(name.split()[1])
    return FINDERS[name](program, shared)
