"""Posteriors distilled into plain models: how near these come, and that no test rating leaks in."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from cf_pipeline.recommender import distillation, gibbs
from cf_pipeline.recommender.distillation import distil, fit
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.gibbs import Sampled
from cf_pipeline.recommender.posterior import Posterior
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline.recommender.splits import Mask, official_fold
from cf_pipeline_tests.recommender.layouts import Tables
from cf_pipeline_tests.recommender.simulation import Fold, rmse, some_posterior, some_ratings

SMALL = GibbsSettings(
    n_factors=4, sampled_factors=3, feature_rank=4, sweeps=9, burn_in=3, kept_samples=4
)
BOTH = pytest.mark.parametrize("ordinal", [False, True], ids=["gaussian", "ordinal"])
USERS, ITEMS = torch.cartesian_prod(torch.arange(8), torch.arange(10)).int().T
Y_RANGE = (0.0, 5.5)


@pytest.fixture(scope="module")
def distilled(sampled: Sampled) -> FactorModel:
    """The default model of u1's training part; not to be changed."""
    return distil(sampled.posterior, 20, Y_RANGE, bias=True)


@torch.no_grad()
def predict(model: FactorModel, users: Tensor, items: Tensor) -> Tensor:
    predicted: Tensor = model(users, items)
    return predicted


def furthest(model: FactorModel, posterior: Posterior) -> float:
    """Return the most stars by which predictions of model and posterior differ over known pairs."""
    off = predict(model, USERS, ITEMS) - posterior.predict(USERS, ITEMS).mean
    return off[(USERS > 0) & (ITEMS > 0)].abs().max().item()


def test_the_default_settings_reach_their_bar_on_u1(u1: Fold, distilled: FactorModel) -> None:
    predicted = predict(distilled, u1.test.users, u1.test.items)
    assert rmse(predicted.clamp(1, 5), u1.test) <= 0.8815


def test_a_model_of_20_factors_comes_near_the_real_posterior(
    u1: Fold, sampled: Sampled, distilled: FactorModel
) -> None:
    mean = sampled.posterior.predict(u1.test.users, u1.test.items).mean
    predicted = predict(distilled, u1.test.users, u1.test.items)
    assert (predicted - mean).square().mean().sqrt() < 0.045
    assert np.corrcoef(predicted, mean)[0, 1] > 0.998


def test_more_factors_come_nearer(u1: Fold, sampled: Sampled, distilled: FactorModel) -> None:
    mean = sampled.posterior.predict(u1.test.users, u1.test.items).mean

    def off(model: FactorModel) -> float:
        return (predict(model, u1.test.users, u1.test.items) - mean).square().mean().sqrt().item()

    few, many = (distil(sampled.posterior, n, Y_RANGE, bias=True) for n in (5, 60))
    assert off(few) > 2 * off(distilled) > 2 * off(many)


@pytest.mark.parametrize(("bias", "n_factors"), [(True, 2), (False, 4)])
def test_one_sample_is_matched_where_the_sigmoid_is_straight_and_no_rating_is_off_the_scale(
    bias: bool, n_factors: int
) -> None:
    """Two factors and biases are what the sample has; without biases, they take two more."""
    posterior = some_posterior(n_samples=1, n_factors=2)
    posterior.user_weights[:] /= 2
    posterior.item_weights[:] /= 2
    posterior.mean[:] = 3
    assert furthest(distil(posterior, n_factors, (-497, 503), bias), posterior) < 2e-3
    assert furthest(distil(posterior, 1, (-497, 503), bias), posterior) > 0.05


@pytest.mark.parametrize(
    ("bias", "n_factors"),
    [
        (True, 7),
        (False, 8),
        (True, 8),
    ],
)
@BOTH
def test_as_many_factors_as_items_can_differ_in_match_any_posterior(
    bias: bool, n_factors: int, ordinal: bool
) -> None:
    """An ordinal one almost: what is expected at the mean of the samples' centers is near."""
    posterior = some_posterior(ordinal)
    of_ten, of_eight = posterior.item_weights, posterior.user_weights
    precision = of_ten.new_ones(6, 10)
    fewer_items = replace(
        posterior, user_weights=of_ten, item_weights=of_eight, user_precision=precision
    )
    model = distil(fewer_items, n_factors, Y_RANGE, bias)
    off = predict(model, ITEMS, USERS) - fewer_items.predict(ITEMS, USERS).mean
    known = (USERS > 0) & (ITEMS > 0)  # the unknown are drawn in a posterior, but not in a model
    assert off[known].abs().max() < (0.08 if ordinal else 1e-3)


@BOTH
def test_without_biases_there_are_no_tables_of_them_and_predictions_stay_near(
    ordinal: bool,
) -> None:
    posterior = some_posterior(ordinal)
    model = distil(posterior, 6, Y_RANGE, bias=False)
    shapes = {name: tuple(table.shape) for name, table in model.state_dict().items()}
    assert shapes == {"user_factors.weight": (8, 6), "item_factors.weight": (10, 6)}
    assert furthest(model, posterior) < 0.3
    with_bias = distil(posterior, 6, Y_RANGE, bias=True)
    assert list(with_bias.tables()) == ["user_factors", "item_factors", "user_bias", "item_bias"]


