"""The ratings of the benchmark `distributed`: synthetic ones, in two splits.

Of all ratings a random hundredth decides nothing: it is the part `test` of the split `judging`,
whose part `train` is the rest. Settings are chosen by the split `choosing`: of those training
ratings another hundredth is its part `test`, and the others are its part `train`. Ids are indices
already. Each part is there as parquet, for Spark, and encoded, for ours, which maps it into memory.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cf_pipeline.recommender.encoding import write_encoded
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.synthetic import Synthetic
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline_tests.benchmarks.scale_process import Figures, seconds_of

if TYPE_CHECKING:
    from cf_pipeline.recommender.encoding import Columns

SEED = 7  # not that of `scale`
SHARE = 0.01
COLUMNS = ("user", "movie", "rating")
CHOOSING, JUDGING = "choosing", "judging"


def synthetic(n_ratings: int) -> Synthetic:
    """Return the truth about the ratings."""
    return Synthetic(SyntheticSettings(n_ratings=n_ratings, seed=SEED))


def write_splits(folder: str, n_ratings: int) -> Figures:
    """Write both splits into `folder`; `floor` is the noise floor of what decides nothing."""
    truth = synthetic(n_ratings)

    def write() -> None:
        with ExitStack() as stack:
            files: dict[Path, pq.ParquetWriter] = {}
            for path, rows in _parts(folder, truth):
                if path not in files:
                    path.parent.mkdir(exist_ok=True)
                    files[path] = stack.enter_context(pq.ParquetWriter(path, rows.schema))
                files[path].write_table(rows)
        for path in files:
            n = pq.read_metadata(path).num_rows
            write_encoded(_columns(path), n, path.parent, path.stem)

    seconds = seconds_of(write)
    test = EncodedRatings.load(Path(folder, JUDGING), "test")
    return {
        "seconds": seconds,
        "floor": truth.noise_floor(test.users.numpy(), test.items.numpy()),
    }


def _parts(folder: str, truth: Synthetic) -> Iterator[tuple[Path, pa.Table]]:
    generator = np.random.default_rng(SEED)
    for batch in truth.batches():
        table = pa.table({name: batch[name] for name in COLUMNS})
        place = generator.random(len(batch)) // SHARE
        for split, part, rows in (
            (JUDGING, "test", place == 0),
            (JUDGING, "train", place > 0),
            (CHOOSING, "test", place == 1),
            (CHOOSING, "train", place > 1),
        ):
            yield Path(folder, split, f"{part}.parquet"), table.filter(pa.array(rows))


def _columns(path: Path) -> "Iterator[Columns]":
    for batch in pq.ParquetFile(path).iter_batches():
        users, movies, ratings = (column.to_numpy() for column in batch.columns)
        yield users, movies, ratings
