"""Downloads of a published file through pip: whole and checked, or not at all.

`http_download` has those over HTTP; what both share is here.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Log = Callable[[str], None]

MOST_BESIDE = 1 << 24  # bytes of what pip writes beside a wheel, such as an index's pages
# What pip says of the troubles of a server or a network.
PASSING = re.compile(r"connection broken by|timed out|HTTP error (429|5\d\d)|many 5\d\d error")
LIMITED_PIP = """
import resource, runpy, sys
most = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


class RemoteFile(NamedTuple):
    """A published file: it is taken only if it has this size in bytes and this checksum.

    Of one whose size is not known, `most` bytes are received at most; one without any checksum is
    taken as it is.
    """

    name: str
    bytes: int | None
    sha256: str | None = None
    md5: str | None = None
    most: int = 1 << 30

    @property
    def limit(self) -> int:
        """How many bytes it can have."""
        return self.most if self.bytes is None else self.bytes

    @property
    def checksum(self) -> str | None:
        """The checksum as pooch writes it, `sha256:...` or `md5:...`; None if none is known."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"md5:{self.md5}" if self.md5 else None

    def check(self, path: Path) -> None:
        """Raise ValueError unless `path` is this file."""
        size = path.stat().st_size
        if self.bytes not in (None, size):
            raise ValueError(f"{size:,} bytes were received, {self.name} has {self.bytes:,}")
        if self.checksum:
            algorithm, _, published = self.checksum.partition(":")
            with path.open("rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
            if found != published:
                label = {"sha256": "SHA-256", "md5": "MD5"}[algorithm]
                raise ValueError(f"{label} {found} was received, {self.name} has {published}")


class DownloadError(Exception):
    """A download failed; the message tells no secret of an address.

    `transient` says that the cause may pass by itself, as a server's or a network's trouble does.
    """

    def __init__(self, cause: str, *, transient: bool = False) -> None:
        super().__init__(redacted(cause))
        self.transient = transient


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def redacted(text: str) -> str:
    """Return `text` with `***` for the user, the password and the query of any address in it."""
    return re.sub(r"\S+", lambda word: _redacted_word(word[0]), text)


def _redacted_word(word: str) -> str:
    place, mark, query, *_ = *re.split(r"([?#])", word, maxsplit=1), "", ""
    scheme, slashes, rest = place.partition("://") if "://" in place else ("", "", place)
    # Behind a colon there is a port, or else a password, which a ? may not end.
    if slashes and "@" in query and re.search(r":(?![0-9]*(/|$))", rest):
        return f"{scheme}://***"
    name, at, host = rest.rpartition("@")
    if at and (slashes or ":" in name):
        rest = f"***@{host}"
    return scheme + slashes + rest + mark + ("***" if query and "/" in word else query)


def pip_download(requirement: str, file: RemoteFile, directory: Path, *, timeout: float) -> None:
    """Download the wheel `file` of `requirement` into `directory`, without installing anything.

    pip's own configuration says where from (PIP_INDEX_URL, pip.conf, proxies, certificates);
    `timeout` is in seconds. It writes no file much longer than the wheel, and leaves none.

    Raises:
        DownloadError: pip failed, is missing, or took too long.
        ValueError: what was received is not the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{requirement} --hash=sha256:{file.sha256}\n", encoding="utf-8")
        # pip looks at a file's checksum once it has it whole, however long that is.
        most = file.limit + MOST_BESIDE
        command = [sys.executable, "-c", LIMITED_PIP, str(most)]
        command += ["download", "--no-input", "--no-deps", "--no-cache-dir"]
        command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
        command += ["--dest", str(directory), "--requirement", str(requirements)]
        try:
            pip = subprocess.run(
                command,
                env={**os.environ, "TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DownloadError(f"pip took longer than {timeout:g} s", transient=True) from None
    if pip.returncode:
        transient = bool(PASSING.search(pip.stderr)) and "SSLError" not in pip.stderr
        raise DownloadError(" ".join(pip.stderr.strip().splitlines()[-3:]), transient=transient)
    file.check(directory / file.name)
