"""How long our training takes on synthetic ratings: a sweep of the sampler, an epoch of descent.

There are no side features; a sweep draws 16 factors with Gaussian noise, on all cores, and its
seconds are the median of the sweeps after the first two. The set-up is all before the first sweep,
most of it the features' decomposition.

Useful flops count what the method needs and no more, with width = factors + 1 for the bias. In each
half of a sweep, the users' and the items', a rating adds to half of a symmetric sum of outer
products, to the vector of its own stars and to that of the other side's offsets, each with a
multiplication and an addition: 2 (width (width + 1) / 2 + 2 width). And each row of a half's side
has a Cholesky decomposition, width³ / 3. The bound is a product of two square float32 matrices on
all cores; it takes turns with the sweeps, so that a machine that slows down slows both, and a share
is the median of the turns' own. The copy, of bytes read and written, tells what memory allows.
"""

import statistics
import time
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from cf_pipeline.recommender import gibbs, gradient_descent
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.gibbs import Sampler
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import GibbsSettings, GradientDescentSettings
from cf_pipeline.recommender.synthetic import Synthetic
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline_tests.benchmarks.scale_process import Figures, seconds_of

FACTORS = 16
UNCOUNTED_SWEEPS, SWEEPS = 2, 7
GEMM_SIZE, PRODUCTS = 2000, 2
COPIED_BYTES, COPIES = 1 << 28, 10
UNCOUNTED_EPOCHS, EPOCHS = 1, 3
BATCHES_OF_AN_EPOCH, LEAST_BATCH = 200, 1000
TEST_SHARE = 0.1
Size: TypeAlias = dict[str, int]  # as SyntheticSettings have it


def drawn(size: Size) -> tuple[Synthetic, EncodedRatings, EncodedRatings]:
    """Return synthetic ratings without a random tenth, and that tenth; ids are indices here."""
    synthetic, generator = Synthetic(SyntheticSettings(**size)), np.random.default_rng(0)
    parts: tuple[list[list[npt.NDArray[np.generic]]], ...] = ([], [])
    for batch in synthetic.batches():
        columns = [batch[name].to_numpy() for name in ("user", "movie", "rating")]
        in_test = generator.random(len(batch)) < TEST_SHARE
        for part, rows in zip(parts, (~in_test, in_test), strict=True):
            part.append([column[rows] for column in columns])
    train, test = (
        EncodedRatings(*(torch.from_numpy(np.concatenate(c)) for c in zip(*part, strict=True)))
        for part in parts
    )
    return synthetic, train, test


def no_features(synthetic: Synthetic) -> SideFeatures:
    """Return side features of which there are none."""
    return SideFeatures(
        torch.zeros(synthetic.n_users + 1, 0), torch.zeros(synthetic.n_movies + 1, 0)
    )


def sweeps(size: Size) -> Figures:
    """Set the sampler up and sweep, by turns with products of matrices."""
    synthetic, train, _ = drawn(size)
    start = time.perf_counter()
    sampler = Sampler(train, no_features(synthetic), GibbsSettings(sampled_factors=FACTORS))
    setup_seconds = time.perf_counter() - start
    a, b = torch.rand(GEMM_SIZE, GEMM_SIZE), torch.rand(GEMM_SIZE, GEMM_SIZE)
    swept, products = [], []
    for number in range(1, UNCOUNTED_SWEEPS + SWEEPS + 1):
        swept.append(seconds_of(partial(sampler.sweep, number)))
        products.append(min(seconds_of(lambda: a @ b) for _ in range(PRODUCTS)))
    swept, products = swept[UNCOUNTED_SWEEPS:], products[UNCOUNTED_SWEEPS:]
    width, n = FACTORS + 1, len(train.ratings)
    of_rating = 2 * (width * (width + 1) / 2 + 2 * width)
    flops = 2 * n * of_rating + (synthetic.n_users + synthetic.n_movies) * width**3 / 3
    product = 2 * GEMM_SIZE**3
    return {
        "seconds": statistics.median(swept),
        "ratings": n,
        "set-up seconds": setup_seconds,
        "useful Gflop": flops / 1e9,
        "Gflop/s": flops / statistics.median(swept) / 1e9,
        "bound Gflop/s": product / statistics.median(products) / 1e9,
        "share of bound": flops
        / product
        * statistics.median(p / s for p, s in zip(products, swept, strict=True)),
        "threads": torch.get_num_threads(),
        "seconds of each": swept,
        "seconds of each product": products,
    }


def epoch(size: Size) -> Figures:
    """Descend without a feature prior, in 200 batches an epoch or of 1,000 ratings each."""
    synthetic, train, _ = drawn(size)
    n, ends = len(train.ratings), list[float]()
    batch_size = max(LEAST_BATCH, n // BATCHES_OF_AN_EPOCH)
    settings = GradientDescentSettings(
        epochs=UNCOUNTED_EPOCHS + EPOCHS, batch_size=batch_size, feature_rank=0
    )
    gradient_descent.fit(
        train, no_features(synthetic), settings, log=lambda _: ends.append(time.perf_counter())
    )
    seconds = np.diff(ends)[UNCOUNTED_EPOCHS - 1 :].tolist()
    return {"seconds": statistics.median(seconds), "ratings": n, "seconds of each": seconds}


def accuracy(size: Size, n_sweeps: int, rank: int) -> Figures:
    """Sample, and judge the mean of what is predicted of the held-out tenth."""
    synthetic, train, test = drawn(size)
    settings = GibbsSettings(
        sampled_factors=rank, sweeps=n_sweeps, burn_in=n_sweeps // 4, samples=1
    )
    start = time.perf_counter()
    sampled = gibbs.fit(train, no_features(synthetic), settings, validation=test)
    seconds = time.perf_counter() - start
    users, movies = test.users.numpy(), test.items.numpy()
    return {
        "seconds": seconds,
        "rmse": sampled.trace[-1].validation_rmse,
        "floor": synthetic.noise_floor(users, movies),
    }


def copy() -> Figures:
    """Copy memory; `bytes/s` are read and written, the best of a few times."""
    source = torch.rand(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    seconds = min(seconds_of(lambda: target.copy_(source)) for _ in range(COPIES))
    return {"seconds": seconds, "bytes/s": 2 * COPIED_BYTES / seconds}
