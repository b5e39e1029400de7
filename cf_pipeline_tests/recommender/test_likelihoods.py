"""The likelihoods' own unknowns against what ratings of known unknowns make them."""

import pytest
import torch
from torch import Tensor
from torch.special import gammainc, ndtr

from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.draws import gamma, normal
from cf_pipeline.recommender.gibbs import Sampled
from cf_pipeline.recommender.gibbs_side import Drawn, Side
from cf_pipeline.recommender.likelihoods import GaussianLikelihood, OrdinalLikelihood
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.moments import Moments
from cf_pipeline.recommender.rating_sums import RatingSums
from cf_pipeline.recommender.settings import BlockSettings
from cf_pipeline_tests.recommender.simulation import NOISE_STD, Simulated

N_ITEMS = 5
EDGES = torch.tensor([-0.5, 1.0])


def sides(n_users: int, n_each: int, generator: torch.Generator) -> tuple[Side, Side, Tensor]:
    """Return users who rated n_each items each, the items, and the η of each rating."""
    ratings = encoded(n_users, n_each, torch.zeros(n_users * n_each))
    sizes, pair = (n_users, N_ITEMS), []
    both = both_sides(ratings, *sizes, BlockSettings(), with_values=True, replaceable=True)
    for which, (blocks, n) in enumerate(zip(both, sizes, strict=True)):
        pair.append(Side(blocks, torch.zeros(n, 1), 2, (0, which)))
        pair[-1].weights = normal(generator, n, 2)
    p, q = pair[0].weights[ratings.users], pair[1].weights[ratings.items]
    return pair[0], pair[1], p[:, 0] * q[:, 0] + p[:, 1] + q[:, 1]


def encoded(n_users: int, n_each: int, ratings: Tensor) -> EncodedRatings:
    users = torch.arange(n_users).repeat_interleave(n_each).int()
    return EncodedRatings(
        users, (users + torch.arange(n_each).repeat(n_users)).int() % N_ITEMS, ratings
    )


def moments(sums: RatingSums, table: Tensor, offset: Tensor) -> Moments:
    parts = [part for _, part in sums.moments(table, offset)]
    return Moments(*map(torch.cat, zip(*parts, strict=True)))


def linear_of(side: Side, n_others: int) -> Tensor:
    """Return the sum of each row's values, (n_rows,)."""
    [(_, found)] = side.blocks.map(
        lambda sums, _: moments(sums, torch.ones(n_others, 1), torch.zeros(n_others)), ()
    )
    return found.linear.squeeze(1)


def as_drawn(users: Side, items: Side, mean: Tensor) -> Drawn:
    """Return the users as if they had just been drawn to be where they are."""

    def found(sums: RatingSums, _: int) -> Drawn:
        offset = items.bias + mean
        left = moments(sums, items.table, offset).residuals(users.weights)
        return Drawn(users.weights, left.sums, sums.squared_errors(left.explained, offset))

    [(_, drawn)] = users.blocks.map(found, ())
    return drawn


def assert_uniform(shares: Tensor) -> None:
    """Hold to the uniform distribution as Kolmogorov and Smirnov do; 1 in 8000 fails."""
    ordered = shares.sort().values
    exact = (torch.arange(len(ordered)) + 0.5) / len(ordered)
    assert (ordered - exact).abs().max() < 2.2 / len(ordered) ** 0.5


def test_the_gaussian_noise_and_mean_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    n_users, n_each, alpha = 2000, 5, 4.0
    users, items, eta = sides(n_users, n_each, generator)
    five = torch.full((n_users,), 5.0)
    relative = gamma(generator, five, five)
    errors = normal(generator, len(eta)) / (alpha * relative).sqrt().repeat_interleave(n_each)
    ratings = 3.2 + eta + errors
    users.blocks.replace(ratings)
    train = encoded(n_users, n_each, ratings)
    likelihood = GaussianLikelihood(train, n_users, torch.arange(1.0, 6))
    drawn = []
    for sweep in range(400):
        likelihood.before_sweep(generator, users, items)
        likelihood.after_sweep(generator, users, as_drawn(users, items, likelihood.mean))
        if sweep >= 50:
            drawn.append(torch.cat([likelihood.mean.unsqueeze(0), likelihood.precision]))
    means = torch.stack(drawn).mean(dim=0)
    assert means[0] == pytest.approx(3.2, abs=0.03)
    squares = (errors + 3.2 - means[0]).square().view(n_users, n_each).sum(dim=1)
    expected = (5 + n_each / 2) / (5 / alpha + squares / 2)
    assert means[1:].mean() == pytest.approx(alpha, rel=0.05)
    assert (means[1:] / expected).mean() == pytest.approx(1, abs=0.03)
    assert (means[1:] / expected).std() < 0.05
    assert torch.stack(drawn)[:, 0].std() == pytest.approx(
        (alpha * relative * n_each).sum().rsqrt().item(), rel=0.2
    )


