# SPDX-License-Identifier: Apache-2.0
"""A small web service with a hole: POST /debug runs its body as Python, and with `?wait` answers
when that is through (usage: app.py PORT)."""

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6  # IPv4 too, as v4-mapped addresses


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, f"hello {self.path.rpartition('=')[2]}\n")

    def do_POST(self):
        code = self.rfile.read(int(self.headers["Content-Length"]))
        thread = threading.Thread(target=exec, args=(code, {}), daemon=True)
        thread.start()
        if self.path.endswith("?wait"):
            thread.join(60)
        self.answer(202, "accepted\n")

    def log_message(self, format, *arguments):
        pass


Server(("::", int(sys.argv[1])), Handler).serve_forever()
