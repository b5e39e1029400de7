"""Files of splits and of encoded ratings, beside the same made by pandas from all rows at once."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender.encoding import distinct_ids, encode_split, encoded
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.split_files import (
    PARTS,
    read_part,
    read_ratings,
    read_settings,
    write_split,
)
from cf_pipeline.recommender.splits import Mask
from cf_pipeline.recommender.vocabulary import Vocabulary

FILES = settings(max_examples=30, deadline=None)
SETTINGS = {"strategy": "random", "seed": 3}
COLUMNS = ["user", "movie", "rating", "timestamp"]


class Split(NamedTuple):
    """Ratings, their test part, and how long the row groups of their file are."""

    table: pa.Table
    in_test: Mask
    row_group_size: int

    @property
    def ratings(self) -> pd.DataFrame:
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def write(self, folder: Path) -> list[Path]:
        source = folder / "ratings.parquet"
        pq.write_table(self.table, source, row_group_size=self.row_group_size)
        return write_split([source], self.in_test, SETTINGS, folder)

    def part(self, part: str) -> pd.DataFrame:
        rows: pd.DataFrame = self.ratings[self.in_test == (part == "test")]
        return rows.reset_index(drop=True)


@st.composite
def splits(draw: st.DrawFn) -> Split:
    """Few ratings in several row groups, of ids that are integers or strings, some without time."""
    n = draw(st.integers(1, 30))
    kind = draw(st.sampled_from([pa.int32(), pa.int64(), pa.string()]))

    def column(elements: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(elements, min_size=n, max_size=n))

    bits = 31 if kind == pa.int32() else 63
    words, numbers = st.text("aé ", max_size=3), st.integers(-(2**bits), 2**bits - 1)
    some: st.SearchStrategy[object] = words if kind == pa.string() else numbers
    ids = draw(st.lists(some, min_size=1, max_size=6))
    rows = {
        "user": column(st.sampled_from(ids)),
        "movie": column(st.sampled_from(ids)),
        "rating": column(st.sampled_from([0.5, 1.0, 3.5, 5.0])),
        "timestamp": column(st.none() | st.integers(0, 2**31)),
    }
    kinds = dict(zip(COLUMNS, [kind, kind, pa.float32(), pa.timestamp("s", "UTC")], strict=True))
    arrays = [pa.array(rows[name], kinds[name]) for name in COLUMNS]
    schema = pa.schema(kinds.items(), {"dataset": "{}"})
    table = pa.Table.from_arrays(arrays, schema=schema)
    in_test = np.array(column(st.booleans()), dtype=bool)
    return Split(table, in_test, draw(st.integers(1, n)))


@FILES
@given(split=splits())
def test_a_split_holds_every_rating_in_its_part(
    tmp_path_factory: pytest.TempPathFactory, split: Split
) -> None:
    files = split.write(tmp_path_factory.mktemp("split"))
    for part in PARTS:
        read = read_part(files, part)
        assert list(read.columns) == COLUMNS
        strings = not pd.api.types.is_integer_dtype(split.ratings["user"])
        assert {str(read[name].dtype) == "category" for name in ("user", "movie")} == {strings}
        as_drawn = read.astype({name: split.ratings[name].dtype for name in COLUMNS})
        pd.testing.assert_frame_equal(as_drawn, split.part(part))
        pd.testing.assert_frame_equal(read_part(files, part, ["movie"]), read[["movie"]])
    whole = read_ratings(files)
    assert whole["movie"].tolist() == split.ratings["movie"].tolist()
    assert read_settings(files) == SETTINGS
    with pq.ParquetFile(files[0]) as file:
        assert file.schema_arrow.metadata[b"dataset"] == b"{}"
        assert file.schema_arrow.field("user").type == split.table.schema.field("user").type
        assert file.num_row_groups == -(-len(split.ratings) // split.row_group_size)


@FILES
@given(split=splits())
def test_encoded_files_are_what_encoding_all_rows_at_once_gives(
    tmp_path_factory: pytest.TempPathFactory, split: Split
) -> None:
    folder = tmp_path_factory.mktemp("split")
    files, train = split.write(folder), split.part("train")
    known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    assert distinct_ids(files, "train").vocabularies() == known
    encode_split(files, *known, folder)
    for part in PARTS:
        expected = EncodedRatings.of(split.part(part), *known)
        read = EncodedRatings.load(folder, part)
        for ours, theirs in zip(read, expected, strict=True):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
    both = distinct_ids(files).vocabularies()
    assert both == (Vocabulary.of(split.ratings["user"]), Vocabulary.of(split.ratings["movie"]))
    every = EncodedRatings.concatenate(encoded(files, *both))
    for ours, theirs in zip(every, EncodedRatings.of(split.ratings, *both), strict=True):
        assert torch.equal(ours, theirs)


def test_a_part_that_is_none_is_refused(ratings: pd.DataFrame, tmp_path: Path) -> None:
    split = Split(pa.Table.from_pandas(ratings), ratings["rating"].to_numpy() > 3, 1 << 16)
    files = split.write(tmp_path)
    with pytest.raises(ValueError, match=r"no part 'validation': choose one of train, test"):
        read_part(files, "validation")  # type: ignore[arg-type]  # which is refused


def test_what_is_written_into_mapped_ratings_reaches_no_file(tmp_path: Path) -> None:
    for name, kind in (("users", np.int32), ("items", np.int32), ("ratings", np.float32)):
        np.save(tmp_path / f"train_{name}.npy", np.array([1, 2], kind))
    users = EncodedRatings.load(tmp_path, "train").users
    users += 7
    assert users.tolist() == [8, 9]
    assert EncodedRatings.load(tmp_path, "train").users.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (
            np.array([3], np.int32),
            r"int32 \(2,\), but is int32 \(1,\): materialize vocabularies again",
        ),
        (np.array([3, 4]), r"int32 \(2,\), but is int64 \(2,\)"),
        (np.array([[3, 4]], np.int32), r"int32 \(2,\), but is int32 \(1, 2\)"),
        (np.array([{}, None]), "Array can't be memory-mapped"),
    ],
)
def test_encoded_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, column: npt.NDArray[np.generic], text: str
) -> None:
    np.save(tmp_path / "test_users.npy", np.array([1, 2], np.int32))
    np.save(tmp_path / "test_items.npy", column)
    with pytest.raises(ValueError, match=text):
        EncodedRatings.load(tmp_path, "test")
