"""Archives and tables made to harm whoever reads them, and what the refusal must say.

`attempt` needs no pytest, so that a benchmark can go through HOSTILE as the tests do.
"""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cf_pipeline.recommender.movielens_rows import LARGEST_ID, MalformedRowError
from cf_pipeline.recommender.places import MOST_BYTES, ArchiveLayoutError
from cf_pipeline.recommender.sources import (
    ArchiveUnavailableError,
    fetch_archive,
    source_fingerprints,
)
from cf_pipeline_tests.recommender.escaped import EscapedError, told
from cf_pipeline_tests.recommender.layouts import TOY_STORY, folder_with, read

RATINGS = b"196\t242\t3\t881250949\n"
GIB = 1 << 30

Write = Callable[[Path], Path]


class Hostile(NamedTuple):
    """`write` makes the input in an empty folder, and returns what is given as a source."""

    name: str
    write: Write
    text: str


def attempt(hostile: Hostile, folder: Path) -> str:
    """Return the error with which such an input is refused, in an empty `folder`.

    Raises:
        EscapedError: it was not refused, not with the right message, or it left something.
    """
    given, destination = folder / "given", folder / "archive"
    given.mkdir()
    source = str(hostile.write(given))
    before = sorted(folder.rglob("*"))
    source_fingerprints([source])
    try:
        fetch_archive(destination, [source], timeout=60, retries=0, log=lambda _: None)
        fetched = sorted(destination.rglob("*"))
        read(destination)
    except ArchiveUnavailableError as error:
        message, fetched = error.causes[source], []
    except (ArchiveLayoutError, MalformedRowError) as error:
        message = str(error)
    else:
        raise EscapedError("it was read")
    if sorted(folder.rglob("*")) != sorted([*before, destination, *fetched]):
        raise EscapedError("it left something behind")
    return told(message, hostile.text)


# --- zips


def zipped(*names: str, ratings: bytes = RATINGS, method: int = zipfile.ZIP_DEFLATED) -> Write:
    """Return what writes a zip of the ratings and of empty members of these names."""

    def write(folder: Path) -> Path:
        path = folder / "ml-100k.zip"
        with zipfile.ZipFile(path, "w", method) as members:
            members.writestr("ml-100k/u.data", ratings)
            for name in names:
                info = zipfile.ZipInfo("x")
                info.filename = name  # which ZipInfo would tidy up
                members.writestr(info, b"")
        return path

    return write


def patched(write: Write, name: str, value: int, kind: str = "<H") -> Write:
    """Return what writes a zip and then puts `value` into both headers of its first member."""
    # Where a field is in the local header, and in the central directory.
    places = {"flags": (6, 8), "method": (8, 10), "length": (22, 24)}[name]

    def patch(folder: Path) -> Path:
        path = write(folder)
        data = bytearray(path.read_bytes())
        starts = 0, data.index(b"PK\1\2")
        for start, place in zip(starts, places, strict=True):
            struct.pack_into(kind, data, start + place, value)
        path.write_bytes(data)
        return path

    return patch


def _symlink(folder: Path) -> Path:
    path = zipped()(folder)
    link = zipfile.ZipInfo("ml-100k/u.item")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as members:
        members.writestr(link, "/etc/passwd")
    return path


def _nul_in_name(folder: Path) -> Path:
    path = zipped("ml-100k/u.user#.exe")(folder)
    path.write_bytes(path.read_bytes().replace(b"u.user#", b"u.user\0"))
    return path


def _twice(folder: Path) -> Path:
    path = zipped("ml-100k/u.dat_")(folder)
    path.write_bytes(path.read_bytes().replace(b"u.dat_", b"u.data"))
    return path


def _lying_bomb(folder: Path) -> Path:
    """A gibibyte of zeros, of which the headers say that it is a hundred bytes."""
    packer = zlib.compressobj(9, wbits=-15)
    chunk = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    write = zipped(ratings=chunk * 64, method=zipfile.ZIP_STORED)
    return patched(patched(write, "method", zipfile.ZIP_DEFLATED), "length", 100, "<L")(folder)


def _cut(folder: Path) -> Path:
    path = zipped()(folder)
    os.truncate(path, path.stat().st_size // 2)
    return path


def _nested(folder: Path) -> Path:
    inner = zipped()(folder)
    outer = folder / "outer.zip"
    with zipfile.ZipFile(outer, "w") as members:
        members.write(inner, "ml-100k.zip")
    return outer


def _many_members(folder: Path) -> Path:
    """As many members as fit into the bytes that are read; they have names, and nothing else."""
    count = MOST_BYTES // 52
    entry = struct.Struct("<4s4B4HL2L5H2L")
    head = entry.pack(b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0)
    directory = b"".join(head + b"%05x" % number for number in range(count))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(directory), 0, 0)
    (folder / "ml-100k.zip").write_bytes(directory + end)
    return folder / "ml-100k.zip"


def _large_zip(folder: Path) -> Path:
    path = zipped()(folder)
    data = path.read_bytes()
    with path.open("wb") as file:
        file.seek(20 * GIB)  # a hole; what is before a zip does not make it less of one
        file.write(data)
    return path


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "ml-100k.zip")
    return folder / "ml-100k.zip"


def _file(data: bytes) -> Write:
    def write(folder: Path) -> Path:
        (folder / "ml-100k.zip").write_bytes(data)
        return folder / "ml-100k.zip"

    return write


