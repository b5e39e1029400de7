"""The files that the benchmark `scale` reads: synthetic ratings in the layouts of MovieLens."""

import csv
import zipfile
from itertools import cycle
from pathlib import Path

import pyarrow as pa
from pyarrow.csv import CSVWriter, WriteOptions

from cf_pipeline.recommender.synthetic import LEVELS, Synthetic
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline_tests.benchmarks.scale_process import Figures, seconds_of

SCHEMA = pa.schema(
    {"userId": pa.int32(), "movieId": pa.int32(), "rating": pa.string(), "timestamp": pa.int64()}
)
GENRES = ("Drama", "Comedy|Romance", "Action|Adventure|Sci-Fi", "(no genres listed)", "Thriller")


def write_archive(folder: str, name: str, n_ratings: int) -> Figures:
    """Write `folder`/`name`/ratings.csv and movies.csv as in ml-20m, and `folder`/`name`.zip."""
    inside = Path(folder, name)
    inside.mkdir(parents=True)
    synthetic = Synthetic(SyntheticSettings(n_ratings=n_ratings))

    def write() -> None:
        write_ratings(inside / "ratings.csv", synthetic)
        write_movies(inside / "movies.csv", synthetic.n_movies)
        with zipfile.ZipFile(f"{inside}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for file in sorted(inside.iterdir()):
                packed.write(file, f"{name}/{file.name}")

    return {"seconds": seconds_of(write), "bytes": (inside / "ratings.csv").stat().st_size}


def write_ratings(path: Path, synthetic: Synthetic) -> None:
    """Write userId,movieId,rating,timestamp, the ratings as 4.0."""
    written = pa.array([f"{level:.1f}" for level in range(LEVELS[-1] + 1)])
    plain = WriteOptions(quoting_style="none", quoting_header="none")
    with CSVWriter(path, SCHEMA, write_options=plain) as file:
        for batch in synthetic.batches():
            rating = written.take(batch["rating"].cast(pa.int32()))
            seconds = batch["timestamp"].cast(pa.int64())
            columns = [batch["user"], batch["movie"], rating, seconds]
            file.write(pa.record_batch(columns, schema=SCHEMA))


def write_movies(path: Path, n_movies: int) -> None:
    """Write movieId,title,genres, quoted where need be."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["movieId", "title", "genres"])
        for movie, genres in zip(range(1, n_movies + 1), cycle(GENRES), strict=False):
            writer.writerow([movie, f"Movie {movie}, The ({1950 + movie % 60})", genres])


def unzip(archive: str, folder: str) -> Figures:
    """Unpack an archive."""
    with zipfile.ZipFile(archive) as packed:
        return {"seconds": seconds_of(lambda: packed.extractall(folder))}
