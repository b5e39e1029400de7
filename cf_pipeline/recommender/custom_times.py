"""Times of anybody's own tables, in whatever form they come: numbers since 1970, or ISO 8601."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cf_pipeline.recommender.custom_files import refused

if TYPE_CHECKING:
    from pathlib import Path

TIMESTAMP = pa.timestamp("s", tz="UTC")
# Numbers that are too great for seconds, for the year 5138: how many of them make a second.
UNITS = {1e17: 1e9, 1e14: 1e6, 1e11: 1e3}
# Numbers of 4 or 8 digits are years, and dates without dashes, rather than times in 1970 to 1973.
DATES = ((1e3, 1e4), (1e7, 1e8))
FIRST, LAST = -62_135_596_800, 253_402_300_799  # seconds, of the years 1 to 9999


def timestamps(file: Path, row: int, column: pa.Array, name: str) -> pa.Array:
    """Return a column of times, numbers since 1970 or text, as UTC in seconds; null where missing.

    Raises:
        CustomTableError: one, of which `row` is the number of the first, is no time.
    """
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(column.type):
        seconds = column.cast(pa.timestamp("s", column.type.tz), safe=False)
        return seconds.cast(TIMESTAMP) if column.type.tz else pc.assume_timezone(seconds, "UTC")
    try:
        since = (as_text(column) if is_text(column.type) else column).cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # one of them is written as a time
        return _times(file, row, column.to_pandas(), name)
    return _seconds(file, row, since.to_numpy(zero_copy_only=False), name)


def _seconds(file: Path, row: int, since: npt.NDArray[np.float64], name: str) -> pa.Array:
    """Return numbers since 1970, in the unit that their size tells, in seconds; NaN as null."""
    size, known = np.abs(since), ~np.isnan(since)
    unit = np.select([size >= least for least in UNITS], list(UNITS.values()), 1.0)
    seconds = np.floor(np.where(known, since, 0) / unit)
    date = np.any([(since >= least) & (since < most) for least, most in DATES], axis=0)
    for bad, cause in (
        (date, "which may be a year, or a date without dashes: write it as in 2004-05-06"),
        ((seconds < FIRST) | (seconds > LAST), "which is in none of the years 1 to 9999"),
    ):
        if bad.any():
            at = int(bad.argmax())
            raise refused(file, row + at, f"{name} is {since[at]:.17g}, {cause}")
    return pa.array(seconds.astype(np.int64), mask=~known).cast(TIMESTAMP)


def _times(file: Path, row: int, text: pd.Series[str], name: str) -> pa.Array:
    """Return cells, each a number since 1970 or a time by ISO 8601, in seconds; None as null."""
    since = pd.to_numeric(text, errors="coerce").to_numpy(np.float64, copy=True)
    missing = text.isna() | (text.str.lower() == "nan")  # which Arrow's cast takes for a number
    written = (~missing & np.isnan(since)).to_numpy()
    times = pd.to_datetime(text[written].astype(str), utc=True, format="ISO8601", errors="coerce")
    if times.isna().any():
        at = int(times.isna().idxmax())
        raise refused(
            file,
            row + at,
            f"{name} is {text[at]!r}, neither a number since 1970 nor a time by ISO 8601",
        )
    numbers = _seconds(file, row, np.where(written, np.nan, since), name)
    seconds = numbers.to_numpy(zero_copy_only=False)
    seconds[written] = times.dt.tz_localize(None).to_numpy().astype(seconds.dtype)
    return pa.array(seconds).cast(TIMESTAMP)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def as_text(column: pa.Array) -> pa.Array:
    """Return a column as strings, without a dictionary."""
    return column.cast(pa.string())
