#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""One call of each kind to grpc_server.py, by grpcio, on one connection.

Usage: grpc_client.py CERTIFICATE PORT [later]. With `later` it waits for a line of input first.
"""

import sys

import grpc


def main():
    with open(sys.argv[1], "rb") as chain:
        credentials = grpc.ssl_channel_credentials(chain.read())
    print("waiting", flush=True)
    if "later" in sys.argv:
        sys.stdin.readline()
    with grpc.secure_channel(f"localhost:{sys.argv[2]}", credentials) as channel:
        assert channel.unary_unary("/shop.Cart/Unary")(b"x" * 5000) == b"u" * 5000
        assert len(list(channel.unary_stream("/shop.Cart/Stream")(b"15"))) == 15
        assert len(list(channel.stream_stream("/shop.Cart/Bidi")(iter([b"a", b"", b"ccc"])))) == 3
        for method in "Fail", "Unknown":
            try:
                channel.unary_unary(f"/shop.Cart/{method}")(b"x")
            except grpc.RpcError as error:
                print(method, error.code(), flush=True)
    print("done", flush=True)


main()
