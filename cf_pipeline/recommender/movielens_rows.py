"""The rows of MovieLens' tables of movies and users, parsed strictly, and what is wrong with a row.

A table's format gives each field a regular expression. A line that does not match its fields is a
MalformedRowError: nothing is dropped, and nothing coerced.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from cf_pipeline.recommender.formats import LONGEST_TEXT

if TYPE_CHECKING:
    from cf_pipeline.recommender.formats import Format
    from cf_pipeline.recommender.places import Place

LARGEST_ID = 2**31 - 1
BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Arrow wants one byte between fields; this one is in no field, as it is a control character.
UNIT_SEPARATOR = "\x1f"

TYPES = {
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


class Member(NamedTuple):
    """A table as it was read: its name, its bytes with Unix line ends, and its format."""

    name: str
    data: bytes
    format: Format

    @classmethod
    def of(cls, place: Place) -> Self:
        """Read the table, which must be short."""
        return cls(place.name, place.read(), place.format)


def malformed(member: Member, row: int, cause: str) -> MalformedRowError:
    """Return the error for row `row`, counted from 0, of a table; -1 is the header."""
    line = row + bool(member.format.header)
    return malformed_line(member.name, member.format, member.data, line, cause=cause)


def malformed_line(
    name: str, written: Format, data: bytes, line: int, before: int = 0, cause: str | None = None
) -> MalformedRowError:
    """Return the error for line `line` of `data`, counted from 0, before which `before` others are.

    Without a cause it is what the line's fields say.
    """
    start = 0
    for _ in range(line):
        start = data.index(b"\n", start) + 1
    end = data.find(b"\n", start)
    text = data[start : end if end >= 0 else len(data)]
    shown = text[:500].decode(written.encoding, "backslashreplace")
    return MalformedRowError(name, before + line + 1, shown, cause or fault(text, written))


def row_pattern(written: Format) -> str:
    """Return the regular expression of a row, its line end included."""
    separator = re.escape(written.separator)
    return separator.join(f"(?:{field})" for field in written.fields.values()) + "\n"


def parse(member: Member) -> pa.Table:
    """Return every row of a table, in file order; a file without rows gives a table without.

    Ids are int64 (they fit int32), ages int16, the rest strings.

    Raises:
        MalformedRowError: a line is not a row.
    """
    written = member.format
    text = _body(member)
    # Possessive, so that the match ends where the first malformed line begins.
    end = cast("re.Match[str]", re.match(f"(?:{row_pattern(written)})*+", text)).end()
    if end < len(text):
        row = text.count("\n", 0, end)
        line = text[end:].partition("\n")[0].encode(written.encoding)
        raise malformed(member, row, fault(line, written))
    types = {name: TYPES.get(name, pa.string()) for name in written.fields}
    if not text:  # which Arrow's reader refuses
        return pa.schema(types).empty_table()
    separator = written.separator
    if len(separator) > 1:
        text, separator = text.replace(separator, UNIT_SEPARATOR), UNIT_SEPARATOR
    table = csv.read_csv(
        pa.py_buffer(text.encode()),
        csv.ReadOptions(column_names=list(written.fields)),
        csv.ParseOptions(delimiter=separator, quote_char='"' if written.quoted else False),
        csv.ConvertOptions(column_types=types),
    )
    for name in {"user", "movie"} & written.fields.keys():
        first = pc.index(pc.greater(table[name], LARGEST_ID), True).as_py()
        if first >= 0:
            raise malformed(member, first, too_large(name))
    return table


def too_large(name: str) -> str:
    """Return what is wrong with an id that does not fit int32."""
    return f"{name} is larger than {LARGEST_ID} (int32)"


def wrong_start(data: bytes, written: Format) -> str | None:
    """Return what is wrong with how a file begins, its mark or header, if anything is."""
    if data.startswith(BYTE_ORDER_MARKS):
        return f"a byte order mark is before it, so save the file as {written.encoding} without one"
    if written.header and data.partition(b"\n")[0] != written.header.encode():
        return f"the header is not {written.header!r}"
    return None


def _body(member: Member) -> str:
    """Return the lines after the header."""
    written = member.format
    if cause := wrong_start(member.data, written):
        raise malformed(member, -bool(written.header), cause)
    try:
        text = member.data.decode(written.encoding)
    except UnicodeDecodeError as error:
        row = member.data.count(b"\n", 0, error.start) - bool(written.header)
        raise malformed(member, row, f"the text is not {written.encoding}") from None
    return text.partition("\n")[2] if written.header else text


def fault(data: bytes, written: Format) -> str:
    """Return what is wrong with a line, without its end."""
    try:
        line = data.decode(written.encoding)
    except UnicodeDecodeError:
        return f"the text is not {written.encoding}"
    values = _split(line, written)
    if len(values) != len(written.fields):
        names = ", ".join(written.fields)
        return f"{len(values):,} fields where {len(written.fields)} are expected ({names})"
    for (name, pattern), value in zip(written.fields.items(), values, strict=True):
        if len(value) > LONGEST_TEXT:
            return f"{name} has {len(value):,} characters, more than {LONGEST_TEXT:,}"
        if not re.fullmatch(pattern, value):
            return f"{name} cannot be {value[:40]!r}"
    return "the line has no end, so the file may be cut short"


def _split(line: str, written: Format) -> list[str]:
    if not written.quoted:
        return line.split(written.separator)
    separator = re.escape(written.separator)
    field = rf'((?:"[^"]*+"|[^"{separator}]++|")*+){separator}'
    return re.findall(field, line + written.separator)
