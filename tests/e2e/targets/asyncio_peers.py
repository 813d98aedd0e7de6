#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""HTTPS over memory BIOs (asyncio's streams) where a TLS record can be taken for another one's.

Usage: asyncio_peers.py itself CERTIFICATE KEY N: a server and its N clients in this process: prints
`ready` when N connections have an exchange behind them, and after a line of input makes requests on
those and on N new ones.
asyncio_peers.py tunnel PROXY_PORT PORT TARGET...: requests to PORT through an HTTPS proxy, which is
TLS inside TLS.
Prints a JSON line an exchange and side: what that side saw of it.
"""

import asyncio
import json
import os
import ssl
import sys


def say(side, target, size, writer):
    print(json.dumps({
        "side": side, "method": "GET", "target": target, "status": 200, "response_size": size,
        "local": writer.get_extra_info("sockname"), "peer": writer.get_extra_info("peername"),
        "pid": os.getpid()}), flush=True)


async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            target = head.decode().split()[1]
            body = b"s" * 300
            say("server", target, len(body), writer)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


async def get(reader, writer, target):
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    size = int(head.partition("content-length:")[2].split()[0])
    await reader.readexactly(size)
    say("client", target, size, writer)


async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port,
                                         ssl=ssl._create_unverified_context())


async def talk_to_itself(certificate, key, count):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    streams = [await connect(port) for _ in range(int(count))]
    await asyncio.gather(*(get(*stream, f"/before/{n}") for n, stream in enumerate(streams)))
    print("ready", flush=True)
    sys.stdin.readline()
    streams += [await connect(port) for _ in range(int(count))]
    for turn in range(3):
        await asyncio.gather(*(get(*stream, f"/{turn}/{n}") for n, stream in enumerate(streams)))


async def talk_through(proxy_port, port, *targets):
    reader, writer = await connect(proxy_port)
    writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await writer.start_tls(ssl._create_unverified_context())
    for target in targets:
        await get(reader, writer, target)


asyncio.run({"itself": talk_to_itself, "tunnel": talk_through}[sys.argv[1]](*sys.argv[2:]))
