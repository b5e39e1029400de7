"""Ratings are written as they come, described, and held to the rules."""

import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender import distinct, pairs, rating_table
from cf_pipeline.recommender.datasets import STARS, Scale
from cf_pipeline.recommender.distinct import Distinct
from cf_pipeline.recommender.movielens import RATINGS_SCHEMA
from cf_pipeline.recommender.rating_checks import check_ratings_files
from cf_pipeline.recommender.rating_table import Origin, Summary, write_ratings
from cf_pipeline.recommender.validation import FIRST_RATING, BadRatingsError, check_ratings

HALVES = Scale(0.5, 5.0, 0.5)
NOW = datetime(2020, 1, 1, tzinfo=UTC)


def batches(frame: pd.DataFrame, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    columns = [frame["user"], frame["movie"], frame["rating"].to_numpy(), frame["timestamp"]]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    yield from pa.Table.from_arrays(arrays, schema=schema).to_batches(rows)


def write(
    frame: pd.DataFrame,
    path: Path,
    *,
    origin: Origin,
    schema: pa.Schema = RATINGS_SCHEMA,
    rows: int = 7,
    row_group: int = 10,
) -> Summary:
    with mock.patch.object(rating_table, "ROW_GROUP", row_group):
        return write_ratings(batches(frame, schema, rows), schema, path, origin, print)


def of_rows(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user", "movie", "rating", "timestamp"])
    return frame.astype({"rating": "float32"})


def test_distinct_ids_are_pickled_by_their_number_and_not_by_the_greatest() -> None:
    for values in ([10_000_000, 3, -5, 1 << 40, 3], ["é", "a", "é"], []):
        ids = Distinct()
        ids.add(pa.array(values, pa.string() if "a" in values else pa.int64()))
        sent = pickle.dumps(ids)
        assert len(sent) < 2000
        there: Distinct = pickle.loads(sent)
        assert there.sorted() == ids.sorted()
        assert len(there) == len(set(values))


# --- writing


def test_ratings_are_written_with_their_origin(ratings: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    summary = write(ratings, path, origin=Origin("ml-100k", STARS), rows=999, row_group=30_000)
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        assert groups == [30_000, 30_000, 30_000, 10_000]
        assert json.loads(file.schema_arrow.metadata[b"dataset"]) == {
            "dataset": "ml-100k",
            "scale": [1.0, 5.0, 1.0],
        }
        assert Origin.read(file.schema_arrow) == Origin("ml-100k", STARS)
        assert file.schema_arrow.types[:3] == RATINGS_SCHEMA.types[:3]
    pd.testing.assert_frame_equal(pd.read_parquet(path), ratings, check_dtype=False)
    assert summary.figures() == {
        "users": 943,
        "movies": 1682,
        "lowest_rating": 1.0,
        "mean_rating": pytest.approx(3.52986),
        "highest_rating": 5.0,
        "first_rating": "1997-09-20 03:05:10+00:00",
        "last_rating": "1998-04-22 23:10:38+00:00",
    }


def test_equal_ratings_give_equal_files(ratings: pd.DataFrame, tmp_path: Path) -> None:
    files = []
    for rows in (1000, 7777, 100_000):
        path = tmp_path / f"{rows}.parquet"
        write(ratings, path, origin=Origin("ml-100k", STARS), rows=rows, row_group=40_000)
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]


def test_no_ratings_are_a_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    summary = write_ratings([], RATINGS_SCHEMA, path, Origin("ml-1m", STARS), print)
    assert summary.figures() == {}
    assert pq.read_table(path).num_rows == 0
    with pytest.raises(BadRatingsError, match="ratings_are_there"):
        check_ratings_files([path])


# --- distinct ids


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (st.integers(0, 2**31 - 1) | st.integers(0, 20), pa.int32()),
        (st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 20), pa.int64()),
        (st.text(max_size=3), pa.string()),
    ],
    ids=str,
)
@settings(deadline=None, max_examples=50)
@given(data=st.data(), dense=st.integers(1, 20))
def test_distinct_ids_are_those_of_a_set(
    values: st.SearchStrategy[Any], kind: pa.DataType, data: st.DataObject, dense: int
) -> None:
    groups = data.draw(st.lists(st.lists(values), max_size=5))
    with mock.patch.object(distinct, "DENSE", dense):
        ids = Distinct()
        for group in groups:
            ids.add(pa.array(group, kind))
        everything = {value for group in groups for value in group}
        assert len(ids) == len(everything)
        assert ids.sorted().to_pylist() == sorted(everything)


