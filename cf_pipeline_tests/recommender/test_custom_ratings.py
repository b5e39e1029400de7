"""Anybody's own tables: written in every way they come, and read as ratings."""

import csv
import gzip
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender import custom_ratings
from cf_pipeline.recommender.archive_tables import open_ratings
from cf_pipeline.recommender.custom_archive import reading
from cf_pipeline.recommender.custom_files import CustomTableError, fingerprint, kind_of, receive
from cf_pipeline.recommender.custom_ratings import read_movies
from cf_pipeline.recommender.custom_settings import CustomMoviesSettings, CustomRatingsSettings
from cf_pipeline.recommender.datasets import CUSTOM, describe
from cf_pipeline.recommender.ingest import write_table

HEADER = ["reader", "book", "stars", "when"]
ROWS = [["ann", "Dune, the novel", "4.5", "881250949"], ["bob", 'The "B"', "0.5", ""]]
BOOKS = {"user": "reader", "item": "book", "rating": "stars", "timestamp": "when"}
# Ids have neither control characters nor white space at their ends.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
IDS = TEXT.filter(lambda text: text == text.strip() != "#na#")


def write(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return path


def read(path: Path, **columns: object) -> pa.Table:
    """Receive what is at `path`, and read the ratings."""
    config = CustomRatingsSettings.model_validate({"path": str(path), **BOOKS, **columns})
    archive = path.parent / "archive"
    archive.mkdir()
    receive(config.path, archive, "ratings")
    describe(archive, CUSTOM, settings=reading(config))
    tables = path.parent / "tables"
    tables.mkdir(exist_ok=True)
    written, _ = write_table(open_ratings(archive), tables, print)
    return pa.concat_tables(map(pq.read_table, written)).replace_schema_metadata()


def text_of(table: pa.Table) -> list[tuple[object, ...]]:
    return list(
        zip(*(table[name].to_pylist() for name in ("user", "movie", "rating")), strict=True)
    )


def test_strings_quotes_and_missing_timestamps(tmp_path):
    table = read(write(tmp_path / "books.csv", [HEADER, *ROWS]))
    assert text_of(table) == [("ann", "Dune, the novel", 4.5), ("bob", 'The "B"', 0.5)]
    assert table["timestamp"].to_pandas()[0] == pd.Timestamp(881250949, unit="s", tz="UTC")
    assert table["timestamp"].null_count == 1


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(IDS, IDS, st.integers(-20, 20)), min_size=1, max_size=30))
def test_text_comes_back_as_it_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("text") / "ratings.tsv"
    write(path, [HEADER, *((user, book, str(stars / 2), "") for user, book, stars in rows)], "\t")
    found = text_of(read(path))
    assert [(str(u), str(b), r) for u, b, r in found] == [(u, b, s / 2) for u, b, s in rows]


