"""Users and items without a training rating: from their features, or from a few ratings."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.special import ndtr

from cf_pipeline.recommender.features import user_side_features
from cf_pipeline.recommender.gibbs import fit
from cf_pipeline.recommender.newcomers import Newcomers
from cf_pipeline.recommender.posterior import Posterior, Sample
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.layouts import Tables
from cf_pipeline_tests.recommender.simulation import Fold, some_posterior

BETA = torch.tensor([[1.0, -1.0, 0.5], [0.5, 0.0, 0.0], [0.0, 0.8, -0.4]])  # of [1, x]
COVARIANCE = torch.tensor([[0.5, 0.2, 0.0], [0.2, 0.3, 0.0], [0.0, 0.0, 0.1]])
BOTH = pytest.mark.parametrize("ordinal", [False, True], ids=["gaussian", "ordinal"])
RATED, STARS = torch.tensor([1, 4, 7, 9, 2]).int(), torch.tensor([5.0, 1.0, 4.0, 4.0, 2.0])


def drawn_from_features(n: int = 20_000) -> tuple[Tensor, Tensor]:
    """Return weights (2, n, 3) of two samples, the other twice the one, and features (n, 2)."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randint(0, 2, (n, 2), generator=generator).float()
    noise = torch.randn(n, 3, generator=generator) @ torch.linalg.cholesky(COVARIANCE).T
    weights = BETA[0] + features @ BETA[1:] + noise
    return torch.stack([weights, 2 * weights]), features


def prior_of(posterior: Posterior) -> tuple[Newcomers, Tensor]:
    """Return what is said of users without a rating, and the features (1, 3) of one."""
    side = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1]]).float().repeat(3, 1)[:7]
    return Newcomers.like(posterior.user_weights[:, 1:], side), side[1:2]


def mean_fold_in(posterior: Posterior, n_rated: int = 5) -> Tensor:
    """Return the mean weights (n_samples, 3) of who gave `n_rated` of STARS, as `prior_of` says.

    What is drawn about the mean is centred over the samples, so a sample by itself has the mean.
    """
    newcomers, features = prior_of(posterior)
    means = []
    for sample in range(len(posterior.mean)):
        here = slice(sample, sample + 1)
        alone = {name: getattr(posterior, name)[here] for name in Sample._fields}
        prior = Newcomers(*(part[here] for part in newcomers))
        rated, stars = RATED[:n_rated], STARS[:n_rated]
        means.append(replace(posterior, **alone).fold_in(rated, stars, prior, features)[0])
    return torch.cat(means)


def test_the_regression_on_features_is_found_in_each_sample() -> None:
    newcomers = Newcomers.like(*drawn_from_features())
    for sample, scale in enumerate((1, 2)):
        assert newcomers.coefficients[sample] == pytest.approx(scale * BETA, abs=0.04 * scale)
        assert newcomers.covariance[sample] == pytest.approx(scale**2 * COVARIANCE, abs=0.08)
    expected = torch.stack([scale * (BETA[0] + BETA[2]) for scale in (1, 2)]).unsqueeze(1)
    assert newcomers.mean(torch.tensor([[0.0, 1.0]])) == pytest.approx(expected, abs=0.08)


def test_the_regression_is_a_ridge_but_for_the_constant() -> None:
    features = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    weights = torch.tensor([5.0, 1.0, 1.0, 1.0]).view(1, 4, 1)
    design = np.hstack([np.ones((4, 1)), features.numpy()])
    expected = np.linalg.solve(design.T @ design + np.diag([0, 1]), design.T @ [5, 1, 1, 1])
    found = Newcomers.like(weights, features).coefficients.flatten()
    assert found.numpy() == pytest.approx(expected, rel=1e-5)


