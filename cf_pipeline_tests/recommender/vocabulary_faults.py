"""What may be wrong with the vocabularies that are saved with a model."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.damages import Damage, ModelFault, cut, longer, without
from cf_pipeline_tests.recommender.some_models import MOVIES, USERS


def with_user_ids(ids: pa.Array, **options: object) -> Damage:
    def damage(folder: Path) -> None:
        pq.write_table(pa.table({"id": ids}), folder / "user_vocabulary.parquet", **options)

    return damage


def claiming_rows(n_rows: int) -> Damage:
    """Return the damage that makes the footer of the users' vocabulary claim `n_rows`."""

    def damage(folder: Path) -> None:
        path = folder / "user_vocabulary.parquet"
        with_user_ids(pa.nulls(123_456, pa.int64()))(folder)
        data = path.read_bytes()
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        footer = data[start:-8].replace(_varint(123_456), _varint(n_rows))
        path.write_bytes(data[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")

    return damage


def _varint(number: int) -> bytes:
    """Return a positive number as Thrift's compact protocol writes it."""
    number *= 2
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _swapped(folder: Path) -> None:
    MOVIES.save(folder / "user_vocabulary.parquet")
    USERS.save(folder / "movie_vocabulary.parquet")


def _overwritten(folder: Path) -> None:
    path = folder / "user_vocabulary.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(30) + data[34:])


VOCABULARIES = [
    ModelFault("no vocabulary", without("user_vocabulary.parquet"), "user_vocabulary.parquet"),
    ModelFault("a vocabulary cut short", cut("movie_vocabulary.parquet"), "is not a vocabulary"),
    ModelFault("swapped vocabularies", _swapped, "It has 5 rows, and may have 4"),
    ModelFault(
        "a vocabulary of one id less",
        lambda folder: MOVIES.save(folder / "user_vocabulary.parquet"),
        "5 rows for users, but the user vocabulary has 4",
    ),
    ModelFault(
        "a vocabulary of other ids",
        lambda folder: Vocabulary.of([1, 2, 901]).save(folder / "movie_vocabulary.parquet"),
        "fitted with another movie vocabulary",
    ),
    ModelFault(
        "a vocabulary of one id more",
        lambda folder: Vocabulary.of(range(5)).save(folder / "user_vocabulary.parquet"),
        "has 6 rows, and may have 5",
    ),
    ModelFault(
        "a vocabulary claiming a billion ids", claiming_rows(10**9), "has 1,000,000,000 rows"
    ),
    ModelFault(
        "a vocabulary that expands to 5 million ids",
        with_user_ids(pa.repeat(pa.scalar(7, pa.int64()), 5_000_000), row_group_size=5_000_000),
        "has 5,000,000 rows",
    ),
    ModelFault(
        "a vocabulary of 20 GB", longer("user_vocabulary.parquet"), "more than 65,856 bytes"
    ),
    ModelFault(
        "an id of a megabyte", with_user_ids(pa.array([None, "x" * 10**6])), "An id has 1,000,000"
    ),
    ModelFault(
        "an id of 20 MB that takes a kilobyte",
        with_user_ids(pa.array([None, "x" * (20 << 20)]), compression="zstd"),
        "is compressed by {'ZSTD'}",
    ),
    ModelFault(
        "an id that is a list of a million",
        with_user_ids(pa.array([[7] * 10**6])),
        "Its ids are list<",
    ),
    *(
        ModelFault(
            f"ids that are {kind}",
            with_user_ids(pa.array([None, b"x" * 10**6]).cast(kind)),
            f"Its ids are {kind}",
        )
        for kind in (pa.binary(), pa.large_binary(), pa.large_string(), pa.string_view())
    ),
    ModelFault(
        "ids that are words of a dictionary",
        with_user_ids(pa.array([None, "x" * 10**6]).dictionary_encode()),
        "Its ids are dictionary<",
    ),
    ModelFault("a vocabulary partly overwritten", _overwritten, "is not a vocabulary"),
]
