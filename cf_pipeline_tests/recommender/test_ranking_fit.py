"""The fit of the model that lists are made with: the weight it finds, and the lists it makes."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import Tensor

from cf_pipeline.recommender import gradient_descent, implicit_als
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.implicit_als import ImplicitFactors
from cf_pipeline.recommender.list_quality import judge
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ranking_fit import WEIGHTS, RankingFit, Weighed, fit
from cf_pipeline.recommender.ranking_metrics import RankingReport
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline.recommender.settings import GradientDescentSettings, RankingSettings
from cf_pipeline.recommender.splits import official_fold
from cf_pipeline.recommender.top_items import Lists, Seen, top_items
from cf_pipeline_tests.recommender.layouts import Tables
from cf_pipeline_tests.recommender.simulation import Fold, rmse

SMALL = RankingSettings(n_factors=4, regularization=0.1, feature_rank=0)


@pytest.fixture(scope="module")
def ua(ratings: pd.DataFrame, tables: Tables) -> Fold:
    """The official fold ua of the real ratings; not to be changed."""
    return Fold.of(ratings, official_fold(ratings, "ua"), tables)


@pytest.fixture(scope="module")
def fitted(ua: Fold) -> RankingFit:
    """The default ranking model of ua's training part, above models of ratings of few epochs."""
    few_epochs = GradientDescentSettings(epochs=4)
    rest, validation = ua.train.carve(0.1, seed=0)
    rating, rating_of_rest = (
        gradient_descent.fit(part, ua.side, few_epochs).model for part in (ua.train, rest)
    )
    return fit(ua.train, ua.side, rating, RankingSettings(), rest, validation, rating_of_rest)


class Tastes:
    """80 users who each rate 15 of the 30 items of their kind, of two kinds; no stars are told."""

    n_users, n_items = 81, 61

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        users = torch.arange(1, self.n_users).repeat_interleave(15).int()
        chosen = [torch.randperm(30, generator=generator)[:15] for _ in range(1, self.n_users)]
        items = (1 + 2 * torch.cat(chosen) + users % 2).int()
        stars = torch.randint(1, 6, (len(users),), generator=generator).float()
        self.train = EncodedRatings(users, items, stars)
        self.side = SideFeatures(torch.zeros(self.n_users, 1), torch.zeros(self.n_items, 1))
        self.rest, self.validation = self.train.carve(0.2, seed=0)

    @torch.no_grad()
    def model(self, x: Tensor) -> FactorModel:
        """Return a model whose sigmoid takes x (n_users, n_items)."""
        model = FactorModel(self.n_users, self.n_items, self.n_items, bias=False)
        model.user_factors.weight.copy_(x)
        model.item_factors.weight.copy_(torch.eye(self.n_items))
        return model

    def noise(self) -> FactorModel:
        drawn = torch.randn(self.n_users, self.n_items, generator=torch.Generator().manual_seed(1))
        return self.model(20 * drawn)

    def oracle(self) -> FactorModel:
        """Return a model that puts what is to be found first, but not far above all else."""
        x = torch.zeros(self.n_users, self.n_items)
        x[self.validation.users, self.validation.items] = 1
        return self.model(x)

    def fit(
        self,
        rating: FactorModel,
        rating_of_rest: FactorModel,
        log: Callable[[str], None] = lambda _: None,
    ) -> RankingFit:
        parts = self.rest, self.validation
        return fit(self.train, self.side, rating, SMALL, *parts, rating_of_rest, log)


def lists_of(model: RankingModel, train: EncodedRatings) -> Lists:
    seen = Seen.of(train.users, train.items, len(model.users))
    return top_items(model.users, model.items, seen, k=10)


def test_real_users_who_are_added_as_if_new_get_nearly_the_lists_they_have(
    ua: Fold, fitted: RankingFit
) -> None:
    model, own = fitted.model, lists_of(fitted.model, ua.train).items
    seen = Seen.of(ua.train.users, ua.train.items, len(model.users))
    same = []
    for user in range(5, len(model.users), 45):
        rated = ua.train.take(ua.train.users == user)
        added = model.with_user(rated.items, rated.ratings)
        unseen = seen.take(torch.tensor([user]))
        found = top_items(added.users[-1:], added.items, unseen, k=10).items[0]
        same.append(len(set(found.tolist()) & set(own[user].tolist())))
    assert sum(same) / len(same) > 8
    assert min(same) >= 5


def test_noise_about_ratings_gets_no_weight_whatever_the_final_model_knows() -> None:
    tastes = Tastes()
    fitted = tastes.fit(rating=tastes.oracle(), rating_of_rest=tastes.noise())
    assert fitted.model.weight == 0
    assert fitted.model.rating.user_factors.weight[1:].sum() == len(tastes.validation.users)


