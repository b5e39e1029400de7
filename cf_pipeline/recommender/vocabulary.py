"""Raw ids and the indices the model knows them by; index 0 is `#na#`, the unknown."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cf_pipeline.recommender.bounded import read_at_most

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    Ids: TypeAlias = Sequence[int] | Sequence[str] | npt.NDArray[np.generic] | pd.Index | pd.Series
    Indices: TypeAlias = Sequence[int] | npt.NDArray[np.integer]

NA = "#na#"
INT64 = np.iinfo(np.int64)
MOST_IDS = 1 << 22  # as many ratings as the longest table that is read has
BYTES_PER_ID = 64  # in a file, on average, after ROOM for what every file has
ROOM = 1 << 16
LONGEST_ID = 1000  # bytes of a string
ROWS_AT_ONCE = 64
# What these unpack to is at most some twenty times as long.
CODECS = ("SNAPPY", "UNCOMPRESSED")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The known ids of one kind, users or items: `ids[i]` has index i + 1, and `#na#` has index 0.

    `ids` are int64 or str, sorted and unique. `Vocabulary.of` makes one from ids in any order.

    Raises:
        TypeError: the ids are neither all integers nor all strings.
        ValueError: the ids are not sorted and unique, or a null or `#na#` is among them.
    """

    ids: pd.Index

    def __post_init__(self) -> None:
        ids = _canonical(self.ids)
        if not (ids.is_monotonic_increasing and ids.is_unique):
            before, after = next(pair for pair in pairwise(ids.tolist()) if pair[0] >= pair[1])
            raise ValueError(
                f"Ids must be sorted and unique, but {after!r} comes after {before!r}: "
                "make the vocabulary with Vocabulary.of(ids)."
            )
        if NA in ids:
            raise ValueError(f"The id {NA!r} is kept for the unknown: leave it out of the ids.")
        object.__setattr__(self, "ids", ids)

    @classmethod
    def of(cls, ids: Ids) -> Self:
        """Return the vocabulary of the distinct ids; nulls and `#na#` (unknown) are left out."""
        known = pd.Index(ids).dropna()
        return cls(_canonical(known[known != NA]).unique().sort_values())

    def __len__(self) -> int:
        """Return the number of indices, `#na#` counted."""
        return len(self.ids) + 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.ids.equals(other.ids)

    def __hash__(self) -> int:
        return hash(self.digest())

    def encode(self, ids: Ids) -> npt.NDArray[np.int32]:
        """Return each id's index, int32 (n,); 0 if it is null, never seen, or of another type."""
        return (self.ids.get_indexer(pd.Index(ids)) + 1).astype(np.int32)

    def decode(self, indices: Indices) -> npt.NDArray[np.object_]:
        """Return the id at each index as an object array of the same shape, `#na#` at index 0.

        Raises:
            TypeError: the indices are not integers.
            IndexError: an index is outside 0 … len - 1.
        """
        index = np.asarray(indices)
        if index.size == 0:
            index = index.astype(np.int64)  # numpy makes floats of an empty list
        if not np.issubdtype(index.dtype, np.integer):
            raise TypeError(
                f"Indices are {index.dtype}: cast them to integers, as encode makes them."
            )
        outside = index[(index < 0) | (index >= len(self))]
        if outside.size:
            raise IndexError(
                f"Index {outside.flat[0]} is outside this vocabulary of 0 … {len(self) - 1}: "
                "decode with the vocabulary that encoded it."
            )
        ids: npt.NDArray[np.object_] = self._decoder[index]
        return ids

    def digest(self) -> str:
        """Return the SHA-256 of the ids in hexadecimal; the same however a file encodes them."""
        return hashlib.sha256(json.dumps(self.ids.tolist()).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write parquet: one column `id` whose row i is index i, so row 0 is null, for `#na#`."""
        kind = pa.int64() if self.ids.dtype == np.int64 else pa.string()
        pq.write_table(pa.table({"id": pa.array([None, *self.ids.tolist()], kind)}), path)

    @classmethod
    def load(cls, path: Path, most: int = MOST_IDS) -> Self:
        """Return the vocabulary that `save` wrote, of `most` indices at most.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no vocabulary, or too large; the message says why.
        """
        try:
            ids = _read_ids(path, most)
            if not ids or ids[0] is not None:
                raise ValueError(f"Row 0 must be null, for {NA!r}, but is {ids[:1]}.")
            return cls(pd.Index(ids[1:]))
        except FileNotFoundError:
            raise
        except (OSError, TypeError, ValueError, pa.ArrowException) as error:
            raise ValueError(
                f"{path} is not a vocabulary: {error} Write it again with Vocabulary.save."
            ) from error

    @cached_property
    def _decoder(self) -> npt.NDArray[np.object_]:
        return np.array([NA, *self.ids.tolist()], dtype=object)


def _read_ids(path: Path, most: int) -> list[int | str | None]:
    """Return the ids in a file of at most `most` rows, whatever it would expand to."""
    content = read_at_most(path, ROOM + BYTES_PER_ID * most)
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        metadata, schema = file.metadata, file.schema_arrow
        if schema.names != ["id"]:
            raise ValueError(f"Its columns are {schema.names[:20]}, not ['id'].")
        if schema.types[0] not in (pa.int64(), pa.string()):  # others may expand beyond all bounds
            raise TypeError(f"Its ids are {schema.types[0]}, neither int64 nor string.")
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        n_rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
        if n_rows > most:
            raise ValueError(f"It has {n_rows:,} rows, and may have {most:,}.")
        codecs = {group.column(0).compression for group in groups}
        if not codecs.issubset(CODECS):
            raise ValueError(f"It is compressed by {codecs}, and may be by {CODECS} only.")
        ids: list[int | str | None] = []
        for batch in file.iter_batches(ROWS_AT_ONCE):  # rows may repeat a long id
            column = batch.column(0)
            if pa.types.is_string(column.type):
                longest = pc.max(pc.binary_length(column)).as_py() or 0
                if longest > LONGEST_ID:
                    raise ValueError(f"An id has {longest:,} bytes, and may have {LONGEST_ID:,}.")
            ids += column.to_pylist()
    return ids


def _canonical(ids: pd.Index) -> pd.Index:
    """Return the ids as int64 or str, so that equal ids are equal whatever pandas held them in."""
    if ids.hasnans:
        raise ValueError("A null stands for the unknown: leave it out of the ids.")
    kind = pd.api.types.infer_dtype(ids, skipna=False)
    if len(ids) == 0 or (kind == "integer" and ids.min() >= INT64.min and ids.max() <= INT64.max):
        return ids.astype("int64")
    if kind == "string":
        return ids.astype(object)
    raise TypeError(
        f"Ids are {kind} ({ids.dtype}), but must be all strings or all 64-bit integers: cast them."
    )
