"""Ratings, and what is rated, of anybody's own tables in the form of MovieLens'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cf_pipeline.recommender.custom_files import CustomTableError, read_batches, refused
from cf_pipeline.recommender.custom_times import TIMESTAMP, as_text, is_text, timestamps
from cf_pipeline.recommender.executors import LOCAL, Part
from cf_pipeline.recommender.tasks import results
from cf_pipeline.recommender.vocabulary import LONGEST_ID, NA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cf_pipeline.recommender.custom_settings import (
        CustomMoviesSettings,
        CustomRatingsSettings,
    )
    from cf_pipeline.recommender.executors import Executor

MOST_MOVIES_BYTES = 1 << 30  # of a table of what is rated, which is held in memory
EVENT = 1.0  # the rating of what is no rating


class Ids(NamedTuple):
    """Of what type the ids are, int64 or string."""

    user: pa.DataType
    item: pa.DataType


def rating_batches(
    file: Path, settings: CustomRatingsSettings, ids: Ids
) -> Iterator[pa.RecordBatch]:
    """Yield the ratings of a file with the columns user, movie, rating, timestamp.

    Ids are int64 or string, ratings float32, timestamps UTC in seconds, null where there is none.
    Without a column of ratings every one is 1.

    Raises:
        CustomTableError: a row has no user, item or rating, or one that cannot be.
    """
    for _, row, batch in read_batches([file], settings, _columns(settings)):
        yield _ratings(file, row, batch, settings, ids)


def ratings_schema(ids: Ids) -> pa.Schema:
    """Return the schema of `rating_batches`."""
    return pa.schema(
        [
            pa.field("user", ids.user, nullable=False),
            pa.field("movie", ids.item, nullable=False),
            pa.field("rating", pa.float32(), nullable=False),
            pa.field("timestamp", TIMESTAMP),
        ]
    )


def id_types(
    files: Sequence[Path], settings: CustomRatingsSettings, executor: Executor = LOCAL
) -> Ids:
    """Return the types of ids: int64 where all are written as integers are, string otherwise.

    Raises:
        CustomTableError: ids are neither text nor integers.
    """
    integers = (True, True)
    tasks = [Part(file.name, 0, (file,)) for file in files]
    for of_file in results(executor, _integers, tasks, settings):
        integers = (integers[0] and of_file[0], integers[1] and of_file[1])
        if not any(integers):
            break
    return Ids(*(pa.int64() if of_column else pa.string() for of_column in integers))


def _integers(file: Path, settings: CustomRatingsSettings) -> tuple[bool, bool]:
    """Return whether all users of a file are written as integers are, and all items."""
    users = items = True
    columns = dict.fromkeys((settings.user, settings.item))
    for _, _, batch in read_batches([file], settings, columns):
        users = users and _are_integers(file, settings.user, batch[settings.user])
        items = items and _are_integers(file, settings.item, batch[settings.item])
        if not (users or items):
            break
    return users, items


def read_movies(
    files: Sequence[Path], settings: CustomMoviesSettings, id_type: pa.DataType
) -> dict[str, list[Any]]:
    """Return the columns movie, title and genres (lists) of the table, in its order.

    A title that is missing is the id.

    Raises:
        CustomTableError: a row has no id, one of another type, or one that an earlier row has; or
            the columns have more than MOST_MOVIES_BYTES.
    """
    columns = {settings.item: None, settings.title: None}
    if settings.genres:
        columns[settings.genres] = None
    movies: dict[str, list[Any]] = {"movie": [], "title": [], "genres": []}
    seen: set[int | str] = set()
    n_bytes = 0
    for file, row, batch in read_batches(files, settings, columns):
        n_bytes += batch.nbytes
        if n_bytes > MOST_MOVIES_BYTES:
            raise CustomTableError(
                f"The columns {list(columns)} of {file.name} have more than "
                f"{MOST_MOVIES_BYTES:,} bytes without compression, which are read at most: leave "
                "out what nobody rated."
            )
        ids = _item_ids(file, row, batch[settings.item], settings.item, id_type).to_pylist()
        titles = as_text(batch[settings.title]).to_pylist()
        words = (
            as_text(batch[settings.genres]).to_pylist() if settings.genres else [None] * len(ids)
        )
        for number, movie in enumerate(ids):
            if movie in seen:
                raise refused(file, row + number, f"{settings.item} {movie!r} is there twice")
            seen.add(movie)
        movies["movie"] += ids
        movies["title"] += [title or str(movie) for title, movie in zip(titles, ids, strict=True)]
        movies["genres"] += [[word for word in (text or "").split("|") if word] for text in words]
    return movies


def _item_ids(file: Path, row: int, column: pa.Array, name: str, kind: pa.DataType) -> pa.Array:
    """Return `_ids`, of which text is written as the ratings have it: 007 is not 7."""
    ids = _ids(file, row, column, name, kind)
    if is_text(column.type):
        at = pc.index(pc.equal(ids.cast(pa.string()), as_text(column)), False).as_py()
        if at >= 0:
            raise refused(file, row + at, f"{name} is {column[at]}, but the ratings' are integers")
    return ids


def _columns(settings: CustomRatingsSettings) -> dict[str, pa.DataType | None]:
    columns: dict[str, pa.DataType | None] = {settings.user: None, settings.item: None}
    if settings.rating:
        columns[settings.rating] = pa.float64()
    if settings.timestamp:
        columns[settings.timestamp] = None
    if len(columns) < 2 + bool(settings.rating) + bool(settings.timestamp):
        raise CustomTableError(
            f"A column is named twice in {settings.model_dump(exclude={'path'})}: user, item, "
            "rating and timestamp are columns of their own."
        )
    return columns


def _ratings(
    file: Path, row: int, batch: pa.RecordBatch, settings: CustomRatingsSettings, ids: Ids
) -> pa.RecordBatch:
    columns = [
        _ids(file, row, batch[settings.user], settings.user, ids.user),
        _ids(file, row, batch[settings.item], settings.item, ids.item),
        pa.array(np.full(len(batch), EVENT, np.float32)),
        pa.nulls(len(batch), TIMESTAMP),
    ]
    if settings.rating:
        columns[2] = _numbers(file, row, batch[settings.rating], settings.rating)
    if settings.timestamp:
        columns[3] = timestamps(file, row, batch[settings.timestamp], settings.timestamp)
    return pa.record_batch(columns, schema=ratings_schema(ids))


def _are_integers(file: Path, name: str, column: pa.Array) -> bool:
    if pa.types.is_integer(column.type):
        return True
    text = as_text(column)
    if not is_text(column.type):
        raise CustomTableError(
            f"{name} of {file.name} is {column.type}: ids must be integers or text. Cast them."
        )
    try:
        written = text.cast(pa.int64()).cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return bool(pc.all(pc.equal(written, text)).as_py() in (True, None))  # 007 is not 7


def _ids(file: Path, row: int, column: pa.Array, name: str, kind: pa.DataType) -> pa.Array:
    """Return ids as `kind`; CustomTableError if one is missing, or cannot be."""
    if column.null_count:
        raise refused(file, row + pc.index(column.is_null(), True).as_py(), f"{name} is empty")
    if not (is_text(column.type) or pa.types.is_integer(column.type)):
        raise CustomTableError(
            f"{name} of {file.name} is {column.type}: ids must be integers or text. Cast them."
        )
    try:
        ids = (as_text(column) if is_text(column.type) else column).cast(kind)
    except pa.ArrowInvalid as error:
        raise CustomTableError(
            f"{name} of {file.name} is no id like the others: {error}."
        ) from None
    if kind == pa.string():
        for bad, cause in (
            (pc.greater(pc.binary_length(ids), LONGEST_ID), f"has more than {LONGEST_ID} bytes"),
            (pc.equal(ids, NA), f"is {NA}, which stands for the unknown"),
            (pc.equal(ids, ""), "is empty"),
            (
                pc.match_substring_regex(ids, r"\p{Cc}"),
                "has a control character, such as a line's end: is a quote open before it?",
            ),
            (
                pc.match_substring_regex(ids, r"^\p{Z}|\p{Z}$"),
                "begins or ends with white space",
            ),
        ):
            at = pc.index(bad, True).as_py()
            if at >= 0:
                raise refused(file, row + at, f"{name} {cause}")
    return ids


def _numbers(file: Path, row: int, column: pa.Array, name: str) -> pa.Array:
    try:
        numbers = pc.fill_null(column.cast(pa.float32(), safe=False), float("nan"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CustomTableError(
            f"{name} of {file.name} is {column.type}, which is no number ({error}). Name the "
            "column of the ratings."
        ) from None
    at = pc.index(pc.is_finite(numbers), False).as_py()
    if at >= 0:
        raise refused(file, row + at, f"{name} is {column[at].as_py()}, which is no rating")
    return numbers
