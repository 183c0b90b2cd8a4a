"""The stand-in behind HTTP, in a process of its own time, so that the real ``cs`` and the real command meet it.

It checks what a rollout must never do without (``response=json``, a signature that fits the secret), but is no
CloudStack: signatures, errors and sessions of a served API are the business of ``harness.management.api``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlsplit

from harness.rollout.transport import Rejected

KEY, SECRET = "key-of-a-test", "secret+of/a=test"


class Now:
    """The machine's own time."""

    def now(self):
        return datetime.now(UTC)


def signature(parameters, secret=SECRET):
    """Return the signature of a call, as CloudStack makes it."""
    named = sorted((name, value) for name, value in parameters.items() if name != "signature")
    text = "&".join(f"{name}={quote(value, safe='*')}" for name, value in named).lower()
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # one packet an answer, for a second one waits for the first to be acknowledged

    def do_GET(self):
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        with self.server.lock:
            status, body, headers = self.server.judge(parameters)
        if status is None:  # an answer that is lost on its way
            self.close_connection = True
            return
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, cloud):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cloud, self.lock, self.before, self.after = cloud, threading.Lock(), [], []

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_address[1]}/client/api"

    def judge(self, parameters):
        command = parameters.get("command", "")
        name = f"{command.lower()}response"
        if parameters.get("apiKey") != KEY or parameters.get("signature") != signature(parameters):
            text = "unable to verify user credentials and/or request signature"
            return 401, {name: {"errorcode": 401, "errortext": text}}, {}
        if self.before:
            return self.before.pop(0)
        try:
            body = self.cloud.answer(command, parameters)
        except Rejected as error:
            return error.code, {name: {"errorcode": error.code, "errortext": error.text}}, {}
        if self.after and command in self.after[0]:
            self.after.pop(0)
            return None, None, {}
        return 200, {name: body}, {}


@contextmanager
def serving(cloud):
    """Serve a stand-in while the block lasts."""
    cloud.clock = Now()
    with Server(cloud) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
