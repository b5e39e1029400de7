"""The splits that the benchmark `distributed` draws, how it takes turns, and its targets."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cf_pipeline.recommender.gibbs import fit
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline_tests.benchmarks.distributed_data import (
    CHOOSING,
    JUDGING,
    synthetic,
    write_splits,
)
from cf_pipeline_tests.benchmarks.distributed_sampler import BURN_IN, FACTORS
from cf_pipeline_tests.benchmarks.distributed_targets import (
    LOCAL,
    ONE_WORKER,
    TWO_WORKERS,
    Swept,
    fastest,
    rows,
    rows_of_spark,
    targets,
)
from cf_pipeline_tests.benchmarks.distributed_turns import Turns
from cf_pipeline_tests.benchmarks.scale_process import Figures, UnfinishedError
from cf_pipeline_tests.benchmarks.scale_training import no_features
from cf_pipeline_tests.recommender.memory import MEASURED

N = 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("parts"))
    write_splits(folder, N)
    return folder


def _rows(columns: Iterable[Any]) -> set[tuple[float, ...]]:
    return set(zip(*(column.tolist() for column in columns), strict=True))


def swept(*seconds: float, rmse: float = 0.8, blocks: float = 1.0) -> Swept:
    sweeps = [{"seconds": float(of_one), "rmse": rmse} for of_one in seconds]
    return Swept({"start seconds": 9.0, "seconds": blocks}, sweeps, len(seconds))


def spark(rmse: float) -> Figures:
    return {"seconds": 30.0, "fits": [{"seconds": 40.0, "rmse": rmse}]}


def test_what_settings_are_chosen_by_is_never_judged_by(folder):
    drawn = [batch.to_pandas() for batch in synthetic(N).batches()]
    everything = set().union(*(_rows(batch.to_numpy()[:, :3].T) for batch in drawn))
    chosen_by, judged_by = (
        [_rows(EncodedRatings.load(Path(folder, split), part)) for part in ("train", "test")]
        for split in (CHOOSING, JUDGING)
    )
    assert judged_by[0] | judged_by[1] == everything
    assert chosen_by[0] | chosen_by[1] == judged_by[0]
    assert not judged_by[0] & judged_by[1]
    assert not chosen_by[0] & chosen_by[1]
    assert [len(split[1]) / N for split in (chosen_by, judged_by)] == pytest.approx(
        [0.01, 0.01], abs=0.003
    )


@pytest.mark.parametrize("split", [CHOOSING, JUDGING])
@pytest.mark.parametrize("part", ["train", "test"])
def test_spark_reads_what_ours_reads(split, part, folder):
    encoded = EncodedRatings.load(Path(folder, split), part)
    table = pq.read_table(Path(folder, split, f"{part}.parquet"))
    for column, name in zip(encoded, ("user", "movie", "rating"), strict=True):
        np.testing.assert_array_equal(column, table[name])


@MEASURED
def test_a_process_that_takes_turns_samples_as_a_fit_does(folder):
    n_sweeps, split = BURN_IN + 2, Path(folder, JUDGING)
    settings = GibbsSettings(
        sampled_factors=FACTORS, feature_rank=0, sweeps=n_sweeps, burn_in=BURN_IN, samples=n_sweeps
    )
    train, test = EncodedRatings.load(split, "train"), EncodedRatings.load(split, "test")
    expected = fit(train, no_features(synthetic(N)), settings, validation=test).trace
    given = {"split": str(split), "n_ratings": N, "executor": "local", "workers": 0, "threads": 1}
    with Turns("distributed_sampler", given, alone=False) as sampler:
        taken = [sampler.take() for _ in range(n_sweeps)]
    assert sampler.figures["seconds"] > 0
    assert [turn["rmse"] for turn in taken] == pytest.approx(
        [sweep.validation_rmse for sweep in expected], abs=1e-5
    )
    assert taken[-1]["driver_bytes"] > 1 << 26
    assert taken[-1]["worker_bytes"] == taken[-1]["store_bytes"] == 0


def test_a_process_that_fails_is_unfinished(folder):
    with pytest.raises(UnfinishedError, match="ended with 1"):
        Turns("distributed_sampler", {"split": folder, "threads": 1}, alone=False)


def test_of_settings_that_are_as_good_the_fastest_counts():
    best = {"rmse": 0.8, "seconds": 9.0}
    close = {"rmse": 0.8009, "seconds": 5.0}
    worse = {"rmse": 0.802, "seconds": 1.0}
    assert fastest([best, close, worse]) is close
    assert fastest([best, worse]) is best


def test_ratios_are_the_median_of_the_turns_own():
    slow_first = 100, 100  # uncounted
    measured = {
        LOCAL: swept(*slow_first, 10, 20, 10),
        ONE_WORKER: swept(*slow_first, 12, 24, 11),
        TWO_WORKERS: swept(*slow_first, 6, 16, 5.5),
    }
    like_for_like, speed_up = targets(measured, None)
    assert like_for_like.value == pytest.approx(1.2)
    assert (like_for_like.limit, like_for_like.holds) == (1.25, True)
    assert speed_up.value == pytest.approx(2)
    assert (speed_up.least, speed_up.holds) == (1.5, True)


def test_spark_is_beaten_by_who_is_faster_and_as_good():
    measured = {TWO_WORKERS: swept(1, 2, 3, blocks=4.0)}
    (as_good,) = targets(measured, spark(rmse=0.8))
    assert (as_good.value, as_good.least, as_good.holds) == (3, 1, True)
    (worse,) = targets(measured, spark(rmse=0.79))
    assert (worse.value, worse.holds) == (0, False)


def test_beside_each_of_sparks_settings_stands_what_ours_took_to_be_as_good():
    setup = {"seconds": 10.0}
    sweeps = [{"seconds": 2.0, "rmse": rmse} for rmse in (None, 0.86, 0.83)]
    tried = [{"rank": 8, "regParam": 0.1, "maxIter": 5, "rmse": rmse} for rmse in (0.85, 0.87, 0.8)]
    fits = [fit | {"seconds": 9.0, "CPU seconds": 12.0} for fit in tried]
    last = {"start seconds": 5.0, "seconds": 9.0, "peak_bytes": 1e6, "jvm_bytes": 2e6, "fits": fits}
    *lines, final = rows_of_spark({"fits": fits}, Swept(setup, sweeps, 3), last)
    assert [line["ours, local, sweeps"] for line in lines] == ["3", "2", ""]
    assert [line["ours, local, s"] for line in lines] == [16, 14, ""]
    assert final["RMSE"] == 0.8


def test_what_was_not_measured_has_no_target():
    assert list(targets({}, spark(rmse=0.8))) == []
    assert list(targets({ONE_WORKER: swept(1, 1, 1)}, None)) == []


def test_a_line_says_what_a_sampler_took(folder):
    used = {"driver_bytes": 1e6, "worker_bytes": 2e6, "store_bytes": 3e6, "service_bytes": 4e6}
    sweeps = [
        {"seconds": float(k), "CPU seconds": 2.0 * k, "rmse": 1 / k, **used}
        for k in (8, 7, 3, 5, 4)
    ]
    setup = {"start seconds": 9.0, "seconds": 1.0, "CPU seconds": 2.0}
    (row,) = rows({TWO_WORKERS: Swept(setup, sweeps, 4)}, floor=0.2)
    assert (row["workers"], row["sweeps"]) == ("2", "4")
    assert (row["sweep s"], row["least"]) == (4, 3)
    assert (row["blocks + sweeps s"], row["CPU s"]) == (24, 48)
    assert (row["RMSE"], row["noise floor"], row["store MB"]) == (0.2, 0.2, 3)
    assert np.allclose(row["seconds of each sweep"], [8, 7, 3, 5, 4])
