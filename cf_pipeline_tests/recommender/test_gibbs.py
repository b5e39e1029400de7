"""The Gibbs sampler: each conditional against what it should be, and what fits reach."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.draws import gamma, normal, wishart
from cf_pipeline.recommender.features import SideFeatures, low_rank_features
from cf_pipeline.recommender.gibbs import ITEMS, USERS, Sampled, Sampler, fit
from cf_pipeline.recommender.gibbs_side import Side
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.posterior import Sample
from cf_pipeline.recommender.settings import BlockSettings, GibbsSettings
from cf_pipeline_tests.recommender.simulation import Fold, Simulated, rmse, some_ratings

PLACES = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])


@pytest.fixture
def double() -> Iterator[None]:
    """Weights of prior variances as far apart as their prior allows need more digits."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def two_sides(
    ratings: EncodedRatings, features: Tensor, n_items: int, width: int, block_ratings: int = 1000
) -> tuple[Side, Side]:
    """Return the users, of these features, and items without any."""
    settings = BlockSettings(block_ratings=block_ratings)
    users, items = both_sides(ratings, len(features), n_items, settings, with_values=True)
    return (
        Side(users, features, width, (0, USERS)),
        Side(items, torch.zeros(n_items, 0), width, (0, ITEMS)),
    )


def unrated(features: Tensor, width: int) -> tuple[Side, Side]:
    """Return users of these features, and an item that nobody rated."""
    none = torch.zeros(0, dtype=torch.int32)
    return two_sides(EncodedRatings(none, none, torch.zeros(0)), features, 1, width)


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


N_OF_TWO_KINDS = 30_001  # users, the unknown counted; those of odd and of even number are alike
FEATURES = torch.cat([torch.zeros(1, 2), torch.tensor([[1, 0.5], [1, -0.5]]).repeat(15_000, 1)])
BETA = torch.tensor([[1.0, -2.0, 0.5], [0.6, 0.0, -0.8]])
COVARIANCE = torch.tensor([[0.5, 0.2, -0.1], [0.2, 0.3, 0.0], [-0.1, 0.0, 0.2]])


def draw_known_prior(users: Side) -> None:
    """Let users of FEATURES draw their prior from weights that have BETA and COVARIANCE."""
    generator = torch.Generator().manual_seed(2)
    noise = normal(generator, N_OF_TWO_KINDS, 3) @ torch.linalg.cholesky(COVARIANCE).T
    users.weights = FEATURES @ BETA + noise
    users.draw_prior(1)


def test_the_prior_is_found_in_the_weights_that_were_drawn_from_it() -> None:
    users, items = unrated(FEATURES, 3)
    draw_known_prior(users)
    assert users.prior_std == pytest.approx(COVARIANCE.diagonal().mean().sqrt().item(), rel=0.01)
    users.draw_weights(1, items, torch.zeros(()), own_precision=torch.ones(N_OF_TWO_KINDS))
    of_one, of_other = users.weights[1::2], users.weights[2::2]
    assert of_one.mean(dim=0) == pytest.approx(BETA[0] + BETA[1] / 2, abs=0.03)
    assert of_other.mean(dim=0) == pytest.approx(BETA[0] - BETA[1] / 2, abs=0.03)
    assert of_one.T.cov() == pytest.approx(COVARIANCE, abs=0.03)


