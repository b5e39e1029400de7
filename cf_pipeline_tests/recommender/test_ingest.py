"""Ratings in several files are the same ratings as in one, whoever works on the parts."""

import csv
import errno
import os
import pickle
import weakref
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender import pairs, rating_table, synthetic
from cf_pipeline.recommender import table_files as tables
from cf_pipeline.recommender.archive_tables import open_ratings, read_movies, read_users
from cf_pipeline.recommender.custom_archive import fetch_custom
from cf_pipeline.recommender.custom_files import CustomTableError
from cf_pipeline.recommender.custom_settings import CustomRatingsSettings
from cf_pipeline.recommender.datasets import SYNTHETIC, describe
from cf_pipeline.recommender.encoding import distinct_ids, encode_split
from cf_pipeline.recommender.executors import LOCAL, BlockError, Executor, LocalExecutor, Part
from cf_pipeline.recommender.ingest import write_table
from cf_pipeline.recommender.rating_checks import check_ratings_files
from cf_pipeline.recommender.split_files import PARTS, read_part, read_ratings, write_split
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline.recommender.table_files import RATINGS, SPLIT, table_files
from cf_pipeline.recommender.validation import BadRatingsError
from cf_pipeline_tests.recommender.executors import PICKLING

HEADER = ["user", "item", "rating", "when"]
Row = tuple[str, str, str, str]
# Ids that are few integers, and so many that no byte is kept of each, and strings.
USERS = st.sampled_from([*"1234", str(10**12), str(-5)])
ITEMS = st.sampled_from(["7", "a,b", "é"]) | st.integers(0, 5).map(str)
RATINGS_OF = st.sampled_from(["0.5", "3", "-2"])
SIZES = st.integers(1, 9)
TIMES = st.sampled_from(["", "881250949", "891250949"])


class Ingested(NamedTuple):
    """The files of each table, and all that the archive's ratings became, as bytes by name."""

    ratings: list[Path]
    split: list[Path]
    files: dict[str, bytes]


def ignore(_: str) -> None:
    """Log nothing."""


def archive_of(folder: Path, files: Sequence[Sequence[Row]], **said: Any) -> Path:
    """Receive a folder of as many files of ratings, some perhaps of none."""
    given, archive = folder / "given", folder / "archive"
    for path in (given, archive):
        path.mkdir(parents=True)
    for number, rows in enumerate(files):
        with (given / f"part-{number:02d}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])
    config = CustomRatingsSettings.model_validate({"path": str(given), "timestamp": "when", **said})
    fetch_custom(archive, config, ignore)
    return archive


def ingest(archive: Path, into: Path, executor: Executor = LOCAL, seed: int = 0) -> Ingested:
    """Do what the assets `ratings`, `train_test_split` and `vocabularies` do."""
    into.mkdir()
    written, summary = write_table(open_ratings(archive, executor), into, ignore, executor)
    in_test = np.random.default_rng(seed).random(summary.rows) < 0.4
    split = write_split(written, in_test, {"seed": seed}, into, executor)
    users, movies = distinct_ids(split, "train", executor).vocabularies()
    users.save(into / "user_vocabulary.parquet")
    movies.save(into / "movie_vocabulary.parquet")
    encode_split(split, users, movies, into, executor)
    files = {path.name: path.read_bytes() for path in sorted(into.iterdir())}
    assert files.keys() == {path.name for path in into.iterdir() if path.is_file()}
    return Ingested(written, split, files)


def every(files: list[list[Row]]) -> list[Row]:
    return list(chain.from_iterable(files))


def of_model(ingested: Ingested) -> dict[str, bytes]:
    """Return what a model is fitted to."""
    tables = {path.name for path in (*ingested.ratings, *ingested.split)}
    return {name: of for name, of in ingested.files.items() if name not in tables}


@st.composite
def spread(draw: st.DrawFn) -> tuple[list[Row], list[list[Row]]]:
    """Rows of distinct pairs, and the same in up to five files, some of them empty."""
    keys = draw(st.lists(st.tuples(USERS, ITEMS), min_size=1, max_size=25, unique=True))
    rows = [(*key, draw(RATINGS_OF), draw(TIMES)) for key in keys]
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), min_size=4, max_size=4)))
    ends = zip([0, *cuts], [*cuts, len(rows)], strict=True)
    return rows, [rows[start:end] for start, end in ends]


