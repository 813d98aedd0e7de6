# SPDX-License-Identifier: BSD-2-Clause
"""-r: recordings as they should be, cut, foreign and hostile. Needs no BPF."""

import os
import random
import struct
import subprocess

from lib.case import case, check, equal
from lib.clients import python_client, trace_both
from lib.entries import Report, compare, parse
from lib.servers import PythonServer, own_copy

# Where struct recording_head has its version: behind the eight bytes of its magic.
VERSION_OFFSET = 8


def _recording(test):
    with open(os.path.join(test.shared, "recording"), "rb") as file:
        return file.read()


def _replay(test, content, *options, timeout=10):
    """Replays `content` as JSON: the finished process. Without threads, to be quick."""
    path = test.write("content", content)
    return subprocess.run([test.program, "-f", "json", "-r", path, *options], timeout=timeout,
                          capture_output=True, stdin=subprocess.DEVNULL, check=False)


def _refused(test, content, what):
    """The replay of a bad recording ends with status 1 and a line that says so."""
    done = _replay(test, content)
    equal(f"exit status for {what}", done.returncode, 1)
    errors = done.stderr.decode()
    check(errors and all(line.startswith("tlstrace: ") for line in errors.splitlines()),
          f"stderr for {what}: {errors!r}")
    parse(done.stdout.decode())
    return errors


@case("recording")
def replay(test):
    done = _replay(test, _recording(test))
    equal("exit status", done.returncode, 0)
    entries = parse(done.stdout.decode())
    connection = {"local": ["127.0.0.1", 40210], "peer": ["127.0.0.1", 8443]}
    whole, later, unanswered = entries[:2], entries[2:4], entries[4:]
    check("<redacted:" in whole[0].at("url.query"), f"{whole[0].at('url.query')}")
    first = Report("GET", f"/first?{whole[0].at('url.query')}", 200, 5, side="client", pid=4321,
                   executable="curl", response_headers=[["Content-Length", "5"], ["X-One", "1"]],
                   **connection)
    second = Report("POST", "/second", 201, 1000, 3, side="client", **connection)
    compare(whole, [first, second])
    equal("unanswered", [(e.at("url.path"), e.at("capture.complete"), e.at("capture.reason"))
                         for e in unanswered], [("/unanswered", False, "no_response")])
    equal("servers", [(e.at("server.address"), e.at("server.port")) for e in entries],
          [("api.example", 443), ("api.example", 8443)] + [("api.example", 443)] * 3)
    equal("facts of TCP", whole[0].at("network.tcp"),
          {"seq": 4000000000, "ack": 7, "rtt_us": 55, "retransmits": 1})
    equal("sockets", [(e.at("url.path"), e.at("network.transport"), e.at("capture.tuple"))
                      for e in later], [("/unix", "unix", "fd"), ("/lost", None, "none")])
    check(b"hush" not in done.stdout + done.stderr, "a secret in the replay")
    check(b"tlstrace: 5 requests, 0 events lost, 1 without a connection" in done.stderr,
          done.stderr)


@case("recording")
def replay_in_text(test):
    path = test.write("content", _recording(test))
    done = test.tlstrace("-r", path)
    equal("exit status", done.poll(), 0)
    lines = done.text().splitlines()
    equal("lines", len(lines), 5)
    check("curl[4321] -> 127.0.0.1:8443 GET https://api.example/first?page=2" in lines[0], lines[0])
    check(" 200 5B " in lines[0] and lines[0].endswith(" HTTP/1.1"), lines[0])
    check("POST https://api.example:8443/second 201 1000B" in lines[1], lines[1])
    check(" -> unix GET " in lines[2], lines[2])
    check(" -> - GET " in lines[3], lines[3])
    check(" !- " in lines[4], lines[4])


@case("recording")
def replay_with_a_count(test):
    done = _replay(test, _recording(test), "-n", "1")
    equal("exit status", done.returncode, 0)
    equal("entries", len(parse(done.stdout.decode())), 1)


@case("recording", "setpriv", "root")
def replay_without_privilege(test):
    program = own_copy(test, test.program)
    path = test.write("content", _recording(test), 0o644)
    done = test.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program,
                     "-f", "json", "-r", path])
    equal("exit status", done.poll(), 0)
    equal("entries", len(parse(done.text())), 5)


@case("recording")
def recording_cut_at_every_byte(test):
    recording = _recording(test)
    for size in range(len(recording)):
        _refused(test, recording[:size], f"a recording cut at byte {size}")


@case("recording")
def recording_with_bytes_behind_its_end(test):
    """What is behind the end is not looked at, or refused: never a crash."""
    done = _replay(test, _recording(test) + b"\0" * 100)
    check(done.returncode in (0, 1), f"status {done.returncode}")
    equal("entries", len(parse(done.stdout.decode())), 5)


