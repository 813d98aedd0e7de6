#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""An HTTPS server of aiohttp whose responses last.

Usage: stream_server.py CERTIFICATE KEY PORT

  /websocket      sends back what comes, until either side closes
  /events/N/MS    N server-sent events of 9 bytes, MS milliseconds apart, in chunks, to any method
"""

import asyncio
import ssl
import sys

from aiohttp import WSMsgType, web


async def websocket(request):
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def events(request):
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for _ in range(int(request.match_info["count"])):
        await response.write(b"data: 1\n\n")
        await asyncio.sleep(int(request.match_info["ms"]) / 1000)
    await response.write_eof()
    return response


async def main():
    certificate, key, port = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    application = web.Application()
    application.router.add_get("/websocket", websocket)
    application.router.add_route("*", "/events/{count}/{ms}", events)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port), ssl_context=context).start()
    print("listening", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
