# SPDX-License-Identifier: BSD-2-Clause
"""An HTTP/2 client on Debian's httpx: one connection.

    httpx_client.py HOST PORT

A line of its input is a JSON list of requests that are sent one after the other: {"target",
"headers"}; the answer is a line with a list of statuses.
"""

import json
import sys

import httpx

BASE = f"https://{sys.argv[1]}:{sys.argv[2]}"


def main():
    client = httpx.Client(http2=True, verify=False)
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps([client.get(BASE + order["target"], headers=order["headers"]).status_code
                          for order in json.loads(line)]), flush=True)


main()
