"""Streamed ratings are those of the regular expression, whatever the chunks, in bounded memory."""

import re
import tempfile
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender.datasets import describe, release
from cf_pipeline.recommender.formats import Format
from cf_pipeline.recommender.movielens import RATINGS_SCHEMA
from cf_pipeline.recommender.movielens_files import ratings_place
from cf_pipeline.recommender.movielens_rows import MalformedRowError, row_pattern
from cf_pipeline.recommender.places import ArchiveLayoutError, Place
from cf_pipeline.recommender.rating_chunks import RatingParser, rating_batches
from cf_pipeline.recommender.rating_table import Origin, write_ratings
from cf_pipeline_tests.recommender.memory import MEASURED, peak_memory
from cf_pipeline_tests.recommender.releases import RATINGS_HEADER

FORMATS = {name: release(name).layouts[0].ratings for name in ("ml-100k", "ml-1m", "ml-20m")}


def lines(written: Format, rows: list[list[str]]) -> bytes:
    return "".join(written.separator.join(row) + "\n" for row in rows).encode()


# --- the guard

good_rows = st.tuples(
    st.integers(0, 2**31 - 1).map(str),
    st.integers(0, 2**31 - 1).map(str),
    st.sampled_from(["0", "0.5", "3", "4.0", "5.5", "999999999", "123456.7"]),
    st.integers(0, 10**10 - 1).map(str),
).map(list)
# What is nearly a number: some are rows for the regular expression, and few of them for the guard.
# fmt: off
ODD = (
    "007", "00", "-0", "-1", "+1", "1.", ".5", "1..5", "5..", "..", ".", "1.2.3", "3.55", "1/2",
    "1e3", "3.5000000000", "0x1F", "nan", "inf", "", " 1", "1 ", "2147483648", "9999999999",
    "99999999999", "1000000000", "9999999999.5", "1_0", "1\r", "1\x1f2", "18446744073709551617",
)
# fmt: on
odd_values = st.text("0123456789.-+,:\t \x1fexn\r\n", max_size=12) | st.sampled_from(ODD)


@st.composite
def chunks(draw: st.DrawFn, written: Format) -> bytes:
    """Lines of which some fields are odd, and perhaps some bytes as well."""
    rows = draw(st.lists(good_rows, max_size=6))
    for row in rows:
        if draw(st.integers(0, 2)) == 0:
            row[draw(st.integers(0, 3))] = draw(odd_values)
    chunk = bytearray(lines(written, rows))
    for _ in range(draw(st.integers(0, 1))):
        place = draw(st.integers(0, len(chunk)))
        chunk[place : place + draw(st.integers(0, 2))] = draw(
            st.sampled_from(
                [b"", b"\n", b"\n\n", b"\r", b"\t", b":", b",", b".", b"/", b"0", b"-", b"\x1f"]
            )
        )
    return bytes(chunk).replace(b"\n", b"\r", draw(st.sampled_from([0, 0, 0, 1])))


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_the_guard_clears_nothing_that_the_regular_expression_refuses(
    name: str, data: st.DataObject
) -> None:
    hold_guard_to_rows(FORMATS[name], data.draw(chunks(FORMATS[name])))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("odd", ODD)
def test_the_guard_clears_no_odd_value(name: str, odd: str) -> None:
    good = ["1", "2", "3.5", "4"]
    for field in range(4):
        row = [*good[:field], odd, *good[field + 1 :]]
        for rows in ([row], [row, good], [good, row]):
            hold_guard_to_rows(FORMATS[name], lines(FORMATS[name], rows))