def test_latent_ratings_lie_in_their_levels_as_the_truncated_normal_does() -> None:
    generator = torch.Generator().manual_seed(1)
    n_users = 10_000
    users, items, eta = sides(n_users, 1, generator)
    precision = gamma(generator, torch.full((n_users,), 5.0), torch.full((n_users,), 5.0))
    level = torch.bucketize(eta + normal(generator, n_users) / precision.sqrt(), EDGES)
    train = encoded(n_users, 1, 1.0 + level)
    likelihood = OrdinalLikelihood(train, n_users, torch.arange(1.0, 4))
    likelihood.precision = precision
    likelihood.before_sweep(generator, users, items)
    latent = linear_of(users, N_ITEMS)  # of one rating each
    of_items = linear_of(items, n_users)
    sums = torch.zeros(N_ITEMS).index_add(0, train.items, latent)
    torch.testing.assert_close(of_items, sums, rtol=1e-4, atol=1e-2)
    ends = torch.cat([torch.tensor([-torch.inf]), likelihood.edges, torch.tensor([torch.inf])])
    below, within, above = (
        ndtr((end - eta).double() * precision.sqrt())
        for end in (ends[level], latent, ends[level + 1])
    )
    assert_uniform((within - below) / (above - below))
    # And then what errors these leave decides the precisions.
    likelihood.after_sweep(generator, users, as_drawn(users, items, likelihood.mean))
    squares = (latent - eta).square()
    shape = torch.full((n_users,), 5.5, dtype=torch.float64)
    places = gammainc(shape, (likelihood.precision * (5 + squares / 2)).double())
    assert_uniform(places)
    assert_uniform(places[squares > 2.5])


def test_the_edges_are_drawn_as_they_are_likely() -> None:
    """The chain's mean and spread are those of the likelihood, summed over a grid of edges."""
    generator = torch.Generator().manual_seed(2)
    n_users = 300
    users, items, eta = sides(n_users, 1, generator)
    root = gamma(generator, torch.full((n_users,), 5.0), torch.full((n_users,), 5.0)).sqrt()
    level = torch.bucketize(eta + normal(generator, n_users) / root, EDGES)
    train = encoded(n_users, 1, 1.0 + level)
    likelihood = OrdinalLikelihood(train, n_users, torch.arange(1.0, 4))
    likelihood.precision = root.square()
    drawn = []
    for sweep in range(2500):
        likelihood.before_sweep(generator, users, items)
        if sweep >= 100:
            drawn.append(likelihood.edges)
    found = torch.stack(drawn).double()

    grid = torch.linspace(-1.2, 1.8, 151, dtype=torch.float64)
    below = ndtr((grid - eta.double().unsqueeze(1)) * root.unsqueeze(1))
    first, last = below[level == 0].log().sum(0), (1 - below[level == 2]).log().sum(0)
    middle = below[level == 1]
    between = (middle.unsqueeze(1) - middle.unsqueeze(2)).clamp(min=1e-300).log().sum(0)
    likely = (first.unsqueeze(1) + last + between).flatten().softmax(0).view(151, 151)
    for place, marginal in enumerate((likely.sum(dim=1), likely.sum(dim=0))):
        mean = marginal @ grid
        std = (marginal @ (grid - mean).square()).sqrt()
        assert found[:, place].mean() == pytest.approx(mean.item(), abs=0.3 * std.item())
        assert found[:, place].std() == pytest.approx(std.item(), rel=0.25)


@pytest.mark.parametrize("simulated", ["ordinal"], indirect=True)
def test_the_edges_of_simulated_ratings_are_found(simulated: tuple[Simulated, Sampled]) -> None:
    """Edges are known but for a shift of all, which biases may make too, so to the mean center."""
    truth, (posterior, trace, _) = simulated
    train = truth.fold.train
    centers = posterior.centers(train.users, train.items).mean(dim=1, keepdim=True)
    found, expected = posterior.edges - centers, truth.edges - truth.centers.mean()
    assert (found.mean(dim=0) - expected).abs().max() < 0.1
    assert ((found.mean(dim=0) - expected).abs() < 4 * found.std(dim=0)).all()
    assert trace[-1].noise_std == pytest.approx(1.08, abs=0.08)  # the mean of 1/√a


@pytest.mark.parametrize("simulated", ["gaussian"], indirect=True)
def test_the_noise_of_simulated_ratings_is_found(simulated: tuple[Simulated, Sampled]) -> None:
    _, (posterior, *_) = simulated
    precision = posterior.user_precision[:, 1:].mean(dim=1)
    expected = (NOISE_STD**2 + 0.5**2 / 12) ** -1  # as rounding to half stars adds to it
    assert precision.mean() == pytest.approx(expected, rel=0.06)
