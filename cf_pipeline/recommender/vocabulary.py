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
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    Ids: TypeAlias = Sequence[int] | Sequence[str] | npt.NDArray[np.generic] | pd.Index | pd.Series
    Indices: TypeAlias = Sequence[int] | npt.NDArray[np.integer]

NA = "#na#"
INT64 = np.iinfo(np.int64)


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
    def load(cls, path: Path) -> Self:
        """Return the vocabulary that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no vocabulary; the message says why.
        """
        try:
            table = pq.read_table(path)
            if table.column_names != ["id"]:
                raise ValueError(f"Its columns are {table.column_names}, not ['id'].")
            ids = table["id"].to_pylist()
            if not ids or ids[0] is not None:
                raise ValueError(f"Row 0 must be null, for {NA!r}, but is {ids[:1]}.")
            return cls(pd.Index(ids[1:]))
        except (TypeError, ValueError) as error:  # Arrow's own errors are ValueErrors too
            raise ValueError(
                f"{path} is not a vocabulary: {error} Write it again with Vocabulary.save."
            ) from error

    @cached_property
    def _decoder(self) -> npt.NDArray[np.object_]:
        return np.array([NA, *self.ids.tolist()], dtype=object)


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
