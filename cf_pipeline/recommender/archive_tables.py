"""The tables of whatever archive: a release of MovieLens, somebody's own ratings, or drawn ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pyarrow as pa

from cf_pipeline.recommender import custom_ratings, movielens
from cf_pipeline.recommender.custom_settings import CustomMoviesSettings, CustomRatingsSettings
from cf_pipeline.recommender.datasets import (
    CUSTOM,
    DATASETS,
    STARS,
    SYNTHETIC,
    Scale,
    dataset_of,
    described,
)
from cf_pipeline.recommender.distinct import Distinct
from cf_pipeline.recommender.executors import LOCAL, Part
from cf_pipeline.recommender.rating_table import Origin
from cf_pipeline.recommender.synthetic import synthetic_pieces
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline.recommender.tasks import results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cf_pipeline.recommender.executors import Executor

RATINGS, MOVIES = "ratings", "movies"  # with which the names of somebody's own files begin


# What gives a piece of the ratings in batches; it can be pickled, for a task of its own.
Piece: TypeAlias = "Callable[[], Iterator[pa.RecordBatch]]"


class ArchiveRatings(NamedTuple):
    """An archive's ratings: where they are from, their schema, and themselves in pieces, in order.

    `events` says that they are no ratings: of a user and an item the first row counts.
    """

    origin: Origin
    schema: pa.Schema
    pieces: Sequence[Piece]
    events: bool = False


def open_ratings(archive: Path, executor: Executor = LOCAL) -> ArchiveRatings:
    """Return the ratings of an archive, of which no piece has more than some batches in memory.

    A release of MovieLens is one piece, and of somebody's own tables each file is.

    Raises:
        ArchiveLayoutError, MalformedRowError, CustomTableError: the archive is not what it says.
        ValueError: there is no such dataset.
    """
    said = described(archive)
    if said["dataset"] == SYNTHETIC:
        pieces = synthetic_pieces(SyntheticSettings.model_validate(said["settings"]))
        return ArchiveRatings(Origin(SYNTHETIC, STARS), movielens.RATINGS_SCHEMA, pieces)
    if said["dataset"] == CUSTOM:
        settings, files = CustomRatingsSettings.model_validate(said["settings"]), _files(archive)
        low_and_high = settings.scale
        scale = Scale(low_and_high[0], low_and_high[1], 0) if low_and_high else None
        ids = custom_ratings.id_types(files, settings, executor)
        return ArchiveRatings(
            Origin(CUSTOM, scale),
            custom_ratings.ratings_schema(ids),
            [partial(custom_ratings.rating_batches, file, settings, ids) for file in files],
            events=settings.rating is None,
        )
    release = dataset_of(archive)
    return ArchiveRatings(
        Origin(release.name, release.scale),
        movielens.RATINGS_SCHEMA,
        [partial(movielens.rating_batches, archive)],
    )


def read_movies(archive: Path, executor: Executor = LOCAL) -> pa.Table:
    """Return the movies as MOVIES_SCHEMA, with ids as the ratings have them.

    An archive without a table of movies gives one row for each that was rated, sorted by id, whose
    title is its id. Errors are those of `open_ratings`.
    """
    said = described(archive)
    if said["dataset"] in DATASETS:
        return movielens.read_movies(archive)
    ratings = open_ratings(archive, executor)
    id_type = ratings.schema.field("movie").type
    schema = _with_ids(movielens.MOVIES_SCHEMA, id_type)
    if of_movies := said["settings"].get("movies"):
        settings = CustomMoviesSettings.model_validate(of_movies)
        columns = custom_ratings.read_movies(_files(archive, MOVIES), settings, id_type)
        return movielens.movies_table(columns, schema)
    ids = _rated(ratings, "movie", executor)
    columns = {"movie": ids, "title": list(map(str, ids)), "genres": [[] for _ in ids]}
    return movielens.side_table(columns, schema)


def read_users(archive: Path, executor: Executor = LOCAL) -> pa.Table:
    """Return the users as USERS_SCHEMA, with ids as the ratings have them.

    An archive without a table of users gives one row for each who rated, sorted by id, with the
    rest null. Errors are those of `open_ratings`.
    """
    if described(archive)["dataset"] in DATASETS:
        return movielens.read_users(archive)
    ratings = open_ratings(archive, executor)
    id_type = ratings.schema.field("user").type
    schema = _with_ids(movielens.USERS_SCHEMA, id_type)
    return movielens.side_table({"user": _rated(ratings, "user", executor)}, schema)


def lacking_fields(archive: Path) -> dict[str, list[str]]:
    """Return, by table, the fields that the archive does not have."""
    said = described(archive)
    if said["dataset"] in DATASETS:
        return movielens.lacking_fields(archive)
    movies = movielens.MOVIES_SCHEMA.names[1:]
    if of_movies := said["settings"].get("movies"):
        has = {"title", "release_year", *(["genres"] if of_movies["genres"] else [])}
        movies = [name for name in movies if name not in has]
    return {"movies": movies, "users": movielens.USERS_SCHEMA.names[1:]}


def _files(archive: Path, table: str = RATINGS) -> list[Path]:
    return sorted(archive.glob(f"{table}-[0-9]*-*"))


def _with_ids(schema: pa.Schema, id_type: pa.DataType) -> pa.Schema:
    return schema.set(0, schema.field(0).with_type(id_type))


def _rated(ratings: ArchiveRatings, column: str, executor: Executor) -> list[Any]:
    ids = Distinct()
    tasks = [
        Part(f"piece {number + 1} of the ratings", 0, (piece,))
        for number, piece in enumerate(ratings.pieces)
    ]
    for found in results(executor, _ids_of_piece, tasks, column):
        ids.add(found)
    rated: list[Any] = ids.sorted().to_pylist()
    return rated


def _ids_of_piece(piece: Piece, column: str) -> pa.Array:
    ids = Distinct()
    for batch in piece():
        ids.add(batch[column])
    return ids.sorted()