def hold_guard_to_rows(written: Format, chunk: bytes) -> None:
    cleared = RatingParser(written).parse_cleared(chunk)
    if cleared is not None:
        assert re.fullmatch(f"(?:{row_pattern(written)})*".encode(), chunk)
        assert cleared == RatingParser(written).parse_strictly(chunk, "", 0)
        assert cleared.schema == RATINGS_SCHEMA


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=50)
@given(rows=st.lists(good_rows, min_size=1))
@example(rows=[["0", "0", "0.5", "0"]])
def test_the_guard_clears_what_releases_hold(name: str, rows: list[list[str]]) -> None:
    written = FORMATS[name]
    batch = RatingParser(written).parse_cleared(lines(written, rows))
    if all(float(row[2]) < 999_999_900 for row in rows):  # or float32 rounds it up
        assert batch is not None
        assert batch["user"].to_pylist() == [int(row[0]) for row in rows]
        assert (
            batch["rating"].to_pylist()
            == pa.array([float(row[2]) for row in rows], pa.float32()).to_pylist()
        )


# --- chunks


def place_of(folder: Path, name: str, data: bytes) -> Place:
    describe(folder, name)
    (folder / FORMATS[name].file).write_bytes(data)
    return ratings_place(folder)


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=40)
@given(data=st.data(), n_bytes=st.integers(1, 100))
def test_where_chunks_end_does_not_matter(name: str, data: st.DataObject, n_bytes: int) -> None:
    written = FORMATS[name]
    rows = data.draw(st.lists(good_rows, min_size=1, max_size=30))
    bad = data.draw(st.none() | st.integers(0, len(rows) - 1))
    if bad is not None:
        rows[bad][data.draw(st.integers(0, 3))] = "x"
    text = lines(written, rows)
    if data.draw(st.booleans()):
        text = text.replace(b"\n", b"\r\n")
    header = f"{written.header}\n".encode() if written.header else b""
    with tempfile.TemporaryDirectory() as folder:
        place = place_of(Path(folder), name, header + text)
        if bad is None:
            found = pa.Table.from_batches(rating_batches(place, n_bytes), RATINGS_SCHEMA)
            assert found == pa.Table.from_batches(rating_batches(place), RATINGS_SCHEMA)
            assert found["timestamp"].cast(pa.int64()).to_pylist() == [int(row[3]) for row in rows]
        else:
            with pytest.raises(MalformedRowError) as caught:
                list(rating_batches(place, n_bytes))
            assert caught.value.line == bad + 1 + bool(header)


def test_a_line_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    row = RATINGS_HEADER.encode() + b"1,2,3.5,4\n"
    place = place_of(tmp_path, "ml-20m", row + b"9" * (1 << 26))
    first = next(chunk for chunk in place.lines() if chunk.startswith(b"9"))
    assert len(first) <= (16 << 20) + (4 << 20)
    with pytest.raises(MalformedRowError, match="line 3: 1 fields where 4 are expected"):
        list(rating_batches(place))


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    place = place_of(tmp_path, "ml-100k", b"1\t2\t3\t4\n" * 10)
    place.file.write_bytes(b"1\t2\t3\t4\n")
    with pytest.raises(ArchiveLayoutError, match="ends after 8 of 80 bytes"):
        list(rating_batches(place))


# --- memory


def _stream(folder: Path) -> None:
    """Write as many million ratings as the folder's name says, from text to parquet."""
    place = ratings_place(folder)
    write_ratings(
        rating_batches(place),
        RATINGS_SCHEMA,
        folder / "ratings.parquet",
        Origin("ml-20m", None),
        print,
    )


@MEASURED
def test_memory_does_not_grow_with_the_ratings(tmp_path: Path) -> None:
    peaks = []
    block = "".join(f"{n},{n * 7},3.5,{n + 10**9}\n" for n in range(100_000, 200_000)).encode()
    for blocks in (15, 60):
        folder = tmp_path / str(blocks)
        folder.mkdir()
        describe(folder, "ml-20m")
        with (folder / "ratings.csv").open("wb") as file:
            file.writelines(chain([RATINGS_HEADER.encode()], [block] * blocks))
        peaks.append(peak_memory(_stream, folder))
    few, many = peaks
    assert many - few < 64 << 20  # of 122 MB of text more, or 90 MB of columns