def test_drawn_newcomers_vary_as_others_do_and_keep_the_mean_over_the_samples() -> None:
    weights, features = drawn_from_features(500)
    newcomers = Newcomers.like(weights[:1].expand(400, -1, -1), features)
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    mean, drawn = newcomers.mean(x), newcomers.draw(x, seed=0)
    torch.testing.assert_close(drawn.mean(dim=0), mean.mean(dim=0), rtol=0, atol=1e-5)
    for newcomer in (0, 1):
        assert drawn[:, newcomer].T.cov() == pytest.approx(newcomers.covariance[0], abs=0.1)
    assert torch.equal(newcomers.draw(x, seed=0), drawn)


def test_drawn_newcomers_keep_the_mean_of_samples_that_are_not_alike() -> None:
    newcomers = Newcomers.like(*drawn_from_features(500))
    x = torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(
        newcomers.draw(x, seed=0).mean(dim=0), newcomers.mean(x).mean(dim=0), rtol=0, atol=1e-4
    )


@BOTH
def test_more_users_and_items_come_last_and_change_nothing_of_the_others(ordinal: bool) -> None:
    posterior = some_posterior(ordinal)
    users, items = posterior.user_weights[:, 2:4], posterior.item_weights[:, 5:6]
    more = posterior.with_users(users).with_items(items)
    assert more.user_weights.shape == (6, 10, 3)
    assert more.item_weights.shape == (6, 11, 3)
    old = torch.tensor([0, 1, 7]), torch.tensor([0, 3, 9])
    for one, other in zip(more.predict(*old), posterior.predict(*old), strict=True):
        assert torch.equal(one, other)
    new, as_old = (torch.tensor([8, 9]), torch.tensor([10, 10])), (torch.tensor([2, 3]), [5, 5])
    assert torch.equal(more.centers(*new), posterior.centers(as_old[0], torch.tensor(as_old[1])))
    average = posterior.user_precision[:, 1:].mean(dim=1)  # the unknown is nobody
    torch.testing.assert_close(more.user_precision[:, 8:], average.unsqueeze(1).expand(-1, 2))


def test_a_user_of_no_rating_is_what_the_features_say() -> None:
    posterior = some_posterior()
    newcomers, features = prior_of(posterior)
    mean = newcomers.mean(features)[:, 0]
    torch.testing.assert_close(mean_fold_in(posterior, n_rated=0), mean, rtol=1e-3, atol=1e-3)


def test_gaussian_ratings_are_folded_in_by_their_regression() -> None:
    posterior = some_posterior()
    newcomers, features = prior_of(posterior)
    assert posterior.fold_in(RATED, STARS, newcomers, features).shape == (6, 1, 3)
    weights = mean_fold_in(posterior).double()
    for sample in range(6):
        q = posterior.item_weights[sample, RATED.long()].double()
        table = torch.cat([q[:, :-1], torch.ones(5, 1)], dim=1)
        own = posterior.user_precision[sample, 1:].mean().double()
        prior = torch.linalg.inv(newcomers.covariance[sample].double())
        errors = STARS - q[:, -1] - posterior.mean[sample]
        linear = own * table.T @ errors + prior @ newcomers.mean(features)[sample, 0].double()
        expected = torch.linalg.solve(own * table.T @ table + prior, linear)
        torch.testing.assert_close(weights[sample], expected, rtol=2e-3, atol=2e-3)


def test_who_is_folded_in_is_as_uncertain_as_the_few_ratings_leave_it() -> None:
    """The draws about the mean have the conditional's own covariance."""
    posterior = some_posterior()
    many = {name: getattr(posterior, name)[:1] for name in Sample._fields}
    many = {name: part.expand(3000, *part.shape[1:]) for name, part in many.items()}
    posterior = replace(posterior, **many)
    newcomers, features = prior_of(posterior)
    drawn = posterior.fold_in(RATED, STARS, newcomers, features)[:, 0]
    q = posterior.item_weights[0, RATED.long()]
    table = torch.cat([q[:, :-1], torch.ones(5, 1)], dim=1)
    own = posterior.user_precision[0, 1:].mean()
    precision = own * table.T @ table + torch.linalg.inv(newcomers.covariance[0])
    covariance = torch.linalg.inv(precision)
    assert drawn.T.cov() == pytest.approx(covariance, abs=0.1 * covariance.abs().max().item())


