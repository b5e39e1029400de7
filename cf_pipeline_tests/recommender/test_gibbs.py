"""The Gibbs sampler: each conditional against what it should be, and what fits reach."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.draws import gamma, normal, wishart
from cf_pipeline.recommender.features import SideFeatures, low_rank_features
from cf_pipeline.recommender.gibbs import Sampled, Sampler, fit
from cf_pipeline.recommender.gibbs_side import Side
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.moments import Moments
from cf_pipeline.recommender.posterior import Sample
from cf_pipeline.recommender.rating_sums import RatingSums
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline_tests.recommender.simulation import Fold, Simulated, rmse

PLACES = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])


@pytest.fixture
def double() -> Iterator[None]:
    """Weights of prior variances as far apart as their prior allows need more digits."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def unrated(features: Tensor, width: int, generator: torch.Generator) -> Side:
    """Return the side of rows of these features, of which there is no rating."""
    none = torch.zeros(0, dtype=torch.int32)
    sums = RatingSums(none, none, torch.zeros(0), len(features), 1)
    return Side(sums, features, width, generator)


def no_moments(side: Side) -> list[tuple[slice, Moments]]:
    n, width = side.weights.shape
    return in_parts(Moments(torch.zeros(n, width, width), torch.zeros(n, width)))


def in_parts(moments: Moments) -> list[tuple[slice, Moments]]:
    """Return the moments in two parts, as they may come, each with its rows."""
    n, half = len(moments.linear), len(moments.linear) // 2
    return [
        (part, Moments(*(of[part] for of in moments))) for part in (slice(half), slice(half, n))
    ]


def draw_from_prior(
    features: Tensor, ridge: Tensor, width: int, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Return weights (n, width), and their root mean variance, as the prior has them."""
    covariance = torch.linalg.inv(wishart(generator, torch.eye(width), width))
    beta = normal(generator, features.shape[1], width) / ridge.sqrt()
    drawn = features @ beta + normal(generator, len(features), width)
    return drawn @ torch.linalg.cholesky(covariance).mT, covariance.diagonal().mean().sqrt().item()


def assert_like(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Hold the shares of `found` below the quantiles of `expected` to these, column by column."""
    quantiles = torch.quantile(expected, PLACES.to(expected), dim=0)
    shares = (found.unsqueeze(0) < quantiles.unsqueeze(1)).double().mean(dim=1)
    off = (shares - PLACES.unsqueeze(1)).abs().amax(dim=0)
    assert off.max() < tolerance, off


@pytest.fixture
def known_prior() -> tuple[Side, Tensor, Tensor]:
    """A side that drew its prior from weights of a known one: with that one's β, and Λ⁻¹."""
    generator = torch.Generator().manual_seed(2)
    features = torch.tensor([[1, 0.5], [1, -0.5]]).repeat(15_000, 1)
    features = torch.cat([torch.zeros(1, 2), features])
    beta = torch.tensor([[1.0, -2.0, 0.5], [0.6, 0.0, -0.8]])
    covariance = torch.tensor([[0.5, 0.2, -0.1], [0.2, 0.3, 0.0], [-0.1, 0.0, 0.2]])
    side = unrated(features, 3, generator)
    noise = normal(generator, len(features), 3) @ torch.linalg.cholesky(covariance).T
    side.weights = features @ beta + noise
    side.draw_prior()
    return side, beta, covariance


def test_the_prior_is_found_in_the_weights_that_were_drawn_from_it(
    known_prior: tuple[Side, Tensor, Tensor],
) -> None:
    side, beta, covariance = known_prior
    assert side.prior_std == pytest.approx(covariance.diagonal().mean().sqrt().item(), rel=0.01)
    side.draw_weights(no_moments(side), torch.ones(len(side.weights)))
    of_one, of_other = side.weights[1::2], side.weights[2::2]
    assert of_one.mean(dim=0) == pytest.approx(beta[0] + beta[1] / 2, abs=0.03)
    assert of_other.mean(dim=0) == pytest.approx(beta[0] - beta[1] / 2, abs=0.03)
    assert of_one.T.cov() == pytest.approx(covariance, abs=0.03)


def test_weights_have_the_mean_and_covariance_of_their_regression(
    known_prior: tuple[Side, Tensor, Tensor],
) -> None:
    side, beta, covariance = known_prior
    gram = torch.tensor([[3.0, 1.0, 1.0], [1.0, 2.0, -1.0], [1.0, -1.0, 4.0]])
    linear = torch.tensor([5.0, -3.0, 1.0])
    n, own = len(side.weights), 1.7
    moments = Moments(gram.expand(n, 3, 3), linear.expand(n, 3))
    side.draw_weights(in_parts(moments), torch.full((n,), own))
    expected = torch.linalg.inv(own * gram + torch.linalg.inv(covariance))
    for drawn, sign in ((side.weights[1::2], 1), (side.weights[2::2], -1)):
        prior_mean = beta[0] + sign * beta[1] / 2
        mean = expected @ (own * linear + torch.linalg.solve(covariance, prior_mean))
        assert drawn.mean(dim=0) == pytest.approx(mean, abs=0.02)
        assert drawn.T.cov() == pytest.approx(expected, abs=0.01)


def test_weights_and_prior_drawn_in_turn_stay_as_the_prior_has_them(double: None) -> None:
    """The check of Geweke (2004): where nothing was rated, sampling must give back the prior."""
    generator = torch.Generator().manual_seed(3)
    features = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 1], [0, -0.5, 0], [1.5, 0, 0]])
    side, one = unrated(features.double(), 2, generator), torch.ones(())

    def known(weights: Tensor, std: float) -> Tensor:
        sizes = weights.norm(dim=1).log()
        return torch.cat([torch.tensor([std]).log(), sizes, sizes[1:] - sizes[0]])

    visited, expected = [], []
    for _ in range(2500):
        side.draw_prior()
        side.draw_weights(no_moments(side), torch.ones(6))
        visited.append(known(side.weights, side.prior_std))
        expected.append(known(*draw_from_prior(features, gamma(generator, one, one), 2, generator)))
    assert_like(torch.stack(visited), torch.stack(expected), tolerance=0.1)


