"""Somebody new in a factor model: where the posterior density is greatest, and real users."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cf_pipeline.recommender import gradient_descent
from cf_pipeline.recommender.factor_model import FactorModel, sigmoid_range
from cf_pipeline.recommender.fold_in import LEAST_VARIANCE, fold_in
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import GradientDescentSettings
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.layouts import Tables
from cf_pipeline_tests.recommender.simulation import Fold, rmse

N_USERS, N_ITEMS = 50, 301
NOTHING = torch.zeros(0, dtype=torch.int32), torch.zeros(0)
BOTH = pytest.mark.parametrize("bias", [True, False])


@torch.no_grad()
def some_model(bias: bool = True, scale: float = 0.5, seed: int = 0) -> FactorModel:
    torch.manual_seed(seed)
    model = FactorModel(N_USERS, N_ITEMS, 4, (0.0, 5.5), bias)
    for table in model.tables().values():
        table.weight *= scale
        table.weight += scale / 4
    return model.requires_grad_(False)


def weights(model: FactorModel) -> Tensor:
    """Return the users' factors, and their bias where there is one, in float64."""
    tables = [model.user_factors.weight] + ([model.user_bias.weight] if model.bias else [])
    return torch.cat(tables, dim=1).detach().double()


def objective(
    model: FactorModel, w: Tensor, items: Tensor, ratings: Tensor, rating_std: float
) -> Tensor:
    """Return what the docstring says is least, for w (width,)."""
    known, q = weights(model)[1:], model.item_factors.weight[items].double()
    x = q @ w[: q.shape[1]]
    if model.bias:
        x = x + w[-1] + model.item_bias.weight[items, 0].double()
    covariance = torch.tensor(np.cov(known.T.numpy(), ddof=0)).view(len(w), len(w))
    covariance += LEAST_VARIANCE * covariance.trace() / len(w) * torch.eye(len(w))
    errors = (ratings.double() - sigmoid_range(x, *model.y_range)) / rating_std
    off = w - known.mean(dim=0)
    density: Tensor = errors.square().sum() + off @ torch.linalg.solve(covariance, off)
    return density


@BOTH
def test_of_whom_nothing_is_known_is_the_mean_user(bias: bool) -> None:
    model = some_model(bias)
    found = weights(fold_in(model, *NOTHING, rating_std=0.9))
    torch.testing.assert_close(found[-1], weights(model)[1:].mean(dim=0), rtol=0, atol=1e-6)


@BOTH
@settings(deadline=None, max_examples=60)  # torch's first calls take their time
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.05, 0.8),
    ratings=st.lists(
        st.one_of(st.sampled_from([0.01, 1.0, 5.0, 5.49]), st.floats(0.01, 5.49)), max_size=40
    ),
    rating_std=st.floats(0.5, 1.5),
)
def test_the_posterior_density_is_flat_where_the_user_is_put(
    bias: bool, seed: int, scale: float, ratings: list[float], rating_std: float
) -> None:
    model, stars = some_model(bias, scale, seed), torch.tensor(ratings)
    items = torch.randint(1, N_ITEMS, stars.shape, dtype=torch.int32)
    folded = weights(fold_in(model, items, stars, rating_std))[-1]
    at = [folded.requires_grad_(), weights(model)[1:].mean(dim=0).requires_grad_()]
    values = [objective(model, w, items, stars, rating_std) for w in at]
    found, start = (
        torch.autograd.grad(value, w)[0].abs().max() for value, w in zip(values, at, strict=True)
    )
    assert found <= 0.01 * start + 0.01
    assert values[0] <= values[1] + 1e-6