@pytest.mark.parametrize("precision", [1.0, 3.0])
def test_ordinal_ratings_are_folded_in_where_they_are_most_likely(precision: float) -> None:
    """There the gradient of the log posterior is zero, and it is elsewhere not."""
    posterior = some_posterior(ordinal=True)
    posterior = replace(posterior, user_precision=torch.full((6, 8), precision))
    newcomers, features = prior_of(posterior)
    mean = newcomers.mean(features)[:, 0].double()
    weights = mean_fold_in(posterior).double()

    def gradient(at: Tensor) -> Tensor:
        at.requires_grad_()
        q = posterior.item_weights[:, RATED.long()].double()
        eta = (q[..., :-1] @ at[:, :-1, None]).squeeze(2) + at[:, -1:] + q[..., -1]
        eta = eta + posterior.mean.unsqueeze(1)
        infinite = torch.full((6, 1), torch.inf)
        ends = torch.cat([-infinite, posterior.edges, infinite], dim=1).double()
        low, high = (
            ndtr((ends[:, STARS.long() - 1 + above] - eta) * precision**0.5) for above in (0, 1)
        )
        off = at - mean
        prior = torch.linalg.solve(newcomers.covariance.double(), off.unsqueeze(2)).squeeze(2)
        likely = (high - low).log().sum() - 0.5 * (off * prior).sum()
        return torch.autograd.grad(likely, at)[0]

    before = gradient(mean.clone())
    assert gradient(weights).abs().max() < 0.02 * before.abs().max()


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_real_users_are_folded_in_from_their_first_20_ratings(
    ratings: pd.DataFrame, tables: Tables, likelihood: str
) -> None:
    by_time = ratings.sort_values("timestamp", kind="stable").reset_index(drop=True)
    held_out = (by_time["user"] % 8 == 0).to_numpy()
    train, new = by_time[~held_out], by_time[held_out]
    new = new[new["movie"].isin(train["movie"])]
    first = (new.groupby("user").cumcount() < 20).to_numpy()
    side = Fold.of(by_time, held_out, tables)
    settings = GibbsSettings(
        likelihood=likelihood, sampled_factors=8, feature_rank=32, sweeps=30, burn_in=10
    )
    posterior = fit(side.train, side.side, settings).posterior
    newcomers = Newcomers.like(posterior.user_weights[:, 1:], side.side.users[1:])
    users, movies = Vocabulary.of(new["user"]), Vocabulary.of(train["movie"])
    features = torch.tensor(user_side_features(tables.users.to_pandas(), users))
    folded = []
    for place, (_, rows) in enumerate(new[first].groupby("user"), start=1):
        items = torch.tensor(movies.encode(rows["movie"]))
        stars = torch.tensor(rows["rating"].to_numpy(np.float32))
        row = features[place : place + 1]
        folded.append(posterior.fold_in(items, stars, newcomers, row))
    n_known = posterior.user_weights.shape[1]
    later = new[~first]
    indices = torch.tensor(n_known - 1 + users.encode(later["user"]))
    items = torch.tensor(movies.encode(later["movie"]))
    predicted = posterior.with_users(torch.cat(folded, dim=1)).predict(indices, items)
    actual = torch.tensor(later["rating"].to_numpy(np.float32))
    of_movie = train.groupby("movie")["rating"].mean().reindex(later["movie"]).to_numpy(np.float32)

    def error(of: Tensor) -> float:
        return (of - actual).square().mean().sqrt().item()

    assert error(predicted.mean) <= 0.925
    assert error(predicted.mean) < error(torch.tensor(of_movie)) - 0.06
    low, high = predicted.interval(0.9)
    assert 0.86 <= ((low <= actual) & (actual <= high)).float().mean() <= 0.94
