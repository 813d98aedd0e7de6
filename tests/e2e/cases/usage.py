# SPDX-License-Identifier: BSD-2-Clause
"""The command line and bad input: documented statuses, clear lines, no harm to the target."""

import os
import re
import signal
import subprocess

from lib.case import Skip, case, check, equal
from lib.clients import CURL, python_client
from lib.entries import compare
from lib.processes import children, free_pid
from lib.servers import PythonServer, own_copy
from lib.test import HERE, PYTHON
from lib.waiting import until

UNPRIVILEGED = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]


def _says(test, status, pattern, *arguments, **options):
    """tlstrace ends at once with `status`; its stderr, all in its own lines, matches `pattern`."""
    process = test.tlstrace(*arguments, timeout=20, **options)
    shown = " ".join(map(str, arguments))
    equal(f"exit status of tlstrace {shown}\n{process.text('stderr')}", process.poll(), status)
    errors = process.text("stderr")
    check(re.search(pattern, errors, re.IGNORECASE), f"tlstrace {shown} says {errors!r}")
    for line in errors.splitlines():
        check(line.startswith("tlstrace: "), f"tlstrace {shown} says {line!r}")
    equal(f"stdout of tlstrace {shown}", process.text(), "")


@case()
def help_text(test):
    process = test.tlstrace("--help")
    equal("exit status", process.poll(), 0)
    equal("stderr", process.text("stderr"), "")
    for option in ("-p, --pid", "-b, --binary", "-f, --format", "-o, --output", "-H, --headers",
                   "--header", "--show-secrets", "-w, --write", "-r", "-n, --count",
                   "-d, --duration", "-e, --explain", "--check", "-q, --quiet", "-v, --verbose", "--version"):
        check(option in process.text(), f"--help does not name {option}")
    for option in ("--match", "--list", "--all", "summary"):
        check(option not in process.text(), f"--help names {option}, which comes later")
    check(re.search("secret", process.text()), "--help does not warn of secrets in recordings")


@case()
def version(test):
    process = test.tlstrace("--version")
    equal("exit status", process.poll(), 0)
    check(re.fullmatch(r"tlstrace \d+\.\d+.*\n(.*\n)*", process.text()), process.text())


@case()
def check_option(test):
    """--check says what there is, and its status whether tracing can work."""
    process = test.tlstrace("--check")
    check(process.poll() in (0, 3), f"exit status {process.poll()}")
    for feature in ("bpf", "uprobe", "ring buffer"):
        check(feature in process.text().lower(), f"--check says nothing of {feature}")


@case()
def unknown_options(test):
    _says(test, 2, "no-such-option", "--no-such-option", "true")
    _says(test, 2, "Z", "-Z", "true")


@case()
def bad_values(test):
    for option, value in (("-p", "abc"), ("-p", "0"), ("-p", "-1"), ("-p", ""), ("-p", "1,,2"),
                          ("-p", "12x"), ("-p", "99999999999"), ("-n", "0"), ("-n", "x"),
                          ("-n", "-3"), ("-n", "1.5"), ("-d", "x"), ("-d", "-1"),
                          ("-f", "xml"), ("-f", "")):
        target = [] if option == "-p" else ["-p", str(os.getpid())]
        _says(test, 2, ".", option, value, *target)
    for option in ("-p", "-b", "-e", "-f", "-o", "-n", "-d", "-w", "-r", "--header"):
        _says(test, 2, ".", option)


@case()
def nothing_to_trace(test):
    _says(test, 2, ".")
    _says(test, 2, ".", "-f", "json", "-q")


@case("recording")
def exclusive_targets(test):
    recording = os.path.join(test.shared, "recording")
    pid = os.getpid()
    for arguments in (["-p", pid, "true"], ["-b", CURL, "true"], ["-r", recording, "true"],
                      ["-r", recording, "-p", pid], ["-r", recording, "-b", CURL],
                      ["-p", pid, "-b", CURL, "true"]):
        _says(test, 2, ".", *arguments)


