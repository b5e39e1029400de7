"""Ratings of any scale: what is derived from it, and fits that are the same on each."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cf_pipeline.recommender import (
    distillation,
    list_quality,
    methods,
    ranking_fit,
    ranking_model,
)
from cf_pipeline.recommender.factor_model import FactorModel, ModelFileError
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.posterior import Posterior
from cf_pipeline.recommender.rating_history import History
from cf_pipeline.recommender.rating_levels import levels_of
from cf_pipeline.recommender.rating_scale import MOST_LEVELS, RatingScale, nearest_levels
from cf_pipeline.recommender.recommendations import recommendation_tables, similar_tables
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline.recommender.settings import FactorModelSettings, GibbsSettings, RankingSettings
from cf_pipeline.recommender.uncertainty import evaluate
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.simulation import some_ratings

FAST = FactorModelSettings(
    n_factors=4, sampled_factors=3, feature_rank=4, sweeps=12, burn_in=4, epochs=3, batch_size=50
)
BY_METHOD = pytest.mark.parametrize("method", ["gibbs", "gradient_descent"])
SCALES = pytest.mark.parametrize(("low", "high"), [(0.5, 5), (0, 100), (-10, 10), (0, 1e-3)])


def spread(low: float, high: float) -> tuple[EncodedRatings, SideFeatures]:
    """Return ratings of 1 to 5 moved to another scale."""
    ratings, side = some_ratings()
    return ratings._replace(ratings=low + (ratings.ratings - 1) * (high - low) / 4), side


def continuous() -> tuple[EncodedRatings, SideFeatures]:
    """Return ratings between 0 and 100 of which nearly no two are the same."""
    ratings, side = some_ratings()
    noise = torch.rand(len(ratings.ratings), generator=torch.Generator().manual_seed(1))
    return ratings._replace(ratings=20 * (ratings.ratings - noise)), side


def alike() -> tuple[EncodedRatings, SideFeatures]:
    """Return events, whose ratings are 1."""
    ratings, side = some_ratings()
    return ratings._replace(ratings=torch.ones_like(ratings.ratings)), side


def test_of_1_to_5_all_is_as_stars_have_it() -> None:
    scale = RatingScale.of(torch.tensor([3.0, 1.0, 5.0]))
    assert (*scale, scale.star, scale.liked, *scale.y_range) == (1, 5, 1, 4, 0, 5.5)
    assert [scale.words(stars) for stars in (1, 3.5, 5)] == ["1 star", "3.5 stars", "5 stars"]


def test_of_halves_4_stars_are_liked() -> None:
    halves = np.arange(0.5, 5.5, 0.5)
    scale = RatingScale.of(halves)
    assert halves[halves >= scale.liked].tolist() == [4, 4.5, 5]
    assert scale.words(4.5) == "4.5 stars"


def test_what_is_not_of_5_is_no_stars() -> None:
    assert RatingScale(0, 100).words(87) == "rated 87"
    assert RatingScale(0, 100).words(70.62452) == "rated 70.62"
    assert RatingScale(-10, 10).words(-3.25) == "rated -3.25"
    assert RatingScale(0, 1).words(1) == "rated 1"
    assert RatingScale(1, 1).words(1) == ""


@pytest.mark.parametrize(
    ("low", "high", "liked"), [(0.1, 9.9, 7.45), (0, 1.2, 0.9), (1000.1, 1000.9, 1000.7)]
)
def test_what_is_liked_is_so_though_float32_has_not_its_decimals(
    low: float, high: float, liked: float
) -> None:
    ratings = torch.tensor([low, liked, high])
    assert (ratings >= RatingScale.of(ratings).liked).tolist() == [False, True, True]
    assert RatingScale.of(ratings).liked == pytest.approx(liked, rel=1e-12)


@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e6))
def test_all_of_a_scale_lies_where_it_should(low: float, width: float) -> None:
    scale = RatingScale(low, low + width)
    below, above = scale.y_range
    assert below < scale.low < scale.liked < scale.high < above
    assert scale.star == pytest.approx((scale.high - scale.low) / 4)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=100), st.integers(2, 60))
def test_every_rating_has_its_level_or_the_nearest_of_few(ratings: list[int], most: int) -> None:
    values = np.array(ratings, np.float32)
    levels, place = nearest_levels(values, most)
    assert all(before < after for before, after in pairwise(levels))
    if len(set(ratings)) <= most:
        assert levels[place].tolist() == values.tolist()
    else:
        assert (len(levels), levels[0], levels[-1]) == (most, min(ratings), max(ratings))
        assert np.abs(levels[place] - values).max() <= (levels[1] - levels[0]) / 2 * 1.001


@BY_METHOD
@SCALES
def test_a_fit_is_the_same_on_every_scale(low: float, high: float, method: str) -> None:
    settings = FAST.model_copy(update={"method": method})
    (stars, side), (ratings, _) = some_ratings(), spread(low, high)
    lines: list[str] = []
    of_stars, found = (
        methods.fit(part, side, settings, part, lines.append) for part in (stars, ratings)
    )
    star = found.model.rating_scale.star
    assert found.model.rating_scale == pytest.approx((low, high))
    expected = low + star * (of_stars.model(stars.users, stars.items) - 1)
    predicted = found.model(stars.users, stars.items)
    torch.testing.assert_close(predicted, expected, atol=2e-3 * star, rtol=0)
    rmse, of_rmse = (fit.progress[-1]["validation_rmse"] or 0 for fit in (found, of_stars))
    assert rmse == pytest.approx(star * of_rmse, rel=1e-3)
    assert f"validation_rmse {rmse:.4g}" in lines[-1]
    if found.posterior and of_stars.posterior:
        ours, theirs = (
            posterior.predict(stars.users, stars.items)
            for posterior in (found.posterior, of_stars.posterior)
        )
        torch.testing.assert_close(ours.std, star * theirs.std, rtol=1e-3, atol=0)
        torch.testing.assert_close(ours.probabilities, theirs.probabilities, atol=1e-3, rtol=0)
        assert torch.equal(found.posterior.levels, ratings.ratings.unique())


def test_ratings_without_levels_have_probabilities_of_even_ones(tmp_path: Path) -> None:
    ratings, side = continuous()
    fit = distillation.fit(ratings, side, FAST)
    assert fit.posterior is not None
    levels = fit.posterior.levels
    assert len(ratings.ratings.unique()) > len(levels) == MOST_LEVELS
    assert fit.model.rating_scale == RatingScale.of(ratings.ratings) == RatingScale.of(levels)
    fit.posterior.save(tmp_path)
    predicted = Posterior.load(tmp_path).predict(ratings.users, ratings.items)
    assert predicted.probabilities.sum(dim=1) == pytest.approx(1, abs=1e-4)
    report = evaluate(ratings.ratings, predicted, levels)
    assert 0.8 < report.coverage["90%"] < 1
    assert np.isfinite(report.negative_log_likelihood)
    # On the ratings that edges were laid by, what is liked is as likely as it is frequent.
    assert report.calibration_error < 0.15


def test_ordered_levels_may_not_be_too_many() -> None:
    ratings, side = continuous()
    settings = GibbsSettings(likelihood="ordinal", sweeps=2, burn_in=1)
    with pytest.raises(ValueError, match="400 different ratings.* 41 levels at most: choose"):
        distillation.fit(ratings, side, settings)


def test_ordered_levels_of_any_scale_keep_their_ratings() -> None:
    ratings, side = spread(-10, 10)
    settings = FAST.model_copy(update={"likelihood": "ordinal"})
    fit = distillation.fit(ratings, side, settings)
    assert fit.posterior is not None
    assert fit.posterior.levels.tolist() == [-10, -5, 0, 5, 10]
    mean = fit.posterior.predict(ratings.users, ratings.items).mean
    assert torch.equal(mean.clamp(-10, 10), mean)


@pytest.mark.parametrize("bias", [True, False])
@BY_METHOD
def test_ratings_that_are_all_alike_are_predicted_as_they_are(method: str, bias: bool) -> None:
    ratings, side = alike()
    lines: list[str] = []
    settings = FAST.model_copy(update={"method": method, "bias": bias})
    fit = methods.fit(ratings, side, settings, ratings, lines.append)
    assert (fit.model(ratings.users, ratings.items) == 1).all()
    assert all(not table.any() for table in fit.model.parameters())
    assert fit.posterior is None
    assert fit.progress[-1]["validation_rmse"] == 0
    assert "All ratings are 1" in lines[0]


@given(st.floats(-1e6, 1e6, width=32))
def test_a_constant_is_what_a_sigmoid_gives_of_0(rating: float) -> None:
    low, high = RatingScale(rating, rating).y_range
    half_way = low + (high - low) * torch.sigmoid(torch.zeros(()))
    assert low < rating < high
    assert half_way.item() == pytest.approx(rating, rel=1e-6, abs=1e-6)


def test_events_are_ranked_by_the_implicit_factors_alone() -> None:
    ratings, side = alike()
    rest, validation = ratings.carve(0.2, 0)
    rating = methods.fit(ratings, side, FAST).model
    fitted = ranking_fit.fit(
        ratings, side, rating, RankingSettings(n_factors=4), rest, validation, rating
    )
    assert fitted.model.weight == 0
    assert [weighed.weight for weighed in fitted.weights] == [0]
    orders = ranking_model.orders(fitted.model, rest)
    assert "predicted_rating" not in orders
    judged = list_quality.judge(*orders["ranking_model"], rest, validation)
    assert judged.all is not None
    assert judged.liked is None


@pytest.fixture(scope="module")
def jester() -> tuple[Recommender, Posterior]:
    """A recommender of string ids alone, whose ratings are between -10 and 10."""
    ratings, side = spread(-10, 10)
    known = [
        Vocabulary.of([f"{kind}-{n}" for n in range(len(of) - 1)])
        for kind, of in zip(("user", "joke"), side, strict=True)
    ]
    side = SideFeatures(*(of[:, :0] for of in side))
    fit = distillation.fit(ratings, side, FAST)
    fit.model.vocabularies = known[0], known[1]
    carved = ratings.carve(0.2, 0)
    settings = RankingSettings(n_factors=4)
    model = ranking_fit.fit(ratings, side, fit.model, settings, *carved, fit.model).model
    history = History.of(ratings, known[0], known[1])
    assert fit.posterior is not None
    return Recommender(model, known[1].decode(range(31)).tolist(), history), fit.posterior


def test_lists_are_made_of_any_ids_and_ratings(
    jester: tuple[Recommender, Posterior], tmp_path: Path
) -> None:
    recommender, posterior = jester
    recommender.save(tmp_path)
    assert Recommender.load(tmp_path).recommend("user-3").equals(recommender.recommend("user-3"))
    nobody = pd.DataFrame({"user": [], "age": [], "gender": [], "occupation": []})
    lists = pa.concat_tables(recommendation_tables(recommender, posterior, nobody)).to_pandas()
    assert set(lists["user"]) == set(recommender.users.ids)
    assert (lists["title"] == lists["movie"]).all()
    assert lists["predicted_rating"].between(-10, 10).all()
    assert (lists["rating_low"] < 0).any()
    assert lists["rating_low"].min() == -10
    assert lists["reason"].str.contains(r"joke-\d+, rated -?\d+").any()
    alike = pa.concat_tables(similar_tables(recommender)).to_pandas()
    assert set(alike["movie"]) == set(recommender.movies.ids)


def test_somebody_new_may_dislike_things_on_any_scale(
    jester: tuple[Recommender, Posterior],
) -> None:
    recommender, _ = jester
    liked = recommender.recommend({"joke-1": 10, "joke-2": -10})
    disliked = recommender.recommend({"joke-1": -10, "joke-2": 10})
    assert not liked["predicted_rating"].equals(disliked["predicted_rating"])
    with pytest.raises(ValueError, match="'joke-1' is rated 11, but -10 to 10 are given"):
        recommender.recommend({"joke-1": 11})


@pytest.mark.parametrize(("low", "high"), [(0.1, 9.9), (-0.3, 1.2)])
def test_somebody_new_may_give_the_ends_of_the_scale(
    jester: tuple[Recommender, Posterior], low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender, ends = jester[0], torch.tensor([low, high])
    monkeypatch.setattr(recommender.model.rating, "rating_scale", RatingScale.of(ends))
    for rating in (low, high, *ends.tolist()):
        assert len(recommender.recommend({"joke-1": rating}))
    for beyond in (low - 1e-4, high + 1e-4, 1e30, float("nan")):
        with pytest.raises(ValueError, match="'joke-1' is rated"):
            recommender.recommend({"joke-1": beyond})


def some_model(tmp_path: Path, scale: tuple[float, float]) -> Path:
    model = FactorModel(3, 3, 2, RatingScale(*scale).y_range, rating_scale=scale)
    known = Vocabulary.of([1, 2])
    model.save(tmp_path, known, known)
    return tmp_path / "model.json"


@SCALES
def test_a_model_keeps_its_scale(low: float, high: float, tmp_path: Path) -> None:
    some_model(tmp_path, (low, high))
    assert FactorModel.load(tmp_path).rating_scale == (low, high)


def test_a_model_that_does_not_say_is_of_stars(tmp_path: Path) -> None:
    """As those are that were saved before."""
    shape = some_model(tmp_path, (1, 5))
    written = json.loads(shape.read_bytes())
    del written["rating_scale"]
    shape.write_text(json.dumps(written | {"y_range": [0, 4.5]}))
    assert FactorModel.load(tmp_path).rating_scale == (1, 5)


@pytest.mark.parametrize("scale", [[5, 1], [-1, 5], [1, 6], ["NaN", 5], [1, "Infinity"], [1]])
def test_a_scale_that_cannot_be_is_refused(scale: list[float], tmp_path: Path) -> None:
    shape = some_model(tmp_path, (1, 5))
    shape.write_text(json.dumps(json.loads(shape.read_bytes()) | {"rating_scale": scale}))
    with pytest.raises(ModelFileError, match="rating_scale"):
        FactorModel.load(tmp_path)


def test_levels_are_those_of_the_ratings_while_they_are_few() -> None:
    halves = torch.arange(1, 11) / 2
    assert torch.equal(levels_of(halves.repeat(3)), halves)
