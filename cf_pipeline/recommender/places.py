"""Where a table lies, in a file or a zip, and how it is read: piece by piece."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cf_pipeline.recommender.formats import Format

# Of a table of movies or users, and of a zip's table of contents: six times the largest release's
# movies. To read as much takes up to 600 MB of memory.
MOST_BYTES = 32 << 20
# Of ratings, which are read in chunks, and of a zip: 700 million of them, 18 times the largest.
MOST_RATINGS_BYTES = 16 << 30
CHUNK = 4 << 20  # bytes; more of them gain nothing
# A longer one is not waited for: so much is enough to say what is wrong with it.
LONGEST_LINE = 16 << 20
# What Python's zipfile raises, besides its own, for one damage or another.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, RuntimeError,
    ValueError,
)  # fmt: skip


class ArchiveLayoutError(ValueError):
    """A directory or zip does not hold the dataset in a layout known here."""


@dataclass(frozen=True)
class Place:
    """Where a table lies: in a file, or in a `member` of it where that is a zip.

    `size` is the bytes that it has, in a zip by its headers.
    """

    format: Format
    file: Path
    size: int
    member: str | None = None

    @property
    def name(self) -> str:
        """What errors call the table."""
        return self.member or self.file.name

    def pieces(self, n_bytes: int = CHUNK) -> Iterator[bytes]:
        """Yield the table's bytes, `n_bytes` at a time: as many as `size` says, or it is an error.

        Of a member the last piece comes before its checksum is looked at.
        """
        try:
            with self._open() as file:
                received = 0
                while piece := file.read(n_bytes):
                    received += len(piece)
                    yield piece
                if received != self.size:
                    raise EOFError(f"{self.name} ends after {received:,} of {self.size:,} bytes")
        except ArchiveLayoutError:
            raise
        except ZIP_ERRORS as error:
            raise unreadable(self.file, "as a zip " if self.member else "", error) from error

    def lines(self, n_bytes: int = CHUNK) -> Iterator[bytes]:
        """Yield whole lines, some `n_bytes` of them at a time, with Unix line ends.

        What is no line, as it has no end or is longer than LONGEST_LINE, is yielded by itself.
        """
        tail = b""
        for piece in self.pieces(n_bytes):
            end = piece.rfind(b"\n") + 1
            if end:
                yield _unix(tail + piece[:end])
                tail = piece[end:]
            else:
                tail += piece
            if len(tail) > LONGEST_LINE:
                yield tail
                tail = b""
        if tail:
            yield _unix(tail)

    def read(self) -> bytes:
        """Return the whole table, with Unix line ends.

        Raises:
            ArchiveLayoutError: it has more than MOST_BYTES, or cannot be read.
        """
        refuse_long(self.name, self.size, MOST_BYTES)
        return _unix(b"".join(self.pieces()))

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self.member is None:
            with self.file.open("rb") as file:
                yield file
        else:
            with open_zip(self.file) as zipped, zipped.open(self.member) as member:
                yield member


def _unix(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def refuse_long(name: str, size: int, most: int) -> None:
    """Raise ArchiveLayoutError if what has `size` bytes is longer than `most`."""
    if size > most:
        raise ArchiveLayoutError(
            f"{name} has {size:,} bytes, and at most {most:,} are read: it is not what it should "
            "be. Fetch the archive again."
        )


def unreadable(file: Path, kind: str, error: Exception) -> ArchiveLayoutError:
    """Return the error for a file that is damaged."""
    return ArchiveLayoutError(
        f"{file.name} cannot be read {kind}({error}). Fetch the archive again."
    )


class _BoundedReads(io.BufferedReader):
    """A file of which no more than MOST_BYTES are read at once.

    zipfile reads a zip's table of contents so, however long the zip says that it is.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_BYTES:
            raise ArchiveLayoutError(
                f"The zip's table of contents has {size:,} bytes, and at most {MOST_BYTES:,} are "
                "read. Fetch the archive again."
            )
        return super().read(size)


@contextmanager
def open_zip(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip whose table of contents is not too long; it raises one of ZIP_ERRORS."""
    with _BoundedReads(io.FileIO(file)) as opened, zipfile.ZipFile(opened) as zipped:
        yield zipped


def is_zip(file: Path) -> bool:
    """Whether a file looks like a zip."""
    try:
        return zipfile.is_zipfile(file)
    except ZIP_ERRORS:
        return False
