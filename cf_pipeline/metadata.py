"""What the UI shows of a result: tables with their schemas, pictures, and a few rows to look at."""

from __future__ import annotations

import base64
from itertools import islice
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

PREVIEW_ROWS = 5


def describe_table(
    table: pa.Table, descriptions: Mapping[str, str]
) -> dict[str, dg.MetadataValue | str | int | float | bool]:
    """Return row count, schema and first rows, if any; `descriptions` says what a column holds."""
    columns = [
        dg.TableColumn(
            field.name,
            type=str(field.type),
            description=descriptions[field.name],
            constraints=dg.TableColumnConstraints(nullable=field.nullable),
        )
        for field in table.schema
    ]
    described = {
        "dagster/row_count": table.num_rows,
        "dagster/column_schema": dg.TableSchema(columns),
    }
    if table.num_rows:
        described["preview"] = table_of(table.slice(0, PREVIEW_ROWS).to_pylist())
    return described


def describe_parquet(
    files: Sequence[Path], descriptions: Mapping[str, str]
) -> dict[str, dg.MetadataValue | str | int | float | bool]:
    """Return what `describe_table` does, of a table in files that may be longer than memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    head: list[pa.RecordBatch] = []
    rows = 0
    for path in files:
        with pq.ParquetFile(path) as file:
            if not rows:
                head = list(islice(file.iter_batches(PREVIEW_ROWS), 1))
            rows += file.metadata.num_rows
    table = pa.Table.from_batches(head, pq.read_schema(files[0]))
    return {**describe_table(table, descriptions), "dagster/row_count": rows}


def table_of(rows: Sequence[Mapping[str, object]]) -> dg.TableMetadataValue:
    """Return rows as a table the UI shows inline, floats rounded to four places."""
    if not rows:
        raise ValueError("A table of no rows has no columns to show: leave it out of the metadata.")
    records = [dg.TableRecord({key: _shown(value) for key, value in row.items()}) for row in rows]
    schema = dg.TableSchema(
        [dg.TableColumn(key, type=_type_name(row.get(key) for row in rows)) for key in rows[0]]
    )
    return dg.MetadataValue.table(records, schema=schema)


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Return a frame's rows, for `table_of`."""
    return [
        dict(zip(map(str, frame.columns), row, strict=True))
        for row in frame.astype(object).to_numpy().tolist()
    ]


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """Return a PNG as markdown that carries the picture in itself."""
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})")


def _shown(value: object) -> str | int | float | bool:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, str | int | bool):
        return value
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _type_name(column: Iterable[object]) -> str:
    """Return the type of a column, that of the first value that is not missing."""
    first = next((value for value in column if value is not None), None)
    return {bool: "bool", int: "int", float: "float"}.get(type(first), "string")
