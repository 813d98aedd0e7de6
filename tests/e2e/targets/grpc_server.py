#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A gRPC server of grpcio, its messages plain bytes: /any.Service/Unary answers with as many bytes
as came, Stream with so many messages as the request says, Bidi with each message that comes, Fail
with an error. Usage: grpc_server.py CERTIFICATE KEY PORT
"""

import sys
from concurrent import futures

import grpc


def unary(request, _):
    return b"u" * len(request)


def stream(request, _):
    for _ in range(int(request)):
        yield b"m" * 100


def bidi(requests, _):
    yield from requests


def fail(_, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "not there: ü")


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Stream": grpc.unary_stream_rpc_method_handler(stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        return HANDLERS.get(handler_call_details.method.rpartition("/")[2])


def main():
    certificate, key, port = sys.argv[1:]
    with open(certificate, "rb") as chain, open(key, "rb") as secret:
        credentials = grpc.ssl_server_credentials([(secret.read(), chain.read())])
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Handler(),))
    if not server.add_secure_port(f"127.0.0.1:{port}", credentials):
        raise SystemExit("the port cannot be had")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


main()
