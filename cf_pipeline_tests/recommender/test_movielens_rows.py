"""Every row is read as it was written, and a line that is not a row is named."""

import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender.formats import GENRES
from cf_pipeline.recommender.movielens import (
    MOVIES_SCHEMA,
    RATINGS_SCHEMA,
    USERS_SCHEMA,
    read_movies,
    read_ratings,
)
from cf_pipeline.recommender.movielens_rows import LARGEST_ID, MalformedRowError
from cf_pipeline_tests.recommender.layouts import (
    TOY_STORY,
    Tables,
    archive_files,
    folder_with,
    read,
    recbole_files,
    write_wheel,
)

RECBOLE = "recbole/dataset_example/ml-100k/"


# --- malformed rows

GOOD = {
    "data": "1\t2\t3\t4",
    "item": TOY_STORY,
    "user": "1|24|M|technician|85711",
}


@pytest.mark.parametrize(
    ("table", "line", "cause"),
    [
        ("data", "1\t2\t3", "3 fields where 4 are expected"),
        ("data", "1\t2\t3\t4\t5", "5 fields where 4 are expected"),
        ("data", "", "1 fields where 4 are expected"),
        ("data", "x\t2\t3\t4", "user cannot be 'x'"),
        ("data", "1.0\t2\t3\t4", "user cannot be '1.0'"),
        ("data", "-1\t2\t3\t4", "user cannot be '-1'"),
        ("data", "01\t2\t3\t4", "user cannot be '01'"),
        ("data", " 1\t2\t3\t4", "user cannot be ' 1'"),
        ("data", "\u0661\t2\t3\t4".encode().decode("latin-1"), "user cannot be"),
        ("data", f"1\t{LARGEST_ID + 1}\t3\t4", "movie is larger than 2147483647"),
        ("data", "1\t0x2\t3\t4", "movie cannot be '0x2'"),
        ("data", "1\t\t3\t4", "movie cannot be ''"),
        ("data", "1\t2\tnan\t4", "rating cannot be 'nan'"),
        ("data", "1\t2\tinf\t4", "rating cannot be 'inf'"),
        ("data", "1\t2\t1e40\t4", "rating cannot be '1e40'"),
        ("data", "1\t2\t3,5\t4", "rating cannot be '3,5'"),
        ("data", "1\t2\t3\t4.5", "timestamp cannot be '4.5'"),
        ("data", "1\t2\t3\t881250949000", "timestamp cannot be '881250949000'"),
        ("data", "1\t2\t3\t4\r\r", "timestamp cannot be '4\\r'"),
        ("item", TOY_STORY + "|0", "25 fields where 24 are expected"),
        ("item", TOY_STORY.replace("|0|0|", "|2|0|", 1), "unknown cannot be '2'"),
        ("item", TOY_STORY.replace("-Jan-", "-JAN-"), "release_date cannot"),
        ("item", TOY_STORY.replace("01-Jan", "31-Feb"), "release_date cannot"),
        ("item", TOY_STORY.replace("Toy Story (1995)", "", 1), "title cannot"),
        ("user", "1|24|X|technician|85711", "gender cannot be 'X'"),
        ("user", "1||M|technician|85711", "age cannot be ''"),
        ("user", "1|24|M||85711", "occupation cannot be ''"),
    ],
)
def test_a_malformed_row_is_named(table: str, line: str, cause: str, tmp_path: Path) -> None:
    content = f"{GOOD[table]}\n{line}\n{GOOD[table]}\n"
    folder = folder_with(tmp_path, **{table: content})
    with pytest.raises(MalformedRowError) as caught:
        read(folder)
    assert (caught.value.file, caught.value.line) == (f"u.{table}", 2)
    assert f"u.{table}, line 2: {cause}" in str(caught.value)
    assert "Correct the line, or fetch the archive again" in str(caught.value)


def test_a_long_malformed_row_is_cut(tmp_path: Path) -> None:
    with pytest.raises(MalformedRowError) as caught:
        read_ratings(folder_with(tmp_path, data="9" * 100_000 + "\n"))
    assert len(str(caught.value)) < 500


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedRowError, match="no end"):
        read_ratings(folder_with(tmp_path, data="1\t2\t3\t4\n1\t2\t3\t4"))


def test_a_file_without_rows_is_a_table_without(tables: Tables, tmp_path: Path) -> None:
    """That there must be ratings is a check's to say, which blocks what would be made of them."""
    header = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    write_wheel(tables, tmp_path / "recbole.whl", {"ml-100k.inter": header})
    (tmp_path / "folder").mkdir()
    for archive in (folder_with(tmp_path / "folder", data=""), tmp_path):
        empty = read_ratings(archive)
        assert (empty.num_rows, empty.schema) == (0, tables.ratings.schema)


