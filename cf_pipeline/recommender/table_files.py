"""Tables of one or several parquet files, and blocks of their rows, each for a task of its own.

A table whose source is one piece is `<table>.parquet`; of several it is `<table>-00000.parquet` and
on, and the rows of each come after those of the file before.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cf_pipeline.recommender import executors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ROWS_OF_A_BLOCK = 1 << 23
RATINGS, SPLIT = "ratings", "train_test_split"  # the tables that may have several files


def new_files(folder: Path, table: str, n: int) -> list[Path]:
    """Return the paths of the files of a table that is written in `n` pieces."""
    names = [table] if n == 1 else [f"{table}-{number:05d}" for number in range(n)]
    return [folder / f"{name}.parquet" for name in names]


def table_files(folder: Path, table: str) -> list[Path]:
    """Return the files of a table in the order of their rows.

    Raises:
        FileNotFoundError: there is none.
    """
    alone = folder / f"{table}.parquet"
    several = folder.glob(f"{table}-[0-9]*.parquet")
    # By length first, as the numbers may outgrow their five digits.
    files = [alone] if alone.exists() else sorted(several, key=lambda path: (len(path.name), path))
    if not files:
        raise FileNotFoundError(f"{folder} has no table {table}: materialize {table} again.")
    return files


def read_schema(files: Sequence[Path]) -> pa.Schema:
    """Return the schema of a table, which each of its files has; errors are those of `blocks`."""
    try:
        return pq.read_schema(files[0])
    except (OSError, pa.ArrowException) as error:
        raise _damaged(files[0], error) from error


class Block(NamedTuple):
    """Row groups of a file, from `first` to before `after`, and how many rows they have together.

    `start` is the row of the whole table that they begin with.
    """

    file: Path
    first: int
    after: int
    start: int
    rows: int

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yield each row group, and the row of the whole table that it begins with."""
        row = self.start
        with pq.ParquetFile(self.file) as file:
            for number in range(self.first, self.after):
                table = file.read_row_group(number, columns)
                yield row, table
                row += table.num_rows

    def task(self, *arguments: object) -> executors.Part:
        """Return a task about this block, which takes it and further arguments."""
        name = f"{self.file.name} from row {self.start:,} of the table"
        return executors.Part(name, self.rows, (self, *arguments))


def blocks(files: Sequence[Path]) -> list[Block]:
    """Return the rows of a table in order, in blocks of about ROWS_OF_A_BLOCK, none of two files.

    Raises:
        ValueError: a file is damaged; the message names it.
    """
    return _blocks(files, ROWS_OF_A_BLOCK)


def file_blocks(files: Sequence[Path]) -> list[Block]:
    """Return every file of a table as one block; errors are those of `blocks`."""
    return _blocks(files, sys.maxsize)


def n_rows(files: Sequence[Path]) -> int:
    """Return how many rows a table has; errors are those of `blocks`."""
    return sum(block.rows for block in file_blocks(files))


def _blocks(files: Sequence[Path], most: int) -> list[Block]:
    found: list[Block] = []
    start = 0
    for file in files:
        block = Block(file, 0, 0, start, 0)
        for rows in _rows_of_groups(file):
            if block.rows and block.rows + rows > most:
                found.append(block)
                start += block.rows
                block = Block(file, block.after, block.after, start, 0)
            block = block._replace(after=block.after + 1, rows=block.rows + rows)
        found.append(block)
        start += block.rows
    return found


def _rows_of_groups(file: Path) -> list[int]:
    try:
        metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} cannot be read: {error} Materialize it again.")
