"""Accuracy and fit time on MovieLens 100k's five official folds, one thread, ours beside peers.

On each fold all methods take their turns before the next fold, so a machine that slows down slows
all of them. A peer's seconds are its library's `fit` alone; ours are the whole fit from encoded
ratings and raw side tables on, features included. All predictions are clamped to the rating scale.
"""

import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch

from cf_pipeline.recommender import gradient_descent, metrics
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.movielens import read_movies, read_ratings, read_users
from cf_pipeline.recommender.settings import PLAIN, GradientDescentSettings
from cf_pipeline.recommender.splits import FOLDS, official_fold
from cf_pipeline.recommender.validation import RATING_SCALE
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.benchmarks import peers
from cf_pipeline_tests.benchmarks.peers import Fitted, Method
from cf_pipeline_tests.benchmarks.report import Target, print_report
from cf_pipeline_tests.real_data import real_archive

LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMBA")
# myFM's progress bar is off: it would drown the lines of the other methods.
ENVIRONMENT = {f"{library}_NUM_THREADS": "1" for library in LIBRARIES} | {"TQDM_DISABLE": "1"}
PLAIN_DESCENT = "gradient descent, plain (2a)"
FEATURE_PRIOR = "gradient descent, feature prior (2b)"
KNN_BASELINE = "scikit-surprise KNNBaseline"


@dataclass(frozen=True)
class Score:
    """What one method reached on one fold, in stars, and how long its fit took."""

    rmse: float
    mae: float
    seconds: float


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    archive = real_archive()
    ratings = read_ratings(archive).to_pandas()
    users, movies = read_users(archive).to_pandas(), read_movies(archive).to_pandas()
    methods: dict[str, Method] = {
        PLAIN_DESCENT: ours(PLAIN, users, movies),
        "scikit-surprise SVD": peers.surprise_svd,
        FEATURE_PRIOR: ours(GradientDescentSettings(), users, movies),
        KNN_BASELINE: peers.surprise_knn_baseline,
        "myFM, ids only": peers.myfm_ids_only,
    }
    scores: dict[str, list[Score]] = {name: [] for name in methods}
    for fold in FOLDS[:5]:
        in_test = official_fold(ratings, fold)
        for name, method in methods.items():
            scores[name].append(score(method, ratings[~in_test], ratings[in_test]))
            print(f"{fold}  {name}: {scores[name][-1]}", file=sys.stderr)
    print_report("accuracy", [row(*item) for item in scores.items()], targets(scores))


def ours(settings: GradientDescentSettings, users: pd.DataFrame, movies: pd.DataFrame) -> Method:
    """Return our method under `settings`; `users` and `movies` are the side tables."""

    def fit(train: pd.DataFrame) -> Fitted:
        known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
        encoded = EncodedRatings.of(train, *known)
        start = time.perf_counter()
        side = SideFeatures.of(users, movies, *known)
        model = gradient_descent.fit(encoded, side, settings).model
        seconds = time.perf_counter() - start
        model.vocabularies = known
        return Fitted(seconds, lambda pairs: model.predict(pairs["user"], pairs["movie"]))

    return fit


def score(method: Method, train: pd.DataFrame, test: pd.DataFrame) -> Score:
    """Fit to `train` and judge on `test`, of which the method gets the pairs without ratings."""
    fitted = method(train[["user", "movie", "rating"]])
    predicted = fitted.predict(test[["user", "movie"]]).clip(*RATING_SCALE)
    actual = test["rating"].to_numpy()
    return Score(metrics.rmse(actual, predicted), metrics.mae(actual, predicted), fitted.seconds)


def row(name: str, scores: list[Score]) -> dict[str, str | float | list[float]]:
    """Return a method's line of the table; its scores are those of u1 … u5."""
    return {
        "method": name,
        "5-fold RMSE": statistics.fmean(fold.rmse for fold in scores),
        "5-fold MAE": statistics.fmean(fold.mae for fold in scores),
        "u1 RMSE": scores[0].rmse,
        "fit seconds": statistics.median(fold.seconds for fold in scores),
        "fold RMSEs": [fold.rmse for fold in scores],
        "fold fit seconds": [fold.seconds for fold in scores],
    }


def targets(scores: Mapping[str, list[Score]]) -> list[Target]:
    """Return the targets; a ratio of times is the median of the folds' own ratios."""
    plain, prior, knn = (scores[name] for name in (PLAIN_DESCENT, FEATURE_PRIOR, KNN_BASELINE))
    ratio = statistics.median(a.seconds / b.seconds for a, b in zip(prior, knn, strict=True))
    return [
        Target("2a 5-fold RMSE", statistics.fmean(fold.rmse for fold in plain), 0.910),
        Target("2b 5-fold RMSE", statistics.fmean(fold.rmse for fold in prior), 0.886),
        Target("2b u1 RMSE", prior[0].rmse, 0.892),
        Target("2b fit seconds / KNNBaseline fit seconds", ratio, 2),
    ]


if __name__ == "__main__":
    # Libraries read these as they are loaded, which they are by now: start again.
    if not ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ENVIRONMENT)
    main()
