"""The distinct values of a column that comes in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Ids below it have a byte each, up to the greatest; MovieLens' are below 300,000.
DENSE = 1 << 24


class Distinct:
    """The distinct ids of a column, integers or strings, that is added batch by batch.

    Strings may come as dictionaries. Memory is that of the distinct ids alone, and a byte for each
    integer from 0 to the greatest below DENSE. What others found is added as `sorted` gives it.
    """

    def __init__(self) -> None:
        self._seen = np.zeros(0, bool)
        self._others: pa.Array | None = None
        self._added: list[pa.Array] = []
        self._n_added = 0

    def add(self, values: pa.Array | pa.ChunkedArray) -> None:
        """Add ids, of the same type each time, without nulls."""
        if not pa.types.is_integer(values.type):
            self._add_others(values)
            return
        ids = values.to_numpy()
        if not len(ids):
            return
        if ids.min() >= 0 and ids.max() < DENSE:
            self._add_dense(ids)
        else:
            dense = (ids >= 0) & (ids < DENSE)
            self._add_dense(ids[dense])
            self._add_others(pa.array(ids[~dense], pa.int64()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled as the ids alone, without the table of bytes."""
        return _distinct, (self.sorted(),)

    def __len__(self) -> int:
        self._merge()
        return int(self._seen.sum()) + (0 if self._others is None else len(self._others))

    def sorted(self) -> pa.Array:
        """Return the ids, ascending: int64 or strings."""
        self._merge()
        dense = np.flatnonzero(self._seen)
        if self._others is None:
            return pa.array(dense, pa.int64())
        if not pa.types.is_integer(self._others.type):
            return self._others.sort()
        others = self._others.to_numpy()
        # Those below zero come first, and those from DENSE on last.
        place = np.searchsorted(others, 0)
        return pa.array(np.concatenate([others[:place], dense, others[place:]]), pa.int64())

    def _add_dense(self, ids: np.ndarray) -> None:
        greatest = int(ids.max(initial=-1))
        if greatest >= len(self._seen):
            # By doubling, so that growing takes time in proportion to the length.
            more = max(greatest + 1, 2 * len(self._seen)) - len(self._seen)
            self._seen = np.append(self._seen, np.zeros(more, bool))
        self._seen[ids] = True

    def _add_others(self, values: pa.Array | pa.ChunkedArray) -> None:
        unique = pc.unique(values)
        if pa.types.is_dictionary(unique.type):
            unique = unique.dictionary_decode()
        self._added.append(unique)
        self._n_added += len(unique)
        # At each doubling, so that merging takes time in proportion to what is added.
        if self._n_added > max(DENSE >> 4, 0 if self._others is None else len(self._others)):
            self._merge()

    def _merge(self) -> None:
        if self._added:
            known = [] if self._others is None else [self._others]
            self._others = _unique(pa.concat_arrays([*known, *self._added]))
            self._added, self._n_added = [], 0


def _distinct(ids: pa.Array) -> Distinct:
    distinct = Distinct()
    distinct.add(ids)
    return distinct


def _unique(values: pa.Array) -> pa.Array:
    """Return the distinct values, integers ascending: a hash table of them takes more memory."""
    if not pa.types.is_integer(values.type):
        return pc.unique(values)
    ordered = np.sort(values.to_numpy())
    return pa.array(ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]])
