"""The files that MovieLens comes in: a zip, the recbole wheel, or the tables themselves.

They stay as they were received; a zip is never extracted, its members are read by the names known
here.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from cf_pipeline.recommender.datasets import dataset_of
from cf_pipeline.recommender.places import (
    MOST_BYTES,
    MOST_RATINGS_BYTES,
    ZIP_ERRORS,
    ArchiveLayoutError,
    Place,
    is_zip,
    open_zip,
    refuse_long,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cf_pipeline.recommender.datasets import Dataset
    from cf_pipeline.recommender.formats import Layout

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def archive_files(directory: Path, dataset: Dataset) -> list[Path]:
    """Return a directory's files of `dataset`, the ratings last, or else the one zip it holds.

    Raises:
        ArchiveLayoutError: it holds neither, or a file with more bytes than are read.
    """
    layout = dataset.layouts[0]
    if (directory / layout.ratings.file).is_file():
        names = [table.file for table in layout.tables.values()]
        names[-1:] = [*layout.others, names[-1]]
        return [
            within_bounds(directory / name, layout)
            for name in names
            if (directory / name).is_file()
        ]
    files = sorted(path for path in directory.iterdir() if path.is_file())
    zips = [path for path in files if is_zip(path)]
    if len(zips) != 1:
        raise ArchiveLayoutError(
            f"Neither {layout.ratings.file} nor one sound zip is among "
            f"{[file.name for file in files[:20]]}, in {directory}. Fetch or copy the archive "
            "again."
        )
    return [within_bounds(zips[0], layout)]


def within_bounds(file: Path, layout: Layout) -> Path:
    """Return `file`, ArchiveLayoutError if it has more bytes than are read of such a one."""
    tables = {layout.movies.file, layout.users.file if layout.users else "", *layout.others}
    most = MOST_BYTES if file.name in tables else MOST_RATINGS_BYTES
    refuse_long(file.name, file.stat().st_size, most)
    return file


def find(archive: Path, table: str, dataset: Dataset | None = None) -> Place | None:
    """Return where `table` (ratings, movies or users) lies, None if a source does not have it.

    The dataset is the one that the archive says it is, unless it is given.

    Raises:
        ArchiveLayoutError: `archive` is not its dataset in a layout known here.
    """
    dataset = dataset or dataset_of(archive)
    files = {path.name: path for path in archive_files(archive, dataset)}
    layout = dataset.layouts[0]
    if layout.ratings.file in files:
        written = layout.tables.get(table)
        file = files.get(written.file) if written else None
        return Place(written, file, file.stat().st_size) if written and file else None
    (file,) = files.values()
    try:
        return _find_member(file, dataset, table)
    except ArchiveLayoutError:
        raise
    except ZIP_ERRORS as error:
        raise unreadable(file, "as a zip ", error) from error


def ratings_place(archive: Path, dataset: Dataset | None = None) -> Place:
    """Return where the ratings lie, as `find` does; every source has them."""
    place = find(archive, "ratings", dataset)
    if place is None:
        raise ArchiveLayoutError(f"{archive} has no ratings.")
    return place


def u_data(archive: Path) -> Iterator[bytes]:
    """Yield the ratings as `u.data` has them, from either kind of file, chunk by chunk."""
    place = ratings_place(archive)
    chunks = place.lines()
    if place.format.header:  # recbole puts one before them
        yield next(chunks, b"").partition(b"\n")[2]
    yield from chunks


def _find_member(file: Path, dataset: Dataset, table: str) -> Place | None:
    members: dict[str, zipfile.ZipInfo] = {}
    with open_zip(file) as zipped:
        for member in zipped.infolist():
            fault = "occurs twice" if member.filename in members else _fault(member)
            if fault:
                raise ArchiveLayoutError(
                    f"The member {member.orig_filename[:80]!r} of {file.name} {fault}: no release "
                    "of MovieLens has such a one. Fetch the archive again."
                )
            members[member.filename] = member
    expected = []
    for layout in dataset.layouts:
        for folder in layout.folders:
            expected.append(folder + layout.ratings.file)
            if expected[-1] in members:
                written = layout.tables.get(table)
                found = members.get(folder + written.file) if written else None
                if written is None or found is None:
                    return None
                return Place(written, file, found.file_size, found.filename)
    raise ArchiveLayoutError(
        f"{file.name} has none of {expected}. Give a zip of {dataset.name}, or a folder with "
        f"{dataset.layouts[0].ratings.file}."
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
    if member.file_size > MOST_RATINGS_BYTES:
        return (
            f"has {member.file_size:,} bytes unpacked, and at most {MOST_RATINGS_BYTES:,} are read"
        )
    return None
