"""The checks of ratings in a parquet file, which may be longer than memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cf_pipeline.recommender.distinct import Distinct
from cf_pipeline.recommender.rating_table import Origin
from cf_pipeline.recommender.validation import (
    DUPLICATES,
    EXAMPLES,
    Fault,
    broken_rows,
    examples,
    refuse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAIRS = 1 << 25  # whose keys are sorted at once: 256 MiB


def check_ratings_file(path: Path) -> None:
    """Hold the ratings of a parquet file, as `ratings` writes it, to every rule of RATINGS_CHECKS.

    It takes memory for a row group and for the keys of PAIRS ratings, however many there are.

    Raises:
        BadRatingsError: a rule is broken; it says which, how often, and where.
        ValueError: the file does not say of which dataset it is.
    """
    with pq.ParquetFile(path) as file:
        origin = Origin.read(file.schema_arrow)
        faults = _Faults()
        for row, table in _row_groups(file, file.schema_arrow.names):
            frame = table.select(["rating", "timestamp"]).to_pandas()
            for name, rows in broken_rows(frame, origin.scale, origin.first_rating).items():
                faults.add(name, table, row, rows.to_numpy(bool))
        pairs = _Pairs(file)
        repeated = pairs.repeated()
        if len(repeated):
            for row, table in _row_groups(file, file.schema_arrow.names):
                faults.add(DUPLICATES, table, row, _among(pairs.keys(table), repeated))
        refuse(faults.found, file.metadata.num_rows, origin.scale)


def _among(keys: np.ndarray, few: np.ndarray) -> np.ndarray:
    """Return which keys are in `few`, ascending and not empty."""
    places = np.searchsorted(few, keys)
    found: np.ndarray = few[np.minimum(places, len(few) - 1)] == keys
    return found


class _Faults:
    """Counts rows that break rules, and keeps the first few of each."""

    def __init__(self) -> None:
        self.found: dict[str, Fault] = {}

    def add(self, name: str, table: pa.Table, row: int, broken: np.ndarray) -> None:
        """Add the broken rows of `table`, whose first is row `row` of the file."""
        places = np.flatnonzero(broken)
        if not len(places):
            return
        before = self.found.get(name, Fault(0, []))
        few = places[: EXAMPLES - len(before.examples)]
        frame = table.take(few).to_pandas().set_axis(few + row)
        self.found[name] = Fault(before.count + len(places), [*before.examples, *examples(frame)])


class _Pairs:
    """Keys of (user, movie): int64, equal for equal pairs only."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        self._codes = {name: _codes(file, name) for name in ("user", "movie")}

    def keys(self, table: pa.Table) -> np.ndarray:
        """Return the key of each row, (n,)."""
        users, movies = (code(table[name]) for name, code in self._codes.items())
        keys: np.ndarray = (users.astype(np.int64) << 32) | movies
        return keys

    def repeated(self) -> np.ndarray:
        """Return, ascending, the keys that more than one row has."""
        n_passes = -(-self._file.metadata.num_rows // PAIRS)
        found = [self._repeated(number, n_passes) for number in range(n_passes)]
        return np.sort(np.concatenate([np.empty(0, np.int64), *found]))

    def _repeated(self, number: int, n_passes: int) -> np.ndarray:
        """Look only at the users of one of so many passes."""
        parts = []
        for _, table in _row_groups(self._file, ["user", "movie"]):
            keys = self.keys(table)
            parts.append(keys[(keys >> 32) % n_passes == number] if n_passes > 1 else keys)
        keys = np.concatenate(parts)
        del parts
        keys.sort()
        return np.unique(keys[1:][keys[1:] == keys[:-1]])


def _codes(file: pq.ParquetFile, name: str) -> Callable[[pa.ChunkedArray], np.ndarray]:
    """Return what numbers the ids of a column with int32: MovieLens' ids are such numbers."""
    if file.schema_arrow.field(name).type == pa.int32():
        return lambda column: column.to_numpy()
    distinct = Distinct()
    for _, table in _row_groups(file, [name]):
        for chunk in table[name].chunks:
            distinct.add(chunk)
    ids = distinct.sorted()
    return lambda column: pc.index_in(column, ids).to_numpy()


def _row_groups(file: pq.ParquetFile, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """Yield each row group as a table, and the row of the file that it begins with."""
    row = 0
    for number in range(file.num_row_groups):
        table = file.read_row_group(number, columns=columns, use_threads=False)
        yield row, table
        row += table.num_rows