def test_a_sweep_leaves_unknowns_that_are_true_of_the_ratings_as_they_are(double: None) -> None:
    """Unknowns from the prior, and ratings from these: one sweep must not change how either lie."""
    generator = torch.Generator().manual_seed(4)
    pairs = torch.cartesian_prod(torch.arange(1, 9), torch.arange(1, 7)).int()
    users, items = pairs[torch.randperm(48, generator=generator)[:24]].T
    kinds = [torch.randint(0, 2, (n, 2), generator=generator).double() for n in (9, 7)]
    side = SideFeatures(*kinds)
    pairs_alone = EncodedRatings(users, items, torch.ones(24))
    by_user, by_item = both_sides(pairs_alone, 9, 7, 1, with_values=False)
    of_users = low_rank_features(by_user, by_item, side.users, 2, 0)
    of_items = low_rank_features(by_item, by_user, side.items, 2, 0)
    one = torch.ones(())

    def known(state: Sample, *stds: float) -> Tensor:
        p, q = state.user_weights, state.item_weights
        eta = (p[users, :1] * q[items, :1]).sum(dim=1) + p[users, 1] + q[items, 1]
        errors = (ratings - 3 - eta) * precision[users].sqrt()
        ratio = (state.user_precision[1:4] / state.user_precision[4:7]).log()
        alike = torch.stack([p[1] @ p[2], q[1] @ q[2], errors.square() @ (precision[users] - 1)])
        rest = [p[1:4].flatten(), q[1:4].flatten(), eta[:4], errors[:4], ratio, ratio.abs(), alike]
        return torch.cat([torch.tensor(stds).log(), *rest])

    before, after = [], []
    for seed in range(500):
        p, user_std = draw_from_prior(of_users, one, 2, generator)
        q, item_std = draw_from_prior(of_items, one, 2, generator)
        precision = gamma(generator, torch.full((9,), 5.0), torch.full((9,), 5.0))
        mean = 3 + (p[users, :1] * q[items, :1]).sum(dim=1) + p[users, 1] + q[items, 1]
        ratings = mean + normal(generator, 24) / precision[users].sqrt()
        settings = GibbsSettings(sampled_factors=1, feature_rank=2, seed=seed)
        sampler = Sampler(EncodedRatings(users, items, ratings), side, settings)
        sampler.users.weights, sampler.items.weights = p, q
        sampler.likelihood.mean, sampler.likelihood.precision = torch.tensor(3.0), precision
        before.append(known(sampler.sample(), user_std, item_std))
        sampler.sweep()
        after.append(known(sampler.sample(), sampler.users.prior_std, sampler.items.prior_std))
    assert_like(torch.stack(after), torch.stack(before), tolerance=0.09)


def test_simulated_ratings_are_predicted_nearer_to_the_truth_than_to_its_biases_alone(
    simulated: tuple[Simulated, Sampled],
) -> None:
    truth, (posterior, _) = simulated
    test = truth.fold.test
    reached = rmse(posterior.predict(test.users, test.items).mean, test)
    assert truth.floor < reached < (truth.floor + truth.bias_rmse) / 2


def test_the_default_settings_reach_their_bar_on_u1(u1: Fold, sampled: Sampled) -> None:
    predicted = sampled.posterior.predict(u1.test.users, u1.test.items)
    assert rmse(predicted.mean, u1.test) <= 0.8805


def test_a_few_sweeps_of_the_ordinal_likelihood_reach_their_bar_on_u1(u1: Fold) -> None:
    few = GibbsSettings(likelihood="ordinal", sweeps=60, burn_in=15)
    predicted = fit(u1.train, u1.side, few).posterior.predict(u1.test.users, u1.test.items)
    assert rmse(predicted.mean, u1.test) <= 0.891