@settings(max_examples=15, deadline=None)
@given(
    rows=spread(), seed=st.integers(0, 3), of_block=st.integers(1, 9), of_group=st.integers(1, 6)
)
def test_how_rows_are_spread_over_files_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory,
    rows: tuple[list[Row], list[list[Row]]],
    seed: int,
    of_block: int,
    of_group: int,
) -> None:
    folder = tmp_path_factory.mktemp("ingest")
    together, files = rows
    one = ingest(archive_of(folder / "one", [together]), folder / "of-one", seed=seed)
    assert [path.name for path in one.ratings] == ["ratings.parquet"]
    assert [path.name for path in one.split] == ["train_test_split.parquet"]
    archive = archive_of(folder / "five", files)
    with (
        mock.patch.object(tables, "ROWS_OF_A_BLOCK", of_block),
        mock.patch.object(rating_table, "ROW_GROUP", of_group),
    ):
        five = ingest(archive, folder / "here", seed=seed)
        elsewhere = ingest(archive, folder / "elsewhere", PICKLING, seed)
        check_ratings_files(five.ratings, PICKLING)
    assert [path.name for path in five.ratings] == [f"ratings-0000{n}.parquet" for n in range(5)]
    assert [pq.read_metadata(path).num_rows for path in five.split] == list(map(len, files))
    assert of_model(five) == of_model(one)
    assert elsewhere.files == five.files
    assert read_ratings(five.ratings).equals(read_ratings(one.ratings))
    for part in PARTS:
        assert read_part(five.split, part).equals(read_part(one.split, part))
    for table in (read_movies, read_users):
        assert table(archive, PICKLING) == table(folder / "one" / "archive")


@settings(max_examples=15, deadline=None)
@given(rows=spread(), at_once=st.integers(1, 30), data=st.data())
def test_pairs_that_files_repeat_are_named_by_their_rows(
    tmp_path_factory: pytest.TempPathFactory,
    rows: tuple[list[Row], list[list[Row]]],
    at_once: int,
    data: st.DataObject,
) -> None:
    _, files = rows
    files[0].insert(0, again := data.draw(st.sampled_from(every(files))))
    pair = [number for number, row in enumerate(every(files)) if row[:2] == again[:2]]
    archive = archive_of(tmp_path_factory.mktemp("repeated"), files)
    with mock.patch.object(pairs, "PAIRS", at_once):
        written, _ = write_table(open_ratings(archive), archive.parent, ignore)
        for executor in (LOCAL, PICKLING):
            with pytest.raises(BadRatingsError, match="No user rates a movie twice. 2 do") as error:
                check_ratings_files(written, executor)
            (fault,) = error.value.faults.values()
            assert [example["row"] for example in fault.examples] == list(map(str, pair))


@settings(max_examples=15, deadline=None)
@given(
    files=st.lists(
        st.lists(st.tuples(USERS, ITEMS, RATINGS_OF, TIMES), max_size=9), min_size=2, max_size=5
    ),
    at_once=st.integers(1, 30),
)
def test_of_events_in_files_the_first_counts(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[Row]], at_once: int
) -> None:
    folder = tmp_path_factory.mktemp("events")
    archive = archive_of(folder, files, rating=None)
    first: dict[tuple[str, str], str] = {}
    for row in every(files):
        first.setdefault(row[:2], row[3])
    with mock.patch.object(pairs, "PAIRS", at_once):
        for into, executor in (("here", LOCAL), ("there", PICKLING)):
            (folder / into).mkdir()
            opened = open_ratings(archive, executor)
            lines: list[str] = []
            written, summary = write_table(opened, folder / into, lines.append, executor)
            n = len(every(files))
            assert f"{n - len(first)} of {n} events repeat an earlier one: left out." in lines
    assert sorted((folder / "there").iterdir()) == written
    for path in written:
        assert path.read_bytes() == (folder / "here" / path.name).read_bytes()
    table = pa.concat_tables(map(pq.read_table, written))
    assert (table.num_rows, summary.rows) == (len(first), len(first))
    pairs_of = zip(*(map(str, table[name].to_pylist()) for name in ("user", "movie")), strict=True)
    assert list(pairs_of) == list(first)
    assert table["timestamp"].is_null().to_pylist() == [not when for when in first.values()]


def test_what_is_wrong_with_a_row_is_said_as_of_one_file(tmp_path: Path) -> None:
    files: list[list[Row]] = [[("1", "2", "3", "")], [("1", "3", "3", ""), ("", "4", "3", "")]]
    archive = archive_of(tmp_path, files)
    for executor in (LOCAL, PICKLING):
        opened = open_ratings(archive, executor)
        with pytest.raises(
            CustomTableError, match=r"^ratings-\d+-part-01.csv, row 2: user is empty"
        ):
            write_table(opened, tmp_path, ignore, executor)


