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

from cf_pipeline.recommender.distinct import Distinct
from cf_pipeline.recommender.split_files import PARTS, Part, row_groups
from cf_pipeline.recommender.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    import numpy.typing as npt

    Columns: TypeAlias = tuple[
        npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]
    ]

RATING = ("user", "movie", "rating")
COLUMNS = {"users": "<i4", "items": "<i4", "ratings": "<f4"}


class Ids(NamedTuple):
    """The distinct ids of ratings, ascending."""

    users: pa.Array
    movies: pa.Array

    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Return the vocabularies of both."""
        return Vocabulary.of(self.users), Vocabulary.of(self.movies)


def distinct_ids(ratings: Path, part: Part | None = None) -> Ids:
    """Return the distinct ids of a part, or of all ratings, of a parquet file.

    It takes memory for the ids that there are, however many ratings have them.

    Raises:
        ValueError: there is no such part.
    """
    users, movies = Distinct(), Distinct()
    for rows in row_groups(ratings, RATING[:2], part):
        users.add(rows["user"])
        movies.add(rows["movie"])
    return Ids(users.sorted(), movies.sorted())


def encode_split(split: Path, users: Vocabulary, movies: Vocabulary, directory: Path) -> None:
    """Write both parts of the file of a split into `directory`, encoded, one after the other."""
    for part in PARTS:
        n = sum(len(rows) for rows in row_groups(split, [], part))
        write_encoded(encoded(split, users, movies, part), n, directory, part)


def write_encoded(
    columns: Iterable[Sequence[npt.NDArray[np.generic]]], n: int, directory: Path, part: str
) -> None:
    """Write `n` encoded ratings as they come, as the files of `part`."""
    with ExitStack() as stack:
        files = []
        for column, kind in COLUMNS.items():
            file = stack.enter_context((directory / f"{part}_{column}.npy").open("wb"))
            header = {"descr": kind, "fortran_order": False, "shape": (n,)}
            np.lib.format.write_array_header_1_0(file, header)
            files.append(file)
        for values in columns:
            for file, array in zip(files, values, strict=True):
                file.write(array.data)


def encoded(
    split: Path, users: Vocabulary, movies: Vocabulary, part: Part | None = None
) -> Iterator[Columns]:
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
