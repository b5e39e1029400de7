"""What the benchmark `scale` writes and has peers read, how it watches stages, and its targets."""

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from cf_pipeline.recommender.synthetic import Synthetic
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline_tests.benchmarks import scale_ingest
from cf_pipeline_tests.benchmarks.scale_data import write_archive
from cf_pipeline_tests.benchmarks.scale_process import Figures, UnfinishedError, in_own_process
from cf_pipeline_tests.benchmarks.scale_targets import Measured, targets
from cf_pipeline_tests.recommender.memory import MEASURED

N = 5000


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(str(folder), "ml-20m", N)
    return folder / "ml-20m"


@pytest.fixture(scope="module")
def ratings() -> pa.Table:
    return pa.Table.from_batches(Synthetic(SyntheticSettings(n_ratings=N)).batches())


def test_an_archive_has_the_ratings_in_the_layout_of_movielens(archive, ratings):
    lines = (archive / "ratings.csv").read_text().splitlines()
    assert lines[0] == "userId,movieId,rating,timestamp"
    first = ratings.slice(0, 1).cast(ratings.schema.set(3, pa.field("timestamp", pa.int64())))
    user, movie, rating, seconds = first.to_pylist()[0].values()
    assert lines[1] == f"{user},{movie},{rating:.1f},{seconds}"
    written = pyarrow.csv.read_csv(archive / "ratings.csv")
    for column, name in enumerate(("user", "movie", "rating")):
        assert written.column(column).to_pylist() == ratings[name].to_pylist()
    movies = pyarrow.csv.read_csv(archive / "movies.csv")
    assert movies.column_names == ["movieId", "title", "genres"]
    assert set(ratings["movie"].to_pylist()) <= set(movies["movieId"].to_pylist())
    with zipfile.ZipFile(f"{archive}.zip") as packed:
        assert packed.namelist() == ["ml-20m/movies.csv", "ml-20m/ratings.csv"]
        assert packed.read("ml-20m/ratings.csv") == (archive / "ratings.csv").read_bytes()


@pytest.mark.parametrize("peer", ["pandas", "polars", "duckdb"])
def test_peers_do_the_same_ingest(peer, archive, ratings, tmp_path):
    pytest.importorskip(peer)
    getattr(scale_ingest, peer)(str(archive / "ratings.csv"), str(tmp_path))
    by_pair = [("user", "ascending"), ("movie", "ascending")]
    made = pq.read_table(tmp_path / "ratings.parquet").sort_by(by_pair)
    kept = ratings.sort_by(by_pair)
    assert made.column_names == kept.column_names
    for name in ("user", "movie", "rating"):
        assert made[name].equals(kept[name])
    assert made["timestamp"].cast(pa.timestamp("s", "UTC")).equals(kept["timestamp"])
    encoded = pq.read_table(tmp_path / "encoded.parquet").sort_by(by_pair)
    assert encoded.schema.types == [pa.int32(), pa.int32(), pa.float32()]
    for name in ("user", "movie"):
        ids = pq.read_table(tmp_path / f"{name}s.parquet")[name].to_numpy()
        np.testing.assert_array_equal(ids, np.unique(ratings[name]))
        np.testing.assert_array_equal(ids[encoded[name].to_numpy() - 1], kept[name])
    assert encoded["rating"].equals(kept["rating"])
    for file in tmp_path.glob("*.parquet"):
        row_group = pq.read_metadata(file).row_group(0)
        codecs = {row_group.column(place).compression for place in range(row_group.num_columns)}
        assert codecs == {"UNCOMPRESSED"}


@MEASURED
def test_a_stage_is_measured_in_a_process_of_its_own(archive, tmp_path):
    ballast = np.ones(1 << 25)  # 256 MiB of this process, which are not the stage's
    figures = in_own_process("scale_data:unzip", f"{archive}.zip", str(tmp_path))
    assert (tmp_path / "ml-20m" / "ratings.csv").exists()
    assert 0 < figures["seconds"] < 10
    assert 1 << 24 < figures["peak_bytes"] < ballast.nbytes


def test_a_stage_that_fails_or_takes_too_long_is_unfinished(tmp_path):
    with pytest.raises(UnfinishedError, match="No such file"):
        in_own_process("scale_data:unzip", str(tmp_path / "absent.zip"), str(tmp_path))
    with pytest.raises(UnfinishedError, match=r"not within 0\.01 s"):
        in_own_process("scale_data:unzip", "", "", limit=0.01)


def test_targets_of_what_was_not_measured_are_left_out():
    assert [target.name for target in targets({})] == ["stages of ours that did not finish"]
    figures: Figures = {"seconds": 2.0, "turns": [2.0], "peak_bytes": 5e8, "ratings": 1_000_000}
    larger = {**figures, "seconds": 30.0, "turns": [30.0], "ratings": 10_000_000}
    measured: Measured = {
        ("1M", "ingest", "ours"): figures,
        ("10M", "ingest", "ours"): larger,
        ("10M", "ingest", "Polars"): figures,
        ("20M", "ingest", "ours"): {"unfinished": "killed by signal 9"},
    }
    unfinished, growth = targets(measured)
    assert (unfinished.value, unfinished.holds) == (1, False)
    assert growth.name == "ingest: growth exponent from 1M on"
    assert growth.value == pytest.approx(np.log10(15))
    assert not growth.holds
