#!/usr/bin/python3 -ES
"""Password server of one guest network: a VM asks from its own address and gets its password once.

The protocol is that of the guest's password script: a GET with the header ``DomU_Request``.
"""

import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Lock
from typing import Any

sys.dont_write_bytecode = True

from cloudrules import passwordfile  # noqa: E402 (byte code is switched off first)

PORT = 8080
# One machine of a tenant must not keep the others from their passwords.
MOST_CONNECTIONS, MOST_OF_ONE_CLIENT = 256, 8


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = 10

    def do_GET(self) -> None:
        """Hand out, confirm or refuse."""
        server = self.server.server_address[0]
        client = self.client_address[0]
        request = self.headers.get("DomU_Request")
        if request == "send_my_password":
            answer = passwordfile.get(server, client) or "saved_password"
        elif request == "saved_password":
            passwordfile.remove(server, client)
            answer = "saved_password"
        else:
            answer = "bad_request"
        body = answer.encode("utf-8")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Log who asked, never the answer."""
        sys.stderr.write("{} {}\n".format(self.client_address[0], self.headers.get("DomU_Request")))


class Server(ThreadingHTTPServer):
    """A server that does not ask DNS for its own name before it listens, as the base class would."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        """Start with nobody connected."""
        self._lock = Lock()
        self._clients = Counter()
        super().__init__(*arguments)

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Refuse a client that is one too many; its connection is closed without an answer."""
        client = client_address[0]
        with self._lock:
            if sum(self._clients.values()) >= MOST_CONNECTIONS or self._clients[client] >= MOST_OF_ONE_CLIENT:
                return False
            self._clients[client] += 1
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a client, and forget it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._clients[client_address[0]] -= 1
                self._clients += Counter()  # without those that have no connection left

    def server_bind(self) -> None:
        """Bind, and call the server by its address."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


def main() -> None:
    """Serve until stopped."""
    if len(sys.argv) != 2:
        sys.exit("usage: passwd_server_ip.py ADDRESS")
    Server((sys.argv[1], PORT), Handler).serve_forever()


if __name__ == "__main__":
    main()
