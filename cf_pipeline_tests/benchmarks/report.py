"""What every benchmark prints: a table for people and, as the last line, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby

Row = Mapping[str, str | float | Sequence[float]]


@dataclass(frozen=True)
class Target:
    """A figure that holds from `least` to `limit`, of which either may be left out."""

    name: str
    value: float
    limit: float | None = None
    least: float | None = None
    holds: bool = field(init=False)

    def __post_init__(self) -> None:
        low_enough = self.limit is None or self.value <= self.limit
        high_enough = self.least is None or self.value >= self.least
        object.__setattr__(self, "holds", low_enough and high_enough)


def print_report(benchmark: str, rows: Sequence[Row], targets: Sequence[Target]) -> None:
    """Print the rows as aligned tables, then everything as JSON.

    Rows that follow each other and have the same columns are a table; a column of sequences is left
    out of it.

    Raises:
        ValueError: a figure is NaN or infinite.
    """
    report = {
        "benchmark": benchmark,
        "rows": [dict(row) for row in rows],
        "targets": [asdict(target) for target in targets],
    }
    line = json.dumps(report, allow_nan=False)
    print("\n\n".join(_table(list(table)) for _, table in groupby(rows, lambda row: [*row])))
    print(line)


def _table(rows: Sequence[Row]) -> str:
    columns = [name for name, value in rows[0].items() if isinstance(value, str | int | float)]
    cells = [columns, *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
