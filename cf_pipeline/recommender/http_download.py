"""A download of a published file over HTTP: whole, checked and in time, or not at all."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pooch
import requests
from requests.exceptions import ChunkedEncodingError, InvalidURL, SSLError, TooManyRedirects
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from cf_pipeline.recommender.downloads import DownloadError, redacted
from cf_pipeline.recommender.http_address import address_and_login, scheme

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests.auth import AuthBase

    from cf_pipeline.recommender.downloads import Log, RemoteFile

CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0  # seconds
CHUNK = 1024  # bytes between two looks at the clock
REVISION_TIMEOUT = 20.0  # seconds; a sensor has a minute
SECONDS_BETWEEN_LINES = 5.0
WORTH_ANOTHER_TRY = {408, 425, 429}  # of the statuses 4xx
BUSY = {429, 503}  # what a Retry-After comes with
# The troubles of a server or a network; _look raises HTTPError for statuses worth another try only.
PASSING = (requests.ConnectionError, requests.Timeout, requests.HTTPError, ChunkedEncodingError)


def http_download(
    base_url: str, file: RemoteFile, directory: Path, *, timeout: float, retries: int, log: Log
) -> None:
    """Download `base_url`/`file` into `directory`, trying again up to `retries` times.

    `timeout` bounds the seconds of all attempts together. An attempt starts from the beginning, and
    not before the server's Retry-After. A user and password in `base_url` are sent as basic
    authentication. Proxies and certificates are those of the environment (HTTPS_PROXY,
    REQUESTS_CA_BUNDLE, ...).

    Raises:
        DownloadError: the server refuses, the connection fails, it takes too long, or what was
            received is not the file.
    """
    said: SimpleQueue[str | DownloadError | None] = SimpleQueue()
    attempts = _Attempts(base_url, file, timeout, said.put)
    # No clock stops a look-up of the name, or headers that trickle. So a thread makes the attempts:
    # after the deadline nothing that it says counts, and nothing that it writes is taken.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        Thread(target=lambda: said.put(attempts.run(folder, retries)), daemon=True).start()
        while True:
            try:
                line = said.get(timeout=max(0.0, attempts.deadline - time.monotonic()))
            except Empty:
                line = _too_late(timeout)
            if line is None:
                break
            if isinstance(line, DownloadError):
                raise line
            log(redacted(line))
        shutil.move(folder / file.name, directory / file.name)


def http_revision(base_url: str, name: str) -> str:
    """Return what tells that `base_url`/`name` changed, without downloading it: its ETag or date.

    It takes REVISION_TIMEOUT seconds at most.

    Raises:
        DownloadError: the server cannot be reached, refuses, takes too long, or tells neither.
    """
    address, login = address_and_login(base_url)
    said: SimpleQueue[str | DownloadError] = SimpleQueue()
    Thread(target=lambda: said.put(_revision(address + name, login)), daemon=True).start()
    try:
        revision = said.get(timeout=REVISION_TIMEOUT)
    except Empty:
        raise _too_late(REVISION_TIMEOUT) from None
    if isinstance(revision, DownloadError):
        raise revision
    return revision


def _revision(address: str, login: AuthBase | None) -> str | DownloadError:
    try:
        answer = requests.head(
            address,
            auth=login,
            headers={"Accept-Encoding": "identity"},
            allow_redirects=True,
            hooks={"response": _refuse_redirect},
            timeout=(CONNECT_TIMEOUT, CONNECT_TIMEOUT),
        )
        answer.raise_for_status()
    except (OSError, ValueError, DownloadError) as error:
        return DownloadError(str(error))
    except Exception as error:  # whatever else an answer makes the libraries raise
        return DownloadError(repr(error))
    for header in ("ETag", "Last-Modified"):
        if header in answer.headers:
            return f"{header} {answer.headers[header]}"
    return DownloadError(f"{answer.url} has neither an ETag nor a date")


class _Attempts:
    """The attempts to download a file within `timeout` seconds from now; `say` takes log lines."""

    def __init__(self, base_url: str, file: RemoteFile, timeout: float, say: Log) -> None:
        self._base_url, self._auth = address_and_login(base_url)
        self._file = file
        self._timeout = timeout
        self.deadline = time.monotonic() + timeout
        self._not_before = 0.0
        self._say = say

    def run(self, folder: Path, retries: int) -> DownloadError | None:
        """Make the attempts until `folder` has the file, else return what went wrong."""
        for logger in pooch.get_logger(), logging.getLogger("urllib3"):
            logger.setLevel("ERROR")  # what they say below that repeats ours, or quotes an address
        registry = {self._file.name: self._file.checksum}
        try:
            pooch.create(
                folder, base_url=self._base_url, registry=registry, retry_if_failed=retries
            ).fetch(self._file.name, downloader=self._attempt)
        except DownloadError as error:
            return DownloadError(str(error), transient=error.transient)
        except (OSError, ValueError) as error:
            return DownloadError(str(error), transient=isinstance(error, PASSING))
        except Exception as error:  # whatever else an answer makes the libraries raise
            return DownloadError(repr(error))
        return None

    def _attempt(self, url: str, output_file: str, _pooch: object) -> None:
        time.sleep(max(0.0, self._not_before - time.monotonic()))
        remaining = self._remaining()
        self._say(f"Downloading {self._file.name} from {urlsplit(url).hostname}.")
        partial = Path(output_file)
        try:
            pooch.HTTPDownloader(
                progressbar=_Progress(self._file, partial, self._remaining, self._say),
                chunk_size=CHUNK,
                timeout=(min(CONNECT_TIMEOUT, remaining), min(READ_TIMEOUT, remaining)),
                auth=self._auth,
                headers={"Accept-Encoding": "identity"},
                hooks={"response": self._look},
            )(url, output_file, None)
            self._file.check(partial)
        except (SSLError, TooManyRedirects, InvalidURL) as error:  # so would the next attempt end
            raise DownloadError(str(error)) from None
        except (OSError, ValueError) as error:
            self._say(f"This attempt failed: {error}")
            raise

    def _remaining(self) -> float:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise _too_late(self._timeout)
        return seconds

    def _look(self, response: requests.Response, *_: object, **__: object) -> None:
        """Refuse an answer by its headers; requests calls it for redirects too."""
        if response.status_code >= 400:
            cause = f"HTTP {response.status_code} {str(response.reason)[:80]} for {response.url}"
            if response.status_code < 500 and response.status_code not in WORTH_ANOTHER_TRY:
                raise DownloadError(cause)
            if response.status_code in BUSY and "Retry-After" in response.headers:
                self._heed(response.headers["Retry-After"], cause)
            raise requests.HTTPError(cause)
        _refuse_redirect(response)
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":  # a little of it may become a lot
            raise DownloadError(
                f"{response.url} is sent as {encoding[:80]}, not as it was asked for"
            )

    def _heed(self, retry_after: str, cause: str) -> None:
        """Put the next attempt off as a busy server asks, or give up if that is too long."""
        try:
            pause = Retry().parse_retry_after(retry_after)
            self._not_before = time.monotonic() + pause
        except (InvalidHeader, ValueError, OverflowError):
            return
        if self._not_before > self.deadline:
            raise DownloadError(
                f"{cause}: the server asks for a pause of {pause:,.0f} s, which the timeout of "
                f"{round(self._timeout, 2):g} s does not leave",
                transient=True,
            )
        self._say(f"The server asks for a pause of {pause:,.0f} s.")


class _Progress:
    """Logs a download's progress, and stops it when it is too large or takes too long.

    It is a progress bar to pooch, which sets `total` and calls `update` after each chunk that it
    writes, then `reset`, `update` and `close`.
    """

    total = 0

    def __init__(
        self, file: RemoteFile, partial: Path, remaining: Callable[[], float], log: Log
    ) -> None:
        self._file = file
        self._partial = partial
        self._remaining = remaining
        self._log = log
        self._tenths = 0
        self._logged_at = time.monotonic()

    def update(self, _chunk: int) -> None:
        self._remaining()
        received, now = self._partial.stat().st_size, time.monotonic()
        if received > self._file.limit:
            raise DownloadError(f"more bytes are sent than {self._file.name} has")
        size = self._file.bytes
        tenths = 10 * received // size if size else 0
        if tenths > self._tenths or now - self._logged_at > SECONDS_BETWEEN_LINES:
            self._tenths, self._logged_at = tenths, now
            of_all = f" of {size:,}" if size else ""
            self._log(f"{self._file.name}: {received:,}{of_all} bytes received.")

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


def _refuse_redirect(response: requests.Response, *_: object, **__: object) -> None:
    """Raise DownloadError if the answer leads to what is not HTTP, or from HTTPS to HTTP."""
    if response.is_redirect:
        response.close()  # requests would read its body, however long that is
        found = scheme(response.headers["Location"], response.url)
        if found != "https" and (found != "http" or scheme(response.url) == "https"):
            expected = "https" if scheme(response.url) == "https" else "http or https"
            raise DownloadError(
                f"{response.url} redirects to {found or 'no'} address, which is not {expected}"
            )


def _too_late(timeout: float) -> DownloadError:
    return DownloadError(f"not received within {round(timeout, 2):g} s", transient=True)
