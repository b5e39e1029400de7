"""What fits are tested on: a fold of real ratings, random ratings, and ratings of a known model."""

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.special import ndtr

from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.posterior import Posterior, Sample
from cf_pipeline.recommender.splits import Mask
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.layouts import Tables

EDGES = torch.tensor([-1.6, -0.9, 0.1, 1.3])  # of ordinal ratings: few of 1, most of 4
NOISE_STD = 0.6  # of gaussian ratings, in stars


class Fold(NamedTuple):
    train: EncodedRatings
    test: EncodedRatings
    side: SideFeatures

    @classmethod
    def of(cls, ratings: pd.DataFrame, in_test: Mask, tables: Tables) -> "Fold":
        train, test = ratings[~in_test], ratings[in_test]
        known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
        side = SideFeatures.of(tables.users.to_pandas(), tables.movies.to_pandas(), *known)
        return cls(EncodedRatings.of(train, *known), EncodedRatings.of(test, *known), side)


def encoded(train: pd.DataFrame, *others: pd.DataFrame) -> list[EncodedRatings]:
    """Return ratings as the indices of the vocabularies of the first."""
    known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    return [EncodedRatings.of(ratings, *known) for ratings in (train, *others)]


class Simulated(NamedTuple):
    """Ratings drawn from the model: `bias_rmse` is that of the true mean and biases on the test
    part, `floor` that of all the truth; `edges` are on the scale of `centers` (n_train,), what the
    truth says of the training ratings.
    """

    fold: Fold
    centers: Tensor
    edges: Tensor
    bias_rmse: float
    floor: float


def some_ratings(n: int = 400, n_levels: int = 5) -> tuple[EncodedRatings, SideFeatures]:
    """Return n ratings of 20 users and 30 items, the unknown not counted, and their features."""
    generator = torch.Generator().manual_seed(0)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator, dtype=torch.int32)

    pairs = torch.randperm(600, generator=generator)[:n].int()
    drawn = EncodedRatings(pairs // 30 + 1, pairs % 30 + 1, draw(1, n_levels + 1, n).float())
    return drawn, SideFeatures(draw(0, 2, 21, 3).float(), draw(0, 2, 31, 4).float())


def simulate(ordinal: bool, seed: int = 0) -> Simulated:
    """Draw 50 ratings for each of 300 users, of 150 items, by 3 factors; a fifth is the test part.

    Gaussian ratings are rounded to half stars, ordinal ones are levels 1 to 5. The first side
    feature of a user or item moves its weights.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    kinds = [torch.randint(0, 2, (n, 3), generator=generator).float() for n in (301, 151)]
    scale = torch.tensor([0.55, 0.55, 0.55, 0.3])
    of_user, of_item = (scale * (kind[:, :1] - 0.5 + normal(len(kind), 4)) for kind in kinds)
    users = torch.arange(1, 301).repeat_interleave(50).int()
    items = torch.cat([torch.randperm(150, generator=generator)[:50] for _ in range(300)]).int() + 1
    biases = of_user[users, 3] + of_item[items, 3]
    centers = biases + (of_user[users, :3] * of_item[items, :3]).sum(dim=1)
    precision = torch._standard_gamma(torch.full((301,), 5.0), generator)[users] / 5
    noise = normal(len(users)) / precision.sqrt()
    if ordinal:
        ratings = 1.0 + torch.bucketize(centers + noise, EDGES)
    else:
        biases, centers = 2.75 + biases, 2.75 + centers
        ratings = ((centers + NOISE_STD * noise) * 2).round().clamp(1, 10) / 2
    in_test = torch.rand(len(users), generator=generator) < 0.2

    drawn = EncodedRatings(users, items, ratings)
    fold = Fold(drawn.take(~in_test), drawn.take(in_test), SideFeatures(*kinds))

    def error(center: Tensor) -> float:
        if ordinal:
            center = 1 + ndtr((center.unsqueeze(1) - EDGES) * precision.sqrt().unsqueeze(1)).sum(1)
        return rmse(center[in_test], fold.test)

    return Simulated(fold, centers[~in_test], EDGES, error(biases), error(centers))


def some_posterior(ordinal: bool = False, n_samples: int = 6, n_factors: int = 2) -> Posterior:
    """Return a posterior of 7 users and 9 items, the unknown not counted, rated 1 to 5."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return 0.4 * torch.randn(shape, generator=generator)

    samples = [
        Sample(
            normal(8, n_factors + 1),
            normal(10, n_factors + 1),
            torch.tensor(0.0 if ordinal else 3.2) + normal(),
            1 + normal(8).abs(),
            (EDGES if ordinal else torch.arange(1.5, 5)) + normal(4) / 20,
        )
        for _ in range(n_samples)
    ]
    return Posterior.of(samples, torch.arange(1.0, 6), ordinal)


def rmse(predicted: Tensor, part: EncodedRatings) -> float:
    return (predicted - part.ratings).square().mean().sqrt().item()