@settings(max_examples=15, deadline=None)
@given(ids=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_integers_are_integers_and_others_text(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("ids")
    rows = [[str(number), f"0{abs(number)}", "1", ""] for number in ids]
    table = read(write(folder / "ratings.csv", [HEADER, *rows]))
    assert table["user"].to_pylist() == ids
    assert table["movie"].to_pylist() == [f"0{abs(number)}" for number in ids]  # 07 is not 7


def test_one_text_among_integers_makes_all_text(tmp_path):
    many = [[str(number), "1", "3", ""] for number in range(200_000)]
    table = read(write(tmp_path / "ratings.csv", [HEADER, *many, ["x7", "1", "3", ""]]))
    assert table["user"].type == pa.string()
    assert table["user"].to_pylist()[-2:] == ["199999", "x7"]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_folder_is_read_in_order(tmp_path, compressed):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        path = write(folder / f"part-{number}.csv", [HEADER, [str(number), "5", "2", ""]])
        if compressed:
            path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    (folder / "_SUCCESS").touch()
    (folder / ".hidden").touch()
    assert read(folder)["user"].to_pylist() == [0, 1, 2]


def test_parquet_keeps_its_types(tmp_path):
    times = pd.to_datetime(pd.Series(["2001-02-03 04:05:06.7", None]))
    frame = pd.DataFrame({"reader": [1, 2], "book": pd.Categorical(["a", "b"]), "stars": [5, 70]})
    pq.write_table(pa.Table.from_pandas(frame.assign(when=times)), tmp_path / "ratings.parquet")
    table = read(tmp_path / "ratings.parquet")
    assert text_of(table) == [(1, "a", 5.0), (2, "b", 70.0)]
    assert table["timestamp"].to_pandas()[0] == pd.Timestamp("2001-02-03 04:05:06", tz="UTC")


def test_an_address_of_fsspec(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    text = write(tmp_path / "ratings.csv", [HEADER, *ROWS]).read_bytes()
    memory.pipe("/books/ratings.csv", text)
    before = fingerprint("memory://books/ratings.csv")
    (tmp_path / "archive").mkdir()
    (name,) = receive("memory://books/ratings.csv", tmp_path / "archive", "ratings")
    assert (tmp_path / "archive" / name).read_bytes() == text
    memory.pipe("/books/ratings.csv", text + text)
    assert fingerprint("memory://books/ratings.csv") != before


def test_events_count_once(tmp_path):
    rows = [["u", "1", "881250949"], ["v", "1", ""], ["u", "1", "5"], ["u", "2", ""]]
    path = write(tmp_path / "events.csv", [["reader", "book", "when"], *rows])
    table = read(path, rating=None)
    assert text_of(table) == [("u", 1, 1.0), ("v", 1, 1.0), ("u", 2, 1.0)]
    assert table["timestamp"].to_pandas()[0].year == 1997  # the first event's


@pytest.mark.parametrize(
    "when",
    ["981173106", "981173106.7", "981173106000", "981173106000000", "2001-02-03T04:05:06Z",
     "2001-02-03 05:05:06+01:00", "2001-02-03 04:05:06.999"],
)  # fmt: skip
def test_times_in_every_form(tmp_path, when):
    table = read(write(tmp_path / "r.csv", [HEADER, ["a", "b", "1", when], ["a", "c", "1", ""]]))
    assert table["timestamp"].to_pandas()[0] == pd.Timestamp("2001-02-03 04:05:06", tz="UTC")


def test_without_a_header_and_with_another_separator(tmp_path):
    path = write(tmp_path / "r.csv", ROWS, ";")
    table = read(
        path, header=False, separator=";", user="f0", item="f1", rating="f2", timestamp="f3"
    )
    assert text_of(table)[1] == ("bob", 'The "B"', 0.5)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["", "b", "1", ""], "row 3: reader is empty"),
        (["a", "", "1", ""], "row 3: book is empty"),
        (["a", "b", "", ""], "row 3: stars is None, which is no rating"),
        (["a", "b", "nan", ""], "row 3: stars is nan, which is no rating"),
        (["a", "b", "five", ""], "In column 'stars': row 3: CSV conversion error to double: inva"),
        (["a", "b", "CSV column #99"], "row 3: Expected 4 columns, got 3: a,b,CSV column #99"),
        (["a", "b", "Row #7 of CSV column #99", ""], "invalid value 'Row #7 of CSV column #99'"),
        (["a", "b", "1"], "row 3: Expected 4 columns, got 3"),
        (["#na#", "b", "1", ""], "row 3: reader is #na#, which stands for the unknown"),
        (["x" * 1001, "b", "1", ""], "row 3: reader has more than 1000 bytes"),
        (["a", "b", "1", "soon"], "row 3: when is 'soon', neither a number since 1970 nor"),
        (["a", "b", "1", "2004"], "row 3: when is 2004, which may be a year, or a date without"),
        (["a", "b", "1", "20040506"], "row 3: when is 20040506, which may be a year, or a date"),
        (["a", "b", "1", "1e30"], "row 3: when is 1e+30, which is in none of the years 1 to 9999"),
        (["a", "b", "1", "inf"], "row 3: when is inf, which is in none of the years 1 to 9999"),
        (["a", " b", "1", ""], "row 3: book begins or ends with white space"),
        (["a\u3000", "b", "1", ""], "row 3: reader begins or ends with white space"),
        (["a", "b\tc", "1", ""], "row 3: book has a control character"),
        (["a", "b\0", "1", ""], "row 3: book has a control character"),
        (["a", "b,1,\nc", "1", ""], "row 3: book has a control character, such as a line's end"),
    ],
)
def test_a_row_that_cannot_be(tmp_path, row, said):
    path = write(tmp_path / "books.csv", [HEADER, *ROWS, row])
    with pytest.raises(CustomTableError) as error:
        read(path)
    assert said in str(error.value)
    assert "ratings-000000000-books.csv" in str(error.value)


@pytest.mark.parametrize("other", ["", "2001-02-03"], ids=["numbers", "text"])
def test_nan_is_no_time_whatever_is_beside_it(tmp_path, other):
    rows = [["a", str(number), "1", when] for number, when in enumerate(["nan", "NaN", other])]
    table = read(write(tmp_path / "r.csv", [HEADER, *rows]))
    assert table["timestamp"].is_null().to_pylist() == [True, True, not other]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_is_there_twice_is_refused_if_it_is_wanted(tmp_path, kind):
    names = ["reader", "book", "stars", "note", "note", "stars"]
    path = tmp_path / f"r.{kind}"
    if kind == "csv":
        write(path, [names, ["a", "b", "1", "", "", "2"]])
    else:
        pq.write_table(pa.table([["a"], ["b"], [1], [""], [""], [2]], names), path)
    with pytest.raises(CustomTableError, match=r"columns \['stars'\] are there twice"):
        read(path, timestamp=None)
    shutil.rmtree(tmp_path / "archive")
    assert text_of(read(path, timestamp=None, rating=None)) == [("a", "b", 1.0)]


