#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""An HTTPS client with one keep-alive connection that does what its standard input says.

Usage: https_client.py HOST PORT. Each line of input is a JSON object {"method", "target", "size",
"headers"}; the answer is a line of JSON that reports the request, the response and the addresses
of the socket as this process saw them. {"fork": REQUEST} has a forked child make the request on
the connection that the parent opened; {"reconnect": true} opens another; {"threads": N,
"each": M} makes M requests on a connection of its own in each of N threads.
"""

import http.client
import json
import os
import ssl
import sys
import threading


class Connection(http.client.HTTPSConnection):
    """Remembers the header lines that it sent."""

    def putheader(self, header, *values):
        self.sent_headers.append([header, *(str(v) for v in values)])
        super().putheader(header, *values)

    def putrequest(self, *arguments, **options):
        self.sent_headers = []
        super().putrequest(*arguments, **options)


def connect():
    connection = Connection(sys.argv[1], int(sys.argv[2]), timeout=30,
                            context=ssl._create_unverified_context())
    connection.connect()
    return connection


def exchange(connection, request):
    body = b"b" * request["size"] if request.get("size") is not None else None
    connection.request(request.get("method", "GET"), request["target"], body,
                       request.get("headers", {}))
    local, peer = connection.sock.getsockname()[:2], connection.sock.getpeername()[:2]
    response = connection.getresponse()
    received = response.read()
    return {
        "method": request.get("method", "GET"), "target": request["target"],
        "status": response.status, "version": "1.1", "request_headers": connection.sent_headers,
        "response_headers": response.getheaders(), "request_size": len(body or b""),
        "response_size": len(received), "local": local, "peer": peer, "pid": os.getpid(),
    }


def say(report):
    print(json.dumps(report), flush=True)


def in_child(connection, request):
    pid = os.fork()
    if pid == 0:
        say(exchange(connection, request))
        os._exit(0)
    os.waitpid(pid, 0)


def in_threads(count, each):
    reports = []

    def work(number):
        connection = connect()
        for index in range(each):
            reports.append(exchange(connection, {"target": f"/thread/{number}/{index}"}))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(reports)


def main():
    connection = connect()
    say({"pid": os.getpid(), "local": connection.sock.getsockname()[:2]})
    for line in sys.stdin:
        order = json.loads(line)
        if "fork" in order:
            in_child(connection, order["fork"])
        elif "threads" in order:
            in_threads(order["threads"], order["each"])
        elif "reconnect" in order:
            connection.close()
            connection = connect()
            say({"local": connection.sock.getsockname()[:2]})
        else:
            say(exchange(connection, order))


main()
