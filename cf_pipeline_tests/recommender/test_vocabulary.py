"""The vocabulary: ids to indices and back, in memory and as a file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_pipeline.recommender.splits import official_fold
from cf_pipeline.recommender.vocabulary import NA, Vocabulary

INTEGERS = st.integers(-(2**63), 2**63 - 1)
STRINGS = st.text().filter(lambda text: text != NA)
IDS = st.one_of(st.lists(INTEGERS), st.lists(STRINGS))


@given(IDS)
def test_decode_undoes_encode(ids: list[int]) -> None:
    vocabulary = Vocabulary.of(ids)
    indices = vocabulary.encode(ids)
    assert indices.dtype == np.int32
    assert vocabulary.decode(indices).tolist() == ids
    assert len(vocabulary) == len(set(ids)) + 1
    assert set(indices) == set(range(1, len(vocabulary)))


@given(IDS)
def test_encode_undoes_decode(ids: list[int]) -> None:
    vocabulary = Vocabulary.of(ids)
    indices = np.arange(len(vocabulary))
    assert vocabulary.decode(indices).tolist() == [NA, *sorted(set(ids))]
    assert np.array_equal(vocabulary.encode(vocabulary.decode(indices)), indices)


@given(st.one_of(st.lists(st.none() | INTEGERS), st.lists(st.none() | STRINGS)), st.integers(0, 9))
def test_the_form_in_which_ids_come_makes_no_difference(
    ids: list[int | str | None], place: int
) -> None:
    """As Arrow's arrays, in chunks, as dictionaries whose words differ, and as categoricals."""
    words = [word for word in ids if word is not None]
    expected = sorted(set(words))
    kind = pa.string() if words and isinstance(words[0], str) else pa.int64()
    unused = "unused" if kind == pa.string() else -7
    array = pa.array(ids, kind)
    chunks = pa.chunked_array([array[:place], array[place:]])
    forms = [
        array,
        chunks,
        array.dictionary_encode(),
        pa.chunked_array([chunk.dictionary_encode() for chunk in chunks.chunks]),
        pd.Categorical(ids, categories=[*expected, *({unused} - set(expected))]),
    ]
    forms.append(pd.Series(forms[-1]))
    indices = [0 if word is None else 1 + expected.index(word) for word in ids]
    for form in forms:
        vocabulary = Vocabulary.of(form)
        assert vocabulary.ids.tolist() == expected
        encoded = vocabulary.encode(form)
        assert encoded.dtype == np.int32
        assert encoded.tolist() == indices
    other = Vocabulary.of(words[1:])
    for form in forms:
        assert other.encode(form).tolist() == other.encode(pd.Index(ids, dtype=object)).tolist()


@given(ids=IDS)
def test_a_saved_vocabulary_is_loaded_equal(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int]
) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.parquet"
    vocabulary = Vocabulary.of(ids)
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    assert Vocabulary.load(path).digest() == vocabulary.digest()
    assert pq.read_table(path)["id"].to_pylist() == [None, *sorted(set(ids))]


def test_the_training_part_of_u1(ratings: pd.DataFrame) -> None:
    in_test = official_fold(ratings, "u1")
    movies = Vocabulary.of(ratings["movie"][~in_test])
    trained = set(ratings["movie"][~in_test])
    assert movies.ids.tolist() == sorted(trained)
    indices = movies.encode(ratings["movie"][in_test])
    only_tested = ~ratings["movie"][in_test].isin(trained)
    assert np.array_equal(indices == 0, only_tested)
    assert only_tested.any()


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ([3, 7], [8, -3, 0]),
        (["a", "b"], ["c", "", NA]),
        ([3, 7], [None, None]),
        ([3, 7], pd.Series([None, 9], dtype="Int64")),
        (["a", "b"], pd.Series(["c", None])),
        ([3, 7], [np.nan, 3.5]),
        ([3, 7], ["3", "7"]),
        (["3", "7"], [3, 7]),
        ([], [1, 2]),
        ([], ["a"]),
    ],
)
def test_what_was_never_seen_is_index_0(known: list[int], asked: list[int]) -> None:
    assert Vocabulary.of(known).encode(asked).tolist() == [0] * len(asked)


