"""No archive or table does harm: it is refused with a clear error, in bounded memory and time."""

import io
import tempfile
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender.movielens import read_movies, read_ratings, read_users
from cf_pipeline.recommender.movielens_rows import MalformedRowError
from cf_pipeline.recommender.places import MOST_BYTES, ArchiveLayoutError
from cf_pipeline.recommender.sources import ArchiveUnavailableError, fetch_archive
from cf_pipeline_tests.recommender.hostile import HOSTILE, RATINGS, Hostile, attempt
from cf_pipeline_tests.recommender.layouts import TOY_STORY, folder_with, read
from cf_pipeline_tests.recommender.memory import MEASURED, peak_memory

MOST_SECONDS = 20  # for the slowest, on a busy machine
MOST_MEMORY = 768 << 20  # bytes, Python and its libraries included


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_input_is_refused(hostile: Hostile, tmp_path: Path) -> None:
    started = time.monotonic()
    attempt(hostile, tmp_path)
    assert time.monotonic() - started < MOST_SECONDS


def _attempt_all(folder: Path) -> None:
    for number, hostile in enumerate(HOSTILE):
        (folder / str(number)).mkdir()
        attempt(hostile, folder / str(number))


@MEASURED
def test_no_hostile_input_takes_much_memory(tmp_path: Path) -> None:
    assert peak_memory(_attempt_all, tmp_path) < MOST_MEMORY


def _read_most(folder: Path) -> None:
    """Read tables as long as they may be, of the shortest rows."""
    movie = "1|a|||" + "|0" * 19 + "\n"
    for table, row, read_table in (
        ("data", "1\t2\t3\t4\n", read_ratings),
        ("item", movie, read_movies),
        ("user", "1|2|M|a|b\n", read_users),
    ):
        folder_with(folder, **{table: row * (MOST_BYTES // len(row))})
        assert read_table(folder).num_rows == MOST_BYTES // len(row)


@MEASURED
def test_the_largest_tables_take_bounded_memory(tmp_path: Path) -> None:
    assert peak_memory(_read_most, tmp_path) < MOST_MEMORY


def test_a_source_of_an_unknown_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnavailableError, match="home directory"):
        fetch_archive(tmp_path, ["~no-such-user/a"], timeout=1, retries=0, log=lambda _: None)


# --- any bytes


def small_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("ml-100k/u.data", RATINGS * 20)
        members.writestr("ml-100k/u.item", TOY_STORY + "\n")
        members.writestr("ml-100k/u.user", "1|24|M|technician|85711\n")
    return file.getvalue()


ZIP = small_zip()
PLACES = st.integers(0, len(ZIP) - 1)
# Some bytes of the zip give way to others: a flip, a cut, or a splice of what stands elsewhere.
CHANGES = st.one_of(
    st.tuples(PLACES, st.just(1), st.binary(min_size=1, max_size=1)),
    st.tuples(PLACES, st.sampled_from([1, 2, 4, 8]), st.sampled_from([b"\xff", b"\0"])).map(
        lambda change: (change[0], change[1], change[2] * change[1])
    ),
    st.tuples(PLACES, st.integers(1, len(ZIP)), st.just(b"")),
    st.tuples(PLACES, st.just(0), PLACES, st.integers(1, 60)).map(
        lambda change: (change[0], change[1], ZIP[change[2] : change[2] + change[3]])
    ),
)


@settings(deadline=None, max_examples=400)
@given(st.lists(CHANGES, min_size=1, max_size=4))
def test_whatever_bytes_a_zip_has_it_is_refused_or_read_right(
    changes: list[tuple[int, int, bytes]],
) -> None:
    data = bytearray(ZIP)
    for place, length, new in changes:
        data[place : place + length] = new
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ml-100k.zip").write_bytes(data)
        try:
            ratings = read(folder).ratings
        except (ArchiveLayoutError, MalformedRowError):
            return
    assert ratings.num_rows == 20
    assert set(ratings["movie"].to_pylist()) == {242}
