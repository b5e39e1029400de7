"""Ratings in parquet, read and written some at a time: there may be more than memory holds.

A file of a split has all ratings in the archive's order, and a column `part`, 'train' or 'test'.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from cf_pipeline.recommender.splits import Mask

Part: TypeAlias = Literal["train", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
SETTINGS = b"split"
PART = pa.field("part", pa.dictionary(pa.int8(), pa.string()), nullable=False)


def write_split(
    ratings: Path, in_test: Mask, settings: Mapping[str, object], destination: Path
) -> None:
    """Copy the file of ratings with their part, and the settings of the split in the metadata.

    `in_test` (n_ratings,) tells which are in the test part.
    """
    with pq.ParquetFile(ratings) as file:
        schema = file.schema_arrow.append(PART)
        told = {**(schema.metadata or {}), SETTINGS: json.dumps(settings)}
        with pq.ParquetWriter(destination, schema.with_metadata(told)) as writer:
            start = 0
            for rows in _row_groups(file):
                of_rows = in_test[start : start + len(rows)].astype(np.int8)
                part = pa.DictionaryArray.from_arrays(of_rows, pa.array(PARTS))
                writer.write_table(rows.append_column(PART, part).replace_schema_metadata(told))
                start += len(rows)


def read_settings(path: Path) -> dict[str, object]:
    """Return the settings of the split from the file that `write_split` wrote."""
    settings: dict[str, object] = json.loads(pq.read_schema(path).metadata[SETTINGS])
    return settings


def read_ratings(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the ratings of a file, or some of their columns; ids that are strings as categoricals.

    Their categories are in no order.
    """
    return _frame(path, columns, None)


def read_part(path: Path, part: Part, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one part's ratings in their order, as `read_ratings` does, without the column `part`.

    Raises:
        ValueError: there is no such part.
    """
    return _frame(path, columns, part)


def row_groups(path: Path, columns: Sequence[str], part: Part | None = None) -> Iterator[pa.Table]:
    """Read columns of a part, or of all ratings, a row group at a time.

    Raises:
        ValueError: there is no such part.
    """
    if part is not None and part not in PARTS:
        raise ValueError(f"There is no part {part!r}: choose one of {', '.join(PARTS)}.")
    with pq.ParquetFile(path) as file:
        if part is None:
            yield from _row_groups(file, columns)
            return
        for rows in _row_groups(file, [*columns, PART.name]):
            of_part = pc.equal(rows[PART.name].cast(pa.string()), part)
            yield rows.drop_columns(PART.name).filter(of_part)


def _row_groups(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    for number in range(file.num_row_groups):
        yield file.read_row_group(number, columns)


def _frame(path: Path, columns: Sequence[str] | None, part: Part | None) -> pd.DataFrame:
    schema = pq.read_schema(path).remove_metadata()
    names = [name for name in columns or schema.names if name != PART.name]
    parts = [pa.schema([schema.field(name) for name in names]).empty_table()]
    parts += row_groups(path, names, part)
    coded = [_with_words(rows.replace_schema_metadata()) for rows in parts]
    del parts
    table = pa.concat_tables(coded).unify_dictionaries()
    del coded
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
    return frame


def _with_words(rows: pa.Table) -> pa.Table:
    """Return a table with its strings as dictionaries, which pandas takes as categoricals."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_string(field.type):
            rows = rows.set_column(place, field.name, rows.column(place).dictionary_encode())
    return rows