def test_a_scale_goes_up():
    with pytest.raises(ValueError, match=r"\[5.0, 1.0\] must be the lowest rating, then the high"):
        CustomRatingsSettings(path="books.csv", scale=[5, 1])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"user": "who"}, r"columns \['who'\] are not among \['reader', 'book', 'stars', 'when'\]"),
        ({"user": "book"}, "A column is named twice"),
        (
            {"rating": "book", "item": "stars"},
            "CSV conversion error to double: invalid value 'Dune, the novel'",
        ),
    ],
)
def test_a_column_that_is_not_there(tmp_path, columns, said):
    with pytest.raises(CustomTableError, match=said):
        read(write(tmp_path / "books.csv", [HEADER, *ROWS]), **columns)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"timestamp": "when"}, r"columns \['when'\] are not among \['n', 'x', 't', 'i'\]"),
        ({"user": "x"}, "x of .* is double: ids must be integers or text"),
        ({"rating": "t"}, "t of .* is string, which is no number"),
    ],
)
def test_parquet_of_other_columns(tmp_path, columns, said):
    table = {"n": [1], "x": [1.5], "t": ["five"], "i": ["a"]}
    pq.write_table(pa.table(table), tmp_path / "r.parquet")
    given = {"user": "n", "item": "i", "rating": "x", "timestamp": None}
    with pytest.raises(CustomTableError, match=said):
        read(tmp_path / "r.parquet", **(given | columns))


@pytest.mark.parametrize("name", ["absent.csv", "notes.txt", "empty", "mixed"])
def test_nothing_that_can_be_read(tmp_path, name):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    for kind in ("csv", "tsv"):
        (tmp_path / "mixed" / f"a.{kind}").touch()
    with pytest.raises(CustomTableError, match="give a file or a folder of one kind"):
        receive(str(tmp_path / name), tmp_path, "ratings")
    assert fingerprint(str(tmp_path / name)) == "missing"


@pytest.mark.parametrize(
    "path", ["s3://me:secret@host/x.csv", "https://host/x.csv?token=secret", "nosuch://x.csv"]
)
def test_addresses_that_are_refused(tmp_path, path):
    with pytest.raises(CustomTableError) as error:
        receive(path, tmp_path, "ratings")
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None or "secret" not in str(error.value.__cause__)


def test_movies_have_titles_and_genres(tmp_path):
    config = CustomMoviesSettings(path="", title="name", genres="about")
    path = write(
        tmp_path / "items.csv",
        [["item", "name", "about"], ["1", "Dune (1965)", "Sci-Fi|Politics"], ["2", "", ""]],
    )
    assert read_movies([path], config, pa.int64()) == {
        "movie": [1, 2],
        "title": ["Dune (1965)", "2"],
        "genres": [["Sci-Fi", "Politics"], []],
    }
    write(path, [["item", "name", "about"], ["1", "A", ""], ["1", "B", ""]])
    with pytest.raises(CustomTableError, match="row 2: item 1 is there twice"):
        read_movies([path], config, pa.int64())
    write(path, [["item", "name", "about"], ["x1", "A", ""]])
    with pytest.raises(CustomTableError, match="item of items.csv is no id like the others"):
        read_movies([path], config, pa.int64())
    write(path, [["item", "name", "about"], ["7", "A", ""], ["007", "B", ""]])
    with pytest.raises(CustomTableError, match="row 2: item is 007, but the ratings' are integers"):
        read_movies([path], config, pa.int64())
    assert read_movies([path], config, pa.string())["movie"] == ["7", "007"]


def test_a_table_of_movies_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(custom_ratings, "MOST_MOVIES_BYTES", 3000)
    path = write(tmp_path / "items.csv", [["item", "title"], ["1", "x" * 4000]])
    with pytest.raises(CustomTableError, match="have more than 3,000 bytes"):
        read_movies([path], CustomMoviesSettings(path=""), pa.int64())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", ".csv"), ("A.TSV.gz", ".tsv"), ("a.parquet", ".parquet"), ("a.parquet.gz", None),
     ("a.zip", None), ("csv", None)],
)  # fmt: skip
def test_kinds(name, kind):
    assert kind_of(name) == kind
