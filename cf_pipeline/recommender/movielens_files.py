"""The files MovieLens 100k comes in: the archive's own, or those of the recbole wheel.

Both carry the same tables. They stay as they were received; a zip is never extracted, its members
are read by the names known here.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVE = {"ratings": "u.data", "movies": "u.item", "users": "u.user"}
RECBOLE = {"ratings": "ml-100k.inter", "movies": "ml-100k.item", "users": "ml-100k.user"}
_ZIP_LAYOUTS = {"ml-100k/": ARCHIVE, "": ARCHIVE, "recbole/dataset_example/ml-100k/": RECBOLE}


class ArchiveLayoutError(ValueError):
    """A directory or zip does not hold MovieLens 100k in a layout known here."""


class Member(NamedTuple):
    """A table as it lies in the archive: its name there, and its bytes."""

    name: str
    data: bytes

    @property
    def file(self) -> str:
        """The name without the folders of the zip; it tells the table and its layout."""
        return PurePosixPath(self.name).name


def archive_files(directory: Path) -> list[Path]:
    """Return a directory's files of MovieLens 100k, u.data last, or else the one zip it holds.

    Raises:
        ArchiveLayoutError: it holds neither.
    """
    names = (ARCHIVE["movies"], ARCHIVE["users"], "u.genre", ARCHIVE["ratings"])
    if (directory / ARCHIVE["ratings"]).is_file():
        return [directory / name for name in names if (directory / name).is_file()]
    files = sorted(path for path in directory.iterdir() if path.is_file())
    zips = [path for path in files if zipfile.is_zipfile(path)]
    if len(zips) != 1:
        raise ArchiveLayoutError(
            f"Neither u.data nor one sound zip is among {[file.name for file in files]}, in "
            f"{directory}. Fetch or copy the archive again."
        )
    return zips


def read_member(archive: Path, table: str) -> Member | None:
    """Return `table` (ratings, movies or users), None if a source does not have it.

    Raises:
        ArchiveLayoutError: `archive` is not MovieLens 100k in a layout known here.
    """
    files = {path.name: path for path in archive_files(archive)}
    if ARCHIVE["ratings"] in files:
        file = files.get(ARCHIVE[table])
        return Member(file.name, file.read_bytes()) if file else None
    (file,) = files.values()
    try:
        with zipfile.ZipFile(file) as members:
            names = set(members.namelist())
            for prefix, layout in _ZIP_LAYOUTS.items():
                if prefix + layout["ratings"] in names:
                    name = prefix + layout[table]
                    return Member(name, members.read(name)) if name in names else None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ArchiveLayoutError(
            f"{file.name} cannot be read as a zip ({error}). Fetch the archive again."
        ) from error
    expected = [prefix + layout["ratings"] for prefix, layout in _ZIP_LAYOUTS.items()]
    raise ArchiveLayoutError(
        f"{file.name} has none of {expected}. Give the zip of MovieLens 100k, the recbole wheel, "
        "or a folder with u.data."
    )


def read_ratings_member(archive: Path) -> Member:
    """Return the ratings; every source has them."""
    return cast("Member", read_member(archive, "ratings"))


def u_data(archive: Path) -> bytes:
    """Return the ratings as `u.data` has them, byte for byte, from either kind of file."""
    member = read_ratings_member(archive)
    if member.file == ARCHIVE["ratings"]:
        return member.data
    # recbole puts a header before them; its line ends are no part of the data.
    return member.data.partition(b"\n")[2].replace(b"\r\n", b"\n")
