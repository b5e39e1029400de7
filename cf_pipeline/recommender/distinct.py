"""The distinct values of a column that comes in batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Ids below it have a byte each; MovieLens' are below 300,000.
DENSE = 1 << 24


class Distinct:
    """The distinct ids of a column, integers or strings, that is added batch by batch.

    Strings may come as dictionaries. Memory is that of the distinct ids alone, and a byte for each
    integer from 0 to DENSE.
    """

    def __init__(self) -> None:
        self._seen = np.zeros(DENSE, bool)  # takes memory where it is written
        self._others: pa.Array | None = None
        self._added: list[pa.Array] = []
        self._n_added = 0

    def add(self, values: pa.Array | pa.ChunkedArray) -> None:
        """Add ids, of the same type each time, without nulls."""
        if not pa.types.is_integer(values.type):
            self._add_others(values)
            return
        ids = values.to_numpy(zero_copy_only=False)
        dense = (ids >= 0) & (ids < DENSE)
        if dense.all():
            self._seen[ids] = True
        else:
            self._seen[ids[dense]] = True
            self._add_others(pa.array(ids[~dense], values.type))

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
        others = self._others.to_numpy(zero_copy_only=False)
        return pa.array(np.sort(np.concatenate([dense, others])), pa.int64())

    def _add_others(self, values: pa.Array) -> None:
        unique = pc.unique(values)
        if pa.types.is_dictionary(unique.type):
            unique = unique.dictionary_decode()
        self._added.append(unique)
        self._n_added += len(self._added[-1])
        # At each doubling, so that merging takes time in proportion to what is added.
        if self._n_added > max(DENSE >> 4, 0 if self._others is None else len(self._others)):
            self._merge()

    def _merge(self) -> None:
        if self._added:
            known = [] if self._others is None else [self._others]
            self._others = pc.unique(pa.concat_arrays([*known, *self._added]))
            self._added, self._n_added = [], 0
