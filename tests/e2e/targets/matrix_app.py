#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""HTTPS servers of Python's frameworks: /size/N is answered with N bytes.

Usage: matrix_app.py asyncio|aiohttp|tornado CERTIFICATE KEY PORT. uvicorn and gunicorn import the
application from here (`asgi`, `wsgi`).
"""

import asyncio
import ssl
import sys


def body_of(path):
    return b"s" * int(path.partition("?")[0].rpartition("/")[2])


async def asgi(scope, _, send):
    if scope["type"] != "http":
        return
    body = body_of(scope["path"])
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ, start_response):
    body = body_of(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def answer_stream(reader, writer):
    """asyncio's streams, the HTTP by hand."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = body_of(head.decode().split()[1])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


async def serve_asyncio(context, port):
    server = await asyncio.start_server(answer_stream, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


async def serve_aiohttp(context, port):
    from aiohttp import web

    async def answer(request):
        return web.Response(body=body_of(request.path))

    application = web.Application()
    application.router.add_get("/size/{size}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    await asyncio.Event().wait()


async def serve_tornado(context, port):
    from tornado import httpserver, web

    class Handler(web.RequestHandler):
        def get(self):
            self.write(body_of(self.request.path))

    httpserver.HTTPServer(web.Application([(r"/size/\d+", Handler)]), ssl_options=context).listen(
        port, "127.0.0.1")
    await asyncio.Event().wait()


def main():
    kind, certificate, key, port = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    serve = {"asyncio": serve_asyncio, "aiohttp": serve_aiohttp, "tornado": serve_tornado}[kind]
    asyncio.run(serve(context, int(port)))


if __name__ == "__main__":
    main()
