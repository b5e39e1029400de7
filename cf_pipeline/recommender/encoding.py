"""The ratings of a split as indices of vocabularies, in files that are mapped into memory.

Of each part there are `<part>_users.npy` and `<part>_items.npy`, int32 (n,), and
`<part>_ratings.npy`, float32 (n,), in the part's order. Ids that the vocabularies do not have are
index 0. `EncodedRatings.load` maps them.
"""

from __future__ import annotations

from contextlib import ExitStack
from os import SEEK_CUR
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from cf_pipeline.recommender.distinct import Distinct
from cf_pipeline.recommender.executors import LOCAL
from cf_pipeline.recommender.split_files import (
    PART,
    PARTS,
    Part,
    groups_of_part,
    is_of,
    row_groups,
)
from cf_pipeline.recommender.table_files import blocks, n_rows
from cf_pipeline.recommender.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO, TypeAlias

    import numpy.typing as npt

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.table_files import Block

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


def distinct_ids(
    ratings: Sequence[Path], part: Part | None = None, executor: Executor = LOCAL
) -> Ids:
    """Return the distinct ids of a part, or of all ratings, of parquet files.

    It takes memory for the ids that there are, however many ratings have them.

    Raises:
        BlockError: there is no such part.
        ValueError: a file is damaged; the message names it.
    """
    users, movies = Distinct(), Distinct()
    tasks = [block.task() for block in blocks(ratings)]
    for found in executor.map(_ids_of_block, tasks, part):
        users.add(found.users)
        movies.add(found.movies)
    return Ids(users.sorted(), movies.sorted())


def _ids_of_block(block: Block, part: Part | None) -> Ids:
    users, movies = Distinct(), Distinct()
    for rows in groups_of_part(block, RATING[:2], part):
        users.add(rows["user"])
        movies.add(rows["movie"])
    return Ids(users.sorted(), movies.sorted())


def encode_split(
    split: Sequence[Path],
    users: Vocabulary,
    movies: Vocabulary,
    directory: Path,
    executor: Executor = LOCAL,
) -> None:
    """Write both parts of a split into `directory`, encoded.

    The files are as long as they will be at first, and each block is written into its place.
    """
    of_blocks = blocks(split)
    counts = np.zeros((len(of_blocks) + 1, len(PARTS)), np.int64)
    tasks = [block.task() for block in of_blocks]
    for number, found in enumerate(executor.map(_count, tasks)):
        counts[number + 1] = found
    starts = counts.cumsum(0)
    for part, n in zip(PARTS, starts[-1].tolist(), strict=True):
        for column, kind in COLUMNS.items():
            with _file(directory, part, column).open("wb") as file:
                _write_header(file, kind, n)
                file.truncate(file.tell() + n * np.dtype(kind).itemsize)
    tasks = [
        block.task(dict(zip(PARTS, of_block, strict=True)))
        for block, of_block in zip(of_blocks, starts[:-1].tolist(), strict=True)
    ]
    for _ in executor.map(_encode_block, tasks, users, movies, directory):
        pass


def _count(block: Block) -> list[int]:
    """Return how many rows of a block are of each part."""
    return [sum(map(len, groups_of_part(block, [], part))) for part in PARTS]


def _encode_block(
    block: Block,
    starts: Mapping[Part, int],
    users: Vocabulary,
    movies: Vocabulary,
    directory: Path,
) -> None:
    """Write a block into the files of its parts, from the row on that each has in `starts`."""
    with ExitStack() as stack:
        files = {
            part: [
                stack.enter_context(_opened(_file(directory, part, column), start))
                for column in COLUMNS
            ]
            for part, start in starts.items()
        }
        for _, rows in block.tables([*RATING, PART.name]):
            columns = _encoded(rows, users, movies)
            for part, of_part in files.items():
                mask = is_of(rows, part).to_numpy()
                for file, column in zip(of_part, columns, strict=True):
                    file.write(column[mask].data)


def encode_whole(
    ratings: Sequence[Path], users: Vocabulary, movies: Vocabulary, directory: Path
) -> None:
    """Write all ratings of parquet files into `directory`, encoded, as the part 'whole'."""
    directory.mkdir(parents=True, exist_ok=True)
    write_encoded(encoded(ratings, users, movies), n_rows(ratings), directory, "whole")


def write_encoded(
    columns: Iterable[Sequence[npt.NDArray[np.generic]]], n: int, directory: Path, part: str
) -> None:
    """Write `n` encoded ratings as they come, as the files of `part`."""
    with ExitStack() as stack:
        files = []
        for column, kind in COLUMNS.items():
            file = stack.enter_context(_file(directory, part, column).open("wb"))
            _write_header(file, kind, n)
            files.append(file)
        for values in columns:
            for file, array in zip(files, values, strict=True):
                file.write(array.data)


def _file(directory: Path, part: str, column: str) -> Path:
    return directory / f"{part}_{column}.npy"


def _write_header(file: BinaryIO, kind: str, n: int) -> None:
    header = {"descr": kind, "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(file, header)


def _opened(path: Path, row: int) -> BinaryIO:
    """Return a file that is there at the place of a row."""
    file = path.open("r+b")
    np.lib.format.read_magic(file)
    _, _, kind = np.lib.format.read_array_header_1_0(file)
    file.seek(row * kind.itemsize, SEEK_CUR)
    return file


def encoded(
    ratings: Sequence[Path], users: Vocabulary, movies: Vocabulary, part: Part | None = None
) -> Iterator[Columns]:
    """Yield the users, items and ratings of a part, or of all, encoded, a row group at a time.

    Raises:
        ValueError: there is no such part.
    """
    for rows in row_groups(ratings, RATING, part):
        yield _encoded(rows, users, movies)


def _encoded(rows: pa.Table, users: Vocabulary, movies: Vocabulary) -> Columns:
    return (
        users.encode(rows["user"]),
        movies.encode(rows["movie"]),
        rows["rating"].to_numpy().astype(np.float32, copy=False),
    )
