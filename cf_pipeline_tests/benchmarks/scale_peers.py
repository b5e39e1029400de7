"""How long the peers train on the same synthetic ratings, and what RMSE they reach.

Seconds are those of the library's fit alone, as those of ours are. The RMSE is that of the same
held-out tenth, all predictions clamped to the rating scale, as ours are. A limit on a stage's time
counts all of it, the drawing of the ratings and the predictions too, as it does not of ours.
"""

import time

import numpy as np
import numpy.typing as npt
import scipy.sparse

from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.rating_scale import STARS
from cf_pipeline.recommender.synthetic import Synthetic
from cf_pipeline_tests.benchmarks.scale_process import Figures
from cf_pipeline_tests.benchmarks.scale_training import Size, drawn


def myfm(size: Size, n_sweeps: int, rank: int) -> Figures:
    """A Bayesian factorization machine on ids alone, by Gibbs sampling."""
    from myfm import MyFMGibbsRegressor

    synthetic, train, test = drawn(size)
    seen, unseen = (_one_hot(part, synthetic) for part in (train, test))
    machine = MyFMGibbsRegressor(rank=rank, random_seed=0)
    start = time.perf_counter()
    machine.fit(
        seen,
        train.ratings.double().numpy(),
        n_iter=n_sweeps,
        n_kept_samples=n_sweeps - n_sweeps // 4,
        group_shapes=[synthetic.n_users, synthetic.n_movies],
    )
    seconds = time.perf_counter() - start
    return {"seconds": seconds} | _judged(machine.predict(unseen), test, synthetic)


def surprise_svd(size: Size, n_epochs: int, rank: int) -> Figures:
    """Biased matrix factorization by stochastic gradient descent."""
    import pandas as pd
    import surprise

    synthetic, train, test = drawn(size)
    columns = (train.users.numpy(), train.items.numpy(), train.ratings.numpy())
    table = pd.DataFrame(dict(zip(("user", "item", "rating"), columns, strict=True)))
    scale = surprise.Reader(rating_scale=STARS)
    trainset = surprise.Dataset.load_from_df(table, scale).build_full_trainset()
    model = surprise.SVD(n_factors=rank, n_epochs=n_epochs, random_state=0)
    start = time.perf_counter()
    model.fit(trainset)
    seconds = time.perf_counter() - start
    pairs = zip(test.users.tolist(), test.items.tolist(), strict=True)
    predicted = np.array([model.predict(user, item).est for user, item in pairs])
    return {"seconds": seconds} | _judged(predicted, test, synthetic)


def implicit_als(size: Size, n_iterations: int, rank: int) -> Figures:
    """Which movies are rated, by alternating least squares: it predicts no rating."""
    from implicit.als import AlternatingLeastSquares

    synthetic, train, _ = drawn(size)
    shape = synthetic.n_users + 1, synthetic.n_movies + 1
    pairs = (train.users.numpy(), train.items.numpy())
    met = scipy.sparse.csr_matrix((train.ratings.numpy(), pairs), shape)
    model = AlternatingLeastSquares(rank, iterations=n_iterations, random_state=0)
    start = time.perf_counter()
    model.fit(met, show_progress=False)
    return {"seconds": time.perf_counter() - start}


def _one_hot(part: EncodedRatings, synthetic: Synthetic) -> scipy.sparse.csr_matrix:
    n = len(part.ratings)
    columns = np.stack([part.users.numpy() - 1, part.items.numpy() - 1 + synthetic.n_users], 1)
    entries = np.ones(2 * n), columns.ravel(), np.arange(0, 2 * n + 1, 2)
    return scipy.sparse.csr_matrix(entries, (n, synthetic.n_users + synthetic.n_movies))


def _judged(
    predicted: npt.NDArray[np.floating], test: EncodedRatings, synthetic: Synthetic
) -> Figures:
    errors = np.clip(predicted, *STARS) - test.ratings.numpy()
    floor = synthetic.noise_floor(test.users.numpy(), test.items.numpy())
    return {"rmse": float(np.sqrt(np.mean(errors**2))), "floor": floor}
