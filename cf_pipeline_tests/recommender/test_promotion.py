"""The rules of the gate, each on a model that it must let pass and on one that it must not."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cf_pipeline.recommender import promotion
from cf_pipeline.recommender.candidate import Candidate
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.finding import Finding
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline.recommender.settings import GATE_RULES, GateSettings
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.recommenders import Fitted

SETTINGS = GateSettings()


@pytest.fixture(scope="module")
def good(fitted: Fitted) -> Candidate:
    return Candidate(fitted.train, fitted.test, fitted.recommender, evaluation(0.9))


def evaluation(coverage: float) -> dict[str, object]:
    return {"rmse": 0.9, "posterior": {"coverage": {"90%": coverage}}}


def of_noise(candidate: Candidate, std: float) -> Candidate:
    """The same model with noise in its biases, by which it predicts worse."""
    rating = candidate.recommender.model.rating
    noisy = FactorModel(
        rating.user_factors.num_embeddings,
        rating.item_factors.num_embeddings,
        rating.user_factors.embedding_dim,
        rating.y_range,
    )
    noisy.load_state_dict(rating.state_dict())
    noisy.vocabularies = rating.vocabularies
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        noise = torch.randn(noisy.item_bias.weight.shape, generator=generator)
        noisy.item_bias.weight += std * noise
    model = replace(candidate.recommender.model, rating=noisy)
    return replace(candidate, recommender=replace(candidate.recommender, model=model))


def of_random_lists(candidate: Candidate) -> Candidate:
    """The same model, whose implicit factors are anything."""
    model = candidate.recommender.model
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(table.shape, generator=generator) for table in model.implicit]
    model = replace(model, implicit=type(model.implicit)(*drawn))
    return replace(candidate, recommender=replace(candidate.recommender, model=model))


def finding(found: list[Finding], rule: str) -> Finding:
    (one,) = [one for one in found if one.rule == rule]
    return one


def test_without_a_champion_a_good_model_passes_the_rules_that_need_none(good):
    found = promotion.findings(good, None, SETTINGS)
    assert all(one.passed for one in found), found
    assert [one.rule for one in found] == [
        *("ratings_are_sound", "challenger_beats_baselines"),
        *("lists_beat_popularity", "intervals_hold"),
    ]


def test_a_better_model_passes_every_rule_and_a_worse_one_does_not(good):
    worse = of_noise(good, 0.3)
    found = promotion.findings(good, worse, SETTINGS)
    assert all(one.passed for one in found), found
    assert {one.rule for one in found} == set(GATE_RULES) - {"was_not_rolled_back"}
    beaten = finding(promotion.findings(worse, good, SETTINGS), "challenger_beats_champion")
    assert not beaten.passed
    figures = finding(found, "challenger_beats_champion").figures
    assert figures["rmse_difference"] == pytest.approx(-beaten.figures["rmse_difference"])
    assert figures["rmse_difference_high"] < 0 < beaten.figures["rmse_difference_low"]


def test_a_model_that_predicts_the_very_same_passes_and_one_that_hardly_differs_must_be_better(
    good,
):
    found = promotion.findings(good, good, SETTINGS)
    assert all(one.passed for one in found), found
    hardly = of_noise(good, 1e-3)
    gaps = [
        finding(promotion.findings(ours, theirs, SETTINGS), "challenger_beats_champion")
        for ours, theirs in ((good, hardly), (hardly, good))
    ]
    assert sorted(one.passed for one in gaps) == [False, True]


def test_the_margin_decides_what_is_sure_enough(good):
    """A little better is enough, unless more is asked for."""
    little = of_noise(good, 0.06)
    better = promotion.findings(good, little, SETTINGS)
    assert finding(better, "challenger_beats_champion").passed
    gap = finding(better, "challenger_beats_champion").figures["rmse_difference"]
    strict = GateSettings(margin=2 * gap)
    assert not finding(promotion.findings(good, little, strict), "challenger_beats_champion").passed


def test_only_ratings_that_neither_has_seen_are_compared(good):
    """A champion that was fitted to half of them would have an unfair lead."""
    half = good.test[::2]
    champion = replace(
        of_noise(good, 0.3), train=pd.concat([good.train, half]), test=good.test[1::2]
    )
    unseen = promotion.rows_of_neither(good, champion)
    pd.testing.assert_frame_equal(unseen, good.test[1::2])
    found = promotion.findings(good, champion, SETTINGS)
    assert finding(found, "challenger_beats_champion").figures["compared_ratings"] == len(unseen)
    changed = half.assign(rating=1.0)  # another rating of the same pair was seen too
    champion = replace(champion, train=pd.concat([good.train, changed]))
    assert len(promotion.rows_of_neither(good, champion)) == len(unseen)


def test_too_few_ratings_to_compare_on_are_a_refusal(good):
    champion = replace(good, train=pd.concat([good.train, good.test[100:]]), test=good.test[:100])
    refused = finding(promotion.findings(good, champion, SETTINGS), "challenger_beats_champion")
    assert not refused.passed
    assert "Only 100 of" in refused.why


@pytest.fixture(scope="module")
def of_events(good: Candidate) -> Candidate:
    """The same lists, of ratings that are all 1, and a model that says so."""
    train, test = (part.assign(rating=1.0) for part in (good.train, good.test))
    rating = good.recommender.model.rating
    n_users, n_items = rating.user_factors.num_embeddings, rating.item_factors.num_embeddings
    constant = FactorModel(n_users, n_items, 2, RatingScale(1, 1).y_range, rating_scale=(1, 1))
    for table in constant.parameters():
        torch.nn.init.zeros_(table)
    constant.vocabularies = rating.vocabularies
    model = replace(good.recommender.model, rating=constant, weight=0.0)
    recommender = replace(good.recommender, model=model)
    return Candidate(train, test, recommender, {"rmse": 0.0, "mae": 0.0})


def test_of_events_the_lists_decide(of_events):
    random = of_random_lists(of_events)
    better = promotion.findings(of_events, random, SETTINGS)
    assert all(one.passed for one in better), better
    assert {one.rule for one in better} == set(GATE_RULES) - {"was_not_rolled_back"}
    assert "NDCG@10" in finding(better, "challenger_beats_champion").why
    for rule in ("challenger_beats_baselines", "challenger_beats_champion"):
        assert "none to predict" in finding(better, rule).why
    worse = promotion.findings(random, of_events, SETTINGS)
    assert {one.rule for one in worse if not one.passed} == {
        *("lists_beat_popularity", "challenger_beats_champion", "lists_are_no_worse"),
    }
    assert all(one.passed for one in promotion.findings(of_events, of_events, SETTINGS))


def test_new_events_are_not_implausible_but_stars_that_turn_into_them_are(good, of_events):
    early = replace(of_events, train=of_events.train[::2])
    for ours, theirs, passes in (
        (of_events, early, True),
        (of_events, good, False),
        (good, of_events, False),
    ):
        assert promotion.new_ratings_are_plausible(ours, theirs, SETTINGS).passed == passes


def test_the_margin_is_a_part_of_the_scale(good):
    """In halves of a star, an error is half as large, and so is what may be surely above."""
    little = of_noise(good, 0.06)
    gap = promotion.challenger_beats_champion(good, little, good.test, SETTINGS)
    for strict, passes in ((gap.figures["rmse_difference_high"], True), (-1.0, False)):
        whole = GateSettings(margin=strict)
        halves = [on_scale(candidate, 0.5) for candidate in (good, little)]
        for ours, theirs in ((good, little), halves):
            found = promotion.challenger_beats_champion(ours, theirs, ours.test, whole)
            assert found.passed == passes, found


def on_scale(candidate: Candidate, star: float) -> Candidate:
    """The same of ratings of `star` times 1 to 5."""
    train, test = (
        part.assign(rating=star * part["rating"]) for part in (candidate.train, candidate.test)
    )
    rating = candidate.recommender.model.rating
    moved = FactorModel(
        rating.user_factors.num_embeddings,
        rating.item_factors.num_embeddings,
        rating.user_factors.embedding_dim,
        (star * rating.y_range[0], star * rating.y_range[1]),
        rating_scale=(star * rating.rating_scale.low, star * rating.rating_scale.high),
    )
    moved.load_state_dict(rating.state_dict())
    moved.vocabularies = rating.vocabularies
    model = replace(candidate.recommender.model, rating=moved)
    recommender = replace(candidate.recommender, model=model)
    return replace(candidate, train=train, test=test, recommender=recommender)


@pytest.mark.parametrize("spoil", ["shuffled", "turned around"])
def test_new_ratings_that_are_not_meant_are_refused(good, spoil):
    """Half of the training part is new to the champion."""
    champion = replace(good, train=good.train[::2], test=good.test)
    assert finding(promotion.findings(good, champion, SETTINGS), "new_ratings_are_plausible").passed
    new = good.train[1::2]
    stars = new["rating"].to_numpy()
    ratings = np.random.default_rng(0).permutation(stars) if spoil == "shuffled" else 6 - stars
    poisoned = replace(good, train=pd.concat([good.train[::2], new.assign(rating=ratings)]))
    refused = finding(promotion.findings(poisoned, champion, SETTINGS), "new_ratings_are_plausible")
    assert not refused.passed
    changed = int((ratings != stars).sum())  # what came out as before is not new
    assert changed <= refused.figures["new_ratings"] <= len(new)


def test_new_ratings_that_are_all_alike_tell_nothing(good):
    champion = replace(good, train=good.train[::2], test=good.test)
    alike = replace(good, train=pd.concat([good.train[::2], good.train[1:41:2].assign(rating=3.0)]))
    found = finding(promotion.findings(alike, champion, SETTINGS), "new_ratings_are_plausible")
    assert found.passed
    assert "alike" in found.why
    many = replace(good, train=good.train.assign(rating=3.0))
    found = finding(promotion.findings(many, champion, SETTINGS), "new_ratings_are_plausible")
    assert not found.passed


def test_lists_are_not_compared_by_what_either_has_seen(good):
    """The same model is as good as itself, whichever parts it was fitted to by its papers."""
    half = good.test[::2]
    champion = replace(good, train=pd.concat([good.train, half]), test=good.test[1::2])
    found = finding(promotion.findings(good, champion, SETTINGS), "lists_are_no_worse")
    assert found.figures["ndcg_difference"] == pytest.approx(0, abs=1e-6)


def test_ids_that_became_text_are_said_to_be_why_the_champion_knows_nobody(good):
    model = good.recommender.model
    users, movies = good.recommender.users, good.recommender.movies
    guest = users.ids[0]

    def as_text(ids: "pd.Series[int]") -> "pd.Series[str]":
        return ids.astype(str).where(ids != guest, "guest-7")

    rating = copy.deepcopy(model.rating)
    rating.vocabularies = Vocabulary.of(as_text(pd.Series(users.ids))), movies
    renamed = replace(
        good,
        train=good.train.assign(user=as_text(good.train["user"])),
        test=good.test.assign(user=as_text(good.test["user"])),
        recommender=replace(good.recommender, model=replace(model, rating=rating)),
    )
    refused = finding(promotion.findings(renamed, good, SETTINGS), "lists_are_no_worse")
    assert not refused.passed
    assert "users are text now, and were integers: 'guest-7' is no integer" in refused.why
    refused = finding(promotion.findings(good, renamed, SETTINGS), "lists_are_no_worse")
    assert "users are integers now, and were text. " in refused.why


def test_a_model_that_does_not_beat_the_simple_predictors_is_refused(good):
    bad = of_noise(good, 1.0)
    refused = finding(promotion.findings(bad, None, SETTINGS), "challenger_beats_baselines")
    assert not refused.passed
    assert "regularised_bias" in refused.why
    few = replace(good, test=good.test[:100])
    assert not finding(promotion.findings(few, None, SETTINGS), "challenger_beats_baselines").passed


def test_lists_that_find_less_are_refused(good):
    random = of_random_lists(good)
    assert not finding(promotion.findings(random, None, SETTINGS), "lists_beat_popularity").passed
    found = promotion.findings(random, of_noise(good, 0.3), SETTINGS)
    assert finding(found, "challenger_beats_champion").passed  # by its stars alone
    assert not finding(found, "lists_are_no_worse").passed


@pytest.mark.parametrize(("coverage", "passes"), [(0.83, False), (0.9, True), (0.97, False)])
def test_intervals_must_hold_what_they_promise(good, coverage, passes):
    judged = replace(good, evaluation=evaluation(coverage))
    assert finding(promotion.findings(judged, None, SETTINGS), "intervals_hold").passed == passes


def test_a_model_without_intervals_promises_nothing(good):
    judged = replace(good, evaluation={"rmse": 0.9})
    assert finding(promotion.findings(judged, None, SETTINGS), "intervals_hold").passed


def test_unsound_ratings_are_refused_whatever_was_made_of_them(good):
    doubled = replace(good, train=good.train.assign(rating=2 * good.train["rating"]))
    refused = finding(promotion.findings(doubled, None, SETTINGS), "ratings_are_sound")
    assert not refused.passed
    assert "ratings_are_on_the_scale" in refused.why


def test_a_candidate_s_predictions_are_on_the_scale(good, recommender: Recommender):
    rows = good.test.head(50)
    assert (good.predict(rows) >= 1).all()
    assert (good.predict(rows) <= 5).all()
