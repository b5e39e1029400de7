"""The ratings of a split as indices of vocabularies, in files that are mapped into memory.

Of each part there are `<part>_users.npy` and `<part>_items.npy`, int32 (n,), and
`<part>_ratings.npy`, float32 (n,), in the part's order. Ids that the vocabularies do not have are
index 0. `EncodedRatings.load` maps them.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cf_pipeline.recommender.split_files import PARTS, Part, row_groups
from cf_pipeline.recommender.vocabulary import Vocabulary, distinct

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

RATING = ("user", "movie", "rating")
COLUMNS = {"users": "<i4", "items": "<i4", "ratings": "<f4"}
LEAST_TO_MERGE = 1 << 20  # ids


class Ids(NamedTuple):
    """The distinct ids of ratings, in any order."""

    users: pa.Array
    movies: pa.Array

    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Return the vocabularies of both."""
        return Vocabulary.of(self.users), Vocabulary.of(self.movies)


def distinct_ids(split: Path, part: Part | None = None) -> Ids:
    """Return the distinct ids of a part, or of all ratings, of the file of a split.

    It takes memory for a few times as many ids as there are, however many ratings have them.

    Raises:
        ValueError: there is no such part.
    """
    users, movies = RATING[:2]
    schema = pq.read_schema(split)
    found = {name: [pa.nulls(0, schema.field(name).type)] for name in (users, movies)}
    merged = dict.fromkeys(found, 0)
    for rows in row_groups(split, list(found), part):
        for name, ids in found.items():
            ids.append(distinct([rows[name]]))
            if sum(map(len, ids)) > max(LEAST_TO_MERGE, 2 * merged[name]):
                ids[:] = [distinct(ids)]
                merged[name] = len(ids[0])
    return Ids(distinct(found[users]), distinct(found[movies]))


def encode_split(split: Path, users: Vocabulary, movies: Vocabulary, directory: Path) -> None:
    """Write both parts of the file of a split into `directory`, encoded, one after the other."""
    for part in PARTS:
        n = sum(len(rows) for rows in row_groups(split, [], part))
        with ExitStack() as stack:
            files = []
            for column, kind in COLUMNS.items():
                file = stack.enter_context((directory / f"{part}_{column}.npy").open("wb"))
                header = {"descr": kind, "fortran_order": False, "shape": (n,)}
                np.lib.format.write_array_header_1_0(file, header)
                files.append(file)
            for columns in encoded(split, users, movies, part):
                for file, values in zip(files, columns, strict=True):
                    file.write(values.data)


def encoded(
    split: Path, users: Vocabulary, movies: Vocabulary, part: Part | None = None
) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]]:
    """Yield the users, items and ratings of a part, or of all, encoded, a row group at a time.

    Raises:
        ValueError: there is no such part.
    """
    for rows in row_groups(split, RATING, part):
        user, movie, rating = rows.columns
        yield (
            users.encode(user),
            movies.encode(movie),
            rating.to_numpy().astype(np.float32, copy=False),
        )
