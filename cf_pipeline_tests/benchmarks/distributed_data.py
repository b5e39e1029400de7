"""The ratings of the benchmark `distributed`: synthetic ones, in parts that all its stages read.

Of all ratings a random hundredth is the part `test`, which decides nothing; the training part is
the rest, in two files: `carved`, another hundredth, on which settings are chosen, and `fit`. Ids
are indices already. Parquet is what Spark reads, into which it is fastest here, and what ours
reads, too, which takes it a second that counts for nobody.
"""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.synthetic import Synthetic
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline_tests.benchmarks.scale_process import Figures, seconds_of

SEED = 7  # of the ratings, and of their parts: not that of `scale`, on which defaults were seen
SHARE = 0.01
COLUMNS = ("user", "movie", "rating")
FIT, TRAINING, CARVED, TEST = ("fit",), ("fit", "carved"), ("carved",), ("test",)


def synthetic(n_ratings: int) -> Synthetic:
    """Return the truth about the ratings."""
    return Synthetic(SyntheticSettings(n_ratings=n_ratings, seed=SEED))


def write_parts(folder: str, n_ratings: int) -> Figures:
    """Write each part into `folder`; `floor` is the noise floor of the test part."""

    def write() -> None:
        generator = np.random.default_rng(SEED)
        with ExitStack() as stack:
            files: dict[str, pq.ParquetWriter] = {}
            for batch in synthetic(n_ratings).batches():
                place = generator.random(len(batch)) // SHARE
                table = pa.table({name: batch[name] for name in COLUMNS})
                for part, rows in (
                    ("test", place == 0),
                    ("carved", place == 1),
                    ("fit", place > 1),
                ):
                    if part not in files:
                        file = pq.ParquetWriter(files_of(folder, [part])[0], table.schema)
                        files[part] = stack.enter_context(file)
                    files[part].write_table(table.filter(pa.array(rows)))

    seconds = seconds_of(write)
    test = read(folder, TEST)
    floor = synthetic(n_ratings).noise_floor(test.users.numpy(), test.items.numpy())
    return {"seconds": seconds, "floor": floor}


def files_of(folder: str, parts: list[str] | tuple[str, ...]) -> list[str]:
    """Return the files of the parts."""
    return [str(Path(folder, f"{part}.parquet")) for part in parts]


def read(folder: str, parts: tuple[str, ...]) -> EncodedRatings:
    """Return the ratings of the parts, which take 12 bytes each."""
    table = pa.concat_tables(map(pq.read_table, files_of(folder, parts)))
    return EncodedRatings(*(torch.tensor(table[name].to_numpy()) for name in COLUMNS))
