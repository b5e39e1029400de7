"""Both sources give the same tables, and the published ones."""

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from cf_pipeline.recommender.datasets import release
from cf_pipeline.recommender.formats import GENRES
from cf_pipeline.recommender.movielens import (
    MOVIES_SCHEMA,
    RATINGS_SCHEMA,
    USERS_SCHEMA,
    lacking_fields,
    read_movies,
    read_ratings,
    read_users,
)
from cf_pipeline.recommender.movielens_files import u_data
from cf_pipeline.recommender.places import ArchiveLayoutError
from cf_pipeline_tests.recommender.layouts import (
    TOY_STORY,
    Tables,
    archive_files,
    folder_with,
    read,
    recbole_files,
    write_wheel,
)

U_DATA_SHA256 = release("ml-100k").ratings_sha256


def sha256_of_ratings(archive: Path) -> str:
    return hashlib.sha256(b"".join(u_data(archive))).hexdigest()


# --- the real data


def test_ratings_are_the_published_ones(archive: Path) -> None:
    table = read_ratings(archive)
    assert table.schema == RATINGS_SCHEMA
    assert sha256_of_ratings(archive) == U_DATA_SHA256
    assert table.slice(0, 3).to_pydict() == {
        "user": [196, 186, 22],
        "movie": [242, 302, 377],
        "rating": [3, 3, 1],
        "timestamp": [datetime.fromtimestamp(t, UTC) for t in (881250949, 891717742, 878887116)],
    }
    frame = table.to_pandas()
    assert (len(frame), frame["user"].nunique(), frame["movie"].nunique()) == (100_000, 943, 1_682)
    assert frame["rating"].mean() == pytest.approx(3.52986)
    assert set(frame["rating"]) == {1, 2, 3, 4, 5}


def test_both_sources_give_the_same_tables(
    archive: Path, tables: Tables, official_zip: Path, wheel: Path
) -> None:
    real, official, recbole = read(archive), read(official_zip.parent), read(wheel.parent)
    assert sha256_of_ratings(official_zip.parent) == U_DATA_SHA256
    assert sha256_of_ratings(wheel.parent) == U_DATA_SHA256
    assert official == tables
    assert lacking_fields(official_zip.parent) == {}
    assert lacking_fields(wheel.parent) == {"movies": ["release_date", "imdb_url"]}
    lacked = lacking_fields(wheel.parent)["movies"]
    assert recbole.ratings == official.ratings == real.ratings
    assert recbole.users == official.users == real.users
    assert recbole.movies.drop(lacked) == official.movies.drop(lacked) == real.movies.drop(lacked)
    assert all(recbole.movies[name].null_count == 1_682 for name in lacked)


def test_movies_and_users_are_typed(archive: Path) -> None:
    movies, users = read_movies(archive), read_users(archive)
    assert (movies.schema, users.schema) == (MOVIES_SCHEMA, USERS_SCHEMA)
    assert movies["movie"].to_pylist() == list(range(1, 1_683))
    assert users["user"].to_pylist() == list(range(1, 944))
    by_id = {row["movie"]: row for row in movies.to_pylist()}
    assert by_id[1]["title"] == "Toy Story (1995)"
    assert by_id[1]["release_year"] == 1995
    assert by_id[1]["genres"] == ["Animation", "Children's", "Comedy"]
    assert (by_id[267]["title"], by_id[267]["release_year"]) == ("unknown", None)
    assert by_id[1412]["title"].endswith("Time of the Great Giving (1995) (V)")
    assert by_id[1412]["release_year"] == 1995
    assert movies["release_year"].null_count == 1
    assert {genre for row in by_id.values() for genre in row["genres"]} == set(GENRES)
    assert users.slice(0, 1).to_pylist() == [
        {"user": 1, "age": 24, "gender": "M", "occupation": "technician", "zip": "85711"}
    ]


# --- layouts


def test_rows_of_the_archive(tmp_path: Path) -> None:
    unknown = "267|unknown||||1" + "|0" * 18
    good_morning = "1373|Good Morning (1971) |4-Feb-1971||http://x|1" + "|0" * 18
    accents = "543|Mis\xe9rables (1935), Les (1995)|01-Jan-1995||http://x" + "|0" * 19
    lines = [TOY_STORY, unknown, good_morning, accents, ""]
    movies = read_movies(folder_with(tmp_path, item="\n".join(lines))).to_pydict()
    assert movies["title"] == [
        "Toy Story (1995)", "unknown", "Good Morning (1971)", "Misérables (1935), Les (1995)"
    ]  # fmt: skip
    assert movies["release_year"] == [1995, None, 1971, 1995]
    assert movies["release_date"] == [
        date(1995, 1, 1), None, date(1971, 2, 4), date(1995, 1, 1)
    ]  # fmt: skip
    assert movies["imdb_url"][:2] == [
        "http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)", None
    ]  # fmt: skip
    assert movies["genres"] == [
        ["Animation", "Children's", "Comedy"], ["unknown"], ["unknown"], []
    ]  # fmt: skip


def test_ratings_alone_give_the_ids_that_were_rated(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, data="5\t9\t3\t1\n2\t7\t4.5\t2\n5\t7\t-1\t3\n")
    assert read_ratings(folder)["rating"].to_pylist() == [3, 4.5, -1]
    assert lacking_fields(folder) == {
        "movies": MOVIES_SCHEMA.names[1:],
        "users": USERS_SCHEMA.names[1:],
    }
    movies, users = read_movies(folder), read_users(folder)
    assert (movies.schema, users.schema) == (MOVIES_SCHEMA, USERS_SCHEMA)
    assert movies.select(["movie", "title", "genres"]).to_pydict() == {
        "movie": [7, 9],
        "title": ["7", "9"],
        "genres": [[], []],
    }
    assert users["user"].to_pylist() == [2, 5]
    assert users["age"].null_count == 2


def test_other_files_in_the_directory_do_not_count(official_zip: Path, tmp_path: Path) -> None:
    (tmp_path / "any-name").write_bytes(official_zip.read_bytes())
    (tmp_path / "manifest.json").write_text("{}")
    assert read_ratings(tmp_path).num_rows == 100_000


def test_line_ends_of_windows_do_not_count(tables: Tables, tmp_path: Path) -> None:
    few = Tables(*(table.slice(0, 5) for table in tables))
    wheel = {name: data.replace(b"\n", b"\r\n") for name, data in recbole_files(few).items()}
    write_wheel(few, tmp_path / "recbole.whl", wheel)
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    for name, data in archive_files(few).items():
        (folder / name).write_bytes(data.replace(b"\n", b"\r\n"))
    assert read(folder) == few
    assert (read_ratings(tmp_path), read_users(tmp_path)) == (few.ratings, few.users)
    for archive in folder, tmp_path:
        assert b"".join(u_data(archive)) == archive_files(few)["u.data"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "Neither u.data nor one sound zip"),
        ({"ml-100k.zip": b"<html>Sign in</html>"}, "ml-100k.zip"),
        ({"readme": b"", "other": b""}, "['other', 'readme']"),
    ],
)
def test_a_directory_without_movielens_is_refused(
    files: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ArchiveLayoutError) as caught:
        read_ratings(tmp_path)
    assert message in str(caught.value)


def test_a_damaged_zip_is_refused(official_zip: Path, tmp_path: Path) -> None:
    data = bytearray(official_zip.read_bytes())
    data[5_000:5_100] = bytes(100)
    (tmp_path / "ml-100k.zip").write_bytes(data)
    with pytest.raises(ArchiveLayoutError, match="ml-100k.zip cannot be read as a zip"):
        read_ratings(tmp_path)
