"""Every release of MovieLens is read as it is written, and a line that is not a row is named."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender.datasets import DATASETS, dataset_of, describe, release
from cf_pipeline.recommender.formats import OCCUPATIONS
from cf_pipeline.recommender.movielens import (
    MOVIES_SCHEMA,
    RATINGS_SCHEMA,
    USERS_SCHEMA,
    lacking_fields,
    read_movies,
    read_ratings,
    read_users,
)
from cf_pipeline.recommender.movielens_rows import LARGEST_ID, MalformedRowError
from cf_pipeline.recommender.places import ArchiveLayoutError
from cf_pipeline_tests.recommender.layouts import Tables, read
from cf_pipeline_tests.recommender.releases import (
    RATINGS_HEADER,
    a_time,
    release_files,
    some_tables,
    write_release,
)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "folder"])
@pytest.mark.parametrize("name", DATASETS)
def test_a_release_is_read_as_it_is_written(name: str, zipped: bool, tmp_path: Path) -> None:
    tables = some_tables(name)
    archive = write_release(name, tables, tmp_path / "archive", zipped=zipped)
    ratings, movies, users = read(archive)
    assert dataset_of(archive).name == name
    assert ratings == tables.ratings
    assert (movies.schema, users.schema) == (MOVIES_SCHEMA, USERS_SCHEMA)
    columns = ["movie", "title", "genres"]
    assert movies.select(columns) == tables.movies.select(columns)
    assert movies["release_year"].to_pylist() == [1995, 1995, 1975, None]
    lacking = lacking_fields(archive)
    if name in ("ml-100k", "ml-1m"):
        assert users == tables.users
        assert "users" not in lacking
    else:
        assert users["user"].to_pylist() == [1, 2, 6040]
        assert lacking["users"] == USERS_SCHEMA.names[1:]
    if name != "ml-100k":
        assert lacking["movies"] == ["release_date", "imdb_url"]


def test_an_archive_of_a_dataset_that_is_none_is_refused(tmp_path: Path) -> None:
    describe(tmp_path, "ml-3m")
    with pytest.raises(ValueError, match="'ml-3m' is no release of MovieLens: those are ml-100k"):
        read_ratings(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(ValueError, match="does not name a dataset"):
        read_ratings(tmp_path)


def test_the_archive_of_another_release_is_refused(tmp_path: Path) -> None:
    archive = write_release("ml-1m", some_tables("ml-1m"), tmp_path, zipped=True)
    describe(archive, "ml-20m")
    with pytest.raises(ArchiveLayoutError, match="none of .*'ml-20m/ratings.csv'.*zip of ml-20m"):
        read_ratings(archive)


def test_line_ends_of_windows_do_not_count(tmp_path: Path) -> None:
    tables = some_tables("ml-20m")
    archive = write_release("ml-20m", tables, tmp_path, zipped=False)
    for path in archive.glob("*.csv"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_ratings(archive) == tables.ratings
    assert read_movies(archive)["title"] == tables.movies["title"]


# --- malformed rows

MOVIES_HEADER = "movieId,title,genres\n"


@pytest.mark.parametrize(
    ("name", "file", "text", "line", "cause"),
    [
        ("ml-1m", "ratings.dat", "1::2::3::4\n1::2::3\n", 2, "3 fields where 4 are expected"),
        ("ml-1m", "ratings.dat", "1:2:3:4\n", 1, "1 fields where 4 are expected"),
        ("ml-1m", "ratings.dat", "1\t2\t3\t4\n", 1, "1 fields where 4 are expected"),
        ("ml-1m", "ratings.dat", "1\x1f2\x1f3\x1f4\n", 1, "1 fields where 4 are expected"),
        ("ml-1m", "ratings.dat", "1:::2::3::4\n", 1, "movie cannot be ':2'"),
        ("ml-1m", "ratings.dat", "1::2::3::4:\n", 1, "timestamp cannot be '4:'"),
        ("ml-10m", "ratings.dat", "1::02::3.5::4\n", 1, "movie cannot be '02'"),
        ("ml-10m", "movies.dat", "1::A::B::Drama\n", 1, "4 fields where 3 are expected"),
        ("ml-10m", "movies.dat", "1::A::Drama|\n", 1, "genres cannot be 'Drama|'"),
        ("ml-10m", "movies.dat", "1::\udce9::Drama\n", 1, "the text is not utf-8"),
        ("ml-1m", "users.dat", "1::F::17::3::48067\n", 1, "age cannot be '17'"),
        ("ml-1m", "users.dat", "1::F::18::21::48067\n", 1, "occupation cannot be '21'"),
        ("ml-20m", "ratings.csv", "1,2,3.5,4\n", 1, "the header is not 'userId"),
        ("ml-20m", "ratings.csv", "", 1, "the header is not 'userId"),
        ("ml-20m", "ratings.csv", f"{RATINGS_HEADER}1,2,3.5,4\n\n", 3, "1 fields where 4"),
        ("ml-20m", "ratings.csv", f'{RATINGS_HEADER}"1",2,3.5,4\n', 2, "user cannot be '\"1\"'"),
        ("ml-20m", "ratings.csv", f"{RATINGS_HEADER}1,2,3.5,4.0\n", 2, "timestamp cannot be '4.0'"),
        ("ml-20m", "ratings.csv", f"{RATINGS_HEADER}1,{2**31},3.5,4\n", 2, "movie is larger than"),
        ("ml-20m", "movies.csv", f"{MOVIES_HEADER}1,A,B,Drama\n", 2, "4 fields where 3"),
        ("ml-20m", "movies.csv", f'{MOVIES_HEADER}1,"A B,Drama\n', 2, "title cannot be '\"A B'"),
        ("ml-20m", "movies.csv", f'{MOVIES_HEADER}1,"A" B,Drama\n', 2, "title cannot be '\"A\" B'"),
        ("ml-20m", "movies.csv", f"{MOVIES_HEADER}1,\x1bA,Drama\n", 2, "title cannot be '\\x1bA'"),
        ("ml-20m", "movies.csv", f"{MOVIES_HEADER}1,A,\n", 2, "genres cannot be ''"),
    ],
)
def test_a_malformed_row_is_named(
    name: str, file: str, text: str, line: int, cause: str, tmp_path: Path
) -> None:
    archive = write_release(name, some_tables(name), tmp_path, zipped=False)
    (archive / file).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(MalformedRowError) as caught:
        read(archive)
    assert (caught.value.file, caught.value.line) == (file, line)
    assert f"{file}, line {line}: {cause}" in str(caught.value)


# --- properties


def titles(excluded: str, codec: str) -> st.SearchStrategy[str]:
    characters = st.characters(
        codec=codec, exclude_categories=["Cc", "Cs"], exclude_characters=excluded
    )
    return st.text(characters, min_size=1, max_size=12).map(str.strip).filter(bool)


def rows_of(name: str) -> st.SearchStrategy[Tables]:
    """Tables that the release can hold."""
    step = release(name).scale.step
    ids = st.integers(0, LARGEST_ID)
    # A title may have anything but what its separator would make of it.
    text = {"ml-1m": titles(":", "latin-1"), "ml-10m": titles(":", "utf-8")}
    words = st.text("ABCé-' ()", min_size=1, max_size=8)
    columns: dict[str, tuple[pa.Schema, dict[str, st.SearchStrategy[Any]]]] = {
        "ratings": (
            RATINGS_SCHEMA,
            {
                "user": ids,
                "movie": ids,
                "rating": st.integers(0, 20).map(lambda steps: steps * step),
                "timestamp": st.integers(0, 10**10 - 1).map(a_time),
            },
        ),
        "movies": (
            MOVIES_SCHEMA,
            {
                "movie": ids,
                "title": text.get(name, titles("", "utf-8")),
                "genres": st.lists(words, max_size=3),
            },
        ),
        "users": (
            USERS_SCHEMA,
            {
                "user": ids,
                "age": st.sampled_from([1, 18, 25, 35, 45, 50, 56]),
                "gender": st.sampled_from("MF"),
                "occupation": st.sampled_from(OCCUPATIONS),
                "zip": titles(":", "latin-1"),
            },
        ),
    }
    tables = [
        st.builds(
            pa.Table.from_pylist,
            st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=20),
            st.just(schema),
        )
        for schema, fields in columns.values()
    ]
    return st.builds(Tables, *tables)


@pytest.mark.parametrize("name", ["ml-1m", "ml-10m", "ml-20m"])  # the three layouts
@settings(deadline=None, max_examples=25)
@given(data=st.data(), zipped=st.booleans())
def test_what_is_written_is_read(name: str, data: st.DataObject, zipped: bool) -> None:
    tables = data.draw(rows_of(name))
    with tempfile.TemporaryDirectory() as folder:
        archive = write_release(name, tables, Path(folder), zipped=zipped)
        ratings, movies, users = read_ratings(archive), read_movies(archive), read_users(archive)
    assert ratings == tables.ratings
    columns = ["movie", "title", "genres"]
    assert movies.select(columns).to_pylist() == tables.movies.select(columns).to_pylist()
    if name == "ml-1m":
        assert users == tables.users
    else:
        assert users["user"].to_pylist() == sorted(set(ratings["user"].to_pylist()))


def test_the_files_of_a_release_are_those_that_it_declares() -> None:
    for name, dataset in DATASETS.items():
        layout = dataset.layouts[0]
        declared = {table.file for table in layout.tables.values()} | set(layout.others)
        assert set(release_files(name, some_tables(name))) == declared