@pytest.mark.parametrize(
    "ids",
    [
        [3, 7],
        np.array([7, 3, 3], dtype=np.int32),
        np.array([3, 7], dtype=np.uint64),
        pd.Series([7, None, 3], dtype="Int64"),
        pd.Index([3, 7], dtype=object),
        range(3, 8, 4),
    ],
)
def test_equal_integers_make_equal_vocabularies(ids: list[int]) -> None:
    vocabulary, expected = Vocabulary.of(ids), Vocabulary(pd.Index([3, 7]))
    assert vocabulary == expected
    assert hash(vocabulary) == hash(expected)
    assert vocabulary.digest() == expected.digest()
    assert vocabulary.encode(pd.Series([3, 7], dtype="int32")).tolist() == [1, 2]


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "b"],
        np.array(["b", "a", "a"]),
        pd.Series(["b", None, "a"]),
        pd.Series(["b", None, "a"], dtype=object),
        ["a", "b", NA],
    ],
)
def test_equal_strings_make_equal_vocabularies(ids: list[str]) -> None:
    assert Vocabulary.of(ids) == Vocabulary(pd.Index(["a", "b"]))


def test_vocabularies_of_other_ids_differ() -> None:
    different = [
        Vocabulary.of(ids) for ids in ([], [1], [1, 2], [12], ["1"], ["1", "2"], ["12"], ["1,2"])
    ]
    assert len(set(different)) == len(different)
    assert len({vocabulary.digest() for vocabulary in different}) == len(different)
    assert Vocabulary.of([1]) != [1]


def test_the_digest_is_that_of_the_ids_as_json_however_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Models that were saved before are known by it."""
    for ids in ([], [3, 7, 900], ["a", 'b"', "é"]):
        vocabulary = Vocabulary.of(ids)
        expected = hashlib.sha256(json.dumps(vocabulary.ids.tolist()).encode()).hexdigest()
        for at_once in (1, 2, 1 << 16):
            monkeypatch.setattr("cf_pipeline.recommender.vocabulary.INTEGERS_AT_ONCE", at_once)
            assert vocabulary.digest() == expected


def test_the_digest_does_not_depend_on_the_file(tmp_path: Path) -> None:
    vocabulary = Vocabulary.of([3, 7])
    table = pa.table({"id": pa.array([None, 3, 7], pa.int64())})
    pq.write_table(table, tmp_path / "other", compression="none", use_dictionary=False)
    assert Vocabulary.load(tmp_path / "other").digest() == vocabulary.digest()


def test_decode_keeps_the_shape() -> None:
    vocabulary = Vocabulary.of(["a", "b"])
    assert vocabulary.decode(np.array([[0, 1], [2, 2]])).tolist() == [[NA, "a"], ["b", "b"]]
    assert vocabulary.decode([]).shape == (0,)


@pytest.mark.parametrize("index", [3, -1])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=rf"{index} is outside .* 0 … 2: decode with"):
        Vocabulary.of([3, 7]).decode([0, index])


def test_indices_that_are_no_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="Indices are float64: cast them"):
        Vocabulary.of([3, 7]).decode(np.array([1.0]))


@pytest.mark.parametrize("ids", [[1, "a"], [1.5], [1.0, None], [True], [2**63]])
def test_ids_of_another_type_are_refused(ids: list[int]) -> None:
    with pytest.raises(TypeError, match="must be all strings or all 64-bit integers: cast them"):
        Vocabulary.of(ids)


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ({"id": [None, 7, 3]}, "sorted and unique, but 3 comes after 7"),
        ({"id": [None, "a", "a"]}, "sorted and unique, but 'a' comes after 'a'"),
        ({"id": [3, 7]}, r"Row 0 must be null, for '#na#', but is \[3\]"),
        ({"id": pa.array([], pa.int64())}, r"Row 0 must be null, for '#na#', but is \[\]"),
        ({"id": [None, None, 3]}, "A null stands for the unknown"),
        ({"id": [None, "a", None]}, "A null stands for the unknown"),
        ({"id": [None, "#na#"]}, "'#na#' is kept for the unknown"),
        ({"id": [None, 1.5]}, "Its ids are double, neither int64 nor string"),
        ({"user": [None, 3]}, r"Its columns are \['user'\]"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(
    tmp_path: Path, rows: dict[str, object], cause: str
) -> None:
    path = tmp_path / "vocabulary.parquet"
    pq.write_table(pa.table(rows), path)
    with pytest.raises(ValueError, match=rf"vocabulary.parquet is not .*{cause}.*Vocabulary.save"):
        Vocabulary.load(path)


def test_a_file_that_is_missing_or_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.parquet"
    with pytest.raises(FileNotFoundError, match="vocabulary.parquet"):
        Vocabulary.load(path)
    path.write_text("id\n3\n")
    with pytest.raises(ValueError, match="vocabulary.parquet is not a vocabulary"):
        Vocabulary.load(path)
