"""Accuracy and fit time on MovieLens 100k, one thread, ours beside peers, and what else we promise.

The table is of the five official folds. On each fold all methods take their turns before the next
fold, so a machine that slows down slows all of them. A peer's seconds are its library's `fit`
alone; ours are the whole fit from encoded ratings and raw side tables on, features included.

The further figures are of the Gibbs sampler with its default settings:

- fastbook's protocol: the mean squared error on a random fifth, parted as fastai's RandomSplitter
  does, a mean of ten;
- random splits: the RMSE on a random fifth, a mean of five;
- coverage of 90 % intervals, and the expected calibration error of the probability of four stars or
  more, over the test ratings of the official folds together;
- fold-in: the RMSE on the later ratings of users of whom nothing was known at the fit, from their
  first 20 ratings, a mean of five groups of users.

All predictions are clamped to the rating scale.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from cf_pipeline.recommender import metrics
from cf_pipeline.recommender.movielens import read_movies, read_ratings, read_users
from cf_pipeline.recommender.rating_scale import STARS
from cf_pipeline.recommender.settings import PLAIN, GibbsSettings, GradientDescentSettings
from cf_pipeline.recommender.splits import FOLDS, official_fold, random_split
from cf_pipeline_tests.benchmarks import peers
from cf_pipeline_tests.benchmarks.accuracy_plot import Point, draw
from cf_pipeline_tests.benchmarks.methods import Ours
from cf_pipeline_tests.benchmarks.peers import Method
from cf_pipeline_tests.benchmarks.report import Row, Target, print_report
from cf_pipeline_tests.benchmarks.uncertainty import fold_in_rmses, uncertainty_of
from cf_pipeline_tests.real_data import real_archive

LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMBA")
# myFM's progress bar is off: it would drown the lines of the other methods.
ENVIRONMENT = {f"{library}_NUM_THREADS": "1" for library in LIBRARIES} | {"TQDM_DISABLE": "1"}
PLAIN_DESCENT = "gradient descent, plain (2a)"
FEATURE_PRIOR = "gradient descent, feature prior (2b)"
FAST = "gradient descent, 2b in 5 epochs"
GIBBS_50, GIBBS_100, GIBBS = "Gibbs d16/50", "Gibbs d12/100", "Gibbs d16/150"
DISTILLED = "Gibbs d16/150, distilled"
ORDINAL = "Gibbs d20/500, ordinal"
SVD, SVDPP = "scikit-surprise SVD", "scikit-surprise SVD++"
KNN_BASELINE = "scikit-surprise KNNBaseline"
MYFM, MYFM_IMPLICIT = "myFM, ids only", "myFM, implicit features"
FASTAI = "fastai collab_learner"
FASTBOOK_SEEDS = range(10)
RANDOM_SEEDS = range(5)
FOLD_IN_SEED = 0


@dataclass(frozen=True)
class Score:
    """What one method reached on one fold, in stars, and how long its fit took."""

    rmse: float
    mae: float
    seconds: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Accuracy and fit time beside peers.")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw RMSE against time, a PNG")
    plot = parser.parse_args().plot
    torch.set_num_threads(1)
    archive = real_archive()
    ratings = read_ratings(archive).to_pandas()
    users, movies = read_users(archive).to_pandas(), read_movies(archive).to_pandas()
    our_own, theirs = our_methods(Ours(users, movies)), peer_methods()
    scores = scores_on_folds(our_own | theirs, ratings)
    if plot:
        points = [point(name, scores[name], name in our_own) for name in scores]
        plot.write_bytes(draw(points))
    further = further_targets(our_own[GIBBS], ratings, users, movies)
    rows = [row(*item) for item in scores.items()]
    print_report("accuracy", rows, [*targets(scores), *further])


def our_methods(ours: Ours) -> dict[str, Method]:
    """Return our methods.

    The ordinal one's settings are the best of ten, and the fast one's epochs the fewest that cost
    no accuracy, both on random fifths of the training parts.
    """
    ordinal = GibbsSettings(
        likelihood="ordinal", sampled_factors=20, sweeps=500, burn_in=100, samples=400
    )
    return {
        PLAIN_DESCENT: ours.descent(PLAIN),
        FEATURE_PRIOR: ours.descent(GradientDescentSettings()),
        FAST: ours.descent(GradientDescentSettings(epochs=5)),
        GIBBS_50: ours.sampled(GibbsSettings(sweeps=50, burn_in=20)),
        GIBBS_100: ours.sampled(GibbsSettings(sampled_factors=12, sweeps=100)),
        GIBBS: ours.sampled(GibbsSettings()),
        DISTILLED: ours.distilled(GibbsSettings()),
        ORDINAL: ours.sampled(ordinal),
    }


def peer_methods() -> dict[str, Method]:
    """Return the peers."""
    return {
        SVD: peers.surprise_svd,
        SVDPP: peers.surprise_svdpp,
        KNN_BASELINE: peers.surprise_knn_baseline,
        MYFM: peers.myfm_ids_only,
        MYFM_IMPLICIT: peers.myfm_implicit,
        FASTAI: peers.fastai_collab,
    }


def scores_on_folds(methods: Mapping[str, Method], ratings: pd.DataFrame) -> dict[str, list[Score]]:
    """Return each method's scores on u1 … u5."""
    scores: dict[str, list[Score]] = {name: [] for name in methods}
    for fold in FOLDS[:5]:
        in_test = official_fold(ratings, fold)
        for name, method in methods.items():
            scores[name].append(score(method, ratings, in_test))
            print(f"{fold}  {name}: {scores[name][-1]}", file=sys.stderr)
    return scores


