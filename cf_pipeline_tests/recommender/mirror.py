"""A mirror of the archive on this machine, which can misbehave."""

import socket
import ssl
import struct
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

GAP = 0.05  # seconds between the bytes of a trickle


@dataclass
class Mirror:
    """Sends `body` at each request, as the next of `answers` says; the last one counts for ever.

    Files whose names are in `others` have contents of their own.

    An answer is a status, perhaps with a header, as in "503 Retry-After: 1", or what a method of
    `_Handler` is called.
    """

    body: bytes
    url: str
    answers: list[str] = field(default_factory=lambda: ["good"])
    requests: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)  # the Authorization of each request
    others: dict[str, bytes] = field(default_factory=dict)
    closing: Event = field(default_factory=Event)
    head: dict[str, str] = field(default_factory=dict)  # what a request for headers alone gets

    def next_answer(self, path: str, login: str | None) -> str:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(path)
        self.logins.append(login)
        return answer


class _Handler(BaseHTTPRequestHandler):
    """Each method without an underscore is an answer."""

    mirror: Mirror

    def do_GET(self) -> None:
        answer = self.mirror.next_answer(self.path, self.headers["Authorization"])
        status, _, header = answer.partition(" ")
        with suppress(OSError):  # the client hangs up on most
            if status.isdigit():
                name, _, value = header.partition(": ")
                self._head(int(status), {name: value} if name else {})
            else:
                getattr(self, answer)()

    def do_HEAD(self) -> None:
        answer = self.mirror.next_answer(self.path, self.headers["Authorization"])
        status, _, header = answer.partition(" ")
        name, _, value = header.partition(": ")
        with suppress(OSError):  # the client hangs up on most
            if answer in ("stalled", "trickled_headers"):
                getattr(self, answer)()
            else:
                more = {name: value} if name else {}
                self._head(int(status) if status.isdigit() else 200, self.mirror.head | more)

    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, body: bytes, length: int) -> None:
        self._head(200, {"Content-Length": str(length)})
        self.wfile.write(body)

    def _trickle(self, data: bytes) -> None:
        for byte in data:
            self.wfile.write(bytes([byte]))
            if self.mirror.closing.wait(GAP):
                return

    def _for_ever(self, chunk: bytes) -> None:
        while not self.mirror.closing.is_set():
            self.wfile.write(chunk)

    @property
    def _body(self) -> bytes:
        return self.mirror.others.get(self.path.rpartition("/")[2], self.mirror.body)

    @property
    def _half(self) -> bytes:
        return self._body[: len(self._body) // 2]

    def good(self) -> None:
        self._send(self._body, len(self._body))

    def page(self) -> None:
        self._head(200, {"Content-Type": "text/html", "Content-Length": str(len(self._body))})
        self.wfile.write(self._body)

    def wrong(self) -> None:
        self._send(bytes(len(self._body)), len(self._body))

    def cut(self) -> None:
        self._send(self._half, len(self._body))

    def short(self) -> None:
        self._send(self._half, len(self._half))

    def understated(self) -> None:
        self._send(self._body, len(self._half))

    def oversized(self) -> None:
        self._head(200, {})  # the length is not said in advance either
        self.wfile.write(self._body + bytes(100_000))

    def endless(self) -> None:
        self._head(200, {})
        self._for_ever(bytes(65_536))

    def endless_redirect(self) -> None:
        self._head(302, {"Location": "/elsewhere"})
        self._for_ever(bytes(65_536))

    def gzip_bomb(self) -> None:
        self._head(200, {"Content-Encoding": "gzip"})
        packer = zlib.compressobj(9, wbits=31)
        while not self.mirror.closing.is_set():
            self.wfile.write(packer.compress(bytes(1 << 20)))

    def reset(self) -> None:
        self._send(self._half, len(self._body))
        # A connection that is closed without lingering is reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def hang_up(self) -> None:
        pass

    def odd_header(self) -> None:
        self.wfile.write(b"HTTP/1.0 404 Not Found\r\nthis has no colon\r\n\r\n")

    def stalled(self) -> None:
        self.mirror.closing.wait()

    def stalled_in_headers(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Le")
        self.mirror.closing.wait()

    def stalled_in_body(self) -> None:
        self._send(self._half, len(self._body))
        self.mirror.closing.wait()

    def trickled_headers(self) -> None:
        self._trickle(b"HTTP/1.0 200 OK\r\nX-Padding: " + bytes(9_999))

    def trickled_body(self) -> None:
        self._head(200, {"Content-Length": str(len(self._body))})
        self._trickle(self._body)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


@contextmanager
def serve(body: bytes, certificate: Path | None = None) -> Iterator[Mirror]:
    """Run a mirror on the loopback, over HTTPS if there is a certificate (with its key, in PEM)."""

    class Handler(_Handler):
        pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        scheme = "http"
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        mirror = Mirror(body, f"{scheme}://127.0.0.1:{server.server_port}/datasets")
        Handler.mirror = mirror
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield mirror
        finally:
            mirror.closing.set()
            server.shutdown()
            thread.join()


def self_signed(path: Path) -> Path:
    """Make a certificate of 127.0.0.1 with its key, in PEM, which nobody has signed but itself."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mirror"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return path
