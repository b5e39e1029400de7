"""Who rated the same thing twice: found in passes over the users, each a task of its own.

A pass takes memory for the keys of about PAIRS ratings, however many there are; to say which rows
are later ones of their pair (`first_of_pairs`), four times that, for their rows and the order. Each
worker of a cluster takes as much. Every pass reads all ratings: of a billion there are 30. And
`first_of_pairs` has a byte for each rating besides, where it is asked: 1 GB of a billion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cf_pipeline.recommender import executors
from cf_pipeline.recommender.encoding import RATING, distinct_ids
from cf_pipeline.recommender.executors import LOCAL
from cf_pipeline.recommender.table_files import file_blocks, n_rows, read_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.table_files import Block

    Keys = npt.NDArray[np.int64]

PAIRS = 1 << 25  # whose keys are sorted at once: 256 MiB
COLUMNS = RATING[:2]


class PairKeys(NamedTuple):
    """What makes keys of (user, movie), int64: equal for equal pairs only.

    It has the distinct ids of both columns, None where ids are int32, as MovieLens' are: these are
    their own numbers.
    """

    ids: tuple[pa.Array | None, ...]

    @classmethod
    def of(cls, ratings: Sequence[Path], executor: Executor = LOCAL) -> PairKeys:
        """Take the ids of a table."""
        schema = read_schema(ratings)
        if all(schema.field(name).type == pa.int32() for name in COLUMNS):
            return cls((None, None))
        return cls(tuple(distinct_ids(ratings, executor=executor)))

    def __call__(self, rows: pa.Table) -> Keys:
        """Return the key of each row, (n,)."""
        users, movies = (
            rows[name].to_numpy() if ids is None else pc.index_in(rows[name], ids).to_numpy()
            for name, ids in zip(COLUMNS, self.ids, strict=True)
        )
        keys: Keys = (users.astype(np.int64) << 32) | movies
        return keys


def repeated_pairs(ratings: Sequence[Path], keys_of: PairKeys, executor: Executor = LOCAL) -> Keys:
    """Return, ascending, the keys that more than one row of a table has."""
    found = list(executor.map(_repeated, _passes(ratings), file_blocks(ratings), keys_of))
    return np.sort(np.concatenate([np.empty(0, np.int64), *found]))


def first_of_pairs(ratings: Sequence[Path], executor: Executor = LOCAL) -> npt.NDArray[np.bool_]:
    """Return which rows of a table (n,) are the first of their pair."""
    keys_of, of_files = PairKeys.of(ratings, executor), file_blocks(ratings)
    first = np.ones(sum(block.rows for block in of_files), bool)
    for later in executor.map(_later, _passes(ratings), of_files, keys_of):
        first[later] = False
    return first


def _passes(ratings: Sequence[Path]) -> list[executors.Part]:
    rows = n_rows(ratings)
    n = -(-rows // PAIRS)
    return [
        executors.Part(f"pass {number + 1} of {n} over the users", rows // n, (number, n))
        for number in range(n)
    ]


def _repeated(number: int, n_passes: int, of_files: Sequence[Block], keys_of: PairKeys) -> Keys:
    """Look only at the users of one of so many passes."""
    found = _keys(number, n_passes, of_files, keys_of)
    keys = np.concatenate([keys[mine] for _, keys, mine in found])
    keys.sort()
    return np.unique(keys[1:][keys[1:] == keys[:-1]])


def _later(number: int, n_passes: int, of_files: Sequence[Block], keys_of: PairKeys) -> Keys:
    """Return the rows, of the users of one pass, before which there is another of the same pair."""
    found = [
        (keys[mine], np.arange(start, start + len(keys))[mine])
        for start, keys, mine in _keys(number, n_passes, of_files, keys_of)
    ]
    keys, rows = map(np.concatenate, zip(*found, strict=True))
    del found
    order = keys.argsort(kind="stable")
    keys = keys[order]
    later: Keys = rows[order[1:][keys[1:] == keys[:-1]]]
    return later


def _keys(
    number: int, n_passes: int, of_files: Sequence[Block], keys_of: PairKeys
) -> Iterator[tuple[int, Keys, npt.NDArray[np.bool_] | slice]]:
    """Yield the row that keys begin with, the keys, and which of them are the pass's own."""
    for block in of_files:
        for start, table in block.tables(COLUMNS):
            keys = keys_of(table)
            mine = (keys >> 32) % n_passes == number if n_passes > 1 else slice(None)
            yield start, keys, mine
