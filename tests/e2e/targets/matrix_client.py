#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""HTTPS clients of Python's libraries, eight lanes of requests at a time.

Usage: matrix_client.py http.client|requests|urllib3|asyncio|aiohttp PORT TARGETS. TARGETS is a JSON
file: a list of lanes, each a list of targets that are requested one after another.
"""

import asyncio
import json
import ssl
import sys
import threading


def context():
    return ssl._create_unverified_context()


def lane_http_client(port, targets):
    import http.client

    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context())
    for target in targets:
        connection.request("GET", target)
        connection.getresponse().read()


def lane_requests(port, targets):
    import requests

    with requests.Session() as session:
        for target in targets:
            session.get(f"https://127.0.0.1:{port}{target}", verify=False).raise_for_status()


def lane_urllib3(pool, targets):
    for target in targets:
        pool.request("GET", target)


async def lane_asyncio(port, targets):
    """asyncio's streams, the HTTP by hand."""
    reader = None
    for target in targets:
        if reader is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context())
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        await reader.readexactly(int(fields["content-length"]))
        if fields.get("connection") == "close":
            writer.close()
            reader = None


async def lane_aiohttp(session, port, targets):
    for target in targets:
        async with session.get(f"https://127.0.0.1:{port}{target}", ssl=False) as response:
            await response.read()


async def in_asyncio(port, lanes):
    await asyncio.gather(*(lane_asyncio(port, targets) for targets in lanes))


async def in_aiohttp(port, lanes):
    import aiohttp

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(lane_aiohttp(session, port, targets) for targets in lanes))


def in_threads(lane, where, lanes):
    threads = [threading.Thread(target=lane, args=(where, targets)) for targets in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    kind, port = sys.argv[1], int(sys.argv[2])
    with open(sys.argv[3], encoding="utf-8") as file:
        lanes = json.load(file)
    if kind in ("requests", "urllib3"):
        import urllib3

        urllib3.disable_warnings()
    if kind == "http.client":
        in_threads(lane_http_client, port, lanes)
    elif kind == "requests":
        in_threads(lane_requests, port, lanes)
    elif kind == "urllib3":
        pool = urllib3.HTTPSConnectionPool("127.0.0.1", port, maxsize=len(lanes), block=True,
                                           cert_reqs="CERT_NONE")
        in_threads(lane_urllib3, pool, lanes)
    elif kind == "asyncio":
        asyncio.run(in_asyncio(port, lanes))
    else:
        asyncio.run(in_aiohttp(port, lanes))


main()
