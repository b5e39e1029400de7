"""A mirror of the archive on this machine, which can misbehave."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


@dataclass
class Mirror:
    """Sends `body` at each request, as the next of `answers` says; the last one counts for ever."""

    body: bytes
    url: str
    answers: list[str] = field(default_factory=lambda: ["good"])
    requests: list[str] = field(default_factory=list)

    def send(self, handler: BaseHTTPRequestHandler) -> None:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(handler.path)
        handler.send_response(int(answer) if answer.isdigit() else 200)
        if answer == "302":
            handler.send_header("Location", self.url.replace("https:", "http:"))
        if answer != "oversized":  # the length is not said in advance either
            handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        if answer == "slow":
            for start in range(0, len(self.body), 1024):
                handler.wfile.write(self.body[start : start + 1024])
                time.sleep(0.1)
        bodies = {
            "good": self.body,
            "cut": self.body[: len(self.body) // 2],
            "wrong": bytes(len(self.body)),
            "oversized": self.body + bytes(100_000),
        }
        handler.wfile.write(bodies.get(answer, b""))


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


@contextmanager
def serve(body: bytes, certificate: Path | None = None) -> Iterator[Mirror]:
    """Run a mirror on the loopback, over HTTPS if there is a certificate (with its key, in PEM)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.send(self)

        def log_message(self, *_: object) -> None:
            """Say nothing of requests."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        scheme = "http"
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        mirror = Mirror(body, f"{scheme}://127.0.0.1:{server.server_port}/datasets")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()
