"""Raw ids and the indices the model knows them by; index 0 is `#na#`, the unknown."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Self, TypeAlias, TypeGuard

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cf_pipeline.recommender.distinct import Distinct

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Ids: TypeAlias = (
        Sequence[int]
        | Sequence[str]
        | npt.NDArray[np.generic]
        | pd.Index
        | pd.Series
        | pd.Categorical
        | pa.Array
        | pa.ChunkedArray
    )
    Indices: TypeAlias = Sequence[int] | npt.NDArray[np.integer]

NA = "#na#"
INT64 = np.iinfo(np.int64)
MOST_IDS = 1 << 27  # as many as a table of a hundred million ratings can have
BYTES_PER_ID = 64  # in a file, on average, after ROOM for what every file has
ROOM = 1 << 16
LONGEST_ID = 1000  # bytes of a string
STRINGS_AT_ONCE = 64  # rows may repeat a long one, which is long once in the file
INTEGERS_AT_ONCE = 1 << 16
ROWS_AT_ONCE = 1 << 20
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
        known = _distinct(ids)
        if not known.is_monotonic_increasing:
            known = known.sort_values()
        return cls(known)

    def __len__(self) -> int:
        """Return the number of indices, `#na#` counted."""
        return len(self.ids) + 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.ids.equals(other.ids)

    def __hash__(self) -> int:
        return hash(self.digest())

    def encode(self, ids: Ids) -> npt.NDArray[np.int32]:
        """Return each id's index, int32 (n,); 0 if it is null, never seen, or of another type.

        Of Arrow's dictionaries and pandas' categoricals each word is looked up once.
        """
        if isinstance(ids, pa.ChunkedArray):
            parts = [self.encode(chunk) for chunk in ids.chunks]
            return np.concatenate([np.empty(0, np.int32), *parts])
        if isinstance(ids, pa.Array):
            if pa.types.is_integer(ids.type) and ids.null_count == 0:
                return self.encode(ids.to_numpy())
            if not pa.types.is_dictionary(ids.type):
                ids = ids.dictionary_encode()
            words, places = ids.dictionary.to_pandas(), ids.indices.fill_null(-1).to_numpy()
        elif _is_categorical(ids):
            categorical = pd.Categorical(ids)
            words, places = categorical.categories, categorical.codes
        else:
            return (self.ids.get_indexer(pd.Index(ids)) + 1).astype(np.int32)
        # The last is for nulls, whose place is -1.
        found: npt.NDArray[np.int32] = np.append(self.encode(words), np.int32(0))[places]
        return found

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
        ids = np.full(index.shape, NA, dtype=object)
        ids[index > 0] = self.ids.to_numpy()[index[index > 0] - 1]
        return ids

    def digest(self) -> str:
        """Return the SHA-256 of the ids in hexadecimal; the same however a file encodes them."""
        digest = hashlib.sha256(b"[")
        for start in range(0, len(self.ids), INTEGERS_AT_ONCE):
            some = json.dumps(self.ids[start : start + INTEGERS_AT_ONCE].tolist())[1:-1]
            digest.update((", " if start else "").encode() + some.encode())
        digest.update(b"]")
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write parquet: one column `id` whose row i is index i, so row 0 is null, for `#na#`."""
        kind = pa.int64() if self.ids.dtype == np.int64 else pa.string()
        rows = pa.chunked_array([pa.nulls(1, kind), pa.array(self.ids.to_numpy(), kind)])
        pq.write_table(pa.table({"id": rows.combine_chunks()}), path)

    @classmethod
    def load(cls, path: Path, most: int = MOST_IDS) -> Self:
        """Return the vocabulary that `save` wrote, of `most` indices at most.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no vocabulary, or too large; the message says why.
        """
        try:
            ids = pa.chunked_array(_read_ids(path, most))
            if len(ids) == 0 or ids[0].is_valid:
                raise ValueError(f"Row 0 must be null, for {NA!r}, but is {ids[:1].to_pylist()}.")
            return cls(_index_of(ids[1:]))
        except FileNotFoundError:
            raise
        except (OSError, TypeError, ValueError, pa.ArrowException) as error:
            raise ValueError(
                f"{path} is not a vocabulary: {error} Write it again with Vocabulary.save."
            ) from error


def _read_ids(path: Path, most: int) -> list[pa.Array]:
    """Return the ids in a file of at most `most` rows, whatever it would expand to."""
    longest = ROOM + BYTES_PER_ID * most
    if path.stat().st_size > longest:
        raise ValueError(f"{path.name} has more than {longest:,} bytes.")
    # What a mapped file says of its parts takes no memory until they are there.
    with pa.memory_map(str(path)) as mapped, pq.ParquetFile(mapped) as file:
        metadata, schema = file.metadata, file.schema_arrow
        if schema.names != ["id"]:
            raise ValueError(f"Its columns are {schema.names[:20]}, not ['id'].")
        (kind,) = schema.types
        if kind not in (pa.int64(), pa.string()):  # others may expand beyond all bounds
            raise TypeError(f"Its ids are {kind}, neither int64 nor string.")
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        n_rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
        if n_rows > most:
            raise ValueError(f"It has {n_rows:,} rows, and may have {most:,}.")
        codecs = {group.column(0).compression for group in groups}
        if not codecs.issubset(CODECS):
            raise ValueError(f"It is compressed by {codecs}, and may be by {CODECS} only.")
        return [pa.nulls(0, kind), *_short(file, kind)]


def _short(file: pq.ParquetFile, kind: pa.DataType) -> Iterator[pa.Array]:
    """Read ids, of which none is long.

    Raises:
        ValueError: one is.
    """
    if kind == pa.int64():
        yield from (batch.column(0) for batch in file.iter_batches(INTEGERS_AT_ONCE))
        return
    for batch in file.iter_batches(STRINGS_AT_ONCE):
        ids = batch.column(0)
        longest = pc.max(pc.binary_length(ids)).as_py() or 0
        if longest > LONGEST_ID:
            raise ValueError(f"An id has {longest:,} bytes, and may have {LONGEST_ID:,}.")
        yield ids


def _distinct(ids: Ids) -> pd.Index:
    """Return the distinct ids in any order, int64 or str; nulls and `#na#` are left out."""
    if isinstance(ids, pa.Array | pa.ChunkedArray):
        distinct = Distinct()
        for start in range(0, len(ids), ROWS_AT_ONCE):  # a hash table of all would be larger
            distinct.add(ids.slice(start, ROWS_AT_ONCE).drop_null())
        known = _index_of(distinct.sorted())
    elif _is_categorical(ids):
        known = pd.Categorical(ids).remove_unused_categories().categories
    else:
        known = pd.Index(ids).dropna()
        # pandas' own distinct strings end where a C string does.
        known = pd.Index(list(dict.fromkeys(known)), dtype=known.dtype)
    known = _canonical(known)
    return known if known.dtype == np.int64 else known[known != NA]


def _is_categorical(ids: Ids) -> TypeGuard[pd.Series]:
    return isinstance(getattr(ids, "dtype", None), pd.CategoricalDtype)


def _index_of(ids: pa.Array | pa.ChunkedArray) -> pd.Index:
    """Return ids of Arrow's as pandas'; an integer among nulls stays what it is."""
    values = ids.to_pylist() if ids.null_count else ids.to_pandas()
    index: pd.Index = pd.Index(values)
    return index


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
