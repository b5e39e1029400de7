"""MovieLens as typed tables, from the directory that `sources.fetch_archive` filled.

All layouts give the same tables, but for the fields that `lacking_fields` names. Every function
raises ArchiveLayoutError or MalformedRowError (a line that is not a row of its table).
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cf_pipeline.recommender import rating_chunks
from cf_pipeline.recommender.datasets import dataset_of
from cf_pipeline.recommender.distinct import Distinct
from cf_pipeline.recommender.formats import GENRES, MONTHS, NO_GENRES, OCCUPATIONS
from cf_pipeline.recommender.movielens_files import find, ratings_place
from cf_pipeline.recommender.movielens_rows import Member, malformed, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATINGS_SCHEMA = rating_chunks.RATINGS_SCHEMA
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


def rating_batches(archive: Path) -> Iterator[pa.RecordBatch]:
    """Yield the ratings in the order of their file, as RATINGS_SCHEMA, in bounded memory."""
    return rating_chunks.rating_batches(ratings_place(archive))


def read_ratings(archive: Path) -> pa.Table:
    """Return all ratings as one table, as RATINGS_SCHEMA."""
    return pa.Table.from_batches(rating_batches(archive), RATINGS_SCHEMA)


def read_movies(archive: Path) -> pa.Table:
    """Return the movies in file order, as MOVIES_SCHEMA.

    Genres are the release's own words; those of MovieLens 100k are in the order of GENRES. A source
    without a table of movies gives one row for each movie rated, sorted by id: its title is its id,
    it has no genres, and the rest is null.
    """
    member = _side_table(archive, "movies")
    columns: _Columns
    if member is None:
        ids = _rated(archive, "movie")
        columns = {"movie": ids, "title": list(map(str, ids)), "genres": [[] for _ in ids]}
    elif "imdb_url" in member.format.fields:
        columns = _archive_movies(member, parse(member).to_pydict())
    elif "release_year" in member.format.fields:
        columns = _recbole_movies(parse(member).to_pydict())
    else:
        columns = _later_movies(parse(member).to_pydict())
    return movies_table(columns, MOVIES_SCHEMA)


def read_users(archive: Path) -> pa.Table:
    """Return the users in file order, as USERS_SCHEMA.

    In ml-1m an age is where its bracket begins: 1, 18, 25, 35, 45, 50 or 56. A source without a
    table of users gives one row for each user who rated, sorted by id, with the rest null.
    """
    member = _side_table(archive, "users")
    if member is None:
        return side_table({"user": _rated(archive, "user")}, USERS_SCHEMA)
    users = parse(member).select(USERS_SCHEMA.names)
    if dataset_of(archive).name == "ml-1m":
        names = [OCCUPATIONS[int(code)] for code in users["occupation"].to_pylist()]
        users = users.set_column(3, "occupation", pa.array(names, pa.string()))
    return users.cast(USERS_SCHEMA)


def lacking_fields(archive: Path) -> dict[str, list[str]]:
    """Return, by table, the fields that the source of `archive` does not have."""
    lacking = {}
    movies = find(archive, "movies")
    if movies is None:
        lacking["movies"] = MOVIES_SCHEMA.names[1:]
    elif "imdb_url" not in movies.format.fields:
        lacking["movies"] = ["release_date", "imdb_url"]
    if find(archive, "users") is None:
        lacking["users"] = USERS_SCHEMA.names[1:]
    return lacking


def _side_table(archive: Path, table: str) -> Member | None:
    place = find(archive, table)
    return Member.of(place) if place else None


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


def _later_movies(rows: _Columns) -> _Columns:
    return {
        "movie": rows["movie"],
        "title": [title.strip() for title in rows["title"]],
        "genres": [[] if words == NO_GENRES else words.split("|") for words in rows["genres"]],
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
    ids = Distinct()
    for batch in rating_batches(archive):
        ids.add(batch[column])
    found: list[int] = ids.sorted().to_pylist()
    return found


def movies_table(columns: _Columns, schema: pa.Schema) -> pa.Table:
    """Return movies as `schema`, of the year that their titles say, null in columns left out."""
    years = [re.findall(r"\(([0-9]{4})\)", title)[-1:] for title in columns["title"]]
    released = [int(year[0]) if year else None for year in years]
    return side_table({**columns, "release_year": released}, schema)


def side_table(columns: _Columns, schema: pa.Schema) -> pa.Table:
    """Return columns as a table of `schema`, null in those left out."""
    n_rows = len(next(iter(columns.values())))
    absent = {name: [None] * n_rows for name in schema.names if name not in columns}
    return pa.table(columns | absent, schema=schema)
