"""Small models of random factors for tests, and the ids that they are saved with."""

import torch

from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.implicit_als import ImplicitFactors
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline.recommender.settings import RankingSettings
from cf_pipeline.recommender.vocabulary import Vocabulary

N_USERS, N_ITEMS, N_FACTORS = 5, 4, 3
USERS, MOVIES = Vocabulary.of([3, 7, 20, 500]), Vocabulary.of([1, 2, 900])


def some_model(bias: bool = True) -> FactorModel:
    """Return a model of 5 users and 4 items, the unknown ones counted."""
    torch.manual_seed(0)
    return FactorModel(N_USERS, N_ITEMS, N_FACTORS, (0.5, 5.25), bias)


def some_ranking_model(bias: bool = True) -> RankingModel:
    """Return a ranking model above `some_model`, which is saved with it."""
    generator = torch.Generator().manual_seed(2)
    users, items = (torch.randn(n, 4, generator=generator) for n in (N_USERS, N_ITEMS))
    settings = RankingSettings(n_factors=4, confidence=7.5, regularization=0.3)
    return RankingModel(some_model(bias), ImplicitFactors(users, items), 0.14, 0.9, settings)
