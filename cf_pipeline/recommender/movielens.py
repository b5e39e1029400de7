"""MovieLens 100k as typed tables, from the directory that `sources.fetch_archive` filled.

Both sources give the same tables, but for the fields that `lacking_fields` names. Every function
raises ArchiveLayoutError or MalformedRowError (a line that is not a row of its table).
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cf_pipeline.recommender.movielens_files import (
    RECBOLE,
    Member,
    read_member,
    read_ratings_member,
)
from cf_pipeline.recommender.movielens_rows import GENRES, MONTHS, malformed, parse

if TYPE_CHECKING:
    from pathlib import Path

RATINGS_SCHEMA = pa.schema(
    [
        pa.field("user", pa.int32(), nullable=False),
        pa.field("movie", pa.int32(), nullable=False),
        pa.field("rating", pa.float32(), nullable=False),
        pa.field("timestamp", pa.timestamp("s", tz="UTC"), nullable=False),
    ]
)
MOVIES_SCHEMA = pa.schema(
    [
        pa.field("movie", pa.int32(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("release_year", pa.int16()),
        pa.field("release_date", pa.date32()),
        pa.field("imdb_url", pa.string()),
        pa.field("genres", pa.list_(pa.string()), nullable=False),
    ]
)
USERS_SCHEMA = pa.schema(
    [
        pa.field("user", pa.int32(), nullable=False),
        pa.field("age", pa.int16()),
        pa.field("gender", pa.string()),
        pa.field("occupation", pa.string()),
        pa.field("zip", pa.string()),
    ]
)

_Columns = dict[str, list[Any]]


def read_ratings(archive: Path) -> pa.Table:
    """Return the ratings in the order of u.data, as RATINGS_SCHEMA."""
    return parse(read_ratings_member(archive)).cast(RATINGS_SCHEMA)


def read_movies(archive: Path) -> pa.Table:
    """Return the movies in file order, as MOVIES_SCHEMA, with genres in the order of GENRES.

    A source without a table of movies gives one row for each movie rated, sorted by id: its title
    is its id, it has no genres, and the rest is null.
    """
    member = read_member(archive, "movies")
    columns: _Columns
    if member is None:
        ids = _rated(archive, "movie")
        columns = {"movie": ids, "title": list(map(str, ids)), "genres": [[] for _ in ids]}
    elif member.file == RECBOLE["movies"]:
        columns = _recbole_movies(parse(member).to_pydict())
    else:
        columns = _archive_movies(member, parse(member).to_pydict())
    years = [re.findall(r"\(([0-9]{4})\)", title)[-1:] for title in columns["title"]]
    columns["release_year"] = [int(year[0]) if year else None for year in years]
    return _table(columns, MOVIES_SCHEMA)


def read_users(archive: Path) -> pa.Table:
    """Return the users in file order, as USERS_SCHEMA.

    A source without a table of users gives one row for each user who rated, sorted by id, with
    the rest null.
    """
    member = read_member(archive, "users")
    if member is None:
        return _table({"user": _rated(archive, "user")}, USERS_SCHEMA)
    return parse(member).cast(USERS_SCHEMA)


def lacking_fields(archive: Path) -> dict[str, list[str]]:
    """Return, by table, the fields that the source of `archive` does not have."""
    lacking = {}
    movies = read_member(archive, "movies")
    if movies is None:
        lacking["movies"] = MOVIES_SCHEMA.names[1:]
    elif movies.file == RECBOLE["movies"]:
        lacking["movies"] = ["release_date", "imdb_url"]
    if read_member(archive, "users") is None:
        lacking["users"] = USERS_SCHEMA.names[1:]
    return lacking


def _archive_movies(member: Member, rows: _Columns) -> _Columns:
    flags = zip(*(rows[genre] for genre in GENRES), strict=True)
    return {
        "movie": rows["movie"],
        "title": [title.strip() for title in rows["title"]],  # some titles end in a space
        "release_date": [_date(member, row, text) for row, text in enumerate(rows["release_date"])],
        "imdb_url": [url or None for url in rows["imdb_url"]],
        "genres": [
            [genre for genre, flag in zip(GENRES, movie, strict=True) if flag == "1"]
            for movie in flags
        ],
    }


def _recbole_movies(rows: _Columns) -> _Columns:
    # recbole cuts a title at its last bracket; movie 267, "unknown", is misspelt there.
    return {
        "movie": rows["movie"],
        "title": [
            "unknown" if title == "unkonwn" else f"{title} ({year})"
            for title, year in zip(rows["title"], rows["release_year"], strict=True)
        ],
        "genres": [
            [genre for genre in GENRES if genre in words.split(" ")] for words in rows["genres"]
        ],
    }


def _date(member: Member, row: int, text: str) -> date | None:
    """Return `01-Jan-1995` as a date; strptime would go by the locale's names of months."""
    if not text:
        return None
    day, month, year = text.split("-")
    try:
        return date(int(year), MONTHS.index(month) + 1, int(day))
    except ValueError as error:
        raise malformed(member, row, f"release_date cannot be {text!r} ({error})") from None


def _rated(archive: Path, column: str) -> list[int]:
    ids: list[int] = pc.unique(read_ratings(archive)[column]).sort().to_pylist()
    return ids


def _table(columns: _Columns, schema: pa.Schema) -> pa.Table:
    n_rows = len(next(iter(columns.values())))
    absent = {name: [None] * n_rows for name in schema.names if name not in columns}
    return pa.table(columns | absent, schema=schema)