# --- the rules

times = st.sampled_from(
    [NOW, FIRST_RATING, datetime(1980, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)]
)
frames = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 5),
        st.sampled_from([0.0, 0.5, 1.0, 3.25, 4.5, 5.0, 5.5, -1.0, float("nan"), float("inf")]),
        times | st.none(),
    ),
    max_size=40,
).map(of_rows)
SCHEMAS = {
    "int32": RATINGS_SCHEMA,
    **{
        str(kind): pa.schema(
            [
                ("user", kind),
                ("movie", kind),
                ("rating", pa.float32()),
                ("timestamp", pa.timestamp("s", tz="UTC")),
            ]
        )
        for kind in (pa.int64(), pa.string())
    },
}


@pytest.mark.parametrize("ids", SCHEMAS)
@pytest.mark.parametrize(
    ("origin", "first"),
    [
        (Origin("ml-1m", STARS), FIRST_RATING),
        (Origin("ml-20m", HALVES), FIRST_RATING),
        (Origin("custom", None), None),
    ],
    ids=lambda value: getattr(value, "dataset", ""),
)
@settings(deadline=None, max_examples=25)
@given(frame=frames, at_once=st.integers(1, 40))
def test_a_file_is_held_to_the_rules_as_a_frame_is(
    tmp_path_factory: pytest.TempPathFactory,
    ids: str,
    origin: Origin,
    first: datetime | None,
    frame: pd.DataFrame,
    at_once: int,
) -> None:
    schema = SCHEMAS[ids]
    if ids == "string":
        frame = frame.assign(user="u" + frame["user"].astype(str), movie=frame["movie"].astype(str))
    if ids == "int32":
        frame = frame.dropna(subset="timestamp", ignore_index=True)
    frame = frame.assign(timestamp=pd.to_datetime(frame["timestamp"], utc=True).dt.as_unit("s"))
    path = tmp_path_factory.mktemp("file") / "ratings.parquet"
    write(frame, path, origin=origin, schema=schema)
    with mock.patch.object(pairs, "PAIRS", at_once):
        assert faults_of_file(path) == faults_of_frame(frame, origin.scale, first)


def faults_of_file(path: Path) -> dict[str, Any]:
    try:
        check_ratings_files([path])
    except BadRatingsError as error:
        return error.faults
    return {}


def faults_of_frame(
    frame: pd.DataFrame, scale: Scale | None, first: datetime | None
) -> dict[str, Any]:
    try:
        check_ratings(frame, scale, first)
    except BadRatingsError as error:
        return error.faults
    return {}


def test_the_scale_is_that_of_the_dataset(tmp_path: Path) -> None:
    frame = of_rows([(1, 1, 0.5, NOW), (1, 2, 4.5, NOW), (1, 3, 4.25, NOW), (2, 1, 5.5, NOW)])
    found = {}
    for name, scale in {"ml-100k": STARS, "ml-20m": HALVES, "custom": None}.items():
        path = tmp_path / name
        write(frame, path, origin=Origin(name, scale))
        fault = faults_of_file(path).get("ratings_are_on_the_scale")
        found[name] = [example["row"] for example in fault.examples] if fault else []
    assert found == {"ml-100k": ["0", "1", "2", "3"], "ml-20m": ["2", "3"], "custom": []}
    with pytest.raises(BadRatingsError, match=r"The scale is 0.5 to 5\. 2 do not hold to it"):
        check_ratings_files([tmp_path / "ml-20m"])


def test_ratings_too_great_to_be_squared_are_refused() -> None:
    frame = of_rows([(1, 1, 1e14, NOW), (1, 2, -1e30, NOW), (1, 3, 2e15, NOW), (2, 1, 0.0, NOW)])
    (fault,) = faults_of_frame(frame, None, None).values()
    assert [example["row"] for example in fault.examples] == ["1", "2"]


def test_a_file_of_which_nobody_knows_the_dataset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    pq.write_table(RATINGS_SCHEMA.empty_table(), path)
    with pytest.raises(ValueError, match="does not say of which dataset it is"):
        check_ratings_files([path])
