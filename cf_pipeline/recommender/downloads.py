"""Downloads of a published file through pip: whole and checked, or not at all.

`http_download` has those over HTTP; what both share is here.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Log = Callable[[str], None]


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
        digest = sha256(path)
        if digest != self.sha256:
            raise ValueError(f"SHA-256 {digest} was received, {self.name} has {self.sha256}")


class DownloadError(Exception):
    """A download failed; the message tells no secret of an address."""

    def __init__(self, cause: str) -> None:
        super().__init__(redacted(cause))


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def redacted(text: str) -> str:
    """Return `text` with `***` for the user, the password and the query of any address in it."""
    return re.sub(r"\S+", lambda word: _redacted_word(word[0]), text)


def _redacted_word(word: str) -> str:
    place, mark, query = word.partition("?")
    if query and "/" in word:
        query = "***"
    scheme, slashes, rest = place.partition("://")
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    return scheme + slashes + rest + mark + query


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
