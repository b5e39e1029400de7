"""Whether a newly fitted model, the challenger, may replace the champion: the rules of the gate.

Models are compared on ratings that neither has seen. What is surely so is so at an end of a
confidence interval, by a paired bootstrap over users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from cf_pipeline.recommender import metrics
from cf_pipeline.recommender.bootstrap import (
    Interval,
    Numbers,
    correlation,
    mean_interval,
    rmse_difference,
)
from cf_pipeline.recommender.datasets import STARS
from cf_pipeline.recommender.list_quality import ndcg_by_user
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ranking_model import orders
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.rating_table import Origin
from cf_pipeline.recommender.row_differences import without
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline.recommender.settings import GATE_RULES
from cf_pipeline.recommender.validation import BadRatingsError, check_ratings

if TYPE_CHECKING:
    from cf_pipeline.recommender.settings import GateSettings

PAIR = ["user", "movie"]
ML_100K = Origin("ml-100k", STARS)
NOBODY_KNOWN = "No rating unseen by both is of a user whom both know."
NONE_TO_PREDICT = "All ratings are alike, so there are none to predict."


@dataclass(frozen=True)
class Finding:
    """What came of one rule: whether it `passed`, and `why`, in words with figures.

    `figures` are the numbers behind it, for charts.
    """

    rule: str
    passed: bool
    why: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """A model that may be shown to people: its parts `train` and `test`, and what it was judged at.

    The parts are ratings of `origin` (columns user, movie, rating; of a challenger also timestamp);
    `evaluation` is what evaluation_metrics wrote.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    recommender: Recommender
    evaluation: Mapping[str, Any]
    origin: Origin = ML_100K

    @cached_property
    def ratings(self) -> pd.DataFrame:
        """Both parts together."""
        return pd.concat([self.train, self.test], ignore_index=True)

    @property
    def scale(self) -> RatingScale:
        """The rating scale of the training part."""
        return self.recommender.model.rating.rating_scale

    @cached_property
    def predicts(self) -> bool:
        """Whether there are ratings to predict: in both parts together, they are not all alike."""
        return not RatingScale.of(self.ratings["rating"]).is_constant

    @cached_property
    def encoded(self) -> tuple[EncodedRatings, EncodedRatings]:
        """Both parts as the model's indices."""
        return self.encode(self.train), self.encode(self.test)

    def encode(self, ratings: pd.DataFrame) -> EncodedRatings:
        """Return ratings (columns user, movie, rating) as the model's indices."""
        return EncodedRatings.of(ratings, self.recommender.users, self.recommender.movies)

    def predict(self, pairs: pd.DataFrame) -> Numbers:
        """Return the predicted ratings (n,) of pairs (columns user, movie), on the scale."""
        rating = self.recommender.model.rating
        return rating.predict(pairs["user"], pairs["movie"]).clip(*self.scale)


def findings(
    challenger: Candidate, champion: Candidate | None, settings: GateSettings
) -> list[Finding]:
    """Hold the challenger to every rule of GATE_RULES; without a champion to those without it."""
    found = [
        ratings_are_sound(challenger),
        challenger_beats_baselines(challenger, settings),
        lists_beat_popularity(challenger, settings),
        intervals_hold(challenger, settings),
    ]
    if champion is not None:
        unseen = rows_of_neither(challenger, champion)
        found += [
            new_ratings_are_plausible(challenger, champion, settings),
            challenger_beats_champion(challenger, champion, unseen, settings),
            lists_are_no_worse(challenger, champion, unseen, settings),
        ]
    return sorted(found, key=lambda finding: list(GATE_RULES).index(finding.rule))


def rows_of_neither(challenger: Candidate, champion: Candidate) -> pd.DataFrame:
    """Return the challenger's held-out ratings whose pair is not in the champion's training part.

    Not even another rating of the same pair may have been seen.
    """
    return without(challenger.test, champion.train, PAIR)


def ratings_are_sound(challenger: Candidate) -> Finding:
    """Hold to `check_ratings` once more: the checks of `ratings` guard only their own runs."""
    rule = "ratings_are_sound"
    try:
        check_ratings(challenger.ratings, challenger.origin.scale, challenger.origin.first_rating)
    except BadRatingsError as error:
        return Finding(rule, False, str(error), {})
    n = len(challenger.ratings)
    return Finding(rule, True, f"All {n:,} ratings do.", {})


