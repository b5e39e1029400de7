"""What may go wrong on the way to a mirror, and what must come of it.

`meet` needs no pytest, so that a benchmark can go through FAULTS as the tests do.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from cf_pipeline.recommender import sources
from cf_pipeline.recommender.datasets import DATASETS, release
from cf_pipeline.recommender.downloads import RemoteFile
from cf_pipeline.recommender.sources import ArchiveUnavailableError, fetch_archive
from cf_pipeline_tests.recommender.escaped import EscapedError, told
from cf_pipeline_tests.recommender.mirror import Mirror, self_signed, serve

TIMEOUT = 4.0  # seconds: two attempts, and the second between them, fit in
GRACE = 3.0  # seconds that giving up may take
BODY = bytes(range(256)) * 40


class NetworkFault(NamedTuple):
    """A mirror's answers, how many requests they lead to, and what the error must say.

    Where there are no answers there is no mirror. What is not `lasting` may have passed by the next
    try.
    """

    name: str
    answers: list[str]
    requests: int
    text: str
    tls: bool = False
    trusted: bool = True
    lasting: bool = True


LATE = f"not received within {TIMEOUT:g} s"
FAULTS = [
    NetworkFault("refused", [], 0, "Connection refused", lasting=False),
    NetworkFault("reset halfway", ["reset"], 2, "Connection reset by peer", lasting=False),
    NetworkFault("hung up before the headers", ["hang_up"], 2, "without response", lasting=False),
    NetworkFault("stalled before the headers", ["stalled"], 1, LATE, lasting=False),
    NetworkFault("stalled in the headers", ["stalled_in_headers"], 1, LATE, lasting=False),
    NetworkFault("stalled in the body", ["stalled_in_body"], 1, LATE, lasting=False),
    NetworkFault("headers that trickle", ["trickled_headers"], 1, LATE, lasting=False),
    NetworkFault("a body that trickles", ["trickled_body"], 1, LATE, lasting=False),
    NetworkFault("404", ["404"], 1, "HTTP 404 Not Found"),
    NetworkFault("500", ["500"], 2, "HTTP 500 Internal Server Error", lasting=False),
    NetworkFault(
        "503, come back soon",
        ["503 Retry-After: 1"],
        2,
        "HTTP 503 Service Unavailable",
        lasting=False,
    ),
    NetworkFault(
        "503, come back late", ["503 Retry-After: 99"], 1, "asks for a pause of 99 s", lasting=False
    ),
    NetworkFault(
        "429, come back in 2100",
        ["429 Retry-After: Fri, 31 Dec 2100 23:59:59 GMT"],
        1,
        "asks for a pause of",
        lasting=False,
    ),
    NetworkFault(
        "503, come back sometime", ["503 Retry-After: soon"], 2, "HTTP 503", lasting=False
    ),
    NetworkFault("redirects in a circle", ["302 Location: /around"], 31, "30 redirects"),
    NetworkFault("a redirect to a file", ["302 Location: file:///etc/passwd"], 1, "not http"),
    NetworkFault("a redirect to FTP", ["302 Location: ftp://127.0.0.1/a.zip"], 1, "not http"),
    NetworkFault("a redirect to nowhere", ["302 Location: http://[/"], 1, "not http"),
    NetworkFault("redirects with endless bodies", ["endless_redirect"], 31, "30 redirects"),
    NetworkFault("fewer bytes than declared", ["cut"], 2, "IncompleteRead", lasting=False),
    NetworkFault("more bytes than declared", ["understated"], 2, "bytes were received"),
    NetworkFault("fewer bytes than published", ["short"], 2, "bytes were received"),
    NetworkFault("more bytes than published", ["oversized"], 1, "more bytes are sent than"),
    NetworkFault("the right length, wrong bytes", ["wrong"], 2, "SHA-256"),
    NetworkFault("an endless body", ["endless"], 1, "more bytes are sent than"),
    NetworkFault("a gzip bomb", ["gzip_bomb"], 1, "is sent as gzip"),
    NetworkFault(
        "a certificate that nobody vouches for",
        ["good"],
        0,
        "CERTIFICATE_VERIFY_FAILED",
        tls=True,
        trusted=False,
    ),
    NetworkFault(
        "a redirect from https to http", ["302 Location: http://127.0.0.1/"], 1, "not https", True
    ),
]


def meet(fault: NetworkFault, folder: Path) -> str:
    """Return the error that a download from such a mirror ends with.

    Raises:
        EscapedError: it did not end as it should, or not in time.
    """
    with _at_mirror(fault, folder) as mirror:
        started = time.monotonic()
        try:
            fetch_archive(
                folder / "archive", ["official"], timeout=TIMEOUT, retries=1, log=lambda _: None
            )
        except ArchiveUnavailableError as error:
            message = error.causes["official"]
            transient = error.transient
        else:
            raise EscapedError("the archive was taken")
        seconds = time.monotonic() - started
    if seconds > TIMEOUT + GRACE:
        raise EscapedError(f"it took {seconds:.1f} s")
    if left := [path.name for path in (folder / "archive").iterdir()]:
        raise EscapedError(f"{left} were left")
    if mirror and len(mirror.requests) != fault.requests:
        raise EscapedError(f"there were {len(mirror.requests)} requests, not {fault.requests}")
    if transient == fault.lasting:
        raise EscapedError(f"transient is {transient}: {message}")
    return told(message, fault.text)


@contextmanager
def _at_mirror(fault: NetworkFault, folder: Path) -> Iterator[Mirror | None]:
    """Make such a mirror the official source, whose archive is BODY."""
    certificate = self_signed(folder / "certificate.pem") if fault.tls else None
    published = RemoteFile("ml-100k.zip", len(BODY), sha256(BODY).hexdigest())
    environment = {"NO_PROXY": "127.0.0.1"}
    if fault.tls and fault.trusted:
        environment["REQUESTS_CA_BUNDLE"] = str(certificate)
    with (
        mock.patch.dict(DATASETS, {"ml-100k": release("ml-100k")._replace(file=published)}),
        mock.patch.dict(os.environ, environment),
        serve(BODY, certificate) if fault.answers else nullcontext() as mirror,
    ):
        if mirror:
            mirror.answers = fault.answers
        os.environ[sources.URL_VARIABLE] = mirror.url if mirror else _closed_port()
        yield mirror


def _closed_port() -> str:
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{once.getsockname()[1]}"
