"""Ratings from text, chunk by chunk: as fast as Arrow reads, as strict as a regular expression.

The regular expression of the fields says what a row is. It takes longer than all else, so that it
is asked only about chunks that a guard of a few passes over the bytes does not clear.
"""

from __future__ import annotations

import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from cf_pipeline.recommender.movielens_rows import (
    LARGEST_ID,
    TYPES,
    UNIT_SEPARATOR,
    malformed_line,
    row_pattern,
    too_large,
    wrong_start,
)
from cf_pipeline.recommender.places import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cf_pipeline.recommender.formats import Format
    from cf_pipeline.recommender.places import Place

RATINGS_SCHEMA = pa.schema(
    [
        pa.field("user", pa.int32(), nullable=False),
        pa.field("movie", pa.int32(), nullable=False),
        pa.field("rating", pa.float32(), nullable=False),
        pa.field("timestamp", pa.timestamp("s", tz="UTC"), nullable=False),
    ]
)
WORKERS = 2
IN_FLIGHT = 6  # chunks: enough to go on with while a row group of them is written
GUARDED = 1 << 18  # bytes that the guard looks at together, so that they stay in the CPU's cache
LONGEST_TIMESTAMP = 10  # digits
LARGEST_RATING = 10**9  # of nine digits
_DOT, _ZERO, _NINE = b".09"


class RatingParser:
    """Parses chunks of whole lines of `written`, a format of ratings, without its header."""

    def __init__(self, written: Format) -> None:
        self._written = written
        self._rows = re.compile(f"(?:{row_pattern(written)})*+".encode())
        self._long = written.separator.encode() if len(written.separator) > 1 else b""
        self._separator = UNIT_SEPARATOR if self._long else written.separator

    def parse(self, chunk: bytes, name: str = "", before: int = 0) -> pa.RecordBatch:
        """Return the rows of a chunk as RATINGS_SCHEMA, which is the same from either way.

        Raises:
            MalformedRowError: a line is not a row; `name` and the lines `before` are those of the
                file.
        """
        batch = self.parse_cleared(chunk)
        return self.parse_strictly(chunk, name, before) if batch is None else batch

    def parse_cleared(self, chunk: bytes) -> pa.RecordBatch | None:
        """Return the rows, or None if it is not clear that each one is as it should be."""
        if UNIT_SEPARATOR.encode() in chunk:
            return None
        split = self._split(chunk)
        n_between = _plain_numbers(split)
        if n_between is None:
            return None
        try:
            table = self._read(split, pa.int32())
        except pa.ArrowInvalid:
            return None
        if n_between != table.num_rows * len(self._written.fields):
            return None
        timestamps, ratings = table["timestamp"], table["rating"]
        if (
            pc.max(timestamps).as_py() >= 10**LONGEST_TIMESTAMP
            or pc.max(ratings).as_py() >= LARGEST_RATING
        ):
            return None
        return _batch(table)

    def parse_strictly(self, chunk: bytes, name: str, before: int) -> pa.RecordBatch:
        """Return the rows, by the regular expression; see `parse`."""
        # Possessive, so that the match ends where the first malformed line begins.
        end = cast("re.Match[bytes]", self._rows.match(chunk)).end()
        if end < len(chunk):
            row = chunk.count(b"\n", 0, end)
            raise malformed_line(name, self._written, chunk[end:], 0, before + row)
        table = self._read(self._split(chunk), pa.int64())
        for column in ("user", "movie"):
            first = pc.index(pc.greater(table[column], LARGEST_ID), True).as_py()
            if first >= 0:
                raise malformed_line(
                    name, self._written, chunk, first, before, cause=too_large(column)
                )
        return _batch(table)

    def _split(self, chunk: bytes) -> bytes:
        return chunk.replace(self._long, self._separator.encode()) if self._long else chunk

    def _read(self, chunk: bytes, ids: pa.DataType) -> pa.Table:
        return csv.read_csv(
            pa.py_buffer(chunk),
            csv.ReadOptions(
                column_names=list(self._written.fields),
                use_threads=False,
                block_size=len(chunk) + 1,
            ),
            csv.ParseOptions(delimiter=self._separator, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types={**TYPES, "user": ids, "movie": ids},
                null_values=[],
                check_utf8=False,
            ),
        )


def rating_batches(place: Place, n_bytes: int = CHUNK) -> Iterator[pa.RecordBatch]:
    """Yield the ratings at `place` in order, as RATINGS_SCHEMA, of some `n_bytes` of text each.

    It takes memory for a few chunks, however many there are.

    Raises:
        MalformedRowError: a line is not a row.
        ArchiveLayoutError: the file is damaged, which the end of it may be the first to tell.
    """
    parser = RatingParser(place.format)
    before = int(bool(place.format.header))
    chunks = _bodies(place, n_bytes)
    with ThreadPoolExecutor(WORKERS) as pool:
        parsed: deque[tuple[bytes, Future[pa.RecordBatch | None]]] = deque()
        while True:
            for chunk in islice(chunks, IN_FLIGHT - len(parsed)):
                parsed.append((chunk, pool.submit(parser.parse_cleared, chunk)))
            if not parsed:
                return
            chunk, future = parsed.popleft()
            batch = future.result()
            if batch is None:
                batch = parser.parse_strictly(chunk, place.name, before)
            before += batch.num_rows
            yield batch


def _bodies(place: Place, n_bytes: int) -> Iterator[bytes]:
    """Yield chunks of lines, without the header; none is empty."""
    chunks = place.lines(n_bytes)
    first = next(chunks, b"")
    if cause := wrong_start(first, place.format):
        raise malformed_line(place.name, place.format, first, 0, cause=cause)
    if place.format.header:
        first = first.partition(b"\n")[2]
    if first:
        yield first
    yield from chunks


def _batch(table: pa.Table) -> pa.RecordBatch:
    (batch,) = table.cast(RATINGS_SCHEMA).combine_chunks().to_batches()
    return batch


def _plain_numbers(chunk: bytes) -> int | None:
    """Return how many bytes are before the dot in ASCII, None if numbers are not plain.

    In a table of plain numbers these are its separators and line ends; more of them would be signs,
    spaces or the like. What is plain has no byte behind the digits, no number that begins with 0
    and another digit, and a dot only between a digit and one place more. Together that is
    sufficient to be rows, for what Arrow reads as two int32, a float and an int64.
    """
    # Arrow would take a carriage return for a line end.
    if not chunk.endswith(b"\n") or b"\r" in chunk:
        return None
    if chunk[:1] == b"0" <= chunk[1:2]:
        return None
    text = np.frombuffer(chunk, np.uint8)
    dots = b"." in chunk
    n_between = 0
    for start in range(0, len(text), GUARDED):
        # Three bytes more, so that each place is looked at with what is behind it.
        piece = text[start : start + GUARDED + 3]
        between = piece < _DOT
        if not _plain_piece(piece, between, dots):
            return None
        n_between += int(np.count_nonzero(between[:GUARDED]))
    return n_between


def _plain_piece(text: np.ndarray, between: np.ndarray, dots: bool) -> bool:
    digit = text >= _ZERO
    if text.max() > _NINE or (between[:-2] & (text[1:-1] == _ZERO) & digit[2:]).any():
        return False
    if not dots:
        return True
    dot = text[1:-2] == _DOT
    plain = dot & digit[:-3] & between[3:]
    return bool(np.count_nonzero(plain) == np.count_nonzero(dot))
