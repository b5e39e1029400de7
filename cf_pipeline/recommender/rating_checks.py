"""The checks of ratings in parquet files, which may be longer than memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cf_pipeline.recommender.executors import LOCAL
from cf_pipeline.recommender.pairs import PairKeys, repeated_pairs
from cf_pipeline.recommender.rating_table import Origin
from cf_pipeline.recommender.table_files import blocks, read_schema
from cf_pipeline.recommender.validation import (
    DUPLICATES,
    EXAMPLES,
    Fault,
    broken_rows,
    examples,
    refuse,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.pairs import Keys
    from cf_pipeline.recommender.table_files import Block


def check_ratings_files(ratings: Sequence[Path], executor: Executor = LOCAL) -> None:
    """Hold the ratings of a table, as `ratings` writes it, to every rule of RATINGS_CHECKS.

    A task takes memory for a row group, or for the keys of a pass of `pairs`, however many ratings
    there are. Rows are counted through all files.

    Raises:
        BadRatingsError: a rule is broken; it says which, how often, and where.
        ValueError: the files do not say of which dataset they are, or are damaged.
    """
    origin = Origin.read(read_schema(ratings))
    of_table = blocks(ratings)
    tasks = [block.task() for block in of_table]
    faults = _Faults()
    for found in executor.map(_broken, tasks, origin):
        faults.merge(found)
    keys_of = PairKeys.of(ratings, executor)
    repeated = repeated_pairs(ratings, keys_of, executor)
    if len(repeated):
        for found in executor.map(_among, tasks, keys_of, repeated):
            faults.merge(found)
    refuse(faults.found, sum(block.rows for block in of_table), origin.scale)


def _broken(block: Block, origin: Origin) -> dict[str, Fault]:
    """Return what breaks those rules that a row breaks by itself."""
    faults = _Faults()
    for row, table in block.tables():
        frame = table.select(["rating", "timestamp"]).to_pandas()
        for name, rows in broken_rows(frame, origin.scale, origin.first_rating).items():
            faults.add(name, table, row, rows.to_numpy(bool))
    return faults.found


def _among(block: Block, keys_of: PairKeys, repeated: Keys) -> dict[str, Fault]:
    """Return which rows have keys that are repeated: ascending, and not empty."""
    faults = _Faults()
    for row, table in block.tables():
        keys = keys_of(table)
        places = np.searchsorted(repeated, keys)
        there = repeated[np.minimum(places, len(repeated) - 1)] == keys
        faults.add(DUPLICATES, table, row, there)
    return faults.found


class _Faults:
    """Counts rows that break rules, and keeps the first few of each."""

    def __init__(self) -> None:
        self.found: dict[str, Fault] = {}

    def add(self, name: str, table: pa.Table, row: int, broken: np.ndarray) -> None:
        """Add the broken rows of `table`, whose first is row `row` of the whole table."""
        places = np.flatnonzero(broken)
        if len(places):
            few = places[:EXAMPLES]
            frame = table.take(few).to_pandas().set_axis(few + row)
            self.merge({name: Fault(len(places), examples(frame))})

    def merge(self, later: Mapping[str, Fault]) -> None:
        """Add the faults of later rows."""
        for name, fault in later.items():
            before = self.found.get(name, Fault(0, []))
            few = [*before.examples, *fault.examples][:EXAMPLES]
            self.found[name] = Fault(before.count + fault.count, few)