def new_ratings_are_plausible(
    challenger: Candidate, champion: Candidate, settings: GateSettings
) -> Finding:
    """Correlate the ratings that are new to the champion with what it predicted.

    New is a pair that it knows nothing of, or a pair that has another rating now. Errors would not
    tell: of honest newcomers, whom no model knows, they can be larger than of shuffled ratings.
    """
    rule = "new_ratings_are_plausible"
    new = without(challenger.ratings, champion.ratings, [*PAIR, "rating"])
    if new.empty:
        return Finding(rule, True, "There are no new ratings.", {"new_ratings": 0})
    if not (challenger.predicts or champion.predicts):
        return Finding(rule, True, NONE_TO_PREDICT, {"new_ratings": len(new)})
    found = correlation(new, champion.predict(new), settings)
    if np.isnan([found.estimate, found.high]).any():
        why = (
            f"All of {len(new):,} new ratings are alike, or predicted alike, which "
            f"{settings.least_rows:,} or more that people mean are not."
        )
        return Finding(rule, len(new) < settings.least_rows, why, {"new_ratings": len(new)})
    return Finding(
        rule,
        found.high >= settings.least_correlation,
        f"The correlation of {len(new):,} new ratings with what the champion predicted is "
        f"{_shown(found)}. It must not surely be below {settings.least_correlation:g}.",
        {"new_ratings": len(new), "correlation_of_new_ratings": found.estimate},
    )


def challenger_beats_baselines(challenger: Candidate, settings: GateSettings) -> Finding:
    """Compare with every simple predictor on the whole test part."""
    if not challenger.predicts:
        return Finding("challenger_beats_baselines", True, NONE_TO_PREDICT, {})
    test, encoded = challenger.test, challenger.encoded
    ours, scale = challenger.predict(test), challenger.scale
    gaps = {
        name: rmse_difference(test, ours, np.clip(predict(*encoded), *scale), settings)
        for name, predict in metrics.BASELINES.items()
    }
    hardest = max(gaps, key=lambda name: gaps[name].high)
    gap = gaps[hardest]
    return Finding(
        "challenger_beats_baselines",
        len(test) >= settings.least_rows and gap.high < 0,
        f"RMSE {metrics.rmse(test['rating'], ours):.4f} on {len(test):,} held-out ratings; the "
        f"difference to {hardest}, the hardest to beat, is {_shown(gap)}. It must surely be below "
        f"0, on {settings.least_rows:,} ratings or more.",
        {"rmse": metrics.rmse(test["rating"], ours), "rmse_beside_best_baseline": gap.estimate},
    )


def lists_beat_popularity(challenger: Candidate, settings: GateSettings) -> Finding:
    """Compare the NDCG@10 of lists by the model and by numbers of ratings, on the test part."""
    rule = "lists_beat_popularity"
    encoded = challenger.encoded
    by = orders(challenger.recommender.model, encoded[0])
    judged, ours = ndcg_by_user(*by["ranking_model"], *encoded)
    popular = ndcg_by_user(*by["popularity"], *encoded)[1]
    if len(judged) == 0:
        return Finding(rule, False, "No held-out rating is of a user who is known.", {})
    gap = mean_interval((ours - popular).numpy(), settings)
    return Finding(
        rule,
        gap.low > 0,
        f"NDCG@10 {ours.mean():.4f} over {len(judged):,} users; the difference to the most rated "
        f"movies is {_shown(gap)}. It must surely be above 0.",
        {"ndcg_at_10": ours.mean().item(), "ndcg_beside_popularity": gap.estimate},
    )


def intervals_hold(challenger: Candidate, settings: GateSettings) -> Finding:
    """Look at the share of held-out ratings in the intervals of 90 %."""
    rule = "intervals_hold"
    posterior = challenger.evaluation.get("posterior")
    if posterior is None:
        return Finding(rule, True, "The model has no intervals, and promises nothing.", {})
    coverage = float(posterior["coverage"]["90%"])
    low, high = settings.coverage_range
    return Finding(
        rule,
        low <= coverage <= high,
        f"They hold {coverage:.2%}; from {low:.0%} to {high:.0%} is allowed.",
        {"coverage_of_90_percent": coverage},
    )