def test_ratings_that_tell_what_is_chosen_get_the_greatest_weight() -> None:
    tastes = Tastes()
    fitted = tastes.fit(rating=tastes.noise(), rating_of_rest=tastes.oracle())
    assert fitted.model.weight == WEIGHTS[-1]
    sums = [weighed.ndcg_all + weighed.ndcg_liked for weighed in fitted.weights]
    assert sums == sorted(sums)


def reports_of(
    model: RankingModel, train: EncodedRatings, test: EncodedRatings
) -> tuple[RankingReport, RankingReport]:
    """What lists come to, counting all and counting what was liked."""
    judged = judge(model.users, model.items, train, test)
    assert judged.all
    assert judged.liked
    return judged.all, judged.liked


def test_each_weight_is_judged_without_the_rows_set_aside_and_the_factors_are_of_all() -> None:
    tastes = Tastes()
    rating, rating_of_rest = tastes.noise(), tastes.oracle()
    lines: list[str] = []
    fitted = tastes.fit(rating, rating_of_rest, lines.append)
    implicit = implicit_als.fit(tastes.rest, tastes.side, SMALL)
    expected = []
    for weight in WEIGHTS:
        model = RankingModel(rating_of_rest, implicit, weight, 1, SMALL)
        reports = reports_of(model, tastes.rest, tastes.validation)
        expected.append(Weighed(weight, *(report.ndcg_at_10 for report in reports)))
    assert fitted.weights == expected
    factors = implicit_als.fit(tastes.train, tastes.side, SMALL)
    assert all(map(torch.equal, fitted.model.implicit, factors))
    assert fitted.model.rating is rating
    assert fitted.model.settings == SMALL
    with torch.no_grad():
        predicted = rating_of_rest(tastes.validation.users, tastes.validation.items)
    assert fitted.model.rating_std == pytest.approx(rmse(predicted, tastes.validation))
    assert fitted.seconds > 0
    assert any(line.startswith(f"Weight {WEIGHTS[-1]:g}, ") for line in lines)


@torch.no_grad()
def test_items_without_a_training_rating_are_no_candidates() -> None:
    """Else one could be listed first, by its features alone."""
    tastes, unrated = Tastes(), 7
    known = tastes.train.take(tastes.train.items != unrated)
    items = torch.zeros(tastes.n_items, 1)
    implicit = ImplicitFactors(torch.ones(tastes.n_users, 1), items)
    model = RankingModel(tastes.noise(), implicit, 0.02, 1, SMALL)
    reports = []
    for score in (1000, -1000):
        items[unrated] = score
        reports.append(reports_of(model, known, tastes.validation))
    assert reports[0] == reports[1]


def test_the_weight_is_best_for_the_sum_of_what_is_chosen_and_what_is_liked(
    fitted: RankingFit,
) -> None:
    """Real lists of what is chosen want less of the rating than those of what is liked."""
    best_of_sum, best_of_all, best_of_liked = (
        max(fitted.weights, key=key).weight
        for key in (
            lambda weighed: weighed.ndcg_all + weighed.ndcg_liked,
            lambda weighed: weighed.ndcg_all,
            lambda weighed: weighed.ndcg_liked,
        )
    )
    assert best_of_all < best_of_sum < best_of_liked
    assert fitted.model.weight == best_of_sum


def test_real_lists_are_better_with_ratings_than_by_choice_alone(
    ua: Fold, fitted: RankingFit
) -> None:
    def reached(weight: float) -> float:
        model = replace(fitted.model, weight=weight)
        return sum(report.ndcg_at_10 for report in reports_of(model, ua.train, ua.test))

    assert 0 < fitted.model.weight < WEIGHTS[-1]
    assert reached(fitted.model.weight) > reached(0) + 0.005
    assert reached(fitted.model.weight) >= 0.63


def test_judging_is_of_the_lists_that_leave_out_what_was_seen(ua: Fold, fitted: RankingFit) -> None:
    report = reports_of(fitted.model, ua.train, ua.test)[0]
    lists = lists_of(fitted.model, ua.train).items
    pairs = ua.test.users.long() * len(fitted.model.items) + ua.test.items
    listed = torch.arange(len(lists)).unsqueeze(1) * len(fitted.model.items) + lists
    hits = torch.isin(listed, pairs)[ua.test.users.unique().long()].float()
    assert report.precision_at_10 == pytest.approx(hits.mean().item())
    shown = ua.train.items.bincount()[lists[1:]] / (len(fitted.model.users) - 1)
    assert report.novelty == pytest.approx(-shown.log2().mean().item(), rel=1e-5)
    assert reports_of(fitted.model, ua.train, ua.train)[0].precision_at_10 == 0
