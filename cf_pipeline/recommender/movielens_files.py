"""The files MovieLens 100k comes in: the archive's own, or those of the recbole wheel.

Both carry the same tables. They stay as they were received; a zip is never extracted, its members
are read by the names known here.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, NamedTuple, Self, cast

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVE = {"ratings": "u.data", "movies": "u.item", "users": "u.user"}
RECBOLE = {"ratings": "ml-100k.inter", "movies": "ml-100k.item", "users": "ml-100k.user"}
_ZIP_LAYOUTS = {"ml-100k/": ARCHIVE, "": ARCHIVE, "recbole/dataset_example/ml-100k/": RECBOLE}
# Of a file, and of a table in a zip: 16 times MovieLens 100k's ratings. To read as much takes up to
# 600 MB of memory, most of it for movies; a zip of nothing but names takes 300 MB.
MOST_BYTES = 32 << 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What Python's zipfile raises, besides its own, for one damage or another.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, RuntimeError,
    ValueError,
)  # fmt: skip


class ArchiveLayoutError(ValueError):
    """A directory or zip does not hold MovieLens 100k in a layout known here."""


class Member(NamedTuple):
    """A table as it lies in the archive: its name there, and its bytes, with Unix line ends."""

    name: str
    data: bytes

    @classmethod
    def of(cls, name: str, data: bytes) -> Self:
        """Return the table of these bytes, whose lines may end as in Windows."""
        return cls(name, data.replace(b"\r\n", b"\n"))

    @property
    def file(self) -> str:
        """The name without the folders of the zip; it tells the table and its layout."""
        return PurePosixPath(self.name).name


def archive_files(directory: Path) -> list[Path]:
    """Return a directory's files of MovieLens 100k, u.data last, or else the one zip it holds.

    Raises:
        ArchiveLayoutError: it holds neither, or a file of more than MOST_BYTES.
    """
    names = (ARCHIVE["movies"], ARCHIVE["users"], "u.genre", ARCHIVE["ratings"])
    if (directory / ARCHIVE["ratings"]).is_file():
        files = [directory / name for name in names if (directory / name).is_file()]
        return [within_bounds(file) for file in files]
    files = sorted(path for path in directory.iterdir() if path.is_file())
    zips = [path for path in files if _is_zip(path)]
    if len(zips) != 1:
        raise ArchiveLayoutError(
            f"Neither u.data nor one sound zip is among {[file.name for file in files[:20]]}, in "
            f"{directory}. Fetch or copy the archive again."
        )
    return [within_bounds(zips[0])]


def within_bounds(file: Path) -> Path:
    """Return `file`, ArchiveLayoutError if it has more than MOST_BYTES."""
    size = file.stat().st_size
    if size > MOST_BYTES:
        raise ArchiveLayoutError(
            f"{file.name} has {size:,} bytes, and at most {MOST_BYTES:,} are read: it is not "
            "MovieLens 100k. Fetch the archive again."
        )
    return file


def read_member(archive: Path, table: str) -> Member | None:
    """Return `table` (ratings, movies or users), None if a source does not have it.

    Raises:
        ArchiveLayoutError: `archive` is not MovieLens 100k in a layout known here.
    """
    files = {path.name: path for path in archive_files(archive)}
    if ARCHIVE["ratings"] in files:
        file = files.get(ARCHIVE[table])
        return Member.of(file.name, file.read_bytes()) if file else None
    (file,) = files.values()
    try:
        return _read_zip(file, table)
    except ArchiveLayoutError:
        raise
    except _ZIP_ERRORS as error:
        raise ArchiveLayoutError(
            f"{file.name} cannot be read as a zip ({error}). Fetch the archive again."
        ) from error


def _is_zip(file: Path) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except _ZIP_ERRORS:
        return False


def _read_zip(file: Path, table: str) -> Member | None:
    with zipfile.ZipFile(file) as zipped:
        members: dict[str, zipfile.ZipInfo] = {}
        for member in zipped.infolist():
            fault = "occurs twice" if member.filename in members else _fault(member)
            if fault:
                raise ArchiveLayoutError(
                    f"The member {member.orig_filename[:80]!r} of {file.name} {fault}: no release "
                    "of MovieLens has such a one. Fetch the archive again."
                )
            members[member.filename] = member
        for prefix, layout in _ZIP_LAYOUTS.items():
            if prefix + layout["ratings"] in members:
                found = members.get(prefix + layout[table])
                return Member.of(found.filename, _content(zipped, found)) if found else None
    expected = [prefix + layout["ratings"] for prefix, layout in _ZIP_LAYOUTS.items()]
    raise ArchiveLayoutError(
        f"{file.name} has none of {expected}. Give the zip of MovieLens 100k, the recbole wheel, "
        "or a folder with u.data."
    )


def _fault(member: zipfile.ZipInfo) -> str | None:
    """Return what is wrong with a member: none is ever extracted, but such a zip is not sound."""
    name = member.orig_filename
    if PureWindowsPath(name).anchor or ".." in name.split("/") or "\\" in name or "\0" in name:
        return "has a name that leads out of its folder"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a symbolic link"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in METHODS:
        return f"is compressed with method {member.compress_type}, neither stored nor deflated"
    if member.file_size > MOST_BYTES:
        return f"has {member.file_size:,} bytes unpacked, where at most {MOST_BYTES:,} are read"
    return None


def _content(zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return a member's bytes; no more are unpacked than it declares, whatever it holds."""
    with zipped.open(member) as file:
        data = file.read(member.file_size + 1)
    if len(data) != member.file_size:
        raise EOFError(f"{member.filename} ends after {len(data):,} of {member.file_size:,} bytes")
    return data


def read_ratings_member(archive: Path) -> Member:
    """Return the ratings; every source has them."""
    return cast("Member", read_member(archive, "ratings"))


def u_data(archive: Path) -> bytes:
    """Return the ratings as `u.data` has them, byte for byte, from either kind of file."""
    member = read_ratings_member(archive)
    if member.file == ARCHIVE["ratings"]:
        return member.data
    return member.data.partition(b"\n")[2]  # recbole puts a header before them
