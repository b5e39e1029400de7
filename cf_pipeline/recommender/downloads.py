"""Downloads of a published file, over HTTP or through pip: whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit

import pooch

if TYPE_CHECKING:
    import requests

Log = Callable[[str], None]

CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0  # seconds
CHUNK = 1024  # bytes between two looks at the clock
SECONDS_BETWEEN_LINES = 5.0
WORTH_ANOTHER_TRY = {408, 425, 429}  # of the statuses 4xx


class RemoteFile(NamedTuple):
    """A published file: it is taken only if it has this size in bytes and this SHA-256."""

    name: str
    bytes: int
    sha256: str

    def check(self, path: Path) -> None:
        """Raise ValueError unless `path` is this file."""
        size = path.stat().st_size
        if size != self.bytes:
            raise ValueError(f"{size:,} bytes were received, {self.name} has {self.bytes:,}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != self.sha256:
            raise ValueError(f"SHA-256 {digest} was received, {self.name} has {self.sha256}")


class DownloadError(Exception):
    """A download failed, and trying it again would not help."""


def http_download(
    base_url: str, file: RemoteFile, directory: Path, *, timeout: float, retries: int, log: Log
) -> None:
    """Download `base_url`/`file` into `directory`, trying again up to `retries` times.

    `timeout` bounds the seconds of all attempts together. An attempt starts from the beginning.
    Proxies and certificates are those of the environment (HTTPS_PROXY, REQUESTS_CA_BUNDLE, ...).

    Raises:
        DownloadError: the server refuses, or the file is too large or takes too long.
        OSError: no connection, or one that broke.
        ValueError: what was received is not the file.
    """
    deadline = time.monotonic() + timeout

    def attempt(url: str, output_file: str, _pooch: object) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise DownloadError(f"not received within {timeout:g} s")
        log(f"Downloading {file.name} from {urlsplit(url).hostname}.")
        partial = Path(output_file)
        try:
            pooch.HTTPDownloader(
                progressbar=_Progress(file, partial, deadline, log),
                chunk_size=CHUNK,
                timeout=(min(CONNECT_TIMEOUT, remaining), min(READ_TIMEOUT, remaining)),
                hooks={"response": _refuse},
            )(url, output_file, None)
            file.check(partial)
        except (OSError, ValueError) as error:
            log(f"This attempt failed: {error}")
            raise

    pooch.get_logger().setLevel("WARNING")  # its lines would repeat ours
    pooch.create(
        directory,
        base_url=f"{base_url.rstrip('/')}/",
        registry={file.name: f"sha256:{file.sha256}"},
        retry_if_failed=retries,
    ).fetch(file.name, downloader=attempt)


def pip_download(requirement: str, file: RemoteFile, directory: Path, *, timeout: float) -> None:
    """Download the wheel `file` of `requirement` into `directory`, without installing anything.

    pip's own configuration says where from (PIP_INDEX_URL, pip.conf, proxies, certificates);
    `timeout` is in seconds.

    Raises:
        DownloadError: pip failed, is missing, or took too long.
        ValueError: what was received is not the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{requirement} --hash=sha256:{file.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
        command += ["--dest", str(directory), "--requirement", str(requirements)]
        try:
            pip = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DownloadError(f"pip took longer than {timeout:g} s") from None
    if pip.returncode:
        raise DownloadError(" ".join(pip.stderr.strip().splitlines()[-3:]))
    file.check(directory / file.name)


def _refuse(response: requests.Response, *_: object, **__: object) -> None:
    """Raise DownloadError for an answer that another attempt would not change."""
    if 400 <= response.status_code < 500 and response.status_code not in WORTH_ANOTHER_TRY:
        raise DownloadError(f"HTTP {response.status_code} {response.reason} for {response.url}")
    target = urljoin(response.url, response.headers.get("location", ""))
    if response.url.startswith("https:") and not target.startswith("https:"):
        raise DownloadError(f"{response.url} redirects to {target}, which is not https")


class _Progress:
    """Logs a download's progress, and stops it when it is too large or takes too long.

    It is a progress bar to pooch, which sets `total` and calls `update` after each chunk that it
    writes, then `reset`, `update` and `close`.
    """

    total = 0

    def __init__(self, file: RemoteFile, partial: Path, deadline: float, log: Log) -> None:
        self._file = file
        self._partial = partial
        self._deadline = deadline
        self._log = log
        self._tenths = 0
        self._logged_at = time.monotonic()

    def update(self, _chunk: int) -> None:
        received, now = self._partial.stat().st_size, time.monotonic()
        if received > self._file.bytes:
            raise DownloadError(f"more bytes are sent than {self._file.name} has")
        if now > self._deadline:
            raise DownloadError(f"the timeout was reached after {received:,} bytes")
        tenths = 10 * received // self._file.bytes
        if tenths > self._tenths or now - self._logged_at > SECONDS_BETWEEN_LINES:
            self._tenths, self._logged_at = tenths, now
            self._log(f"{self._file.name}: {received:,} of {self._file.bytes:,} bytes received.")

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass
