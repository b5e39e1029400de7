"""How fast the Gibbs sampler sweeps over synthetic ratings, beside what the machine could do.

The ratings are drawn with a seed: how active users are is log-normal, how often an item is chosen
follows Zipf's law, no pair comes twice, and the stars are a low-rank model's with noise, rounded to
1 … 5. There are no side features; a sweep draws 16 factors with Gaussian noise, on all cores. Each
size has a process of its own, and its seconds are the median of the sweeps after the first two. The
set-up is all before the first sweep, most of it the features' decomposition. Peak memory is the
greatest resident set of that process in its life: torch, the drawing of the ratings and the set-up
beside the sweeps.

Useful flops count what the method needs and no more, with width = factors + 1 for the bias. In each
half of a sweep, the users' and the items', a rating adds to half of a symmetric sum of outer
products, to the vector of its own stars and to that of the other side's offsets, each with a
multiplication and an addition: 2 (width (width + 1) / 2 + 2 width). And each row of a half's side
has a Cholesky decomposition, width³ / 3. The bound is a product of two square float32 matrices on
all cores; it takes turns with the sweeps, so that a machine that slows down slows both, and a share
is the median of the turns' own. The copy, of bytes read and written, tells what memory allows.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch

from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.gibbs import Sampler
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline_tests.benchmarks.report import Row, Target, print_report

FACTORS = 16
UNCOUNTED_SWEEPS, SWEEPS = 2, 7
TRUE_FACTORS, TRUE_SPREAD, NOISE = 8, 0.45, 0.85
ZIPF_EXPONENT, ACTIVITY_SPREAD = 0.8, 1.0
PAIRS_AT_ONCE = 1 << 20
GEMM_SIZE, PRODUCTS = 2000, 2
COPIED_BYTES, COPIES = 1 << 28, 10
GIB = 1 << 30


@dataclass(frozen=True)
class Size:
    """How many ratings of how many users and items."""

    ratings: int
    users: int
    items: int


SIZES = {"1M": Size(1_000_000, 6_000, 3_700), "10M": Size(10_000_000, 70_000, 10_000)}


@dataclass(frozen=True)
class Measured:
    """What one size took: the set-up, each turn's sweep and product, and memory."""

    setup_seconds: float
    sweep_seconds: list[float]
    product_seconds: list[float]
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """The seconds of a sweep."""
        return statistics.median(self.sweep_seconds)

    @property
    def bound(self) -> float:
        """The floating-point operations that a product does in a second."""
        return 2 * GEMM_SIZE**3 / statistics.median(self.product_seconds)

    def share_of_bound(self, flops: float) -> float:
        """Return how much of the bound a sweep of so many `flops` reaches."""
        turns = zip(self.product_seconds, self.sweep_seconds, strict=True)
        return flops / (2 * GEMM_SIZE**3) * statistics.median(a / b for a, b in turns)


def main() -> None:
    """Measure each size in a process of its own, and print."""
    parser = argparse.ArgumentParser(description="Throughput and memory of the Gibbs sampler.")
    parser.add_argument("--measure", choices=SIZES, help=argparse.SUPPRESS)
    name = parser.parse_args().measure
    if name:
        print(json.dumps(asdict(measure(SIZES[name]))))
        return
    measured = {}
    for name in SIZES:
        measured[name] = in_own_process(name)
        print(f"{name}: {measured[name]}", file=sys.stderr)
    copied = bytes_copied()
    rows = [row(name, SIZES[name], measured[name], copied) for name in SIZES]
    print_report("scale", rows, targets(measured))