OUTSIDE = "has a name that leads out of its folder"
ZIPS = [
    Hostile("an absolute member", zipped("/tmp/escaped"), OUTSIDE),
    Hostile("a member of the folder above", zipped("../escaped"), OUTSIDE),
    Hostile("a member that climbs out", zipped("ml-100k/../../escaped"), OUTSIDE),
    Hostile("a member with a backslash", zipped("ml-100k\\..\\..\\escaped"), OUTSIDE),
    Hostile("a member with a drive", zipped("C:/escaped"), OUTSIDE),
    Hostile("a member with a NUL", _nul_in_name, OUTSIDE),
    Hostile("a member that is a symbolic link", _symlink, "is a symbolic link"),
    Hostile("a member that occurs twice", _twice, "occurs twice"),
    Hostile("a bomb", zipped(ratings=bytes(MOST_BYTES + 1)), "u.data, line 1: 1 fields"),
    Hostile(
        "a member that declares 4 GiB",
        patched(zipped(), "length", 0xFFFFFFFE, "<L"),
        "ends after 20 of 4,294,967,294 bytes",
    ),
    Hostile("a bomb that declares 100 bytes", _lying_bomb, "Bad CRC-32"),
    Hostile(
        "a member that declares a byte more than it has",
        patched(zipped(), "length", len(RATINGS) + 1, "<L"),
        "ends after 20 of 21 bytes",
    ),
    Hostile("an encrypted member", patched(zipped(), "flags", 1), "is encrypted"),
    Hostile("a member packed by LZMA", zipped(method=zipfile.ZIP_LZMA), "with method 14"),
    Hostile("a member packed by bzip2", zipped(method=zipfile.ZIP_BZIP2), "with method 12"),
    Hostile("a zip cut short", _cut, "Neither u.data nor one sound zip"),
    Hostile("a zip in a zip", _nested, "has none of"),
    Hostile("a zip of 645,000 members", _many_members, "has none of"),
    Hostile("a zip of 20 GiB", _large_zip, "at most 17,179,869,184 are read"),
    Hostile("an empty file", _file(b""), "Neither u.data nor one sound zip"),
    Hostile("a web page", _file(b"<html>Sign in</html>"), "Neither u.data nor one sound zip"),
    Hostile("a named pipe", _pipe, "Not a directory"),
]


# --- tables


def ratings(data: bytes) -> Write:
    """Return what writes a folder with `data` as its u.data."""

    def write(folder: Path) -> Path:
        (folder / "u.data").write_bytes(data)
        return folder

    return write


def movies(line: str) -> Write:
    return lambda folder: folder_with(folder, item=f"{TOY_STORY}\n{line}\n")


def _sparse(folder: Path) -> Path:
    """What would be a billion ratings, of 20 bytes each; it takes no room on the disk."""
    (folder / "u.data").touch()
    os.truncate(folder / "u.data", 20 * 10**9)
    return folder


LINE = RATINGS.decode()
TABLES = [
    Hostile("a billion rows", _sparse, "20,000,000,000 bytes"),
    Hostile("NUL bytes", ratings(RATINGS + bytes(21)), "u.data, line 2: 1 fields"),
    Hostile("a NUL in a number", ratings(b"1\t2\0\t3\t4\n"), r"movie cannot be '2\x00'"),
    Hostile("UTF-16", ratings(LINE.encode("utf-16")), "byte order mark"),
    Hostile("UTF-16 without its mark", ratings(LINE.encode("utf-16-le")), "user cannot be"),
    Hostile("a byte order mark", ratings(LINE.encode("utf-8-sig")), "byte order mark"),
    Hostile("lines that end in \\r", ratings(RATINGS.replace(b"\n", b"\r")), "timestamp cannot be"),
    Hostile("a column too few", ratings(b"1\t2\t3\n"), "3 fields where 4 are expected"),
    Hostile("a column too many", ratings(b"1\t2\t3\t4\t5\n"), "5 fields where 4 are expected"),
    Hostile("NaN", ratings(b"1\t2\tNaN\t4\n"), "rating cannot be 'NaN'"),
    Hostile("infinity", ratings(b"1\t2\tinf\t4\n"), "rating cannot be 'inf'"),
    Hostile("a rating of 1e999", ratings(b"1\t2\t1e999\t4\n"), "rating cannot be '1e999'"),
    Hostile("a negative id", ratings(b"-1\t2\t3\t4\n"), "user cannot be '-1'"),
    Hostile("an id beyond int32", ratings(b"1\t%d\t3\t4\n" % (LARGEST_ID + 1)), "movie is larger"),
    Hostile("an id beyond int64", ratings(b"1\t%d\t3\t4\n" % 2**64), "movie cannot be"),
    Hostile("a line of 10 MB", ratings(b"9" * 10**7 + b"\t2\t3\t4\n"), "user has 10,000,000"),
    Hostile("10 million columns", ratings(b"\t" * 10**7 + b"\n"), "10,000,001 fields where 4"),
    Hostile("30 million lines", ratings(RATINGS + b"\n" * (30 << 20)), "line 2: 1 fields"),
    Hostile("no line end", ratings(RATINGS.strip()), "the line has no end"),
    Hostile(
        "a control character",
        movies(TOY_STORY.replace("Toy", "\x1b[31mToy", 1)),
        r"title cannot be '\x1b[31mToy Story (1995)'",
    ),
    Hostile(
        "a title of 10 MB", movies(TOY_STORY.replace("Toy", "T" * 10**7, 1)), "title has 10,000,013"
    ),
    Hostile(
        "a day that never was",
        movies(TOY_STORY.replace("01-Jan-1995", "30-Feb-0000")),
        "release_date cannot be '30-Feb-0000'",
    ),
]
HOSTILE = ZIPS + TABLES
