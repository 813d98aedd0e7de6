#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A WebSocket client of aiohttp, told what to do by the lines of its input.

Usage: websocket_client.py URL. A line is a JSON order, and is answered by a line:

  {"open": true}                connects
  {"messages": N, "size": S}    sends N messages of S bytes, each when the one before came back
  {"pause": S}                  waits S seconds
  {"close": true}               closes the WebSocket and the connection

The answer has the bytes of all frames so far, both ways, as RFC 6455 puts them on the wire.
"""

import asyncio
import json
import sys

import aiohttp


def frame_size(size, masked):
    return 2 + (0 if size < 126 else 2 if size < 65536 else 8) + (4 if masked else 0) + size


async def main():
    sent = received = 0
    async with aiohttp.ClientSession() as session:
        print("{}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            if "open" in order:
                socket = await session.ws_connect(sys.argv[1], ssl=False, compress=0)
            for _ in range(order.get("messages", 0)):
                await socket.send_bytes(b"w" * order["size"])
                data = await socket.receive_bytes()
                sent += frame_size(order["size"], True)
                received += frame_size(len(data), False)
            await asyncio.sleep(order.get("pause", 0))
            if "close" in order:
                await socket.close()
                # A close frame carries a code of two bytes.
                sent += frame_size(2, True)
                received += frame_size(2, False)
            print(json.dumps({"sent": sent, "received": received}), flush=True)


asyncio.run(main())
