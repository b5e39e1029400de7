"""Writes ratings as parquet while they come in, and says what there is to know of them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cf_pipeline.recommender.datasets import DATASETS, UNTIMED, Scale
from cf_pipeline.recommender.distinct import Distinct
from cf_pipeline.recommender.validation import FIRST_RATING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from cf_pipeline.recommender.downloads import Log

ROW_GROUP = 1 << 20  # rows
SECONDS_BETWEEN_LINES = 5.0
KEY = b"dataset"  # in the metadata of the parquet schema


class Origin(NamedTuple):
    """Which dataset ratings are of, and its scale; None where any finite rating can be."""

    dataset: str
    scale: Scale | None

    @classmethod
    def read(cls, schema: pa.Schema) -> Self:
        """Return what `metadata` put into the schema of a table of ratings.

        Raises:
            ValueError: it says nothing.
        """
        if KEY not in (schema.metadata or {}):
            raise ValueError(
                "The table does not say of which dataset it is. Materialize ratings again."
            )
        said = json.loads(schema.metadata[KEY])
        return cls(said["dataset"], Scale(*said["scale"]) if said["scale"] else None)

    @property
    def first_rating(self) -> datetime | None:
        """When the first rating can have been given, None if at any time."""
        return FIRST_RATING if self.dataset in DATASETS else None

    def metadata(self) -> dict[bytes, bytes]:
        """Return it as metadata of a schema."""
        return {KEY: json.dumps(self._asdict()).encode()}


class Summary:
    """Counts, extremes and the mean of ratings that are added batch by batch."""

    def __init__(self) -> None:
        self.rows = 0
        self._users, self._movies = Distinct(), Distinct()
        self._sum, self._untimed = 0.0, 0
        self._extremes: dict[str, list[Any]] = {"rating": [], "timestamp": []}

    def add(self, batch: pa.RecordBatch) -> None:
        """Add ratings: columns user, movie, rating and timestamp."""
        self.rows += batch.num_rows
        self._users.add(batch["user"])
        self._movies.add(batch["movie"])
        self._sum += pc.sum(batch["rating"]).as_py() or 0.0
        self._untimed += batch["timestamp"].null_count
        for name in self._extremes:
            found = pc.min_max(batch[name])
            self._extend(name, [found["min"].as_py(), found["max"].as_py()])

    def merge(self, other: Self) -> None:
        """Add the ratings that were added to another one."""
        self.rows += other.rows
        self._users.add(other._users.sorted())
        self._movies.add(other._movies.sorted())
        self._sum += other._sum
        self._untimed += other._untimed
        for name, extremes in other._extremes.items():
            self._extend(name, extremes)

    def _extend(self, name: str, values: Iterable[Any]) -> None:
        known = [value for value in (*self._extremes[name], *values) if value is not None]
        self._extremes[name] = [min(known), max(known)] if known else []

    def figures(self) -> dict[str, int | float | str]:
        """Return the figures by name, of timestamps there and lacking only where some are."""
        if not self.rows:
            return {}
        lowest, highest = self._extremes["rating"]
        figures: dict[str, int | float | str] = {
            "users": len(self._users),
            "movies": len(self._movies),
            "lowest_rating": lowest,
            "mean_rating": self._sum / self.rows,
            "highest_rating": highest,
        }
        if self._extremes["timestamp"]:
            first, last = map(str, self._extremes["timestamp"])
            figures |= {"first_rating": first, "last_rating": last}
        if self._untimed:
            figures[UNTIMED] = self._untimed
        return figures


def write_ratings(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path, origin: Origin, log: Log
) -> Summary:
    """Write ratings of `schema` to `path` as they come, in row groups of ROW_GROUP rows.

    It takes memory for a row group or two. Equal ratings give equal files, whatever their batches.
    """
    summary, waiting, n_waiting = Summary(), list[pa.RecordBatch](), 0
    progress = Progress(log)
    numbers = [field.name for field in schema if _is_integer_or_time(field)]
    with pq.ParquetWriter(
        path,
        schema.with_metadata(origin.metadata()),
        # Measured on 20 million ratings: less than the default of Parquet to write, to read and to
        # keep. Statistics are of no use to any reader.
        use_dictionary=[name for name in schema.names if name not in numbers],
        column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        compression="none",
        write_statistics=False,
    ) as writer:

        def write(rows: int) -> None:
            nonlocal waiting, n_waiting
            table = pa.Table.from_batches(waiting, schema)
            # In one piece: where pages end depends on the pieces.
            writer.write_table(table.slice(0, rows).combine_chunks(), row_group_size=ROW_GROUP)
            waiting = table.slice(rows).to_batches()
            n_waiting -= min(rows, n_waiting)

        for batch in batches:
            summary.add(batch)
            waiting.append(batch)
            n_waiting += batch.num_rows
            while n_waiting >= ROW_GROUP:
                write(ROW_GROUP)
            progress.show(summary.rows)
        if n_waiting or not summary.rows:
            write(ROW_GROUP)
    return summary


def _is_integer_or_time(field: pa.Field) -> bool:
    return bool(pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type))


class Progress:
    """Logs every few seconds how many ratings were read so far."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._began = self._logged = time.monotonic()

    def show(self, rows: int) -> None:
        """Say how many they are, if it is time."""
        now = time.monotonic()
        if now - self._logged > SECONDS_BETWEEN_LINES:
            self._logged = now
            self._log(f"{rows:,} ratings read, {rows / (now - self._began):,.0f} a second.")