@case("bpf")
def exit_status_of_the_command(test):
    script = test.write("not-executable", "#!/bin/sh\n", 0o644)
    for command, status in ((["true"], 0), (["sh", "-c", "exit 3"], 3),
                            (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
                            (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
                            (["no-such-command-here"], 127), ([test.path("missing")], 127),
                            ([script], 126), ([test.dir], 126)):
        process = test.tlstrace(*command)
        equal(f"exit status of {command}", process.poll(), status)
        if status in (126, 127):
            check(command[0] in process.text("stderr"), process.text("stderr"))


@case("bpf")
def command_without_tls(test):
    """No TLS at all: the command runs, the totals say that there was nothing."""
    process = test.tlstrace("echo", "hello")
    equal("exit status", process.poll(), 0)
    equal("stdout", process.text(), "hello\n")
    check("tlstrace: 0 requests, 0 events lost" in process.text("stderr"), process.text("stderr"))
    check("no data over TLS was seen" in process.text("stderr"), process.text("stderr"))
    check("no data" not in test.tlstrace("-q", "echo", "hello").text("stderr"), "said with -q, too")


@case("bpf")
def command_without_http(test):
    """TLS that carries something else: the totals say that it was seen."""
    script = os.path.join(HERE, "targets", "line_echo.py")
    process = test.tlstrace(PYTHON, script, test.pki.certificate, test.pki.key)
    equal("exit status", process.poll(), 0)
    check("tlstrace: 2 of 2 TLS connections carried no HTTP\n" in process.text("stderr"),
          process.text("stderr"))


@case("bpf")
def pid_that_does_not_exist(test):
    pid = free_pid()
    _says(test, 1, rf"\b{pid}\b", "-p", pid)
    _says(test, 1, rf"\b{pid}\b", "-p", f"{os.getpid()},{pid}")


@case("bpf")
def zombie(test):
    """A process that has ended and not been waited for is not there."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    until(lambda: "Z" in open(f"/proc/{pid}/stat", encoding="latin-1").read().rpartition(")")[2],
          "the child's end")
    process = test.tlstrace("-p", pid, timeout=20)
    check(process.poll() in (0, 1), f"exit status {process.poll()}")
    check(process.text("stderr").startswith("tlstrace: "), process.text("stderr"))
    os.waitpid(pid, 0)


@case("bpf")
def pid_that_ends_during_the_attach(test):
    """Whenever the target ends, tlstrace ends soon with 0 or 1 and says something."""
    for delay in ("0", "0.01", "0.05", "0.1", "0.2"):
        target = test.start(["sleep", delay])
        process = test.tlstrace("-p", target.pid, timeout=15)
        check(process.poll() in (0, 1), f"exit status {process.poll()} after {delay} s")
        check(process.text("stderr").startswith("tlstrace: "), process.text("stderr"))


@case("bpf")
def pid_without_tls(test):
    """It says so and waits; it ends with 0 when the process does."""
    target = test.start(["cat"], stdin=subprocess.PIPE)
    trace = test.trace("-p", target.pid)
    check(re.search(r"no TLS library", trace.stderr()), trace.stderr())
    equal("tlstrace still runs", trace.process.poll(), None)
    target.close_stdin()
    equal("exit status", trace.process.wait(10), 0)
    equal("totals", trace.totals(), (0, 0, 0))


@case("bpf")
def kernel_thread(test):
    if not os.path.exists("/proc/2/stat") or os.path.exists("/proc/2/exe"):
        raise Skip("no kernel threads to be seen here")
    _says(test, 1, "kernel thread", "-p", "2")


@case("bpf")
def tlstrace_itself(test):
    process = test.run(["sh", "-c", f"exec {test.program} -p $$"], timeout=20)
    check(process.poll() in (1, 2), f"exit status {process.poll()}")
    check(re.search("tlstrace: .*itself", process.text("stderr")), process.text("stderr"))


@case()
def binaries_that_are_none(test):
    """A script, a directory, nothing, text, an empty file, an ELF header alone."""
    script = test.write("script", "#!/bin/sh\nexit 0\n", 0o755)
    with open(CURL, "rb") as file:
        elf = file.read()
    for path in (script, test.dir, test.path("missing"), test.write("empty", b"", 0o755),
                 test.write("text", "hello", 0o755), test.write("magic", elf[:4], 0o755),
                 test.write("header", elf[:64], 0o755), "/dev/null"):
        _says(test, 2, re.escape(path), "-b", path)


@case()
def truncated_binaries(test):
    """An ELF file cut anywhere: refused, or accepted when enough is there; never a crash."""
    with open(CURL, "rb") as file:
        elf = file.read()
    for size in (65, 120, 500, 1000, len(elf) // 2):
        path = test.write(f"cut{size}", elf[:size], 0o755)
        process = test.start([test.program, "-d", "0.1", "-b", path])
        status = process.wait(20)
        check(status in (0, 2, 3), f"exit status {status} for {size} bytes: {process.output()}")


@case("setpriv", "root")
def unreadable_binary(test):
    """Root reads everything, so this is about a user: no reading, then no tracing anyhow."""
    program = own_copy(test, test.program)
    path = test.write("unreadable", b"\x7fELF", 0o000)
    process = test.run([*UNPRIVILEGED, program, "-b", path])
    check(process.poll() in (2, 3), f"exit status {process.poll()}")
    check(process.text("stderr").startswith("tlstrace: "), process.text("stderr"))


@case("setpriv", "root")
def no_privilege(test):
    """Status 3; the message names what is missing and the remedy."""
    program = own_copy(test, test.program)
    for arguments in (["true"], ["-p", str(os.getpid())], ["-b", CURL]):
        process = test.run([*UNPRIVILEGED, program, *arguments])
        equal(f"exit status with {arguments}", process.poll(), 3)
        check(re.search("root|sudo|CAP_", process.text("stderr")), process.text("stderr"))
    process = test.run([*UNPRIVILEGED, program, "--check"])
    equal("exit status of --check", process.poll(), 3)


@case("bpf")
def unwritable_files(test):
    client = python_client(test, PythonServer(test).port)
    for option in ("-o", "-w"):
        for path in (test.dir, test.path("no/such/file")):
            _says(test, 1, re.escape(path), option, path, "-p", client.pid)
    equal("the target goes on", client.request("/").status, 200)


@case("bpf")
def full_disk_while_tracing(test):
    """The trace ends with status 1 and the reason; the target goes on."""
    client = python_client(test, PythonServer(test).port)
    for option in ("-o", "-w"):
        process = test.start([test.program, "-f", "json", option, "/dev/full", "-p", client.pid])
        process.wait_text("^tlstrace: ready", "stderr")
        for number in range(3):
            equal("status", client.request(f"/{number}").status, 200)
        if process.poll() is None and option == "-w":
            # A recording may be written in large pieces: the end at the latest shows it.
            process.send_signal(signal.SIGINT)
        equal(f"exit status with {option}", process.wait(15), 1)
        check("No space left" in process.text("stderr"), process.text("stderr"))
    equal("the target goes on", client.request("/after").status, 200)


@case("bpf")
def closed_standard_output_while_tracing(test):
    """`| head -1`: tlstrace ends once its reader has gone; the target does not notice."""
    client = python_client(test, PythonServer(test).port)
    process = test.start(["sh", "-c", f"exec 3>&1; ({test.program} -f json -p {client.pid}; "
                                      "echo status=$? >&3) | head -1"])
    process.wait_text("^tlstrace: ready", "stderr")
    client.request("/one")
    process.wait_text(r"^\{")

    def ended():
        equal("status", client.request("/more").status, 200)
        return "status=" in process.text()
    until(ended, "tlstrace's end", every=0.05)
    status = int(process.wait_text(r"status=(\d+)")[1])
    check(status in (0, 1, 128 + signal.SIGPIPE), f"exit status {status}")
    equal("the target goes on", client.request("/after").status, 200)


@case("bpf", "curl")
def no_process_is_left(test):
    """Neither a guard nor a child stays behind a trace."""
    server = PythonServer(test)
    client = python_client(test, server.port)
    before = set(children(os.getpid()))
    trace = test.trace("-p", client.pid)
    client.request("/x")
    trace.finish(1)
    test.tlstrace("curl", "-sk", server.url("/y"))
    until(lambda: set(children(os.getpid())) <= before, "the end of all that tlstrace started")


@case("bpf", "curl")
def same_pid_named_twice(test):
    client = python_client(test, PythonServer(test).port)
    trace = test.trace("-p", f"{client.pid},{client.pid}", "-p", client.pid)
    reports = [client.request("/once")]
    compare(trace.finish(1), reports)


@case("bpf", "curl")
def signals_of_the_command_are_its_own(test):
    """The command starts with no signal blocked or ignored."""
    script = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), " \
             "signal.getsignal(signal.SIGINT) is signal.default_int_handler, " \
             "[s for s in (signal.SIGTERM, signal.SIGCHLD) " \
             "if signal.getsignal(s) != signal.SIG_DFL])"
    process = test.tlstrace("/usr/bin/python3", "-c", script)
    equal("signals", process.text(), "set() True []\n")


@case("bpf", "curl")
def descriptors_of_the_command_are_its_own(test):
    """The command inherits none of tlstrace's files."""
    process = test.tlstrace("ls", "/proc/self/fd")
    # The three standard streams and the directory that ls reads.
    equal("descriptors", process.text().split(), ["0", "1", "2", "3"])
