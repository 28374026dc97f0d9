# SPDX-License-Identifier: Apache-2.0
"""The attacker's machine: shells (4444), a drop (4443), a mining pool (3333), a file to fetch (8000)
and a name server (UDP 53)."""

import socket
import socketserver
import threading
import time

SHELL = b"id\nuname -a\nls -la /\ncat /etc/passwd\nsleep 0.5\nid\n"


def shell(connection):
    connection.settimeout(2)
    connection.sendall(SHELL)
    until = time.monotonic() + 2
    try:
        while time.monotonic() < until and connection.recv(65536):
            pass
        connection.sendall(b"exit\n")
    except OSError:
        pass


def drop(connection):
    connection.settimeout(20)
    while connection.recv(1 << 20):
        pass


def pool(connection):
    for job in range(60):
        connection.sendall(b'{"method": "job", "id": %d, "blob": "%s"}\n' % (job, b"0" * 152))
        time.sleep(1)


def fetch(connection):
    connection.recv(65536)
    with open("/usr/bin/id", "rb") as file:
        body = file.read()
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            {4444: shell, 4443: drop, 3333: pool, 8000: fetch}[self.server.server_address[1]](self.request)
        except OSError:
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


for port in (4444, 4443, 3333, 8000):
    threading.Thread(target=Server(("", port), Handler).serve_forever, daemon=True).start()
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("", 53))
print("ready", flush=True)
while True:
    query, peer = names.recvfrom(4096)
    names.sendto(query[:2] + b"\x81\x80" + query[4:], peer)
