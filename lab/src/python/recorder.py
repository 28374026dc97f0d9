# SPDX-License-Identifier: Apache-2.0
"""The attacker's end: accepts one TCP connection, sends what it is told, and notes each receipt.

Usage: recorder.py PORT SECONDS [TEXT]. Prints one JSON object a line, with Unix nanoseconds.
Ends SECONDS after the connection came (or did not), or when the peer closes.
"""

import json
import socket
import sys
import time


def note(event, **fields):
    print(json.dumps({"event": event, "time_ns": time.time_ns(), **fields}), flush=True)


def receive(connection, until):
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            data = connection.recv(1 << 18)
        except TimeoutError:
            break
        except OSError:
            return "reset"
        if not data:
            return "closed"
        note("received", bytes=len(data))
    return "time"


port, seconds = int(sys.argv[1]), float(sys.argv[2])
listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
note("listening")
listener.settimeout(seconds)
try:
    connection, peer = listener.accept()
except TimeoutError:
    note("ended", how="nobody")
    sys.exit()
note("accepted", peer=peer[0].removeprefix("::ffff:"), port=peer[1])
connection.sendall("".join(sys.argv[3:]).encode())
note("ended", how=receive(connection, time.monotonic() + seconds))
