"""Our sampler as a process that takes turns: a sweep each, by one of the executors.

Nothing but ids is known to it, as to Spark. What it says of its set-up are the seconds of the
executor's start, and those of the blocks: all that is done before the first sweep. What it says of
a sweep are its seconds, the RMSE of the mean of the samples so far, None in the burn-in, and the
most that each kind of process had in memory so far, imports too.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cf_pipeline.recommender.executors import LOCAL, Executor
from cf_pipeline.recommender.gibbs import Sampler
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.posterior import Posterior
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline_tests.benchmarks.distributed_data import synthetic
from cf_pipeline_tests.benchmarks.distributed_turns import Turn, serve
from cf_pipeline_tests.benchmarks.distributed_usage import cpu_seconds, peak_bytes
from cf_pipeline_tests.benchmarks.scale_process import Figures, seconds_of
from cf_pipeline_tests.benchmarks.scale_training import no_features

FACTORS = 8
BURN_IN = 4  # sweeps: chosen on carved rows


@contextmanager
def prepared(given: Figures) -> Iterator[tuple[Figures, Turn]]:
    """Set a sampler up by what is `given`, and yield what is to be said of that, and its sweep."""
    split = Path(given["split"])
    train, test = EncodedRatings.load(split, "train"), EncodedRatings.load(split, "test")
    settings = GibbsSettings(sampled_factors=FACTORS, feature_rank=0)
    begun = time.perf_counter()
    with _started(given["executor"], given["workers"]) as executor:
        used, start = cpu_seconds(), time.perf_counter()
        side = no_features(synthetic(given["n_ratings"]))
        sampler = Sampler(train, side, settings, executor)
        # A cluster makes blocks while nobody waits for them: a total takes every one.
        for one, other in ((sampler.users, sampler.items), (sampler.items, sampler.users)):
            one.blocks.total(torch.ones(len(other.bias), 1))
        figures = {
            "start seconds": start - begun,
            "seconds": time.perf_counter() - start,
            "CPU seconds": cpu_seconds() - used,
        }
        yield figures, _sweeps(sampler, test)


def _sweeps(sampler: Sampler, test: EncodedRatings) -> Turn:
    done, total = 0, torch.zeros_like(test.ratings)

    def sweep() -> Figures:
        nonlocal done
        used, rmse, done = cpu_seconds(), None, done + 1
        seconds = seconds_of(lambda: sampler.sweep(done))
        taken = {"seconds": seconds, "CPU seconds": cpu_seconds() - used}
        if done > BURN_IN:
            posterior = Posterior.of([sampler.sample()], sampler.levels, sampler.ordinal)
            total.add_(posterior.predict_mean(test.users, test.items))
            errors = total / (done - BURN_IN) - test.ratings
            rmse = errors.square().mean().sqrt().item()
        return {**taken, "rmse": rmse, **peak_bytes()}

    return sweep


@contextmanager
def _started(name: str, workers: int) -> Iterator[Executor]:
    if name == "local":
        yield LOCAL
        return
    import ray

    from cf_pipeline.recommender.ray_executor import RayExecutor

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        yield RayExecutor()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    serve(prepared)