@pytest.mark.parametrize(
    ("inter", "line", "cause"),
    [
        (b"user\titem\trating\ttimestamp\n1\t2\t3\t4\n", 1, "the header is not"),
        (b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\n", 2, "fields where"),
        (b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n\xff\n", 2, "not utf-8"),
    ],
)
def test_a_malformed_row_of_the_wheel_is_named(
    inter: bytes, line: int, cause: str, tables: Tables, tmp_path: Path
) -> None:
    write_wheel(tables, tmp_path / "recbole.whl", {"ml-100k.inter": inter})
    with pytest.raises(MalformedRowError, match=cause) as caught:
        read_ratings(tmp_path)
    assert (caught.value.file, caught.value.line) == (f"{RECBOLE}ml-100k.inter", line)


def test_an_unknown_genre_of_the_wheel_is_named(tables: Tables, tmp_path: Path) -> None:
    item = recbole_files(tables)["ml-100k.item"].replace(b"\tComedy\n", b"\tComdey\n", 1)
    write_wheel(tables, tmp_path / "recbole.whl", {"ml-100k.item": item})
    with pytest.raises(MalformedRowError, match="genres cannot be 'Comdey'"):
        read_movies(tmp_path)


# --- properties

ids = st.integers(0, LARGEST_ID)
# What a field of text may hold: anything latin-1 but the separator and control characters.
texts = st.text(
    st.characters(codec="latin-1", exclude_categories=["Cc"], exclude_characters="|"),
    min_size=1,
    max_size=20,
)
titles = texts.map(str.strip).filter(bool)
rating_rows = st.fixed_dictionaries(
    {
        "user": ids,
        "movie": ids,
        "rating": st.integers(-10, 10).map(lambda halves: halves / 2),
        "timestamp": st.integers(0, 10**10 - 1),
    }
)
movie_rows = st.fixed_dictionaries(
    {
        "movie": ids,
        "title": titles,
        "release_date": st.none() | st.dates(date(1000, 1, 1), date(9999, 12, 31)),
        "imdb_url": st.none() | texts,
        "genres": st.sets(st.sampled_from(GENRES)).map(lambda some: sorted(some, key=GENRES.index)),
    }
)
user_rows = st.fixed_dictionaries(
    {
        "user": ids,
        "age": st.integers(0, 999),
        "gender": st.sampled_from("MF"),
        "occupation": texts,
        "zip": texts,
    }
)


def tables_of(rows: st.SearchStrategy[Any], schema: pa.Schema) -> st.SearchStrategy[pa.Table]:
    return st.builds(pa.Table.from_pylist, st.lists(rows, min_size=1), st.just(schema))


some_tables = st.builds(
    Tables,
    tables_of(rating_rows, RATINGS_SCHEMA),
    tables_of(movie_rows, MOVIES_SCHEMA),
    tables_of(user_rows, USERS_SCHEMA),
)


@settings(deadline=None)
@given(some_tables)
def test_what_is_written_is_read(tables: Tables) -> None:
    with tempfile.TemporaryDirectory() as name:
        for file, data in archive_files(tables).items():
            (Path(name) / file).write_bytes(data)
        ratings, movies, users = read(Path(name))
    assert ratings == tables.ratings
    assert users == tables.users
    assert movies.drop("release_year") == tables.movies.drop("release_year")


@settings(deadline=None)
@given(st.text("0123456789.-x \t\n", max_size=200))
def test_no_line_is_dropped(text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = folder_with(Path(name), data=text)
        try:
            n_rows, line = read_ratings(folder).num_rows, None
        except MalformedRowError as error:
            n_rows, line = 0, error.line
    assert n_rows == text.count("\n") if line is None else line <= text.count("\n") + 1


@settings(deadline=None)
@given(
    st.lists(rating_rows, min_size=1),
    st.data(),
    st.sampled_from(["", "x", "nan", "1 ", "+1", "0x1", "1e3", "99999999999"]),
)
def test_the_first_malformed_row_is_the_one_named(
    rows: list[dict[str, object]], data: st.DataObject, bad: str
) -> None:
    lines = [[str(row[name]) for name in RATINGS_SCHEMA.names] for row in rows]
    first = data.draw(st.integers(0, len(lines) - 1))
    for row in {first, *data.draw(st.sets(st.integers(first, len(lines) - 1)))}:
        lines[row][data.draw(st.integers(0, 3))] = bad
    with tempfile.TemporaryDirectory() as name:
        folder = folder_with(Path(name), data="".join("\t".join(line) + "\n" for line in lines))
        with pytest.raises(MalformedRowError) as caught:
            read_ratings(folder)
    assert caught.value.line == first + 1