@pytest.mark.parametrize("block_ratings", [1 << 20, 50_000], ids=["a block", "three blocks"])
@pytest.mark.parametrize("weight", [None, [0.8, 1.5, 1.0, 0.4]], ids=["alike", "weighted"])
def test_weights_have_the_mean_and_covariance_of_their_regression(
    weight: list[float] | None, block_ratings: int
) -> None:
    """Every user rated the same four items, of weights that are given."""
    of_kind = torch.tensor([[5.0, 3.0, 4.0, 1.0], [1.0, 2.0, 5.0, 5.0]])
    of_items = torch.tensor([[1.0, 0.5, 0.2], [-1.0, 0.6, 0.0], [0.3, -1.0, -0.4], [0.7, 0.1, 0.5]])
    stars = of_kind.flip(0).repeat(15_001, 1)[:N_OF_TWO_KINDS]  # the first kind's numbers are odd
    pairs = torch.cartesian_prod(torch.arange(N_OF_TWO_KINDS), torch.arange(4)).int()
    ratings = EncodedRatings(pairs[:, 0], pairs[:, 1], stars.flatten())
    users, items = two_sides(ratings, FEATURES, 4, 3, block_ratings)
    draw_known_prior(users)
    items.weights = of_items
    h = torch.ones(4) if weight is None else torch.tensor(weight)
    own, mean = 1.7, torch.tensor(3.2)
    drawn = users.draw_weights(
        1,
        items,
        mean,
        own_precision=torch.full((N_OF_TWO_KINDS,), own),
        others_precision=None if weight is None else h,
        judged=weight is None,
    )
    table, offset = items.table, items.bias + mean
    gram = (h * table.T) @ table
    expected = torch.linalg.inv(own * gram + torch.linalg.inv(COVARIANCE))
    for kind, sign in ((0, 1), (1, -1)):
        linear = (h * table.T) @ (of_kind[kind] - offset)
        prior_mean = BETA[0] + sign * BETA[1] / 2
        center = expected @ (own * linear + torch.linalg.solve(COVARIANCE, prior_mean))
        of_kind_drawn = users.weights[1 + kind :: 2]
        assert of_kind_drawn.mean(dim=0) == pytest.approx(center, abs=0.02)
        assert of_kind_drawn.T.cov() == pytest.approx(expected, abs=0.01)
    left = stars - offset - users.weights @ table.T
    torch.testing.assert_close(drawn.weights, users.weights)
    torch.testing.assert_close(drawn.residuals, left @ h, rtol=1e-3, atol=1e-3)
    errors = left.square().sum(dim=1) if weight is None else torch.zeros(0)
    torch.testing.assert_close(drawn.errors, errors, rtol=1e-3, atol=1e-3)


def test_no_two_blocks_and_no_two_sweeps_have_the_same_random_numbers() -> None:
    users, items = two_sides(some_ratings()[0], torch.zeros(21, 0), 31, 2, block_ratings=100)
    assert len(users.blocks.rows) > 3
    one = torch.ones(21)
    noise = []  # of rows that are drawn from the prior alone, N(0, I), so nothing else is in it
    for side, others in ((users, items), (items, users)):
        for sweep in (1, 2):
            side.draw_weights(sweep, others, one[0], own_precision=torch.zeros(len(side.weights)))
            noise += [side.weights[rows][0] for rows in side.blocks.rows]
    assert len(torch.stack(noise).unique(dim=0)) == len(noise)


def test_weights_and_prior_drawn_in_turn_stay_as_the_prior_has_them(double: None) -> None:
    """The check of Geweke (2004): where nothing was rated, sampling must give back the prior."""
    generator = torch.Generator().manual_seed(3)
    features = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 1], [0, -0.5, 0], [1.5, 0, 0]])
    (side, item), one = unrated(features.double(), 2), torch.ones(())

    def known(weights: Tensor, std: float) -> Tensor:
        sizes = weights.norm(dim=1).log()
        return torch.cat([torch.tensor([std]).log(), sizes, sizes[1:] - sizes[0]])

    visited, expected = [], []
    for sweep in range(2500):  # few for how seldom β is far off: over 20,000 none is above .04
        side.draw_prior(sweep)
        side.draw_weights(sweep, item, one, own_precision=torch.ones(6))
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
    by_user, by_item = both_sides(pairs_alone, 9, 7, BlockSettings(), with_values=False)
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
        settings = GibbsSettings(sampled_factors=1, feature_rank=2, seed=seed, block_ratings=9)
        sampler = Sampler(EncodedRatings(users, items, ratings), side, settings)
        sampler.users.weights, sampler.items.weights = p, q
        sampler.likelihood.mean, sampler.likelihood.precision = torch.tensor(3.0), precision
        before.append(known(sampler.sample(), user_std, item_std))
        sampler.sweep(1)
        after.append(known(sampler.sample(), sampler.users.prior_std, sampler.items.prior_std))
    assert_like(torch.stack(after), torch.stack(before), tolerance=0.09)


def test_simulated_ratings_are_predicted_nearer_to_the_truth_than_to_its_biases_alone(
    simulated: tuple[Simulated, Sampled],
) -> None:
    truth, (posterior, *_) = simulated
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