def test_the_columns_of_both_tables_are_of_one_length(distilled: FactorModel) -> None:
    users, items = distilled.user_factors.weight, distilled.item_factors.weight
    torch.testing.assert_close(users.norm(dim=0), items.norm(dim=0))
    assert distilled.state_dict()["user_factors.weight"].isfinite().all()


@pytest.mark.parametrize("bias", [True, False])
def test_blocks_of_users_make_no_difference(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = some_posterior()
    at_once = distil(posterior, 3, Y_RANGE, bias)
    monkeypatch.setattr(distillation, "PREDICTIONS_AT_ONCE", 35)  # three users of ten items
    in_blocks = distil(posterior, 3, Y_RANGE, bias)
    for name, table in at_once.state_dict().items():
        torch.testing.assert_close(in_blocks.state_dict()[name], table, rtol=0, atol=1e-5)


@pytest.mark.parametrize("y_range", [[1.0, 5.5], [0.0, 5.0], [2.0, 3.0], [5.5, 0.0]])
def test_a_range_that_does_not_reach_beyond_the_scale_is_refused(y_range: list[float]) -> None:
    settings = GibbsSettings(sweeps=2, burn_in=1, y_range=y_range)
    with pytest.raises(ValueError, match=r"must reach beyond the ratings, 1 to 5, .*raise its"):
        fit(*some_ratings(), settings)


def test_the_unknown_are_predicted_as_the_others_are_on_average(
    sampled: Sampled, distilled: FactorModel
) -> None:
    posterior = sampled.posterior
    nobody = torch.zeros(posterior.user_weights.shape[1] - 1, dtype=torch.int64)
    known = torch.arange(1, len(nobody) + 1)
    of_nobody, of_somebody = (
        predict(distilled, users, torch.full_like(users, 50)) for users in (nobody, known)
    )
    assert of_nobody[0].item() == pytest.approx(of_somebody.mean().item(), abs=0.05)


@pytest.mark.parametrize("n_factors", [11, 40])
def test_there_may_be_more_factors_than_can_differ(n_factors: int) -> None:
    posterior = some_posterior()
    model = distil(posterior, n_factors, Y_RANGE, bias=True)
    assert model.user_factors.embedding_dim == n_factors
    assert furthest(model, posterior) < 0.02


def test_a_fit_is_the_distilled_mean_of_all_samples_and_keeps_a_few() -> None:
    ratings, side = some_ratings()
    train, validation = ratings.carve(0.25, seed=0)
    lines: list[str] = []
    fitted = fit(train, side, SMALL, validation, lines.append)
    sampled = gibbs.fit(train, side, SMALL, validation)
    model = distil(sampled.posterior, 4, Y_RANGE, bias=True)
    for name, table in fitted.model.state_dict().items():
        assert torch.equal(table, model.state_dict()[name])
    assert fitted.progress == [sweep._asdict() for sweep in sampled.trace]
    assert fitted.posterior is not None
    kept = sampled.posterior.thinned(4)
    assert torch.equal(fitted.posterior.user_weights, kept.user_weights)
    assert fitted.seconds > 0
    assert lines


def test_no_test_rating_leaks_into_a_prediction(ratings: pd.DataFrame, tables: Tables) -> None:
    """From the split on: whatever the test ratings are, and whether the pairs are there at all."""
    in_test = official_fold(ratings, "u1")
    half = in_test & (np.arange(len(ratings)) % 2 == 0)  # whose predictions are looked at
    settings = GibbsSettings(
        n_factors=3, sampled_factors=2, feature_rank=8, sweeps=5, burn_in=2, samples=3
    )

    def predictions(stars: pd.Series, there: Mask) -> list[Tensor]:
        kept = ratings.assign(rating=stars)[there]
        fold = Fold.of(kept, in_test[there], tables)
        fitted = fit(fold.train, fold.side, settings)
        assert fitted.posterior is not None
        looked_at = fold.test.take(torch.tensor(half[there][in_test[there]]))
        users, items, _ = looked_at
        return [predict(fitted.model, users, items), *fitted.posterior.predict(users, items)]

    def same(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    stars, everywhere = ratings["rating"].astype("float64"), np.ones(len(ratings), dtype=bool)
    original = predictions(stars, everywhere)
    assert len(original[0]) == 10_000
    shuffled = stars.copy()
    shuffled[in_test] = np.random.default_rng(0).permutation(stars[in_test])
    assert (shuffled != stars).sum() > 10_000
    assert same(predictions(shuffled, everywhere), original)
    assert same(predictions(stars.mask(in_test), everywhere), original)
    assert same(predictions(stars, ~in_test | half), original)
    # A training rating does matter: a leak would show.
    first = np.flatnonzero(~in_test)[0]
    one_changed = stars.mask(stars.index == first, 1 + stars % 5)
    assert not same(predictions(one_changed, everywhere), original)
