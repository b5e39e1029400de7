"""Writes an archive's ratings as a table of parquet files: of each piece of it one, by a task."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from cf_pipeline.recommender.executors import LOCAL, Part
from cf_pipeline.recommender.pairs import first_of_pairs
from cf_pipeline.recommender.rating_table import Progress, Summary, write_ratings
from cf_pipeline.recommender.table_files import RATINGS, file_blocks, new_files
from cf_pipeline.recommender.tasks import results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from cf_pipeline.recommender.archive_tables import ArchiveRatings, Piece
    from cf_pipeline.recommender.downloads import Log
    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.rating_table import Origin
    from cf_pipeline.recommender.table_files import Block


def write_table(
    ratings: ArchiveRatings, folder: Path, log: Log, executor: Executor = LOCAL
) -> tuple[list[Path], Summary]:
    """Write an archive's ratings into `folder` as the table RATINGS, a file of each piece.

    Of events, the first row of a user and an item counts. Return the files, and what there is to
    know of the ratings. Errors are those that reading the archive raises.
    """
    if not ratings.events:
        return _write_pieces(ratings, folder, log, executor)
    every = folder / "every"
    every.mkdir()
    files, _ = _write_pieces(ratings, every, log, executor)
    first = first_of_pairs(files, executor)
    log(f"{len(first) - first.sum():,} of {len(first):,} events repeat an earlier one: left out.")
    pieces = [
        partial(_first_rows, block, first[block.start : block.start + block.rows], ratings.schema)
        for block in file_blocks(files)
    ]
    written = _write_pieces(ratings._replace(pieces=pieces), folder, log, executor)
    shutil.rmtree(every)
    return written


def _write_pieces(
    ratings: ArchiveRatings, folder: Path, log: Log, executor: Executor
) -> tuple[list[Path], Summary]:
    files = new_files(folder, RATINGS, len(ratings.pieces))
    if len(files) == 1:
        executor = LOCAL
    here = executor.in_process  # where a piece can say how far it is
    tasks = [
        # How many ratings it has, reading it tells.
        Part(path.name, 0, (piece, path, partial(_say, log, path.name) if here else _say_nothing))
        for piece, path in zip(ratings.pieces, files, strict=True)
    ]
    summary, progress = Summary(), Progress(log)
    for of_piece in results(executor, _write_piece, tasks, ratings.schema, ratings.origin):
        summary.merge(of_piece)
        progress.show(summary.rows)
    return files, summary


def _write_piece(piece: Piece, path: Path, log: Log, schema: pa.Schema, origin: Origin) -> Summary:
    return write_ratings(piece(), schema, path, origin, log)


def _first_rows(
    block: Block, first: npt.NDArray[np.bool_], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    for start, table in block.tables():
        at = start - block.start
        rows = table.filter(pa.array(first[at : at + len(table)]))
        yield from rows.cast(schema).to_batches()  # parquet has no whole seconds


def _say(log: Log, name: str, line: str) -> None:
    log(f"{name}: {line}")


def _say_nothing(_: str) -> None:
    """Log where nobody listens."""
