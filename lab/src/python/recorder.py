# SPDX-License-Identifier: Apache-2.0
"""The attacker's end: accepts one TCP connection, sends what it is told, and notes each receipt.

Usage: recorder.py PORT SECONDS [TEXT]. Prints one JSON object a line, with Unix nanoseconds.
Ends SECONDS after the connection came, or when the peer closes; it waits a little longer for one. The time of a receipt
is when the last of its bytes reached this network namespace, not when Python got round to it.
"""

import json
import socket
import struct
import sys
import time

SO_TIMESTAMPNS = 35


def note(event, time_ns=None, **fields):
    time_ns = time_ns or time.time_ns()
    print(json.dumps({"event": event, "time_ns": time_ns, **fields}), flush=True)


def arrival_ns(messages):
    for _, kind, data in messages:
        if kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", data)
            return seconds * 1_000_000_000 + nanoseconds
    return None


def receive(connection, until):
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            data, messages, _, _ = connection.recvmsg(1 << 18, 64)
        except TimeoutError:
            break
        except OSError:
            return "reset"
        if not data:
            return "closed"
        note("received", arrival_ns(messages), bytes=len(data))
    return "time"


port, seconds = int(sys.argv[1]), float(sys.argv[2])
listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
note("listening")
# Who is to come starts programs first.
listener.settimeout(seconds + 8)
try:
    connection, peer = listener.accept()
except TimeoutError:
    note("ended", how="nobody")
    sys.exit()
connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
note("accepted", peer=peer[0].removeprefix("::ffff:"), port=peer[1])
connection.sendall("".join(sys.argv[3:]).encode())
note("ended", how=receive(connection, time.monotonic() + seconds))
