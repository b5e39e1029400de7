"""The rows of MovieLens 100k's tables, parsed strictly.

A table's format gives each field a regular expression. A line that does not match its fields is a
MalformedRowError: nothing is dropped, and nothing coerced.
"""

from __future__ import annotations

import codecs
import io
import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

if TYPE_CHECKING:
    from cf_pipeline.recommender.movielens_files import Member

# fmt: off
# u.genre: the names of u.item's flags, in their order.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# fmt: on
LARGEST_ID = 2**31 - 1
LONGEST_TEXT = 1000  # characters, several times those of MovieLens 100k's longest address
BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_ID = r"(?:0|[1-9][0-9]{0,9})"  # a leading zero would be lost in the number
_DATE = rf"[0-9]{{1,2}}-(?:{'|'.join(MONTHS)})-[0-9]{{4}}"  # 01-Jan-1995, and once 4-Feb-1971
_GENRE = f"(?:{'|'.join(map(re.escape, GENRES))})"
_TEXT = rf"[^|\x00-\x1f\x7f-\x9f]{{1,{LONGEST_TEXT}}}"  # no control characters, such as tabs
_RATING = {
    "user": _ID,
    "movie": _ID,
    "rating": r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?",
    "timestamp": r"[0-9]{1,10}",  # seconds: milliseconds would have more digits
}
_USER = {
    "user": _ID,
    "age": r"[0-9]{1,3}",
    "gender": "[MF]",
    "occupation": _TEXT,
    "zip": _TEXT,
}
_ARCHIVE_MOVIE = {
    "movie": _ID,
    "title": _TEXT,
    "release_date": f"(?:{_DATE})?",
    "video_release_date": f"(?:{_TEXT})?",
    "imdb_url": f"(?:{_TEXT})?",
    **dict.fromkeys(GENRES, "[01]"),
}
_RECBOLE_MOVIE = {
    "movie": _ID,
    "title": _TEXT,
    "release_year": _TEXT,
    "genres": f"{_GENRE}(?: {_GENRE}){{0,{len(GENRES) - 1}}}",
}


class _Format(NamedTuple):
    """How a table is written; `fields` gives, in order, what each must match."""

    separator: str
    fields: dict[str, str]
    encoding: str = "latin-1"
    header: str = ""


_FORMATS = {
    "u.data": _Format("\t", _RATING),
    "u.item": _Format("|", _ARCHIVE_MOVIE),
    "u.user": _Format("|", _USER),
    "ml-100k.inter": _Format(
        "\t", _RATING, "utf-8", "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    ),
    "ml-100k.item": _Format(
        "\t",
        _RECBOLE_MOVIE,
        "utf-8",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
    ),
    "ml-100k.user": _Format(
        "\t",
        _USER,
        "utf-8",
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token",
    ),
}
_TYPES = {
    "user": pa.int64(),
    "movie": pa.int64(),
    "rating": pa.float32(),
    "timestamp": pa.int64(),
    "age": pa.int16(),
}


class MalformedRowError(ValueError):
    """A line is not a row of its table; `file` and `line` (counted from 1) say which."""

    def __init__(self, file: str, line: int, text: str, cause: str) -> None:
        super().__init__(
            f"{file}, line {line}: {cause}, in {text[:120]!r}. "
            "Correct the line, or fetch the archive again."
        )
        self.file = file
        self.line = line


def malformed(member: Member, row: int, cause: str) -> MalformedRowError:
    """Return the error for row `row`, counted from 0, of a table; -1 is the header."""
    layout = _FORMATS[member.file]
    line = row + bool(layout.header)
    text = next(islice(io.BytesIO(member.data), line, None), b"").rstrip(b"\n")[:500]
    decoded = text.decode(layout.encoding, "backslashreplace")
    return MalformedRowError(member.name, line + 1, decoded, cause)


def parse(member: Member) -> pa.Table:
    """Return every row of a table, in file order; a file without rows gives a table without.

    Ids and timestamps are int64 (ids fit int32), ratings float32, ages int16, the rest strings.

    Raises:
        MalformedRowError: a line is not a row.
    """
    layout = _FORMATS[member.file]
    text = _body(member, layout)
    # Possessive, so that the match ends where the first malformed line begins.
    row = re.escape(layout.separator).join(f"(?:{field})" for field in layout.fields.values())
    end = cast("re.Match[str]", re.match(f"(?:{row}\n)*+", text)).end()
    if end < len(text):
        raise malformed(member, text.count("\n", 0, end), _fault(text[end:], layout))
    types = {name: _TYPES.get(name, pa.string()) for name in layout.fields}
    if not text:  # which Arrow's reader refuses
        return pa.schema(types).empty_table()
    table = csv.read_csv(
        pa.py_buffer(text.encode()),
        csv.ReadOptions(column_names=list(layout.fields)),
        csv.ParseOptions(delimiter=layout.separator, quote_char=False),
        csv.ConvertOptions(column_types=types),
    )
    for name in {"user", "movie"} & layout.fields.keys():
        first = pc.index(pc.greater(table[name], LARGEST_ID), True).as_py()
        if first >= 0:
            raise malformed(member, first, f"{name} is larger than {LARGEST_ID} (int32)")
    return table


def _body(member: Member, layout: _Format) -> str:
    """Return the lines after the header."""
    if member.data.startswith(BYTE_ORDER_MARKS):
        cause = f"a byte order mark is before it, so save the file as {layout.encoding} without one"
        raise malformed(member, -bool(layout.header), cause)
    try:
        text = member.data.decode(layout.encoding)
    except UnicodeDecodeError as error:
        row = member.data.count(b"\n", 0, error.start) - bool(layout.header)
        raise malformed(member, row, f"the text is not {layout.encoding}") from None
    if not layout.header:
        return text
    header, _, body = text.partition("\n")
    if header != layout.header:
        raise malformed(member, -1, f"the header is not {layout.header!r}")
    return body


def _fault(text: str, layout: _Format) -> str:
    """Return what is wrong with the first line of `text`."""
    line = text.partition("\n")[0]
    n_fields = line.count(layout.separator) + 1
    if n_fields != len(layout.fields):
        names = ", ".join(layout.fields)
        return f"{n_fields:,} fields where {len(layout.fields)} are expected ({names})"
    values = line.split(layout.separator)
    for (name, pattern), value in zip(layout.fields.items(), values, strict=True):
        if len(value) > LONGEST_TEXT:
            return f"{name} has {len(value):,} characters, more than {LONGEST_TEXT:,}"
        if not re.fullmatch(pattern, value):
            return f"{name} cannot be {value[:40]!r}"
    return "the line has no end, so the file may be cut short"
