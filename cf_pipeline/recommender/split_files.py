"""Ratings in parquet, read and written some at a time: there may be more than memory holds.

A split has all ratings in the archive's order, and a column `part`, 'train' or 'test'.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cf_pipeline.recommender.executors import LOCAL
from cf_pipeline.recommender.table_files import SPLIT, file_blocks, new_files, read_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.splits import Mask
    from cf_pipeline.recommender.table_files import Block

Part: TypeAlias = Literal["train", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
SETTINGS = b"split"
PART = pa.field("part", pa.dictionary(pa.int8(), pa.string()), nullable=False)


def write_split(
    ratings: Sequence[Path],
    in_test: Mask,
    settings: Mapping[str, object],
    folder: Path,
    executor: Executor = LOCAL,
) -> list[Path]:
    """Copy the files of ratings with their part, and the settings of the split in the metadata.

    `in_test` (n_ratings,) tells which are in the test part. Return the files in `folder`, the table
    SPLIT, one of each file of ratings.
    """
    written = new_files(folder, SPLIT, len(ratings))
    tasks = [
        block.task(in_test[block.start : block.start + block.rows], destination)
        for block, destination in zip(file_blocks(ratings), written, strict=True)
    ]
    for _ in executor.map(_write_file, tasks, dict(settings)):
        pass
    return written


def _write_file(
    ratings: Block, in_test: Mask, destination: Path, settings: Mapping[str, object]
) -> None:
    schema = pq.read_schema(ratings.file).append(PART)
    told = {**(schema.metadata or {}), SETTINGS: json.dumps(settings)}
    with pq.ParquetWriter(destination, schema.with_metadata(told)) as writer:
        for start, rows in ratings.tables():
            first = start - ratings.start
            of_rows = in_test[first : first + len(rows)].astype(np.int8)
            part = pa.DictionaryArray.from_arrays(of_rows, pa.array(PARTS))
            writer.write_table(rows.append_column(PART, part).replace_schema_metadata(told))


def read_settings(split: Sequence[Path]) -> dict[str, object]:
    """Return the settings of the split from the files that `write_split` wrote."""
    settings: dict[str, object] = json.loads(read_schema(split).metadata[SETTINGS])
    return settings


def read_ratings(files: Sequence[Path], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the ratings of a table, or some of their columns.

    Ids that are strings are categoricals, whose categories are in no order.
    """
    return _frame(files, columns, None)


def read_part(
    files: Sequence[Path], part: Part, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return one part's ratings in their order, as `read_ratings` does, without the column `part`.

    Raises:
        ValueError: there is no such part.
    """
    return _frame(files, columns, part)


def row_groups(
    files: Sequence[Path], columns: Sequence[str], part: Part | None = None
) -> Iterator[pa.Table]:
    """Read columns of a part, or of all ratings, a row group at a time.

    Raises:
        ValueError: there is no such part.
    """
    for block in file_blocks(files):
        yield from groups_of_part(block, columns, part)


def groups_of_part(block: Block, columns: Sequence[str], part: Part | None) -> Iterator[pa.Table]:
    """Read columns of a part, or of all ratings, of a block, a row group at a time.

    Raises:
        ValueError: there is no such part.
    """
    if part is not None and part not in PARTS:
        raise ValueError(f"There is no part {part!r}: choose one of {', '.join(PARTS)}.")
    if part is None:
        yield from (rows for _, rows in block.tables(columns))
        return
    for _, rows in block.tables([*columns, PART.name]):
        yield rows.drop_columns(PART.name).filter(is_of(rows, part))


def is_of(rows: pa.Table, part: Part) -> pa.ChunkedArray:
    """Return which rows are of a part."""
    return pc.equal(rows[PART.name].cast(pa.string()), part)


def _frame(files: Sequence[Path], columns: Sequence[str] | None, part: Part | None) -> pd.DataFrame:
    schema = read_schema(files).remove_metadata()
    names = [name for name in columns or schema.names if name != PART.name]
    parts = [pa.schema([schema.field(name) for name in names]).empty_table()]
    parts += row_groups(files, names, part)
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