def challenger_beats_champion(
    challenger: Candidate, champion: Candidate, unseen: pd.DataFrame, settings: GateSettings
) -> Finding:
    """Compare both models' RMSE on the ratings `unseen` by either; if all are alike, the lists."""
    rule = "challenger_beats_champion"
    if len(unseen) < settings.least_rows:
        return Finding(
            rule,
            False,
            f"Only {len(unseen):,} of {len(challenger.test):,} held-out ratings were not in the "
            f"champion's training part, and {settings.least_rows:,} are needed: use its split, or "
            "a temporal one, or promote the challenger by hand.",
            {"compared_ratings": len(unseen)},
        )
    if not (challenger.predicts or champion.predicts):
        return _better_lists(rule, challenger, champion, unseen, settings)
    ours, theirs, scale = challenger.predict(unseen), champion.predict(unseen), challenger.scale
    gap, margin = rmse_difference(unseen, ours, theirs, settings), settings.margin * scale.star
    same = np.array_equal(ours, theirs)  # where a title was corrected, for example
    rmse, champion_rmse = (metrics.rmse(unseen["rating"], one) for one in (ours, theirs))
    return Finding(
        rule,
        same or (gap.estimate < 0 and gap.high <= margin),
        f"RMSE {rmse:.4f} against {champion_rmse:.4f} on {len(unseen):,} ratings: a difference of "
        f"{_shown(gap)}. It must be below 0, unless all predictions are the same, and surely not "
        f"above {margin:g}.",
        {
            "compared_ratings": len(unseen),
            "compared_rmse": rmse,
            "champion_rmse": champion_rmse,
            "rmse_difference": gap.estimate,
            "rmse_difference_low": gap.low,
            "rmse_difference_high": gap.high,
        },
    )


def lists_are_no_worse(
    challenger: Candidate, champion: Candidate, unseen: pd.DataFrame, settings: GateSettings
) -> Finding:
    """Compare the NDCG@10 of both models' lists for users whom both know."""
    rule = "lists_are_no_worse"
    ours, theirs = _ndcg_of_both(challenger, champion, unseen)
    if not len(ours):
        return Finding(rule, False, NOBODY_KNOWN, {})
    gap = mean_interval(ours - theirs, settings)
    return Finding(
        rule,
        gap.estimate >= -settings.ndcg_margin,
        f"NDCG@10 {ours.mean():.4f} against {theirs.mean():.4f} over {len(ours):,} users: a "
        f"difference of {_shown(gap)}. It must not be below {-settings.ndcg_margin:g}.",
        {"ndcg_difference": gap.estimate, "champion_ndcg_at_10": float(theirs.mean())},
    )


def _better_lists(
    rule: str,
    challenger: Candidate,
    champion: Candidate,
    unseen: pd.DataFrame,
    settings: GateSettings,
) -> Finding:
    """Ask that the challenger's lists are better, as else of its RMSE."""
    ours, theirs = _ndcg_of_both(challenger, champion, unseen)
    if not len(ours):
        return Finding(rule, False, NOBODY_KNOWN, {"compared_ratings": len(unseen)})
    gap = mean_interval(ours - theirs, settings)
    same = np.array_equal(ours, theirs)
    return Finding(
        rule,
        same or (gap.estimate > 0 and gap.low >= -settings.ndcg_margin),
        f"{NONE_TO_PREDICT} NDCG@10 {ours.mean():.4f} against {theirs.mean():.4f} on "
        f"{len(unseen):,} of them: a difference of {_shown(gap)}. It must be above 0, unless all "
        f"lists find the same, and surely not below {-settings.ndcg_margin:g}.",
        {"compared_ratings": len(unseen)},
    )


def _ndcg_of_both(
    challenger: Candidate, champion: Candidate, unseen: pd.DataFrame
) -> tuple[Numbers, Numbers]:
    """Return the NDCG@10 of both models' lists (n_users,) for users whom both know."""
    # What either has seen is left out of both lists: the places it would take are no faults.
    both = challenger, champion
    of_users = pd.concat([_ndcg_of(one, both, unseen) for one in both], axis=1, join="inner")
    ours, theirs = of_users.to_numpy().T
    return ours, theirs


def _ndcg_of(candidate: Candidate, both: Sequence[Candidate], test: pd.DataFrame) -> pd.Series:
    """Return the NDCG@10 of the model's lists of what neither trained on, by the users' ids."""
    trained = [one.encoded[0] if one is candidate else candidate.encode(one.train) for one in both]
    seen = EncodedRatings(*(torch.cat(columns) for columns in zip(*trained, strict=True)))
    model = candidate.recommender.model
    users, ndcg = ndcg_by_user(model.users, model.items, seen, candidate.encode(test))
    return pd.Series(ndcg.numpy(), index=candidate.recommender.users.decode(users.tolist()))


def _shown(gap: Interval) -> str:
    return f"{gap.estimate:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