@case("recording")
def recording_of_another_version(test):
    recording = bytearray(_recording(test))
    version = struct.unpack_from("=I", recording, VERSION_OFFSET)[0]
    for other in (0, version + 1, 0xffffffff):
        struct.pack_into("=I", recording, VERSION_OFFSET, other)
        errors = _refused(test, bytes(recording), f"version {other}")
        check("version" in errors, f"the message says nothing of a version: {errors}")


@case("recording")
def files_that_are_no_recordings(test):
    for what, content in (("an empty file", b""), ("text", b"hello\n" * 1000),
                          ("zeros", bytes(100000)),
                          ("random bytes", random.Random(1).randbytes(50000)),
                          ("a magic alone", b"tlstrace")):
        _refused(test, content, what)
    for path in (test.path("missing"), test.dir, "/dev/null", "/dev/zero"):
        done = test.tlstrace("-r", path, timeout=10)
        equal(f"exit status for {path}", done.poll(), 1)
        check(path in done.text("stderr"), f"the message for {path}: {done.text('stderr')}")


def _check_survives(test, content, what):
    done = _replay(test, content)
    check(done.returncode in (0, 1), f"status {done.returncode} for {what}: {done.stderr!r}")
    # Every line is JSON, but what a forged recording says may be nonsense.
    parse(done.stdout.decode(), check_each=False)


@case("recording")
def hostile_recordings(test):
    """Bytes and fields changed at random, the same every time: never a crash or a hang."""
    recording = _recording(test)
    chance = random.Random(20260102)
    for turn in range(600):
        changed = bytearray(recording)
        for _ in range(chance.choice((1, 1, 2, 8))):
            place = chance.randrange(16, len(changed) - 8)
            form, value = chance.choice((
                ("=B", chance.randrange(256)),
                ("=I", chance.choice((0, 1, 0x7fffffff, 0xffffffff))),
                ("=Q", chance.choice((0, (1 << 63) - 1, (1 << 64) - 1, 1 << 32)))))
            struct.pack_into(form, changed, place, value)
        _check_survives(test, bytes(changed), f"change {turn}")


@case("recording")
def records_in_another_order(test):
    """Pieces of a recording swapped, repeated and left out."""
    recording = _recording(test)
    chance = random.Random(7)
    for turn in range(150):
        first, second = sorted(chance.randrange(16, len(recording)) for _ in range(2))
        changed = chance.choice((
            recording[:first] + recording[second:], recording[:second] + recording[first:],
            recording[:first] + recording[second:] + recording[first:second]))
        _check_survives(test, changed, f"change {turn}")


@case("recording")
def closed_standard_output(test):
    """`tlstrace -r FILE | head -1`: the reader goes, tlstrace ends without noise of a crash."""
    path = test.write("content", _recording(test))
    done = test.run(["sh", "-c", f"{test.program} -f json -r {path} | head -c 1"])
    equal("exit status of head", done.poll(), 0)
    equal("output", done.text(), "{")
    closed = test.run(["sh", "-c", f"{test.program} -f json -r {path} >&-"])
    check(closed.poll() in (1, 2), f"status {closed.poll()} with stdout closed")


@case("recording")
def full_disk(test):
    path = test.write("content", _recording(test))
    for arguments in (["-o", "/dev/full"], ["-f", "json", "-o", "/dev/full"]):
        done = test.tlstrace("-r", path, *arguments)
        equal("exit status", done.poll(), 1)
        check("No space left" in done.text("stderr"), done.text("stderr"))
    done = test.run(["sh", "-c", f"{test.program} -r {path} > /dev/full"])
    equal("exit status of stdout on a full disk", done.poll(), 1)


@case("recording")
def unwritable_output(test):
    path = test.write("content", _recording(test))
    for output in (test.dir, test.path("no/such/directory")):
        done = test.tlstrace("-r", path, "-o", output)
        equal("exit status", done.poll(), 1)
        check(output in done.text("stderr"), done.text("stderr"))


@case("bpf")
def real_recording_cut(test):
    """A recording of a real session, cut at many places."""
    server = PythonServer(test)
    client = python_client(test, server.port)
    trace = trace_both(test, client, server, "-w", test.path("recording"))
    for target in ("/size/20000", "/chunked/3000", "/x"):
        client.request(target)
    trace.finish(6)
    with open(test.path("recording"), "rb") as file:
        recording = file.read()
    for size in range(0, len(recording), max(1, len(recording) // 200)):
        _refused(test, recording[:size], f"a recording cut at byte {size}")