def score(method: Method, ratings: pd.DataFrame, in_test: npt.NDArray[np.bool_]) -> Score:
    """Fit to one part and judge on the other, whose ratings the method never gets."""
    train, test = ratings[~in_test], ratings[in_test]
    fitted = method(train[["user", "movie", "rating"]])
    predicted = fitted.predict(test[["user", "movie"]]).clip(*STARS)
    actual = test["rating"].to_numpy()
    return Score(metrics.rmse(actual, predicted), metrics.mae(actual, predicted), fitted.seconds)


def row(name: str, scores: list[Score]) -> Row:
    """Return a method's line of the table; its scores are those of u1 … u5."""
    return {
        "method": name,
        "5-fold RMSE": mean_rmse(scores),
        "5-fold MAE": statistics.fmean(fold.mae for fold in scores),
        "u1 RMSE": scores[0].rmse,
        "fit seconds": median_seconds(scores),
        "fold RMSEs": [fold.rmse for fold in scores],
        "fold fit seconds": [fold.seconds for fold in scores],
    }


def point(name: str, scores: list[Score], is_ours: bool) -> Point:
    """Return a method's point of the plot."""
    return Point(name, median_seconds(scores), mean_rmse(scores), is_ours)


def mean_rmse(scores: list[Score]) -> float:
    """Return the mean RMSE of the folds."""
    return statistics.fmean(fold.rmse for fold in scores)


def median_seconds(scores: list[Score]) -> float:
    """Return the median of the folds' fit seconds."""
    return statistics.median(fold.seconds for fold in scores)


def targets(scores: Mapping[str, list[Score]]) -> list[Target]:
    """Return the table's targets; a ratio of times is the median of the folds' own ratios."""

    def rmse(name: str, limit: float) -> Target:
        return Target(f"{name}: 5-fold RMSE", mean_rmse(scores[name]), limit)

    def first(name: str, limit: float) -> Target:
        return Target(f"{name}: u1 RMSE", scores[name][0].rmse, limit)

    def ratio(name: str, peer: str, limit: float) -> Target:
        folds = zip(scores[name], scores[peer], strict=True)
        value = statistics.median(a.seconds / b.seconds for a, b in folds)
        return Target(f"{name}: fit seconds / those of {peer}", value, limit)

    return [
        rmse(PLAIN_DESCENT, 0.910),
        rmse(FEATURE_PRIOR, 0.886),
        first(FEATURE_PRIOR, 0.892),
        ratio(FEATURE_PRIOR, KNN_BASELINE, 2),
        rmse(FAST, 0.886),
        ratio(FAST, SVD, 1.5),
        rmse(GIBBS_50, 0.884),
        rmse(GIBBS, 0.8755),
        first(GIBBS, 0.8805),
        ratio(GIBBS, MYFM_IMPLICIT, 0.25),
        rmse(DISTILLED, 0.8770),
        rmse(ORDINAL, 0.8735),
    ]


def further_targets(
    method: Method, ratings: pd.DataFrame, users: pd.DataFrame, movies: pd.DataFrame
) -> list[Target]:
    """Measure what is not of the table, and return the targets; `method` is the default one."""
    masks = [fastbook_split(len(ratings), seed) for seed in FASTBOOK_SEEDS]
    squared = [score(method, ratings, in_test).rmse ** 2 for in_test in masks]
    print(f"fastbook's protocol, MSE: {squared}", file=sys.stderr)
    masks = [random_split(ratings, 0.2, seed) for seed in RANDOM_SEEDS]
    random = [score(method, ratings, in_test).rmse for in_test in masks]
    print(f"random splits, RMSE: {random}", file=sys.stderr)
    masks = [official_fold(ratings, fold) for fold in FOLDS[:5]]
    report = uncertainty_of(ratings, masks, users, movies)
    print(f"uncertainty on u1 … u5: {report}", file=sys.stderr)
    folded = fold_in_rmses(ratings, users, movies, FOLD_IN_SEED)
    print(f"fold-in, RMSE: {folded}", file=sys.stderr)
    return [
        Target("fastbook's protocol: MSE", statistics.fmean(squared), 0.765),
        Target("random splits: RMSE", statistics.fmean(random), 0.8735),
        Target("coverage of 90 % intervals", report.coverage["90%"], 0.91, least=0.89),
        Target("P(≥ 4 stars): calibration error", report.calibration_error, 0.015),
        Target("fold-in: RMSE", statistics.fmean(folded), 0.96),
    ]


def fastbook_split(n: int, seed: int) -> npt.NDArray[np.bool_]:
    """Test on a random fifth of n ratings, the one that fastai's RandomSplitter has for `seed`."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    in_test = np.zeros(n, dtype=bool)
    in_test[order[: n // 5]] = True
    return in_test


if __name__ == "__main__":
    # Libraries read these as they are loaded, which they are by now: start again.
    if not ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ENVIRONMENT)
    main()
