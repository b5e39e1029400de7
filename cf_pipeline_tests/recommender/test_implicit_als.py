"""Implicit factors: each step against the docstring's objective, taken densely in float64."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cf_pipeline.recommender import implicit_als, rating_sums
from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.draws import normal
from cf_pipeline.recommender.features import low_rank_features
from cf_pipeline.recommender.implicit_als import ImplicitFactors, Side, fit, sides
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ranking_metrics import evaluate
from cf_pipeline.recommender.settings import RankingSettings
from cf_pipeline.recommender.splits import official_fold
from cf_pipeline.recommender.top_items import Seen, top_items
from cf_pipeline_tests.recommender.layouts import Tables
from cf_pipeline_tests.recommender.simulation import Fold, some_ratings

Numbers = npt.NDArray[np.float64]
SMALL = RankingSettings(
    n_factors=4,
    confidence=3,
    regularization=0.5,
    feature_regularization=2,
    feature_rank=3,
    iterations=4,
)


@pytest.fixture(scope="module")
def ua(ratings: pd.DataFrame, tables: Tables) -> Fold:
    """The official fold ua of the real ratings; not to be changed."""
    return Fold.of(ratings, official_fold(ratings, "ua"), tables)


class Case(NamedTuple):
    """What some rows rated, and what a step takes."""

    rows: Numbers
    columns: Numbers
    side: Numbers  # (n_rows, 2)
    others: Numbers  # (n_columns, n_factors)
    prior_mean: Numbers  # (n_rows, n_factors)
    settings: RankingSettings


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n_rows, n_columns, width = (
        draw(st.integers(2, 8)),
        draw(st.integers(2, 6)),
        draw(st.integers(1, 4)),
    )
    chosen = st.lists(st.integers(0, (n_rows - 1) * (n_columns - 1) - 1), unique=True)
    rows, columns = np.divmod(np.array(draw(chosen), dtype=np.int32), n_columns - 1)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    side = random.integers(0, 2, (n_rows, 2)).astype(np.float64)
    others, prior_mean = random.normal(size=(n_columns, width)), random.normal(size=(n_rows, width))
    chosen_settings = RankingSettings(
        n_factors=width,
        confidence=draw(st.floats(0.1, 50)),
        regularization=draw(st.floats(0.1, 10)),
        feature_regularization=draw(st.floats(0.1, 100)),
        feature_rank=draw(st.integers(0, 3)),
    )
    return Case(rows + 1, columns + 1, side, others, prior_mean, chosen_settings)


def single(numbers: Numbers) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


def solved(case: Case) -> tuple[Numbers, Numbers]:
    """Return the penalties and the factors of all rows, by the equations of each."""
    penalties, factors = [], []
    for row, prior_mean in enumerate(case.prior_mean):
        rated = case.others[case.columns[case.rows == row]]
        penalty = case.settings.regularization * np.sqrt(len(rated) + 1)
        precision = case.others.T @ case.others + case.settings.confidence * rated.T @ rated
        linear = (1 + case.settings.confidence) * rated.sum(axis=0) + penalty * prior_mean
        factors.append(np.linalg.solve(precision + penalty * np.eye(len(linear)), linear))
        penalties.append(penalty)
    return np.array(penalties), np.array(factors)


@settings(deadline=None, max_examples=60)  # torch's first calls take their time
@given(cases())
def test_a_step_solves_the_equations_of_every_row_and_then_those_of_what_features_say(
    case: Case,
) -> None:
    pairs, sizes = (
        (torch.tensor(case.rows), torch.tensor(case.columns)),
        (len(case.side), len(case.others)),
    )
    ratings = EncodedRatings(*pairs, torch.ones(len(case.rows)))
    blocks = both_sides(ratings, *sizes, case.settings, with_values=False)
    features = single(case.side)
    side = Side(*blocks, features, case.settings)
    assert not side.prior_mean.any()
    side.prior_mean = single(case.prior_mean)
    side.solve(single(case.others))
    penalties, factors = solved(case)
    np.testing.assert_allclose(side.factors.numpy(), factors, rtol=2e-3, atol=2e-3)
    x = low_rank_features(*blocks, features, case.settings.feature_rank, case.settings.seed)
    design = x.double().numpy()
    weighted = design.T * penalties
    ridge = case.settings.feature_regularization * np.eye(design.shape[1])
    said = design @ np.linalg.solve(weighted @ design + ridge, weighted @ factors)
    np.testing.assert_allclose(side.prior_mean.numpy(), said, rtol=2e-3, atol=2e-3)


class Descent:
    """Users and items that are solved in turn, and the objective of where they are."""

    def __init__(self) -> None:
        ratings, side = some_ratings(150)
        users, items, _ = ratings
        n_users, n_items, rank = len(side.users), len(side.items), SMALL.feature_rank
        self.users, self.items = sides(ratings, side, SMALL)
        by_user, by_item = both_sides(ratings, n_users, n_items, SMALL, with_values=False)
        of_users = low_rank_features(by_user, by_item, side.users, rank, SMALL.seed)
        of_items = low_rank_features(by_item, by_user, side.items, rank, SMALL.seed)
        self.features = [of_users.double(), of_items.double()]
        self.rated = torch.zeros(n_users, n_items, dtype=torch.float64)
        self.rated[users, items] = 1
        self.items.factors = torch.randn(
            n_items, SMALL.n_factors, generator=torch.Generator().manual_seed(3)
        )
        self.items.factors[0] = 0

    def unknowns(self) -> list[Tensor]:
        """Return the users' factors and B and the items', in float64."""
        found = []
        for side, x in zip((self.users, self.items), self.features, strict=True):
            found += [side.factors.double(), torch.linalg.pinv(x) @ side.prior_mean.double()]
        return [unknown.requires_grad_() for unknown in found]

    def objective(self, p: Tensor, b_p: Tensor, q: Tensor, b_q: Tensor) -> Tensor:
        product = p @ q.T
        loss = (1 + SMALL.confidence) * self.rated * (1 - product).square()
        loss = loss + (1 - self.rated) * product.square()
        total = loss.sum()
        for axis, factors, b, x in ((1, p, b_p, self.features[0]), (0, q, b_q, self.features[1])):
            penalty = SMALL.regularization * (self.rated.sum(dim=axis) + 1).sqrt()
            total = total + (penalty * (factors - x @ b).square().sum(dim=1)).sum()
            total = total + SMALL.feature_regularization * b.square().sum()
        return total

    def value(self) -> float:
        return self.objective(*self.unknowns()).item()

    def gradients(self) -> list[float]:
        """Return the greatest gradient by each of the unknowns."""
        unknowns = self.unknowns()
        gradients = torch.autograd.grad(self.objective(*unknowns), unknowns)
        return [gradient.abs().max().item() for gradient in gradients]

    def half_steps(self, users: bool) -> tuple[float, float]:
        """Solve a side, and return the objective before and after its B was solved too."""
        side, others = (self.users, self.items) if users else (self.items, self.users)
        before = side.prior_mean
        side.solve(others.factors)
        after = side.prior_mean
        side.prior_mean = before
        without = self.value()
        side.prior_mean = after
        return without, self.value()


def test_the_objective_never_rises() -> None:
    descent = Descent()
    values = [descent.value()]
    for step in range(12):
        values += descent.half_steps(users=step % 2 == 0)
    rises = np.diff(values)
    assert rises.max() < 1e-6 * values[0]
    assert (rises[:8] < -1e-3).all()


def test_each_half_step_ends_where_the_objective_is_flat() -> None:
    descent = Descent()
    descent.half_steps(users=True)
    descent.half_steps(users=False)
    before = descent.users.prior_mean
    start = descent.gradients()
    descent.users.solve(descent.items.factors)
    assert descent.gradients()[1] < 1e-4 * start[0]
    descent.users.prior_mean = before
    assert descent.gradients()[0] < 1e-4 * start[0]


@pytest.mark.parametrize("feature_rank", [0, 3])
def test_blocks_of_rows_make_no_difference(
    feature_rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = SMALL.model_copy(update={"feature_rank": feature_rank})
    at_once = fit(*some_ratings(), few)
    for rows in (1, 4):
        monkeypatch.setattr(rating_sums, "GRAMS_AT_ONCE", rows * SMALL.n_factors**2)
        for table, expected in zip(fit(*some_ratings(), few), at_once, strict=True):
            torch.testing.assert_close(table, expected, rtol=1e-3, atol=1e-4)


def test_a_fit_follows_its_seed() -> None:
    first, again, other = (
        fit(*some_ratings(), SMALL.model_copy(update={"seed": seed, "feature_rank": 0}))
        for seed in (0, 0, 1)
    )
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


@pytest.mark.parametrize("iterations", [1, 3])
def test_a_fit_solves_users_and_items_in_turn_and_users_once_more(iterations: int) -> None:
    several = SMALL.model_copy(update={"iterations": iterations, "seed": 5})
    ratings, features = some_ratings()
    of_users, of_items = sides(ratings, features, several)
    drawn = normal(torch.Generator().manual_seed(5), len(features.items), SMALL.n_factors)
    of_items.factors[1:] = implicit_als.INITIAL_STD * drawn[1:]
    for _ in range(iterations):
        of_users.solve(of_items.factors)
        of_items.solve(of_users.factors)
    of_users.solve(of_items.factors)
    found = fit(ratings, features, several)
    assert torch.equal(found.users[1:], of_users.factors[1:])
    assert torch.equal(found.items, of_items.factors)


def test_ratings_in_temporary_files_make_no_difference() -> None:
    in_files = SMALL.model_copy(update={"memory_gib": 0})
    assert all(map(torch.equal, fit(*some_ratings(), SMALL), fit(*some_ratings(), in_files)))
    assert in_files.model_dump() == SMALL.model_dump()


def test_stars_do_not_matter() -> None:
    ratings, side = some_ratings()
    inverted = ratings._replace(ratings=6 - ratings.ratings)
    assert all(map(torch.equal, fit(ratings, side, SMALL), fit(inverted, side, SMALL)))


def test_the_unknown_user_is_the_mean_of_the_others_and_the_unknown_item_is_nothing() -> None:
    users, items = fit(*some_ratings(), SMALL)
    torch.testing.assert_close(users[0], users[1:].mean(dim=0))
    assert users[0].any()
    assert not items[0].any()
    assert items[1:].any(dim=1).all()


def test_a_fit_says_how_far_it_is() -> None:
    lines: list[str] = []
    fit(*some_ratings(), SMALL.model_copy(update={"iterations": 9}), lines.append)
    assert lines == ["iteration 4 of 9", "iteration 8 of 9"]


def ndcg(factors: ImplicitFactors, fold: Fold) -> float:
    seen = Seen.of(fold.train.users, fold.train.items, len(factors.users))
    lists = top_items(factors.users, factors.items, seen, k=10)
    counts = torch.bincount(fold.train.items, minlength=len(factors.items))
    relevant = fold.test.users, fold.test.items
    return evaluate(lists.items, *relevant, counts, len(factors.users) - 1).ndcg_at_10


def test_real_lists_are_far_better_than_the_most_popular(ua: Fold) -> None:
    factors = fit(ua.train, ua.side, RankingSettings())
    counts = torch.bincount(ua.train.items, minlength=len(factors.items)).float()
    most_popular = ImplicitFactors(torch.ones(len(factors.users), 1), counts.unsqueeze(1))
    assert ndcg(factors, ua) >= 0.30
    assert ndcg(factors, ua) > ndcg(most_popular, ua) + 0.1
    without = fit(ua.train, ua.side, RankingSettings(feature_rank=0))
    assert ndcg(factors, ua) > ndcg(without, ua)