def in_own_process(name: str) -> Measured:
    """Measure the size called `name`, and nothing else, in a new process."""
    command = [sys.executable, "-m", "cf_pipeline_tests.benchmarks.scale", "--measure", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Measured(**json.loads(done.stdout))


def measure(size: Size) -> Measured:
    """Draw the ratings, set the sampler up, and sweep."""
    train = synthetic_ratings(size, seed=0)
    side = SideFeatures(torch.zeros(size.users + 1, 0), torch.zeros(size.items + 1, 0))
    start = time.perf_counter()
    sampler = Sampler(train, side, GibbsSettings(sampled_factors=FACTORS))
    setup_seconds = time.perf_counter() - start
    a, b = torch.rand(GEMM_SIZE, GEMM_SIZE), torch.rand(GEMM_SIZE, GEMM_SIZE)
    sweeps, products = [], []
    for _ in range(UNCOUNTED_SWEEPS + SWEEPS):
        sweeps.append(timed(sampler.sweep))
        products.append(min(timed(lambda: a @ b) for _ in range(PRODUCTS)))
    kib = 1 if sys.platform == "darwin" else 1024  # there ru_maxrss is in bytes already
    peak_bytes = kib * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    turns = slice(UNCOUNTED_SWEEPS, None)
    return Measured(setup_seconds, sweeps[turns], products[turns], peak_bytes)


def synthetic_ratings(size: Size, seed: int) -> EncodedRatings:
    """Draw ratings of `size`, in random order; indices start at 1, as 0 is the unknown."""
    generator = np.random.default_rng(seed)
    users, items = _pairs(size, generator)
    shape = TRUE_FACTORS + 1
    of_user = generator.normal(0, TRUE_SPREAD, (size.users, shape)).astype(np.float32)
    of_item = generator.normal(0, TRUE_SPREAD, (size.items, shape)).astype(np.float32)
    stars = generator.standard_normal(size.ratings, np.float32)
    for start in range(0, size.ratings, PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        p, q = of_user[users[some]], of_item[items[some]]
        level = 3.5 + p[:, 0] + q[:, 0] + (p[:, 1:] * q[:, 1:]).sum(1)
        stars[some] = np.clip(np.rint(level + NOISE * stars[some]), 1, 5)
    return EncodedRatings(
        torch.from_numpy(users + 1), torch.from_numpy(items + 1), torch.from_numpy(stars)
    )


def _pairs(
    size: Size, generator: np.random.Generator
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Draw distinct pairs of indices from 0 on."""
    activity = generator.lognormal(0, ACTIVITY_SPREAD, size.users)
    popularity = generator.permutation(np.arange(1.0, size.items + 1) ** -ZIPF_EXPONENT)
    pairs = np.empty(0, np.int64)
    while len(pairs) < size.ratings:
        n = size.ratings // 2
        user = _choose(activity, n, generator)
        pairs = np.append(pairs, user * size.items + _choose(popularity, n, generator))
        pairs.sort()  # np.unique is ten times as slow here
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    generator.shuffle(pairs)
    users, items = np.divmod(pairs[: size.ratings], size.items)
    return users.astype(np.int32), items.astype(np.int32)


def _choose(
    weights: npt.NDArray[np.float64], n: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    ends = weights.cumsum()
    return np.searchsorted(ends, generator.uniform(0, ends[-1], n))


def bytes_copied() -> float:
    """Return how many bytes the machine reads and writes in a second, the best of a few times."""
    source = torch.rand(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / min(timed(lambda: target.copy_(source)) for _ in range(COPIES))


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def useful_flops(size: Size) -> float:
    """Return the useful floating-point operations of a sweep."""
    width = FACTORS + 1
    of_rating = 2 * (width * (width + 1) / 2 + 2 * width)
    return 2 * size.ratings * of_rating + (size.users + size.items) * width**3 / 3


def row(name: str, size: Size, measured: Measured, copied: float) -> Row:
    """Return a size's line of the table; `copied` are the bytes that a second allows to copy."""
    flops = useful_flops(size)
    return {
        "size": name,
        "seconds per sweep": measured.seconds,
        "million ratings/s": size.ratings / measured.seconds / 1e6,
        "peak GiB": measured.peak_bytes / GIB,
        "set-up seconds": measured.setup_seconds,
        "useful Gflop": flops / 1e9,
        "Gflop/s": flops / measured.seconds / 1e9,
        "bound Gflop/s": measured.bound / 1e9,
        "share of bound": measured.share_of_bound(flops),
        "copy GB/s": copied / 1e9,
        "threads": str(torch.get_num_threads()),
        "seconds of each sweep": measured.sweep_seconds,
        "seconds of each product": measured.product_seconds,
    }


def targets(measured: dict[str, Measured]) -> list[Target]:
    """Return the targets."""
    small, large = measured["1M"], measured["10M"]
    growth = large.seconds / small.seconds / (SIZES["10M"].ratings / SIZES["1M"].ratings)
    share = small.share_of_bound(useful_flops(SIZES["1M"]))
    return [
        Target("1M: useful flops / bound", share, least=0.20),
        Target("10M: peak GiB", large.peak_bytes / GIB, 3),
        Target("10M: seconds per sweep / 10 × those of 1M", growth, 1.1),
    ]


if __name__ == "__main__":
    main()
