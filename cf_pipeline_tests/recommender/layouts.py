"""Writes tables in both layouts that MovieLens 100k comes in, and reads them back."""

import zipfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from cf_pipeline.recommender.formats import GENRES
from cf_pipeline.recommender.movielens import MOVIES_SCHEMA, read_movies, read_ratings, read_users

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


TOY_STORY = (
    "1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|"
    "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"
)


class Tables(NamedTuple):
    ratings: pa.Table
    movies: pa.Table
    users: pa.Table


def read(archive: Path) -> Tables:
    return Tables(read_ratings(archive), read_movies(archive), read_users(archive))


def folder_with(directory: Path, **files: str) -> Path:
    """Write u.`name` for each of `files`, and ratings if they are not among them."""
    for name, content in ({"data": "196\t242\t3\t881250949\n"} | files).items():
        (directory / f"u.{name}").write_bytes(content.encode("latin-1"))
    return directory


def archive_files(tables: Tables) -> dict[str, bytes]:
    """Each file of the archive's own layout, by its name."""
    return {
        "u.data": _lines(_rating_rows(tables.ratings), "\t").encode("latin-1"),
        "u.item": _lines(_archive_movie_rows(tables.movies), "|").encode("latin-1"),
        "u.user": _lines(_user_rows(tables.users), "|").encode("latin-1"),
        "u.genre": "".join(f"{genre}|{i}\n" for i, genre in enumerate(GENRES)).encode(),
    }


def recbole_files(tables: Tables) -> dict[str, bytes]:
    """Each file of the wheel's layout, by its name."""
    item_fields = "item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"
    user_fields = "user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"
    headers = {
        "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
        "ml-100k.item": "\t".join(item_fields) + "\n",
        "ml-100k.user": "\t".join(user_fields) + "\n",
    }
    bodies = {
        "ml-100k.inter": _lines(_rating_rows(tables.ratings), "\t"),
        "ml-100k.item": _lines(_recbole_movie_rows(tables.movies), "\t"),
        "ml-100k.user": _lines(_user_rows(tables.users), "\t"),
    }
    return {name: (headers[name] + bodies[name]).encode() for name in headers}


def write_zip(tables: Tables, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as members:
        for name, data in archive_files(tables).items():
            members.writestr(f"ml-100k/{name}", data)
    return path


def write_wheel(tables: Tables, path: Path, changed: Mapping[str, bytes] | None = None) -> Path:
    """Write the wheel to `path`, with the contents of the files in `changed` instead of its own."""
    metadata = "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n"
    wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as members:
        for name, data in (recbole_files(tables) | dict(changed or {})).items():
            members.writestr(f"recbole/dataset_example/ml-100k/{name}", data)
        members.writestr("recbole-1.2.1.dist-info/METADATA", metadata)
        members.writestr("recbole-1.2.1.dist-info/WHEEL", wheel)
        members.writestr("recbole-1.2.1.dist-info/RECORD", "")
    return path


def with_release_dates(movies: pa.Table) -> pa.Table:
    """`movies` with a release date and an address made up for each that has a year and neither."""
    rows = movies.to_pylist()
    for row in rows:
        if row["release_year"] is not None and row["release_date"] is None:
            row["release_date"] = date(
                row["release_year"], row["movie"] % 12 + 1, row["movie"] % 28 + 1
            )
            row["imdb_url"] = row["imdb_url"] or f"http://us.imdb.com/M/title-exact?{row['movie']}"
    return pa.Table.from_pylist(rows, schema=MOVIES_SCHEMA)


def _lines(rows: list[list[str]], separator: str) -> str:
    return "".join(separator.join(row) + "\n" for row in rows)


def _rating_rows(ratings: pa.Table) -> list[list[str]]:
    columns = [*ratings.columns[:3], ratings["timestamp"].cast(pa.int64())]
    values = zip(*(column.to_pylist() for column in columns), strict=True)
    return [[str(u), str(m), f"{rating:g}", str(t)] for u, m, rating, t in values]


def _user_rows(users: pa.Table) -> list[list[str]]:
    return [[str(value) for value in row.values()] for row in users.to_pylist()]


def _archive_movie_rows(movies: pa.Table) -> list[list[str]]:
    return [
        [
            str(row["movie"]),
            row["title"],
            _date(row["release_date"]),
            "",
            row["imdb_url"] or "",
            *("1" if genre in row["genres"] else "0" for genre in GENRES),
        ]
        for row in movies.to_pylist()
    ]


def _recbole_movie_rows(movies: pa.Table) -> list[list[str]]:
    rows = []
    for row in movies.to_pylist():
        title, _, year = row["title"].removesuffix(")").rpartition(" (")
        if row["title"] == "unknown":
            title, year = "unkonwn", "unkonwn"
        rows.append([str(row["movie"]), title, year, " ".join(row["genres"])])
    return rows


def _date(day: date | None) -> str:
    return f"{day.day:02}-{MONTHS[day.month - 1]}-{day.year}" if day else ""