def test_a_damaged_file_is_named_and_so_is_a_part_that_is_not_there(
    tmp_path: Path,
) -> None:
    written = ingest(archive_of(tmp_path, [[("1", "2", "3", "")]] * 3), tmp_path / "tables")
    written.split[1].write_bytes(written.split[1].read_bytes()[:100])
    with pytest.raises(ValueError, match=r"train_test_split-00001.parquet cannot be read"):
        distinct_ids(table_files(tmp_path / "tables", SPLIT))
    with pytest.raises(BlockError, match="There is no part 'tset': choose one of train, test"):
        distinct_ids(written.ratings, "tset")  # type: ignore[arg-type]  # which is refused
    for first, read in (
        (written.split[0], lambda: read_part(written.split, "test")),
        (written.ratings[0], lambda: check_ratings_files(written.ratings)),
    ):
        first.write_bytes(b"")
        with pytest.raises(ValueError, match=rf"{first} cannot be read: .*Materialize it again"):
            read()
    with pytest.raises(FileNotFoundError, match="has no table ratings: materialize ratings again"):
        table_files(tmp_path, RATINGS)


def test_many_drawn_ratings_are_several_files(tmp_path: Path) -> None:
    said = {"n_ratings": 600_000, "n_users": None, "n_movies": None, "seed": 1}
    describe(tmp_path, SYNTHETIC, settings=said)
    one = ingest(tmp_path, tmp_path / "one")
    with mock.patch.object(synthetic, "BLOCKS_OF_A_PIECE", 1):
        several = ingest(tmp_path, tmp_path / "several", PICKLING)
    assert (len(one.ratings), len(several.ratings)) == (1, 3)
    assert of_model(several) == of_model(one)


def test_what_was_drawn_is_held_no_longer_than_its_pieces_and_is_pickled_as_its_settings() -> None:
    pieces = synthetic.synthetic_pieces(SyntheticSettings(n_ratings=100_000))
    assert len(pickle.dumps(pieces)) < 1000
    held = weakref.ref(pieces[0].func.__self__)  # type: ignore[attr-defined]  # a partial of a method
    del pieces
    assert held() is None


def test_more_files_than_their_numbers_have_room_for_keep_their_order(tmp_path: Path) -> None:
    for number in (100_000, 99_999, 0):
        (tmp_path / f"ratings-{number:05d}.parquet").touch()
    names = [path.name for path in table_files(tmp_path, RATINGS)]
    assert names == [f"ratings-{n}.parquet" for n in ("00000", "99999", "100000")]


def test_several_files_tell_together_how_far_they_are(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, [[("1", "2", "3", "")], [("1", "3", "3", "")]])
    together = ["1 ratings read", "2 ratings read"]
    of_each = [f"ratings-0000{number}.parquet: 1 ratings read" for number in range(2)]
    for executor, expected in (
        (PICKLING, together),
        (LOCAL, [of_each[0], together[0], of_each[1], together[1]]),
    ):
        said: list[str] = []
        with mock.patch.object(rating_table, "SECONDS_BETWEEN_LINES", -1):
            write_table(open_ratings(archive), tmp_path, said.append, executor)
        assert [line.partition(",")[0] for line in said] == expected


class DyingExecutor(LocalExecutor):
    """Loses the worker of the last part, as Ray tells it: the cause knows nothing of the part."""

    def map(self, task: Callable[..., Any], parts: Sequence[Part], *shared: object) -> Any:
        yield from super().map(task, parts[:-1], *shared)
        raise BlockError.of(parts[-1].name, RuntimeError("The worker died")) from RuntimeError()


def test_what_fails_for_no_fault_of_the_rows_names_its_block(tmp_path: Path) -> None:
    opened = open_ratings(archive_of(tmp_path, [[("1", "2", "3", "")]] * 2))
    with pytest.raises(BlockError, match=r"^ratings-00001.parquet failed: The worker died\.$"):
        write_table(opened, tmp_path, ignore, DyingExecutor())
    opened = opened._replace(pieces=[opened.pieces[0], no_room])
    with pytest.raises(BlockError, match=r"^ratings-00001.parquet failed: .*No space left") as full:
        write_table(opened, tmp_path, ignore)
    assert isinstance(full.value.__cause__, OSError)


def no_room() -> Any:
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