@torch.no_grad()
@pytest.mark.parametrize("rating", [0.5, 4.9])
def test_a_rating_far_off_where_the_sigmoid_is_flat_does_not_lead_astray(rating: float) -> None:
    """A whole Gauss-Newton step from there is many times too long."""
    model = FactorModel(4, 2, 1, (0.0, 5.0), bias=False)
    side = 1 if rating < 2.5 else -1
    model.user_factors.weight[:] = side * torch.tensor([[0.0], [-1.5], [1.5], [4.5]])
    model.item_factors.weight[:] = 4.0
    rated = torch.tensor([1]), torch.tensor([rating])
    values = [
        objective(model, w, *rated, 0.3).item()
        for w in torch.linspace(-9, 9, 1801).double()[:, None]
    ]
    found = weights(fold_in(model, *rated, rating_std=0.3))[-1]
    assert objective(model, found, *rated, 0.3).item() <= min(values) + 1e-3


@BOTH
def test_a_user_of_the_model_is_found_from_many_ratings(bias: bool) -> None:
    model, items = some_model(bias), torch.arange(1, N_ITEMS)
    user = torch.full_like(items, 7)
    folded = fold_in(model, items[::2], model(user, items)[::2], rating_std=0.05)
    found = folded(torch.full_like(items, N_USERS), items)
    torch.testing.assert_close(found, model(user, items), rtol=0, atol=0.02)


def test_the_less_ratings_tell_the_nearer_the_user_is_to_the_mean() -> None:
    model, items = some_model(), torch.arange(1, 21)
    ratings = torch.full((20,), 5.0)
    mean = weights(model)[1:].mean(dim=0)
    off = [
        (weights(fold_in(model, items, ratings, std))[-1] - mean).norm().item()
        for std in (0.3, 1.0, 3.0, 100.0)
    ]
    assert off == sorted(off, reverse=True)
    assert off[-1] < 0.01 * off[0]


@BOTH
def test_the_user_comes_last_and_nothing_else_changes(bias: bool) -> None:
    model, before = some_model(bias), some_model(bias)
    folded = fold_in(model, torch.tensor([3, 8]), torch.tensor([5.0, 1.0]), rating_std=0.9)
    assert (folded.bias, folded.y_range) == (model.bias, model.y_range)
    for name, table in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], table)
        assert torch.equal(folded.state_dict()[name][: len(table)], table)
    sizes = {name: table.num_embeddings for name, table in folded.tables().items()}
    assert sizes["user_factors"] == N_USERS + 1
    assert {n for name, n in sizes.items() if name.startswith("item")} == {N_ITEMS}
    twice = fold_in(folded, *NOTHING, rating_std=0.9)
    assert torch.equal(weights(twice)[N_USERS], weights(folded)[-1])


def test_real_users_are_predicted_better_from_their_first_20_ratings_than_by_movie_means(
    ratings: pd.DataFrame, tables: Tables
) -> None:
    by_time = ratings.sort_values("timestamp", kind="stable").reset_index(drop=True)
    is_new = (by_time["user"] % 8 == 0).to_numpy()
    train, new = by_time[~is_new], by_time[is_new]
    new = new[new["movie"].isin(train["movie"])]
    first = (new.groupby("user").cumcount() < 20).to_numpy()
    fold = Fold.of(by_time, is_new, tables)
    few_epochs = GradientDescentSettings(epochs=4)
    model = gradient_descent.fit(fold.train, fold.side, few_epochs).model
    n_known, users = model.user_factors.num_embeddings, Vocabulary.of(new["user"])
    movies = Vocabulary.of(train["movie"])
    known, later = (EncodedRatings.of(part, users, movies) for part in (new[first], new[~first]))
    for user in range(1, len(users)):
        own = known.take(known.users == user)
        model = fold_in(model, own.items, own.ratings, rating_std=0.9)
    with torch.no_grad():
        predicted = model(n_known - 1 + later.users, later.items)
    means = train.groupby("movie")["rating"].mean().reindex(new[~first]["movie"])
    of_movie = rmse(torch.tensor(means.to_numpy(np.float32)), later)
    assert rmse(predicted, later) < of_movie - 0.06
    assert rmse(predicted, later) <= 0.93
